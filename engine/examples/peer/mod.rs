//! The other end of the migration in each example.

#![allow(dead_code)] // each example uses one end

use std::error::Error;
use std::sync::Arc;

use retpath_engine::Channel;
use retpath_engine::blocks::{Block, Blocks};
use retpath_engine::codec::NameBuf;
use retpath_engine::driver::{
    Control, DestinationHandler, HandlerError, ReceiveOptions, ServeOptions, SourceHandler,
    receive, serve,
};
use retpath_engine::memory::{Backing, Memory};
use retpath_engine::socket::{Accept, ChannelError, Link};
use retpath_engine::source::{Config, PageSource, Source};

/// A machine without devices that is switched at once, and whose memory never changes.
struct Machine(Vec<Vec<u8>>);

impl SourceHandler for Machine {
    fn pages(&self) -> &dyn PageSource {
        &self.0
    }

    fn precopy(&mut self, core: &mut Source) -> Result<(), HandlerError> {
        Ok(core.switch(Vec::new())?)
    }
}

/// Sends a machine with one RAM block, `pc.ram`.
pub(crate) fn source(
    ram: Vec<u8>,
    mut connect: impl FnMut(Channel) -> Result<Link, ChannelError>,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut blocks = Blocks::new(4096)?;
    blocks.add(Block {
        name: NameBuf::new("pc.ram")?,
        len: ram.len() as u64,
        page: 4096,
    })?;
    let mut core = Source::new(Config::new("pc"), blocks)?;
    let (options, control) = (ServeOptions::default(), Control::new()?);
    let mut machine = Machine(vec![ram]);
    Ok(serve(
        &mut core,
        &mut machine,
        &mut connect,
        &options,
        &control,
    )?)
}

#[derive(Default)]
struct Guest(Vec<Arc<Memory>>);

impl DestinationHandler for Guest {
    fn memory(&mut self, block: &Block, _: u64) -> Result<Option<Arc<Memory>>, HandlerError> {
        let memory = Arc::new(Memory::new(Backing::Anonymous, block.len)?);
        self.0.push(Arc::clone(&memory));
        Ok(Some(memory))
    }
}

/// Receives a machine; returns the memory of its RAM blocks.
pub(crate) fn destination(
    incoming: &mut dyn Accept,
) -> Result<Vec<Arc<Memory>>, Box<dyn Error + Send + Sync>> {
    let mut guest = Guest::default();
    receive(
        incoming,
        &mut guest,
        ReceiveOptions::default(),
        &Control::new()?,
    )?;
    Ok(guest.0)
}
