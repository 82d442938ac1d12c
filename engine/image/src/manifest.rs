//! The manifest, `manifest.json`: the contents of an image.
//!
//! ```json
//! {
//!   "format": "retpath-image",
//!   "version": 1,
//!   "machine": "pc-i440fx-7.2",
//!   "target_page_size": 4096,
//!   "uuid": null,
//!   "blocks": [
//!     { "name": "pc.ram", "length": 16777216, "page_size": 4096,
//!       "file": "ram-000-pc.ram.raw" }
//!   ],
//!   "device_state": 35410, "early_state": 0, "description": 12345,
//!   "source": { "ram_section": 2, "footers": true, ... },
//!   "id": "9d3c1f3a0e2b4c5d6e7f8091a2b3c4d5",
//!   "digests": {
//!     "kind": "xxh3-runs", "piece": 16384,
//!     "blocks": [ { "file": "ram-000-pc.ram.sums", "digest": "06b05a..." } ],
//!     "device_state": "78af5f...", "early_state": null, "description": "892f39..."
//!   }
//! }
//! ```
//!
//! Lengths are in bytes. A name that is not UTF-8 is written as `{"hex": "..."}`. The
//! machine type is null if the stream did not carry it, as with machine types up to 2.3.
//! The lengths of states are those of their files, 0 or null for an absent file.
//! `"end": "unproven"` marks a stream that was accepted although it may have been
//! truncated. [`digest`](super::digest) describes `id` and `digests`, which images of
//! earlier versions of this program lack. Unknown members are ignored, so that a later
//! version may add some.

use std::path::Path;

use retpath_codec::{BlockName, NameBuf};
use serde_json::{Map, Value, json};

use super::digest::{Digest, Seal, SumsFile};
use super::sums::SumsFormat;
use super::{Error, VERSION};
use retpath_engine::blocks::{Block, Blocks};
use retpath_engine::destination::MAX_BLOCKS;

/// The member `format`, which identifies a manifest.
const FORMAT: &str = "retpath-image";

/// The member `end` of a stream that may have been truncated.
const UNPROVEN: &str = "unproven";

/// Maximum RAM of a machine in bytes, that of an x86 with physical addresses of 52 bits. Its
/// files must have the length that the manifest says, and memory use depends on their data.
const MAX_RAM: u64 = 1 << 52;

/// A guest's UUID.
pub type Uuid = [u8; 16];

/// The contents of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Manifest {
    /// The resolved name of the machine type, if the stream carried it. It is usually text,
    /// but need not be UTF-8.
    pub machine: Option<Vec<u8>>,
    /// Target page size in bytes.
    pub target_page: u64,
    /// Whether the configuration section carried the target page size.
    pub says_target_page: bool,
    /// The guest's UUID, if the stream carried it.
    pub uuid: Option<Uuid>,
    /// The RAM blocks in stream order.
    pub blocks: Vec<RamFile>,
    /// Length of the device state in bytes.
    pub device_state: u64,
    /// Length of the device state received before the first page, in bytes.
    pub early_state: u64,
    /// Length of the description in bytes, if present.
    pub description: Option<u64>,
    /// Whether the stream may have been truncated: see
    /// [`Error::UnprovenEnd`].
    pub unproven_end: bool,
    /// Facts about the source.
    pub source: Seen,
    /// Digests of the files and the image's identity; `None` for images of versions without
    /// digests.
    pub seal: Option<Seal>,
}

/// A RAM block and its file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RamFile {
    /// The block's name.
    pub name: NameBuf,
    /// Length of the block and of its file, in bytes.
    pub len: u64,
    /// Its host page size in bytes.
    pub page: u64,
    /// The file's name.
    pub file: String,
}

/// Facts about the source: its capabilities and its variant of the protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Seen {
    /// Number of the `ram` section.
    pub ram_section: u32,
    /// Whether footers end the sections, as for machine types after
    /// 2.3.
    pub footers: bool,
    /// Whether a return path was opened.
    pub return_path: bool,
    /// Whether POSTCOPY_ADVISE was received: the capability `postcopy-ram` was on.
    pub postcopy: bool,
    /// Whether the migration ended after a switch.
    pub switched: bool,
    /// Whether urgent pages arrived on a preempt channel.
    pub preempt: bool,
    /// Whether SWITCHOVER_START was received: QEMU and machine types from 10.0 on.
    pub switchover_start: bool,
    /// Whether PING 0x42 came: QEMU 10.2.
    pub asks_loaded: bool,
}

