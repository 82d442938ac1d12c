//! What is said about a link that breaks in postcopy, and about the one that takes its place.

use crate::channel::Address;
use crate::run::RunError;

/// A time without a link over which the migration goes on.
#[derive(Debug)]
pub(super) struct Outage {
    /// Where a new link is waited for.
    address: Address,
    /// How long, in seconds.
    limit: u64,
    /// What was said last; none while the migration goes on.
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

    /// The line for a link that broke, or for a new one that did not get the migration going again;
    /// none if it says what the last one said: whoever can connect could fill a log with it.
    pub(super) fn broken(&mut self, error: &RunError, missing: u64) -> Option<String> {
        let Self { address, limit, .. } = self;
        let line = match (&self.said, &*address) {
            (Some(_), _) => format!("a new link was of no use: {error}; waiting for another one"),
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

    /// The line for a migration that goes on.
    pub(super) fn recovered(&mut self, missing: u64) -> String {
        self.said = None;
        format!("recovered: the migration goes on over a new link, {missing} pages are missing")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_nothing_in_one_outage() {
        let mut outage = Outage::new("tcp:localhost:4444".parse().expect("good"), 300);
        let broken = |outage: &mut Outage| outage.broken(&RunError::Closed, 7);
        let first = broken(&mut outage).expect("something");
        assert!(first.contains("`migrate -r tcp:localhost:4444`"), "{first}");
        assert!(first.contains("300 s"), "{first}");
        let second = broken(&mut outage).expect("something");
        assert!(second.contains("of no use"), "{second}");
        assert_eq!(broken(&mut outage), None);
        outage.recovered(7);
        assert_eq!(broken(&mut outage), Some(first));
    }

    #[test]
    fn advises_nothing_where_no_link_can_come() {
        let mut outage = Outage::new(Address::Fd(3), 300);
        let line = outage.broken(&RunError::Closed, 7).expect("something");
        assert!(!line.contains("migrate -r"), "{line}");
        assert!(line.contains("over fd:3"), "{line}");
    }
}
