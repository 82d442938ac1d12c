//! Destinations that close a preempt channel before anything was sent on it.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use retpath_codec::bitmap::{self, Bitmap};
use retpath_codec::{BlockName, Encode, Message};
use retpath_engine::Channel;
use retpath_engine::driver::{
    Connector, Control, HandlerError, RunError, ServeOptions, SourceHandler, serve,
};
use retpath_engine::socket::{ChannelError, Link};
use retpath_engine::source::{PageSource, Preempt, Source, SourcePhase};

use super::trial::Trial;
use retpath_support::loops::Still;
use retpath_support::wire::{blocks, config, image, name, question};

/// The source's ends of the main and the preempt channel.
struct Dial(VecDeque<Link>);

impl Connector for Dial {
    fn connect(&mut self, _: Channel) -> Result<Link, ChannelError> {
        Ok(self.0.pop_front().expect("two channels"))
    }
}

/// A source handler that keeps the loop busy while the destination closes its ends.
struct Busy {
    machine: Still<Vec<Vec<u8>>>,
    stopped: Sender<()>,
    closed: Receiver<()>,
    refused: usize,
}

impl SourceHandler for Busy {
    fn pages(&self) -> &dyn PageSource {
        self.machine.pages()
    }

    fn precopy(&mut self, _: &mut Source) -> Result<(), HandlerError> {
        unreachable!("the guest has left")
    }

    fn progress(&mut self, core: &Source) {
        if core.phase() == SourcePhase::Resuming && self.stopped.send(()).is_ok() {
            let _ = self.closed.recv();
        }
    }

    fn preempt_refused(&mut self) {
        self.refused += 1;
    }

    fn broken(&mut self, _: &Source, _: &RunError) -> bool {
        false
    }
}

/// Resumes a migration whose destination closes the preempt channel, and with `both` the
/// main channel first. Returns how often the embedder was told that the preempt channel
/// is refused, and the kind that the next link gets.
fn resume(both: bool) -> (usize, Option<Preempt>) {
    let [(near_main, mut main), (near_preempt, preempt)] =
        [(); 2].map(|()| UnixStream::pair().expect("descriptors can be created"));
    let links = [near_main, near_preempt]
        .map(|near| Link::new(near.into()).expect("socket can be created"));
    let (stopped, wait_stopped) = channel();
    let (closed, wait_closed) = channel();
    let destination = thread::spawn(move || {
        let mut bytes = question();
        main.read_exact(&mut bytes).expect("the question");
        let mut answer = Vec::new();
        let name = name();
        let block = name.name();
        let message = Message::RecvBitmap { block };
        message.encode(&mut answer).expect("valid message");
        bitmap::encode(Bitmap::new(&[0; 8]), &mut answer).expect("valid size");
        main.write_all(&answer).expect("the source reads");
        // POSTCOPY_RESUME and PING 4.
        main.read_exact(&mut [0; 5 + 9]).expect("it resumes");
        wait_stopped.recv().expect("the source runs");
        let mut answer = Vec::new();
        let pong = Message::<retpath_codec::Name<'_>>::Pong { value: 1 };
        pong.encode(&mut answer).expect("valid message");
        main.write_all(&answer).expect("the source is there");
        if both {
            drop((main, preempt));
            closed.send(()).expect("the source waits");
            return;
        }
        drop(preempt);
        closed.send(()).expect("the source waits");
        // The next call comes after the source has polled the preempt channel.
        wait_stopped.recv().expect("the source runs");
        drop(main);
        closed.send(()).expect("the source waits");
    });
    let config = config(Some(Preempt::Late)).probe(true);
    let mut core = Source::taking_over(config, blocks()).expect("valid configuration");
    let mut machine = Busy {
        machine: Still(vec![image()]),
        stopped,
        closed: wait_closed,
        refused: 0,
    };
    let mut dial = Dial(links.into());
    let (options, control) = (ServeOptions::default(), Control::new());
    let control = control.expect("descriptor can be created");
    let end = serve(&mut core, &mut machine, &mut dial, &options, &control);
    assert!(matches!(end, Err(RunError::Closed)), "{end:?}");
    destination.join().expect("thread does not panic");
    (machine.refused, core.preempt())
}

#[test]
fn a_lost_link_does_not_disable_the_preempt_capability() {
    let _trial = Trial::new("both channels closed");
    assert_eq!(resume(true), (0, Some(Preempt::Late)));
}

#[test]
fn a_preempt_channel_that_is_closed_alone_is_refused() {
    let _trial = Trial::new("preempt channel closed");
    assert_eq!(resume(false), (1, None));
}

/// A machine that counts the turns in which the loop looks for something to send after
/// everything has been sent.
struct Counting {
    machine: Still<Vec<Vec<u8>>>,
    looked: Cell<u64>,
    ticks: u64,
    /// Tells the destination to end the migration.
    enough: Sender<()>,
}

impl SourceHandler for Counting {
    fn pages(&self) -> &dyn PageSource {
        self.looked.set(self.looked.get() + 1);
        self.machine.pages()
    }

    fn precopy(&mut self, core: &mut Source) -> Result<(), HandlerError> {
        self.machine.precopy(core)
    }

    fn progress(&mut self, core: &Source) {
        if core.phase() != SourcePhase::Completing {
            return;
        }
        match self.ticks {
            0 => self.looked.set(0),
            3 => self.enough.send(()).expect("the destination waits"),
            _ => {}
        }
        self.ticks += 1;
    }
}

/// As QEMU does before it sends SHUT.
#[test]
fn does_not_spin_when_the_preempt_channel_is_closed_at_the_end() {
    let _trial = Trial::new("preempt channel closed at the end");
    let [(near_main, mut main), (near_preempt, preempt)] =
        [(); 2].map(|()| UnixStream::pair().expect("descriptors"));
    let links = [near_main, near_preempt].map(|near| Link::new(near.into()).expect("a socket"));
    drop(preempt);
    let message = |message: Message<retpath_codec::Name<'_>>| {
        let mut bytes = Vec::new();
        message.encode(&mut bytes).expect("a good message");
        bytes
    };
    main.write_all(&message(Message::Pong { value: 1 }))
        .expect("room");
    let mut reader = main.try_clone().expect("a descriptor");
    let reader = thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()));
    let (enough, ended) = channel();
    let destination = thread::spawn(move || {
        ended.recv().expect("the source waits for SHUT");
        main.write_all(&message(Message::Shut { value: 0 }))
            .expect("the source is there");
    });
    let mut core = Source::new(config(Some(Preempt::Late)), blocks()).expect("good");
    let mut machine = Counting {
        machine: Still(vec![image()]),
        looked: Cell::new(0),
        ticks: 0,
        enough,
    };
    let (options, control) = (ServeOptions::default(), Control::new());
    let control = control.expect("a descriptor");
    let mut dial = Dial(links.into());
    serve(&mut core, &mut machine, &mut dial, &options, &control).expect("served");
    drop(dial);
    destination.join().expect("no panic");
    reader.join().expect("no panic").expect("read");
    let looked = machine.looked.get();
    assert!(looked < 100, "looked {looked} times");
}
