//! Receives into memory that the embedder mapped itself, over connections that it made itself.
//!
//! A thread of this program is the source.

mod peer;

use std::error::Error;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::{slice, thread};

use memmap2::{MmapOptions, MmapRaw};
use retpath_engine::blocks::Block;
use retpath_engine::driver::{Control, DestinationHandler, HandlerError, ReceiveOptions, receive};
use retpath_engine::memory::{Backing, Memory};
use retpath_engine::socket::{ConnectionQueue, Link};
use retpath_engine::uffd::FailurePolicy;

const LEN: usize = 16 << 20;

/// A virtual machine that maps its own RAM.
struct Machine {
    ram: Arc<MmapRaw>,
}

impl DestinationHandler for Machine {
    fn memory(&mut self, block: &Block, _: u64) -> Result<Option<Arc<Memory>>, HandlerError> {
        if block.len != LEN as u64 {
            return Err(format!("no RAM of {} bytes here", block.len).into());
        }
        let (start, owner) = (self.ram.as_mut_ptr(), Arc::clone(&self.ram));
        // SAFETY: the mapping is private memory and lives as long as its owner. This process makes
        // no reference to its bytes before the migration is complete.
        let memory = unsafe { Memory::from_raw(start, block.len, Backing::Anonymous, owner) };
        Ok(Some(Arc::new(memory?)))
    }

    /// Instead of aborting the process, end it in our own way.
    fn failure_policy(&self) -> FailurePolicy {
        FailurePolicy::call(|failure| {
            eprintln!("stopping the virtual machine: {failure}");
            std::process::exit(1);
        })
    }
}

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    // Both ends of a connection. A TLS session would be a `Transport`, given to `Link::over`.
    let (near, far) = UnixStream::pair()?;
    let mut incoming = ConnectionQueue::new()?;
    incoming.push(Link::new(near.into())?)?;
    let source = thread::spawn(move || {
        let mut link = Some(Link::new(far.into())?);
        let gone = || std::io::Error::other("there is one connection").into();
        peer::source(vec![7; LEN], move |_| {
            link.take()
                .ok_or_else(|| retpath_engine::socket::ChannelError::Other(gone()))
        })
    });

    let map = MmapOptions::new().len(LEN).map_anon()?;
    let ram = Arc::new(MmapRaw::from(map));
    let mut machine = Machine {
        ram: Arc::clone(&ram),
    };
    receive(
        &mut incoming,
        &mut machine,
        ReceiveOptions::default(),
        &Control::new()?,
    )?;
    source.join().expect("no panic")?;

    // SAFETY: the migration is complete and the guest does not run: nothing writes the bytes.
    let bytes = unsafe { slice::from_raw_parts(ram.as_ptr(), LEN) };
    assert!(bytes.iter().all(|byte| *byte == 7));
    println!("complete: {LEN} bytes in memory that we mapped");
    Ok(())
}
