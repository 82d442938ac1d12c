//! The memory that a source serves, and the records that are written for its pages:
//! headers from a small buffer, pages from where they lie.
//!
//! ```text
//!  heads   | word 0 (name) | word 1 | word 2, 0 | word 3 |
//!  bytes   |               page 0   | page 1   | page 2 | page 3 |
//!  slices  | word 0 | page 0 | word 1 | page 1 | word 2, 0, word 3 | page 3 |
//! ```
//!
//! [`Gather`] copies no page, and allocates nothing once its buffers have grown to the
//! size of a run. It never fails or panics.

use std::io;

use retpath_codec::Name;
use retpath_codec::forward::write;

use crate::Channel;
use crate::blocks::BlockId;
use crate::protocol::wide;
use crate::zero::is_zero;

/// Read access to the memory of all blocks.
///
/// Memory that no longer changes lends its bytes. Memory that may change while it is
/// sent, as before the switch, must be copied, so that a page is examined and sent in
/// one state. Several threads may call an implementation at a time.
pub trait PageSource: Send + Sync {
    /// Copies bytes of a block to `out`.
    ///
    /// # Errors
    ///
    /// The block or the range is invalid, or the memory cannot be read or has
    /// changed. The migration cannot continue; nothing of `out` is sent.
    fn read(&self, block: BlockId, offset: u64, out: &mut [u8]) -> io::Result<()>;

    /// Lends bytes of a block, if the memory does not change.
    fn lend(&self, block: BlockId, offset: u64, len: usize) -> Option<&[u8]> {
        let _ = (block, offset, len);
        None
    }

    /// Whether bytes of a block are known to be zero without reading them, as in a
    /// hole of a file. Reading would bring them into memory.
    ///
    /// # Errors
    ///
    /// The memory has changed. The migration cannot continue.
    fn is_hole(&self, block: BlockId, offset: u64, len: u64) -> io::Result<bool> {
        let _ = (block, offset, len);
        Ok(false)
    }
}

/// Immutable blocks, such as `Vec<u8>` or sealed memory, in order of their numbers.
impl<B: AsRef<[u8]> + Send + Sync> PageSource for Vec<B> {
    fn read(&self, block: BlockId, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let bytes = self
            .lend(block, offset, out.len())
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn lend(&self, block: BlockId, offset: u64, len: usize) -> Option<&[u8]> {
        let start = usize::try_from(offset).ok()?;
        self.get(block)?
            .as_ref()
            .get(start..start.checked_add(len)?)
    }
}

/// Adjacent pages to send now, on one channel.
///
/// The run contains everything that its records depend on, so they can be made without
/// the core. Runs must be written whole and in the order in which they were handed out;
/// a run that a lost link interrupts is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRun {
    /// The channel to send it on.
    pub channel: Channel,
    /// RAM block.
    pub block: BlockId,
    /// First byte, from the start of the block; a multiple of `page`.
    pub offset: u64,
    /// Bytes; a positive multiple of `page`.
    pub len: u64,
    /// Target page size in bytes: one record each.
    pub page: u64,
    /// Whether the first record names its block. The others never do.
    pub named: bool,
    /// Whether it counts against the bandwidth.
    pub(super) paced: bool,
}

/// The records of one run. Reuse one value for every run.
#[derive(Debug, Default)]
pub struct Gather {
    heads: Vec<u8>,
    pages: Vec<Page>,
    /// Page size in bytes.
    page: usize,
}

/// A page that is not zero.
#[derive(Clone, Copy, Debug)]
struct Page {
    /// End of the headers that precede it in `heads`.
    head: usize,
    /// Index of the page in the run.
    at: usize,
}

impl Gather {
    /// No records.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the records of a run of the block `name`. `bytes` are its pages; pages of
    /// zeros are sent without their bytes. Returns how many those are.
    pub fn lay(&mut self, run: &PageRun, name: Name<'_>, bytes: &[u8]) -> u64 {
        let mut pages = bytes.chunks_exact(page_size(run));
        self.lay_known(run, name, |_| pages.next().is_none_or(is_zero))
    }

    /// As [`Gather::lay`], for a caller who knows which pages are zero: `zero` is called
    /// with each page's offset in the block.
    pub fn lay_known(
        &mut self,
        run: &PageRun,
        name: Name<'_>,
        mut zero: impl FnMut(u64) -> bool,
    ) -> u64 {
        self.heads.clear();
        self.pages.clear();
        self.page = page_size(run);
        let mut name = Some(name).filter(|_| run.named);
        for (at, offset) in run.offsets().enumerate() {
            let zero = zero(offset);
            let written = match zero {
                true => write::zero(offset, name.take(), &mut self.heads),
                false => write::page_header(offset, name.take(), &mut self.heads),
            };
            written.expect("a run consists of whole target pages");
            if !zero {
                let head = self.heads.len();
                self.pages.push(Page { head, at });
            }
        }
        run.len / run.page - wide(self.pages.len())
    }

