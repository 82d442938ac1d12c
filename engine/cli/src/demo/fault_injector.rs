//! Connections that break after a chosen number of bytes.
//!
//! A test that a migration survives a broken connection has to break one at a place that it can
//! repeat. Time is no measure: the migration may be over sooner. Bytes are: they end inside
//! messages as well as between them, and the connection breaks whenever fewer of them are allowed
//! than the migration needs.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use retpath_engine::protocol::wide;
use retpath_engine::socket::{Link, Transport};

/// Breaks the links that it wraps once they have moved a number of bytes. Clones share the count:
/// their links break together.
#[derive(Clone, Debug)]
pub(super) struct FaultInjector {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    read: AtomicU64,
    written: AtomicU64,
    fired: AtomicBool,
}

impl FaultInjector {
    /// Breaks links once `read` bytes have been read or `written` bytes have been written; 0
    /// counts as 1, and [`u64::MAX`] is never reached.
    pub(super) fn new(read: u64, written: u64) -> Self {
        Self {
            inner: Arc::new(Inner {
                read: AtomicU64::new(read.max(1)),
                written: AtomicU64::new(written.max(1)),
                fired: AtomicBool::new(false),
            }),
        }
    }

    /// Whether the links are broken.
    pub(super) fn has_fired(&self) -> bool {
        self.inner.fired.load(Relaxed)
    }

    /// Puts a link under the control of this injector.
    #[must_use]
    pub(super) fn wrap(&self, link: Link) -> Link {
        link.wrap(|inner| {
            Box::new(Faulty {
                inner,
                injector: self.clone(),
            })
        })
    }

    /// How many bytes one call may move.
    fn allowance(&self, left: &AtomicU64) -> io::Result<usize> {
        if self.has_fired() {
            let kind = ErrorKind::ConnectionAborted;
            return Err(io::Error::new(kind, "broken by the fault injector"));
        }
        Ok(usize::try_from(left.load(Relaxed)).unwrap_or(usize::MAX))
    }
}

/// A transport that breaks.
struct Faulty {
    inner: Box<dyn Transport>,
    injector: FaultInjector,
}

impl Faulty {
    fn count(&self, left: &AtomicU64, bytes: usize) {
        let bytes = wide(bytes);
        // Never refused: the closure always has an answer.
        let before = left
            .fetch_update(Relaxed, Relaxed, |left| Some(left.saturating_sub(bytes)))
            .unwrap_or_default();
        if before <= bytes {
            self.injector.inner.fired.store(true, Relaxed);
            self.inner.shut_down();
        }
    }
}

impl AsFd for Faulty {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}

impl Transport for Faulty {
    fn read_vectored(&self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let left = &self.injector.inner.read;
        let most = self.injector.allowance(left)?;
        let all = bufs.iter().map(|buf| buf.len()).sum::<usize>();
        let read = if all <= most {
            self.inner.read_vectored(bufs)
        } else {
            // A short read is allowed.
            let first = bufs.iter_mut().find(|buf| !buf.is_empty());
            let first = first.map_or(&mut [][..], |buf| &mut **buf);
            let most = most.min(first.len());
            let part = IoSliceMut::new(&mut first[..most]);
            self.inner.read_vectored(&mut [part])
        };
        read.inspect(|bytes| self.count(left, *bytes))
    }

    fn write_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let left = &self.injector.inner.written;
        let most = self.injector.allowance(left)?;
        let all = bufs.iter().map(|buf| buf.len()).sum::<usize>();
        let written = if all <= most {
            self.inner.write_vectored(bufs)
        } else {
            // A short write is allowed.
            let first = bufs.iter().find(|buf| !buf.is_empty());
            let first = first.map_or(&[][..], |buf| &buf[..most.min(buf.len())]);
            self.inner.write_vectored(&[IoSlice::new(first)])
        };
        written.inspect(|bytes| self.count(left, *bytes))
    }

    fn flush(&self) -> io::Result<()> {
        self.inner.flush()
    }

    fn has_buffered(&self) -> bool {
        self.inner.has_buffered()
    }

    fn has_ended(&self) -> bool {
        self.inner.has_ended()
    }

    fn shut_down(&self) {
        self.inner.shut_down();
    }

    fn peer_user(&self) -> Option<u32> {
        self.inner.peer_user()
    }

    fn limit_send_queue(&self, bytes: usize) -> io::Result<()> {
        self.inner.limit_send_queue(bytes)
    }
}

#[cfg(test)]
mod tests {
    use retpath_engine::socket::Moved;

    use super::*;

    fn bytes(moved: io::Result<Moved>) -> usize {
        match moved {
            Ok(Moved::Bytes(size)) => size,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn allows_exactly_so_many_bytes_to_be_written() {
        for limit in 1..=12 {
            let (near, far) = Link::pair().expect("a pair");
            let injector = FaultInjector::new(u64::MAX, limit);
            let near = injector.wrap(near);
            let mut sent = 0;
            while !injector.has_fired() {
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
    fn allows_exactly_so_many_bytes_to_be_read() {
        for limit in 1..=12 {
            let (near, far) = Link::pair().expect("a pair");
            assert_eq!(bytes(far.write(b"0123456789abcdef")), 16);
            let near = FaultInjector::new(limit, u64::MAX).wrap(near);
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
        let (main, _far) = Link::pair().expect("a pair");
        let (urgent, _far_too) = Link::pair().expect("a pair");
        let injector = FaultInjector::new(u64::MAX, 3);
        let (main, urgent) = (injector.wrap(main), injector.wrap(urgent));
        assert_eq!(bytes(main.write(b"ab")), 2);
        assert_eq!(bytes(urgent.write(b"cd")), 1);
        assert!(main.write(b"e").is_err());
    }
}
