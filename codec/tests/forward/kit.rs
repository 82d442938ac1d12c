//! Helpers of the tests: decoding, and building streams.

use retpath_codec::command::{Command, PageSizes, Range, RangeBuf};
use retpath_codec::forward::{Decoded, Decoder, Event, Identity, Options, SectionKind, write};
use retpath_codec::{DecodeError, Encode, Name, NameBuf, Rule};

pub(crate) fn fresh() -> Decoder {
    Decoder::new(Options::default())
}

/// Decodes the input and passes every event with its offset to `take`. Returns the
/// remaining input.
pub(crate) fn drain<'a>(
    decoder: &mut Decoder,
    mut input: &'a [u8],
    mut take: impl FnMut(&Decoder, u64, Event<'a>),
) -> Result<&'a [u8], DecodeError> {
    loop {
        let offset = decoder.offset();
        match decoder.next(input)? {
            Decoded::Event { event, size } => {
                assert!(size > 0 || event == Event::PackageEnd);
                input = &input[size..];
                take(decoder, offset, event);
            }
            Decoded::Need(need) => {
                assert!(need > 0);
                return Ok(input);
            }
        }
    }
}

/// Returns the events of a complete and valid channel.
pub(crate) fn events<'a>(decoder: &mut Decoder, input: &'a [u8]) -> Vec<Event<'a>> {
    let mut events = Vec::new();
    let left = drain(decoder, input, |_, _, event| events.push(event)).unwrap();
    decoder.finish(left).unwrap();
    assert_eq!(left, b"");
    events
}

/// Returns the error of a malformed channel.
pub(crate) fn error(decoder: &mut Decoder, input: &[u8]) -> DecodeError {
    match drain(decoder, input, |_, _, _| {}) {
        Err(error) => {
            assert_eq!(decoder.next(input), Err(error), "stays broken");
            error
        }
        Ok(left) => decoder.finish(left).unwrap_err(),
    }
}

/// Asserts that `bytes` after the valid `start` are refused with this rule, at this
/// offset from the end of `start`.
#[track_caller]
pub(crate) fn refuse(start: &Stream, bytes: impl AsRef<[u8]>, rule: Rule, at: u64) {
    refuse_with(fresh(), start, bytes, rule, at);
}

#[track_caller]
pub(crate) fn refuse_with(
    mut decoder: Decoder,
    start: &Stream,
    bytes: impl AsRef<[u8]>,
    rule: Rule,
    at: u64,
) {
    drain(&mut decoder.clone(), &start.0, |_, _, _| {}).expect("a valid start");
    let all = [&start.0, bytes.as_ref()].concat();
    let error = error(&mut decoder, &all);
    let start = u64::try_from(start.0.len()).unwrap();
    assert_eq!((error.rule, error.offset - start), (rule, at), "{error}");
}

pub(crate) const PAGE: u64 = 4096;

/// The blocks of [`Stream::listed`].
pub(crate) const RAM: (&[u8], u64) = (b"pc.ram", 64 * PAGE);
pub(crate) const ROM: (&[u8], u64) = (b"rom", 2 * PAGE);

pub(crate) fn name(bytes: &[u8]) -> Name<'_> {
    Name::new(bytes).unwrap()
}

pub(crate) type Owned = Command<NameBuf, RangeBuf>;

pub(crate) fn discard(block: &[u8], start: u64, len: u64) -> Owned {
    Command::PostcopyRamDiscard {
        block: NameBuf::new(block).unwrap(),
        ranges: RangeBuf::new(vec![Range { start, len }]).unwrap(),
    }
}

pub(crate) fn advise(summary: u64, target: u64) -> Owned {
    Command::PostcopyAdvise {
        sizes: Some(PageSizes { summary, target }),
    }
}

/// Builds a forward stream.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stream(pub(crate) Vec<u8>);

