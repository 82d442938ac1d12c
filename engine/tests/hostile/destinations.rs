//! Hostile destinations.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use retpath_codec::bitmap::{self, Bitmap};
use retpath_codec::{BlockName, Encode, Message, Name, NameBuf};
use retpath_engine::Channel;
use retpath_engine::driver::{
    Connector, Control, HandlerError, RunError, ServeOptions, SourceHandler, serve,
};
use retpath_engine::socket::{Address, ChannelError, Link};
use retpath_engine::source::{Error, PageSource, Source, SourcePhase};
use rustix::event::{PollFd, PollFlags, poll};

use super::ALLOCATED;
use super::trial::Trial;
use retpath_support::loops::{LONG, Net, Still, break_after, listen};
use retpath_support::receiver::{Receiver, serves_the_next, until_dropped};
use retpath_support::wire::{PAGE, PAGES, blocks, config, image, name, question, recording};

/// Stall timeout. The source reconnects to a well-behaved destination that exceeds it.
const STALL: Duration = Duration::from_millis(500);

/// The behavior of a destination on its end of a link.
type Script = fn(&mut UnixStream);

/// A connector to hostile destinations in turn, and then to a well-behaved one.
struct Dial {
    /// When to break the first link, to the well-behaved destination.
    break_after: Option<usize>,
    scripts: VecDeque<Script>,
    good: Address,
}

impl Connector for Dial {
    fn connect(&mut self, _: Channel) -> Result<Link, ChannelError> {
        if let Some(bytes) = self.break_after.take() {
            return Ok(break_after(self.good.connect(false)?, bytes));
        }
        let Some(script) = self.scripts.pop_front() else {
            return self.good.connect(false);
        };
        Ok(played(script))
    }
}

/// A link whose peer is driven by a script.
fn played(script: Script) -> Link {
    let (near, mut far) = UnixStream::pair().expect("descriptors can be created");
    thread::spawn(move || script(&mut far));
    Link::new(near.into()).expect("socket can be created")
}

/// Writes bytes; ignores a source that closed the connection.
fn write(far: &mut UnixStream, bytes: &[u8]) {
    let _ = far.write_all(bytes);
}

fn message(message: Message<Name<'_>>) -> Vec<u8> {
    let mut bytes = Vec::new();
    message.encode(&mut bytes).expect("valid message");
    bytes
}

/// Waits for RECV_BITMAP and returns the start of the answer.
fn wait_recv_bitmap(far: &mut UnixStream) -> Vec<u8> {
    let mut bytes = question();
    let _ = far.read_exact(&mut bytes);
    let name = name();
    message(Message::RecvBitmap { block: name.name() })
}

/// Answers RECV_BITMAP with these bits.
fn answer(far: &mut UnixStream, bits: &[u8]) {
    let mut bytes = wait_recv_bitmap(far);
    bitmap::encode(Bitmap::new(bits), &mut bytes).expect("valid size");
    write(far, &bytes);
}

fn request(far: &mut UnixStream, start: u64, len: u32) {
    let name = name();
    let block = name.name();
    write(far, &message(Message::ReqPagesId { start, len, block }));
}

/// Resumes, reads everything, and requests the same page endlessly.
fn request_without_end(far: &mut UnixStream) {
    answer(far, &[0; 8]);
    // POSTCOPY_RESUME.
    let _ = far.read_exact(&mut [0; 5]);
    write(far, &message(Message::ResumeAck));
    let mut reading = far.try_clone().expect("descriptor can be created");
    thread::spawn(move || until_dropped(&mut reading));
    let name = name();
    let (block, len) = (name.name(), u32::try_from(PAGE).expect("fits in u32"));
    let question = message(Message::ReqPagesId {
        start: 0,
        len,
        block,
    });
    while far.write_all(&question).is_ok() {
        thread::sleep(Duration::from_millis(1));
    }
}

/// Resumes, then reads nothing and repeats a PONG endlessly.
fn pong_without_end(far: &mut UnixStream) {
    answer(far, &[0; 8]);
    let pong = message(Message::Pong { value: 1 });
    while far.write_all(&pong).is_ok() {
        thread::sleep(Duration::from_millis(1));
    }
}

/// Reads nothing until the source disconnects.
fn wait_unread(far: &mut UnixStream) {
    let mut fds = [PollFd::new(&*far, PollFlags::RDHUP)];
    let _ = poll(&mut fds, None);
}

