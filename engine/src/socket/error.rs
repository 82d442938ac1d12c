//! Errors opening a connection.

use std::{fmt, io};

use retpath_codec::escape::Escaped;

/// An error opening a connection.
#[derive(Debug)]
#[non_exhaustive]
pub enum ChannelError {
    /// Malformed or unsupported URI.
    Uri {
        /// The URI.
        uri: String,
        /// The rule that it breaks.
        why: &'static str,
    },
    /// Plain TCP to or from an address that is not loopback.
    Plaintext {
        /// The address.
        address: String,
    },
    /// A system call failed.
    Io {
        /// The operation, such as `cannot connect to`.
        what: &'static str,
        /// The address.
        address: String,
        /// The cause.
        error: io::Error,
    },
    /// Connecting was interrupted.
    Interrupted {
        /// The address.
        address: String,
    },
    /// A connector or acceptor of the embedder failed.
    Other(Box<dyn std::error::Error + Send + Sync>),
}

impl ChannelError {
    /// Whether nothing listens there, so that a later attempt may succeed.
    pub fn is_absence(&self) -> bool {
        let kinds = [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused];
        matches!(self, Self::Io { error, .. } if kinds.contains(&error.kind()))
    }
}

impl fmt::Display for ChannelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uri { uri, why } => {
                let uri = Escaped::new(uri);
                write!(f, "`{uri}` is not a migration address: {why}")
            }
            Self::Plaintext { address } => write!(
                f,
                "{address} is not a loopback address, and plain TCP exposes the guest's memory to the \
                 network; use unix: or a tunnel, or allow plaintext explicitly"
            ),
            Self::Io {
                what,
                address,
                error,
            } => write!(f, "{what} {address}: {error}"),
            Self::Interrupted { address } => {
                write!(f, "interrupted while connecting to {address}")
            }
            Self::Other(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ChannelError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { error, .. } => Some(error),
            Self::Other(error) => error.source(),
            _ => None,
        }
    }
}
