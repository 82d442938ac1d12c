//! Digests of an image's files, and the image's identity.
//!
//! RAM is digested in pieces, so that each piece can be checked when it is read. Piece n of a
//! block's file starts at byte n × 16384; only the last piece may be shorter. The digests of a
//! block's pieces are stored in a file of their own:
//!
//! ```text
//!  ram-000-pc.ram.sums
//!  offset 0        8        16       24
//!         | sum 0  | sum 1  | sum 2  | ...     XXH3-64 of each piece, seed 0, big-endian
//! ```
//!
//! An open image keeps them in memory: 8 MiB for a guest of 16 GiB.
//!
//! The manifest holds a 128-bit digest (XXH3-128, as printed by `xxh128sum`) of each of these files
//! and of the device state files. The image's [identity](Seal::id) is the XXH3-128 of the manifest as
//! JSON without the member `id`, without white space, and with the members of each object sorted by
//! name. The manifest contains the other digests, so the identity covers every byte.
//!
//! XXH3 detects accidents, such as a disk that returns wrong bytes or an overwritten file. It is not
//! a cryptographic hash and does not detect files crafted to match their digest.

use std::fmt;
use std::io::Read;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::sync::Arc;

use rustix::fs::OFlags;
use serde_json::{Value, json};
use twox_hash::XxHash3_128;

use super::backing_file::BackingFile;
use super::folder::Folder;
use super::sums::{PIECE, Sums};
use super::{DESCRIPTION, DEVICE_STATE, EARLY_STATE, Error, Manifest, RamFile};

/// Valid piece sizes in bytes; checking a page reads a whole piece.
const PIECES: RangeInclusive<u64> = 4096..=1 << 20;

/// The digest algorithm as named in the manifest.
pub(super) const KIND: &str = "xxh3";

/// A digest of 128 bits, of a file or of a whole image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Digest(u128);

impl Digest {
    /// Digests bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(XxHash3_128::oneshot(bytes))
    }

    /// Digests a whole file.
    fn of_file(folder: &Folder, name: &str) -> Result<Self, Error> {
        let mut file = folder.file(name, OFlags::RDONLY)?;
        let mut state = XxHash3_128::new();
        let mut bytes = vec![0; 1 << 16];
        loop {
            let read = file.read(&mut bytes);
            match read.map_err(Error::io("reading", &folder.path().join(name)))? {
                0 => return Ok(Self(state.finish_128())),
                size => state.write(&bytes[..size]),
            }
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for Digest {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let plain = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = plain.then(|| u128::from_str_radix(text, 16).ok());
        number
            .flatten()
            .map(Self)
            .ok_or("not 32 hexadecimal digits")
    }
}

/// The digests and the identity of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Seal {
    /// The image's identity: images with equal identities have equal content.
    pub id: Digest,
    /// Piece size in bytes.
    pub piece: u64,
    /// The digest files of the RAM blocks, in block order.
    pub ram: Vec<SumsFile>,
    /// Digest of the device sections.
    pub device_state: Digest,
    /// Digest of the sections received before RAM, if any.
    pub early_state: Option<Digest>,
    /// Digest of the description, if present.
    pub description: Option<Digest>,
}

impl Seal {
    /// Returns the member `digests` of the manifest.
    pub(super) fn to_json(&self) -> Value {
        let blocks = self
            .ram
            .iter()
            .map(|sums| json!({ "file": sums.file, "digest": sums.digest.to_string() }));
        json!({
            "kind": KIND,
            "piece": self.piece,
            "blocks": blocks.collect::<Value>(),
            "device_state": self.device_state.to_string(),
            "early_state": self.early_state.map(|digest| digest.to_string()),
            "description": self.description.map(|digest| digest.to_string()),
        })
    }

    /// Checks that every file of the image has exactly one digest.
    pub(super) fn check(&self, manifest: &Manifest) -> Result<(), String> {
        if !PIECES.contains(&self.piece) || !self.piece.is_power_of_two() {
            let (least, most) = (PIECES.start(), PIECES.end());
            return Err(format!(
                "\"digests\": \"piece\" must be a power of two from {least} to {most}"
            ));
        }
        if self.ram.len() != manifest.blocks.len() {
            return Err("\"digests\": expected one file per RAM block".into());
        }
        for (name, has, wants) in [
            (
                "early_state",
                self.early_state.is_some(),
                manifest.early_state > 0,
            ),
            (
                "description",
                self.description.is_some(),
                manifest.description.is_some(),
            ),
        ] {
            if has != wants {
                return Err(format!(
                    "\"digests\": \"{name}\" must be present exactly if its file is"
                ));
            }
        }
        Ok(())
    }
}

