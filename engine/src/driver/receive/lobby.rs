//! Connections that have not shown yet what they are.
//!
//! Whoever reaches the listener can connect, and say nothing or go away. Such
//! a connection must not keep the source out, so while there is no main link
//! they all wait here, and the first one with something to say becomes it.
//!
//! The preempt channel says nothing before the first page is requested, so
//! those that came behind the main link wait, too, until one of them begins
//! like a RAM record. Another beginning may be the next main link's, which
//! comes before the loss of this one is noticed: it stays.
//!
//! At most [`LOBBY`] wait; nothing is read from them, and nothing here fails.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::PollFlags;

use crate::socket::{Link, Moved};

/// With what a multifd channel begins (`multifd.c`).
const MULTIFD: [u8; 4] = 0x1122_3344_u32.to_be_bytes();

/// Connections that may wait; one more, and the oldest has to go.
pub(super) const LOBBY: usize = 32;

/// Bytes of a stream's header. A decoder that has them can tell whether it is
/// a migration.
const HEADER: usize = 8;

/// Which connection is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// The first one of a migration: its header.
    First,
    /// One that takes the place of a broken one: any byte but a preempt
    /// channel's, which is of the broken one.
    Replacement,
    /// The preempt channel: a record, which begins with its page's address,
    /// and so with a byte of 0; a new main link begins with a command.
    Preempt,
}

/// What a connection has said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    /// Nothing.
    None,
    /// Not enough, or something else.
    Begun,
    /// Enough.
    Said,
    /// Nothing, and it has gone; or nothing that is of any use now.
    Gone,
}

/// The connections that wait, oldest first.
#[derive(Debug, Default)]
pub(super) struct Lobby {
    visitors: VecDeque<Visitor>,
}

#[derive(Debug)]
struct Visitor {
    link: Link,
    /// What to wake up for; `None` for what cannot change before the main
    /// link is lost.
    watch: Option<PollFlags>,
}

/// What to wake up for while nothing has been said.
const WORD: PollFlags = PollFlags::IN.union(PollFlags::RDHUP);

impl Lobby {
    /// Lets a connection wait.
    pub(super) fn admit(&mut self, link: Link) {
        if self.is_full() {
            self.visitors.pop_front();
        }
        let watch = Some(WORD);
        self.visitors.push_back(Visitor { link, watch });
    }

    /// Whether one more would drive the oldest away.
    pub(super) fn is_full(&self) -> bool {
        self.visitors.len() >= LOBBY
    }

    pub(super) fn is_empty(&self) -> bool {
        self.visitors.is_empty()
    }

    /// What to poll, and for what.
    pub(super) fn fds(&self) -> impl Iterator<Item = (BorrowedFd<'_>, PollFlags)> {
        self.visitors
            .iter()
            .filter_map(|visitor| Some((visitor.link.as_fd(), visitor.watch?)))
    }

    /// The oldest connection with something to say. Those that are older have
    /// to go.
    pub(super) fn main(&mut self, wanted: Wanted) -> Option<Link> {
        let at = self.first(wanted)?;
        self.visitors.drain(..at);
        self.oldest()
    }

    /// The oldest connection that begins like a preempt channel.
    pub(super) fn preempt(&mut self) -> Option<Link> {
        let at = self.first(Wanted::Preempt)?;
        self.visitors.remove(at).map(|visitor| visitor.link)
    }

    /// Whether one of them is a channel of multifd.
    pub(super) fn has_multifd(&self) -> bool {
        self.visitors.iter().any(|visitor| {
            let mut head = [0; MULTIFD.len()];
            let peeked = visitor.link.peek(&mut head);
            matches!(peeked, Ok(Moved::Bytes(_))) && head == MULTIFD
        })
    }

    /// Lets all of them go.
    pub(super) fn clear(&mut self) {
        self.visitors.clear();
    }

    /// The place of the oldest connection that has said enough. Those that
    /// have gone are forgotten.
    fn first(&mut self, wanted: Wanted) -> Option<usize> {
        let mut at = 0;
        while let Some(visitor) = self.visitors.get_mut(at) {
            visitor.watch = match word(&visitor.link, wanted) {
                Word::Said => return Some(at),
                Word::Gone => {
                    self.visitors.remove(at);
                    continue;
                }
                Word::None => Some(WORD),
                Word::Begun if wanted == Wanted::Preempt => None,
                // What is there already would be readable for ever.
                Word::Begun => Some(PollFlags::RDHUP),
            };
            at += 1;
        }
        None
    }

    fn oldest(&mut self) -> Option<Link> {
        self.visitors.pop_front().map(|visitor| visitor.link)
    }
}

