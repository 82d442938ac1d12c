//! Properties of images.
//!
//! These are the only properties that use files: a folder in
//! [`std::env::temp_dir`] that is removed afterwards.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use retpath_codec::command::{Command, RangeList};
use retpath_codec::forward::ram::Record;
use retpath_codec::forward::{Decoded, Decoder, Event, Identity, Options, SectionKind};
use retpath_codec::wire::section::MAGIC;
use retpath_codec::{BlockName, NameBuf};

use twox_hash::XxHash3_64;

use retpath_engine::blocks::{Block, Blocks};
use retpath_engine::destination::Config;
use retpath_engine::source::PageSource;
use retpath_image::{
    DESCRIPTION, DEVICE_STATE, Digest, EARLY_STATE, Error, Image, ImportOptions, MANIFEST,
    Manifest, SumsFormat, WorkingSet, Writer, import, verify,
};

/// Maximum RAM, and maximum state, for which a test creates files.
const MOST: u64 = 1 << 20;

/// Interprets `bytes` as a saved stream, a working set, or the text of a manifest.
pub fn image(bytes: &[u8]) {
    if bytes.starts_with(&MAGIC.to_be_bytes()) {
        stream(bytes);
    } else if bytes.starts_with(b"RPWS") {
        working_set(bytes);
    } else {
        manifest(bytes);
    }
}

/// Checks that a working set is parsed into pages of its image, and survives a round trip.
fn working_set(bytes: &[u8]) {
    let id = Digest::of(b"");
    let mut blocks = Blocks::new(4096).expect("valid page size");
    for (name, pages, page) in [("pc.ram", 700, 4096), ("huge", 3, 65536)] {
        let (name, len) = (NameBuf::new(name).expect("valid name"), pages * page);
        blocks.add(Block { name, len, page }).expect("valid block");
    }
    // A fuzzer does not find the identity and the checksum.
    let begin = WorkingSet::default().to_bytes(id, &blocks);
    let mut sealed = [&begin[..22], bytes.get(22..).unwrap_or_default()].concat();
    sealed.extend(XxHash3_64::oneshot(&sealed).to_be_bytes());
    for bytes in [bytes, &sealed] {
        let known = match WorkingSet::parse(bytes, id, &blocks) {
            Ok(known) => known,
            Err(flaw) => {
                assert!(flaw.offset <= bytes.len(), "{flaw:?}");
                assert!(!flaw.why.contains(char::is_control), "{flaw:?}");
                continue;
            }
        };
        let all: u64 = blocks.iter().map(|block| block.len / block.page).sum();
        assert!(known.pages(&blocks) <= all);
        for span in &**known.order() {
            let block = blocks.block(span.block).expect("a listed block");
            let checked = blocks.check(span.block, span.offset, span.len, block.page);
            checked.expect("whole pages of the block");
        }
        let again = WorkingSet::parse(&known.to_bytes(id, &blocks), id, &blocks);
        assert_eq!(again, Ok(known));
    }
}

/// Checks that a manifest survives a round trip, and that its image opens if its
/// files exist.
fn manifest(text: &[u8]) {
    let place = Path::new(MANIFEST);
    let manifest = match Manifest::parse(text, place) {
        Ok(manifest) => manifest,
        Err(error) => return one_line(&error),
    };
    let again = Manifest::parse(manifest.to_json().to_string().as_bytes(), place);
    assert_eq!(again.expect("rendered manifest is valid"), manifest);
    let ram = manifest.blocks.iter().map(|block| block.len);
    let states = [
        Some(manifest.device_state),
        Some(manifest.early_state),
        manifest.description,
    ];
    let all = ram.chain(states.into_iter().flatten());
    if all.fold(0, u64::saturating_add) > MOST {
        return;
    }
    let folder = Folder::new();
    fs::write(folder.0.join(MANIFEST), text).expect("folder is writable");
    let ram = manifest
        .blocks
        .iter()
        .map(|block| (&*block.file, block.len));
    let files = [DEVICE_STATE, EARLY_STATE, DESCRIPTION].into_iter();
    let states = files.zip(states.map(Option::unwrap_or_default));
    for (name, len) in ram.chain(states) {
        // Some valid relative names cannot be created on this file system.
        let Ok(file) = File::create(folder.0.join(name)) else {
            return;
        };
        file.set_len(len).expect("file is writable");
    }
    write_sums(&folder.0, &manifest);
    match Image::open(&folder.0) {
        Ok(image) => {
            assert_eq!(image.manifest(), &manifest);
            let zeros = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0);
            for (id, block) in image.blocks().iter().enumerate() {
                let len = usize::try_from(block.len).expect("fits in usize");
                // Check before reading, which may allocate blocks for a hole.
                assert_eq!(image.stored(id), 0);
                let mut ram = vec![1; len];
                image
                    .read(id, 0, &mut ram)
                    .expect("range lies in the block");
                assert!(zeros(&ram));
                assert!(image.read(id, 1, &mut ram).is_err());
            }
        }
        Err(error) => one_line(&error),
    }
}

