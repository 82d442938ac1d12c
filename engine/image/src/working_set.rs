//! Working sets: files beside an image. Nothing here panics, whatever a file contains.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use retpath_codec::escape::Escaped;
use retpath_codec::{BlockName, Name};
use retpath_engine::blocks::{Blocks, Span};
use retpath_engine::source::{FirstRequest, MAX_RECORDED, merge_order};
use rustix::fs::OFlags;
use twox_hash::XxHash3_64;

use super::{Digest, Error};

const MAGIC: &[u8; 4] = b"RPWS";

const FORMAT: u16 = 1;

/// Bytes before the list of blocks.
const HEAD: usize = 24;

/// Bytes of the checksum.
const SUM: usize = 8;

/// Maximum bytes of a varint.
const VARINT: u64 = 10;

/// The order in which a machine that starts from an image first needs its pages.
///
/// A working set costs or saves time and decides nothing else, so it need not be trusted.
/// The parser bounds what it takes: no more pages than the image has, and at most
/// [`MAX_RECORDED`] runs.
///
/// # Format
///
/// ```text
///   0  "RPWS"    magic
///   4  u16       format version: 1
///   6  u128      identity of the image
///  22  u16       number of RAM blocks with recorded pages, then for each of them
///                  u8     length of its name
///                  ...    its name
///                  u8     binary logarithm of its host page size in bytes
///      ...       runs of pages, in the order in which they are needed
///      varint      2 * d, or 2 * d + 1 if the run has more than one page; d is the distance
///                  from the end of the run before to the start of this one: 2 * n forward,
///                  2 * n - 1 backward
///      varint      pages - 2, if the run has more than one page
///  -8  u64       XXH3-64 of everything before, seed 0
/// ```
///
/// Numbers are big-endian. A varint has seven bits in each byte, the lowest first; every byte
/// but the last has the high bit set. Distances count host pages of the listed blocks, as if
/// they lay behind each other; the first run's counts from page 0, and no run crosses the end
/// of its block. A page takes two or three bytes if the order is random, and almost none if
/// it is sequential.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkingSet {
    order: Arc<[Span]>,
}

/// Invalid bytes of a working set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidField {
    /// Where, from the start of the file.
    pub offset: usize,
    /// The field and the violated rule.
    pub why: String,
}

