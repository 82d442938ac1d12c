//! Serves a machine from memory of this process: QEMU starts at once and fetches pages on demand.
//!
//! ```console
//! $ qemu-system-x86_64 ... -incoming unix:/tmp/vm        # with the capability postcopy-ram on
//! $ cargo run -p retpath-engine --features uffd --example source -- unix:/tmp/vm
//! ```
//!
//! QEMU loads device state that it wrote itself, such as that of an image (`retpath serve`). Without
//! an address, a thread of this program is the destination.

mod peer;

use std::error::Error;
use std::thread;

use retpath_engine::blocks::{Block, Blocks};
use retpath_engine::codec::NameBuf;
use retpath_engine::driver::{Control, HandlerError, ServeOptions, SourceHandler, serve};
use retpath_engine::socket::Address;
use retpath_engine::source::{Config, PageSource, Source};

struct Machine {
    /// RAM of each block. Anything that is `AsRef<[u8]>` and immutable, or a `PageSource`.
    ram: Vec<Vec<u8>>,
    /// The sections of the devices, as QEMU wrote them.
    device_state: Vec<u8>,
}

impl SourceHandler for Machine {
    fn pages(&self) -> &dyn PageSource {
        &self.ram
    }

    /// A machine that does not run can be switched to postcopy at once: no page is sent before.
    fn precopy(&mut self, core: &mut Source) -> Result<(), HandlerError> {
        Ok(core.switch(std::mem::take(&mut self.device_state))?)
    }
}

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let page = |number: usize| [(number % 251) as u8; 4096];
    let ram: Vec<u8> = (0..4096).flat_map(page).collect();
    let mut blocks = Blocks::new(4096)?;
    blocks.add(Block {
        name: NameBuf::new("pc.ram")?,
        len: ram.len() as u64,
        page: 4096,
    })?;
    let mut machine = Machine {
        ram: vec![ram],
        device_state: Vec::new(), // no devices
    };

    let mut destination = None;
    let address: Address = match std::env::args().nth(1) {
        Some(uri) => uri.parse()?,
        None => {
            let mut listener = "tcp:127.0.0.1:0".parse::<Address>()?.listen(false)?;
            let bound = listener.address().clone();
            destination = Some(thread::spawn(move || peer::destination(&mut listener)));
            bound
        }
    };
    let mut core = Source::new(Config::new("pc-i440fx-7.2"), blocks)?;
    let mut connect = |_| address.connect(false);
    let (options, control) = (ServeOptions::default(), Control::new()?);
    serve(&mut core, &mut machine, &mut connect, &options, &control)?;
    println!("complete: {} pages requested", core.stats().requests);

    if let Some(destination) = destination {
        let received = destination.join().expect("no panic")?;
        let mut bytes = vec![0; machine.ram[0].len()];
        received[0].read(0, &mut bytes)?;
        assert!(bytes == machine.ram[0], "received what was sent");
    }
    Ok(())
}
