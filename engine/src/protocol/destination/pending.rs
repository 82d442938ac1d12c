//! Admission: which of the pending connections becomes a channel, without I/O.
//!
//! Anybody who reaches the listener can connect and send nothing, or something else. Such
//! a connection must not block the source. So connections are pending until their first
//! bytes show what they are: the oldest one that [fits](Wanted) is taken.
//!
//! The driver admits connections, reports their first bytes with [`Pending::update`]
//! (`recv` with `MSG_PEEK`: the bytes stay in the socket), and takes channels. `C` is the
//! driver's handle of a connection; dropping it must close the connection.
//!
//! At most [`MAX_PENDING`] connections are kept, and at most [`HEADER`] bytes of each are
//! looked at. Nothing here fails.

use std::collections::VecDeque;

use retpath_codec::wire::section::MULTIFD_MAGIC;

/// The first bytes of a multifd channel.
const MULTIFD: [u8; 4] = MULTIFD_MAGIC.to_be_bytes();

/// Maximum number of pending connections.
pub const MAX_PENDING: usize = 32;

/// Bytes of a stream's header, with which a decoder can tell whether it is a migration.
pub const HEADER: usize = 8;

/// Which connection is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The first main channel: it begins with a header. Whether that is valid is for the
    /// decoder to tell. Another beginning that is complete fits, too, but for a multifd
    /// channel, which may speak before the main one.
    First,
    /// A main channel in place of a lost one: it begins with a command. A preempt channel
    /// of the lost one begins with a RAM record, whose first byte is 0.
    Replacement,
    /// The preempt channel: it begins with a RAM record, once a page is requested. A
    /// connection with another beginning may be the next main channel, which connects
    /// before the loss of this one is noticed: it stays.
    Preempt,
    /// No connection.
    Nothing,
}

/// What has arrived on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peek {
    /// Nothing yet.
    Nothing,
    /// These are the first bytes.
    Bytes {
        /// The bytes, followed by zeros.
        head: [u8; HEADER],
        /// How many there are; at least 1.
        len: usize,
        /// Whether the peer has closed the connection, so that no more will come.
        is_last: bool,
    },
    /// The peer has closed the connection without sending data.
    Closed,
}

/// What the driver has to wait for on a pending connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Data, or that the peer closes the connection. If it is the wanted one, the data has
    /// arrived and may be buffered: [`Pending::take`] it.
    Readable,
    /// That the peer closes the connection. There is data, which would wake the driver
    /// again and again.
    Close,
    /// Nothing: it cannot fit before the main channel is lost.
    Nothing,
}

/// Connections that are not identified yet, oldest first.
#[derive(Debug)]
pub struct Pending<C> {
    wanted: Wanted,
    connections: VecDeque<Connection<C>>,
}

#[derive(Debug)]
struct Connection<C> {
    handle: C,
    peek: Peek,
}

impl<C> Connection<C> {
    fn fits(&self, wanted: Wanted) -> bool {
        let Peek::Bytes { head, len, is_last } = self.peek else {
            return false;
        };
        match wanted {
            Wanted::First => len >= HEADER && !head.starts_with(&MULTIFD) || is_last,
            Wanted::Replacement => head[0] != 0,
            Wanted::Preempt => head[0] == 0,
            Wanted::Nothing => false,
        }
    }
}

