//! Both loops over real sockets and the kernel's userfaultfd.

#![cfg(feature = "uffd")]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use retpath_codec::{BlockName, NameBuf};
use retpath_engine::blocks::{Block, Span};
use retpath_engine::destination::{Destination, Phase};
use retpath_engine::driver::{
    Control, DestinationHandler, HandlerError, RunError, ServeOptions, SourceHandler, receive,
    serve,
};
use retpath_engine::memory::Memory;
use retpath_engine::source::{self, PageSource, Preempt, Source};
use retpath_engine::stats::Stats;
use retpath_support::loops::{
    self, Dial, LONG, Net, PAGE, Still, blocks, listen, receive_options, serve_with,
};

/// A source handler that switches immediately and calls back on each access to its memory.
struct Watched<F> {
    machine: Still<Vec<Vec<u8>>>,
    accesses: AtomicU64,
    /// Called before each access with its number, starting at 1.
    on_access: F,
}

impl<F: Fn(u64) + Send + Sync> PageSource for Watched<F> {
    fn read(&self, block: usize, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        self.machine.0.read(block, offset, out)
    }

    fn lend(&self, block: usize, offset: u64, len: usize) -> Option<&[u8]> {
        (self.on_access)(self.accesses.fetch_add(1, Ordering::Relaxed) + 1);
        self.machine.0.lend(block, offset, len)
    }
}

impl<F: Fn(u64) + Send + Sync> SourceHandler for Watched<F> {
    fn pages(&self) -> &dyn PageSource {
        self
    }

    fn precopy(&mut self, core: &mut Source) -> Result<(), HandlerError> {
        self.machine.precopy(core)
    }
}

/// A value with a condition variable.
#[derive(Default)]
struct Shared<T>(Mutex<T>, Condvar);

impl<T> Shared<T> {
    fn change(&self, change: impl FnOnce(&mut T)) {
        change(&mut self.0.lock().expect("thread does not panic"));
        self.1.notify_all();
    }

    /// Waits for a condition; panics after a generous limit.
    fn wait(&self, until: impl Fn(&T) -> bool) -> MutexGuard<'_, T> {
        let value = self.0.lock().expect("thread does not panic");
        let long = Duration::from_secs(60);
        let waited = self
            .1
            .wait_timeout_while(value, long, |value| !until(value));
        let (value, timeout) = waited.expect("thread does not panic");
        assert!(!timeout.timed_out(), "timed out");
        value
    }
}

/// Progress reported by the destination's loop.
#[derive(Default)]
struct Progress {
    runs: bool,
    pauses: u64,
}

/// A source handler that sends everything before the switch, and its first page again once the guest
/// has read all others.
struct Settled {
    memory: Vec<Vec<u8>>,
    device_state: Vec<u8>,
    switched: AtomicBool,
    read: Arc<Shared<bool>>,
}

impl PageSource for Settled {
    fn read(&self, block: usize, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        self.memory.read(block, offset, out)
    }

    fn lend(&self, block: usize, offset: u64, len: usize) -> Option<&[u8]> {
        if self.switched.load(Ordering::Relaxed) {
            drop(self.read.wait(|read| *read));
        }
        self.memory.lend(block, offset, len)
    }
}

impl SourceHandler for Settled {
    fn pages(&self) -> &dyn PageSource {
        self
    }

