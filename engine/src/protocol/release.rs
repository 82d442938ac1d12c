//! The QEMU release of a machine type, on which the wire format depends on both sides; the
//! release of the program does not matter.
//!
//! Versioned machine types end in `-MAJOR.MINOR`: `pc-i440fx-7.2`, `pc-q35-10.0`, `virt-9.1`,
//! `pc-0.15`. Others (`microvm`, or a distribution's own `pc-q35-rhel9.4.0`) have no known
//! release. Nothing here panics on any name.

use std::fmt;
use std::str::FromStr;

/// A QEMU release, such as 7.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Release {
    major: u32,
    minor: u32,
}

/// When the preempt channel is connected, and how it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preempt {
    /// Machine types up to 7.2: connected with the main channel, ends with an
    /// EOS record.
    Early,
    /// Later machine types: connected after the first PONG, simply closed.
    Late,
}

impl Release {
    /// The last release whose machine types send no configuration section.
    pub const OLD: Self = Self { major: 2, minor: 3 };

    /// The release of a machine type, if its name contains it.
    pub fn of(machine: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(machine).ok()?;
        let (_, version) = text.rsplit_once('-')?;
        version.parse().ok()
    }

    /// When the preempt channel is connected. QEMU: `hw/core/machine.c`, property
    /// `x-preempt-pre-7-2`.
    pub fn preempt(self) -> Preempt {
        if (self.major, self.minor) <= (7, 2) {
            Preempt::Early
        } else {
            Preempt::Late
        }
    }

    /// Whether a source is paused when its link breaks after it has stopped its guest and before the
    /// destination has loaded the device state; later sources fail, and run the guest again. QEMU:
    /// state `postcopy-device`, since 10.2.
    pub fn may_pause_at_switch(self) -> bool {
        (self.major, self.minor) <= (10, 1)
    }

    /// Whether SWITCHOVER_START is sent. QEMU: property `send-switchover-start`.
    pub fn sends_switchover_start(self) -> bool {
        self.major >= 10
    }

    /// Whether a source accepts one SWITCHOVER_ACK even if it does not wait for it: the
    /// program is at least as new as its machine type, and 8.1 introduced the message.
    pub fn takes_ack(self) -> bool {
        (self.major, self.minor) >= (8, 1) && self.waits_for_one_ack()
    }

    /// Whether a source with the capability `switchover-ack` waits for one SWITCHOVER_ACK from the
    /// destination; later sources wait for one per device that requests it, and fail on any other.
    /// QEMU: property `switchover-ack-legacy`.
    pub fn waits_for_one_ack(self) -> bool {
        (self.major, self.minor) <= (11, 0)
    }
}

impl FromStr for Release {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |part: &str| {
            let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            part.parse().ok().filter(|_| digits)
        };
        let parts = text.split_once('.');
        parts
            .and_then(|(major, minor)| {
                let (major, minor) = (number(major)?, number(minor)?);
                Some(Self { major, minor })
            })
            .ok_or_else(|| {
                format!("`{text}` is not a QEMU release: must be MAJOR.MINOR, such as 7.2")
            })
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_the_release_of_a_machine_type() {
        for (machine, release) in [
            ("pc-i440fx-7.2", "7.2"),
            ("pc-q35-10.0", "10.0"),
            ("virt-9.1", "9.1"),
            ("s390-ccw-virtio-2.12", "2.12"),
            ("pc-0.15", "0.15"),
        ] {
            let found = Release::of(machine.as_bytes()).expect(machine);
            assert_eq!(found.to_string(), release);
        }
    }

    #[test]
    fn ignores_names_without_a_release() {
        for machine in [
            "microvm",
            "pc",
            "xenfv-4.2.1",
            "pc-q35-rhel9.4.0",
            "pc-i440fx-jammy",
            "pc-q35-7.",
            "pc-q35-.2",
            "pc-q35-+7.2",
            "",
        ] {
            assert_eq!(Release::of(machine.as_bytes()), None, "{machine}");
        }
        assert_eq!(Release::of(b"pc-\xff-7.2"), None);
    }

    #[test]
    fn knows_the_changes_between_releases() {
        let of = |text: &str| text.parse::<Release>().expect("a release");
        assert_eq!(of("2.12").preempt(), Preempt::Early);
        assert_eq!(of("7.2").preempt(), Preempt::Early);
        assert_eq!(of("8.0").preempt(), Preempt::Late);
        assert_eq!(of("10.0").preempt(), Preempt::Late);
        assert!(!of("9.2").sends_switchover_start());
        assert!(of("10.0").sends_switchover_start());
        assert!(of("11.0").waits_for_one_ack());
        assert!(!of("8.0").takes_ack() && of("8.1").takes_ack());
        assert!(of("11.0").takes_ack() && !of("11.1").takes_ack());
        assert!(!of("11.1").waits_for_one_ack());
    }
}
