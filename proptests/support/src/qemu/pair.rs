//! QEMU on both sides of a migration: the reference for `retpath` on either side.

use std::path::Path;
use std::time::{Duration, Instant};

use retpath_codec::wire::capability::POSTCOPY_BLOCKTIME;
use serde_json::{Value, json};

use super::machine::Machine;
use super::process::Qemu;
use super::relay::Relay;
use crate::SOON;

/// Messages that QEMU writes to its standard error only when a link breaks in postcopy.
pub const PAUSE: [&str; 6] = [
    "Migration paused",
    "Unable to read from socket",
    "Unable to write to socket",
    "Unable to shutdown socket",
    "failed to save SaveStateEntry",
    "error while loading state section",
];

/// A source with a running guest, a listening destination, and a relay between them.
pub struct Pair {
    pub source: Qemu,
    pub destination: Qemu,
    pub relay: Relay,
}

impl Pair {
    /// Starts both sides with these capabilities. With `record`, the relay records to files with that
    /// prefix.
    pub fn start(machine: &Machine, capabilities: &[&str], record: Option<&Path>) -> Self {
        let (source, destination) = (Qemu::boot(machine), Qemu::incoming(machine));
        Self::join(source, destination, capabilities, record)
    }

    /// Starts both sides with a guest that stays stopped, so that the memory of both can be read.
    /// [`Pair::source`] is already stopped.
    pub fn start_stopped(machine: &Machine, capabilities: &[&str]) -> Self {
        let mut source = Qemu::boot(machine);
        source.stop();
        // In postcopy, QEMU starts the guest even if it was stopped at the source.
        let destination = Qemu::start("destination", machine, &["-incoming", "defer", "-S"]);
        Self::join(source, destination, capabilities, None)
    }

    fn join(
        mut source: Qemu,
        mut destination: Qemu,
        capabilities: &[&str],
        record: Option<&Path>,
    ) -> Self {
        source.enable(capabilities);
        destination.enable(capabilities);
        if destination.knows(POSTCOPY_BLOCKTIME) {
            destination.enable(&[POSTCOPY_BLOCKTIME]);
        }
        let target = destination.listen();
        let relay = match record {
            Some(prefix) => Relay::new(&target).record(prefix),
            None => Relay::recording(&target),
        };
        Self {
            source,
            destination,
            relay,
        }
    }

    /// Sets the bandwidth before and after the switch to postcopy, in bytes per second.
    pub fn bandwidth(&mut self, precopy: u64, postcopy: u64) {
        let limits: Value = json!({ "max-bandwidth": precopy, "max-postcopy-bandwidth": postcopy });
        self.source.set(limits);
    }

    /// Starts the migration and switches to postcopy after `bytes` were forwarded. Returns the time of
    /// the switch command, once the destination owns the guest, so that a broken link can be
    /// recovered.
    pub fn switch_after(&mut self, bytes: u64) -> Instant {
        self.source.migrate(&self.relay.uri());
        self.relay.wait(SOON, "the first round", |links| {
            let forward: u64 = links.iter().map(|link| link.forward).sum();
            (forward >= bytes).then_some(())
        });
        let ordered = Instant::now();
        self.source.start_postcopy();
        // From 10.2 on, the destination reaches this state before the source.
        for side in [&mut self.destination, &mut self.source] {
            side.wait_status(&["postcopy-active", "completed"], SOON);
        }
        self.destination.wait_arrived(SOON);
        ordered
    }

    /// Waits until both sides are in state `completed`.
    pub fn wait_completed(&mut self, within: Duration) {
        self.source.wait_status(&["completed"], within);
        self.destination.wait_status(&["completed"], within);
    }

    /// Waits until both sides detected the lost link, and resumes the migration.
    pub fn recover(&mut self) {
        self.source.wait_status(&["postcopy-paused"], SOON);
        self.destination.wait_status(&["postcopy-paused"], SOON);
        self.destination.recover();
        let uri = self.relay.uri();
        self.source.resume(&uri);
        self.source
            .wait_status(&["postcopy-active", "completed"], SOON);
    }
}
