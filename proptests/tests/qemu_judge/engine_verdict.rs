//! This project's verdict on a return path: that of the codec's stream, and of
//! the engine's source for rules that depend on state.

use retpath_codec::stream::{Item, Stream};
use retpath_codec::{DecodeError, Message, Name, Qemu};
use retpath_engine::Channel;
use retpath_engine::blocks::{BlockError, Blocks};
use retpath_engine::source::{Cause, Config, Error, Next, Source, SourcePhase};

use crate::verdict::{Accepted, End, Fault, Verdict};

/// The stage of the migration at which the return path is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Before the switch.
    Precopy,
    /// After all pages were sent, while SHUT is awaited.
    Postcopy,
    /// In a recovery.
    Recovery {
        /// Whether all pages were sent before the link broke.
        sent: bool,
    },
}

/// The blocks named last.
#[derive(Default)]
struct Names {
    /// By a request.
    asked: Vec<u8>,
    /// By a RECV_BITMAP whose bitmap has not arrived.
    coming: Option<Vec<u8>>,
}

/// A source core that reads a return path.
pub(crate) struct EngineSource {
    source: Source,
    stream: Stream<Qemu>,
    names: Names,
    verdict: Verdict,
}

impl EngineSource {
    /// Creates a source of these blocks at the given stage.
    pub(crate) fn new(blocks: &Blocks, stage: Stage) -> Self {
        let config = Config::new("pc").switchover_ack(stage == Stage::Precopy);
        let source = Source::new(config, blocks.clone()).expect("QEMU's blocks are valid");
        let mut engine = Self {
            source,
            stream: Stream::new(0),
            names: Names::default(),
            verdict: Verdict {
                taken: Vec::new(),
                end: End::Open,
            },
        };
        while engine.source.phase() == SourcePhase::Fresh {
            engine.step();
        }
        if stage != Stage::Precopy {
            engine.switch();
        }
        match stage {
            Stage::Precopy => {}
            Stage::Postcopy => engine.run(),
            Stage::Recovery { sent } => {
                if sent {
                    engine.run();
                }
                engine.source.link_lost().expect("phase is postcopy");
                engine.source.resume(0).expect("phase is paused");
                engine.run();
            }
        }
        engine
    }

    fn switch(&mut self) {
        self.source.switch(Vec::new()).expect("phase is precopy");
        while self.source.phase() == SourcePhase::Switching {
            self.step();
        }
    }

    fn step(&mut self) -> Next {
        self.source.next(Channel::Main, 0, &mut Vec::new())
    }

    /// Sends everything that can be sent.
    fn run(&mut self) {
        while !matches!(self.step(), Next::Wait { .. } | Next::Stop) {}
    }

    /// Reads further bytes of the return path.
    pub(crate) fn read(&mut self, mut bytes: &[u8]) {
        while !self.has_refused() {
            match self.stream.next(&mut bytes) {
                Ok(None) => return,
                Err(error) => self.verdict.end = End::Refused(malformed(&error)),
                Ok(Some(item)) => {
                    let accepted = self.names.accepted(&item);
                    match self.source.message(item, 0) {
                        // A failure reported by the destination does not invalidate the message.
                        Ok(()) | Err(Error::GaveUp { .. }) => self.take(accepted),
                        Err(error) => self.verdict.end = End::Refused(refused(&error)),
                    }
                    self.run();
                    self.stream.limit_bitmap(self.source.recv_bitmap_limit());
                }
            }
        }
    }

    fn take(&mut self, accepted: Option<Accepted>) {
        if let Some(Accepted::Shut(_)) = accepted {
            self.verdict.end = End::Shut;
        }
        self.verdict.taken.extend(accepted);
    }

    /// Whether the verdict needs more bytes.
    pub(crate) fn is_waiting(&self) -> bool {
        self.verdict.end == End::Open
            && (self.names.coming.is_some() || self.stream.finish().is_err())
    }

    /// Whether this source refused a message, while QEMU may read on.
    pub(crate) fn has_refused(&self) -> bool {
        matches!(self.verdict.end, End::Refused(_))
    }

    /// Returns the verdict; `closed` tells whether the return path was closed.
    pub(crate) fn finish(mut self, closed: bool) -> Verdict {
        if closed && self.verdict.end == End::Open {
            let fault = match self.stream.finish() {
                Err(error) => malformed(&error),
                Ok(()) => Fault {
                    label: "",
                    rule: "closed",
                    why: "the link is lost".into(),
                },
            };
            self.verdict.end = End::Refused(fault);
        }
        self.verdict
    }
}

impl Names {
    /// Converts an item. A RECV_BITMAP yields nothing until its bitmap arrives.
    fn accepted(&mut self, item: &Item<'_, Message<Name<'_>>>) -> Option<Accepted> {
        let Item::Message { message, .. } = item else {
            return self.coming.take().map(Accepted::Bitmap);
        };
        Some(match *message {
            Message::Shut { value } => Accepted::Shut(value),
            Message::Pong { value } => Accepted::Pong(value),
            Message::ReqPagesId { start, len, block } => {
                self.asked = block.as_bytes().into();
                self.request(true, start, len)
            }
            Message::ReqPages { start, len } => self.request(false, start, len),
            Message::RecvBitmap { block } => {
                self.coming = Some(block.as_bytes().into());
                return None;
            }
            Message::ResumeAck => Accepted::ResumeAck,
            Message::SwitchoverAck => Accepted::SwitchoverAck,
            // What QEMU traces of it is not known here: only its effect is compared.
            #[allow(unreachable_patterns, reason = "until the table has more messages")]
            _ => return None,
        })
    }

    fn request(&self, named: bool, start: u64, len: u32) -> Accepted {
        Accepted::Request {
            named,
            block: self.asked.clone(),
            start,
            len: len.into(),
        }
    }
}

fn malformed(error: &DecodeError) -> Fault {
    let rule = error.rule.name();
    let last = if rule == "after-shut" { "SHUT" } else { "" };
    Fault {
        label: error.message.unwrap_or(last),
        rule,
        why: error.to_string(),
    }
}

fn refused(error: &Error) -> Fault {
    let Error::Refused { message, cause, .. } = error else {
        panic!("unexpected error for a message: {error}");
    };
    let rule = match cause {
        Cause::Phase(_) => "phase",
        Cause::Unasked => "unasked",
        Cause::UnknownBlock(_) => "unknown-block",
        Cause::NoBlock => "no-block",
        Cause::Range { error, .. } => match error {
            BlockError::Unaligned { .. } => "misaligned",
            BlockError::Empty => "zero",
            _ => "past-block",
        },
        Cause::Order => "order",
        Cause::Bitmap { rule, .. } => rule.name(),
        Cause::NeverSent { .. } => "never-sent",
        Cause::HalfPage { .. } => "half-page",
        Cause::EarlyShut { .. } => "early-shut",
        other => panic!("unexpected cause: {other}"),
    };
    Fault {
        label: message,
        rule,
        why: error.to_string(),
    }
}
