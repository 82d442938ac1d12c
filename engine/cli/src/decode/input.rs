//! The recording as a file, and the terminal.

use std::fs::File;
use std::io::{self, ErrorKind, IsTerminal};
use std::os::fd::AsFd;
use std::path::Path;

/// An opened recording.
pub(super) struct Input {
    pub(super) file: File,
    /// Its size in bytes; `None` for a pipe.
    pub(super) size: Option<u64>,
}

/// Whether a path stands for standard input.
pub(super) fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

impl Input {
    /// Opens a recording, or standard input if the path is `-`.
    ///
    /// # Errors
    ///
    /// It cannot be opened; the error says what to do.
    pub(super) fn open(path: &Path) -> Result<Self, String> {
        let opened = if is_stdin(path) {
            // The file, not `io::Stdin`: its buffer would only add a copy.
            io::stdin().as_fd().try_clone_to_owned().map(File::from)
        } else {
            File::open(path)
        };
        let opened = opened.and_then(|file| Ok((file.metadata()?, file)));
        let (about, file) = opened.map_err(|error| match error.kind() {
            ErrorKind::NotFound => "no such file".to_owned(),
            ErrorKind::PermissionDenied => "no permission to read it".to_owned(),
            _ => format!("cannot open it: {error}"),
        })?;
        if about.is_dir() {
            return Err("a directory, not a recording: name a file in it".to_owned());
        }
        let size = about.is_file().then_some(about.len());
        Ok(Self { file, size })
    }
}

/// Whether a report to this output has colours: it is a terminal, and the user
/// has not declined (<https://no-color.org>).
pub(super) fn wants_colour(stdout: &io::Stdout) -> bool {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    stdout.is_terminal() && !is_set("NO_COLOR") && !is_dumb
}
