//! Digests of an image's files, and the image's identity.
//!
//! RAM is digested in pieces, so that each piece can be checked when it is read. Piece n of a
//! block's file is its bytes from n × 16384 on; only the last piece may be shorter. The digests of
//! a block's pieces are a file of their own:
//!
//! ```text
//!  ram-000-pc.ram.sums
//!  offset 0        8        16       24
//!         | sum 0  | sum 1  | sum 2  | ...     XXH3-64 of each piece, seed 0, big-endian
//! ```
//!
//! These files and the states of devices have a 128-bit digest in the manifest, XXH3-128, as
//! `xxh128sum` prints it. The image's [identity](Seal::id) is the XXH3-128 of the manifest as JSON
//! without the member `id`, without white space, and with the members of each object in order of
//! their names. The manifest holds the other digests, so the identity covers every byte.
//!
//! XXH3 finds accidents: a disk that returns other bytes, a file that was overwritten. It is no
//! cryptographic hash, and does not stop somebody who makes a file to fit its digest.

use std::fmt;
use std::fs::File;
use std::io::{Read, Write};
use std::ops::Range;
use std::path::Path;
use std::str::FromStr;

use serde_json::Value;
use twox_hash::{XxHash3_64, XxHash3_128};

use super::backing_file::BackingFile;
use super::{DESCRIPTION, DEVICE_STATE, EARLY_STATE, Error, Manifest, RamFile};
use crate::memory::wide;

/// Bytes of RAM in a piece. A request for one page reads and checks a whole piece: 16 KiB take
/// about 3 µs more than 4 KiB, and the digests take 1/2048 of the memory.
pub(super) const PIECE: u64 = 16 << 10;

/// Bytes of a piece's digest in its file.
const SUM: usize = size_of::<u64>();

/// Bytes that are read at once to be digested; a multiple of every piece.
const READ: u64 = 1 << 20;

/// What the digests are made with, as the manifest says it.
pub(super) const KIND: &str = "xxh3";

/// A digest of 128 bits: of a file, or an image's identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Digest(u128);