impl Manifest {
    /// Returns the manifest as JSON.
    pub fn to_json(&self) -> Value {
        let blocks = self.blocks.iter().map(|block| {
            json!({
                "name": bytes_to_json(block.name.name().as_bytes()),
                "length": block.len,
                "page_size": block.page,
                "file": block.file,
            })
        });
        let seen = self.source;
        let mut all = json!({
            "format": FORMAT,
            "version": VERSION,
            "machine": self.machine.as_deref().map(bytes_to_json),
            "target_page_size": self.target_page,
            "target_page_size_in_configuration": self.says_target_page,
            "uuid": self.uuid.map(|uuid| hex(&uuid)),
            "blocks": blocks.collect::<Value>(),
            "device_state": self.device_state,
            "early_state": self.early_state,
            "description": self.description,
            "source": {
                "ram_section": seen.ram_section,
                "footers": seen.footers,
                "return_path": seen.return_path,
                "postcopy": seen.postcopy,
                "switched": seen.switched,
                "preempt": seen.preempt,
                "switchover_start": seen.switchover_start,
                "asks_loaded": seen.asks_loaded,
            },
        });
        if self.unproven_end {
            all["end"] = UNPROVEN.into();
        }
        if let Some(seal) = &self.seal {
            all["id"] = seal.id.to_string().into();
            all["digests"] = seal.to_json();
        }
        all
    }

    /// Parses a manifest; `path` appears in messages.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::Manifest`] or [`Error::Version`]. The files are not compared with the
    /// manifest.
    pub fn parse(text: &[u8], path: &Path) -> Result<Self, Error> {
        let wrong = |why: String| Error::Manifest {
            path: path.to_owned(),
            why,
        };
        let value: Value =
            serde_json::from_slice(text).map_err(|error| wrong(format!("not JSON: {error}")))?;
        let all = Members::of(&value, "the manifest").map_err(wrong)?;
        if all.text("format").ok() != Some(FORMAT) {
            return Err(wrong(format!("\"format\" is not \"{FORMAT}\"")));
        }
        match all.number("version").map_err(wrong)? {
            VERSION => {}
            version => {
                return Err(Error::Version {
                    path: path.to_owned(),
                    version,
                });
            }
        }
        let manifest = all.manifest().map_err(wrong)?;
        manifest.check().map_err(wrong)?;
        Ok(manifest)
    }

    /// Returns the RAM blocks after validating them. `path` is the manifest's path, for
    /// messages.
    pub(super) fn checked_blocks(&self, path: &Path) -> Result<Blocks, Error> {
        let wrong = |why: String| Error::Manifest {
            path: path.to_owned(),
            why,
        };
        let mut blocks = Blocks::new(self.target_page).map_err(|error| wrong(error.to_string()))?;
        for file in &self.blocks {
            let block = Block {
                name: file.name.clone(),
                len: file.len,
                page: file.page,
            };
            blocks
                .add(block)
                .map_err(|error| wrong(format!("RAM block {}: {error}", file.name)))?;
        }
        Ok(blocks)
    }

    /// Checks rules that concern the manifest alone.
    fn check(&self) -> Result<(), String> {
        if self.blocks.is_empty() {
            return Err("\"blocks\" is empty: a machine has RAM".into());
        }
        if self.blocks.len() > MAX_BLOCKS {
            return Err(format!("more than {MAX_BLOCKS} RAM blocks"));
        }
        let ram = self.blocks.iter().map(|block| &*block.file);
        let sums = self.seal.iter().flat_map(|seal| seal.ram.iter().flatten());
        let mut files: Vec<&str> = ram.chain(sums.map(|sums| &*sums.file)).collect();
        files.sort_unstable();
        if let Some(pair) = files.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(format!("two RAM blocks have the file {:?}", pair[0]));
        }
        if let Some(seal) = &self.seal {
            seal.check(self)?;
        }
        let total = self
            .blocks
            .iter()
            .fold(0, |sum: u64, block| sum.saturating_add(block.len));
        if total > MAX_RAM {
            return Err(format!(
                "{total} bytes of RAM exceed the limit of {MAX_RAM}"
            ));
        }
        Ok(())
    }
}

/// A JSON object with its description for messages.
struct Members<'a> {
    map: &'a Map<String, Value>,
    what: String,
}

impl<'a> Members<'a> {
    fn of(value: &'a Value, what: impl Into<String>) -> Result<Self, String> {
        let what = what.into();
        match value {
            Value::Object(map) => Ok(Self { map, what }),
            _ => Err(format!("{what} is not an object")),
        }
    }

