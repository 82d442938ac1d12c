//! Receives RAM into mappings of its own, while a thread already reads them.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::thread::{self, JoinHandle};

use memmap2::{MmapOptions, MmapRaw};
use retpath_engine::blocks::Block;
use retpath_engine::driver::{Control, DestinationHandler, HandlerError, ReceiveOptions, receive};
use retpath_engine::memory::{Backing, Memory};
use retpath_engine::socket::Address;

#[derive(Default)]
struct Machine {
    ram: Vec<Arc<MmapRaw>>,
    guest: Option<JoinHandle<u64>>,
}

impl DestinationHandler for Machine {
    fn memory(&mut self, block: &Block, _: u64) -> Result<Option<Arc<Memory>>, HandlerError> {
        let map = MmapOptions::new()
            .len(usize::try_from(block.len)?)
            .map_anon()?;
        let map = Arc::new(MmapRaw::from(map));
        self.ram.push(Arc::clone(&map));
        // SAFETY: the mapping is private memory, and the memory owns a share of it. This process
        // accesses its bytes with atomic reads only.
        let memory =
            unsafe { Memory::from_raw(map.as_mut_ptr(), block.len, Backing::Anonymous, map) };
        Ok(Some(Arc::new(memory?)))
    }

    fn run(&mut self) {
        let ram = self.ram.clone();
        self.guest = Some(thread::spawn(move || ram.iter().map(|map| sum(map)).sum()));
    }
}

/// Reads all bytes, last page first. Missing pages block until they have arrived.
fn sum(map: &MmapRaw) -> u64 {
    let byte = |at: usize| {
        // SAFETY: `at` is inside the mapping, whose bytes are accessed atomically only.
        let byte = unsafe { AtomicU8::from_ptr(map.as_mut_ptr().add(at)) };
        u64::from(byte.load(Relaxed))
    };
    let pages = (0..map.len() / 4096).rev();
    pages
        .flat_map(|page| page * 4096..(page + 1) * 4096)
        .map(byte)
        .sum()
}

fn main() -> Result<(), Box<dyn Error>> {
    let uri = std::env::args()
        .nth(1)
        .ok_or("usage: outside-destination URI")?;
    let address: Address = uri.parse()?;
    let mut listener = address.listen(false)?;
    let mut machine = Machine::default();
    let control = Control::new()?;
    receive(
        &mut listener,
        &mut machine,
        ReceiveOptions::default(),
        &control,
    )?;
    let guest = machine.guest.ok_or("the guest never ran")?;
    println!("{}", guest.join().map_err(|_| "the guest panicked")?);
    Ok(())
}