impl Digest {
    /// The digest of bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(XxHash3_128::oneshot(bytes))
    }

    /// The digest of a whole file.
    fn of_file(path: &Path) -> Result<Self, Error> {
        let mut file = File::open(path).map_err(Error::io("opening", path))?;
        let mut state = XxHash3_128::new();
        let mut bytes = vec![0; 1 << 16];
        loop {
            match file.read(&mut bytes).map_err(Error::io("reading", path))? {
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

/// The digests of an image, and its identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seal {
    /// The image's identity: images with the same one hold the same bytes.
    pub id: Digest,
    /// Bytes of RAM in a piece.
    pub piece: u64,
    /// The files with the digests of RAM, in the order of the RAM blocks.
    pub ram: Vec<SumsFile>,
    /// Digest of the devices' sections.
    pub device_state: Digest,
    /// Digest of the sections in front of RAM, if there are any.
    pub early_state: Option<Digest>,
    /// Digest of the description of the device state, if there is one.
    pub description: Option<Digest>,
}

/// The file with the digests of a block's pieces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SumsFile {
    /// Its name.
    pub file: String,
    /// Its digest.
    pub digest: Digest,
}

/// Digests the files of a finished image, writes and syncs the files of digests, and puts the
/// digests into the manifest. If the manifest has been sealed before, its digests of RAM still hold.
///
/// # Errors
///
/// [`Error::Io`], and what [`BackingFile`] says of a file that changes at the same time.
pub(super) fn seal(folder: &Path, mut manifest: Manifest) -> Result<Manifest, Error> {
    let ram = match manifest.seal.take() {
        Some(seal) => seal.ram,
        None => {
            let blocks = manifest.blocks.iter();
            blocks
                .map(|block| sum(folder, block))
                .collect::<Result<_, _>>()?
        }
    };
    let digest = |name| Digest::of_file(&folder.join(name));
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

/// Writes the file with a block's digests, in place of one that an earlier attempt left.
fn sum(folder: &Path, block: &RamFile) -> Result<SumsFile, Error> {
    let file = BackingFile::open(&folder.join(&block.file), block.len)?;
    let bytes = Sums::of(&file, PIECE)?.to_bytes();
    let name = sums_name(&block.file);
    let path = folder.join(&name);
    let mut written = File::create(&path).map_err(Error::io("making", &path))?;
    let done = written.write_all(&bytes);
    done.map_err(Error::io("writing", &path))?;
    written.sync_all().map_err(Error::io("syncing", &path))?;
    Ok(SumsFile {
        file: name,
        digest: Digest::of(&bytes),
    })
}

/// The name of the file with a block's digests.
fn sums_name(file: &str) -> String {
    let stem = file.strip_suffix(".raw").unwrap_or(file);
    format!("{stem}.sums")
}

/// The identity of an image with this manifest, whatever the manifest itself says it is.
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

/// JSON without white space, the members of objects in order of their names.
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

/// The digests of a block's pieces.
#[derive(Debug)]
pub(super) struct Sums {
    /// Bytes of a piece.
    pub(super) piece: u64,
    /// Bytes of the block.
    len: u64,
    values: Vec<u64>,
    /// Digests of zeros: of a whole piece, and of the last one.
    zeros: [u64; 2],
}

impl Sums {
    fn new(values: Vec<u64>, piece: u64, len: u64) -> Self {
        let last = len - len.saturating_sub(1) / piece * piece;
        let zeros = [piece, last].map(|size| {
            let size = usize::try_from(size).unwrap_or(0);
            XxHash3_64::oneshot(&vec![0; size])
        });
        Self {
            piece,
            len,
            values,
            zeros,
        }
    }

    /// Digests a block's file. Holes are not read.
    fn of(file: &BackingFile, piece: u64) -> Result<Self, Error> {
        let mut sums = Self::new(Vec::new(), piece, file.len());
        let mut bytes = Vec::new();
        let mut at = 0;
        while at < sums.len {
            let data = file.hole_at(at)?.end;
            let zero_until = match data < sums.len {
                true => data / piece * piece,
                false => sums.len,
            };
            while at < zero_until {
                let zero = sums.zero(at / piece);
                sums.values.push(zero);
                at = (at + piece).min(sums.len);
            }
            if at < sums.len {
                at = sums.digest(file, at, &mut bytes)?;
            }
        }
        file.check()?;
        Ok(sums)
    }

    /// Adds the digests of the next pieces; says where they end.
    fn digest(&mut self, file: &BackingFile, at: u64, bytes: &mut Vec<u8>) -> Result<u64, Error> {
        let size = READ.min(self.len - at);
        bytes.resize(usize::try_from(size).unwrap_or(0), 0);
        file.read_at(at, bytes)?;
        let piece = usize::try_from(self.piece).unwrap_or(usize::MAX);
        self.values
            .extend(bytes.chunks(piece).map(XxHash3_64::oneshot));
        Ok(at + size)
    }

    /// Reads what [`Sums::to_bytes`] made, for a block of `len` bytes.
    pub(super) fn parse(bytes: &[u8], piece: u64, len: u64) -> Option<Self> {
        let (values, rest) = bytes.as_chunks::<SUM>();
        let fits = rest.is_empty() && wide(values.len()) == len.div_ceil(piece);
        let values = values.iter().copied().map(u64::from_be_bytes).collect();
        fits.then(|| Self::new(values, piece, len))
    }

    /// How long the file for a block of `len` bytes is.
    pub(super) fn file_len(piece: u64, len: u64) -> u64 {
        len.div_ceil(piece) * wide(SUM)
    }

    fn to_bytes(&self) -> Vec<u8> {
        self.values
            .iter()
            .flat_map(|sum| sum.to_be_bytes())
            .collect()
    }

    /// Where those pieces begin whose bytes are not the ones that were digested. `offset` is a
    /// multiple of the piece, and the bytes are whole pieces.
    pub(super) fn wrong(&self, offset: u64, bytes: &[u8]) -> impl Iterator<Item = u64> {
        let piece = usize::try_from(self.piece).unwrap_or(usize::MAX);
        let pieces = (offset / self.piece..).zip(bytes.chunks(piece));
        pieces
            .filter(|(number, bytes)| self.sum(*number) != Some(XxHash3_64::oneshot(bytes)))
            .map(|(number, _)| number * self.piece)
    }

    /// Where those pieces within a range begin that were not all zero.
    pub(super) fn nonzero(&self, range: &Range<u64>) -> impl Iterator<Item = u64> {
        let pieces = range.start / self.piece..range.end.div_ceil(self.piece);
        pieces
            .filter(|&number| self.sum(number) != Some(self.zero(number)))
            .map(|number| number * self.piece)
    }

    fn sum(&self, number: u64) -> Option<u64> {
        self.values.get(usize::try_from(number).ok()?).copied()
    }

    /// The digest of this piece if it is all zero.
    fn zero(&self, number: u64) -> u64 {
        let [whole, last] = self.zeros;
        match (number + 1) * self.piece >= self.len {
            true => last,
            false => whole,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn digests_are_those_of_other_tools() {
        // As xxh128sum and xxhsum -H3 print them.
        assert_eq!(
            Digest::of(b"abc").to_string(),
            "06b05ab6733a618578af5f94892f3950"
        );
        assert_eq!(XxHash3_64::oneshot(b"abc"), 0x78af_5f94_892f_3950);
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
            let value: Value = serde_json::from_slice(text).expect("JSON");
            identity(&value)
        });
        assert_eq!(one, same);
        assert_ne!(one, other);
        assert_eq!(one, Digest::of(br#"{"a":[1,{"x":null,"y":"\n"}]}"#));
    }

    #[test]
    fn identity_is_the_one_that_another_program_computed() {
        let text = include_str!("../../../corpus/manifest/digests.json");
        let manifest: Value = serde_json::from_str(text).expect("JSON");
        assert_eq!(manifest["id"], identity(&manifest).to_string());
    }

    /// A file with data in bytes 20480 to 24575, of 5 pieces of which the last is short.
    fn sparse() -> (tempfile::NamedTempFile, BackingFile) {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let len = 4 * PIECE + 4096;
        file.as_file().set_len(len).expect("room");
        let written = file.as_file().write_all_at(&[7; 4096], PIECE + 4096);
        written.expect("room");
        let opened = BackingFile::open(file.path(), len).expect("whole");
        (file, opened)
    }

    #[test]
    fn sums_of_holes_are_those_of_zeros() {
        let (file, opened) = sparse();
        let sums = Sums::of(&opened, PIECE).expect("digested");
        let bytes = std::fs::read(file.path()).expect("ours");
        assert_eq!(sums.values.len(), 5);
        assert_eq!(sums.wrong(0, &bytes).next(), None);
        assert!(sums.nonzero(&(0..5 * PIECE)).eq([PIECE]));
        let end = 4 * PIECE + 4096;
        assert_eq!(sums.nonzero(&(2 * PIECE..end)).next(), None);
        let again = Sums::parse(&sums.to_bytes(), PIECE, opened.len()).expect("as written");
        assert_eq!(again.values, sums.values);
        assert_eq!(again.zeros, sums.zeros);
    }

    #[test]
    fn finds_the_pieces_that_differ() {
        let (file, opened) = sparse();
        let sums = Sums::of(&opened, PIECE).expect("digested");
        let mut bytes = std::fs::read(file.path()).expect("ours");
        let last = bytes.len() - 1;
        bytes[last] = 1;
        assert!(sums.wrong(0, &bytes).eq([4 * PIECE]));
        let start = usize::try_from(3 * PIECE).expect("small");
        bytes[start] ^= 0x80;
        let wrong = sums.wrong(PIECE, &bytes[start / 3..]);
        assert!(wrong.eq([3 * PIECE, 4 * PIECE]));
    }

    #[test]
    fn refuses_sums_of_another_length() {
        assert!(Sums::parse(&[0; 16], PIECE, PIECE).is_none());
        assert!(Sums::parse(&[0; 9], PIECE, PIECE).is_none());
        assert!(Sums::parse(&[0; 8], PIECE, PIECE).is_some());
    }
}
