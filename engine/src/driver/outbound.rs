//! The sending side of one link of a source.

use std::io::{self, IoSlice};

use retpath_codec::BlockName;
use rustix::event::PollFlags;

use super::RunError;
use crate::Channel;
use crate::blocks::Block;
use crate::protocol::wide;
use crate::socket::{Link, Moved};
use crate::source::{Gather, PageRun, PageSource};

/// Bytes that stay allocated for what precedes a run.
const HEAD_CAPACITY: usize = 64 << 10;

/// The outcome of sending on a channel.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pumped {
    /// There is more to send.
    More,
    /// The link accepts no more bytes now.
    Blocked,
    /// There is nothing to send, perhaps until some time.
    Idle { until: Option<u64> },
}

impl Pumped {
    /// The events to poll for besides input.
    pub(super) fn wants(self) -> PollFlags {
        match self {
            Self::Blocked => PollFlags::OUT,
            _ => PollFlags::empty(),
        }
    }
}

/// A link and what to write to it next: bytes, then the records of a run that is not all
/// zero.
pub(super) struct Outbound {
    channel: Channel,
    pub(super) link: Link,
    /// Bytes that precede the next run, among them records of zero pages.
    pub(super) head: Vec<u8>,
    run: Option<PageRun>,
    gather: Gather,
    /// Length of the run's pages in `scratch`, if the memory does not lend them.
    copied: Option<usize>,
    scratch: Vec<u8>,
    /// Bytes of all that have been written.
    sent: usize,
    /// Bytes written since the link was opened.
    pub(super) written: u64,
}

impl Outbound {
    pub(super) fn new(channel: Channel, link: Link) -> Self {
        Self {
            channel,
            link,
            head: Vec::new(),
            run: None,
            gather: Gather::new(),
            copied: None,
            scratch: Vec::new(),
            sent: 0,
            written: 0,
        }
    }

    /// Appends a run; returns how many of its pages are zero. Other runs may precede it
    /// only if all of their pages were zero.
    pub(super) fn lay(
        &mut self,
        run: PageRun,
        block: &Block,
        pages: &dyn PageSource,
    ) -> Result<u64, RunError> {
        let missing = |error| RunError::NoPage {
            name: block.name.clone(),
            offset: run.offset,
            error,
        };
        let too_long = |_| missing(io::ErrorKind::InvalidInput.into());
        let len = usize::try_from(run.len).map_err(too_long)?;
        let name = block.name.name();
        self.copied = None;
        let hole = pages.is_hole(run.block, run.offset, run.len);
        let zeros = if hole.map_err(missing)? {
            self.gather.lay_known(&run, name, |_| true)
        } else if let Some(bytes) = pages.lend(run.block, run.offset, len) {
            self.gather.lay(&run, name, bytes)
        } else {
            self.copied = Some(len);
            self.scratch.resize(self.scratch.len().max(len), 0);
            let bytes = &mut self.scratch[..len];
            let read = pages.read(run.block, run.offset, bytes);
            read.map_err(missing)?;
            self.gather.lay(&run, name, bytes)
        };
        self.run = Some(run).filter(|run| zeros < run.len / run.page);
        if self.run.is_none() {
            // There are no pages to lay records around.
            self.gather
                .slices(&[])
                .for_each(|records| self.head.extend_from_slice(records));
        }
        Ok(zeros)
    }

    /// Writes as much as the link accepts; returns whether that was everything.
    pub(super) fn flush(&mut self, pages: &dyn PageSource) -> Result<bool, RunError> {
        let failed = RunError::link("writing", self.channel);
        loop {
            let all = self.head.len() + self.run.map_or(0, |_| self.gather.size());
            if self.sent >= all {
                if !self.link.flush().map_err(failed)? {
                    return Ok(false);
                }
                self.head.clear();
                // A package may hold gigabytes; it is sent once.
                self.head.shrink_to(HEAD_CAPACITY);
                self.run = None;
                self.sent = 0;
                return Ok(true);
            }
            match self.write(pages).map_err(failed)? {
                Moved::Bytes(size) => {
                    self.sent += size;
                    self.written += wide(size);
                }
                Moved::Later | Moved::End => return Ok(false),
            }
        }
    }

    fn write(&self, pages: &dyn PageSource) -> io::Result<Moved> {
        let Some(run) = self.run else {
            return self.link.write(&self.head[self.sent..]);
        };
        let bytes = match self.copied {
            Some(len) => self.scratch.get(..len),
            None => pages.lend(run.block, run.offset, usize::try_from(run.len).unwrap_or(0)),
        };
        let mut skip = self.sent;
        let parts =
            std::iter::once(&self.head[..]).chain(self.gather.slices(bytes.unwrap_or_default()));
        let mut slices = [IoSlice::new(&[]); SLICES];
        let mut count = 0;
        for part in parts {
            if skip >= part.len() {
                skip -= part.len();
                continue;
            }
            if count == SLICES {
                break;
            }
            slices[count] = IoSlice::new(&part[skip..]);
            skip = 0;
            count += 1;
        }
        self.link.write_vectored(&slices[..count])
    }
}

/// Maximum number of buffers in one write: the head, sixteen headers and pages, and more.
const SLICES: usize = 40;

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    use crate::source::testing::blocks;
    use crate::source::{Config, Next, Source};

    use super::*;

    #[test]
    fn writes_zero_runs_before_the_next_run() {
        let (near, mut far) = UnixStream::pair().expect("descriptors can be created");
        let link = Link::new(near.into()).expect("socket can be created");
        let mut out = Outbound::new(Channel::Main, link);
        let config = Config::new("pc").run(2 << 12);
        let mut core = Source::new(config, blocks(&[(6, 4096)])).expect("valid configuration");
        let mut ram = vec![vec![0; 6 << 12]];
        ram[0][5 << 12..].fill(7);
        let (mut want, mut gather, mut zeros) = (Vec::new(), Gather::new(), Vec::new());
        loop {
            let before = out.head.len();
            let next = core.next(Channel::Main, 0, &mut out.head);
            want.extend_from_slice(&out.head[before..]);
            let run = match next {
                Next::Write => continue,
                Next::Sweep(run) => run,
                _ => break,
            };
            let block = core.blocks().block(run.block).expect("a known block");
            zeros.push(out.lay(run, block, &ram).expect("pages can be read"));
            let bytes = ram.lend(0, run.offset, 2 << 12).expect("inside the block");
            gather.lay(&run, block.name.name(), bytes);
            gather
                .slices(bytes)
                .for_each(|slice| want.extend_from_slice(slice));
            if zeros.len() == 3 {
                break;
            }
        }
        assert_eq!(zeros, [2, 2, 1]);
        assert!(out.flush(&ram).expect("the link is open"));
        let mut got = vec![0; want.len()];
        far.read_exact(&mut got).expect("bytes are waiting");
        assert!(got == want);
        assert_eq!(out.written, wide(want.len()));
    }

    #[test]
    fn frees_a_package_that_has_been_sent() {
        let (near, mut far) = UnixStream::pair().expect("descriptors can be created");
        let link = Link::new(near.into()).expect("socket can be created");
        let mut out = Outbound::new(Channel::Main, link);
        out.head.resize(8 << 20, 7);
        let none: Vec<Vec<u8>> = Vec::new();
        let mut left = 8 << 20;
        while !out.flush(&none).expect("the link is open") {
            left -= far.read(&mut [0; 64 << 10]).expect("bytes are waiting");
        }
        assert_eq!(out.written, 8 << 20);
        assert!(left < 8 << 20 && out.head.capacity() <= HEAD_CAPACITY);
    }
}
