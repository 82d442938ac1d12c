//! Taking connections.

use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::{fmt, io};

use super::socket_file::SocketFile;
use super::{Address, ChannelError, Link};

/// Takes connections, without blocking.
pub struct Listener {
    pub(super) door: Door,
    pub(super) address: Address,
    pub(super) greet: Option<Greet>,
}

/// What is done with each new link.
pub(super) type Greet = Box<dyn FnMut(&mut Link) + Send>;

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener")
            .field("door", &self.door)
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
pub(super) enum Door {
    /// The file goes with the listener.
    Unix(UnixListener, #[allow(dead_code)] SocketFile),
    Tcp(TcpListener),
    Inherited(Option<OwnedFd>),
}

impl Door {
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
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
