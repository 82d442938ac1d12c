//! Admission: which of the pending connections becomes a channel, without I/O.
//!
//! Anybody who reaches the listener can connect and send nothing, or something else. Such
//! a connection must neither block the source nor end its migration. So a connection is
//! pending, and bound to nothing, until its whole first message shows that it is the one
//! that is [wanted](Wanted). What can no longer be that is dropped, with a [`Refusal`].
//!
//! Bytes alone do not prove who sent them: whoever imitates a source is taken for one. On
//! unix sockets every channel therefore has to come from the user of the first main
//! channel, or from the one that the embedder names. On TCP nothing authenticates a peer
//! but a session of the embedder's own, such as TLS.
//!
//! The driver admits connections, reports their first bytes with [`Pending::update`], and
//! takes channels. `C` is the driver's handle of a connection; dropping it must close the
//! connection. At most [`MAX_PENDING`] connections are kept, and at most [`HEAD`] bytes of
//! each are looked at.

use std::collections::VecDeque;
use std::fmt;

use retpath_codec::command::{Command, Commands};
use retpath_codec::forward::{self, Decoder, Event};
use retpath_codec::wire::ram;
use retpath_codec::wire::section::MULTIFD_MAGIC;
use retpath_codec::{DecodeError, Decoded, Name, decode};

use super::Destination;
use crate::blocks::Span;

/// Maximum number of pending connections.
pub const MAX_PENDING: usize = 32;

/// Bytes of a connection within which its first message must end: that of a main channel
/// is everything up to its first section, at most a machine type, three subsections and a
/// few commands.
pub const HEAD: usize = 1024;

/// Which connection is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The first main channel: a header and what follows it, up to the first section.
    First,
    /// A main channel in place of a lost one: RECV_BITMAP of a known block. A preempt
    /// channel of the lost one begins with a RAM record.
    Replacement,
    /// The preempt channel: a page that was requested. A connection with another beginning
    /// may be the next main channel, which connects before the loss of this one is
    /// noticed: it stays.
    Preempt,
    /// No connection; all stay.
    Nothing,
}

/// Why a connection was dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// Its bytes are not those of a migration.
    Malformed(DecodeError),
    /// It was closed inside its first message.
    CutShort,
    /// It cannot be read.
    Unreadable {
        /// The cause, as the operating system words it.
        cause: String,
    },
    /// It is part of a migration, but not of this one, or not now.
    Unwanted,
    /// It comes from another user than the source.
    User {
        /// The user, if the connection tells.
        uid: Option<u32>,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(error) => write!(f, "it does not begin like a migration: {error}"),
            Self::CutShort => f.write_str("it was closed inside its first message"),
            Self::Unreadable { cause } => write!(f, "it cannot be read: {cause}"),
            Self::Unwanted => f.write_str("it does not begin like the channel that is awaited"),
            Self::User { uid: Some(uid) } => {
                write!(f, "it comes from user {uid}, who is not the source's")
            }
            Self::User { uid: None } => f.write_str("it does not tell which user it comes from"),
        }
    }
}

enum Verdict {
    Fits,
    Undecided,
    /// The preempt channel, which has ended without a page.
    Ended,
    Refused(Refusal),
}

/// How first messages are judged.
#[derive(Debug)]
struct Judge {
    /// Settings of the decoder of a first main channel.
    stream: forward::Options,
    resumed: bool,
}

impl Judge {
    fn judge<C>(&self, wanted: Wanted, one: &Connection<C>, core: &Destination) -> Verdict {
        let (head, is_last) = (&one.head[..], one.is_last);
        let verdict = match wanted {
            Wanted::First => self.first(head),
            Wanted::Replacement => replacement(core, head, is_last),
            Wanted::Preempt => self.preempt(core, head),
            Wanted::Nothing => return Verdict::Undecided,
        };
        match verdict {
            Verdict::Undecided if is_last => Verdict::Refused(Refusal::CutShort),
            verdict => verdict,
        }
    }

