//! Channels: addresses in QEMU's URI syntax, listening, connecting, and the
//! byte streams that come of it.
//!
//! `unix:PATH`, `tcp:HOST:PORT` (an empty host listens on every address) and
//! `fd:N` (a connected socket, inherited). Nothing here panics; errors say
//! which address, what failed and what to do. Plain TCP beyond loopback is
//! refused unless the caller allows it: whoever can read such a link reads the
//! guest's memory, and whoever can write to it owns the guest.

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::str::FromStr;

use rustix::fs::OFlags;
use rustix::net::{AddressFamily, Shutdown, sockopt};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags};

use crate::memory::wide;

mod fuse;

pub use fuse::Fuse;

/// Where a migration listens or connects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// `unix:PATH`
    Unix(PathBuf),
    /// `tcp:HOST:PORT`
    Tcp {
        /// Host name or address; without the brackets of an IPv6 address.
        host: String,
        /// Port; 0 lets the kernel choose when listening.
        port: u16,
    },
    /// `fd:N`
    Fd(RawFd),
}

/// Why a channel cannot be had.
#[derive(Debug)]
pub enum ChannelError {
    /// The URI is none that is understood.
    Uri {
        /// It.
        uri: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Plain TCP to or from an address that is not loopback.
    Plaintext {
        /// It.
        address: String,
    },
    /// A system call failed.
    Io {
        /// What was being done.
        what: &'static str,
        /// Where.
        address: String,
        /// How it failed.
        error: io::Error,
    },
}

impl FromStr for Address {
    type Err = ChannelError;

    fn from_str(uri: &str) -> Result<Self, ChannelError> {
        let bad = |why| ChannelError::Uri {
            uri: uri.into(),
            why,
        };
        let Some((scheme, rest)) = uri.split_once(':') else {
            return Err(bad("it must begin with unix:, tcp: or fd:"));
        };
        match scheme {
            "unix" if rest.is_empty() => Err(bad("unix: needs a path behind it")),
            "unix" => Ok(Self::Unix(rest.into())),
            "tcp" => {
                let Some((host, port)) = rest.rsplit_once(':') else {
                    return Err(bad("tcp: needs HOST:PORT behind it"));
                };
                let port = port
                    .parse()
                    .map_err(|_| bad("the port must be a number below 65536"))?;
                let host = match host.strip_prefix('[') {
                    Some(inner) => inner
                        .strip_suffix(']')
                        .ok_or_else(|| bad("a [ without its ]"))?,
                    None if host.contains(':') => {
                        return Err(bad("an IPv6 address must stand in brackets"));
                    }
                    None => host,
                };
                Ok(Self::Tcp {
                    host: host.into(),
                    port,
                })
            }
            "fd" => match rest.parse() {
                Ok(fd) if fd >= 0 => Ok(Self::Fd(fd)),
                _ => Err(bad("fd: needs the number of an open file descriptor")),
            },
            _ => Err(bad("only unix:, tcp: and fd: are supported")),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp { host, port } if host.contains(':') => write!(f, "tcp:[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "tcp:{host}:{port}"),
            Self::Fd(fd) => write!(f, "fd:{fd}"),
        }
    }
}

impl Address {
    fn io(&self, what: &'static str) -> impl FnOnce(io::Error) -> ChannelError {
        let address = self.to_string();
        move |error| ChannelError::Io {
            what,
            address,
            error,
        }
    }

    /// The socket addresses of a TCP address, if plain TCP may use them.
    fn resolve(
        &self,
        host: &str,
        port: u16,
        plaintext: bool,
    ) -> Result<Vec<SocketAddr>, ChannelError> {
        let host = if host.is_empty() { "::" } else { host };
        let found: Vec<_> = (host, port)
            .to_socket_addrs()
            .map_err(self.io("cannot resolve"))?
            .collect();
        if !plaintext && !found.iter().all(|a| is_loopback(a.ip())) {
            return Err(ChannelError::Plaintext {
                address: self.to_string(),
            });
        }
        Ok(found)
    }

    /// Connects. `plaintext` allows plain TCP beyond loopback.
    ///
    /// # Errors
    ///
    /// [`ChannelError::Plaintext`] and [`ChannelError::Io`].
    pub fn connect(&self, plaintext: bool) -> Result<Link, ChannelError> {
        let failed = self.io("cannot connect to");
        let fd: OwnedFd = match self {
            Self::Unix(path) => UnixStream::connect(path).map_err(failed)?.into(),
            Self::Tcp { host, port } => {
                let at = self.resolve(host, *port, plaintext)?;
                TcpStream::connect(&at[..]).map_err(failed)?.into()
            }
            Self::Fd(fd) => inherit(*fd).map_err(failed)?,
        };
        Link::new(fd).map_err(self.io("cannot set up the connection to"))
    }

