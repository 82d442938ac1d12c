//! A listener that fails for a while, as when descriptors are short.

use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::thread;

use retpath_engine::blocks::{Block, BlockId};
use retpath_engine::destination::Phase;
use retpath_engine::driver::{Control, DestinationHandler, HandlerError, receive};
use retpath_engine::memory::Memory;
use retpath_engine::socket::{Accept, ChannelError, Link, Listener};
use retpath_engine::source::{Preempt, Source};

use super::trial::Trial;
use retpath_support::loops::{Dial, Net, listen, receive_options};
use retpath_support::receiver::serve_by;
use retpath_support::wire::{PAGE, PAGES, blocks, config};

/// Failures before each connection.
const FAILURES: usize = 4;

/// A listener that fails [`FAILURES`] times before each connection.
struct Failing {
    listener: Listener,
    left: usize,
}

impl Accept for Failing {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.listener.fd()
    }

    fn accept(&mut self) -> Result<Option<Link>, ChannelError> {
        if self.left > 0 {
            self.left -= 1;
            return Err(ChannelError::Other("no descriptor is left".into()));
        }
        let accepted = self.listener.accept()?;
        if accepted.is_some() {
            self.left = FAILURES;
        }
        Ok(accepted)
    }
}

/// Requests every page once the guest may run.
struct Requesting {
    missing: Range<u64>,
    runs: bool,
    failed: usize,
    preempt: usize,
}

impl DestinationHandler for Requesting {
    fn memory(&mut self, _: &Block, _: u64) -> Result<Option<Arc<Memory>>, HandlerError> {
        Ok(None)
    }

    fn run(&mut self) {
        self.runs = true;
    }

    fn fault(&mut self) -> Option<(BlockId, u64)> {
        let page = if self.runs {
            self.missing.next_back()?
        } else {
            return None;
        };
        Some((0, page * PAGE))
    }

    fn accept_failed(&mut self, _: &ChannelError) {
        self.failed += 1;
    }

    fn preempt(&mut self) {
        self.preempt += 1;
    }
}

#[test]
fn goes_on_when_connections_cannot_be_accepted_for_a_while() {
    let _trial = Trial::new("a listener that fails");
    for preempt in [None, Some(Preempt::Late), Some(Preempt::Early)] {
        let (_dir, listener) = listen(Net::Unix);
        let address = listener.address().clone();
        let destination = thread::spawn(move || {
            let mut listener = Failing {
                listener,
                left: FAILURES,
            };
            let mut handler = Requesting {
                missing: 0..PAGES,
                runs: false,
                failed: 0,
                preempt: 0,
            };
            let control = Control::new().expect("a descriptor");
            let options = receive_options(preempt.is_some());
            let core = receive(&mut listener, &mut handler, options, &control).expect("received");
            (core, handler)
        });
        // Throttled, so that requested pages use the preempt channel.
        let config = config(preempt).bandwidth(1);
        let core = Source::new(config, blocks()).expect("valid configuration");
        serve_by(core, &mut Dial(address));
        let (core, handler) = destination.join().expect("no panic");
        assert_eq!(core.phase(), Phase::Finished);
        assert_eq!(core.stats().pauses, 0);
        assert_eq!(handler.preempt, usize::from(preempt.is_some()));
        let connections = 1 + handler.preempt;
        assert!(
            handler.failed >= FAILURES * connections,
            "{}",
            handler.failed
        );
    }
}
