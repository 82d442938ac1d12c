//! One QEMU that is booted from the image: its links, its live line and its outcome.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar};

use super::Args;
use super::mismatch;
use super::outcome::{Failure, Invocation, Outcome};
use super::served_image::ServedImage;
use super::working_set::WorkingSetFile;
use crate::latency::Nanos;
use crate::output::{self, Lines};
use crate::progress::styled;
use retpath_engine::Channel;
use retpath_engine::driver::{
    Connector, Control, HandlerError, RunError, ServeOptions, SourceHandler, serve,
};
use retpath_engine::socket::{Address, ChannelError, Link};
use retpath_engine::source::{PageSource, Source, Suspicion};
use retpath_engine::stats::Stats;
use tracing::{debug, info, warn};

/// A QEMU to boot.
pub(super) struct Boot<'a> {
    args: &'a Args,
    image: &'a ServedImage,
    working_set: &'a WorkingSetFile<'a>,
    address: &'a Address,
    bars: &'a MultiProgress,
    lines: Lines,
}

impl<'a> Boot<'a> {
    pub(super) fn new(
        args: &'a Args,
        image: &'a ServedImage,
        working_set: &'a WorkingSetFile<'a>,
        address: &'a Address,
        bars: &'a MultiProgress,
    ) -> Self {
        Self {
            args,
            image,
            working_set,
            address,
            bars,
            lines: Lines::default(),
        }
    }

    /// Serves until the migration ends. A failure is reported on standard error at once, while the
    /// others continue.
    pub(super) fn serve(self, control: &Control) -> Outcome {
        let start = Instant::now();
        let config = self.working_set.configure(self.image.config(self.args));
        let blocks = self.image.blocks().clone();
        let made = match self.args.resume.is_some() {
            true => Source::taking_over(config, blocks),
            false => Source::new(config, blocks),
        };
        let mut core = match made {
            Ok(core) => core,
            Err(error) => return self.refuse(error.to_string()),
        };
        let mut machine = Booting {
            boot: &self,
            bar: self.bar(),
            start,
            loaded: None,
            resumes: 0,
            rate: Rate::default(),
        };
        let mut dial = Dial {
            address: self.address,
            plaintext: self.args.allow_plaintext,
            control,
            connected: false,
        };
        let options = ServeOptions::default()
            .connect_timeout(Duration::from_secs(self.args.wait))
            .offer(self.args.offer(self.address, self.image.preempt()))
            .reconnect_timeout(self.args.retry(self.address))
            .stall_timeout(self.args.stall.map(Duration::from_secs));
        let end = serve(&mut core, &mut machine, &mut dial, &options, control);
        machine.bar.finish_and_clear();
        self.lines.finish(|line| self.write(line));
        let outcome = Outcome {
            address: self.address.clone(),
            failure: end
                .err()
                .map(|error| Failure::new(error, &core, &self.invocation())),
            stats: core.stats().clone(),
            time: start.elapsed(),
            preempt: core.preempt().is_some(),
            loaded: machine.loaded,
            first_requests: core.into_first_requests(),
        };
        self.report(&outcome);
        outcome
    }

    /// Fails before the migration starts.
    pub(super) fn refuse(&self, why: String) -> Outcome {
        let outcome = Outcome {
            address: self.address.clone(),
            failure: Some(Failure::before(why)),
            stats: Stats::default(),
            time: Duration::ZERO,
            preempt: false,
            loaded: None,
            first_requests: Vec::new(),
        };
        self.report(&outcome);
        outcome
    }

    /// The command line of this migration.
    fn invocation(&self) -> Invocation<'a> {
        Invocation {
            image: &self.args.image,
            address: self.address,
            is_resume: self.args.resume.is_some(),
            id: self.image.resumed(),
            no_verify: self.args.no_verify,
            machine_release: self.args.machine_release,
        }
    }

    fn report(&self, outcome: &Outcome) {
        if let Some(failure) = &outcome.failure {
            self.write(&failure.to_string());
        }
    }

    /// Writes a line to standard error without blocking: a guest depends on this process.
    fn say(&self, what: &str) {
        self.lines.say(what.to_owned(), |line| self.write(line));
    }

    /// Writes a line to standard error, between the live lines.
    fn write(&self, what: &str) {
        let line = format!("retpath serve: {}: {what}", self.address);
        output::note_between(self.bars, line);
    }

    /// A live line; hidden unless standard error is a terminal.
    fn bar(&self) -> ProgressBar {
        let bytes = self.image.blocks().iter().map(|block| block.len).sum();
        // Nothing is drawn here: a stopped terminal would block it.
        let bar = ProgressBar::new(bytes).with_prefix(self.address.to_string());
        let style = "{prefix}  {wide_bar} {binary_bytes}/{binary_total_bytes}  {msg}";
        self.bars.add(styled(bar, style))
    }
}