    fn member(&self, name: &str) -> &'a Value {
        self.map.get(name).unwrap_or(&Value::Null)
    }

    fn wants<T>(&self, name: &str, kind: &str, value: Option<T>) -> Result<T, String> {
        value.ok_or_else(|| format!("{}: \"{name}\" must be {kind}", self.what))
    }

    fn number(&self, name: &str) -> Result<u64, String> {
        self.wants(name, "a whole number", self.member(name).as_u64())
    }

    fn flag(&self, name: &str) -> Result<bool, String> {
        self.wants(name, "true or false", self.member(name).as_bool())
    }

    fn text(&self, name: &str) -> Result<&'a str, String> {
        self.wants(name, "a string", self.member(name).as_str())
    }

    fn bytes(&self, name: &str) -> Result<Vec<u8>, String> {
        let bytes = bytes_from_json(self.member(name));
        self.wants(name, "a string or {\"hex\": ...}", bytes)
    }

    /// Returns `None` for null and for an absent member.
    fn maybe<T>(
        &self,
        name: &str,
        read: impl FnOnce(&Self) -> Result<T, String>,
    ) -> Result<Option<T>, String> {
        match self.member(name) {
            Value::Null => Ok(None),
            _ => read(self).map(Some),
        }
    }

    fn manifest(&self) -> Result<Manifest, String> {
        let list = self.wants("blocks", "a list", self.member("blocks").as_array())?;
        let blocks = list.iter().enumerate().map(|(at, value)| {
            let block = Members::of(value, format!("RAM block {at}"))?;
            block.ram_file()
        });
        let uuid = self.maybe("uuid", |all| {
            let uuid = unhex(all.text("uuid")?).and_then(|bytes| bytes.try_into().ok());
            all.wants("uuid", "32 hexadecimal digits", uuid)
        })?;
        let source = Members::of(self.member("source"), "\"source\"")?;
        Ok(Manifest {
            machine: self.maybe("machine", |all| all.bytes("machine"))?,
            target_page: self.number("target_page_size")?,
            says_target_page: self.flag("target_page_size_in_configuration")?,
            uuid,
            blocks: blocks.collect::<Result<_, _>>()?,
            device_state: self.number("device_state")?,
            early_state: self.number("early_state")?,
            description: self.maybe("description", |all| all.number("description"))?,
            unproven_end: self.maybe("end", Self::unproven_end)?.unwrap_or(false),
            source: source.seen()?,
            seal: self.maybe("digests", Self::seal)?,
        })
    }

    fn seal(&self) -> Result<Seal, String> {
        let id = self.digest("id")?;
        let all = Members::of(self.member("digests"), "\"digests\"")?;
        let format = SumsFormat::of_kind(all.text("kind")?)?;
        let list = all.wants("blocks", "a list", all.member("blocks").as_array())?;
        let ram = list.iter().enumerate().map(|(at, value)| {
            if value.is_null() {
                return Ok(None);
            }
            let sums = Members::of(value, format!("\"digests\": RAM block {at}"))?;
            Ok(Some(SumsFile {
                file: sums.file()?,
                digest: sums.digest("digest")?,
            }))
        });
        Ok(Seal {
            id,
            piece: all.number("piece")?,
            format,
            ram: ram.collect::<Result<_, String>>()?,
            device_state: all.digest("device_state")?,
            early_state: all.maybe("early_state", |all| all.digest("early_state"))?,
            description: all.maybe("description", |all| all.digest("description"))?,
        })
    }

    fn digest(&self, name: &str) -> Result<Digest, String> {
        let digest = self
            .member(name)
            .as_str()
            .and_then(|text| text.parse().ok());
        self.wants(name, "32 hexadecimal digits", digest)
    }

    fn unproven_end(&self) -> Result<bool, String> {
        let end = self.member("end").as_str();
        let unproven = end.filter(|end| *end == UNPROVEN).map(|_| true);
        self.wants("end", "\"unproven\" if present", unproven)
    }

    fn ram_file(&self) -> Result<RamFile, String> {
        let name = self.bytes("name")?;
        let name = NameBuf::new(name).map_err(|rule| format!("{}: \"name\": {rule}", self.what))?;
        Ok(RamFile {
            name,
            len: self.number("length")?,
            page: self.number("page_size")?,
            file: self.file()?,
        })
    }

    fn file(&self) -> Result<String, String> {
        let file = self.text("file")?;
        if !is_plain(file) {
            return Err(format!(
                "{}: \"file\" must be the name of a file in this folder, not {file:?}",
                self.what
            ));
        }
        Ok(file.to_owned())
    }

    fn seen(&self) -> Result<Seen, String> {
        let ram_section = u32::try_from(self.number("ram_section")?).ok();
        Ok(Seen {
            ram_section: self.wants("ram_section", "a number below 2^32", ram_section)?,
            footers: self.flag("footers")?,
            return_path: self.flag("return_path")?,
            postcopy: self.flag("postcopy")?,
            switched: self.flag("switched")?,
            preempt: self.flag("preempt")?,
            switchover_start: self.flag("switchover_start")?,
            asks_loaded: self.flag("asks_loaded")?,
        })
    }
}

/// Whether a name stays in its folder, differs from the image's other files, and is
/// printable.
fn is_plain(file: &str) -> bool {
    let other = [
        super::MANIFEST,
        super::DEVICE_STATE,
        super::EARLY_STATE,
        super::DESCRIPTION,
    ];
    !matches!(file, "" | "." | "..")
        && !file.contains(|c: char| c == '/' || c.is_control())
        && !other.contains(&file)
}

fn bytes_to_json(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => json!({ "hex": hex(bytes) }),
    }
}

fn bytes_from_json(value: &Value) -> Option<Vec<u8>> {
    match value {
        Value::String(text) => Some(text.as_bytes().to_vec()),
        Value::Object(map) => unhex(map.get("hex")?.as_str()?),
        _ => None,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let byte = |&[high, low]: &[u8; 2]| u8::try_from(digit(high)? << 4 | digit(low)?).ok();
    rest.is_empty()
        .then(|| pairs.iter().map(byte).collect::<Option<_>>())?
}
