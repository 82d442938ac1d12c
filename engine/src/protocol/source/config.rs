//! Configuration of a source.

use std::sync::Arc;

use crate::blocks::{BlockError, Blocks, Span};

use super::error::Error;
use super::order::Hold;
use crate::release::Preempt;

/// How a source migrates. [`Config::new`] is a QEMU 8.0–9.2 source without the
/// preempt channel.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// Machine type in the configuration section, such as `pc-i440fx-10.0`: 1 to 255
    /// bytes.
    pub machine: Vec<u8>,
    /// Whether a configuration section follows the header. Off for machine
    /// types up to 2.3.
    pub configuration: bool,
    /// Whether the configuration section contains the target page size: needed
    /// where a target has several, such as aarch64.
    pub page_bits: bool,
    /// Whether a footer ends every section. Off for machine types up to 2.3.
    pub footers: bool,
    /// Device sections to send before `ram`, such as those of virtio-mem.
    pub early_state: Vec<u8>,
    /// Unplugged memory of virtio-mem devices, as their states say. It is neither
    /// discarded nor sent, as in QEMU: a destination does not request it, and
    /// placing zeros there can cost memory that it does not have.
    pub unplugged: Vec<Span>,
    /// Section id of `ram`: any id that the device state does not use.
    pub section: u32,
    /// Page size in bytes of ordinary memory on this host. A block with
    /// another page size announces it in the block list.
    pub host_page: u64,
    /// The channel for requested pages, if they have one of their own.
    pub preempt: Option<Preempt>,
    /// Limit for the background sweep in bytes per second; 0 is no limit.
    /// Requested pages are never delayed, nor are those of `order` that fit into a run, nor
    /// [predicted](Config::predict) ones; but the sweep pays for those that were predicted
    /// in vain.
    pub bandwidth: u64,
    /// Whether pages that continue a stream of requests are sent before they are
    /// requested, ahead of the sweep and behind requested pages. A stream is three
    /// requests at equal distances of at most 64 host pages; up to 16 of them are
    /// followed. Only host pages that fit in a [run](Config::run) are predicted.
    pub predict: bool,
    /// Pages to send ahead of the sweep after the switch, in this order; see
    /// [`Source::first_requests`]. Each range is whole host pages.
    ///
    /// [`Source::first_requests`]: super::Source::first_requests
    pub order: Arc<[Span]>,
    /// Whether to record the order in which pages are requested.
    pub record: bool,
    /// How long the sweep is held back, so that it does not hide which pages are needed
    /// from `record`.
    pub hold: Hold,
    /// Whether SWITCHOVER_START is sent: machine types from 10.0 on.
    pub switchover_start: bool,
    /// Whether the switch waits for SWITCHOVER_ACK: capability `switchover-ack` on
    /// both sides. The message is accepted in any case: a destination with the
    /// capability sends it whatever the source's configuration is.
    pub switchover_ack: bool,
    /// Whether the package contains PING 0x42, which is answered when the device
    /// state has been loaded, and the end waits for that answer: QEMU from 10.2 on.
    pub ping_loaded: bool,
    /// Whether PING 2 precedes and PING 4 follows the package, as in QEMU. Without
    /// `probe` nothing depends on the answers.
    pub outer_pings: bool,
    /// Whether the source verifies with PINGs of its own that the destination keeps
    /// up before it continues:
    ///
    /// * the switch waits for the first PONG;
    /// * requested pages travel on the preempt channel only once the destination
    ///   is known to keep it; see [`Source::preempt_refused`];
    /// * PING 4 follows POSTCOPY_RESUME.
    ///
    /// [`Source::awaits`] then returns the answer that is missing.
    ///
    /// [`Source::preempt_refused`]: super::Source::preempt_refused
    /// [`Source::awaits`]: super::Source::awaits
    pub probe: bool,
    /// Maximum bytes of pages that are handed out at once; a larger host page is
    /// handed out in pieces.
    pub run: u64,
}

