//! Serves one RAM block from a `Vec` to the destination at an address.

use std::error::Error;
use std::time::Duration;

use retpath_engine::blocks::{Block, Blocks};
use retpath_engine::codec::NameBuf;
use retpath_engine::driver::{Control, HandlerError, ServeOptions, SourceHandler, serve};
use retpath_engine::socket::Address;
use retpath_engine::source::{Config, PageSource, Source};

struct Machine {
    ram: Vec<Vec<u8>>,
}

impl SourceHandler for Machine {
    fn pages(&self) -> &dyn PageSource {
        &self.ram
    }

    fn precopy(&mut self, core: &mut Source) -> Result<(), HandlerError> {
        Ok(core.switch(Vec::new())?)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let uri = std::env::args().nth(1).ok_or("usage: outside-source URI")?;
    let address: Address = uri.parse()?;

    let ram: Vec<u8> = (0..32 << 20)
        .map(|i: u32| (i / 4096 * 31 + i % 7) as u8)
        .collect();
    let sum: u64 = ram.iter().map(|byte| u64::from(*byte)).sum();
    let mut blocks = Blocks::new(4096)?;
    blocks.add(Block {
        name: NameBuf::new("own.ram")?,
        len: ram.len() as u64,
        page: 4096,
    })?;

    let mut machine = Machine { ram: vec![ram] };
    let mut core = Source::new(Config::new("none"), blocks)?;
    let mut options = ServeOptions::default();
    options.connect_timeout = Duration::from_secs(30);
    let mut connect = |_| address.connect(false);
    serve(
        &mut core,
        &mut machine,
        &mut connect,
        &options,
        &Control::new()?,
    )?;
    println!("{sum}");
    Ok(())
}
