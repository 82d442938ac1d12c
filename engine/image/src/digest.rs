//! Digests of an image's files, and the image's identity.
//!
//! RAM is digested in pieces, so that each piece can be checked when it is read. Piece n of a
//! block's file starts at byte n × 16384; only the last piece may be shorter. The digests of the
//! pieces that are not all zero are stored in a file of their own, as runs of adjacent pieces:
//!
//! ```text
//!  ram-000-pc.ram.sums
//!  offset 0        8        16       24
//!         | first  | count  | sum    | sum    | ...     first: number of the run's first piece
//!         | first  | count  | sum    | ...              count: how many sums follow, at least 1
//!                                                       sum: XXH3-64 of a piece, seed 0
//! ```
//!
//! All numbers are big-endian, runs are in order and do not overlap. A piece in no run is all
//! zero, and a block of zeros has no such file (`null` in the manifest): digests take space in
//! proportion to what a block stores, whatever its length. An open image keeps them in memory:
//! 8 MiB for a guest of 16 GiB without zeros.
//!
//! This is the kind `xxh3-runs` of the manifest. Images of earlier versions have the kind `xxh3`:
//! only the sums, of all pieces, without headers. They are read and served like the others.
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
use super::sums::{PIECE, Sums, SumsFormat};
use super::{DESCRIPTION, DEVICE_STATE, EARLY_STATE, Error, Manifest, RamFile};

/// Valid piece sizes in bytes; checking a page reads a whole piece.
const PIECES: RangeInclusive<u64> = 4096..=1 << 20;

impl SumsFormat {
    const EVERY: [Self; 2] = [Self::Runs, Self::All];

    /// Returns the member `kind` of the manifest: the digest algorithm, and how digests are stored.
    fn kind(self) -> &'static str {
        match self {
            Self::All => "xxh3",
            Self::Runs => "xxh3-runs",
        }
    }

    pub(super) fn of_kind(kind: &str) -> Result<Self, String> {
        let mut known = Self::EVERY.into_iter();
        known.find(|format| format.kind() == kind).ok_or_else(|| {
            let [new, old] = Self::EVERY.map(Self::kind);
            format!("\"digests\": \"kind\" is neither \"{new}\" nor \"{old}\"")
        })
    }
}

/// A digest of 128 bits, of a file or of a whole image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Digest(u128);

impl Digest {
    /// Digests bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(XxHash3_128::oneshot(bytes))
    }

    pub(super) fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }

    pub(super) fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
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
    /// The format of the digest files.
    pub format: SumsFormat,
    /// The digest files of the RAM blocks, in block order; `None` for a block of zeros.
    pub ram: Vec<Option<SumsFile>>,
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
        let blocks = self.ram.iter().map(|sums| {
            sums.as_ref().map_or(
                Value::Null,
                |sums| json!({ "file": sums.file, "digest": sums.digest.to_string() }),
            )
        });
        json!({
            "kind": self.format.kind(),
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
            return Err("\"digests\": expected one entry per RAM block".into());
        }
        if self.format == SumsFormat::All && self.ram.contains(&None) {
            return Err("\"digests\": a RAM block has no file".into());
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
        format: SumsFormat::Runs,
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

/// Writes a block's digest file, replacing one from an earlier attempt; none for a block of zeros.
fn sum(folder: &Arc<Folder>, block: &RamFile) -> Result<Option<SumsFile>, Error> {
    let file = BackingFile::open(folder, &block.file, block.len)?;
    let bytes = Sums::of(&file, PIECE)?.to_bytes();
    let name = sums_name(&block.file);
    if bytes.is_empty() {
        folder.remove(&name)?;
        return Ok(None);
    }
    folder.replace(&name, &bytes)?;
    let digest = Digest::of(&bytes);
    Ok(Some(SumsFile { file: name, digest }))
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
    use std::os::unix::fs::FileExt;
    use std::path::Path;

    use retpath_codec::NameBuf;
    use retpath_engine::blocks::Block;
    use retpath_engine::source::PageSource;
    use twox_hash::XxHash3_64;

    use super::super::reader::open_folder;
    use super::super::{Image, MANIFEST, Recorder, Writer, verify};
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

    /// Gives an image the format of earlier versions.
    fn make_old(path: &Path) {
        let (folder, mut manifest) = open_folder(path).expect("image is complete");
        let seal = manifest.seal.as_mut().expect("image has digests");
        seal.format = SumsFormat::All;
        for (block, sums) in manifest.blocks.iter().zip(&mut seal.ram) {
            let bytes = std::fs::read(path.join(&block.file)).expect("file is readable");
            let size = usize::try_from(PIECE).expect("fits in usize");
            let all = bytes.chunks(size).map(XxHash3_64::oneshot);
            let bytes: Vec<u8> = all.flat_map(u64::to_be_bytes).collect();
            let file = sums_name(&block.file);
            folder.replace(&file, &bytes).expect("folder is writable");
            let digest = Digest::of(&bytes);
            *sums = Some(SumsFile { file, digest });
        }
        let id = identity(&manifest.to_json());
        manifest.seal.as_mut().expect("image has digests").id = id;
        let text = manifest.to_json().to_string();
        let written = folder.replace(MANIFEST, text.as_bytes());
        written.expect("folder is writable");
    }

    #[test]
    fn reads_and_verifies_images_of_earlier_versions() {
        let folder = tempfile::tempdir().expect("temporary folder can be created");
        let path = folder.path().join("image");
        let mut writer = Writer::new(&path).expect("image does not exist yet");
        for (name, len) in [("ram", 9 * PIECE), ("zeros", PIECE + 4096)] {
            let name = NameBuf::new(name).expect("valid name");
            let page = 4096;
            let block = Block { name, len, page };
            writer.block(&block, page).expect("valid block");
        }
        let written = writer.write(0, 5 * PIECE, &[7; 4096]);
        written.expect("range lies in the block");
        let facts = Recorder::new().facts();
        let new = writer.finish(facts).expect("image is complete");
        assert_eq!(new.seal.expect("image has digests").ram[1], None);
        make_old(&path);
        let found = verify(&path, &mut |_, _| true).expect("image has digests");
        assert!(found.is_whole(), "{found:?}");

        let zeros = path.join("ram-001-zeros.raw");
        let file = std::fs::File::options().write(true).open(zeros);
        let file = file.expect("file is writable");
        file.write_all_at(&[1], PIECE).expect("file is writable");
        let found = verify(&path, &mut |_, _| true).expect("image has digests");
        assert_eq!(found.different, 4096);
        let image = Image::open(&path).expect("image is readable");
        assert_eq!(
            image.manifest().seal.as_ref().map(|seal| seal.format),
            Some(SumsFormat::All)
        );
        let mut page = [0; 4096];
        image.read(0, 5 * PIECE, &mut page).expect("unchanged");
        assert_eq!(page, [7; 4096]);
        assert!(image.is_hole(0, 0, 5 * PIECE).expect("unchanged"));
        image.read(1, PIECE, &mut page).expect_err("changed");
    }
}