    fn first(&self, head: &[u8]) -> Verdict {
        // A multifd channel may speak before the main one.
        if is_multifd(head) {
            return Verdict::Undecided;
        }
        let mut decoder = Decoder::new(self.stream.clone());
        let mut rest = head;
        loop {
            match decoder.next(rest) {
                Ok(forward::Decoded::Event { event, size }) => {
                    match event {
                        Event::Section { .. } => return Verdict::Fits,
                        Event::Eof => return Verdict::Refused(Refusal::Unwanted),
                        _ => {}
                    }
                    rest = rest.get(size..).unwrap_or_default();
                }
                Ok(forward::Decoded::Need(_)) if head.len() < HEAD => return Verdict::Undecided,
                Ok(forward::Decoded::Need(_)) => return Verdict::Refused(Refusal::Unwanted),
                Err(error) => return Verdict::Refused(Refusal::Malformed(error)),
            }
        }
    }

    fn preempt(&self, core: &Destination, head: &[u8]) -> Verdict {
        let Some((word, rest)) = head.split_first_chunk::<8>() else {
            return Verdict::Undecided;
        };
        let blocks = core.blocks();
        let word = u64::from_be_bytes(*word);
        let offset = word & !(blocks.target() - 1);
        match word ^ offset {
            _ if head[0] != 0 => return Verdict::Undecided,
            ram::EOS => return Verdict::Ended,
            ram::PAGE | ram::ZERO => {}
            _ => return Verdict::Refused(Refusal::Unwanted),
        }
        let name = rest.split_first();
        let name = name.and_then(|(size, rest)| rest.get(..usize::from(*size)));
        let id = name.and_then(|name| blocks.find(Name::new(name).ok()?));
        let Some((id, block)) = id.and_then(|id| Some((id, blocks.block(id).ok()?))) else {
            return Verdict::Undecided;
        };
        let pages = core.pages();
        let span = Span {
            block: id,
            offset: offset - offset % block.page,
            len: block.page,
        };
        let is_awaited = offset < block.len
            && match self.resumed {
                true => !pages.is_received(id, offset),
                false => pages.requested_in(span).next().is_some(),
            };
        match is_awaited {
            true => Verdict::Fits,
            false => Verdict::Undecided,
        }
    }
}

fn replacement(core: &Destination, head: &[u8], is_last: bool) -> Verdict {
    if head.first() == Some(&0) {
        return Verdict::Refused(Refusal::Unwanted);
    }
    match decode::<Commands>(head) {
        // It could not be answered.
        Ok(_) if is_last => Verdict::Undecided,
        Ok(Decoded::Need(_)) if head.len() < HEAD => Verdict::Undecided,
        Ok(Decoded::Message {
            message: Command::RecvBitmap { block },
            ..
        }) if core.blocks().find(block).is_some() => Verdict::Fits,
        Ok(_) => Verdict::Refused(Refusal::Unwanted),
        Err(error) => Verdict::Refused(Refusal::Malformed(error)),
    }
}

/// Whether these are the first bytes of a multifd channel.
fn is_multifd(head: &[u8]) -> bool {
    head.starts_with(&MULTIFD_MAGIC.to_be_bytes())
}

/// Connections that are bound to nothing yet, oldest first.
#[derive(Debug)]
pub struct Pending<C> {
    wanted: Wanted,
    judge: Judge,
    /// The user from whom every connection has to come, once that is known; `None` in it
    /// if the connections do not tell.
    user: Option<Option<u32>>,
    connections: VecDeque<Connection<C>>,
}

#[derive(Debug)]
struct Connection<C> {
    handle: C,
    user: Option<u32>,
    head: Vec<u8>,
    /// Whether the peer has closed its side behind `head`.
    is_last: bool,
}

impl<C> Pending<C> {
    /// No connections, of which one is wanted. With `user`, connections of others are
    /// refused, as are those that do not tell; otherwise those of others than the first
    /// main channel's user. `stream` is for the decoder of a first main channel.
    /// `resumed`: another process may have requested pages, so that any missing page can
    /// be the first one of the preempt channel.
    pub fn new(wanted: Wanted, user: Option<u32>, stream: forward::Options, resumed: bool) -> Self {
        Self {
            wanted,
            judge: Judge { stream, resumed },
            user: user.map(Some),
            connections: VecDeque::new(),
        }
    }

    /// Sets which connection is wanted now.
    pub fn want(&mut self, wanted: Wanted) {
        self.wanted = wanted;
    }

