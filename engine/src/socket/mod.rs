//! Connections: addresses in QEMU's URI syntax, listening, connecting, and links over any
//! [`Transport`].
//!
//! ```text
//! Address::listen  → Listener ────────┐ Accept            ┌ socket
//! embedder         → ConnectionQueue ─┴───────▶ Link ─────┤ Transport of the embedder (TLS)
//! Address::connect, Link::new, Link::over ────▶           └ wrapper around another (Link::wrap)
//! ```
//!
//! Addresses are `unix:PATH`, `tcp:HOST:PORT` (an empty host listens on every address) and `fd:N`
//! (an inherited, connected socket). Nothing here panics. Plain TCP beyond loopback, inherited or
//! not, is refused unless the caller allows it: whoever can read such a connection reads the guest's
//! memory, and whoever can write to it controls the guest. For the same reason only the owner of a
//! listening Unix socket can connect to it.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, ToSocketAddrs};
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Instant;

use retpath_codec::escape::Escaped;
use rustix::io::Errno;
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

mod connect;
mod error;
mod link;
mod listener;
mod socket_file;
mod unix_path;

pub use error::ChannelError;
pub use link::{Link, Moved, Transport};
pub use listener::{Accept, ConnectionQueue, Listener};

use connect::Limits;
use listener::ListeningSocket;

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
            "unix" if rest.is_empty() => Err(bad("unix: needs a path")),
            "unix" => Ok(Self::Unix(rest.into())),
            "tcp" => {
                let Some((host, port)) = rest.rsplit_once(':') else {
                    return Err(bad("tcp: needs HOST:PORT"));
                };
                let port = port
                    .parse()
                    .map_err(|_| bad("the port must be a number below 65536"))?;
                let host = match host.strip_prefix('[') {
                    Some(inner) => inner.strip_suffix(']').ok_or_else(|| bad("[ without ]"))?,
                    None if host.contains(':') => {
                        return Err(bad("an IPv6 address must be in brackets"));
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

/// As in messages: not printable characters of paths and hosts are [`Escaped`].
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => {
                write!(f, "unix:{}", Escaped::new(path.as_os_str().as_bytes()))
            }
            Self::Tcp { host, port } if host.contains(':') => {
                write!(f, "tcp:[{}]:{port}", Escaped::new(host))
            }
            Self::Tcp { host, port } => write!(f, "tcp:{}:{port}", Escaped::new(host)),
            Self::Fd(fd) => write!(f, "fd:{fd}"),
        }
    }
}