    fn precopy(&mut self, core: &mut Source) -> Result<(), HandlerError> {
        if core.phase() == source::SourcePhase::Precopy && core.remaining() == 0 {
            core.mark_dirty(0, 0, 1)?;
            let state = std::mem::take(&mut self.device_state);
            core.switch(state)?;
            self.switched.store(true, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// A guest that reads all pages except the first.
#[derive(Default)]
struct Reader {
    memory: Vec<Arc<Memory>>,
    reader: Option<std::thread::JoinHandle<()>>,
    read: Arc<Shared<bool>>,
}

impl DestinationHandler for Reader {
    fn memory(&mut self, block: &Block, _: u64) -> Result<Option<Arc<Memory>>, HandlerError> {
        let memory = loops::memory(block)?;
        self.memory.push(Arc::clone(&memory));
        Ok(Some(memory))
    }

    fn run(&mut self) {
        let blocks = self.memory.clone();
        let read = Arc::clone(&self.read);
        self.reader = Some(std::thread::spawn(move || {
            for (block, memory) in blocks.iter().enumerate() {
                for page in u64::from(block == 0)..memory.len() / 4096 {
                    memory.touch(page * 4096).expect("range lies in the block");
                }
            }
            read.change(|read| *read = true);
        }));
    }
}

#[derive(Default)]
struct Plain {
    memory: Vec<(NameBuf, Arc<Memory>)>,
    touchers: Vec<std::thread::JoinHandle<()>>,
    progress: Arc<Shared<Progress>>,
}

impl DestinationHandler for Plain {
    fn memory(&mut self, block: &Block, _: u64) -> Result<Option<Arc<Memory>>, HandlerError> {
        let memory = loops::memory(block)?;
        self.memory.push((block.name.clone(), Arc::clone(&memory)));
        Ok(Some(memory))
    }

    fn run(&mut self) {
        self.progress.change(|it| it.runs = true);
        for (_, memory) in &self.memory {
            let memory = Arc::clone(memory);
            self.touchers.push(std::thread::spawn(move || {
                let pages = memory.len() / 4096;
                for i in 0..pages {
                    memory
                        .touch((i * 7919 % pages) * 4096)
                        .expect("range lies in the block");
                }
            }));
        }
    }

    fn progress(&mut self, core: &Destination) {
        let pauses = core.stats().pauses;
        self.progress.change(|it| it.pauses = pauses);
    }
}

/// Number of accesses to the source's memory between cuts.
const INTERVAL: u64 = 40;

/// Migrates a machine whose guest reads all of its memory. The destination breaks the link `cuts`
/// times while the source sends. With `quit`, the first source stops after that many accesses to its
/// memory, and another one takes over.
fn migrate(preempt: Option<Preempt>, cuts: u64, quit: Option<u64>) {
    let (_dir, mut listener) = listen(Net::Unix);
    let sizes = [("pc.ram", 4096 * PAGE), ("vga.vram", 512 * PAGE)];
    let blocks = blocks(&sizes);
    let content = |(_, len): (&str, u64)| {
        let mut bytes = vec![0u8; len as usize];
        for (i, page) in bytes.chunks_mut(4096).enumerate() {
            if i % 3 > 0 {
                page.fill((i % 255 + 1) as u8);
            }
        }
        bytes
    };
    let memory = sizes.map(content).to_vec();
    let want = memory.clone();
    let at = listener.address().clone();
    let receiving = Control::new().expect("control can be created");
    let mut guest = Plain::default();
    let (cut, progress) = (receiving.clone(), Arc::clone(&guest.progress));
    let server = std::thread::spawn(move || {
        let mut config = source::Config::new("pc-i440fx-7.2");
        config.preempt = preempt;
        let control = Control::new().expect("control can be created");
        let options = ServeOptions::default().reconnect_timeout(LONG);
        let mut core = Source::new(config.clone(), blocks.clone()).expect("valid configuration");
        let mut machine = Still(memory);
        let mut dial = Dial(at);
        if let Some(last) = quit {
            let mut stopped = Watched {
                machine,
                accesses: AtomicU64::new(0),
                on_access: |access| {
                    if access == last {
                        control.stop();
                    }
                },
            };
            let end = serve(&mut core, &mut stopped, &mut dial, &options, &control);
            assert!(matches!(end, Err(RunError::Stopped)), "{end:?}");
            assert!(core.guest_left() && core.remaining() > 0);
            machine = stopped.machine;
            core = Source::taking_over(config, blocks).expect("valid configuration");
        }
        let mut machine = Watched {
            machine,
            accesses: AtomicU64::new(0),
            on_access: |access| {
                if access % INTERVAL == 0 && access / INTERVAL <= cuts {
                    // Before the guest runs, a cut ends the migration.
                    let before = progress.wait(|it| it.runs).pauses;
                    cut.pause();
                    drop(progress.wait(|it| it.pauses > before));
                }
            },
        };
        serve(&mut core, &mut machine, &mut dial, &options, &control).expect("migration completes");
        assert_eq!(core.phase(), source::SourcePhase::Completed);
    });
    let options = receive_options(preempt.is_some());
    let core =
        receive(&mut listener, &mut guest, options, &receiving).expect("migration completes");
    assert_eq!(core.phase(), Phase::Finished);
    let pauses = cuts + u64::from(quit.is_some());
    assert_eq!(
        (core.stats().pauses, core.stats().resumes),
        (pauses, pauses)
    );
    for toucher in guest.touchers {
        toucher.join().expect("guest thread does not panic");
    }
    for ((name, memory), want) in guest.memory.iter().zip(&want) {
        let mut got = vec![0; want.len()];
        memory.read(0, &mut got).expect("range lies in the block");
        assert!(got == *want, "{}", name.name());
    }
    server.join().expect("source thread does not panic");
}

/// Migrates a machine whose pages are all received before the switch, except the first. The guest
/// reads those before the source continues.
fn settled(sizes: &[(&str, u64)], config: source::Config, device_state: Vec<u8>) -> Stats {
    let (_dir, mut listener) = listen(Net::Unix);
    let blocks = blocks(sizes);
    let mut memory: Vec<_> = sizes
        .iter()
        .map(|(_, len)| vec![0; *len as usize])
        .collect();
    memory[0][0] = 1;
    let mut guest = Reader::default();
    let mut machine = Settled {
        memory,
        device_state,
        switched: AtomicBool::new(false),
        read: Arc::clone(&guest.read),
    };
    let at = listener.address().clone();
    let server = std::thread::spawn(move || {
        let mut core = Source::new(config, blocks).expect("valid configuration");
        serve_with(&mut core, &mut machine, &mut Dial(at), LONG).expect("migration completes");
    });
    let options = receive_options(false);
    let control = Control::new().expect("control can be created");
    let core = receive(&mut listener, &mut guest, options, &control).expect("migration completes");
    assert_eq!(core.phase(), Phase::Finished);
    guest
        .reader
        .expect("guest ran")
        .join()
        .expect("guest thread does not panic");
    server.join().expect("source thread does not panic");
    core.stats().clone()
}

/// Regression: a zero page received before LISTEN leaves no page in memory; a fault on it was woken
/// but never filled, and repeated endlessly.
#[test]
fn fills_pages_that_were_zero_before_the_switch() {
    let config = source::Config::new("pc-i440fx-7.2");
    let stats = settled(&[("pc.ram", 64 * 4096)], config, Vec::new());
    assert!(stats.faults_present >= 63, "{stats:?}");
}

/// Unplugged memory is never sent, so a thread that reads it must not wait.
#[test]
fn fills_unplugged_memory_with_zeros() {
    const MIB: u64 = 1 << 20;
    // 4 MiB in blocks of 2 MiB, none of them plugged.
    let mut state = b"\x04\0\0\0\x09\x0edev/virtio-mem\0\0\0\0\0\0\0\x01".to_vec();
    state.extend([1 << 32, 4 * MIB, 2 * MIB].map(u64::to_be_bytes).concat());
    state.extend([0; 4 + 4 * 8]);
    state.extend(b"\x7e\0\0\0\x09");
    let mut config = source::Config::new("pc-i440fx-7.2");
    let (block, offset, len) = (1, 0, 4 * MIB);
    config.unplugged.push(Span { block, offset, len });
    let sizes = [("pc.ram", 64 * 4096), ("dev/vm0", len)];
    let stats = settled(&sizes, config, state);
    assert_eq!(stats.unplugged, len / 4096);
    assert_eq!(stats.requests, stats.demand, "{stats:?}");
    assert!(stats.faults_present >= len / 4096, "{stats:?}");
}

#[test]
fn transfers_every_page() {
    migrate(None, 0, None);
}

#[test]
fn transfers_every_page_with_a_preempt_channel() {
    migrate(Some(Preempt::Late), 0, None);
    migrate(Some(Preempt::Early), 0, None);
}

#[test]
fn recovers_from_cut_links() {
    migrate(None, 5, None);
    migrate(Some(Preempt::Late), 5, None);
}

#[test]
fn another_source_takes_over_a_stopped_migration() {
    for last in [20, 100, 200] {
        migrate(None, 0, Some(last));
        migrate(Some(Preempt::Late), 0, Some(last));
        migrate(Some(Preempt::Early), 0, Some(last));
    }
}

/// A destination that traps the accesses of its guest itself.
#[derive(Default)]
struct OwnTraps {
    accesses: Vec<u64>,
    runs: bool,
}

impl DestinationHandler for OwnTraps {
    fn memory(&mut self, _: &Block, _: u64) -> Result<Option<Arc<Memory>>, HandlerError> {
        Ok(None)
    }

    fn run(&mut self) {
        self.runs = true;
    }

    fn fault(&mut self) -> Option<(usize, u64)> {
        let offset = self.accesses.pop_if(|_| self.runs)?;
        Some((0, offset))
    }
}

#[test]
fn requests_the_pages_of_faults_that_the_embedder_traps() {
    let (_dir, mut listener) = listen(Net::Unix);
    let address = listener.address().clone();
    let source = std::thread::spawn(move || {
        let mut config = source::Config::new("pc-i440fx-10.0");
        // The last pages are requested long before they are swept.
        (config.bandwidth, config.run) = (64 << 10, PAGE);
        let mut core = Source::new(config, blocks(&[("ram", 16 * PAGE)])).expect("valid");
        let mut machine = Still(vec![vec![7; 16 * PAGE as usize]]);
        serve_with(&mut core, &mut machine, &mut Dial(address), LONG).expect("completes");
        core
    });
    let mut guest = OwnTraps {
        accesses: (0..16).map(|page| page * PAGE + 9).collect(),
        runs: false,
    };
    let control = Control::new().expect("a descriptor");
    let core = receive(&mut listener, &mut guest, receive_options(false), &control);
    let core = core.expect("completes");
    source.join().expect("does not panic");
    let stats = core.stats();
    assert_eq!(stats.faults + stats.faults_present, 16);
    assert_eq!(core.phase(), Phase::Finished);
}
