//! Creates an image from a saved stream, such as `migrate "exec:cat >FILE"` writes.
//!
//! The destination core checks the stream like that of a live migration; it places pages
//! in the image's files instead of memory. Recorded postcopy streams can therefore be
//! imported, too. Memory use does not grow with the stream, except for three bits per
//! page.

use std::io::Read;

use retpath_codec::forward::ram::Record;
use retpath_codec::forward::{self, Decoded, Decoder, Event, MAX_ITEM};

use super::{Error, Finished, Manifest, Recorder, Writer};
use retpath_engine::Channel;
use retpath_engine::destination::{self, Action, Content, Destination, Ending};

/// Read size in bytes.
const READ: usize = 1 << 20;

/// Settings that the stream does not carry, and limits of the import.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ImportOptions {
    /// Settings of the destination core, such as page sizes of blocks.
    pub core: destination::Config,
    /// Settings of the decoder; page sizes must match those of `core`.
    pub stream: forward::Options,
    /// Whether to accept a stream that does not mark its end; see
    /// [`Error::UnprovenEnd`]. The manifest records it.
    pub accept_unproven_end: bool,
}

impl ImportOptions {
    /// Sets the configuration of the destination core.
    #[must_use]
    pub fn core(mut self, core: destination::Config) -> Self {
        self.core = core;
        self
    }

    /// Sets the decoder's options.
    #[must_use]
    pub fn stream(mut self, stream: forward::Options) -> Self {
        self.stream = stream;
        self
    }

    /// Sets whether to accept a stream that does not mark its end.
    #[must_use]
    pub fn accept_unproven_end(mut self, accept: bool) -> Self {
        self.accept_unproven_end = accept;
        self
    }
}

/// The result of an import.
#[derive(Debug)]
#[non_exhaustive]
pub struct Imported {
    /// The image's manifest.
    pub manifest: Manifest,
    /// Where the image is.
    pub finished: Finished,
    /// Length of the stream in bytes.
    pub bytes: u64,
    /// How the stream ended.
    pub ending: Ending,
}

/// Reads a stream to its end and finishes the image of a new `writer` from it.
///
/// Calls `progress` with the number of bytes read; returning `false` stops the import.
///
/// # Errors
///
/// See [`Error`]; nothing of the image is left then. A complete image that cannot be given
/// its name is not an error: see [`Imported::finished`].
pub fn import(
    stream: &mut dyn Read,
    writer: Writer,
    options: ImportOptions,
    progress: &mut dyn FnMut(u64) -> bool,
) -> Result<Imported, Error> {
    let mut importing = Importing {
        writer,
        recorder: Recorder::new().accept_unproven_end(options.accept_unproven_end),
        decoder: Decoder::new(options.stream),
        core: Destination::new(options.core),
        ending: None,
    };
    let mut input = Input::new();
    loop {
        let need = importing.decode(&mut input)?;
        if !progress(importing.decoder.offset()) {
            return Err(Error::Stopped);
        }
        if !input.fill(stream, need)? {
            break;
        }
    }
    importing.end(&mut input)
}

struct Importing {
    writer: Writer,
    recorder: Recorder,
    decoder: Decoder,
    core: Destination,
    ending: Option<Ending>,
}

impl Importing {
    /// Decodes all complete items and returns how many more bytes are needed.
    fn decode(&mut self, input: &mut Input) -> Result<usize, Error> {
        loop {
            match self.decoder.next(input.unread())? {
                Decoded::Need(need) => return Ok(need),
                Decoded::Event { event, size } => {
                    self.take(event)?;
                    input.consume(size);
                }
            }
        }
    }

    fn take(&mut self, event: Event<'_>) -> Result<(), Error> {
        let is_page = matches!(
            event,
            Event::Record(Record::Page { .. } | Record::Zero { .. } | Record::Eos)
        );
        if !is_page {
            self.recorder.event(&event, &mut self.writer)?;
        }
        let writer = &mut self.writer;
        let Some(pages) = self.core.event(Channel::Main, event, 0)? else {
            return self.act();
        };
        let span = pages.span();
        match pages.content {
            Content::Data(data) => writer.write(span.block, span.offset, data)?,
            Content::Zero(len) => writer.zero(span.block, span.offset, len)?,
        }
        if !pages.atomic {
            return Ok(());
        }
        self.core.placed(Channel::Main, span, 0, 0)?;
        self.act()
    }

    /// Carries out the core's actions.
    fn act(&mut self) -> Result<(), Error> {
        while let Some(action) = self.core.poll() {
            match action {
                Action::Block { id } => {
                    let blocks = self.core.blocks();
                    if let Ok(block) = blocks.block(id) {
                        self.writer.block(block, blocks.target())?;
                    }
                }
                Action::Discard(span) => self.writer.zero(span.block, span.offset, span.len)?,
                Action::DeviceStateComplete => self.core.device_state_saved()?,
                Action::Complete(_) => self.core.confirm()?,
                Action::Finished(ending) => self.ending = Some(ending),
                Action::Listen | Action::Run => {}
            }
        }
        // A saved stream has no peer that could read replies.
        self.core.outbox().clear();
        self.core.written(0);
        Ok(())
    }

    /// Finishes the import at the end of the stream.
    fn end(mut self, input: &mut Input) -> Result<Imported, Error> {
        self.decoder.close();
        self.decode(input)?;
        self.decoder.finish(input.unread())?;
        if !self.decoder.has_ended() {
            // Without footers, EOF was decoded as device state.
            self.take(Event::Eof)?;
        }
        let Some(ending) = self.ending else {
            return Err(Error::CutShort {
                why: "it ends before the migration is complete",
            });
        };
        let manifest = self.writer.seal(self.recorder.facts())?;
        Ok(Imported {
            manifest,
            finished: self.writer.name(),
            bytes: self.decoder.offset(),
            ending,
        })
    }
}

/// Bytes read but not yet decoded.
struct Input {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Input {
    fn new() -> Self {
        Self {
            bytes: vec![0; READ + MAX_ITEM],
            start: 0,
            end: 0,
        }
    }

    fn unread(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    fn consume(&mut self, size: usize) {
        self.start = self.start.saturating_add(size).min(self.end);
    }

    /// Reads until `need` more bytes are available; returns `false` at the end.
    fn fill(&mut self, stream: &mut dyn Read, need: usize) -> Result<bool, Error> {
        self.bytes.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        let want = self.end.saturating_add(need);
        if want > self.bytes.len() {
            // The decoder's own limits bound what it needs.
            self.bytes.resize(want, 0);
        }
        while self.end < want {
            match stream.read(&mut self.bytes[self.end..]) {
                Ok(0) => return Ok(false),
                Ok(size) => self.end += size,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => return Ok(true),
                Err(error) => return Err(Error::Read(error)),
            }
        }
        Ok(true)
    }
}