fn word(link: &Link, wanted: Wanted) -> Word {
    let mut head = [0; HEADER];
    let size = match link.peek(&mut head) {
        Ok(Moved::Bytes(size)) => size,
        Ok(Moved::Later) => return Word::None,
        Ok(Moved::End) | Err(_) => return Word::Gone,
    };
    let said = match wanted {
        // What will never be more is for the decoder to tell. A channel of
        // multifd may speak before the main one.
        Wanted::First => size >= HEADER && !head.starts_with(&MULTIFD) || link.has_ended(),
        Wanted::Replacement => head[0] != 0,
        Wanted::Preempt => head[0] == 0,
    };
    match said {
        true => Word::Said,
        false if wanted == Wanted::Replacement => Word::Gone,
        false => Word::Begun,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A connection that waits, and its far end.
    fn visit(lobby: &mut Lobby, said: &[u8]) -> Link {
        let (near, far) = Link::pair().expect("a pair");
        say(&far, said);
        lobby.admit(near);
        far
    }

    fn say(link: &Link, bytes: &[u8]) {
        let want = match bytes.len() {
            0 => Moved::Later,
            size => Moved::Bytes(size),
        };
        assert_eq!(link.write(bytes).expect("room"), want);
    }

    /// Which of the far ends is the one of this link.
    fn whose(link: Option<Link>, fars: &[&Link]) -> Option<usize> {
        let link = link?;
        say(&link, b"?");
        let heard = |far: &&Link| far.read(&mut [0; 2]).is_ok_and(|m| m == Moved::Bytes(1));
        fars.iter().position(heard)
    }

    #[test]
    fn waits_for_a_whole_header() {
        let mut header = Vec::new();
        retpath_codec::forward::write::header(&mut header);
        let mut lobby = Lobby::default();
        let far = visit(&mut lobby, b"");
        for byte in &header {
            assert!(lobby.main(Wanted::First).is_none());
            say(&far, &[*byte]);
        }
        assert_eq!(whose(lobby.main(Wanted::First), &[&far]), Some(0));
    }

    #[test]
    fn lets_the_decoder_tell_what_is_no_migration() {
        for said in [&b"GET / HT"[..], b"QEVM\0\0\0\x09"] {
            let mut lobby = Lobby::default();
            let far = visit(&mut lobby, said);
            assert_eq!(whose(lobby.main(Wanted::First), &[&far]), Some(0));
        }
        for said in [&b"x"[..], b"QEV"] {
            let mut lobby = Lobby::default();
            drop(visit(&mut lobby, said));
            assert!(lobby.main(Wanted::First).is_some(), "it will never be more");
        }
    }

    #[test]
    fn forgets_who_goes_without_a_word_and_whoever_is_older() {
        let mut lobby = Lobby::default();
        let silent = visit(&mut lobby, b"");
        drop(visit(&mut lobby, b""));
        let main = visit(&mut lobby, b"\x08");
        drop(visit(&mut lobby, b""));
        let next = visit(&mut lobby, b"");
        let last = visit(&mut lobby, b"");
        let fars = [&silent, &main, &next, &last];
        assert_eq!(whose(lobby.main(Wanted::Replacement), &fars), Some(1));
        let end = silent.read(&mut [0; 1]).expect("an end");
        assert_eq!(end, Moved::End);
        assert!(lobby.preempt().is_none());
        assert_eq!(whose(lobby.oldest(), &fars), Some(2));
        assert_eq!(whose(lobby.oldest(), &fars), Some(3));
        assert!(lobby.is_empty());
    }

    #[test]
    fn knows_the_preempt_channel_by_its_first_record() {
        let mut lobby = Lobby::default();
        let silent = visit(&mut lobby, b"");
        let main = visit(&mut lobby, b"\x08\x09");
        let preempt = visit(&mut lobby, b"");
        drop(visit(&mut lobby, b""));
        assert!(lobby.preempt().is_none());
        say(&preempt, &[0]);
        let fars = [&silent, &main, &preempt];
        assert_eq!(whose(lobby.preempt(), &fars), Some(2));
        assert!(lobby.preempt().is_none());
        assert_eq!(lobby.fds().count(), 1, "one has been heard");
        assert_eq!(whose(lobby.main(Wanted::Replacement), &fars), Some(1));
        assert!(lobby.is_empty());
    }

    #[test]
    fn knows_a_channel_of_multifd_and_leaves_it_there() {
        let mut lobby = Lobby::default();
        let _others = [&[0; 8][..], b"", &MULTIFD[..3]].map(|said| visit(&mut lobby, said));
        assert!(!lobby.has_multifd());
        let far = visit(&mut lobby, &MULTIFD);
        assert!(lobby.has_multifd());
        say(&far, &[0; 60]);
        assert!(lobby.has_multifd());
        lobby.clear();
        assert!(!lobby.has_multifd() && lobby.is_empty());
    }

    #[test]
    fn takes_no_page_of_a_broken_link_for_a_new_one() {
        let mut lobby = Lobby::default();
        let preempt = visit(&mut lobby, &[0; 8]);
        assert!(lobby.main(Wanted::Replacement).is_none());
        assert!(lobby.is_empty());
        let main = visit(&mut lobby, b"\x08");
        let fars = [&preempt, &main];
        assert_eq!(whose(lobby.main(Wanted::Replacement), &fars), Some(1));
    }

    #[test]
    fn holds_no_more_than_its_limit() {
        let mut lobby = Lobby::default();
        let fars: Vec<Link> = (0..1000).map(|_| visit(&mut lobby, b"")).collect();
        assert_eq!(lobby.fds().count(), LOBBY);
        let open = |far: &&Link| far.read(&mut [0; 1]).is_ok_and(|m| m == Moved::Later);
        assert_eq!(fars.iter().filter(open).count(), LOBBY);
        assert!(fars[1000 - LOBBY..].iter().all(|far| open(&far)));
    }

    #[test]
    fn does_not_wake_for_what_it_has_seen() {
        let mut lobby = Lobby::default();
        let _far = visit(&mut lobby, b"QE");
        assert!(lobby.main(Wanted::First).is_none());
        assert!(lobby.fds().all(|(_, flags)| flags == PollFlags::RDHUP));
    }
}