/// Behaviors for which the source drops the link.
const SCRIPTS: &[(&str, Script)] = &[
    ("disconnects at once", |_| {}),
    ("writes and reads nothing", wait_unread),
    ("a bitmap of the wrong size", |far| answer(far, &[0; 16])),
    ("a bitmap of 2^64 bytes", |far| {
        let mut bytes = wait_recv_bitmap(far);
        bytes.extend((u64::MAX - 7).to_be_bytes());
        write(far, &bytes);
    }),
    ("a wrong end mark", |far| {
        let mut bytes = wait_recv_bitmap(far);
        bitmap::encode(Bitmap::new(&[0; 8]), &mut bytes).expect("valid size");
        *bytes.last_mut().expect("not empty") ^= 1;
        write(far, &bytes);
    }),
    ("pages that were never sent", |far| {
        answer(far, &[0xff, 0xff, 0xff, 0, 0, 0, 0, 0])
    }),
    ("an empty bitmap, then disconnects", |far| {
        answer(far, &[0; 8]);
    }),
    ("an empty bitmap and RESUME_ACK, then disconnects", |far| {
        answer(far, &[0; 8]);
        write(far, &message(Message::ResumeAck));
        let _ = far.read_exact(&mut [0; 9000]);
    }),
    ("a bitmap without RESUME_ACK", |far| {
        answer(far, &[0; 8]);
        until_dropped(far);
    }),
    ("RESUME_ACK at once", |far| {
        write(far, &message(Message::ResumeAck))
    }),
    ("SHUT at once", |far| {
        write(far, &message(Message::Shut { value: 0 }))
    }),
    ("another block's bitmap", |far| {
        let other = NameBuf::new("pc.rom").expect("valid name");
        write(
            far,
            &message(Message::RecvBitmap {
                block: other.name(),
            }),
        );
    }),
    ("requests a page outside the block", |far| {
        request(far, PAGES * PAGE, 4096)
    }),
    ("requests half a page", |far| request(far, 100, 100)),
    ("requests too much", |far| request(far, 0, u32::MAX)),
    ("requests without a block name", |far| {
        write(
            far,
            &message(Message::ReqPages {
                start: 0,
                len: 4096,
            }),
        );
    }),
    ("a long message", |far| {
        write(far, b"\0\x02\xff\xff\0\0\0\0")
    }),
    ("a short message", |far| write(far, b"\0\x02\0\x01\0\0\0\0")),
    ("an unknown message", |far| {
        write(far, b"\0\x63\0\x04\0\0\0\0")
    }),
    ("half a message", |far| {
        write(far, b"\0\x02\0");
        until_dropped(far);
    }),
    ("half a bitmap", |far| {
        let mut bytes = wait_recv_bitmap(far);
        bytes.extend(b"\0\0\0\0\0\0\0\x08\0\0\0");
        write(far, &bytes);
        until_dropped(far);
    }),
    ("a flood of PONGs", |far| {
        write(far, &message(Message::Pong { value: 1 }).repeat(100_000));
    }),
    ("a flood of requests, reading nothing", |far| {
        for _ in 0..5000 {
            request(far, 0, u32::try_from(PAGES * PAGE).expect("fits in u32"));
        }
    }),
    ("requests a received page without end", request_without_end),
    ("PONGs without end, reading nothing", pong_without_end),
];

fn options(stall: Option<Duration>) -> ServeOptions {
    ServeOptions::default()
        .reconnect_timeout(LONG)
        .stall_timeout(stall)
}

/// Whatever replaces the destination temporarily, the migration continues once the destination is
/// back, and every page arrives.
#[test]
fn recovers_through_hostile_destinations() {
    let _trial = Trial::new("hostile destinations");
    let (_dir, listener) = listen(Net::Unix);
    let receiver = Receiver::start(listener, false, LONG);
    let first = recording(1).package + 7 * 4104;
    let mut dial = Dial {
        break_after: Some(first),
        scripts: SCRIPTS.iter().map(|(_, script)| *script).collect(),
        good: receiver.address().clone(),
    };
    let mut core = Source::new(config(None), blocks()).expect("valid configuration");
    let mut machine = Still(vec![image()]);
    let control = Control::new().expect("descriptor can be created");
    serve(
        &mut core,
        &mut machine,
        &mut dial,
        &options(Some(STALL)),
        &control,
    )
    .expect("migration completes");
    assert_eq!(core.phase(), SourcePhase::Completed);
    assert!(dial.scripts.is_empty());
    let pauses = usize::try_from(core.stats().pauses).expect("fits in usize");
    assert!(pauses > SCRIPTS.len(), "{pauses}");
    let (listener, received) = receiver.complete();
    assert_eq!(received.stats().present, 0, "a page came twice");
    serves_the_next(listener);
}