impl AsRef<[u8]> for Stream {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Stream {
    /// Header and configuration.
    pub(crate) fn configured() -> Self {
        let mut out = Vec::new();
        write::header(&mut out);
        write::configuration(b"pc-i440fx-10.0", &mut out).unwrap();
        Self(out)
    }

    /// Up to ADVISE.
    pub(crate) fn advised() -> Self {
        Self::configured()
            .command(Command::OpenReturnPath)
            .command(Command::Ping { value: 1 })
            .command(advise(PAGE, PAGE))
    }

    /// Up to the list of RAM blocks: section 1 is `ram`.
    pub(crate) fn listed() -> Self {
        Self::advised().list()
    }

    /// Up to the discards.
    pub(crate) fn discarded() -> Self {
        Self::listed().command(discard(RAM.0, 0, RAM.1))
    }

    /// Up to POSTCOPY_LISTEN and a whole package.
    pub(crate) fn switched() -> Self {
        Self::discarded().package(&Self::default().listen().run())
    }

    pub(crate) fn list(self) -> Self {
        let mut out = self.0;
        write::ram_start(1, &mut out);
        write::mem_size(RAM.1 + ROM.1, &mut out).unwrap();
        for (block, len) in [RAM, ROM] {
            write::block(name(block), len, None, None, &mut out);
        }
        Self(out).eos(1)
    }

    pub(crate) fn listen(self) -> Self {
        self.command(Command::PostcopyListen)
    }

    pub(crate) fn run(self) -> Self {
        self.command(Command::Ping { value: 3 })
            .command(Command::PostcopyRun)
    }

    pub(crate) fn package(self, package: &Stream) -> Self {
        let size = u32::try_from(package.0.len()).unwrap();
        self.command(Command::Packaged { size }).raw(package)
    }

    pub(crate) fn command(mut self, command: Owned) -> Self {
        command.encode(&mut self.0).unwrap();
        self
    }

    pub(crate) fn raw(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.0.extend(bytes.as_ref());
        self
    }

    /// The head of START or FULL.
    pub(crate) fn head(mut self, kind: SectionKind, id: u32, idstr: &[u8]) -> Self {
        let identity = Identity {
            idstr,
            instance: 0,
            version: if idstr == b"ram" { 4 } else { 1 },
        };
        write::section(kind, id, Some(identity), &mut self.0).unwrap();
        self
    }

    /// The section of a device, with a footer.
    pub(crate) fn device(self, id: u32, idstr: &[u8], state: impl AsRef<[u8]>) -> Self {
        self.head(SectionKind::Full, id, idstr)
            .raw(state)
            .footer(id)
    }

    pub(crate) fn part(mut self, id: u32) -> Self {
        write::part(id, &mut self.0);
        self
    }

    pub(crate) fn end(mut self, id: u32) -> Self {
        write::end(id, &mut self.0);
        self
    }

    pub(crate) fn footer(mut self, id: u32) -> Self {
        write::footer(id, &mut self.0);
        self
    }

    /// EOS and footer of a `ram` section.
    pub(crate) fn eos(mut self, id: u32) -> Self {
        write::eos(&mut self.0);
        self.footer(id)
    }

    pub(crate) fn zero(mut self, offset: u64, block: Option<&[u8]>) -> Self {
        write::zero(offset, block.map(name), &mut self.0).unwrap();
        self
    }

    pub(crate) fn page(mut self, offset: u64, block: Option<&[u8]>) -> Self {
        write::page_header(offset, block.map(name), &mut self.0).unwrap();
        self.raw([0xab; 4096])
    }

    pub(crate) fn word(self, word: u64) -> Self {
        self.raw(word.to_be_bytes())
    }

    pub(crate) fn eof(mut self) -> Self {
        write::eof(&mut self.0);
        self
    }

    pub(crate) fn description(mut self, json: &[u8]) -> Self {
        write::description(u32::try_from(json.len()).unwrap(), &mut self.0);
        self.raw(json)
    }
}