    /// Listens. `plaintext` allows plain TCP beyond loopback. For `fd:` the
    /// descriptor is the one connection that there will be.
    ///
    /// # Errors
    ///
    /// [`ChannelError::Plaintext`] and [`ChannelError::Io`].
    pub fn listen(&self, plaintext: bool) -> Result<Listener, ChannelError> {
        let failed = self.io("cannot listen on");
        let (door, address) = match self {
            Self::Unix(path) => {
                let door = UnixListener::bind(path).map_err(failed)?;
                (Door::Unix(door, path.clone()), self.clone())
            }
            Self::Tcp { host, port } => {
                let at = self.resolve(host, *port, plaintext)?;
                let door = TcpListener::bind(&at[..]).map_err(failed)?;
                let port = door.local_addr().map_or(*port, |at| at.port());
                (
                    Door::Tcp(door),
                    Self::Tcp {
                        host: host.clone(),
                        port,
                    },
                )
            }
            Self::Fd(fd) => (
                Door::Inherited(Some(inherit(*fd).map_err(failed)?)),
                self.clone(),
            ),
        };
        if let Some(fd) = door.fd() {
            rustix::io::ioctl_fionbio(fd, true)
                .map_err(|e| self.io("cannot listen on")(e.into()))?;
        }
        Ok(Listener {
            door,
            address,
            greet: None,
        })
    }
}

/// An inherited descriptor, duplicated: the number stays open for others.
fn inherit(fd: RawFd) -> io::Result<OwnedFd> {
    let own = Pid::from_raw(std::process::id().cast_signed()).ok_or(io::ErrorKind::NotFound)?;
    let me = rustix::process::pidfd_open(own, PidfdFlags::empty())?;
    let copy = rustix::process::pidfd_getfd(me, fd, PidfdGetfdFlags::empty())?;
    // Fails for everything that is no socket.
    sockopt::socket_type(&copy)?;
    Ok(copy)
}

fn is_loopback(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_loopback(),
        IpAddr::V6(ip) => {
            ip.is_loopback() || ip.to_ipv4_mapped().is_some_and(|ip| ip.is_loopback())
        }
    }
}

/// Takes connections, without blocking.
pub struct Listener {
    door: Door,
    address: Address,
    greet: Option<Greet>,
}

/// What is done with each new link.
type Greet = Box<dyn FnMut(&mut Link) + Send>;

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener")
            .field("door", &self.door)
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
enum Door {
    Unix(UnixListener, PathBuf),
    Tcp(TcpListener),
    Inherited(Option<OwnedFd>),
}

impl Door {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Unix(door, _) => Some(door.as_fd()),
            Self::Tcp(door) => Some(door.as_fd()),
            Self::Inherited(_) => None,
        }
    }
}