/// A source handler that does not reconnect after a broken link.
struct Once(Still<Vec<Vec<u8>>>);

impl SourceHandler for Once {
    fn pages(&self) -> &dyn PageSource {
        self.0.pages()
    }

    fn precopy(&mut self, core: &mut Source) -> Result<(), HandlerError> {
        self.0.precopy(core)
    }

    fn broken(&mut self, _: &Source, _: &RunError) -> bool {
        false
    }
}

/// Returns the error of a migration to a destination that is hostile from the start.
fn from_the_start(script: Script, stall: Option<Duration>) -> RunError {
    serve_hostile(script, stall).1
}

/// The same, with the source.
fn serve_hostile(script: Script, stall: Option<Duration>) -> (Source, RunError) {
    let mut core = Source::new(config(None), blocks()).expect("valid configuration");
    let mut dial = Dial {
        break_after: None,
        scripts: [script].into(),
        good: "unix:/nowhere/at-all".parse().expect("valid address"),
    };
    let mut machine = Once(Still(vec![image()]));
    let control = Control::new().expect("descriptor can be created");
    let end = serve(
        &mut core,
        &mut machine,
        &mut dial,
        &options(stall),
        &control,
    );
    (core, end.expect_err("a hostile destination"))
}

/// Bytes of each flood.
const FLOOD: usize = 4 << 20;

/// Bytes that the source may allocate meanwhile, both threads together.
const FLOOD_CAP: usize = 1 << 20;

/// Bytes of the current flood that have been written.
static FLOODED: AtomicUsize = AtomicUsize::new(0);

/// Reads up to the switch, then writes a message until there are [`FLOOD`] bytes, and reads
/// nothing.
fn flood(far: &mut UnixStream, message: &[u8]) {
    let _ = far.read_exact(&mut vec![0; recording(0).package]);
    let chunk = message.repeat((64 << 10) / message.len());
    while FLOODED.load(Relaxed) < FLOOD && far.write_all(&chunk).is_ok() {
        FLOODED.fetch_add(chunk.len(), Relaxed);
    }
}

fn request_of(pages: u64) -> Vec<u8> {
    let len = u32::try_from(pages * PAGE).expect("fits in u32");
    let (start, name) = (0, name());
    let block = name.name();
    message(Message::ReqPagesId { start, len, block })
}

/// The source is blocked, because nothing of what it writes is read.
#[test]
fn a_flood_while_nothing_is_read_costs_no_memory() {
    let floods: [(&str, u64, Script); 3] = [
        ("requests of a page", 1, |far| flood(far, &request_of(1))),
        ("requests of a block", PAGES, |far| {
            flood(far, &request_of(PAGES));
        }),
        ("PONGs", 0, |far| {
            flood(far, &message(Message::Pong { value: 1 }));
        }),
    ];
    for (what, pages, script) in floods {
        let _trial = Trial::new(what);
        FLOODED.store(0, Relaxed);
        let before = ALLOCATED.current_usage();
        let (core, error) = serve_hostile(script, None);
        let grown = ALLOCATED.peak_usage().saturating_sub(before);
        assert!(grown < FLOOD_CAP, "{what}: {grown} bytes");
        assert!(
            matches!(error, RunError::Link { .. } | RunError::Closed),
            "{what}: {error}"
        );
        let flooded = FLOODED.load(Relaxed);
        assert!(
            flooded >= FLOOD,
            "{what}: the source stopped reading after {flooded} bytes"
        );
        let requests = (flooded / request_of(1).len()) as u64 * pages;
        // A socket's buffer may not have been read when the connection closed.
        assert!(core.stats().requests >= requests * 9 / 10, "{what}");
        assert!(core.waiting() <= PAGES, "{what}");
    }
    let (_dir, listener) = listen(Net::Unix);
    serves_the_next(listener);
}

