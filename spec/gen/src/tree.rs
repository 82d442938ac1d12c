//! Compares the outputs with the files of a working copy, and writes them.
//!
//! Fails only with what the file system answers; every error says which file
//! it is about. Nothing outside the outputs' own paths and [`OWNED`] is
//! touched.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::{format, fs, io};

use super::Output;

/// Where every file is an output: a folder, and how the files in it end. A
/// file there that no table row asks for is surplus.
pub const OWNED: &[(&str, &str)] = &[
    ("codec/src/generated", ""),
    ("corpus/seed", ""),
    ("fuzz", ".dict"),
];

/// How a file differs from the outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The file is there, with other contents.
    Stale,
    /// The file is not there.
    Missing,
    /// The file is there, and no output has its path.
    Surplus,
}

impl State {
    /// One word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Stale => "stale",
            Self::Missing => "missing",
            Self::Surplus => "surplus",
        }
    }
}

/// A file that is not as the outputs want it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Path from the top of the repository.
    pub path: String,
    /// What is wrong with it.
    pub state: State,
}

/// Every difference between the outputs and the files below `root`, in order
/// of the paths. Empty if all is fresh.
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

/// Writes what is stale or missing, removes what is surplus, and says what it
/// did. Fresh files are left alone, so that nothing is built anew for them.
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

/// All files below `folder`, as paths from `root` with `/` between names; none
/// if there is no such folder.
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

/// The names in a folder, and which of them are folders.
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
