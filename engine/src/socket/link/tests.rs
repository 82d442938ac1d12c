use super::*;

#[test]
fn returns_peeked_bytes_once_and_in_order() {
    let (near, far) = Link::pair().expect("a pair");
    let mut head = [0; 4];
    assert_eq!(far.peek(&mut head).expect("open"), Moved::Later);
    near.write(b"ab").expect("room");
    assert_eq!(far.peek(&mut head).expect("open"), Moved::Bytes(2));
    assert!(far.has_buffered() && !far.has_ended());
    near.write(b"cdef").expect("room");
    assert_eq!(far.peek(&mut head).expect("open"), Moved::Bytes(4));
    assert_eq!(far.peek(&mut head[..1]).expect("open"), Moved::Bytes(1));
    assert_eq!(&head, b"abcd");
    let (mut one, mut two) = ([0; 3], [0; 3]);
    let mut parts = [IoSliceMut::new(&mut one), IoSliceMut::new(&mut two)];
    assert_eq!(
        far.read_vectored(&mut parts).expect("open"),
        Moved::Bytes(4)
    );
    assert_eq!((&one, &two[..1]), (b"abc", &b"d"[..]));
    assert!(!far.has_buffered());
    assert_eq!(far.read(&mut one).expect("open"), Moved::Bytes(2));
    assert_eq!(far.read(&mut two).expect("open"), Moved::Later);
}

/// A transport whose next reads fail, before the bytes of a socket.
struct Failing {
    inner: Box<dyn Transport>,
    errors: RefCell<Vec<ErrorKind>>,
}

impl AsFd for Failing {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}

impl Transport for Failing {
    fn read_vectored(&self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        match self.errors.borrow_mut().pop() {
            Some(error) => Err(error.into()),
            None => self.inner.read_vectored(bufs),
        }
    }

    fn write_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.inner.write_vectored(bufs)
    }

    fn shut_down(&self) {
        self.inner.shut_down();
    }
}

/// `receive` dropped the only connection of a source whose guest had left.
#[test]
fn peeks_once_more_after_an_error() {
    let failing = |errors: &[ErrorKind]| {
        let (near, far) = Link::pair().expect("a pair");
        near.write(b"ab").expect("room");
        let errors = RefCell::new(errors.to_vec());
        let far = far.wrap(|inner| Box::new(Failing { inner, errors }));
        (near, far)
    };
    let (_near, far) = failing(&[ErrorKind::OutOfMemory]);
    assert_eq!(far.peek(&mut [0; 4]).expect("bytes"), Moved::Bytes(2));
    assert!(!far.has_ended());

    let (_near, far) = failing(&[ErrorKind::OutOfMemory, ErrorKind::ConnectionReset]);
    let error = far.peek(&mut [0; 4]).expect_err("two errors");
    assert_eq!(error.kind(), ErrorKind::OutOfMemory);
    assert!(far.has_ended());
}

/// A transport that takes one byte at a time, and passes it on when it is flushed.
struct Full {
    inner: Socket,
    held: RefCell<Option<u8>>,
}

impl AsFd for Full {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}

impl Transport for Full {
    fn read_vectored(&self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.inner.read_vectored(bufs)
    }

    fn write_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut held = self.held.borrow_mut();
        match held.is_some() {
            true => Err(ErrorKind::WouldBlock.into()),
            false => {
                held.replace(bufs[0][0]);
                Ok(1)
            }
        }
    }

    fn flush(&self) -> io::Result<()> {
        if let Some(byte) = *self.held.borrow() {
            self.inner.write_vectored(&[IoSlice::new(&[byte])])?;
        }
        self.held.take();
        Ok(())
    }

    fn shut_down(&self) {
        self.inner.shut_down();
    }
}

#[test]
fn flushes_a_transport_that_is_full() {
    let (near, far) = UnixStream::pair().expect("a pair");
    let (inner, far) = (
        Socket::new(near.into()).expect("a socket"),
        Link::new(far.into()).expect("a socket"),
    );
    let held = RefCell::default();
    let near = Link::over(Box::new(Full { inner, held }));
    assert_eq!(near.write(b"a").expect("room"), Moved::Bytes(1));
    assert_eq!(near.write(b"b").expect("open"), Moved::Later);
    assert_eq!(near.write(b"b").expect("room again"), Moved::Bytes(1));
    assert_eq!(far.read(&mut [0; 4]).expect("open"), Moved::Bytes(1));
}

#[test]
fn peeks_at_the_end_of_the_stream() {
    let (near, far) = Link::pair().expect("a pair");
    near.write(b"ab").expect("room");
    drop(near);
    let mut head = [0; 4];
    assert_eq!(far.peek(&mut head).expect("bytes"), Moved::Bytes(2));
    assert!(far.has_ended());
    assert_eq!(far.read(&mut head).expect("bytes"), Moved::Bytes(2));
    assert_eq!(far.peek(&mut head).expect("an end"), Moved::End);
    assert_eq!(far.read(&mut head).expect("an end"), Moved::End);
}

#[test]
fn finds_a_dead_tcp_peer_within_130_seconds() {
    use super::super::Address;
    use std::os::fd::AsRawFd;

    let any: Address = "tcp:127.0.0.1:0".parse().expect("a good address");
    let mut listener = any.listen(false).expect("a free port");
    let connected = listener.address().connect(false).expect("it listens");
    let accepted = loop {
        if let Some(link) = listener.accept().expect("works") {
            break link;
        }
    };
    let inherited = Address::Fd(accepted.as_fd().as_raw_fd());
    let inherited = inherited.connect(false).expect("it is connected");
    for link in [connected, accepted, inherited] {
        assert!(sockopt::socket_keepalive(&link).expect("a socket"));
        let idle = sockopt::tcp_keepidle(&link).expect("TCP");
        let interval = sockopt::tcp_keepintvl(&link).expect("TCP");
        let probes = sockopt::tcp_keepcnt(&link).expect("TCP");
        let unanswered = sockopt::tcp_user_timeout(&link).expect("TCP");
        let unanswered = Duration::from_millis(unanswered.into());
        assert_eq!(unanswered + interval, Duration::from_secs(130));
        assert_eq!(idle + interval * probes, unanswered);
    }
}