/// A source expects one bitmap of each block, in a recovery only.
#[test]
fn a_flood_of_bitmaps_ends_the_link() {
    let _trial = Trial::new("bitmaps");
    FLOODED.store(0, Relaxed);
    let (core, error) = serve_hostile(
        |far| {
            let name = name();
            let mut bytes = message(Message::RecvBitmap { block: name.name() });
            bitmap::encode(Bitmap::new(&[0; 8]), &mut bytes).expect("valid size");
            flood(far, &bytes);
        },
        None,
    );
    assert!(
        matches!(error, RunError::Source(Error::Refused { offset: 0, .. })),
        "{error}"
    );
    assert_eq!(core.stats().requests, 0);
    let flooded = FLOODED.load(Relaxed);
    assert!(flooded < 1 << 20, "{flooded} bytes fit no socket's buffer");
}

#[test]
fn fails_when_the_destination_is_hostile_from_the_start() {
    let _trial = Trial::new("hostile from the start");
    let scripts: [Script; 4] = [
        |_| {},
        |far| write(far, b"\0\x63\0\x04\0\0\0\0"),
        |far| write(far, &message(Message::Pong { value: 1 }).repeat(100_000)),
        |far| request(far, 0, u32::MAX),
    ];
    for script in scripts {
        from_the_start(script, Some(STALL));
    }
    let (_dir, listener) = listen(Net::Unix);
    serves_the_next(listener);
}

/// Covers a destination that reads and one that does not; neither writes anything.
#[test]
fn times_out_on_a_silent_destination_only_with_a_stall_timeout() {
    let _trial = Trial::new("silent destinations");
    let scripts: [Script; 2] = [wait_unread, until_dropped];
    for script in scripts {
        let error = from_the_start(script, Some(Duration::from_secs(1)));
        assert!(matches!(error, RunError::Stalled { seconds: 1 }), "{error}");
    }
    let control = Control::new().expect("descriptor can be created");
    let stop = control.clone();
    let waiting = thread::spawn(move || {
        let mut core = Source::new(config(None), blocks()).expect("valid configuration");
        let mut dial = Dial {
            break_after: None,
            scripts: [wait_unread as Script].into(),
            good: "unix:/nowhere/at-all".parse().expect("valid address"),
        };
        let mut machine = Still(vec![image()]);
        serve(&mut core, &mut machine, &mut dial, &options(None), &stop)
    });
    control.stop();
    let end = waiting.join().expect("source thread does not panic");
    assert!(matches!(end, Err(RunError::Stopped)), "{end:?}");
}

/// Memory whose sixth page makes the destination send SHUT(1) and disconnect while the source is
/// about to write.
struct Leaving {
    machine: Still<Vec<Vec<u8>>>,
    far: Mutex<Option<UnixStream>>,
}

impl PageSource for Leaving {
    fn read(&self, block: usize, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        self.machine.0.read(block, offset, out)
    }

    fn lend(&self, block: usize, offset: u64, len: usize) -> Option<&[u8]> {
        if offset == 5 * PAGE
            && let Some(mut far) = self.far.lock().expect("not poisoned").take()
        {
            write(&mut far, &message(Message::Shut { value: 1 }));
        }
        self.machine.0.lend(block, offset, len)
    }
}

impl SourceHandler for Leaving {
    fn pages(&self) -> &dyn PageSource {
        self
    }

    fn precopy(&mut self, core: &mut Source) -> Result<(), HandlerError> {
        self.machine.precopy(core)
    }
}

/// A connector with a single link.
struct One(Option<Link>);

impl Connector for One {
    fn connect(&mut self, _: Channel) -> Result<Link, ChannelError> {
        Ok(self.0.take().expect("only one link"))
    }
}

/// Regression: a write failed before the final message was read, so the source treated the end as a
/// broken link. SHUT(0) was lost in the same way.
#[test]
fn reads_the_final_message_after_the_destination_disconnects() {
    let _trial = Trial::new("a final message");
    let (near, far) = UnixStream::pair().expect("descriptors can be created");
    let mut machine = Leaving {
        machine: Still(vec![image()]),
        far: Mutex::new(Some(far)),
    };
    let mut core = Source::new(config(None), blocks()).expect("valid configuration");
    let mut one = One(Some(Link::new(near.into()).expect("socket can be created")));
    let control = Control::new().expect("descriptor can be created");
    let end = serve(&mut core, &mut machine, &mut one, &options(None), &control);
    let gave_up = Error::GaveUp { value: 1 };
    assert!(
        matches!(&end, Err(RunError::Source(error)) if *error == gave_up),
        "{end:?}"
    );
    let (_dir, listener) = listen(Net::Unix);
    serves_the_next(listener);
}