/// The machine in the image, as it is sent to one QEMU.
struct Booting<'a> {
    boot: &'a Boot<'a>,
    bar: ProgressBar,
    start: Instant,
    loaded: Option<Duration>,
    /// Recoveries that have been reported.
    resumes: u64,
    rate: Rate,
}

impl SourceHandler for Booting<'_> {
    fn pages(&self) -> &dyn PageSource {
        self.boot.image.pages()
    }

    fn precopy(&mut self, core: &mut Source) -> Result<(), HandlerError> {
        let state = self.boot.image.device_state().to_vec();
        info!(to = %self.boot.address, device_state = state.len(), "switching to postcopy");
        Ok(core.switch(state)?)
    }

    fn progress(&mut self, core: &Source) {
        if core.is_loaded() && self.loaded.is_none() {
            self.loaded = Some(self.start.elapsed());
            info!(at = %self.boot.address, "the device state is loaded");
        }
        if core.stats().resumes != self.resumes {
            self.resumes = core.stats().resumes;
            self.boot
                .say("recovered: the migration continues over a new link");
        }
        if !self.boot.lines.go_on(|line| self.boot.write(line)) {
            return;
        }
        let left = core.remaining();
        let all = self.bar.length().unwrap_or(0);
        self.bar.set_position(all.saturating_sub(left));
        let stats = core.stats();
        let pages = left / core.blocks().target();
        let rate = self.rate.of(stats.demand);
        let mut line = format!("{pages} pages left, {rate}/s by demand");
        let latency = &stats.latency.source;
        if latency.count() > 0 {
            let [middle, high] = [0.5, 0.99].map(|quantile| Nanos(latency.quantile(quantile)));
            line += &format!(", p50 {middle}, p99 {high}");
        }
        if stats.pauses > 0 {
            line += &format!(", {} cuts", stats.pauses);
        }
        self.bar.set_message(line);
    }

    fn waiting(&mut self, error: &ChannelError, most: Duration) {
        let seconds = most.as_secs();
        self.boot
            .say(&format!("{error}; retrying for up to {seconds} s"));
    }

    fn preempt_refused(&mut self) {
        // Without --preempt the channel was only offered.
        if self.boot.args.preempt {
            self.boot.say(&mismatch::no_preempt());
        }
    }

    fn suspects(&mut self, suspicion: Suspicion) {
        self.boot.say(&mismatch::silence(suspicion));
    }

    fn broken(&mut self, core: &Source, error: &RunError) -> bool {
        let boot = self.boot;
        warn!(to = %boot.address, %error, "the link broke");
        let seconds = boot.args.retry(boot.address).as_secs();
        // A QEMU that has not loaded the devices exits when its link breaks.
        let again = seconds > 0 && core.is_loaded();
        if again {
            boot.say(&format!(
                "{error}; its guest blocks when it touches missing memory; reconnecting for up to \
                 {seconds} s: once `info migrate` there says postcopy-paused, give it \
                 `migrate_recover {}` (QMP: migrate-recover)",
                boot.address
            ));
        }
        again
    }
}

/// The rate at which a counter grows.
#[derive(Default)]
struct Rate {
    since: Option<(Instant, u64)>,
    shown: u64,
}

impl Rate {
    /// Per second, over the last second.
    fn of(&mut self, count: u64) -> u64 {
        let now = Instant::now();
        let (since, before) = *self.since.get_or_insert((now, count));
        let passed = now - since;
        if passed >= Duration::from_secs(1) {
            let millis = passed.as_millis().max(1);
            let grown = u128::from(count.saturating_sub(before)) * 1000 / millis;
            self.shown = u64::try_from(grown).unwrap_or(u64::MAX);
            self.since = Some((now, count));
        }
        self.shown
    }
}

/// Time limit of an attempt to reconnect.
const ATTEMPT: Duration = Duration::from_secs(10);

/// Connects to a QEMU.
struct Dial<'a> {
    address: &'a Address,
    plaintext: bool,
    /// Interrupts an attempt.
    control: &'a Control,
    /// Whether there has been a connection.
    connected: bool,
}

impl Connector for Dial<'_> {
    fn connect(&mut self, channel: Channel) -> Result<Link, ChannelError> {
        debug!(to = %self.address, %channel, "connecting");
        let deadline = self.connected.then(|| Instant::now() + ATTEMPT);
        let interrupt = self.control.as_fd();
        let link = self
            .address
            .connect_until(self.plaintext, interrupt, deadline)?;
        self.connected = true;
        info!(to = %self.address, %channel, "connected");
        Ok(link)
    }
}
