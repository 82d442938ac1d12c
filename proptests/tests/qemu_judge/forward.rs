//! Reads the forward stream of a QEMU source as a destination does.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::mem;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use retpath_codec::command::Command;
use retpath_codec::forward::{Decoded, Decoder, Event, Options, ram::Record};
use retpath_codec::{Encode, Message, Name};
use retpath_engine::blocks::{Block, Blocks};

use retpath_support::SOON;

/// A page: block index and offset.
pub(crate) type Page = (usize, u64);

/// A connection from the source.
pub(crate) struct Forward {
    stream: UnixStream,
    decoder: Decoder,
    /// Received bytes not yet decoded.
    held: Vec<u8>,
    /// Whether to answer PINGs.
    pongs: bool,
    /// Bytes written to the return path.
    pub(crate) sent: Vec<u8>,
    /// Pages received over this connection.
    pub(crate) pages: BTreeSet<Page>,
}

/// The event to read up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    /// The end of the package, after which the guest may run at the destination.
    Switched,
    /// A page.
    Page,
    /// This many RECV_BITMAP commands.
    Bitmaps(usize),
    /// POSTCOPY_RESUME.
    Resumed,
    /// EOF, after all pages were sent.
    Eof,
}

impl Forward {
    /// Wraps the first connection of a migration.
    pub(crate) fn new(stream: UnixStream, pongs: bool) -> Self {
        Self::with(stream, Decoder::new(Options::default()), pongs)
    }

    /// Wraps a connection that resumes the migration decoded by `first`.
    pub(crate) fn resumed(first: &Decoder, stream: UnixStream) -> Self {
        Self::with(stream, first.resume(), true)
    }

    fn with(stream: UnixStream, decoder: Decoder, pongs: bool) -> Self {
        let limits = stream
            .set_read_timeout(Some(SOON))
            .and_then(|()| stream.set_write_timeout(Some(SOON)));
        limits.expect("setting socket timeouts succeeds");
        Self {
            stream,
            decoder,
            held: Vec::new(),
            pongs,
            sent: Vec::new(),
            pages: BTreeSet::new(),
        }
    }

    /// Returns the decoder, which knows the RAM blocks once they were decoded.
    pub(crate) fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// Writes to the return path. Ignores a source that closed the connection: its
    /// trace shows what it accepted.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        match self.stream.write_all(bytes) {
            Ok(()) => {}
            Err(error) if is_gone(error.kind()) => {}
            Err(error) => panic!("cannot write the return path: {error}"),
        }
        self.sent.extend(bytes);
    }

    /// Closes the connection.
    pub(crate) fn hang_up(self) -> Decoder {
        self.decoder
    }

    /// Closes the return path, as happens when a destination exits.
    pub(crate) fn close(&self) {
        // The source may have closed the connection first.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Reads up to and including an event; returns false if the stream ended before.
    pub(crate) fn read(&mut self, until: Until) -> bool {
        let mut bitmaps = 0;
        loop {
            let held = mem::take(&mut self.held);
            let mut rest = held.as_slice();
            let mut found = false;
            while !found {
                let step = self.decoder.next(rest);
                let step = step.unwrap_or_else(|error| panic!("QEMU's stream: {error}"));
                let Decoded::Event { event, size } = step else {
                    break;
                };
                rest = &rest[size..];
                self.note(&event);
                found = match (until, event) {
                    (Until::Switched, Event::PackageEnd) => true,
                    (Until::Page, Event::Record(record)) => {
                        matches!(record, Record::Zero { .. } | Record::Page { .. })
                    }
                    (Until::Bitmaps(count), Event::Command(Command::RecvBitmap { .. })) => {
                        bitmaps += 1;
                        bitmaps == count
                    }
                    (Until::Resumed, Event::Command(Command::PostcopyResume)) => true,
                    (Until::Eof, Event::Eof) => true,
                    _ => false,
                };
            }
            self.held = rest.to_vec();
            if found {
                return true;
            }
            if !self.more() {
                return false;
            }
        }
    }

    /// Reads and discards the rest of the stream.
    pub(crate) fn drain(&mut self) {
        while self.more() {
            self.held.clear();
        }
    }

    /// Waits for more bytes; returns false at the end of the stream.
    fn more(&mut self) -> bool {
        let mut piece = vec![0; 1 << 16];
        match self.stream.read(&mut piece) {
            Ok(0) => false,
            Ok(len) => {
                self.held.extend(&piece[..len]);
                true
            }
            Err(error) if is_gone(error.kind()) => false,
            Err(error) => panic!("cannot read from the source: {error}"),
        }
    }

    fn note(&mut self, event: &Event<'_>) {
        match event {
            Event::Command(Command::Ping { value }) if self.pongs => {
                let mut pong = Vec::new();
                let message = Message::<Name<'_>>::Pong { value: *value };
                message.encode(&mut pong).expect("PONG carries any value");
                self.write(&pong);
            }
            Event::Record(
                Record::Zero { block, offset, .. } | Record::Page { block, offset, .. },
            ) => {
                self.pages.insert((block.index(), *offset));
            }
            _ => {}
        }
    }

    /// Returns the source's RAM blocks.
    pub(crate) fn blocks(&self) -> Blocks {
        let mut blocks =
            Blocks::new(self.decoder.target_page()).expect("QEMU's page size is valid");
        for block in self.decoder.blocks() {
            let block = Block {
                name: block.name.clone(),
                len: block.len.expect("the first connection carries lengths"),
                page: block.page_size,
            };
            blocks.add(block).expect("QEMU's blocks are valid");
        }
        blocks
    }
}

fn is_gone(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::NotConnected
    )
}
