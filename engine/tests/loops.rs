//! Both loops, joined by real sockets, over real userfaultfd.

#![cfg(feature = "uffd")]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use retpath_codec::{BlockName, NameBuf, forward};
use retpath_engine::Channel;
use retpath_engine::blocks::{Block, Blocks};
use retpath_engine::destination::{self, Phase};
use retpath_engine::driver::{
    Connector, Control, DestinationHandler, HandlerError, ReceiveOptions, RunError, ServeOptions,
    SourceHandler, receive, serve,
};
use retpath_engine::memory::{Backing, Memory};
use retpath_engine::socket::{Address, ChannelError, Link};
use retpath_engine::source::{self, PageSource, Preempt, Source};
use retpath_engine::stats::Stats;
use retpath_engine::virtio_mem::Unplugged;

/// A machine whose memory never changes, and which is switched at once.
struct Still(Vec<Vec<u8>>);

impl SourceHandler for Still {
    fn pages(&self) -> &dyn PageSource {
        &self.0
    }

    fn precopy(&mut self, core: &mut Source) -> Result<(), HandlerError> {
        if core.phase() == source::SourcePhase::Precopy {
            core.switch(Vec::new()).map_err(|e| e.to_string())?;
        }
        Ok(())
    }
}

/// The same, but the loop is stopped after so many looks at its memory.
struct Quitting {
    machine: Still,
    left: AtomicU64,
    control: Control,
}

impl PageSource for Quitting {
    fn read(&self, block: usize, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        self.machine.0.read(block, offset, out)
    }

    fn lend(&self, block: usize, offset: u64, len: usize) -> Option<&[u8]> {
        if self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.control.stop();
        }
        self.machine.0.lend(block, offset, len)
    }
}

impl SourceHandler for Quitting {
    fn pages(&self) -> &dyn PageSource {
        self
    }

    fn precopy(&mut self, core: &mut Source) -> Result<(), HandlerError> {
        self.machine.precopy(core)
    }
}

/// A flag that threads wait for.
#[derive(Default)]
struct Flag(Mutex<bool>, Condvar);

impl Flag {
    fn set(&self) {
        *self.0.lock().expect("no panic") = true;
        self.1.notify_all();
    }

    /// Panics if it takes far too long.
    fn wait(&self) {
        let set = self.0.lock().expect("no panic");
        let long = Duration::from_secs(60);
        let (set, _) = self
            .1
            .wait_timeout_while(set, long, |set| !*set)
            .expect("no panic");
        assert!(*set, "it never happens");
    }
}

/// A machine that has sent everything before the switch, and sends its first page again when the
/// guest has read all others.
struct Settled {
    memory: Vec<Vec<u8>>,
    device_state: Vec<u8>,
    switched: AtomicBool,
    read: Arc<Flag>,
}

impl PageSource for Settled {
    fn read(&self, block: usize, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        self.memory.read(block, offset, out)
    }