/// Writes the digests of all-zero blocks, if the manifest is of a version that stores them.
fn write_sums(folder: &Path, manifest: &Manifest) {
    let seal = manifest.seal.as_ref();
    let Some(seal) = seal.filter(|seal| seal.format == SumsFormat::All) else {
        return;
    };
    let piece = usize::try_from(seal.piece).expect("fits in usize");
    for (block, sums) in manifest.blocks.iter().zip(seal.ram.iter().flatten()) {
        let zeros = vec![0; usize::try_from(block.len).expect("fits in usize")];
        let sums_of = |piece| XxHash3_64::oneshot(piece).to_be_bytes();
        let bytes: Vec<u8> = zeros.chunks(piece).flat_map(sums_of).collect();
        // Some valid relative names cannot be created on this file system.
        let _ = fs::write(folder.join(&sums.file), bytes);
    }
}

/// Checks that a stream is imported into an image with its content, or leaves nothing.
fn stream(bytes: &[u8]) {
    let folder = Folder::new();
    let out = folder.0.join("image");
    let config = Config::default().max_ram(MOST);
    let options = ImportOptions::default()
        .core(config)
        .accept_unproven_end(true);
    let stream_options = options.stream.clone();
    // Read in pieces, so that items begin at any buffer position.
    let mut pieces = Pieces {
        bytes,
        most: 1 + bytes.len() % 97,
    };
    let writer = Writer::new(&out).expect("the folder is new");
    match import(&mut pieces, writer, options, &mut |_| true) {
        Ok(imported) => {
            assert_eq!(
                imported.bytes,
                u64::try_from(bytes.len()).expect("fits in u64")
            );
            let image = Image::open(&out).expect("import succeeded");
            assert_eq!(image.manifest(), &imported.manifest);
            Content::of_stream(bytes, stream_options).compare(&image);
            let found = verify(&out, &mut |_, _| true).expect("image has digests");
            assert!(found.is_whole(), "{found:?}");
            assert_eq!(Some(found.id), image.id());
        }
        Err(error) => {
            assert!(!matches!(error, Error::Io { .. } | Error::Range), "{error}");
            one_line(&error);
            let left = fs::read_dir(&folder.0).expect("folder exists").count();
            assert_eq!(left, 0, "{error}");
        }
    }
}

/// The content of a stream, collected event by event.
#[derive(Default)]
struct Content {
    blocks: Vec<(NameBuf, Vec<u8>)>,
    early: Vec<u8>,
    device: Vec<u8>,
    description: Option<Vec<u8>>,
    footers: bool,
    /// The number of the RAM section.
    ram: Option<u32>,
    /// Whether the RAM section ended or the package began.
    devices: bool,
    /// Whether the current section is a device's.
    full: bool,
}

impl Content {
    fn of_stream(bytes: &[u8], options: Options) -> Self {
        let mut content = Self::default();
        let mut decoder = Decoder::new(options);
        decoder.close();
        let mut rest = bytes;
        while let Ok(Decoded::Event { event, size }) = decoder.next(rest) {
            let (raw, behind) = rest.split_at(size);
            content.event(&event, raw, decoder.target_page());
            rest = behind;
        }
        assert!(rest.is_empty(), "an imported stream decodes completely");
        content
    }

