//! Compares two verdicts and looks up their differences in the table.

use std::collections::BTreeSet;

use retpath_spec::model::{Dialect, Message};
use retpath_spec::table::DIALECTS;

use crate::verdict::{Accepted, End, Fault, Verdict};

/// A QEMU release, such as `(7, 2)`.
pub(crate) type Release = (u64, u64);

/// Rules that this project enforces and QEMU does not: label of the message, the
/// violated rule, and the table's requirement, which must carry a note of QEMU's
/// behaviour.
const NOTES: [(&str, &str, &str); 15] = [
    ("SHUT", "after-shut", AFTER_SHUT),
    ("SHUT", "early-shut", EARLY_SHUT),
    ("SHUT", "phase", EARLY_SHUT),
    ("REQ_PAGES_ID", "nul", NUL),
    ("REQ_PAGES_ID", "zero", ZERO),
    ("REQ_PAGES", "zero", ZERO),
    ("RECV_BITMAP", "nul", NUL),
    ("RECV_BITMAP", "length", NAME_LENGTH),
    ("RECV_BITMAP", "short", NAME_LENGTH),
    ("RECV_BITMAP", "leftover", NAME_LENGTH),
    ("RECV_BITMAP", "bitmap-tail", TAIL),
    ("RECV_BITMAP", "never-sent", NEVER_SENT),
    ("RECV_BITMAP", "unasked", UNASKED),
    ("RESUME_ACK", "phase", NO_RECOVERY),
    ("SWITCHOVER_ACK", "unasked", SECOND),
];

const AFTER_SHUT: &str = "Any byte after this message.";
const EARLY_SHUT: &str = "A value of 0 before everything has been sent.";
const NUL: &str = "A NUL byte in the block name.";
const ZERO: &str = "A length of 0.";
const NAME_LENGTH: &str = "A payload length that is not 1 + the name's length.";
const TAIL: &str = "A bit set beyond the block's last page.";
const NEVER_SENT: &str = "A bit for a page that has not been sent, or for a part of a host page.";
const UNASKED: &str = "A block that was not requested, or a second bitmap of the same block.";
const NO_RECOVERY: &str = "The message outside recovery.";
const SECOND: &str = "One that is not awaited.";

/// Compares the verdicts on the same bytes.
///
/// Returns `None` if they are equal, otherwise the table's note on the first
/// difference; later messages cannot be compared.
///
/// # Errors
///
/// Describes a difference for which the table has no note.
pub(crate) fn compare(
    engine: &Verdict,
    qemu: &Verdict,
    release: Release,
) -> Result<Option<String>, String> {
    let both = engine.taken.iter().zip(&qemu.taken);
    if let Some(at) = both.clone().position(|(engine, qemu)| engine != qemu) {
        return Err(format!("message {at} differs in its values"));
    }
    let at = both.count();
    match (engine.taken.get(at), qemu.taken.get(at)) {
        (None, Some(accepted)) => stricter(engine, accepted),
        (Some(accepted), None) => newer(accepted, release),
        _ => match (&engine.end, &qemu.end) {
            (End::Shut, End::Shut) | (End::Open, End::Open) => Ok(None),
            (End::Refused(_), End::Refused(_)) => Ok(None),
            (End::Refused(fault), End::Shut) if fault.rule == "after-shut" => noted(fault),
            (engine, qemu) => Err(format!("retpath ends with {engine:?}, QEMU with {qemu:?}")),
        },
    }
}

/// Handles a message that QEMU accepts and this project refuses.
fn stricter(engine: &Verdict, accepted: &Accepted) -> Result<Option<String>, String> {
    match &engine.end {
        End::Refused(fault) if fault.label == accepted.label() => noted(fault),
        End::Refused(fault) => Err(format!(
            "QEMU accepts {accepted:?} instead of {}",
            fault.label
        )),
        end => Err(format!("QEMU accepts {accepted:?} after retpath's {end:?}")),
    }
}

fn noted(fault: &Fault) -> Result<Option<String>, String> {
    let note = NOTES
        .iter()
        .find(|(label, rule, _)| (*label, *rule) == (fault.label, fault.rule));
    let Some((label, _, what)) = note else {
        return Err(format!(
            "QEMU accepts it, and no note is known for {} [{}]",
            fault.label, fault.rule
        ));
    };
    let refusal = row(label).refuse.iter().find(|row| row.what == *what);
    match refusal.and_then(|row| row.laxer) {
        Some(_) => Ok(Some(format!("{label}: {what}"))),
        None => Err(format!(
            "the table has no note that QEMU is laxer with {label}: {what}"
        )),
    }
}