/// The digest file of a RAM block.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SumsFile {
    /// Its name.
    pub file: String,
    /// Its digest.
    pub digest: Digest,
}

/// Digests the files of a finished image, writes and syncs the digest files, and adds the digests to
/// the manifest. Digests of RAM in a previously sealed manifest are reused.
///
/// # Errors
///
/// Fails with [`Error::Io`], or as [`BackingFile`] does for a file that changes meanwhile.
pub(super) fn seal(folder: &Arc<Folder>, mut manifest: Manifest) -> Result<Manifest, Error> {
    let ram = match manifest.seal.take() {
        Some(seal) => seal.ram,
        None => {
            let blocks = manifest.blocks.iter();
            blocks
                .map(|block| sum(folder, block))
                .collect::<Result<_, _>>()?
        }
    };
    let digest = |name| Digest::of_file(folder, name);
    let early_state = (manifest.early_state > 0).then(|| digest(EARLY_STATE));
    let description = manifest.description.map(|_| digest(DESCRIPTION));
    manifest.seal = Some(Seal {
        id: Digest(0),
        piece: PIECE,
        ram,
        device_state: digest(DEVICE_STATE)?,
        early_state: early_state.transpose()?,
        description: description.transpose()?,
    });
    let id = identity(&manifest.to_json());
    if let Some(seal) = &mut manifest.seal {
        seal.id = id;
    }
    Ok(manifest)
}

/// Writes a block's digest file, replacing one from an earlier attempt.
fn sum(folder: &Arc<Folder>, block: &RamFile) -> Result<SumsFile, Error> {
    let file = BackingFile::open(folder, &block.file, block.len)?;
    let bytes = Sums::of(&file, PIECE)?.to_bytes();
    let name = sums_name(&block.file);
    folder.replace(&name, &bytes)?;
    Ok(SumsFile {
        file: name,
        digest: Digest::of(&bytes),
    })
}

/// Returns the name of a block's digest file.
fn sums_name(file: &str) -> String {
    let stem = file.strip_suffix(".raw").unwrap_or(file);
    format!("{stem}.sums")
}

/// Returns the identity of an image with this manifest, ignoring the `id` it states.
pub(super) fn identity(manifest: &Value) -> Digest {
    let mut text = String::new();
    match manifest {
        Value::Object(map) => {
            let members = map.iter().filter(|(name, _)| *name != "id");
            object(members, &mut text);
        }
        other => canonical(other, &mut text),
    }
    Digest::of(text.as_bytes())
}

/// Formats JSON without white space and with object members sorted by name.
fn canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => object(map.iter(), out),
        Value::Array(list) => {
            out.push('[');
            for (at, value) in list.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                canonical(value, out);
            }
            out.push(']');
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}

fn object<'a>(members: impl Iterator<Item = (&'a String, &'a Value)>, out: &mut String) {
    let mut members: Vec<_> = members.collect();
    members.sort_by_key(|(name, _)| *name);
    out.push('{');
    for (at, (name, value)) in members.into_iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        out.push_str(&Value::from(name.as_str()).to_string());
        out.push(':');
        canonical(value, out);
    }
    out.push('}');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_of_other_tools() {
        // As printed by xxh128sum.
        assert_eq!(
            Digest::of(b"abc").to_string(),
            "06b05ab6733a618578af5f94892f3950"
        );
    }

    #[test]
    fn digests_are_read_as_they_are_written() {
        let digest = Digest::of(b"");
        assert_eq!(digest.to_string().parse(), Ok(digest));
        let short = "06b05ab6733a618578af5f94892f395";
        for text in ["", short, &format!("+{short}"), &format!("{short}g")] {
            assert!(text.parse::<Digest>().is_err(), "{text}");
        }
    }

    #[test]
    fn identity_does_not_depend_on_layout_but_on_every_member() {
        let one = br#"{"a": [1, {"y": "\n", "x": null}], "id": "old"}"#;
        let same = br#"{"a":[1,{"x":null,"y":"\u000a"}]}"#;
        let other = br#"{"a":[1,{"x":null,"y":""}]}"#;
        let [one, same, other] = [&one[..], same, other].map(|text| {
            let value: Value = serde_json::from_slice(text).expect("valid JSON");
            identity(&value)
        });
        assert_eq!(one, same);
        assert_ne!(one, other);
        assert_eq!(one, Digest::of(br#"{"a":[1,{"x":null,"y":"\n"}]}"#));
    }

    #[test]
    fn identity_is_the_one_that_another_program_computed() {
        let text = include_str!("../../../corpus/manifest/digests.json");
        let manifest: Value = serde_json::from_str(text).expect("valid JSON");
        assert_eq!(manifest["id"], identity(&manifest).to_string());
    }
}
