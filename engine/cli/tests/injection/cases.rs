//! Choosing cases, running them in parallel, and counting.

use std::any::Any;
use std::collections::BTreeMap;
use std::env;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use crate::Scenario;
use crate::calls;
use crate::strace::{self, Fault, Injection, Record};

/// How many cases run at a time: most of their time they wait.
const WORKERS: usize = 8;

/// Which cases are run.
pub(crate) enum Selection {
    /// Every `of`th one.
    Part { part: usize, of: usize },
    /// Every error of some calls.
    Errors(&'static [&'static str]),
    /// SIGKILL at some calls.
    Kills(&'static [&'static str]),
    /// One, by name.
    One {
        scenario: String,
        injection: Injection,
    },
}

impl Selection {
    /// From `RETPATH_INJECTION`: `3/48` is part 3 of 48, `receive postcopy: fsync 3 EIO` is one
    /// case. All of them by default.
    pub(crate) fn from_environment() -> Self {
        let Ok(text) = env::var("RETPATH_INJECTION") else {
            return Self::Part { part: 0, of: 1 };
        };
        if let Some((scenario, injection)) = text.split_once(": ") {
            return Self::One {
                scenario: scenario.into(),
                injection: injection.parse().unwrap_or_else(|error| panic!("{error}")),
            };
        }
        let numbers = text
            .split_once('/')
            .and_then(|(part, of)| Some((part.parse().ok()?, of.parse().ok()?)));
        match numbers {
            Some((part, of)) if part < of => Self::Part { part, of },
            _ => panic!("RETPATH_INJECTION: {text:?} is neither PART/PARTS nor a case"),
        }
    }
}

struct Case<'a> {
    scenario: &'a dyn Scenario,
    injection: Injection,
}

/// The result.
pub(crate) struct Report {
    /// Cases by subcommand.
    counts: BTreeMap<String, usize>,
    killed: usize,
    /// Faults that were not injected, because the run made fewer calls than the recorded one.
    missed: usize,
    part: String,
    seconds: u64,
    pub(crate) failures: Vec<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for failure in &self.failures {
            writeln!(f, "{failure}")?;
        }
        let counts = self
            .counts
            .iter()
            .map(|(name, count)| format!("{name} {count}"));
        write!(
            f,
            "injection: {} cases, {} of them SIGKILL; {} failed, {} not reached; {} in {} s",
            counts.collect::<Vec<_>>().join(", "),
            self.killed,
            self.failures.len(),
            self.missed,
            self.part,
            self.seconds
        )
    }
}

/// Runs the chosen cases.
pub(crate) fn run(scenarios: &[Box<dyn Scenario>], selection: &Selection) -> Report {
    let start = Instant::now();
    let (cases, part) = match selection {
        Selection::One {
            scenario,
            injection,
        } => {
            let found = scenarios.iter().find(|one| one.name() == scenario);
            let scenario = found.unwrap_or_else(|| panic!("there is no scenario {scenario:?}"));
            let case = Case {
                scenario: &**scenario,
                injection: injection.clone(),
            };
            (vec![case], "one case".to_owned())
        }
        Selection::Part { part, of } => {
            let all = plans(scenarios).into_iter().enumerate();
            let mine = all.filter(|(at, _)| at % of == *part);
            (
                mine.map(|(_, case)| case).collect(),
                format!("part {part}/{of}"),
            )
        }
        Selection::Errors(names) | Selection::Kills(names) => {
            let kills = matches!(selection, Selection::Kills(_));
            let all = plans(scenarios).into_iter();
            let is_one = |injection: &Injection| {
                names.contains(&&*injection.call) && kills == (injection.fault == Fault::Kill)
            };
            let mine = all.filter(|case| is_one(&case.injection));
            (mine.collect(), names.join(", "))
        }
    };
    let ends = parallel(&cases, run_one);
    let mut report = Report {
        counts: BTreeMap::new(),
        killed: 0,
        missed: 0,
        part,
        seconds: start.elapsed().as_secs(),
        failures: Vec::new(),
    };
    for (case, end) in cases.iter().zip(ends) {
        let name = case.scenario.name().split(' ').next().unwrap_or_default();
        *report.counts.entry(name.into()).or_default() += 1;
        report.killed += usize::from(case.injection.fault == Fault::Kill);
        match end {
            Ok(true) => {}
            Ok(false) => report.missed += 1,
            Err(why) => {
                let (name, injection) = (case.scenario.name(), &case.injection);
                let why = why.lines().next().unwrap_or_default();
                report.failures.push(format!("{name}: {injection}: {why}"));
            }
        }
    }
    report
}

/// The cases of all scenarios.
fn plans(scenarios: &[Box<dyn Scenario>]) -> Vec<Case<'_>> {
    let all = parallel(scenarios, |scenario| plan(&**scenario));
    all.into_iter().flatten().collect()
}

/// The cases of one scenario, from a run in which nothing fails.
fn plan(scenario: &dyn Scenario) -> Vec<Case<'_>> {
    let room = tempfile::tempdir().expect("a folder");
    scenario.run(room.path(), None);
    let mut cases = Vec::new();
    for (call, nth, examples) in Record::read(room.path()).calls {
        let mut faults = vec![Fault::Kill];
        for example in &examples {
            let errors = calls::errors(example);
            let errors =
                errors.unwrap_or_else(|| panic!("tests/injection/calls.rs lacks {example:?}"));
            for error in errors {
                let fault = Fault::Error((*error).to_owned());
                if !faults.contains(&fault) {
                    faults.push(fault);
                }
            }
        }
        cases.extend(faults.into_iter().map(|fault| Case {
            scenario,
            injection: Injection {
                call: call.clone(),
                nth,
                fault,
            },
        }));
    }
    cases
}

/// Whether the fault happened, or what is wrong.
fn run_one(case: &Case<'_>) -> Result<bool, String> {
    let room = tempfile::tempdir().expect("a folder");
    let run = || case.scenario.run(room.path(), Some(&case.injection));
    let done = catch_unwind(AssertUnwindSafe(run));
    let injected = strace::injected(room.path());
    match done {
        Ok(()) => Ok(match case.injection.fault {
            Fault::Kill => strace::was_killed(room.path()),
            Fault::Error(_) => !injected.is_empty(),
        }),
        Err(panic) => {
            let calls: Vec<_> = injected.iter().map(|call| &*call.text).collect();
            let why = format!("{}\n    {}", text(&*panic), calls.join("\n    "));
            // At once: a run that hangs shows where.
            eprintln!(
                "failed: {}: {}: {why}",
                case.scenario.name(),
                case.injection
            );
            Err(why)
        }
    }
}

fn text(panic: &dyn Any) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("a panic without a message")
}

/// What `work` makes of each item, in order.
fn parallel<'a, I: Sync, O: Send>(items: &'a [I], work: impl Fn(&'a I) -> O + Sync) -> Vec<O>
where
{
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, O)>> = Mutex::default();
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(at) else { return };
                    let out = work(item);
                    done.lock().expect("no worker panics").push((at, out));
                }
            });
        }
    });
    let mut done = done.into_inner().expect("no worker panics");
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, out)| out).collect()
}