impl WorkingSet {
    /// Reads the working set of the image with this identity and these blocks; `None` if the
    /// file does not exist.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], [`Error::File`], or [`Error::WorkingSet`] for invalid bytes, such as
    /// those of another image's working set.
    pub fn read(path: &Path, id: Digest, blocks: &Blocks) -> Result<Option<Self>, Error> {
        let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits();
        let flags = i32::try_from(flags).expect("flags are an int in C");
        let opened = OpenOptions::new().read(true).custom_flags(flags).open(path);
        let file = match opened {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("opening", path)(error)),
        };
        let found = file.metadata().map_err(Error::io("looking at", path))?;
        let refused = |why: String| Error::File {
            path: path.into(),
            why,
        };
        if !found.is_file() {
            return Err(refused("not a regular file".into()));
        }
        let limit = max_size(blocks);
        let mut bytes = Vec::new();
        let read = file.take(limit + 1).read_to_end(&mut bytes);
        let size = read.map_err(Error::io("reading", path))?;
        if u64::try_from(size).is_ok_and(|size| size > limit) {
            return Err(refused(format!(
                "longer than {limit} bytes, the most that a working set of this image can take"
            )));
        }
        let parsed = Self::parse(&bytes, id, blocks);
        parsed.map(Some).map_err(|InvalidField { offset, why }| {
            let path = path.into();
            Error::WorkingSet { path, offset, why }
        })
    }

    /// Parses a file's bytes.
    ///
    /// # Errors
    ///
    /// Names the first invalid field.
    pub fn parse(bytes: &[u8], id: Digest, blocks: &Blocks) -> Result<Self, InvalidField> {
        let wrong = |offset, why: String| Err(InvalidField { offset, why });
        let mut head = Cursor { bytes, at: 0 };
        if head.take::<4>("magic")? != *MAGIC {
            return wrong(0, "magic: not a working set of retpath".into());
        }
        let version = u16::from_be_bytes(head.take("version")?);
        if version != FORMAT {
            return wrong(
                4,
                format!("version: {version}, but only version {FORMAT} can be read"),
            );
        }
        let image = Digest::from_bytes(head.take("image")?);
        if image != id {
            let why = format!("image: the working set belongs to the image with the id {image}");
            return wrong(6, why);
        }
        let end = bytes.len().saturating_sub(SUM).max(head.at);
        let mut sum = Cursor { bytes, at: end };
        let stated = u64::from_be_bytes(sum.take("checksum")?);
        if stated != XxHash3_64::oneshot(&bytes[..end]) {
            let why = "checksum: does not match, the file is damaged or was cut short";
            return wrong(end, why.into());
        }
        let mut body = Cursor {
            bytes: &bytes[..end],
            at: head.at,
        };
        let pages = Pages::parse(&mut body, blocks)?;
        let order = pages.runs(&mut body)?;
        let order = order.into();
        Ok(Self { order })
    }

    /// The file's bytes. The ranges of the order lie in the blocks.
    pub fn to_bytes(&self, id: Digest, blocks: &Blocks) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend(MAGIC);
        out.extend(FORMAT.to_be_bytes());
        out.extend(id.to_bytes());
        let pages = Pages::of(&self.order, blocks);
        let count = u16::try_from(pages.parts.len()).expect("a machine has few RAM blocks");
        out.extend(count.to_be_bytes());
        for part in &pages.parts {
            let name = blocks.block(part.block).expect("it is listed").name.name();
            let name = name.as_bytes();
            out.push(u8::try_from(name.len()).expect("a name has at most 255 bytes"));
            out.extend(name);
            out.push(part.bits);
        }
        let mut end = 0;
        for span in &*self.order {
            let part = pages.part_of(span.block);
            let first = part.first + (span.offset >> part.bits);
            let count = span.len >> part.bits;
            let distance = match first.checked_sub(end) {
                Some(forward) => forward * 2,
                None => (end - first) * 2 - 1,
            };
            put_varint(distance << 1 | u64::from(count > 1), &mut out);
            if count > 1 {
                put_varint(count - 2, &mut out);
            }
            end = first + count;
        }
        out.extend(XxHash3_64::oneshot(&out).to_be_bytes());
        out
    }

    /// Writes the file for its owner only: under another name first, then renamed.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]; a file that exists is unchanged.
    pub fn write(&self, path: &Path, id: Digest, blocks: &Blocks) -> Result<(), Error> {
        let mut new = path.as_os_str().to_owned();
        new.push(format!(".new-{}", std::process::id()));
        let new = Path::new(&new);
        // What a killed process with the same id left.
        let _ = fs::remove_file(new);
        let mut options = File::options();
        options.write(true).create_new(true).mode(0o600);
        let mut file = options.open(new).map_err(Error::io("making", new))?;
        // The umask may have taken rights from the owner.
        let _ = file.set_permissions(Permissions::from_mode(0o600));
        let bytes = self.to_bytes(id, blocks);
        let written = file.write_all(&bytes).and_then(|()| file.sync_all());
        written
            .map_err(Error::io("writing", new))
            .and_then(|()| fs::rename(new, path).map_err(Error::io("naming", path)))
            .inspect_err(|_| {
                let _ = fs::remove_file(new);
            })
    }

    /// The working set with what the destinations of some migrations in this order requested:
    /// see [`merge_order`].
    #[must_use]
    pub fn merge(&self, blocks: &Blocks, recorded: &[&[FirstRequest]]) -> Self {
        let order = merge_order(blocks, &self.order, recorded).into();
        Self { order }
    }

    /// The pages in order, for [`Config::order`](retpath_engine::source::Config::order).
    pub fn order(&self) -> &Arc<[Span]> {
        &self.order
    }

    /// The number of host pages.
    pub fn pages(&self, blocks: &Blocks) -> u64 {
        let count = |span: &Span| span.len / blocks.block(span.block).map_or(1, |block| block.page);
        self.order.iter().map(count).sum()
    }
}

/// Maximum size in bytes of a working set for these blocks.
fn max_size(blocks: &Blocks) -> u64 {
    let pages: u64 = blocks.iter().map(|block| block.len / block.page).sum();
    let runs = pages.min(u64::try_from(MAX_RECORDED).unwrap_or(u64::MAX));
    let names = blocks.iter().map(|_| 257).sum::<u64>();
    u64::try_from(HEAD + SUM).unwrap_or(u64::MAX) + names + runs * 2 * VARINT
}

/// The listed blocks, whose pages are numbered as if they lay behind each other.
struct Pages {
    parts: Vec<Part>,
    /// The number of pages.
    all: u64,
}

struct Part {
    block: usize,
    /// Number of its first page.
    first: u64,
    /// Binary logarithm of its page size.
    bits: u8,
}

impl Pages {
    fn new() -> Self {
        let (parts, all) = (Vec::new(), 0);
        Self { parts, all }
    }

