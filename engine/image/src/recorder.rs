//! What an image keeps of a stream besides RAM.
//!
//! The same for a live migration and for a saved one: the [`Recorder`] is shown
//! every event of the main channel but pages, learns from it what the manifest
//! says of the source, and puts sections of device state, as they stand in the
//! stream, into the [`Writer`]. What an image could not keep is refused as soon
//! as it shows.

use retpath_codec::command::Command;
use retpath_codec::forward::ram::Record;
use retpath_codec::forward::{Event, SectionKind, Subsection};
use retpath_codec::wire::section::{DIRTY_BITMAP_NAME, RAM_NAME};
use retpath_codec::wire::value::PING_PACKAGE_LOADED;

use super::manifest::{Manifest, Seen};
use super::{Error, Writer};
use retpath_engine::destination::Tail;

/// Most bytes of a description of which the name is shown in a message.
const SHOWN: usize = 64;

/// Follows a stream.
#[derive(Debug, Default)]
pub struct Recorder {
    machine: Option<Vec<u8>>,
    uuid: Option<[u8; 16]>,
    says_target_page: bool,
    seen: Seen,
    /// Whether the devices' sections follow: RAM has ended, or the package has begun.
    devices: bool,
    /// Whether what comes belongs to a device's section.
    device: bool,
    /// Whether the description has begun, and how much of it is to come.
    description: Option<u64>,
    accept_unproven_end: bool,
    /// Whether such an end was accepted.
    unproven_end: bool,
    scratch: Vec<u8>,
}

impl Recorder {
    /// Nothing has come yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Continues after the switch to postcopy from the facts of another recorder.
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

    /// Whether to accept a stream that does not mark its end; the manifest records it.
    /// Off by default.
    #[must_use]
    pub fn accept_unproven_end(mut self, accept: bool) -> Self {
        self.accept_unproven_end = accept;
        self
    }

    /// Takes the next event.
    ///
    /// # Errors
    ///
    /// [`Error::Unfaithful`], [`Error::CutShort`] and [`Error::UnprovenEnd`] at
    /// the end of a stream without footers, and [`Error::Io`] of the writer.
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

    /// Keeps an event as it stands in the stream. Early sections stand in front of
    /// RAM (QEMU 11.1) or behind its list of blocks (10.0); a destination takes them
    /// at either place.
    fn keep(&mut self, event: &Event<'_>, writer: &mut Writer) -> Result<(), Error> {
        let bytes = match event {
            // Not copied: these are most bytes.
            Event::DeviceState { bytes, .. } => bytes,
            event => {
                self.scratch.clear();
                event
                    .encode(&[], &mut self.scratch)
                    .expect("what a decoder gave can be written, and names no block");
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
                            String::from_utf8_lossy(name)
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

    /// What the end of the device state looks like so far, where no footer shows
    /// it: for a source that waits for an answer before it closes.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]: the writer's file cannot be read.
    pub fn tail(&self, writer: &Writer) -> Result<Tail, Error> {
        match self.has_open_end() {
            true => writer.device_state_tail(),
            false => Ok(Tail::Open),
        }
    }

    /// Whether the end mark of the stream comes as device state.
    fn has_open_end(&self) -> bool {
        self.device && !self.seen.footers && !self.seen.switched
    }

    /// Urgent pages came on a channel of their own.
    pub fn saw_preempt(&mut self) {
        self.seen.preempt = true;
    }

    /// Whether the source waits to hear that the device state is safe.
    pub fn asks_loaded(&self) -> bool {
        self.seen.asks_loaded
    }

    /// Whether a description has begun and not ended.
    pub fn is_inside_description(&self) -> bool {
        self.description.is_some_and(|left| left > 0)
    }

    /// The end mark. Without footers it has come as device state, and is
    /// repeated by who saw the end of the stream: finds it there.
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

    /// What is known, for [`Writer::finish`].
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

/// The error for a section that is not RAM and comes in pieces.
fn iterable(idstr: &[u8]) -> Error {
    let shown = &idstr[..idstr.len().min(SHOWN)];
    let name = String::from_utf8_lossy(shown);
    let advice = match idstr {
        DIRTY_BITMAP_NAME => "turn the capability dirty-bitmaps off at the source",
        b"block" => "migrate the disks by other means, without block migration",
        _ => "take that device out of the machine before it is saved",
    };
    Error::Unfaithful {
        what: format!("the section {name:?}, which comes in pieces like RAM"),
        advice,
    }
}

/// Refuses records whose pages are not in them.
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
