//! Extracts what an image keeps of a stream besides RAM.
//!
//! Live migrations and saved streams use the same [`Recorder`]. It receives every
//! event of the main channel except pages, collects the manifest's facts about the
//! source, and passes device sections, as encoded in the stream, to the [`Writer`].
//! It refuses content that an image cannot keep as soon as it appears.

use retpath_codec::command::Command;
use retpath_codec::escape::Escaped;
use retpath_codec::forward::ram::Record;
use retpath_codec::forward::{Event, SectionKind, Subsection};
use retpath_codec::wire::section::{DIRTY_BITMAP_NAME, RAM_NAME};
use retpath_codec::wire::value::PING_PACKAGE_LOADED;

use super::manifest::{Manifest, Seen};
use super::{Error, Writer};
use retpath_engine::destination::Tail;

/// Maximum length of a description whose name appears in a message.
const SHOWN: usize = 64;

/// Follows a stream and collects what the manifest records of it.
#[derive(Debug, Default)]
pub struct Recorder {
    machine: Option<Vec<u8>>,
    uuid: Option<[u8; 16]>,
    says_target_page: bool,
    seen: Seen,
    /// Whether device sections follow, because RAM has ended or the package has begun.
    devices: bool,
    /// Whether the current section is a device's.
    device: bool,
    /// Number of bytes left of the description, once it has begun.
    description: Option<u64>,
    accept_unproven_end: bool,
    /// Whether an unproven end was accepted.
    unproven_end: bool,
    scratch: Vec<u8>,
}

impl Recorder {
    /// Creates a recorder at the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Continues with the facts of another recorder after the switch to postcopy.
    pub fn resumed(facts: &Manifest) -> Self {
        Self {
            machine: facts.machine.clone(),
            uuid: facts.uuid,
            says_target_page: facts.says_target_page,
            seen: facts.source,
            devices: true,
            ..Self::default()
        }
    }

    /// Whether to accept a stream that does not mark its end; the manifest records this. The
    /// default is `false`.
    #[must_use]
    pub fn accept_unproven_end(mut self, accept: bool) -> Self {
        self.accept_unproven_end = accept;
        self
    }

    /// Processes the next event.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::Unfaithful`], with [`Error::CutShort`] or [`Error::UnprovenEnd`] at
    /// the end of a stream without footers, and with [`Error::Io`] of the writer.
    pub fn event(&mut self, event: &Event<'_>, writer: &mut Writer) -> Result<(), Error> {
        match event {
            Event::Configuration { machine } => self.machine = Some(machine.to_vec()),
            Event::Subsection(subsection) => self.subsection(subsection)?,
            Event::Section { kind, id, identity } => {
                self.device = *kind == SectionKind::Full;
                let idstr = identity.map(|identity| identity.idstr);
                match (kind, idstr) {
                    (SectionKind::Full, _) => self.keep(event, writer)?,
                    (SectionKind::Start, Some(RAM_NAME)) => self.seen.ram_section = *id,
                    (SectionKind::End, _) if *id == self.seen.ram_section => self.devices = true,
                    (SectionKind::Start, Some(idstr)) => return Err(iterable(idstr)),
                    _ => {}
                }
            }
            Event::DeviceState { .. } => self.keep(event, writer)?,
            Event::Footer { .. } => {
                self.seen.footers = true;
                if self.device {
                    self.keep(event, writer)?;
                }
            }
            Event::Record(record) => refuse(record)?,
            Event::Command(command) => self.command(command),
            Event::Description { size } => self.description = Some(u64::from(*size)),
            Event::DescriptionBytes(bytes) => {
                let left = self.description.unwrap_or(0);
                self.description =
                    Some(left.saturating_sub(retpath_engine::protocol::wide(bytes.len())));
                writer.description(bytes)?;
            }
            Event::Eof => self.end(writer)?,
            Event::Header | Event::PackageEnd => {}
            _ => {
                return Err(Error::Unfaithful {
                    what: format!("{}, which an image cannot hold", event.label()),
                    advice: "use a version of this program that knows it",
                });
            }
        }
        Ok(())
    }

    /// Stores an event as encoded in the stream. Early sections precede RAM (QEMU 11.1)
    /// or follow its list of blocks (10.0); a destination accepts them at either
    /// position.
    fn keep(&mut self, event: &Event<'_>, writer: &mut Writer) -> Result<(), Error> {
        let bytes = match event {
            // Avoid a copy: most bytes are device state.
            Event::DeviceState { bytes, .. } => bytes,
            event => {
                self.scratch.clear();
                event
                    .encode(&[], &mut self.scratch)
                    .expect("a decoded event is encodable and names no block");
                &self.scratch[..]
            }
        };
        if self.devices {
            writer.device_state(bytes)
        } else {
            writer.early_state(bytes)
        }
    }

