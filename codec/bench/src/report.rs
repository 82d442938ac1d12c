//! Prints the results as a table for the README, and compares them with the goals.

use crate::Goals;
use crate::contender::Parse;
use crate::lanes::What;
use crate::measure::Pace;
use crate::mix::LEGEND;
use crate::ours::Ours;
#[cfg(feature = "rivals")]
use crate::rivals::{binrw::Binrw, deku::Deku, winnow::Winnow};

/// Contenders that must be slower than the codec.
#[cfg(feature = "rivals")]
const RIVALS: &[&str] = &[Winnow::NAME, Binrw::NAME, Deku::NAME];
#[cfg(not(feature = "rivals"))]
const RIVALS: &[&str] = &[];

/// The outcome of one race.
pub(crate) struct Column {
    pub(crate) what: What,
    pub(crate) mix: &'static str,
    pub(crate) paces: Vec<Pace>,
}

impl Column {
    fn pace(&self, name: &str) -> Option<&Pace> {
        self.paces.iter().find(|pace| pace.name == name)
    }

    /// Median ratio to hand-written, if the contender took part.
    fn ratio(&self, name: &str) -> Option<f64> {
        self.pace(name).map(|pace| pace.ratio)
    }
}

pub(crate) fn table(columns: &[Column]) {
    print!("\n| ns per message, ratio to hand-written |");
    for Column { what, mix, .. } in columns {
        print!(" {}, {mix} |", what.name());
    }
    println!("\n|---|{}", "---|".repeat(columns.len()));
    for Pace { name, .. } in &columns[0].paces {
        print!("| {name} |");
        for column in columns {
            match column.pace(name) {
                Some(pace) => print!(" {:.1}, {:.2}x |", pace.nanos, pace.ratio),
                None => print!(" – |"),
            }
        }
        println!();
    }
    println!("\n{LEGEND}\n");
}

/// Returns whether the codec meets the goals and is faster than its rivals.
pub(crate) fn judge(columns: &[Column], goals: &Goals) -> bool {
    let mut hold = true;
    for column in columns {
        let Column { what, mix, .. } = column;
        let ours = column.ratio(Ours::NAME).expect("is in every race");
        let goal = match what {
            What::Parse => goals.parse,
            What::WriteVec | What::WriteSlice => goals.write,
        };
        let near = ours <= goal;
        let mut line = format!("{}, {mix}: {ours:.3}x, goal {goal:.2}x", what.name());
        line.push_str(if near { ": holds" } else { ": missed" });
        for rival in RIVALS {
            if column.ratio(rival).is_some_and(|rival| rival <= ours) {
                line.push_str(&format!("; {rival} is faster"));
                hold = false;
            }
        }
        hold &= near;
        println!("{line}.");
    }
    println!("Goals: {}.", if hold { "they hold" } else { "missed" });
    hold
}
