//! Measures contenders against each other: short batches in alternation, many
//! rounds, and the median of the ratios within a round, so that other load on the
//! machine affects all contenders equally.

use std::time::Instant;

/// Rounds that are not measured.
const WARM_UP: usize = 20;

/// Measured rounds.
const ROUNDS: usize = 1000;

/// One contender in one race.
pub(crate) struct Lane<'a> {
    pub(crate) name: &'static str,
    pub(crate) run: Box<dyn FnMut() + 'a>,
}

/// The time of a contender.
#[derive(Clone, Copy)]
pub(crate) struct Pace {
    pub(crate) name: &'static str,
    /// Median, in nanoseconds per message.
    pub(crate) nanos: f64,
    /// Median ratio to the first lane in the same round.
    pub(crate) ratio: f64,
}

/// Measures all lanes; ratios are relative to the first one.
pub(crate) fn race(mut lanes: Vec<Lane<'_>>, messages: u32) -> Vec<Pace> {
    let count = lanes.len();
    let mut times = vec![Vec::with_capacity(ROUNDS); count];
    for round in 0..WARM_UP + ROUNDS {
        for turn in 0..count {
            let lane = (round + turn) % count;
            let start = Instant::now();
            (lanes[lane].run)();
            let nanos = start.elapsed().as_secs_f64() * 1e9 / f64::from(messages);
            if round >= WARM_UP {
                times[lane].push(nanos);
            }
        }
    }
    let first = times[0].clone();
    let pace = |(lane, times): (&Lane<'_>, Vec<f64>)| Pace {
        name: lane.name,
        ratio: median(times.iter().zip(&first).map(|(own, first)| own / first)),
        nanos: median(times.into_iter()),
    };
    lanes.iter().zip(times).map(pace).collect()
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
