//! The report of a received image.

use std::fmt::Write;
use std::path::Path;

use serde_json::json;

use crate::{Format, image, latency};
use retpath_engine::destination::Ending;
use retpath_engine::stats::Stats;
use retpath_image::Manifest;

/// Everything that is known at the end.
pub(super) struct Report<'a> {
    pub(super) out: &'a Path,
    pub(super) manifest: &'a Manifest,
    pub(super) ending: Ending,
    pub(super) stats: &'a Stats,
    pub(super) touched: u64,
    pub(super) asked_touches: u64,
}

impl Report<'_> {
    pub(super) fn print(&self, format: Format) -> String {
        match format {
            Format::Text => self.text(),
            Format::Json => self.json(),
        }
    }

    fn text(&self) -> String {
        let mut out = image::text(self.out, self.manifest);
        // Writing to a string does not fail.
        let _ = self.render(&mut out);
        out
    }

    fn render(&self, out: &mut String) -> std::fmt::Result {
        let stats = self.stats;
        let ended = match self.ending {
            Ending::Precopy => "in precopy",
            Ending::Postcopy => "in postcopy",
        };
        let mut line = |name: &str, value: u64, more: &str| {
            writeln!(
                out,
                "{}",
                format!("{name:<18} {value:>12}   {more}").trim_end()
            )
        };
        line(
            "pages in precopy",
            stats.precopy,
            &format!("the migration ended {ended}"),
        )?;
        line("pages in postcopy", stats.demand + stats.sweep, "")?;
        line("  by request", stats.demand, "")?;
        line("  by sweep", stats.sweep, "")?;
        line("  zero", stats.zero, "")?;
        if stats.unplugged > 0 {
            let more = "of virtio-mem devices, which sources do not send";
            line("unplugged pages", stats.unplugged, more)?;
        }
        if self.asked_touches > 0 {
            let more = format!("{} of them on missing pages", stats.faults);
            line("touches", self.touched, &more)?;
        }
        if stats.pauses > 0 {
            let more = format!("{} recoveries", stats.resumes);
            line("broken links", stats.pauses, &more)?;
        }
        if stats.latency.total.count() > 0 {
            write!(out, "\n{}", latency::text(&latency::parts(&stats.latency)))?;
        }
        Ok(())
    }

    fn json(&self) -> String {
        let stats = self.stats;
        let (path, manifest) = image::json(self.out, self.manifest);
        let ended = match self.ending {
            Ending::Precopy => "precopy",
            Ending::Postcopy => "postcopy",
        };
        let value = json!({
            "image": path,
            "manifest": manifest,
            "ended_in": ended,
            "pages": {
                "precopy": stats.precopy,
                "demand": stats.demand,
                "sweep": stats.sweep,
                "zero": stats.zero,
                "discarded": stats.discarded,
                "unplugged": stats.unplugged,
            },
            "touches": { "asked": self.asked_touches, "done": self.touched },
            "faults": stats.faults,
            "requests": { "sent": stats.requests, "repeated": stats.requests_repeated },
            "pauses": stats.pauses,
            "resumes": stats.resumes,
            "latency": latency::json(&latency::parts(&stats.latency)),
        });
        format!("{value}\n")
    }
}