    fn subsection(&mut self, subsection: &Subsection<'_>) -> Result<(), Error> {
        match subsection {
            Subsection::TargetPageBits(_) => self.says_target_page = true,
            Subsection::Uuid(uuid) => self.uuid = Some(*uuid),
            Subsection::Capabilities(capabilities) => {
                if let Some(name) = capabilities.iter().next() {
                    return Err(Error::Unfaithful {
                        what: format!(
                            "memory that is not in the stream (capability {})",
                            Escaped::new(name)
                        ),
                        advice: "turn the capability off at the source",
                    });
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn command<N, R>(&mut self, command: &Command<N, R>) {
        match command {
            Command::OpenReturnPath => self.seen.return_path = true,
            Command::PostcopyAdvise { .. } => self.seen.postcopy = true,
            Command::Packaged { .. } => self.devices = true,
            Command::PostcopyRun => self.seen.switched = true,
            Command::SwitchoverStart => self.seen.switchover_start = true,
            Command::Ping { value } if *value == PING_PACKAGE_LOADED => {
                self.seen.asks_loaded = true
            }
            _ => {}
        }
    }

    /// Classifies the end of the device state received so far, if no footer marks it.
    ///
    /// This serves a source that waits for an answer before it closes the stream.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the writer's file cannot be read.
    pub fn tail(&self, writer: &Writer) -> Result<Tail, Error> {
        match self.has_open_end() {
            true => writer.device_state_tail(),
            false => Ok(Tail::Open),
        }
    }

    /// Whether the end mark of the stream is decoded as device state.
    fn has_open_end(&self) -> bool {
        self.device && !self.seen.footers && !self.seen.switched
    }

    /// Records that urgent pages arrived on a preempt channel.
    pub fn saw_preempt(&mut self) {
        self.seen.preempt = true;
    }

    /// Whether the source waits for confirmation that the device state is saved.
    pub fn asks_loaded(&self) -> bool {
        self.seen.asks_loaded
    }

    /// Whether a description is incomplete.
    pub fn is_inside_description(&self) -> bool {
        self.description.is_some_and(|left| left > 0)
    }

    /// Handles the end mark. Without footers it was decoded as device state; the caller
    /// repeats it at the end of the stream, and this finds it in the state.
    fn end(&mut self, writer: &mut Writer) -> Result<(), Error> {
        if !self.has_open_end() {
            return Ok(());
        }
        match writer.split_device_state(self.accept_unproven_end)? {
            Tail::Whole => Ok(()),
            Tail::Unclear if self.accept_unproven_end => {
                self.unproven_end = true;
                Ok(())
            }
            Tail::Unclear => Err(Error::UnprovenEnd),
            Tail::Open => Err(Error::CutShort {
                why: "it ends inside the device state",
            }),
        }
    }

    /// Returns the facts about the source, for [`Writer::finish`].
    pub fn facts(&self) -> Manifest {
        Manifest {
            machine: self.machine.clone(),
            target_page: 0,
            says_target_page: self.says_target_page,
            uuid: self.uuid,
            blocks: Vec::new(),
            device_state: 0,
            early_state: 0,
            description: None,
            unproven_end: self.unproven_end,
            source: self.seen,
            seal: None,
        }
    }
}

/// Returns the error for an iterable section other than RAM.
fn iterable(idstr: &[u8]) -> Error {
    let shown = &idstr[..idstr.len().min(SHOWN)];
    let name = Escaped::new(shown);
    let advice = match idstr {
        DIRTY_BITMAP_NAME => "turn the capability dirty-bitmaps off at the source",
        b"block" => "migrate the disks by other means, without block migration",
        _ => "remove that device from the machine before saving it",
    };
    Error::Unfaithful {
        what: format!("the section {name:?}, which is sent iteratively like RAM"),
        advice,
    }
}

/// Refuses records that do not contain their pages.
fn refuse(record: &Record<'_>) -> Result<(), Error> {
    let (what, advice) = match record {
        Record::Xbzrle { .. } => (
            "XBZRLE pages of section \"ram\"",
            "turn the capability xbzrle off at the source",
        ),
        Record::Compressed { .. } => (
            "compressed pages of section \"ram\"",
            "turn the capability compress off at the source",
        ),
        Record::MultifdFlush => (
            "pages of section \"ram\" that go over other channels",
            "turn the capability multifd off at the source",
        ),
        Record::Hook => (
            "pages of section \"ram\" that go over RDMA",
            "migrate over tcp: or unix:",
        ),
        _ => return Ok(()),
    };
    let what = what.to_owned();
    Err(Error::Unfaithful { what, advice })
}