setters!(Config {
    machine: Vec<u8>, configuration: bool, page_bits: bool, footers: bool, early_state: Vec<u8>,
    unplugged: Vec<Span>, section: u32, host_page: u64, preempt: Option<Preempt>,
    bandwidth: u64, predict: bool, order: Arc<[Span]>, record: bool, hold: Hold,
    switchover_start: bool, switchover_ack: bool, ping_loaded: bool,
    outer_pings: bool, probe: bool, run: u64,
});

/// Maximum length of a machine type in bytes.
const MAX_MACHINE: usize = 255;

impl Config {
    /// The configuration for a machine type; see [`Config`] for the defaults.
    pub fn new(machine: impl Into<Vec<u8>>) -> Self {
        Self {
            machine: machine.into(),
            configuration: true,
            page_bits: false,
            footers: true,
            early_state: Vec::new(),
            unplugged: Vec::new(),
            section: 1,
            host_page: 4096,
            preempt: None,
            bandwidth: 0,
            predict: true,
            order: Arc::default(),
            record: false,
            hold: Hold::default(),
            switchover_start: false,
            switchover_ack: false,
            ping_loaded: false,
            outer_pings: true,
            probe: false,
            run: 64 << 10,
        }
    }

    /// Refuses configurations that no stream can express.
    pub(super) fn check(&self, blocks: &Blocks) -> Result<(), Error> {
        let refused = |why| Err(Error::Config(why));
        let len = self.machine.len();
        if self.configuration && !(1..=MAX_MACHINE).contains(&len) {
            return refused(format!(
                "machine type of {len} bytes: must be 1 to 255 bytes long"
            ));
        }
        let (run, target) = (self.run, blocks.target());
        if run < target {
            return refused(format!(
                "run size {run}: must be at least the target page size ({target})"
            ));
        }
        for part in self.unplugged.iter().chain(&*self.order) {
            let block = blocks.block(part.block).map_err(Error::Blocks)?;
            blocks
                .check(part.block, part.offset, part.len, block.page)
                .map_err(Error::Blocks)?;
        }
        let mut lens = blocks.iter().map(|block| block.len);
        match lens.try_fold(0_u64, u64::checked_add) {
            None => refused("the total length of the RAM blocks exceeds 2^64 - 1 bytes".into()),
            Some(0) => Err(Error::Blocks(BlockError::Unknown)),
            Some(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use retpath_codec::NameBuf;

    use crate::blocks::Block;

    use super::super::Source;
    use super::super::testing::blocks;
    use super::*;

    #[test]
    fn refuses_configurations_that_no_stream_can_express() {
        let new = |config: Config, blocks: Blocks| Source::new(config, blocks).map(drop);
        let none = Blocks::new(4096).expect("valid page size");
        assert_eq!(
            new(Config::new("pc"), none.clone()),
            Err(Error::Blocks(BlockError::Unknown))
        );
        for len in [0, 256] {
            let config = Config::new(vec![b'x'; len]);
            assert_eq!(
                new(config, blocks(&[(1, 4096)])),
                Err(Error::Config(format!(
                    "machine type of {len} bytes: must be 1 to 255 bytes long"
                )))
            );
        }
        for (block, start, len) in [(1, 0, 8192), (0, 4096, 8192), (0, 0, 16384), (0, 0, 0)] {
            let config = Config {
                unplugged: vec![Span {
                    block,
                    offset: start,
                    len,
                }],
                ..Config::new("pc")
            };
            assert!(matches!(
                new(config, blocks(&[(1, 8192)])),
                Err(Error::Blocks(_))
            ));
        }
        let small = Config {
            run: 4095,
            ..Config::new("pc")
        };
        assert_eq!(
            new(small, blocks(&[(1, 4096)])),
            Err(Error::Config(
                "run size 4095: must be at least the target page size (4096)".into()
            ))
        );
        let mut vast = none;
        for name in ["a", "b"] {
            let block = Block {
                name: NameBuf::new(name).expect("valid name"),
                len: 1 << 63,
                page: 1 << 62,
            };
            vast.add(block).expect("valid block");
        }
        // Refused before any bitmap is allocated.
        assert_eq!(
            new(Config::new("pc"), vast),
            Err(Error::Config(
                "the total length of the RAM blocks exceeds 2^64 - 1 bytes".into()
            ))
        );
    }
}
