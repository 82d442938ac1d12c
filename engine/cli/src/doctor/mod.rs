//! `retpath doctor`: prints a [`Report`].
//!
//! Exit code 0 if userfaultfd can be opened in some way, else 1.

use std::fmt::Write;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::{Format, output};
mod report;

use report::bytes;
pub use report::{Lack, Limit, Pool, Reach, Report};
use retpath_engine::uffd::{Features, Route};

/// Command line of `retpath doctor`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How to print it; json is one object.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Looks around and prints what it finds.
pub fn run(args: Args) -> ExitCode {
    let report = Report::gather();
    let text = match args.format {
        Format::Text => text(&report),
        Format::Json => format!("{}\n", json(&report)),
    };
    if let Err(error) = output::print(&text) {
        output::note(format_args!(
            "retpath doctor: cannot write to standard output: {error}"
        ));
        return ExitCode::FAILURE;
    }
    match report.reach() {
        Reach::All | Reach::UserOnly => ExitCode::SUCCESS,
        Reach::Nothing => ExitCode::FAILURE,
    }
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

    writeln!(
        out,
        "\nways to open userfaultfd, in the order they are tried"
    )?;
    for (route, works) in &report.routes {
        match works {
            Ok(_) => writeln!(out, "  {route:<28} works")?,
            Err(error) => writeln!(out, "  {route:<28} no: {error}")?,
        }
    }
    let setting = report
        .unprivileged
        .map_or("not known to this kernel", |on| if on { "1" } else { "0" });
    writeln!(out, "  {:<28} {setting}", "vm.unprivileged_userfaultfd")?;

    writeln!(out, "\nfeatures of the kernel (* retpath asks for it)")?;
    for (name, feature) in Features::NAMED {
        let mark = if Features::WANTED.contains(*feature) {
            '*'
        } else {
            ' '
        };
        let offered = match report.features() {
            Some(offered) if offered.contains(*feature) => "offered",
            Some(_) => "not offered",
            None => "unknown",
        };
        writeln!(out, "{mark} {name:<28} {offered}")?;
    }

    writeln!(out, "\nhuge pages")?;
    for pool in &report.pools {
        let (size, reserved, free) = (bytes(pool.page_size), pool.reserved, pool.free);
        writeln!(out, "  {size:<28} {reserved} reserved, {free} free")?;
    }

    writeln!(out, "\nlimits")?;
    let mut line = |name, limit: Limit, unit: fn(u64) -> String| {
        let [soft, hard] = [limit.soft, limit.hard].map(|n| n.map_or("unlimited".into(), unit));
        writeln!(out, "  {name:<28} {soft}, may be raised to {hard}")
    };
    line("locked memory", report.memlock, bytes)?;
    line("open files", report.nofile, |n| n.to_string())?;

    let lacks = report.lacks();
    if !lacks.is_empty() {
        writeln!(out, "\nwhat is missing, and what to do")?;
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
        let each = Features::NAMED.iter();
        Value::Object(
            each.map(|(name, one)| ((*name).into(), offered.contains(*one).into()))
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
