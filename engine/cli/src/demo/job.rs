//! What is moved, and how: the options that both processes know.

use retpath_codec::NameBuf;

use super::TARGET;
use crate::size::{self, Human};
use retpath_engine::blocks::{Block, Blocks};
use retpath_engine::memory::Backing;

/// The part of the command line that both processes are given.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Job {
    /// How much memory to move.
    #[arg(long, value_name = "BYTES", default_value = "1G", value_parser = size::parse)]
    pub(super) size: u64,
    /// In how many RAM blocks, each of another size.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=64))]
    pub(super) blocks: u64,
    /// Host page size; 2M and 1G take pages from the pool of huge pages.
    #[arg(
        long,
        value_name = "SIZE",
        value_enum,
        ignore_case = true,
        default_value_t
    )]
    pub(super) page_size: PageSize,
    /// Send requested pages on a channel of their own.
    #[arg(long)]
    pub(super) preempt: bool,
    /// How often to break the link; the migration recovers each time.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=1000))]
    pub(super) cuts: u64,
    /// Limit for pages that nobody has asked for, each second; 0 is none.
    #[arg(long, value_name = "BYTES", default_value = "0", value_parser = size::parse)]
    pub(super) bandwidth: u64,
    /// What memory, touches and cuts follow from.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(super) seed: u64,
}

/// Host page sizes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum PageSize {
    /// Ordinary pages.
    #[default]
    #[value(name = "4K")]
    Small,
    /// Sixteen ordinary pages that are placed together.
    #[value(name = "64K")]
    Medium,
    /// Huge pages.
    #[value(name = "2M")]
    Huge,
    /// The largest.
    #[value(name = "1G")]
    Giant,
}

impl PageSize {
    pub(super) fn bytes(self) -> u64 {
        match self {
            Self::Small => 4 << 10,
            Self::Medium => 64 << 10,
            Self::Huge => 2 << 20,
            Self::Giant => 1 << 30,
        }
    }

    /// What the destination's memory is made of.
    pub(super) fn backing(self) -> Backing {
        match self {
            Self::Small | Self::Medium => Backing::Anonymous,
            Self::Huge => Backing::Huge2M,
            Self::Giant => Backing::Huge1G,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Small => "4K",
            Self::Medium => "64K",
            Self::Huge => "2M",
            Self::Giant => "1G",
        }
    }
}

/// Fewest bytes of memory that one cut needs, so that there is something to
/// send between two of them.
const PER_CUT: u64 = 64 << 10;

/// Bytes of a memory that is to be cut at all: cuts begin after the switch.
const FOR_CUTS: u64 = 4 << 20;

impl Job {
    /// Checks what clap cannot.
    ///
    /// # Errors
    ///
    /// What is wrong with the command line.
    pub(super) fn check(&self) -> Result<(), String> {
        let page = self.page_size.bytes();
        let human = Human(page);
        if self.size == 0 || !self.size.is_multiple_of(page) {
            let size = Human(self.size);
            return Err(format!("--size {size} is not a number of pages of {human}"));
        }
        let least = self.shares() * page;
        if self.size < least {
            let (blocks, least) = (self.blocks, Human(least));
            return Err(format!(
                "--blocks {blocks} of different sizes, in pages of {human}, need --size {least} or more"
            ));
        }
        let least = FOR_CUTS + self.cuts * PER_CUT;
        if self.cuts > 0 && self.size < least {
            let (cuts, least) = (self.cuts, Human(least));
            return Err(format!("--cuts {cuts} need --size {least} or more"));
        }
        Ok(())
    }

    /// The blocks: the first has as many shares of the memory as there are
    /// blocks, the last one has one.
    pub(super) fn layout(&self) -> Result<Blocks, String> {
        let page = self.page_size.bytes();
        let pages = self.size / page;
        let rest = (1..self.blocks)
            .rev()
            .map(|share| pages * share / self.shares());
        // What does not divide goes to the first one.
        let first = pages - rest.clone().sum::<u64>();
        let mut blocks = Blocks::new(TARGET).map_err(|error| error.to_string())?;
        for (number, count) in std::iter::once(first).chain(rest).enumerate() {
            let name = match number {
                0 => "pc.ram".into(),
                _ => format!("demo.block{number}"),
            };
            let name = NameBuf::new(&name).map_err(|error| error.to_string())?;
            let len = count * page;
            let block = Block { name, len, page };
            blocks.add(block).map_err(|error| error.to_string())?;
        }
        Ok(blocks)
    }

