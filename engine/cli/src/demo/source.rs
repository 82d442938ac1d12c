//! The source: serves the content, over links that break as planned.

use std::time::{Duration, Instant};

use super::Args;
use super::content::Content;
use super::cuts::{Cuts, Side};
use retpath_engine::Channel;
use retpath_engine::blocks::Blocks;
use retpath_engine::driver::{
    Connector, Control, HandlerError, RunError, ServeOptions, SourceHandler, serve,
};
use retpath_engine::memory::SealedMemory;
use retpath_engine::socket::{Address, ChannelError, Link};
use retpath_engine::source::{Config, PageSource, Preempt, Source};
use retpath_engine::stats::Stats;
use tracing::{debug, info};

/// How long to retry a broken link: this process accepts it at once, or never.
const RECONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What the source reports at the end.
#[derive(Clone, Debug, Default)]
pub(super) struct Served {
    pub(super) stats: Stats,
    /// Time from the first connection until the destination had everything.
    pub(super) time: Duration,
}

/// Serves `content` to the destination at `address`.
///
/// # Errors
///
/// The migration failed.
pub(super) fn serve_content(
    args: &Args,
    blocks: Blocks,
    content: &Content,
    (address, cuts): (&Address, &Cuts),
    control: &Control,
) -> Result<Served, RunError> {
    let config = Config {
        preempt: args.preempt.then_some(Preempt::Late),
        bandwidth: args.bandwidth,
        ping_loaded: true,
        ..Config::new("retpath-demo")
    };
    let mut core = Source::new(config, blocks)?;
    let options = ServeOptions {
        reconnect_timeout: RECONNECT_TIMEOUT,
        ..ServeOptions::default()
    };
    let mut machine = StoppedMachine(&content.memory);
    let mut connector = CutConnector { address, cuts };
    let start = Instant::now();
    serve(&mut core, &mut machine, &mut connector, &options, control)?;
    Ok(Served {
        time: start.elapsed(),
        stats: core.stats().clone(),
    })
}

/// A machine whose guest does not run: it is switched at once.
struct StoppedMachine<'a>(&'a Vec<SealedMemory>);

impl SourceHandler for StoppedMachine<'_> {
    fn pages(&self) -> &dyn PageSource {
        self.0
    }

    fn precopy(&mut self, core: &mut Source) -> Result<(), HandlerError> {
        info!("switching to postcopy");
        Ok(core.switch(Vec::new())?)
    }
}

/// Connects links that break as planned.
struct CutConnector<'a> {
    address: &'a Address,
    cuts: &'a Cuts,
}

impl Connector for CutConnector<'_> {
    fn connect(&mut self, channel: Channel) -> Result<Link, ChannelError> {
        if channel == Channel::Main {
            self.cuts.arm();
        }
        let link = self.address.connect(false)?;
        debug!(%channel, cuts = self.cuts.done(), "connected");
        Ok(self.cuts.linked(Side::Source, link))
    }
}
