//! What a working set saves: the boots of one guest on a real QEMU, from another QEMU, and from an
//! image without a working set, learning, with it, and with one of which half is wrong. The guest goes
//! through its working set in a random order.
//!
//! ```text
//! cargo bench -p retpath --bench working_set                       both channels
//! cargo bench -p retpath --bench working_set -- 'one channel'      one of them
//! ```
//!
//! RETPATH_QEMU names the QEMU; by default it is the 11.1 that `.ci/qemu-builds` installs.
//! RETPATH_BENCH_MIB (512) and RETPATH_BENCH_RUNS (3) change the machine's size and the number of
//! runs.
//!
//! Asserts only that the guest is well; goals that are missed are named as missed.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use retpath_engine::blocks::Span;
use retpath_engine::source::FirstRequest;
use retpath_image::WorkingSet;
use retpath_support::qemu::{Guest, Image, Machine};

mod boots;

use boots::{Figures, by_qemu, by_serve, cells, choose_qemu, number};

/// The order of a working set in which every other page was replaced by one that the guest does not
/// need.
fn half_wrong(image: &retpath_image::Image, known: &WorkingSet) -> WorkingSet {
    let blocks = image.blocks();
    let page_of = |span: &Span| blocks.block(span.block).expect("a block").page;
    let pages: Vec<Span> = known
        .order()
        .iter()
        .flat_map(|span| {
            let (span, page) = (*span, page_of(span));
            (span.offset..span.end())
                .step_by(usize::try_from(page).expect("a page size"))
                .map(move |offset| Span {
                    offset,
                    len: page,
                    ..span
                })
        })
        .collect();
    let needed: HashSet<_> = pages.iter().map(|page| (page.block, page.offset)).collect();
    let ram = blocks.block(0).expect("a block");
    let offsets = (0..ram.len / ram.page).map(|page| page * ram.page);
    let mut others = offsets
        .rev()
        .filter(|&offset| !needed.contains(&(0, offset)));
    let list = pages.iter().enumerate().filter_map(|(at, page)| {
        let span = match at % 2 {
            0 => *page,
            _ => Span {
                block: 0,
                offset: others.next()?,
                len: ram.page,
            },
        };
        Some(FirstRequest { span, ordered: 0 })
    });
    WorkingSet::default().merge(blocks, &[&list.collect::<Vec<_>>()])
}

fn main() {
    choose_qemu();
    let mib = number("RETPATH_BENCH_MIB", 512);
    let runs = number("RETPATH_BENCH_RUNS", 3);
    let guest = Guest {
        sweep: 0,
        stride: 509,
        ..Guest::mib(64, u32::try_from(mib * 5 / 8).expect("a small number"))
    };
    let machine = Machine::new(mib, guest);
    let image = Image::saved(&machine);
    let opened = retpath_image::Image::open(&image.path()).expect("an image");
    let (id, blocks) = (opened.id().expect("a new image has one"), opened.blocks());
    let folder = tempfile::tempdir().expect("a folder");
    let [good, bad] = ["good", "bad"].map(|name| folder.path().join(name));
    let text = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    for (cell, preempt, bandwidth) in cells(&[64 << 20]) {
        let [mut qemu, mut none, mut first, mut second, mut half] = [(); 5].map(|()| Vec::new());
        let mut size = 0.0;
        for _ in 0..runs {
            qemu.push(by_qemu(&machine, preempt, bandwidth));
            let serve = |more: &[&str]| by_serve(&image, preempt, bandwidth, more);
            none.push(serve(&[]));
            let _ = fs::remove_file(&good);
            first.push(serve(&["--working-set", &text(&good)]));
            let known = WorkingSet::read(&good, id, blocks).expect("it was written");
            let known = known.expect("it was written");
            size = known.to_bytes(id, blocks).len() as f64 / known.pages(blocks) as f64;
            let wrong = half_wrong(&opened, &known);
            wrong.write(&bad, id, blocks).expect("the folder is ours");
            second.push(serve(&["--working-set", &text(&good)]));
            half.push(serve(&["--working-set", &text(&bad)]));
        }
        println!("\n{mib} MiB, {cell}, median of {runs}; {size:.1} bytes for each page of the set");
        println!(
            "{:<28} {:>9} {:>9} {:>9} {:>9} {:>10}",
            "source", "QEMU", "no set", "learning", "second", "half wrong"
        );
        for (name, figure) in Figures::ROWS {
            let all = [&qemu, &none, &first, &second, &half];
            let [qemu, none, first, second, half] = all.map(|runs| Figures::median(runs, figure));
            println!("{name:<28} {qemu:>9.1} {none:>9.1} {first:>9.1} {second:>9.1} {half:>10.1}");
        }
        let ratio = |figure: fn(&Figures) -> f64, than: &[Figures]| {
            Figures::median(&second, figure) / Figures::median(than, figure)
        };
        let worse = Figures::median(&half, |one| one.pass) / Figures::median(&none, |one| one.pass);
        for (what, ratio, goal) in [
            (
                "requests, second to first boot",
                ratio(|one| one.requests, &first),
                0.05,
            ),
            (
                "stood still, second boot to QEMU",
                ratio(|one| one.blocked, &qemu),
                0.1,
            ),
            (
                "through the set, second boot to QEMU",
                ratio(|one| one.pass, &qemu),
                0.3,
            ),
            ("through the set, half wrong to none", worse, 1.0),
        ] {
            let verdict = if ratio <= goal { "met" } else { "MISSED" };
            println!("{what:<38} {ratio:>6.3}, goal {goal}: {verdict}");
        }
    }
}
