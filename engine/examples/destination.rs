//! Receives a machine into memory of this process, while the guest already runs.
//!
//! ```console
//! $ cargo run -p retpath-engine --features uffd --example destination -- unix:/tmp/destination
//! (qemu) migrate_set_capability postcopy-ram on
//! (qemu) migrate -d unix:/tmp/destination
//! (qemu) migrate_start_postcopy
//! ```
//!
//! Without an address, a thread of this program is the source.

mod peer;

use std::error::Error;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use retpath_engine::blocks::Block;
use retpath_engine::driver::{Control, DestinationHandler, HandlerError, ReceiveOptions, receive};
use retpath_engine::memory::{Backing, Memory};
use retpath_engine::socket::Address;

#[derive(Default)]
struct Guest {
    blocks: Vec<Arc<Memory>>,
    vcpu: Option<JoinHandle<u64>>,
}

impl DestinationHandler for Guest {
    fn memory(&mut self, block: &Block, _: u64) -> Result<Option<Arc<Memory>>, HandlerError> {
        println!("RAM block {}: {} bytes", block.name, block.len);
        let memory = Arc::new(Memory::new(Backing::Shared, block.len)?);
        self.blocks.push(Arc::clone(&memory));
        Ok(Some(memory))
    }

    /// The guest runs from here on. Missing pages block it until they have arrived.
    fn run(&mut self) {
        let blocks = self.blocks.clone();
        self.vcpu = Some(thread::spawn(move || {
            let mut sum = 0;
            for memory in blocks {
                // Backwards, so that every page is requested before its turn.
                for page in (0..memory.len() / 4096).rev() {
                    sum += u64::from(memory.touch(page * 4096).expect("inside the block"));
                }
            }
            sum
        }));
    }
}

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let uri = std::env::args().nth(1);
    let address: Address = uri.as_deref().unwrap_or("tcp:127.0.0.1:0").parse()?;
    let mut listener = address.listen(false)?;
    let bound = listener.address().clone();
    println!("listening on {bound}");
    let source = uri.is_none().then(|| {
        thread::spawn(move || peer::source(vec![1; 16 << 20], move |_| bound.connect(false)))
    });

    let mut guest = Guest::default();
    let core = receive(
        &mut listener,
        &mut guest,
        ReceiveOptions::default(),
        &Control::new()?,
    )?;
    println!("complete: {} faults", core.stats().faults);
    let sum = guest.vcpu.map(|vcpu| vcpu.join().expect("no panic"));
    if let Some(source) = source {
        source.join().expect("no panic")?;
        assert_eq!(sum, Some(16 << 8), "a byte of each page");
    }
    Ok(())
}
