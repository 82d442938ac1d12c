//! Links that break on purpose: the n-th byte is the last one.
//!
//! A demonstration, or a test, that a migration survives a broken link has to
//! break it somewhere. Time is a bad measure: the migration may be over
//! sooner, and nothing can be done again. Bytes are a good one: they end
//! inside of messages as well as between them, and as long as fewer of them
//! are allowed than are needed, the link will break.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// How much may pass before links break. Clones are the same fuse: the links
/// that share it break together.
#[derive(Clone, Debug)]
pub struct Fuse {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    read: AtomicU64,
    written: AtomicU64,
    blown: AtomicBool,
}

impl Fuse {
    /// Blows once `read` bytes have been read or `written` bytes have been
    /// written; 0 counts as 1, and [`u64::MAX`] never happens.
    pub fn new(read: u64, written: u64) -> Self {
        Self {
            inner: Arc::new(Inner {
                read: AtomicU64::new(read.max(1)),
                written: AtomicU64::new(written.max(1)),
                blown: AtomicBool::new(false),
            }),
        }
    }

    /// Whether it has blown: its links are broken.
    pub fn is_blown(&self) -> bool {
        self.inner.blown.load(Relaxed)
    }

    /// How many bytes one call may read.
    pub(super) fn reads(&self) -> io::Result<u64> {
        self.left(&self.inner.read)
    }

    /// How many bytes one call may write.
    pub(super) fn writes(&self) -> io::Result<u64> {
        self.left(&self.inner.written)
    }

    fn left(&self, left: &AtomicU64) -> io::Result<u64> {
        if self.is_blown() {
            let kind = io::ErrorKind::ConnectionAborted;
            return Err(io::Error::new(kind, "the link was broken on purpose"));
        }
        Ok(left.load(Relaxed))
    }

    /// Says whether that was the last straw.
    pub(super) fn has_read(&self, bytes: u64) -> bool {
        self.burn(&self.inner.read, bytes)
    }

    /// Says whether that was the last straw.
    pub(super) fn has_written(&self, bytes: u64) -> bool {
        self.burn(&self.inner.written, bytes)
    }

    fn burn(&self, left: &AtomicU64, bytes: u64) -> bool {
        // Never refused: the closure always has an answer.
        let before = left
            .fetch_update(Relaxed, Relaxed, |left| Some(left.saturating_sub(bytes)))
            .unwrap_or_default();
        let last = before <= bytes;
        if last {
            self.inner.blown.store(true, Relaxed);
        }
        last
    }
}

#[cfg(test)]
mod tests {
    use std::io::{IoSlice, IoSliceMut};

    use super::super::{Link, Moved};
    use super::*;

    fn bytes(moved: io::Result<Moved>) -> usize {
        match moved {
            Ok(Moved::Bytes(size)) => size,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn lets_exactly_so_many_bytes_be_written() {
        for limit in 1..=12 {
            let (mut near, far) = Link::pair().expect("a pair");
            let fuse = Fuse::new(u64::MAX, limit);
            near.guard(fuse.clone());
            let mut sent = 0;
            while !fuse.is_blown() {
                let parts = [IoSlice::new(b""), IoSlice::new(b"abc"), IoSlice::new(b"de")];
                sent += bytes(near.write_vectored(&parts));
            }
            assert_eq!(sent as u64, limit);
            assert!(near.write(b"x").is_err());
            assert!(near.read(&mut [0; 4]).is_err());
            let mut got = [0; 20];
            assert_eq!(bytes(far.read(&mut got)), sent);
            assert_eq!(far.read(&mut got).expect("an end"), Moved::End);
        }
    }

    #[test]
    fn lets_exactly_so_many_bytes_be_read() {
        for limit in 1..=12 {
            let (mut near, far) = Link::pair().expect("a pair");
            assert_eq!(bytes(far.write(b"0123456789abcdef")), 16);
            near.guard(Fuse::new(limit, u64::MAX));
            let (mut one, mut two) = ([0; 3], [0; 3]);
            let mut got = 0;
            loop {
                let mut parts = [IoSliceMut::new(&mut one), IoSliceMut::new(&mut two)];
                match near.read_vectored(&mut parts) {
                    Ok(Moved::Bytes(size)) => got += size as u64,
                    Ok(other) => panic!("{other:?}"),
                    Err(_) => break,
                }
            }
            assert_eq!(got, limit);
        }
    }

    #[test]
    fn breaks_all_its_links_together() {
        let (mut main, _far) = Link::pair().expect("a pair");
        let (mut urgent, _far_too) = Link::pair().expect("a pair");
        let fuse = Fuse::new(u64::MAX, 3);
        main.guard(fuse.clone());
        urgent.guard(fuse);
        assert_eq!(bytes(main.write(b"ab")), 2);
        assert_eq!(bytes(urgent.write(b"cd")), 1);
        assert!(main.write(b"e").is_err());
    }
}
