//! The report of a received image.

use std::path::Path;

use serde_json::{Value, json};

use crate::report::Table;
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
        format.render(|| self.text(), || self.json())
    }

    fn text(&self) -> String {
        let stats = self.stats;
        let ended = match self.ending {
            Ending::Precopy => "in precopy",
            Ending::Postcopy => "in postcopy",
        };
        let mut table = Table(image::text(self.out, self.manifest));
        let ended = format_args!("the migration ended {ended}");
        table.row("pages in precopy", stats.precopy, ended);
        table.row("pages in postcopy", stats.demand + stats.sweep, "");
        table.pages((stats.demand, stats.sweep, stats.zero));
        if stats.unplugged > 0 {
            let more = "of virtio-mem devices, which sources do not send";
            table.row("unplugged pages", stats.unplugged, more);
        }
        if self.asked_touches > 0 {
            let more = format_args!("{} of them on missing pages", stats.faults);
            table.row("touches", self.touched, more);
        }
        if stats.pauses > 0 {
            let more = format_args!("{} recoveries", stats.resumes);
            table.row("broken links", stats.pauses, more);
        }
        if stats.latency.total.count() > 0 {
            table.0 += &format!("\n{}", latency::text(&latency::parts(&stats.latency)));
        }
        table.0
    }

    fn json(&self) -> Value {
        let stats = self.stats;
        let (path, manifest) = image::json(self.out, self.manifest);
        let ended = match self.ending {
            Ending::Precopy => "precopy",
            Ending::Postcopy => "postcopy",
        };
        json!({
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
        })
    }
}