/// First release that refuses a SWITCHOVER_ACK that no device requested.
const DEVICES: Release = (11, 1);

/// The difference seen with such a release.
const NOT_ASKED: &str = "SWITCHOVER_ACK: not requested by a device";

/// Handles a message that this project accepts and QEMU refuses: allowed if the
/// release predates the message, or counts the acknowledgements of its devices.
fn newer(accepted: &Accepted, release: Release) -> Result<Option<String>, String> {
    if release >= DEVICES && *accepted == Accepted::SwitchoverAck {
        return Ok(Some(NOT_ASKED.into()));
    }
    if is_known(accepted.label(), release) {
        return Err(format!("QEMU refuses {accepted:?}"));
    }
    Ok(Some(since(row(accepted.label()))))
}

/// Returns every difference that a run must encounter.
pub(crate) fn notes(release: Release) -> BTreeSet<String> {
    let asked = release >= DEVICES;
    let met = |(label, _, what): &&(&str, _, &str)| {
        is_known(label, release) && !(asked && *what == SECOND)
    };
    let known = NOTES.iter().filter(met);
    let known = known.map(|(label, _, what)| format!("{label}: {what}"));
    let known = known.chain(asked.then(|| NOT_ASKED.into()));
    let table = table().messages.iter();
    let newer = table.filter(|row| !is_known(row.label, release));
    known.chain(newer.map(since)).collect()
}

/// Whether the release has the message.
fn is_known(label: &str, release: Release) -> bool {
    let mut parts = row(label).since.split('.');
    let mut part = || parts.next().and_then(|part| part.parse().ok());
    release >= (part().unwrap_or(0), part().unwrap_or(0))
}

fn since(row: &Message) -> String {
    format!("{}: since {}", row.label, row.since)
}

fn table() -> &'static Dialect {
    let table = DIALECTS.iter().find(|table| table.name == "qemu");
    table.expect("the merged dialect exists")
}

fn row(label: &str) -> &'static Message {
    let row = table().messages.iter().find(|row| row.label == label);
    row.unwrap_or_else(|| panic!("{label} is not in the table"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Release = (7, 2);

    fn verdict(taken: &[Accepted], end: End) -> Verdict {
        let taken = taken.to_vec();
        Verdict { taken, end }
    }

    fn refused(label: &'static str, rule: &'static str) -> End {
        let why = String::new();
        End::Refused(Fault { label, rule, why })
    }

    #[test]
    fn every_known_note_is_in_the_table() {
        for (label, rule, what) in NOTES {
            let End::Refused(fault) = refused(label, rule) else {
                continue;
            };
            assert_eq!(noted(&fault), Ok(Some(format!("{label}: {what}"))));
        }
        assert_eq!(notes((11, 1)).len(), 12);
        assert!(notes(HERE).contains("SWITCHOVER_ACK: since 8.1"));
    }

    #[test]
    fn finds_every_kind_of_difference() {
        let (ack, pong) = (Accepted::ResumeAck, Accepted::Pong(1));
        let both = |engine: &Verdict, qemu: &Verdict| compare(engine, qemu, HERE);
        let whole = verdict(&[pong.clone(), Accepted::Shut(0)], End::Shut);
        assert_eq!(both(&whole, &whole), Ok(None));
        let other = verdict(&[Accepted::Pong(2), Accepted::Shut(0)], End::Shut);
        assert!(both(&whole, &other).is_err(), "values differ");
        let less = verdict(&[], refused("PONG", "length"));
        assert!(both(&less, &whole).is_err(), "no note");
        assert!(both(&whole, &less).is_err(), "QEMU is stricter");
        assert_eq!(both(&less, &less), Ok(None));

        let strict = verdict(&[], refused("RESUME_ACK", "phase"));
        let lax = verdict(&[ack, Accepted::Shut(0)], End::Shut);
        assert!(both(&strict, &lax).is_ok_and(|note| note.is_some()));
        assert!(
            both(&strict, &whole).is_err(),
            "note is for another message"
        );
        let open = verdict(&[], End::Open);
        assert!(both(&open, &less).is_err(), "endings differ");
        assert!(both(&open, &whole).is_err(), "QEMU accepts more");

        let new = verdict(&[Accepted::SwitchoverAck], End::Open);
        assert!(both(&new, &less).is_ok_and(|note| note.is_some()));
        assert!(
            compare(&new, &less, (8, 1)).is_err(),
            "the release has the message"
        );
        assert!(compare(&new, &less, (11, 1)).is_ok_and(|note| note.is_some()));
        let late = verdict(&[pong, Accepted::Shut(0)], refused("SHUT", "after-shut"));
        assert!(both(&late, &whole).is_ok_and(|note| note.is_some()));
    }
}