    /// The records in order: headers and pages alternate. `bytes` are the run's
    /// pages.
    pub fn slices<'a>(&'a self, bytes: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        let mut done = 0;
        let pairs = self.pages.iter().flat_map(move |page| {
            let head = &self.heads[done..page.head];
            done = page.head;
            let at = page.at * self.page;
            [head, bytes.get(at..at + self.page).unwrap_or_default()]
        });
        let last = self.pages.last().map_or(0, |page| page.head);
        let rest = Some(&self.heads[last..]).filter(|rest| !rest.is_empty());
        pairs.chain(rest)
    }

    /// Size of the records in bytes.
    pub fn size(&self) -> usize {
        self.heads.len() + self.pages.len() * self.page
    }
}

impl PageRun {
    /// First byte after the run.
    pub fn end(&self) -> u64 {
        self.offset + self.len
    }

    /// Offsets of its target pages.
    pub fn offsets(&self) -> impl Iterator<Item = u64> + use<> {
        let (start, page) = (self.offset, self.page);
        (0..self.len / page).map(move |i| start + i * page)
    }
}

fn page_size(run: &PageRun) -> usize {
    usize::try_from(run.page).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(offset: u64, pages: u64, named: bool) -> PageRun {
        PageRun {
            channel: Channel::Main,
            block: 0,
            offset,
            len: pages * 1024,
            page: 1024,
            named,
            paced: false,
        }
    }

    fn name() -> Name<'static> {
        Name::new(b"ram").expect("valid name")
    }

    #[test]
    fn a_run_ends_after_its_last_page() {
        let run = run(5120, 3, true);
        assert_eq!(run.end(), 8192);
        assert!(run.offsets().eq([5120, 6144, 7168]));
    }

    #[test]
    fn alternates_headers_and_pages() {
        let mut bytes = vec![0; 5 * 1024];
        for page in [1, 2, 4] {
            bytes[page * 1024..(page + 1) * 1024].fill(page as u8);
        }
        let mut gather = Gather::new();
        assert_eq!(gather.lay(&run(0x2000, 5, true), name(), &bytes), 2);
        let slices: Vec<&[u8]> = gather.slices(&bytes).collect();
        let want: [&[u8]; 6] = [
            b"\0\0\0\0\0\0\x20\x02\x03ram\0\0\0\0\0\0\0\x24\x28",
            &[1; 1024],
            b"\0\0\0\0\0\0\x28\x28",
            &[2; 1024],
            b"\0\0\0\0\0\0\x2c\x22\0\0\0\0\0\0\0\x30\x28",
            &[4; 1024],
        ];
        assert_eq!(slices, want);
        assert_eq!(gather.size(), want.concat().len());
    }

    #[test]
    fn writes_zero_pages_without_their_bytes() {
        let mut gather = Gather::new();
        for named in [true, false] {
            let run = run(0, 3, named);
            assert_eq!(gather.lay_known(&run, name(), |_| true), 3);
            let slices: Vec<&[u8]> = gather.slices(&[]).collect();
            assert_eq!(slices.len(), 1);
            assert_eq!(slices[0].len(), 27 + if named { 4 } else { 0 });
        }
        assert_eq!(gather.lay_known(&run(0, 1, false), name(), |_| false), 0);
        assert_eq!(
            gather.slices(&[7; 1024]).count(),
            2,
            "records of the previous run are gone"
        );
    }

    #[test]
    fn allocates_nothing_for_later_runs() {
        let bytes = vec![1; 16 * 1024];
        let mut gather = Gather::new();
        gather.lay(&run(0, 16, true), name(), &bytes);
        let before = (gather.heads.as_ptr(), gather.pages.as_ptr());
        for i in 0..100 {
            gather.lay(&run(i * 16384, 16, i % 2 == 0), name(), &bytes);
            assert_eq!(gather.slices(&bytes).count(), 32);
        }
        assert_eq!((gather.heads.as_ptr(), gather.pages.as_ptr()), before);
    }

    /// Memory that may change.
    struct Copied(Vec<u8>);

    impl PageSource for Copied {
        fn read(&self, block: BlockId, offset: u64, out: &mut [u8]) -> io::Result<()> {
            vec![&self.0].read(block, offset, out)
        }
    }

    #[test]
    fn lends_what_can_be_lent_and_copies_the_rest() {
        let bytes: Vec<u8> = (0..=255).collect();
        let lending = vec![&bytes[..], &bytes[10..]];
        let lent = lending.lend(1, 5, 7);
        assert_eq!(lent.expect("inside the block"), &bytes[15..22]);
        let hole = lending.is_hole(1, 5, 7).expect("memory");
        assert!(!hole, "unknown without reading");
        let live = Copied(bytes.clone());
        assert!(live.lend(0, 0, 1).is_none());
        let mut copied = [0; 40];
        live.read(0, 200, &mut copied).expect("inside the block");
        assert_eq!(copied, bytes[200..240]);
    }

    #[test]
    fn refuses_ranges_past_the_end() {
        let memory = vec![vec![0; 100]];
        for (block, offset, len) in [(0, 100, 1), (0, u64::MAX, 2), (1, 0, 1), (0, 1, usize::MAX)] {
            assert!(memory.lend(block, offset, len).is_none());
        }
        assert!(memory.read(0, 99, &mut [0; 2]).is_err());
        let live = Copied(vec![0; 100]);
        assert!(live.read(0, 99, &mut [0; 2]).is_err());
        assert!(live.read(1, 0, &mut [0; 1]).is_err());
    }
}
