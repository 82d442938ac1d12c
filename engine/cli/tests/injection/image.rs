//! The guest's image: what must be in it, and how it is checked.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use retpath_engine::blocks::Block;
use retpath_engine::source::PageSource;
use retpath_image::{Image, Recorder, Writer};

use tempfile::TempDir;

use retpath_support::saved_stream::{DEVICE, Stream};
use retpath_support::wire::{PAGE, PAGES};

/// The machine type.
pub(crate) const MACHINE: &str = "pc-i440fx-10.0";

/// Where a scenario puts its image.
pub(crate) fn out(room: &Path) -> PathBuf {
    room.join("image")
}

/// Asserts that the folder is an image of the guest, whole.
pub(crate) fn assert_whole(path: &Path) {
    let image = Image::open(path)
        .unwrap_or_else(|error| panic!("{} has its name, but: {error}", path.display()));
    let want = retpath_support::wire::image();
    for (page, want) in (0..).zip(want.chunks(4096)) {
        let mut got = [0; 4096];
        let read = image.read(0, page * PAGE, &mut got);
        read.unwrap_or_else(|error| panic!("{}: page {page}: {error}", path.display()));
        assert!(got == *want, "{}: page {page} is wrong", path.display());
    }
    assert!(
        image.device_state() == DEVICE,
        "{}: its device state is {:?}",
        path.display(),
        image.device_state()
    );
}

/// Asserts that a name has a whole image or nothing; says which.
pub(crate) fn is_there(path: &Path) -> bool {
    let there = fs::symlink_metadata(path).is_ok();
    if there {
        assert_whole(path);
    }
    there
}

/// The id of an image, as `serve --resume` takes it.
pub(crate) fn id(path: &Path) -> String {
    let image = Image::open(path).expect("an image");
    image.id().expect("a new image has an id").to_string()
}

/// The folders in which images were begun and not finished.
pub(crate) fn unfinished(room: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(room)
        .expect("ours")
        .map(|entry| entry.expect("ours").path());
    let begun = |path: &PathBuf| {
        path.file_name()
            .is_some_and(|name| name.to_string_lossy().contains(".incomplete-"))
    };
    entries.filter(begun).collect()
}

/// Puts an image of the guest into a folder that does not exist yet.
pub(crate) fn make(path: &Path) {
    // Made once: the files of an image that is being made are locked, and a child that another
    // case starts at that moment holds the locks until it has become another program.
    static MADE: LazyLock<TempDir> = LazyLock::new(|| {
        let folder = tempfile::tempdir().expect("a folder");
        write(&folder.path().join("image"));
        folder
    });
    fs::create_dir(path).expect("a folder of the test's");
    for entry in fs::read_dir(MADE.path().join("image")).expect("an image") {
        let file = entry.expect("a file").path();
        let name = file.file_name().expect("a name");
        fs::copy(&file, path.join(name)).expect("room");
    }
}

fn write(path: &Path) {
    let mut writer = Writer::new(path).expect("a new image");
    let block = Block {
        name: retpath_support::wire::name(),
        len: PAGES * PAGE,
        page: PAGE,
    };
    writer.block(&block, PAGE).expect("a block");
    for (page, bytes) in (0..).zip(retpath_support::wire::image().chunks(4096)) {
        if bytes.iter().any(|byte| *byte != 0) {
            writer.write(0, page * PAGE, bytes).expect("inside");
        }
    }
    writer.device_state(DEVICE).expect("room");
    let mut facts = Recorder::new().facts();
    facts.machine = Some(MACHINE.into());
    facts.source.ram_section = 2;
    facts.source.footers = true;
    writer.finish(facts).expect("finished");
}

/// A precopy stream of the guest, with or without a return path.
pub(crate) fn precopy(return_path: bool) -> Vec<u8> {
    let mut stream = Stream::new(MACHINE);
    if return_path {
        retpath_support::wire::command(
            retpath_codec::command::Command::OpenReturnPath,
            &mut stream.bytes,
        );
    }
    let mut stream = stream.blocks(&[(b"pc.ram", PAGES)]);
    for (page, bytes) in (0..).zip(retpath_support::wire::image().chunks(4096)) {
        stream = match bytes.iter().all(|byte| *byte == 0) {
            true => stream.zero(0, page),
            false => stream.page_of(0, page, bytes),
        };
    }
    stream.devices().description(b"{\"devices\": []}").bytes
}
