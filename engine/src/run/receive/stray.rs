//! A second connection that nobody expects.
//!
//! A source with the capability multifd sends its pages over channels of their
//! own, and its main channel need not show it (before QEMU 8.1): without a look
//! at the other channels, a precopy migration would seem whole with its pages
//! missing. They introduce themselves; whatever else connects is left alone.

use super::super::RunError;
use super::Receiving;
use crate::channel::{Link, Moved};

/// With what a multifd channel begins (`multifd.c`).
pub(super) const MULTIFD: [u8; 4] = 0x1122_3344_u32.to_be_bytes();

impl Receiving<'_> {
    /// Whether a connection is one that nobody expects.
    pub(super) fn is_stray(&self) -> bool {
        self.main.is_some() && !self.options.core.preempt && self.core.phase().is_precopy()
    }

    /// Keeps a connection that nobody expects open: the source may depend on it.
    pub(super) fn stray(&mut self, link: Link) -> Result<(), RunError> {
        self.stray = Some(link);
        self.guest.second_link();
        self.judge_stray()
    }

    /// Looks at how the connection that nobody expects begins.
    pub(super) fn judge_stray(&mut self) -> Result<(), RunError> {
        let Some(stray) = &self.stray else {
            return Ok(());
        };
        let mut head = [0; MULTIFD.len()];
        match stray.read(&mut head) {
            Ok(Moved::Later) => {}
            Ok(Moved::Bytes(_)) if head == MULTIFD => return Err(RunError::Multifd),
            // Of the preempt channel nothing is lost: its pages are missed in the end.
            Ok(Moved::Bytes(_) | Moved::End) | Err(_) => self.stray = None,
        }
        Ok(())
    }

    /// Before pages that did not come are taken for zeros: whether there is a
    /// channel over which they may have come.
    pub(super) fn judge_strays(&mut self) -> Result<(), RunError> {
        loop {
            self.judge_stray()?;
            if self.stray.is_some() || self.options.core.preempt {
                return Ok(());
            }
            match self
                .lobby
                .next()
                .map_or_else(|| self.listener.accept(), |link| Ok(Some(link)))?
            {
                Some(link) => self.stray = Some(link),
                None => return Ok(()),
            }
        }
    }
}