    fn shares(&self) -> u64 {
        self.blocks * (self.blocks + 1) / 2
    }

    /// The options as another process is given them.
    pub(super) fn arguments(&self) -> Vec<String> {
        let mut arguments = vec![
            format!("--size={}", self.size),
            format!("--blocks={}", self.blocks),
            format!("--page-size={}", self.page_size.name()),
            format!("--cuts={}", self.cuts),
            format!("--bandwidth={}", self.bandwidth),
            format!("--seed={}", self.seed),
        ];
        if self.preempt {
            arguments.push("--preempt".into());
        }
        arguments
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::content::Content;
    use super::super::{cuts, held};
    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        job: Job,
    }

    fn job(args: &[&str]) -> Job {
        Line::parse_from(std::iter::once(&"demo").chain(args)).job
    }

    #[test]
    fn gives_every_block_another_size_and_all_of_the_memory_away() {
        for (size, blocks, page) in [
            ("16M", "1", "4K"),
            ("16M", "5", "4K"),
            ("16M", "64", "4K"),
            ("30M", "5", "2M"),
            ("1G", "7", "64K"),
        ] {
            let job = job(&["--size", size, "--blocks", blocks, "--page-size", page]);
            job.check().expect("good");
            let layout = job.layout().expect("good");
            let mut sizes: Vec<u64> = layout.iter().map(|block| block.len).collect();
            assert_eq!(sizes.len() as u64, job.blocks);
            assert_eq!(sizes.iter().sum::<u64>(), job.size);
            sizes.dedup();
            assert_eq!(sizes.len() as u64, job.blocks);
        }
    }

    #[test]
    fn refuses_sizes_that_do_not_fit() {
        for args in [
            &["--size", "0"][..],
            &["--size", "4097"],
            &["--size", "3M", "--page-size", "2M"],
            &["--size", "28M", "--page-size", "2M", "--blocks", "5"],
            &["--size", "8K", "--blocks", "2"],
            &["--size", "1M", "--cuts", "1"],
            &["--size", "16M", "--cuts", "1000"],
        ] {
            assert!(job(args).check().is_err(), "{args:?}");
        }
    }

    #[test]
    fn accepts_only_what_the_cuts_fit_into() {
        for page in ["4K", "64K", "2M"] {
            for cuts in [0, 1, 7, 100] {
                for seed in 0..2 {
                    let (cuts, seed) = (format!("--cuts={cuts}"), format!("--seed={seed}"));
                    let line = |size: u64| {
                        let size = format!("--size={size}");
                        job(&[&size, "--page-size", page, &cuts, &seed])
                    };
                    let step = line(0).page_size.bytes();
                    let sizes = (1..).map(|pages| pages * step);
                    let job = sizes.map(line).find(|job| job.check().is_ok());
                    let job = job.expect("some size is large enough");
                    let blocks = job.layout().expect("good");
                    let content = Content::new(job.seed, step);
                    let (_, zeros) = held::fill(&blocks, &content).expect("memory");
                    let left = (blocks.total_pages() - zeros) * TARGET;
                    let plan = cuts::plan(job.seed, job.cuts, left, job.blocks);
                    assert!(plan.is_some(), "{job:?}");
                }
            }
        }
    }

    #[test]
    fn tells_the_other_process_every_option() {
        for args in [
            &[][..],
            &["--size=30M", "--blocks=5", "--page-size=2m", "--cuts=7"],
            &["--preempt", "--bandwidth=5M", "--seed=99", "--page-size=1G"],
            &["--page-size=64K"],
        ] {
            let job = job(args);
            let told = job.arguments();
            let told: Vec<&str> = told.iter().map(String::as_str).collect();
            assert_eq!(format!("{job:?}"), format!("{:?}", self::job(&told)));
        }
    }
}