impl<C> Pending<C> {
    /// No connections, of which one is wanted.
    pub fn new(wanted: Wanted) -> Self {
        Self {
            wanted,
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

    /// Whether to accept more connections. For a main channel they replace the oldest
    /// pending ones; behind one, the queue of the listener keeps them.
    pub fn has_room(&self) -> bool {
        match self.wanted {
            Wanted::First | Wanted::Replacement => true,
            Wanted::Preempt => self.connections.len() < MAX_PENDING,
            Wanted::Nothing => false,
        }
    }

    /// Adds a connection. Returns the oldest one if there are too many: close it.
    pub fn admit(&mut self, handle: C) -> Option<C> {
        let oldest = match self.connections.len() >= MAX_PENDING {
            true => self.connections.pop_front(),
            false => None,
        };
        let peek = Peek::Nothing;
        self.connections.push_back(Connection { handle, peek });
        oldest.map(|connection| connection.handle)
    }

    /// Whether there are no connections.
    pub fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    /// Drops all connections.
    pub fn clear(&mut self) {
        self.connections.clear();
    }

    /// Reports what has arrived on each connection. Drops those that were closed without
    /// data.
    pub fn update(&mut self, mut peek: impl FnMut(&C) -> Peek) {
        self.connections.retain_mut(|connection| {
            connection.peek = peek(&connection.handle);
            connection.peek != Peek::Closed
        });
    }

    /// What to wait for on which connection.
    pub fn interests(&self) -> impl Iterator<Item = (&C, Interest)> {
        self.connections.iter().map(|connection| {
            let interest = match (connection.peek, self.wanted) {
                (Peek::Nothing | Peek::Closed, _) => Interest::Readable,
                // Its first bytes were seen before the wanted connection could be taken.
                (_, Wanted::Preempt) if connection.fits(self.wanted) => Interest::Readable,
                (Peek::Bytes { .. }, Wanted::First | Wanted::Replacement) => Interest::Close,
                (Peek::Bytes { .. }, Wanted::Preempt | Wanted::Nothing) => Interest::Nothing,
            };
            (&connection.handle, interest)
        })
    }

    /// Takes the oldest connection that is the wanted one. A main channel replaces all
    /// older connections; connections that cannot become a replacement are dropped.
    pub fn take(&mut self) -> Option<C> {
        let wanted = self.wanted;
        let at = self.connections.iter().position(|one| one.fits(wanted));
        match (wanted, at) {
            (Wanted::First | Wanted::Replacement, Some(at)) => {
                self.connections.drain(..at);
                self.connections.pop_front().map(|one| one.handle)
            }
            (_, Some(at)) => self.connections.remove(at).map(|one| one.handle),
            (Wanted::Replacement, None) => {
                self.connections.retain(|one| one.peek == Peek::Nothing);
                None
            }
            (_, None) => None,
        }
    }

    /// Whether one of them is a multifd channel.
    pub fn has_multifd(&self) -> bool {
        let head = |one: &Connection<C>| match one.peek {
            Peek::Bytes { head, .. } => head.starts_with(&MULTIFD),
            Peek::Nothing | Peek::Closed => false,
        };
        self.connections.iter().any(head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(sent: &[u8]) -> Peek {
        let len = sent.len().min(HEADER);
        let mut head = [0; HEADER];
        head[..len].copy_from_slice(&sent[..len]);
        match len {
            0 => Peek::Nothing,
            _ => Peek::Bytes {
                head,
                len,
                is_last: false,
            },
        }
    }

    fn closed(sent: &[u8]) -> Peek {
        match bytes(sent) {
            Peek::Bytes { head, len, .. } => Peek::Bytes {
                head,
                len,
                is_last: true,
            },
            _ => Peek::Closed,
        }
    }

    /// Connections by number, with what has arrived on them.
    fn pending(wanted: Wanted, peeks: &[Peek]) -> Pending<usize> {
        let mut pending = Pending::new(wanted);
        for number in 0..peeks.len() {
            assert_eq!(pending.admit(number), None);
        }
        pending.update(|number| peeks[*number]);
        pending
    }

    fn left(pending: &Pending<usize>) -> Vec<usize> {
        pending.interests().map(|(number, _)| *number).collect()
    }

    #[test]
    fn takes_a_main_channel_once_its_header_is_complete() {
        let mut header = Vec::new();
        retpath_codec::forward::write::header(&mut header);
        assert_eq!(header.len(), HEADER);
        let mut pending = pending(Wanted::First, &[Peek::Nothing]);
        for len in 0..HEADER {
            pending.update(|_| bytes(&header[..len]));
            assert_eq!(pending.take(), None, "{len} bytes");
        }
        pending.update(|_| bytes(&header));
        assert_eq!(pending.take(), Some(0));
    }

    #[test]
    fn leaves_other_streams_to_the_decoder() {
        for peek in [
            bytes(b"GET / HTTP"),
            bytes(b"QEVM\0\0\0\x09"),
            closed(b"x"),
            closed(b"QEV"),
        ] {
            assert_eq!(pending(Wanted::First, &[peek]).take(), Some(0), "{peek:?}");
        }
    }

    #[test]
    fn drops_connections_older_than_the_main_channel_and_keeps_younger_ones() {
        let peeks = [
            bytes(b""),
            closed(b""),
            bytes(b"\x08"),
            bytes(b""),
            bytes(b""),
        ];
        let mut pending = pending(Wanted::Replacement, &peeks);
        assert_eq!(left(&pending), [0, 2, 3, 4]);
        assert_eq!(pending.take(), Some(2));
        assert_eq!(left(&pending), [3, 4]);
    }

    #[test]
    fn finds_a_late_preempt_channel_by_its_first_record() {
        let mut peeks = [bytes(b""), bytes(b"\x08\x09"), bytes(b""), closed(b"")];
        let mut pending = pending(Wanted::Preempt, &peeks);
        assert_eq!(pending.take(), None);
        peeks[2] = bytes(&[0]);
        pending.update(|number| peeks[*number]);
        assert_eq!(pending.take(), Some(2));
        assert_eq!(pending.take(), None);
        // The next main channel is there already.
        pending.want(Wanted::Replacement);
        assert_eq!(pending.take(), Some(1));
        assert!(pending.is_empty());
    }

    #[test]
    fn wakes_for_a_preempt_channel_that_was_seen_before_it_could_be_taken() {
        let peeks = [bytes(b"\x08"), bytes(&[0; 8])];
        let mut pending = pending(Wanted::Preempt, &peeks);
        assert!(!pending.has_multifd());
        let interests: Vec<_> = pending.interests().map(|(_, interest)| interest).collect();
        assert_eq!(interests, [Interest::Nothing, Interest::Readable]);
        assert_eq!(pending.take(), Some(1));
    }

    #[test]
    fn refuses_a_page_of_a_lost_channel_as_a_replacement() {
        let mut pending = pending(Wanted::Replacement, &[bytes(&[0; 8])]);
        assert_eq!(pending.take(), None);
        assert!(pending.is_empty());
    }

    #[test]
    fn keeps_the_preempt_channel_that_comes_with_a_replacement() {
        let mut pending = pending(Wanted::Replacement, &[bytes(b"\x08"), bytes(&[0; 8])]);
        assert_eq!(pending.take(), Some(0));
        pending.want(Wanted::Preempt);
        assert_eq!(pending.take(), Some(1));
    }

    #[test]
    fn detects_a_multifd_channel_and_never_takes_it_for_the_main_one() {
        let others = [bytes(&[0; 8]), bytes(b""), bytes(&MULTIFD[..3])];
        assert!(!pending(Wanted::Preempt, &others).has_multifd());
        let multifd = bytes(&[0x11, 0x22, 0x33, 0x44, 0, 0, 0, 1, 2]);
        let mut pending = pending(Wanted::First, &[bytes(b""), multifd]);
        assert!(pending.has_multifd());
        assert_eq!(pending.take(), None);
        pending.clear();
        assert!(!pending.has_multifd() && pending.is_empty());
    }

    #[test]
    fn evicts_the_oldest_of_32_silent_strangers() {
        let mut pending = Pending::new(Wanted::First);
        let evicted: Vec<usize> = (0..1000).filter_map(|one| pending.admit(one)).collect();
        assert_eq!(evicted, (0..1000 - MAX_PENDING).collect::<Vec<_>>());
        assert_eq!(
            left(&pending),
            (1000 - MAX_PENDING..1000).collect::<Vec<_>>()
        );
        assert!(pending.has_room(), "the source may be the next one");
        pending.want(Wanted::Preempt);
        assert!(
            !pending.has_room(),
            "one of them may be the preempt channel"
        );
        pending.want(Wanted::Nothing);
        pending.clear();
        assert!(!pending.has_room());
    }

    #[test]
    fn does_not_wake_again_for_bytes_that_were_seen() {
        let peeks = [bytes(b"QE"), bytes(b"")];
        for (wanted, interest) in [
            (Wanted::First, Interest::Close),
            (Wanted::Replacement, Interest::Close),
            (Wanted::Preempt, Interest::Nothing),
        ] {
            let pending = pending(wanted, &peeks);
            let interests: Vec<_> = pending.interests().map(|(_, interest)| interest).collect();
            assert_eq!(interests, [interest, Interest::Readable]);
        }
    }
}