    fn event(&mut self, event: &Event<'_>, raw: &[u8], target: u64) {
        match event {
            Event::Section { kind, id, identity } => {
                self.full = *kind == SectionKind::Full;
                if matches!(identity, Some(Identity { idstr: b"ram", .. })) {
                    self.ram = Some(*id);
                }
                self.devices |= *kind == SectionKind::End && self.ram == Some(*id);
            }
            Event::Command(Command::Packaged { .. }) => self.devices = true,
            Event::Footer { .. } => self.footers = true,
            Event::Record(Record::Block { name, len, .. }) => {
                let len = usize::try_from(*len).expect("imported block fits in usize");
                self.blocks.push((name.to_buf(), vec![0; len]));
            }
            Event::Record(Record::Page {
                block,
                offset,
                data,
                ..
            }) => self.ram_of(block.index(), *offset, data.len())[..].copy_from_slice(data),
            Event::Record(Record::Zero { block, offset, .. }) => {
                let len = usize::try_from(target).expect("fits in usize");
                self.ram_of(block.index(), *offset, len).fill(0);
            }
            Event::Command(Command::PostcopyRamDiscard { block, ranges }) => {
                let is = |entry: &(NameBuf, Vec<u8>)| entry.0.name() == *block;
                let id = self
                    .blocks
                    .iter()
                    .position(is)
                    .expect("imported block exists");
                for range in ranges.iter() {
                    let len = usize::try_from(range.len).expect("imported range fits in usize");
                    self.ram_of(id, range.start, len).fill(0);
                }
            }
            Event::DescriptionBytes(bytes) => {
                self.description.get_or_insert_default().extend(*bytes);
            }
            _ => {}
        }
        let kept = matches!(
            event,
            Event::Section { .. } | Event::DeviceState { .. } | Event::Footer { .. }
        );
        if kept && self.full {
            let state = if self.devices {
                &mut self.device
            } else {
                &mut self.early
            };
            state.extend(raw);
        }
    }

    fn ram_of(&mut self, id: usize, offset: u64, len: usize) -> &mut [u8] {
        let offset = usize::try_from(offset).expect("imported offset fits in usize");
        &mut self.blocks[id].1[offset..offset + len]
    }

    fn compare(&self, image: &Image) {
        assert_eq!(image.blocks().len(), self.blocks.len());
        for (id, (name, want)) in self.blocks.iter().enumerate() {
            let block = image.blocks().block(id).expect("same number of blocks");
            assert_eq!(block.name, *name);
            let mut got = vec![0; want.len()];
            image
                .read(id, 0, &mut got)
                .expect("range lies in the block");
            assert!(got == *want, "RAM of {name} differs");
            assert_eq!(block.len, u64::try_from(want.len()).expect("fits in u64"));
            assert!(image.stored(id) <= block.len);
        }
        assert_eq!(image.early_state(), self.early);
        let unproven = image.manifest().unproven_end;
        assert!(
            !unproven || !self.footers,
            "footers mark the end of device state"
        );
        if self.footers {
            assert_eq!(image.device_state(), self.device);
            assert_eq!(image.description(), self.description.as_deref());
        } else {
            // EOF and the description were stored as device state.
            assert!(self.device.starts_with(image.device_state()));
            let description = image.description().unwrap_or_default();
            assert!(self.device.ends_with(description));
        }
    }
}

/// Asserts that an error message fits in one line.
fn one_line(error: &Error) {
    let line = error.to_string();
    assert!(
        !line.is_empty() && !line.contains(char::is_control),
        "{line:?}"
    );
}

/// A reader that returns a few bytes at a time.
struct Pieces<'a> {
    bytes: &'a [u8],
    most: usize,
}

impl Read for Pieces<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let most = self.most.min(out.len());
        self.bytes.read(&mut out[..most])
    }
}

/// A temporary folder, removed on drop.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("retpath-check-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).expect("temporary directory is writable");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
