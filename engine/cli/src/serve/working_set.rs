//! `--working-set`: read before the first boot, written after the last one.
//!
//! A working set only saves time, so nothing that is wrong with its file fails a boot: a line
//! on standard error says what, and the file is left as it is.

use std::fmt::Display;
use std::path::Path;
use std::time::Duration;

use retpath_engine::source::{Config, Hold};
use retpath_image::{Digest, WorkingSet, shown};
use serde_json::{Value, json};

use super::Args;
use super::outcome::Outcome;
use super::served_image::ServedImage;
use crate::output;
use crate::report::Table;

/// A boot that learns waits with the background sweep until the guest has requested nothing for
/// this long: it has what it needs for now.
const QUIET: Duration = Duration::from_secs(2);

/// And for this long in all. The guest runs meanwhile; only the end of the migration is later.
const MOST: Duration = Duration::from_secs(60);

/// The file of the working set, if there is to be one.
pub(super) struct WorkingSetFile<'a> {
    image: &'a ServedImage,
    usable: Option<Usable<'a>>,
}

struct Usable<'a> {
    path: &'a Path,
    /// The identity of the image.
    id: Digest,
    /// What the file contains; empty if it does not exist.
    known: WorkingSet,
    exists: bool,
}

/// What the boots added to a working set.
pub(super) struct Learned {
    path: String,
    /// Host pages of which the order is known.
    pages: u64,
    /// How many of them were not known before.
    new: u64,
}

impl<'a> WorkingSetFile<'a> {
    pub(super) fn open(args: &'a Args, image: &'a ServedImage) -> Self {
        let usable = args.working_set.as_deref().and_then(|path| {
            let Some(id) = image.id() else {
                let image = shown(image.path());
                let why = format!(
                    "image {image} has no id to which it could be bound: import or receive it anew"
                );
                say(path, "is not used", why);
                return None;
            };
            match WorkingSet::read(path, id, image.blocks()) {
                Ok(found) => Some(Usable {
                    path,
                    id,
                    exists: found.is_some(),
                    known: found.unwrap_or_default(),
                }),
                Err(error) => {
                    let advice = "remove it, or name another file, to learn anew";
                    say(
                        path,
                        "is not used, nor changed",
                        format!("{error}; {advice}"),
                    );
                    None
                }
            }
        });
        Self { image, usable }
    }

    /// Adds the order of the pages to a configuration, or makes it learn.
    pub(super) fn configure(&self, config: Config) -> Config {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        match &self.usable {
            None => config,
            Some(file) if file.exists => config.order(file.known.order().clone()).record(true),
            Some(_) => {
                let hold = Hold::default().quiet(nanos(QUIET)).most(nanos(MOST));
                config.record(true).hold(hold)
            }
        }
    }

    /// Writes what the boots requested, unless it is known already.
    pub(super) fn finish(self, outcomes: &[Outcome]) -> Option<Learned> {
        let file = self.usable?;
        let blocks = self.image.blocks();
        let recorded = outcomes.iter().map(|outcome| &*outcome.first_requests);
        let recorded: Vec<_> = recorded.collect();
        let merged = file.known.merge(blocks, &recorded);
        if merged != file.known
            && let Err(error) = merged.write(file.path, file.id, blocks)
        {
            say(file.path, "cannot be written", error);
            return None;
        }
        let pages = merged.pages(blocks);
        Some(Learned {
            path: shown(file.path).to_string(),
            pages,
            new: pages.saturating_sub(file.known.pages(blocks)),
        })
    }
}

fn say(path: &Path, what: &str, why: impl Display) {
    let path = shown(path);
    output::note(format_args!(
        "retpath serve: working set {path} {what}: {why}"
    ));
}

impl Learned {
    pub(super) fn text(&self) -> String {
        let mut table = Table(format!("working set {}\n", self.path));
        let new = format_args!("{} of them new", self.new);
        table.row("pages", self.pages, new);
        table.0
    }

    pub(super) fn json(&self) -> Value {
        json!({ "file": self.path, "pages": self.pages, "new": self.new })
    }
}