impl Listener {
    /// Where it listens; the port is the one that the kernel chose.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// What to poll for a connection; none for `fd:`.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.door.fd()
    }

    /// Shows each link that is accepted from now on to `greet`, in order.
    pub fn on_accept(&mut self, greet: impl FnMut(&mut Link) + Send + 'static) {
        self.greet = Some(Box::new(greet));
    }

    /// The next connection, if there is one.
    ///
    /// # Errors
    ///
    /// [`ChannelError::Io`].
    pub fn accept(&mut self) -> Result<Option<Link>, ChannelError> {
        let taken: io::Result<OwnedFd> = match &mut self.door {
            Door::Unix(door, _) => door.accept().map(|(stream, _)| stream.into()),
            Door::Tcp(door) => door.accept().map(|(stream, _)| stream.into()),
            Door::Inherited(fd) => fd.take().ok_or_else(|| io::ErrorKind::WouldBlock.into()),
        };
        let failed = self.address.io("cannot accept a connection on");
        match taken {
            Ok(fd) => {
                let mut link = Link::new(fd).map_err(failed)?;
                if let Some(greet) = &mut self.greet {
                    greet(&mut link);
                }
                Ok(Some(link))
            }
            // The peer has gone again; the next one may be fine.
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionAborted
                ) =>
            {
                Ok(None)
            }
            Err(e) => Err(failed(e)),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Door::Unix(_, path) = &self.door {
            // Nobody can connect any more; a file that is gone already is fine.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// One connection: a byte stream in both directions, never blocking.
#[derive(Debug)]
pub struct Link {
    fd: OwnedFd,
    fuse: Option<Fuse>,
}

/// What a read or a write came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    /// This many bytes; at least 1.
    Bytes(usize),
    /// Nothing now: poll first.
    Later,
    /// Nothing, ever: the peer has closed its side (reads only).
    End,
}

impl Link {
    /// Takes a connected stream socket over.
    ///
    /// # Errors
    ///
    /// Its options cannot be set.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        let flags = rustix::fs::fcntl_getfl(&fd)?;
        rustix::fs::fcntl_setfl(&fd, flags | OFlags::NONBLOCK)?;
        let family = sockopt::socket_domain(&fd)?;
        if family == AddressFamily::INET || family == AddressFamily::INET6 {
            // A request of 16 bytes must not wait for company.
            sockopt::set_tcp_nodelay(&fd, true)?;
            // There are no timeouts in the protocol: without this, a peer
            // whose machine is gone would be waited for for ever.
            sockopt::set_socket_keepalive(&fd, true)?;
        }
        Ok(Self { fd, fuse: None })
    }

    /// Lets the link break when the fuse blows.
    pub fn guard(&mut self, fuse: Fuse) {
        self.fuse = Some(fuse);
    }

    /// Two ends of one connection within this machine.
    ///
    /// # Errors
    ///
    /// The system has no descriptor left.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (a, b) = UnixStream::pair()?;
        Ok((Self::new(a.into())?, Self::new(b.into())?))
    }

    /// Bounds what waits in the kernel to be sent: background pages that wait
    /// there stand in front of urgent ones.
    ///
    /// # Errors
    ///
    /// The option cannot be set.
    pub fn limit_send_queue(&self, bytes: usize) -> io::Result<()> {
        Ok(sockopt::set_socket_send_buffer_size(&self.fd, bytes)?)
    }

    /// Reads what is there.
    ///
    /// # Errors
    ///
    /// The link is broken.
    pub fn read(&self, buf: &mut [u8]) -> io::Result<Moved> {
        self.read_vectored(&mut [IoSliceMut::new(buf)])
    }

    /// Reads what is there into several places.
    ///
    /// # Errors
    ///
    /// The link is broken.
    pub fn read_vectored(&self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<Moved> {
        let Some(fuse) = &self.fuse else {
            return moved(self.receive(bufs), Moved::End);
        };
        let most = usize::try_from(fuse.reads()?).unwrap_or(usize::MAX);
        let all = bufs.iter().map(|buf| buf.len()).sum::<usize>();
        let size = if all <= most {
            self.receive(bufs)
        } else {
            // A short read is as good as any.
            let first = bufs.iter_mut().find(|buf| !buf.is_empty());
            let first = first.map_or(&mut [][..], |buf| &mut **buf);
            let most = most.min(first.len());
            self.receive(&mut [IoSliceMut::new(&mut first[..most])])
        };
        let size = size.inspect(|size| {
            if fuse.has_read(wide(*size)) {
                self.shut_down();
            }
        });
        moved(size, Moved::End)
    }

    fn receive(&self, bufs: &mut [IoSliceMut<'_>]) -> rustix::io::Result<usize> {
        rustix::io::retry_on_intr(|| rustix::io::readv(&self.fd, bufs))
    }

    /// Writes what there is room for.
    ///
    /// # Errors
    ///
    /// The link is broken.
    pub fn write(&self, bytes: &[u8]) -> io::Result<Moved> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    /// Writes what there is room for, from several places.
    ///
    /// # Errors
    ///
    /// The link is broken.
    pub fn write_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<Moved> {
        let Some(fuse) = &self.fuse else {
            return moved(self.send(bufs), Moved::Later);
        };
        let most = usize::try_from(fuse.writes()?).unwrap_or(usize::MAX);
        let all = bufs.iter().map(|buf| buf.len()).sum::<usize>();
        let sent = if all <= most {
            self.send(bufs)
        } else {
            // A short write is as good as any.
            let first = bufs.iter().find(|buf| !buf.is_empty());
            let first = first.map_or(&[][..], |buf| &buf[..most.min(buf.len())]);
            self.send(&[IoSlice::new(first)])
        };
        let sent = sent.inspect(|size| {
            if fuse.has_written(wide(*size)) {
                self.shut_down();
            }
        });
        moved(sent, Moved::Later)
    }

    fn send(&self, bufs: &[IoSlice<'_>]) -> rustix::io::Result<usize> {
        rustix::io::retry_on_intr(|| {
            let mut none = rustix::net::SendAncillaryBuffer::default();
            rustix::net::sendmsg(&self.fd, bufs, &mut none, rustix::net::SendFlags::NOSIGNAL)
        })
    }

    /// Ends both directions; the peer sees the end of the stream.
    pub fn shut_down(&self) {
        // A link that is broken already needs no end.
        let _ = rustix::net::shutdown(&self.fd, Shutdown::Both);
    }
}

fn moved(result: Result<usize, rustix::io::Errno>, none: Moved) -> io::Result<Moved> {
    match result {
        Ok(0) => Ok(none),
        Ok(size) => Ok(Moved::Bytes(size)),
        Err(rustix::io::Errno::AGAIN) => Ok(Moved::Later),
        Err(error) => Err(error.into()),
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl fmt::Display for ChannelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uri { uri, why } => write!(f, "`{uri}` is no migration address: {why}"),
            Self::Plaintext { address } => write!(
                f,
                "{address} is not a loopback address, and plain TCP shows the guest's memory to the \
                 network; use unix: or a tunnel, or say --allow-plaintext"
            ),
            Self::Io {
                what,
                address,
                error,
            } => write!(f, "{what} {address}: {error}"),
        }
    }
}

impl std::error::Error for ChannelError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { error, .. } => Some(error),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(uri: &str) -> Address {
        uri.parse().expect("a good address")
    }

    #[test]
    fn reads_and_prints_qemus_syntax() {
        for uri in [
            "unix:/a/b:c",
            "tcp:localhost:4444",
            "tcp::0",
            "tcp:[::1]:7",
            "fd:3",
        ] {
            assert_eq!(address(uri).to_string(), uri);
        }
    }

    #[test]
    fn refuses_what_is_no_address() {
        for uri in [
            "",
            "x",
            "unix:",
            "tcp:a",
            "tcp:a:b",
            "tcp:a:70000",
            "tcp:::1:7",
            "tcp:[::1:7",
            "fd:x",
            "fd:-1",
            "exec:true",
        ] {
            let error = uri.parse::<Address>().expect_err(uri).to_string();
            assert!(
                error.starts_with(&format!("`{uri}` is no migration address: ")),
                "{error}"
            );
        }
    }

    #[test]
    fn refuses_plain_tcp_beyond_loopback() {
        for uri in ["tcp::0", "tcp:0.0.0.0:0", "tcp:[::]:0"] {
            let error = address(uri).listen(false).expect_err(uri);
            assert!(matches!(error, ChannelError::Plaintext { .. }), "{error}");
        }
        let error = address("tcp:192.0.2.1:1")
            .connect(false)
            .expect_err("not loopback");
        assert!(error.to_string().contains("--allow-plaintext"), "{error}");
        address("tcp::0").listen(true).expect("allowed");
        address("tcp:[::ffff:127.0.0.1]:0")
            .listen(false)
            .expect("loopback in IPv6 clothes");
    }

    #[test]
    fn carries_bytes_both_ways() {
        let dir = tempfile::tempdir().expect("a folder");
        let unix = format!("unix:{}", dir.path().join("socket").display());
        for uri in [&unix[..], "tcp:127.0.0.1:0"] {
            let mut listener = address(uri).listen(false).expect("listens");
            assert!(listener.accept().expect("nobody yet").is_none());
            let near = listener.address().connect(false).expect("connects");
            let far = loop {
                if let Some(far) = listener.accept().expect("accepts") {
                    break far;
                }
            };
            let mut buf = [0; 8];
            assert_eq!(far.read(&mut buf).expect("empty"), Moved::Later);
            assert_eq!(near.write(b"request").expect("room"), Moved::Bytes(7));
            let got = loop {
                match far.read(&mut buf).expect("reads") {
                    Moved::Later => {}
                    other => break other,
                }
            };
            assert_eq!(got, Moved::Bytes(7));
            far.shut_down();
            let end = loop {
                match near.read(&mut buf).expect("reads") {
                    Moved::Later => {}
                    other => break other,
                }
            };
            assert_eq!(end, Moved::End);
        }
        assert!(
            !dir.path().join("socket").exists(),
            "the listener cleans up"
        );
    }

    #[test]
    fn inherits_sockets_and_nothing_else() {
        use std::os::fd::AsRawFd;
        let (a, b) = UnixStream::pair().expect("a pair");
        let link = Address::Fd(a.as_raw_fd()).connect(false).expect("a socket");
        assert_eq!(link.write(b"x").expect("room"), Moved::Bytes(1));
        drop(link);
        a.set_nonblocking(false)
            .expect("still open: the number was duplicated");
        drop(b);
        let file = std::fs::File::open("/dev/null").expect("the null device");
        assert!(Address::Fd(file.as_raw_fd()).connect(false).is_err());
        assert!(Address::Fd(9999).connect(false).is_err());
    }
}
