//! Compares the outputs with the files of a working copy, and writes them.
//!
//! Only I/O fails; every error names its file. Nothing outside the paths of the
//! outputs and [`OWNED`] is touched.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::{format, fs, io};

use super::Output;

/// Folders and file name endings that the outputs own: any other file there is
/// surplus.
pub const OWNED: &[(&str, &str)] = &[
    ("codec/src/generated", ""),
    ("corpus/seed", ""),
    ("fuzz", ".dict"),
];

/// State of a file that differs from the outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The contents differ.
    Stale,
    /// The file does not exist.
    Missing,
    /// No output has this path.
    Surplus,
}

impl State {
    /// The state as a word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Stale => "stale",
            Self::Missing => "missing",
            Self::Surplus => "surplus",
        }
    }
}

/// A file that differs from the outputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Path from the top of the repository.
    pub path: String,
    /// How it differs.
    pub state: State,
}

/// The files below `root` that differ from the outputs, in order of their paths.
pub fn check(root: &Path, outputs: &[Output]) -> io::Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for output in outputs {
        let state = match fs::read(root.join(&output.path)) {
            Ok(bytes) if bytes == output.bytes => continue,
            Ok(_) => State::Stale,
            Err(e) if e.kind() == io::ErrorKind::NotFound => State::Missing,
            Err(e) => return Err(about(&output.path, &e)),
        };
        findings.push(Finding {
            path: output.path.clone(),
            state,
        });
    }

    let wanted: BTreeSet<&str> = outputs.iter().map(|o| o.path.as_str()).collect();
    for (folder, ending) in OWNED {
        for path in files(root, folder, *folder != "fuzz")? {
            if path.ends_with(ending) && !wanted.contains(path.as_str()) {
                let state = State::Surplus;
                findings.push(Finding { path, state });
            }
        }
    }
    findings.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(findings)
}

/// Writes stale and missing files, removes surplus ones, and returns them. Other
/// files keep their modification time, so that they cause no rebuild.
pub fn write(root: &Path, outputs: &[Output]) -> io::Result<Vec<Finding>> {
    let findings = check(root, outputs)?;
    for finding in &findings {
        let path = root.join(&finding.path);
        let done = match outputs.iter().find(|o| o.path == finding.path) {
            None => fs::remove_file(&path),
            Some(output) => path
                .parent()
                .map_or(Ok(()), fs::create_dir_all)
                .and_then(|()| fs::write(&path, &output.bytes)),
        };
        done.map_err(|e| about(&finding.path, &e))?;
    }
    Ok(findings)
}

/// All files below `folder`, as paths from `root` with `/` as separator. Empty
/// if the folder does not exist.
fn files(root: &Path, folder: &str, deep: bool) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    let mut open = Vec::from([PathBuf::from(folder)]);
    while let Some(folder) = open.pop() {
        let entries = match entries(&root.join(&folder)) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(about(&folder.display().to_string(), &e)),
        };
        for (name, is_folder) in entries {
            let path = folder.join(name);
            if !is_folder {
                let names: Vec<_> = path.iter().map(|n| n.to_string_lossy()).collect();
                found.push(names.join("/"));
            } else if deep {
                open.push(path);
            }
        }
    }
    Ok(found)
}

/// Entries of a folder: name, and whether it is a folder.
fn entries(folder: &Path) -> io::Result<Vec<(OsString, bool)>> {
    fs::read_dir(folder).and_then(|entries| {
        let entry = |entry: fs::DirEntry| {
            let kind = entry.file_type();
            kind.map(|kind| (entry.file_name(), kind.is_dir()))
        };
        entries.map(|found| found.and_then(entry)).collect()
    })
}

fn about(path: &str, e: &io::Error) -> io::Error {
    io::Error::new(e.kind(), format!("{path}: {e}"))
}
