//! Messages about a connection that breaks in postcopy, and about its replacement.

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
}
