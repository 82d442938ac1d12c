//! Machine types of the QEMU under test: older types differ on the wire, and newer releases drop the
//! oldest.

use std::io::{self, Write};
use std::process::Command;

use super::process::binary;

/// A QEMU release, such as `(7, 2)`.
pub type Release = (u32, u32);

fn ask(arguments: &[&str]) -> String {
    let output = Command::new(binary()).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("cannot run QEMU: {error}"));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn parse(version: &str) -> Option<Release> {
    let mut parts = version.split('.').map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?))
}

/// Returns the release of the QEMU under test.
pub fn release() -> Release {
    let text = ask(&["--version"]);
    let found = text.split_whitespace().find_map(parse);
    found.unwrap_or_else(|| panic!("no version in {text:?}"))
}

/// Returns the types of the family `pc-i440fx`, each with its release, oldest first.
pub fn types() -> Vec<(Release, String)> {
    let text = ask(&["-machine", "help"]);
    let names = text
        .lines()
        .filter_map(|line| line.split_whitespace().next());
    let versioned = names.filter_map(|name| {
        let release = parse(name.strip_prefix("pc-i440fx-")?)?;
        Some((release, name.to_owned()))
    });
    let mut types: Vec<_> = versioned.collect();
    types.sort();
    assert!(!types.is_empty(), "no machine types in {text:?}");
    types
}

/// Returns the oldest type.
pub fn oldest() -> (Release, String) {
    types().swap_remove(0)
}

/// Returns the newest type of at most this release; reports the gap and returns `None` if this QEMU
/// has no such type.
pub fn up_to(release: Release, what: &str) -> Option<String> {
    let mut types = types();
    types.retain(|(of, _)| *of <= release);
    let found = types.pop().map(|(_, name)| name);
    if found.is_none() {
        not_tested(what);
    }
    found
}

/// Returns the last type without footers.
pub fn without_footers() -> Option<String> {
    up_to((2, 3), "machine types without footers (2.3 and older)")
}

/// Returns machine types that connect their preempt channel during setup (7.2 and older) and after
/// the first PONG: one of each, as far as this QEMU has them, and whether it is the former kind.
pub fn preempt_orders() -> Vec<(String, bool)> {
    if release() < (7, 1) {
        not_tested("the preempt channel (7.1 and newer)");
        return Vec::new();
    }
    let early = up_to((7, 2), "the preempt channel's early order (7.2 and older)");
    let mut orders: Vec<_> = early.into_iter().map(|name| (name, true)).collect();
    match types().pop() {
        Some((release, name)) if release > (7, 2) => orders.push((name, false)),
        _ => not_tested("the preempt channel's late order (8.0 and newer)"),
    }
    orders
}

/// Returns machine types whose source, with the capability `switchover-ack`, waits for the whole
/// destination (11.0 and older) and for each requesting device: one of each, as far as available.
pub fn switchover_acks() -> Vec<String> {
    if release() < (8, 1) {
        not_tested("SWITCHOVER_ACK (8.1 and newer)");
        return Vec::new();
    }
    let whole = up_to((11, 0), "SWITCHOVER_ACK as up to 11.0");
    let mut kinds: Vec<_> = whole.into_iter().collect();
    match types().pop() {
        Some((release, name)) if release > (11, 0) => kinds.push(name),
        _ => not_tested("SWITCHOVER_ACK as from 11.1 on"),
    }
    kinds
}

/// Reports a gap on stderr directly, because the test runner hides the output of passing tests.
pub fn not_tested(what: &str) {
    let _ = writeln!(io::stderr(), "NOT TESTED: {what}: not in this QEMU");
}
