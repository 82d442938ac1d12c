//! `cargo bench -p retpath-codec`: nanoseconds per message for this codec and
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
mod winnow;
mod zero;

use std::process::ExitCode;

use rustix::thread::{CpuSet, sched_getcpu, sched_setaffinity};

use contender::Parse;
use lanes::races;
use measure::{Pace, race};
use mix::{MESSAGES, Mix, mixes};

fn main() -> ExitCode {
    let gate = std::env::args().any(|argument| argument == "--gate");
    pin();
    let mixes = mixes();
    check(&mixes);
    count_allocations(&mixes);
    let results: Vec<Column> = mixes.iter().flat_map(run).collect();
    print_table(&results);
    let held = print_goals(&results);
    if gate && !held {
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Keeps the process on the CPU that it runs on.
fn pin() {
    let mut cpus = CpuSet::new();
    cpus.set(sched_getcpu());
    match sched_setaffinity(None, &cpus) {
        Ok(()) => println!("Held on CPU {}.", sched_getcpu()),
        Err(error) => println!("Not held on one CPU ({error}): expect noise."),
    }
}

fn check(mixes: &[Mix]) {
    check::parser::<ours::Ours>(mixes);
    check::parser::<zero::Zero>(mixes);
    check::parser::<winnow::Winnow>(mixes);
    check::parser::<binrw::Binrw>(mixes);
    check::parser::<deku::Deku>(mixes);
    check::writer::<hand::Hand>(mixes);
    check::writer::<ours::Ours>(mixes);
    check::writer::<zero::Zero>(mixes);
    check::writer::<binrw::Binrw>(mixes);
    check::writer::<deku::Deku>(mixes);
    check::slice_writer::<hand::Hand>(mixes);
    check::slice_writer::<ours::Ours>(mixes);
    println!("All contenders read, refuse and write the same.");
}

/// The codec allocates for no message; says who does.
fn count_allocations(mixes: &[Mix]) {
    let mut own = Vec::new();
    for race in mixes.iter().flat_map(races) {
        for mut lane in race.lanes {
            let count = allocation_counter::measure(|| (lane.run)()).count_total;
            if lane.name == ours::Ours::NAME {
                assert_eq!(count, 0, "{} of {} allocates", race.what, race.mix);
            }
            if count > 0 && !own.contains(&lane.name) {
                own.push(lane.name);
            }
        }
    }
    println!(
        "Allocations per message: none, but {} need one for each name they read.",
        own.join(" and ")
    );
}

/// The outcome of one race.
struct Column {
    what: &'static str,
    mix: &'static str,
    goal: f64,
    paces: Vec<Pace>,
}

fn run(mix: &Mix) -> Vec<Column> {
    let column = |entry: lanes::Race<'_>| Column {
        what: entry.what,
        mix: entry.mix,
        goal: entry.goal,
        paces: race(entry.lanes, MESSAGES),
    };
    races(mix).into_iter().map(column).collect()
}

fn print_table(columns: &[Column]) {
    print!("\n| ns per message, ratio to hand-written |");
    for Column { what, mix, .. } in columns {
        print!(" {what}, {mix} |");
    }
    println!("\n|---|{}", "---|".repeat(columns.len()));
    for Pace { name, .. } in &columns[0].paces {
        print!("| {name} |");
        for column in columns {
            match column.paces.iter().find(|pace| pace.name == *name) {
                Some(pace) => print!(" {:.1}, {:.2}x |", pace.nanos, pace.ratio),
                None => print!(" – |"),
            }
        }
        println!();
    }
    println!();
}

/// Whether the codec is as near to hand-written as it should be, and ahead of
/// the libraries that derive or combine.
fn print_goals(columns: &[Column]) -> bool {
    let mut held = true;
    for column in columns {
        let Column {
            what, mix, goal, ..
        } = column;
        let ratio = |name| {
            let pace = column.paces.iter().find(|pace| pace.name == name);
            pace.map(|pace| pace.ratio)
        };
        let Some(ours) = ratio(ours::Ours::NAME) else {
            continue;
        };
        let rivals = [winnow::Winnow::NAME, binrw::Binrw::NAME, deku::Deku::NAME];
        let behind: Vec<&str> = rivals
            .into_iter()
            .filter(|rival| ratio(rival).is_some_and(|rival| rival <= ours))
            .collect();
        let near = ours <= *goal;
        held &= near && behind.is_empty();
        let verdict = if near { "holds" } else { "missed" };
        print!("{what}, {mix}: {ours:.3}x of hand-written, goal {goal:.2}x: {verdict}");
        if behind.is_empty() {
            println!("; ahead of the others.");
        } else {
            println!("; not ahead of {}.", behind.join(", "));
        }
    }
    println!("\nGoals {}.", if held { "hold" } else { "are missed" });
    held
}