impl Address {
    fn io(&self, what: &'static str) -> impl FnOnce(io::Error) -> ChannelError + use<> {
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

    /// Duplicates an inherited, connected socket: the number stays open for others.
    fn inherit(&self, fd: RawFd, plaintext: bool) -> Result<OwnedFd, ChannelError> {
        let failed = |errno: Errno| self.io("cannot use")(errno.into());
        let me = pidfd_open(getpid(), PidfdFlags::empty()).map_err(failed)?;
        let copy = pidfd_getfd(me, fd, PidfdGetfdFlags::empty()).map_err(failed)?;
        // Fails for anything but a socket that is connected.
        let peer = rustix::net::getpeername(&copy).map_err(failed)?;
        match peer.map(SocketAddr::try_from) {
            Some(Ok(peer)) if !plaintext && !is_loopback(peer.ip()) => {
                let address = format!("{self} (connected to {peer})");
                Err(ChannelError::Plaintext { address })
            }
            _ => Ok(copy),
        }
    }

    /// Connects. `plaintext` allows plain TCP beyond loopback.
    ///
    /// Blocks as long as the system does; [`Address::connect_until`] does not.
    ///
    /// # Errors
    ///
    /// [`ChannelError::Plaintext`] and [`ChannelError::Io`].
    pub fn connect(&self, plaintext: bool) -> Result<Link, ChannelError> {
        self.connect_within(plaintext, Limits::default())
    }

    /// Connects, as [`Address::connect`] does, until `interrupt` polls readable or `deadline` has
    /// passed. Nothing is read from `interrupt`, which is the [`Control`](crate::driver::Control) of a
    /// loop, for example, or one end of a pipe.
    ///
    /// Resolving a host name is not interrupted.
    ///
    /// # Errors
    ///
    /// [`ChannelError::Interrupted`]; [`ChannelError::Io`], of kind
    /// [`TimedOut`](io::ErrorKind::TimedOut) at the deadline; and
    /// [`ChannelError::Plaintext`].
    pub fn connect_until(
        &self,
        plaintext: bool,
        interrupt: BorrowedFd<'_>,
        deadline: Option<Instant>,
    ) -> Result<Link, ChannelError> {
        let interrupt = Some(interrupt);
        self.connect_within(
            plaintext,
            Limits {
                interrupt,
                deadline,
            },
        )
    }

    fn connect_within(&self, plaintext: bool, limits: Limits<'_>) -> Result<Link, ChannelError> {
        let fd = match self {
            Self::Unix(path) => connect::unix(path, limits),
            Self::Tcp { host, port } => {
                connect::tcp(&self.resolve(host, *port, plaintext)?, limits)
            }
            Self::Fd(fd) => Ok(self.inherit(*fd, plaintext)?),
        };
        let fd = fd.map_err(|error| match error.kind() {
            io::ErrorKind::Interrupted => ChannelError::Interrupted {
                address: self.to_string(),
            },
            _ => self.io("cannot connect to")(error),
        })?;
        Link::new(fd).map_err(self.io("cannot set up the connection to"))
    }

    /// Listens. `plaintext` allows plain TCP beyond loopback. For `fd:` the descriptor is the only
    /// connection. For `unix:` the abandoned socket of a process that has died is replaced.
    ///
    /// # Errors
    ///
    /// [`ChannelError::Plaintext`] and [`ChannelError::Io`].
    pub fn listen(&self, plaintext: bool) -> Result<Listener, ChannelError> {
        let mut address = self.clone();
        let socket = match &mut address {
            Self::Unix(path) => {
                let (socket, file) = socket_file::listen(path).map_err(self.io(LISTENING))?;
                ListeningSocket::Listening(socket, Some(file))
            }
            Self::Tcp { host, port } => {
                let at = self.resolve(host, *port, plaintext)?;
                let socket = TcpListener::bind(&at[..]).map_err(self.io(LISTENING))?;
                *port = socket.local_addr().map_err(self.io(LISTENING))?.port();
                ListeningSocket::Listening(socket.into(), None)
            }
            Self::Fd(fd) => ListeningSocket::Inherited(Some(self.inherit(*fd, plaintext)?)),
        };
        // From here on, dropping it removes the socket's file.
        let listener = Listener {
            socket,
            address,
            on_accept: Box::new(|link| link),
        };
        if let Some(fd) = listener.fd() {
            rustix::io::ioctl_fionbio(fd, true).map_err(|e| self.io(LISTENING)(e.into()))?;
        }
        Ok(listener)
    }
}

const LISTENING: &str = "cannot listen on";

fn is_loopback(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_loopback(),
        IpAddr::V6(ip) => {
            ip.is_loopback() || ip.to_ipv4_mapped().is_some_and(|ip| ip.is_loopback())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpStream, UdpSocket};
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;

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
    fn refuses_malformed_addresses() {
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
                error.starts_with(&format!("`{uri}` is not a migration address: ")),
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
        assert!(error.to_string().contains("allow plaintext"), "{error}");
        address("tcp::0").listen(true).expect("allowed");
        address("tcp:[::ffff:127.0.0.1]:0")
            .listen(false)
            .expect("IPv4 loopback as IPv6");
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

    #[test]
    fn holds_an_inherited_tcp_socket_to_the_plaintext_rule() {
        let own = UdpSocket::bind("0.0.0.0:0").expect("a socket");
        // Sends nothing: the kernel only chooses the address of this machine.
        let beyond = own
            .connect("198.51.100.1:9")
            .and_then(|()| own.local_addr());
        // `None` on a machine that has only loopback addresses.
        let beyond = beyond.ok().map(|at| at.ip()).filter(|ip| !is_loopback(*ip));
        let loopback = IpAddr::from([127, 0, 0, 1]);
        for ip in [Some(loopback), beyond].into_iter().flatten() {
            let listener = TcpListener::bind((ip, 0)).expect("a free port");
            let at = listener.local_addr().expect("it has one");
            let near = TcpStream::connect(at).expect("it listens");
            let fd = Address::Fd(near.as_raw_fd());
            for plaintext in [false, true] {
                let ends = [
                    fd.connect(plaintext).map(drop),
                    fd.listen(plaintext).map(drop),
                ];
                for end in ends {
                    match end {
                        Ok(()) => assert!(plaintext || ip == loopback, "{ip}"),
                        Err(error) => {
                            assert!(!plaintext && ip != loopback, "{ip}: {error}");
                            let want = format!("{fd} (connected to {at}) is not a loopback");
                            assert!(error.to_string().starts_with(&want), "{error}");
                        }
                    }
                }
            }
            let fd = Address::Fd(listener.as_raw_fd());
            assert!(fd.connect(true).is_err(), "it is not connected");
        }
    }

    #[test]
    fn reaches_sockets_whose_paths_are_longer_than_an_address() {
        let folder = tempfile::tempdir().expect("a folder");
        let deep = folder.path().join("x".repeat(120));
        std::fs::create_dir(&deep).expect("a folder");
        let at = |name: &str| address(&format!("unix:{}", deep.join(name).display()));
        let mut listener = at("socket").listen(false).expect("listens");
        let _near = listener.address().connect(false).expect("connects");
        assert!(listener.accept().expect("accepts").is_some());
        drop(listener);
        assert!(!deep.join("socket").exists(), "the listener cleans up");

        let error = at(&"y".repeat(120)).listen(false).expect_err("too long");
        let (error, len) = (
            error.to_string(),
            at(&"y".repeat(120)).to_string().len() - 5,
        );
        assert!(error.contains(&format!("{len} bytes")), "{error}");
        assert!(error.contains("at most 107"), "{error}");
    }
}
