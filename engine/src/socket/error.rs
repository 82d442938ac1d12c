//! Why a channel cannot be had.

use std::{fmt, io};

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
    /// The wait for a connection was interrupted.
    Interrupted {
        /// Where to.
        address: String,
    },
}

impl ChannelError {
    /// Whether the error means that nothing listens there, so that a later attempt may
    /// succeed.
    pub fn is_absence(&self) -> bool {
        let kinds = [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused];
        matches!(self, Self::Io { error, .. } if kinds.contains(&error.kind()))
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
            Self::Interrupted { address } => {
                write!(f, "interrupted while connecting to {address}")
            }
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
