//! The part of the recording that is in memory.
//!
//! A window starts with room for many pages and grows only when it is full of
//! bytes that have arrived and that the decoder cannot take yet.

use std::io::{self, ErrorKind, Read};

/// Bytes of room at first. Large enough to make reads cheap, small enough to
/// stay in the processor's cache.
const ROOM: usize = 256 << 10;

/// Bytes of the recording's start that are kept, to tell what it is.
const START: usize = 16;

pub(super) struct Window<'i> {
    input: &'i mut dyn Read,
    progress: &'i mut dyn FnMut(usize),
    room: Vec<u8>,
    /// What is held is `room[from..to]`.
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
            room: vec![0; ROOM],
            from: 0,
            to: 0,
            start: [0; START],
            start_len: 0,
        }
    }

    /// The bytes that have been read and not been consumed.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.room[self.from..self.to]
    }

    /// The first bytes of the recording.
    pub(super) fn start(&self) -> &[u8] {
        &self.start[..self.start_len]
    }

    /// Drops the first `size` bytes, or all if there are fewer.
    pub(super) fn consume(&mut self, size: usize) {
        self.from = self.to.min(self.from.saturating_add(size));
    }

    /// Reads once and says how many bytes that brought; 0 at the end.
    pub(super) fn fill(&mut self) -> io::Result<usize> {
        if self.from > 0 {
            self.room.copy_within(self.from..self.to, 0);
            self.to -= self.from;
            self.from = 0;
        }
        if self.to == self.room.len() {
            self.room.resize(self.to.saturating_mul(2), 0);
        }
        let read = loop {
            match self.input.read(&mut self.room[self.to..]) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        let read_bytes = &self.room[self.to..][..read];
        for (kept, byte) in self.start[self.start_len..].iter_mut().zip(read_bytes) {
            *kept = *byte;
            self.start_len += 1;
        }
        self.to += read;
        (self.progress)(read);
        Ok(read)
    }
}
