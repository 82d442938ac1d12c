//! The recording: a file or a pipe, and the part of it that is in memory.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::AsFd;
use std::path::Path;

use crate::is_stdin;

/// An opened recording.
pub(super) struct Recording {
    pub(super) file: File,
    /// Size in bytes; `None` for a pipe.
    pub(super) size: Option<u64>,
}

impl Recording {
    /// Opens a recording, or standard input if the path is `-`.
    ///
    /// # Errors
    ///
    /// The file cannot be opened, or is a directory.
    pub(super) fn open(path: &Path) -> Result<Self, String> {
        let opened = match is_stdin(path.as_os_str()) {
            // Not `io::Stdin`, whose buffer would only add a copy.
            true => io::stdin().as_fd().try_clone_to_owned().map(File::from),
            false => File::open(path),
        };
        let opened = opened.and_then(|file| Ok((file.metadata()?, file)));
        let (metadata, file) = opened.map_err(|error| match error.kind() {
            ErrorKind::NotFound => "no such file".to_owned(),
            ErrorKind::PermissionDenied => "no permission to read it".to_owned(),
            _ => format!("cannot open it: {error}"),
        })?;
        if metadata.is_dir() {
            return Err("it is a directory: name a file in it".to_owned());
        }
        let size = metadata.is_file().then_some(metadata.len());
        Ok(Self { file, size })
    }
}

/// Initial size of a window: large enough to make reads cheap, small enough for the CPU's cache.
const WINDOW: usize = 256 << 10;

/// Bytes of the recording's start that are kept, to guess its kind.
const START: usize = 16;

/// The part of a recording that has been read and not decoded. It grows only when it is full of
/// bytes that the decoder cannot take yet.
pub(super) struct Window<'i> {
    input: &'i mut dyn Read,
    progress: &'i mut dyn FnMut(usize),
    buffer: Vec<u8>,
    /// The window is `buffer[from..to]`.
    from: usize,
    to: usize,
    start: [u8; START],
    start_len: usize,
}

impl<'i> Window<'i> {
    pub(super) fn new(input: &'i mut dyn Read, progress: &'i mut dyn FnMut(usize)) -> Self {
        Self {
            input,
            progress,
            buffer: vec![0; WINDOW],
            from: 0,
            to: 0,
            start: [0; START],
            start_len: 0,
        }
    }

    /// The bytes that have been read and not consumed.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer[self.from..self.to]
    }

    /// The first bytes of the recording.
    pub(super) fn start(&self) -> &[u8] {
        &self.start[..self.start_len]
    }

    /// Drops the first `size` bytes, or all if there are fewer.
    pub(super) fn consume(&mut self, size: usize) {
        self.from = self.to.min(self.from.saturating_add(size));
    }

    /// Reads once; returns the number of bytes read, 0 at the end.
    pub(super) fn fill(&mut self) -> io::Result<usize> {
        if self.from > 0 {
            self.buffer.copy_within(self.from..self.to, 0);
            self.to -= self.from;
            self.from = 0;
        }
        if self.to == self.buffer.len() {
            self.buffer.resize(self.to.saturating_mul(2), 0);
        }
        let read = loop {
            match self.input.read(&mut self.buffer[self.to..]) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        let new = &self.buffer[self.to..][..read];
        for (kept, byte) in self.start[self.start_len..].iter_mut().zip(new) {
            *kept = *byte;
            self.start_len += 1;
        }
        self.to += read;
        (self.progress)(read);
        Ok(read)
    }
}