    /// Lists the blocks of an order.
    fn of(order: &[Span], blocks: &Blocks) -> Self {
        let mut used = vec![false; blocks.len()];
        for span in order {
            used[span.block] = true;
        }
        let mut pages = Self::new();
        for (block, used) in used.into_iter().enumerate() {
            if used {
                pages.add(block, blocks);
            }
        }
        pages
    }

    fn add(&mut self, block: usize, blocks: &Blocks) {
        let found = blocks.block(block).expect("the block exists");
        let bits = u8::try_from(found.page.ilog2()).expect("below 64");
        let first = self.all;
        self.all += found.len >> bits;
        self.parts.push(Part { block, first, bits });
    }

    fn parse(body: &mut Cursor<'_>, blocks: &Blocks) -> Result<Self, InvalidField> {
        let count = u16::from_be_bytes(body.take("number of RAM blocks")?);
        let mut pages = Self::new();
        for _ in 0..count {
            let offset = body.at;
            let wrong = |why: String| Err(InvalidField { offset, why });
            let [len] = body.take("length of a RAM block's name")?;
            let text = body.slice(len.into(), "name of a RAM block")?;
            let [bits] = body.take("page size of a RAM block")?;
            let name = Name::new(text).ok();
            let Some(block) = name.and_then(|name| blocks.find(name)) else {
                let name = Escaped::new(text);
                return wrong(format!("RAM block {name}: the image has no such block"));
            };
            if pages.parts.iter().any(|part| part.block == block) {
                return wrong(format!("RAM block {}: appears twice", Escaped::new(text)));
            }
            pages.add(block, blocks);
            if pages.parts.last().is_none_or(|part| part.bits != bits) {
                let name = Escaped::new(text);
                return wrong(format!(
                    "RAM block {name}: its pages have another size in the image"
                ));
            }
        }
        Ok(pages)
    }

    /// The part of a block that [`Pages::of`] lists.
    fn part_of(&self, block: usize) -> &Part {
        let at = self.parts.binary_search_by_key(&block, |part| part.block);
        &self.parts[at.expect("it is listed")]
    }

    /// Parses runs to the end.
    fn runs(&self, body: &mut Cursor<'_>) -> Result<Vec<Span>, InvalidField> {
        let mut runs = Vec::new();
        let (mut end, mut all) = (0_u64, 0_u64);
        while body.at < body.bytes.len() {
            let offset = body.at;
            let wrong = |why: &str| {
                let why = format!("run {}: {why}", runs.len());
                InvalidField { offset, why }
            };
            let word = body.varint().ok_or_else(|| wrong("no valid number"))?;
            let (distance, is_long) = (word >> 1, word & 1 == 1);
            let first = match distance & 1 {
                0 => end.checked_add(distance / 2),
                _ => end.checked_sub(distance / 2 + 1),
            };
            let first = first.ok_or_else(|| wrong("starts before the first page"))?;
            let count = match is_long {
                true => body.varint().ok_or_else(|| wrong("no valid number"))?,
                false => 0,
            };
            let count = count.saturating_add(if is_long { 2 } else { 1 });
            let after = self.parts.partition_point(|part| part.first <= first);
            let part = after.checked_sub(1).map(|at| &self.parts[at]);
            let limit = self.parts.get(after).map_or(self.all, |next| next.first);
            end = first.saturating_add(count);
            let part = part.filter(|_| end <= limit);
            let part = part.ok_or_else(|| wrong("ends after the last page of a RAM block"))?;
            all += count;
            if all > self.all {
                return Err(wrong("more pages than the image has"));
            }
            if runs.len() == MAX_RECORDED {
                return Err(wrong("too many runs"));
            }
            runs.push(Span {
                block: part.block,
                offset: (first - part.first) << part.bits,
                len: count << part.bits,
            });
        }
        Ok(runs)
    }
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn slice(&mut self, len: usize, what: &str) -> Result<&'a [u8], InvalidField> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let Some((found, _)) = rest.split_at_checked(len) else {
            let (offset, why) = (self.bytes.len(), format!("{what}: the file is cut short"));
            return Err(InvalidField { offset, why });
        };
        self.at += len;
        Ok(found)
    }

    fn take<const N: usize>(&mut self, what: &str) -> Result<[u8; N], InvalidField> {
        let found = self.slice(N, what)?;
        Ok(found.try_into().expect("a slice of this length"))
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = *self.bytes.get(self.at)?;
            self.at += 1;
            let bits = u64::from(byte & 0x7f);
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return (value >> shift == bits).then_some(value);
            }
        }
        None
    }
}

fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(u8::try_from(value & 0x7f).expect("seven bits") | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).expect("seven bits"));
}

#[cfg(test)]
mod tests;