    /// Which connection is wanted.
    pub fn wanted(&self) -> Wanted {
        self.wanted
    }

    /// Adds a connection of a user. If there are too many, it replaces the oldest of those
    /// that have sent the least.
    pub fn admit(&mut self, handle: C, user: Option<u32>) -> Option<Refusal> {
        if self.user.is_some_and(|known| known != user) {
            return Some(Refusal::User { uid: user });
        }
        if self.is_full() {
            let sent = |(_, one): &(usize, &Connection<C>)| one.head.len();
            let least = self.connections.iter().enumerate().min_by_key(sent);
            let at = least.map_or(0, |(at, _)| at);
            self.connections.remove(at);
        }
        self.connections.push_back(Connection {
            handle,
            user,
            head: Vec::new(),
            is_last: false,
        });
        None
    }

    /// Whether the next connection replaces a pending one.
    pub fn is_full(&self) -> bool {
        self.connections.len() >= MAX_PENDING
    }

    /// Whether there are no connections.
    pub fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    /// Drops all connections.
    pub fn clear(&mut self) {
        self.connections.clear();
    }

    /// Looks at what has arrived on each connection. `peek` copies the first bytes, and
    /// returns how many there are and whether the peer has closed its side behind them;
    /// `None` if it has closed without data, which drops the connection, as does a refusal.
    pub fn update(
        &mut self,
        mut peek: impl FnMut(&C, &mut [u8; HEAD]) -> Result<Option<(usize, bool)>, Refusal>,
        mut refused: impl FnMut(&Refusal),
    ) {
        let mut head = [0; HEAD];
        self.connections.retain_mut(|one| {
            let (len, is_last) = match peek(&one.handle, &mut head) {
                Ok(Some(arrived)) => arrived,
                Ok(None) => return false,
                Err(why) => {
                    refused(&why);
                    return false;
                }
            };
            if len != one.head.len() {
                one.head = head[..len].to_vec();
            }
            one.is_last = is_last;
            true
        });
    }

    /// The connections of which more has to be read.
    pub fn unread(&self) -> impl Iterator<Item = &C> {
        let unread = |one: &&Connection<C>| one.head.len() < HEAD && !one.is_last;
        self.connections
            .iter()
            .filter(unread)
            .map(|one| &one.handle)
    }

    /// Takes the oldest connection that is the wanted one, and drops those before it that
    /// cannot be.
    pub fn take(&mut self, core: &Destination, mut refused: impl FnMut(Refusal)) -> Option<C> {
        let mut at = 0;
        while let Some(one) = self.connections.get(at) {
            match self.judge.judge(self.wanted, one, core) {
                Verdict::Undecided | Verdict::Ended => at += 1,
                Verdict::Refused(why) => {
                    self.connections.remove(at);
                    refused(why);
                }
                Verdict::Fits => {
                    let one = self.connections.remove(at)?;
                    self.bind(one.user, refused);
                    return Some(one.handle);
                }
            }
        }
        None
    }

    /// Binds the migration to the user of a channel.
    fn bind(&mut self, user: Option<u32>, mut refused: impl FnMut(Refusal)) {
        self.user = Some(user);
        self.connections.retain(|one| {
            let is_same = one.user == user;
            if !is_same {
                refused(Refusal::User { uid: one.user });
            }
            is_same
        });
    }

    /// Whether another connection could take the place of a replacement.
    pub fn has_rival(&self, core: &Destination) -> bool {
        let mut all = self.connections.iter();
        all.any(|one| {
            let verdict = self.judge.judge(Wanted::Replacement, one, core);
            matches!(verdict, Verdict::Fits)
        })
    }

    /// Drops preempt channels that have ended without a page; returns whether there were
    /// any.
    pub fn drop_ended(&mut self, core: &Destination) -> bool {
        let before = self.connections.len();
        self.connections.retain(|one| {
            let verdict = self.judge.judge(Wanted::Preempt, one, core);
            !matches!(verdict, Verdict::Ended)
        });
        self.connections.len() < before
    }

    /// Whether one of them is a multifd channel.
    pub fn has_multifd(&self) -> bool {
        self.connections.iter().any(|one| is_multifd(&one.head))
    }
}

#[cfg(test)]
mod tests;
