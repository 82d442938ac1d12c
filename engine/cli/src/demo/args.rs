//! The options, and the RAM blocks that follow from them.

use clap::ValueEnum;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use retpath_codec::NameBuf;

use super::TARGET;
use crate::size::{self, Human};
use crate::{Format, exit};
use retpath_engine::blocks::{Block, Blocks};
use retpath_engine::memory::Backing;

const EXAMPLES: &str = "  \
  retpath demo
  retpath demo --size 64M --cuts 5                 break the link five times
  retpath demo --size 64M --preempt --format json";

fn after_help() -> String {
    exit::help(
        EXAMPLES,
        "every page is right",
        "a page is wrong, missing or was placed twice, or the migration failed",
    )
}

/// Command line of `retpath demo`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = after_help())]
pub(crate) struct Args {
    /// Memory to move
    #[arg(long, value_name = "BYTES", default_value = "1G", value_parser = size::parse)]
    pub(super) size: u64,
    /// Number of RAM blocks; each has another size
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=64))]
    pub(super) blocks: u64,
    /// Host page size; 2M and 1G need huge pages in the pool
    #[arg(long, value_name = "SIZE", ignore_case = true, default_value = "4K", value_parser = page_size())]
    pub(super) page_size: u64,
    /// Send requested pages on a channel of their own (postcopy-preempt)
    #[arg(long)]
    pub(super) preempt: bool,
    /// Number of times to break the link; the migration recovers each time
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=1000))]
    pub(super) cuts: u64,
    /// Limit of the background sweep per second; 0 is no limit
    #[arg(long, value_name = "BYTES", default_value = "0", value_parser = size::parse)]
    pub(super) bandwidth: u64,
    /// Do not send pages ahead that continue a stream of requests
    #[arg(long)]
    pub(super) no_predict: bool,
    /// Seed of the memory's content, the touches and the cuts
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(super) seed: u64,
    /// Number of threads that touch pages while they are moved
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(..=1024))]
    pub(super) threads: u16,
    /// Kind of socket between source and destination
    #[arg(long, value_name = "KIND", value_enum, default_value_t)]
    pub(super) channel: SocketKind,
    /// Format of the result; json is one object
    #[arg(long, value_enum, default_value_t)]
    pub(super) format: Format,
}

fn page_size() -> impl TypedValueParser<Value = u64> {
    PossibleValuesParser::new(["4K", "64K", "2M", "1G"]).try_map(|text| size::parse(&text))
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum SocketKind {
    /// A pair of connected Unix sockets.
    #[default]
    Unix,
    /// A port of the loopback interface, chosen by the kernel.
    Tcp,
}

/// Memory that the first cut needs, which comes after the switch, and that each cut needs.
const FIRST_CUT: u64 = 4 << 20;
const EACH_CUT: u64 = 64 << 10;

impl Args {
    /// Checks the options against each other.
    ///
    /// # Errors
    ///
    /// Wrong usage, with the option to change.
    pub(super) fn check(&self) -> Result<(), String> {
        let (size, page) = (Human(self.size), Human(self.page_size));
        if self.size == 0 || !self.size.is_multiple_of(self.page_size) {
            return Err(format!(
                "--size {size} is not a positive multiple of the page size ({page})"
            ));
        }
        let (blocks, cuts) = (self.blocks, self.cuts);
        let least = self.shares() * self.page_size;
        if self.size < least {
            let least = Human(least);
            return Err(format!(
                "--blocks {blocks} with pages of {page} needs --size {least} or more"
            ));
        }
        let least = FIRST_CUT + cuts * EACH_CUT;
        if cuts > 0 && self.size < least {
            let least = Human(least);
            return Err(format!("--cuts {cuts} needs --size {least} or more"));
        }
        Ok(())
    }

    /// The RAM blocks: of `n` blocks, the first has `n` shares of the memory and the last has one.
    ///
    /// # Errors
    ///
    /// A block is invalid.
    pub(super) fn layout(&self) -> Result<Blocks, String> {
        let pages = self.size / self.page_size;
        let rest = (1..self.blocks)
            .rev()
            .map(|share| pages * share / self.shares());
        // The remainder goes to the first block.
        let first = pages - rest.clone().sum::<u64>();
        let mut blocks = Blocks::new(TARGET).map_err(|error| error.to_string())?;
        for (number, count) in std::iter::once(first).chain(rest).enumerate() {
            let name = match number {
                0 => "pc.ram".into(),
                _ => format!("demo.block{number}"),
            };
            let name = NameBuf::new(&name).map_err(|error| error.to_string())?;
            let (len, page) = (count * self.page_size, self.page_size);
            let added = blocks.add(Block { name, len, page });
            added.map_err(|error| error.to_string())?;
        }
        Ok(blocks)
    }

    fn shares(&self) -> u64 {
        self.blocks * (self.blocks + 1) / 2
    }

    /// Backing of the destination's memory.
    pub(super) fn backing(&self) -> Backing {
        let mut huge = [Backing::Huge2M, Backing::Huge1G].into_iter();
        let huge = huge.find(|backing| backing.page_size() == self.page_size);
        huge.unwrap_or(Backing::Anonymous)
    }
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;

    use super::super::content::Content;
    use super::super::cuts::Cuts;
    use super::super::test_args as args;

    #[test]
    fn divides_all_memory_among_blocks_of_different_sizes() {
        for (size, blocks, page) in [
            ("16M", "1", "4K"),
            ("16M", "5", "4K"),
            ("16M", "64", "4K"),
            ("30M", "5", "2m"),
            ("1G", "7", "64K"),
        ] {
            let args = args(&["--size", size, "--blocks", blocks, "--page-size", page]);
            args.check().expect("good");
            let layout = args.layout().expect("good");
            let mut sizes: Vec<u64> = layout.iter().map(|block| block.len).collect();
            assert_eq!(sizes.iter().sum::<u64>(), args.size);
            sizes.dedup();
            assert_eq!(sizes.len() as u64, args.blocks);
        }
    }

    #[test]
    fn accepts_only_sizes_that_the_cuts_fit_into() {
        for (page, step) in [("4K", 4 << 10), ("64K", 64 << 10), ("2M", 2 << 20)] {
            for cuts in ["0", "1", "7", "100"] {
                for seed in ["0", "1"] {
                    let line = |size: u64| {
                        let size = size.to_string();
                        let options = ["--page-size", page, "--cuts", cuts, "--seed", seed];
                        args(&[&["--size", &size], &options[..]].concat())
                    };
                    let mut sizes = (1..).map(|pages| line(pages * step));
                    let args = sizes.find(|args| args.check().is_ok());
                    let args = args.expect("some size is large enough");
                    let blocks = args.layout().expect("good");
                    let random = &mut Rng::with_seed(args.seed);
                    let content = Content::new(&blocks, random).expect("memory");
                    let bytes = content.bytes_to_send();
                    let cuts = Cuts::new(random, args.cuts, bytes, args.blocks);
                    assert!(cuts.is_some(), "{args:?}");
                }
            }
        }
    }
}
