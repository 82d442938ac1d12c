//! Recordings of real QEMU: no byte stays unexplained.

mod forward_common;

use std::collections::BTreeMap;

use forward_common::{capture, drain, fresh};
use retpath_codec::forward::{Decoder, Event};

#[test]
fn tmp() {
    for name in [
        "qemu-7.2-plain",
        "qemu-10.0-plain",
        "qemu-7.2-preempt",
        "qemu-10.0-preempt",
        "qemu-7.2-recover",
        "qemu-10.0-recover",
    ] {
        let mut first = fresh();
        show(&mut first, name, 0);
        if name.ends_with("preempt") {
            show(&mut first.preempt(), name, 1);
        }
        if name.ends_with("recover") {
            show(&mut first.resume(), name, 1);
        }
    }
}

fn show(d: &mut Decoder, name: &str, ch: u32) {
    let bytes = capture(&format!("{name}.ch{ch}.fwd"));
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    let mut out = Vec::new();
    let left = drain(d, &bytes, |d, _, e| {
        let l = match e {
            Event::Record(_) => format!("{} {}", e.label(), d.is_listening()),
            _ => e.label().into(),
        };
        *counts.entry(l).or_default() += 1;
        e.encode(d.blocks(), &mut out).unwrap();
    });
    println!(
        "{name} {ch} {:?} {:?}",
        left.map(|l| l.len()),
        d.finish(left.unwrap_or(&[]))
    );
    println!("   {counts:?} same={}", out == bytes);
}