    fn lend(&self, block: usize, offset: u64, len: usize) -> Option<&[u8]> {
        if self.switched.load(Ordering::Relaxed) {
            self.read.wait();
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
            core.mark_dirty(0, 0, 1).map_err(|e| e.to_string())?;
            let state = std::mem::take(&mut self.device_state);
            core.switch(state).map_err(|e| e.to_string())?;
            self.switched.store(true, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// A guest that reads all pages but the very first.
#[derive(Default)]
struct Reader {
    memory: Vec<Arc<Memory>>,
    reader: Option<std::thread::JoinHandle<()>>,
    read: Arc<Flag>,
}

impl DestinationHandler for Reader {
    fn memory(&mut self, block: &Block, _: u64) -> Result<Option<Arc<Memory>>, HandlerError> {
        let memory = Memory::new(Backing::Anonymous, block.len).map_err(|e| e.to_string())?;
        let memory = Arc::new(memory);
        self.memory.push(Arc::clone(&memory));
        Ok(Some(memory))
    }

    fn run(&mut self) {
        let blocks = self.memory.clone();
        let read = Arc::clone(&self.read);
        self.reader = Some(std::thread::spawn(move || {
            for (block, memory) in blocks.iter().enumerate() {
                for page in u64::from(block == 0)..memory.len() / 4096 {
                    memory.touch(page * 4096).expect("inside");
                }
            }
            read.set();
        }));
    }
}

struct Dial(Address);

impl Connector for Dial {
    fn connect(&mut self, _: Channel) -> Result<Link, ChannelError> {
        self.0.connect(false)
    }
}

#[derive(Default)]
struct Plain {
    memory: Vec<(NameBuf, Arc<Memory>)>,
    touchers: Vec<std::thread::JoinHandle<()>>,
    /// How often the link is cut, once the guest runs: before that a cut is
    /// the migration's end.
    cuts: usize,
    control: Option<Control>,
}

impl DestinationHandler for Plain {
    fn memory(&mut self, block: &Block, _: u64) -> Result<Option<Arc<Memory>>, HandlerError> {
        let memory = Memory::new(Backing::Anonymous, block.len).map_err(|e| e.to_string())?;
        let memory = Arc::new(memory);
        self.memory.push((block.name.clone(), Arc::clone(&memory)));
        Ok(Some(memory))
    }

    fn run(&mut self) {
        if let Some(control) = self.control.take() {
            let cuts = self.cuts;
            self.touchers.push(std::thread::spawn(move || {
                for _ in 0..cuts {
                    std::thread::sleep(Duration::from_millis(10));
                    control.pause();
                }
            }));
        }
        for (_, memory) in &self.memory {
            let memory = Arc::clone(memory);
            self.touchers.push(std::thread::spawn(move || {
                let pages = memory.len() / 4096;
                for i in 0..pages {
                    memory.touch((i * 7919 % pages) * 4096).expect("inside");
                }
            }));
        }
    }
}

fn migrate(preempt: Option<Preempt>, cuts: usize) {
    migrate_by(preempt, cuts, None);
}

/// `quit`: the first source gives up after so many looks at its memory, and another one takes over.
fn migrate_by(preempt: Option<Preempt>, cuts: usize, quit: Option<u64>) {
    let dir = tempfile::tempdir().expect("a folder");
    let uri: Address = format!("unix:{}", dir.path().join("s").display())
        .parse()
        .expect("good");
    let mut listener = uri.listen(false).expect("listens");
    let mut blocks = Blocks::new(4096).expect("4 KiB");
    let mut memory = Vec::new();
    for (name, pages) in [("pc.ram", 4096u64), ("vga.vram", 512)] {
        let name = NameBuf::new(name).expect("good");
        blocks
            .add(Block {
                name,
                len: pages * 4096,
                page: 4096,
            })
            .expect("good");
        let mut bytes = vec![0u8; (pages * 4096) as usize];
        for (i, page) in bytes.chunks_mut(4096).enumerate() {
            if i % 3 > 0 {
                page.fill((i % 255 + 1) as u8);
            }
        }
        memory.push(bytes);
    }
    let want = memory.clone();
    let at = listener.address().clone();
    let server = std::thread::spawn(move || {
        let mut config = source::Config::new("pc-i440fx-7.2");
        config.preempt = preempt;
        let control = Control::new().expect("control");
        let options = ServeOptions {
            reconnect_timeout: Duration::from_secs(10),
            ..ServeOptions::default()
        };
        let mut core = Source::new(config.clone(), blocks.clone()).expect("good");
        let mut machine = Still(memory);
        let mut dial = Dial(at);
        if let Some(looks) = quit {
            let mut quitting = Quitting {
                machine,
                left: looks.into(),
                control: control.clone(),
            };
            let end = serve(&mut core, &mut quitting, &mut dial, &options, &control);
            assert!(matches!(end, Err(RunError::Stopped)), "{end:?}");
            assert!(core.guest_left() && core.remaining() > 0);
            machine = quitting.machine;
            core = Source::taking_over(config, blocks).expect("good");
        }
        serve(&mut core, &mut machine, &mut dial, &options, &control).expect("served");
        assert_eq!(core.phase(), source::SourcePhase::Completed);
    });
    let control = Control::new().expect("control");
    let mut guest = Plain {
        cuts,
        control: Some(control.clone()),
        ..Plain::default()
    };
    let options = ReceiveOptions {
        core: destination::Config {
            preempt: preempt.is_some(),
            ..Default::default()
        },
        stream: forward::Options::default(),
        reconnect_timeout: Duration::from_secs(10),
        recovery_timeout: Duration::from_secs(30),
        accept_unproven_end: false,
    };
    let core = receive(&mut listener, &mut guest, options, &control).expect("received");
    assert_eq!(core.phase(), Phase::Finished);
    for toucher in guest.touchers {
        toucher.join().expect("touched");
    }
    for ((name, memory), want) in guest.memory.iter().zip(&want) {
        let mut got = vec![0; want.len()];
        memory.read(0, &mut got).expect("inside");
        assert!(got == *want, "{}", name.name());
    }
    println!("{:?}", core.stats());
    server.join().expect("server");
}

/// Migrates a machine of which every page but the first is there at the switch, and whose guest reads
/// all of them before the source goes on.
fn settled(sizes: &[(&str, u64)], config: source::Config, device_state: Vec<u8>) -> Stats {
    let dir = tempfile::tempdir().expect("a folder");
    let uri: Address = format!("unix:{}", dir.path().join("s").display())
        .parse()
        .expect("good");
    let mut listener = uri.listen(false).expect("listens");
    let mut blocks = Blocks::new(4096).expect("4 KiB");
    let mut memory = Vec::new();
    for (name, len) in sizes {
        let (name, page) = (NameBuf::new(*name).expect("good"), 4096);
        let len = *len;
        blocks.add(Block { name, len, page }).expect("good");
        memory.push(vec![0; usize::try_from(len).expect("small")]);
    }
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
        let control = Control::new().expect("control");
        let mut core = Source::new(config, blocks).expect("good");
        let options = ServeOptions {
            reconnect_timeout: Duration::from_secs(10),
            ..ServeOptions::default()
        };
        serve(&mut core, &mut machine, &mut Dial(at), &options, &control).expect("served");
    });
    let options = ReceiveOptions {
        core: destination::Config::default(),
        stream: forward::Options::default(),
        reconnect_timeout: Duration::from_secs(10),
        recovery_timeout: Duration::from_secs(30),
        accept_unproven_end: false,
    };
    let control = Control::new().expect("control");
    let core = receive(&mut listener, &mut guest, options, &control).expect("received");
    assert_eq!(core.phase(), Phase::Finished);
    guest.reader.expect("it ran").join().expect("touched");
    server.join().expect("server");
    core.stats().clone()
}

/// Found by the loops: a zero page that comes before LISTEN leaves nothing in memory, and a fault on
/// it was woken but never filled, so that it came again without end.
#[test]
fn fills_pages_that_were_zero_before_the_switch() {
    let config = source::Config::new("pc-i440fx-7.2");
    let stats = settled(&[("pc.ram", 64 * 4096)], config, Vec::new());
    assert!(stats.faults_present >= 63, "{stats:?}");
}

/// Nobody sends it, so nobody who reads it may wait for it.
#[test]
fn fills_unplugged_memory_with_zeros() {
    const MIB: u64 = 1 << 20;
    // 4 MiB in pieces of 2 MiB, none of them plugged.
    let mut state = b"\x04\0\0\0\x09\x0edev/virtio-mem\0\0\0\0\0\0\0\x01".to_vec();
    state.extend([1 << 32, 4 * MIB, 2 * MIB].map(u64::to_be_bytes).concat());
    state.extend([0; 4 + 4 * 8]);
    state.extend(b"\x7e\0\0\0\x09");
    let mut config = source::Config::new("pc-i440fx-7.2");
    let (start, len) = (0, 4 * MIB);
    config.unplugged.push(Unplugged {
        block: 1,
        start,
        len,
    });
    let sizes = [("pc.ram", 64 * 4096), ("dev/vm0", len)];
    let stats = settled(&sizes, config, state);
    assert_eq!(stats.unplugged, len / 4096);
    assert_eq!(stats.requests, stats.demand, "{stats:?}");
    assert!(stats.faults_present >= len / 4096, "{stats:?}");
}

#[test]
fn moves_every_page() {
    migrate(None, 0);
}

#[test]
fn moves_every_page_with_a_preempt_channel() {
    migrate(Some(Preempt::Late), 0);
    migrate(Some(Preempt::Early), 0);
}

#[test]
fn survives_cuts() {
    migrate(None, 5);
    migrate(Some(Preempt::Late), 5);
}

#[test]
fn lets_another_source_take_over() {
    for looks in [20, 100, 200] {
        migrate_by(None, 0, Some(looks));
        migrate_by(Some(Preempt::Late), 0, Some(looks));
        migrate_by(Some(Preempt::Early), 0, Some(looks));
    }
}
