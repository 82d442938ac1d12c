//! Messages about the source: a connection that breaks in postcopy and its replacement, and a source
//! that does not switch.

use std::mem::{self, Discriminant};

use retpath_codec::Rule;
use retpath_engine::destination::pending::Refusal;
use retpath_engine::driver::RunError;
use retpath_engine::socket::Address;

/// The time from a broken connection until the migration is resumed.
#[derive(Debug)]
pub(super) struct Outage {
    /// Where the replacement connects.
    address: Address,
    /// How long to wait for it, in seconds.
    limit: u64,
    /// The last message; `None` while the migration runs.
    said: Option<String>,
}

impl Outage {
    pub(super) fn new(address: Address, limit: u64) -> Self {
        Self {
            address,
            limit,
            said: None,
        }
    }

    /// The message for a connection that broke, or for a new one that did not resume the migration.
    /// `None` if it equals the last message: otherwise anybody who can connect could fill a log.
    pub(super) fn broken(&mut self, error: &RunError, missing: u64) -> Option<String> {
        let Self { address, limit, .. } = self;
        let line = match (&self.said, &*address) {
            (Some(_), _) => {
                format!("a new link did not resume the migration: {error}; waiting for another one")
            }
            (None, Address::Fd(_)) => format!(
                "{error}; {missing} pages are missing, and no other link can come over {address}: \
                 the migration cannot go on"
            ),
            (None, _) => format!(
                "{error}; {missing} pages are missing, and the guest stands still at the source; \
                 waiting up to {limit} s for a new link: once `info migrate` at the source says \
                 postcopy-paused, give it `migrate -r {address}`"
            ),
        };
        (self.said.as_ref() != Some(&line)).then(|| self.said.insert(line).clone())
    }

    /// The message for a migration that has been resumed.
    pub(super) fn recovered(&mut self, missing: u64) -> String {
        self.said = None;
        format!("recovered: the migration goes on over a new link, {missing} pages are missing")
    }
}

/// The connections that were dropped.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    said: Vec<Discriminant<Refusal>>,
}

impl Refusals {
    /// The message for a dropped connection, once for each reason: otherwise anybody who can
    /// connect could fill a log.
    pub(super) fn handle(&mut self, why: &Refusal) -> Option<String> {
        let reason = mem::discriminant(why);
        if self.said.contains(&reason) {
            return None;
        }
        self.said.push(reason);
        let tls = match why {
            Refusal::Malformed(error) if is_tls(error.rule) => {
                " (it begins like a TLS session, which only a tunnel can end: see the README)"
            }
            _ => "",
        };
        Some(format!(
            "a connection was dropped: {why}{tls}; waiting for the source"
        ))
    }
}

/// Whether the magic is the beginning of a handshake of TLS 1.x.
fn is_tls(rule: Rule) -> bool {
    matches!(rule, Rule::Magic { got } if got.to_be_bytes().starts_with(&[0x16, 3]))
}

/// Time for which a source stays in precopy before it is reported, in nanoseconds.
const REPORT: u64 = 5_000_000_000;

/// A source that sends nothing for this many nanoseconds counts as paused by its user.
const PAUSE: u64 = 1_000_000_000;

/// Detects a source that stays in precopy after all of the guest's memory has been received.
///
/// Most often the guest changes memory faster than the connection carries it. A source with the
/// capability switchover-ack looks the same while it waits for SWITCHOVER_ACK, and an old machine
/// type does not show whether its QEMU knows that message. Time is in nanoseconds.
#[derive(Debug, Default)]
pub(super) struct Unswitched {
    since: Option<u64>,
    /// Pages received, and when that number last changed.
    moved: (u64, u64),
    said: bool,
}

impl Unswitched {
    /// `pages` is the number of pages received in precopy once every page has been
    /// received; `None` if the source cannot be waiting for SWITCHOVER_ACK. Returns,
    /// once, for how many seconds that has lasted.
    pub(super) fn handle(&mut self, now: u64, pages: Option<u64>) -> Option<u64> {
        let Some(pages) = pages else {
            self.since = None;
            return None;
        };
        if self.moved.0 != pages {
            self.moved = (pages, now);
        } else if now.saturating_sub(self.moved.1) >= PAUSE {
            self.since = None;
            return None;
        }
        let went_on = now.saturating_sub(*self.since.get_or_insert(now));
        if self.said || went_on < REPORT {
            return None;
        }
        self.said = true;
        Some(went_on / 1_000_000_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_the_same_error_once_per_outage() {
        let mut outage = Outage::new("tcp:localhost:4444".parse().expect("good"), 300);
        let broken = |outage: &mut Outage| outage.broken(&RunError::Closed, 7);
        let first = broken(&mut outage).expect("something");
        assert!(first.contains("`migrate -r tcp:localhost:4444`"), "{first}");
        assert!(first.contains("300 s"), "{first}");
        let second = broken(&mut outage).expect("something");
        assert!(second.contains("did not resume"), "{second}");
        assert_eq!(broken(&mut outage), None);
        outage.recovered(7);
        assert_eq!(broken(&mut outage), Some(first));
    }

    #[test]
    fn gives_no_advice_to_reconnect_to_an_inherited_descriptor() {
        let mut outage = Outage::new(Address::Fd(3), 300);
        let line = outage.broken(&RunError::Closed, 7).expect("something");
        assert!(!line.contains("migrate -r"), "{line}");
        assert!(line.contains("over fd:3"), "{line}");
    }

    #[test]
    fn reports_each_reason_for_a_dropped_connection_once() {
        let mut refusals = Refusals::default();
        let uid = |uid| Refusal::User { uid: Some(uid) };
        let line = refusals.handle(&uid(7)).expect("a message");
        assert!(line.contains("user 7"), "{line}");
        assert_eq!(refusals.handle(&uid(8)), None);
        assert!(refusals.handle(&Refusal::CutShort).is_some());
    }

    const TENTH: u64 = 100_000_000;

    #[test]
    fn reports_a_source_that_keeps_sending_once() {
        let mut unswitched = Unswitched::default();
        let told = (0..200).filter_map(|i| unswitched.handle(i * TENTH, Some(i)));
        assert_eq!(told.collect::<Vec<_>>(), [5]);
    }

    #[test]
    fn does_not_report_a_source_that_was_paused_or_cannot_wait() {
        let mut unswitched = Unswitched::default();
        for i in 0..600 {
            // Four seconds of pages, then two of none.
            let pages = i / 60 * 40 + (i % 60).min(40);
            assert_eq!(unswitched.handle(i * TENTH, Some(pages)), None);
        }
        for i in 600..900 {
            assert_eq!(unswitched.handle(i * TENTH, None), None);
        }
    }
}
