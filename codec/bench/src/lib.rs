//! `cargo bench -p retpath-codec-bench`: nanoseconds per message for this codec and
//! for others that follow the same rules, as a Markdown table.
//!
//! One process, one thread, held on one CPU. With `-- --gate` it exits 1 when
//! the codec misses a goal. Panics if a contender reads, refuses or writes
//! anything else than the others do, or if the codec allocates.

mod binrw;
mod check;
mod contender;
mod deku;
mod hand;
mod lanes;
mod measure;
mod mix;
mod ours;
mod owned;
mod report;
mod winnow;
mod zero;

use std::process::ExitCode;

use rustix::thread::{CpuSet, sched_getcpu, sched_setaffinity};

use contender::Parse;
use lanes::races;
use measure::race;
use mix::{MESSAGES, Mix, mixes};
use ours::Ours;
use report::Column;

/// Measures, prints the table and judges it.
pub fn main() -> ExitCode {
    let gate = std::env::args().any(|argument| argument == "--gate");
    hold_cpu();
    let mixes = mixes();
    check(&mixes);
    count_allocations(&mixes);
    let columns = measure(&mixes);
    report::table(&columns);
    let hold = report::goals(&columns);
    if gate && !hold {
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Keeps the process on the CPU that it runs on.
fn hold_cpu() {
    let mut cpus = CpuSet::new();
    cpus.set(sched_getcpu());
    match sched_setaffinity(None, &cpus) {
        Ok(()) => println!("Held on CPU {}.", sched_getcpu()),
        Err(error) => println!("Not held on one CPU ({error}): expect noise."),
    }
}

fn check(mixes: &[Mix]) {
    check::parser::<Ours>(mixes);
    check::parser::<zero::Zero>(mixes);
    check::parser::<winnow::Winnow>(mixes);
    check::parser::<binrw::Binrw>(mixes);
    check::parser::<deku::Deku>(mixes);
    check::writer::<hand::Hand>(mixes);
    check::writer::<Ours>(mixes);
    check::writer::<zero::Zero>(mixes);
    check::writer::<binrw::Binrw>(mixes);
    check::writer::<deku::Deku>(mixes);
    check::slice_writer::<hand::Hand>(mixes);
    check::slice_writer::<Ours>(mixes);
    println!("All contenders read, refuse and write the same.");
}

/// The codec allocates for no message; says who does.
fn count_allocations(mixes: &[Mix]) {
    let mut others = Vec::new();
    for race in mixes.iter().flat_map(races) {
        for mut lane in race.lanes {
            let count = allocation_counter::measure(|| (lane.run)()).count_total;
            if lane.name == Ours::NAME {
                assert_eq!(count, 0, "{:?} of {} allocates", race.what, race.mix);
            }
            if count > 0 && !others.contains(&lane.name) {
                others.push(lane.name);
            }
        }
    }
    println!(
        "Allocations per message: none; {} need one for each block name they read.",
        others.join(" and ")
    );
}

fn measure(mixes: &[Mix]) -> Vec<Column> {
    let mut columns: Vec<Column> = mixes
        .iter()
        .flat_map(races)
        .map(|entry| Column {
            what: entry.what,
            mix: entry.mix,
            paces: race(entry.lanes, MESSAGES),
        })
        .collect();
    columns.sort_by_key(|column| column.what);
    columns
}
