//! `retpath doctor`: prints a [`Report`].

use std::fmt::Write;

use retpath_engine::uffd::{Features, Route};
use serde_json::{Value, json};

use crate::exit::{self, Error, Exit};
use crate::size::Human;
use crate::{Format, lost_report, output};

mod report;

use report::{FEATURES, Limit, Reach, Report, has};

fn after_help() -> String {
    exit::help(
        "  retpath doctor\n  retpath doctor --format json",
        "userfaultfd serves all faults for this user",
        "userfaultfd serves only faults of user code, or none; the report says how to change that",
    )
}

/// Command line of `retpath doctor`.
#[derive(Debug, clap::Args)]
#[command(after_help = after_help())]
pub(crate) struct Args {
    /// Format of the report; json is one object
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Examines the machine and prints the report.
pub(crate) fn run(args: &Args) -> Result<Exit, Error> {
    let report = Report::gather();
    let text = args.format.render(|| text(&report), || json(&report));
    output::print(&text).map_err(|error| lost_report(&error))?;
    Ok(match report.reach() {
        Reach::All => Exit::Success,
        Reach::UserOnly | Reach::Nothing => Exit::Failure,
    })
}

fn text(report: &Report) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = render(report, &mut out);
    out
}

fn render(report: &Report, out: &mut String) -> std::fmt::Result {
    let verdict = match (report.reach(), report.best()) {
        (Reach::All, Some(route)) => format!("serves all faults, by {route}"),
        (Reach::UserOnly, _) => "serves only faults of user code, not those of system calls".into(),
        _ => "cannot be used".into(),
    };
    writeln!(out, "userfaultfd  {verdict}")?;
    writeln!(out, "kernel       {}", report.kernel)?;
    writeln!(out, "user id      {}", report.uid)?;
    writeln!(out, "sandbox      {}", report.sandbox)?;

    writeln!(
        out,
        "\nways to open userfaultfd, in the order in which they are tried"
    )?;
    for (route, works) in &report.routes {
        match works {
            Ok(_) => writeln!(out, "  {route:<28} works")?,
            Err(error) => writeln!(out, "  {route:<28} no: {error}")?,
        }
    }
    let setting = report
        .unprivileged
        .map_or("unknown to this kernel", |on| if on { "1" } else { "0" });
    writeln!(out, "  {:<28} {setting}", "vm.unprivileged_userfaultfd")?;

    writeln!(out, "\nfeatures of the kernel (* used by retpath)")?;
    for (feature, name) in FEATURES.iter().enumerate() {
        let mark = if has(Features::WANTED, feature) {
            '*'
        } else {
            ' '
        };
        let offered = match report.features() {
            Some(offered) if has(offered, feature) => "offered",
            Some(_) => "not offered",
            None => "unknown",
        };
        writeln!(out, "{mark} {name:<28} {offered}")?;
    }

    writeln!(out, "\nhuge pages")?;
    for pool in &report.pools {
        let (size, reserved, free) = (Human(pool.page_size), pool.reserved, pool.free);
        writeln!(out, "  {size:<28} {reserved} reserved, {free} free")?;
    }

    writeln!(out, "\nlimits")?;
    let mut line = |name, limit: Limit, unit: fn(u64) -> String| {
        let [soft, hard] = [limit.soft, limit.hard].map(|n| n.map_or("unlimited".into(), unit));
        writeln!(out, "  {name:<28} {soft}, can be raised to {hard}")
    };
    line("locked memory", report.memlock, |n| Human(n).to_string())?;
    line("open files", report.nofile, |n| n.to_string())?;

    let lacks = report.lacks();
    if !lacks.is_empty() {
        writeln!(out, "\nmissing, and how to get it")?;
    }
    for lack in lacks {
        writeln!(out, "  {}\n      {}", lack.what, lack.fix)?;
    }
    Ok(())
}

fn json(report: &Report) -> Value {
    let limit = |limit: Limit| json!({ "soft": limit.soft, "hard": limit.hard });
    let routes = report.routes.iter().map(|(route, works)| {
        let why = works.err().map(|error| error.to_string());
        json!({ "route": key(*route), "works": works.is_ok(), "why": why })
    });
    let features = report.features().map(|offered| {
        let each = FEATURES.iter().enumerate();
        Value::Object(
            each.map(|(feature, name)| ((*name).into(), has(offered, feature).into()))
                .collect(),
        )
    });
    let pools = report.pools.iter().map(
        |pool| json!({ "page_size": pool.page_size, "reserved": pool.reserved, "free": pool.free }),
    );
    let lacks = report.lacks();
    let lacks = lacks
        .iter()
        .map(|lack| json!({ "what": lack.what, "fix": lack.fix }));
    json!({
        "reach": match report.reach() {
            Reach::All => "all",
            Reach::UserOnly => "user-only",
            Reach::Nothing => "nothing",
        },
        "route": report.best().map(key),
        "kernel": report.kernel,
        "uid": report.uid,
        "sandbox": {
            "landlock": report.sandbox.landlock,
            "seccomp": report.sandbox.seccomp,
        },
        "routes": routes.collect::<Value>(),
        "unprivileged_userfaultfd": report.unprivileged,
        "features": features,
        "hugepages": pools.collect::<Value>(),
        "limits": { "memlock": limit(report.memlock), "nofile": limit(report.nofile) },
        "lacks": lacks.collect::<Value>(),
    })
}

fn key(route: Route) -> &'static str {
    match route {
        Route::Device => "device",
        Route::Syscall => "syscall",
        Route::UserModeOnly => "user-mode-only",
    }
}
