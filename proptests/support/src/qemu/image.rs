//! Images of machines with an initialized guest, and `retpath serve` for them.

use std::fs;
use std::path::{Path, PathBuf};

use retpath_codec::wire::capability::POSTCOPY_RAM;
use serde_json::Value;
use tempfile::TempDir;

use super::machine::Machine;
use super::migration::unix;
use super::process::{Qemu, folder};
use crate::program::Program;

/// An image in a temporary folder.
pub struct Image {
    folder: TempDir,
    machine: Machine,
}

impl Image {
    /// Saves a machine with a paused guest and imports the stream.
    pub fn saved(machine: &Machine) -> Self {
        Self::import(machine, &[])
    }

    /// Like [`Image::saved`], with further arguments for `retpath import`.
    pub fn import(machine: &Machine, more: &[&str]) -> Self {
        let mut source = Qemu::boot(machine);
        source.stop();
        let saved = source.save();
        let image = Self {
            folder: folder(),
            machine: machine.clone(),
        };
        let (saved, path) = (text(&saved), image.path());
        let out = text(&path);
        let args = [&["import", &saved, "--out", &out], more].concat();
        Program::retpath(&args).wait_success(machine.patience());
        fs::remove_file(saved).expect("stream can be removed");
        image
    }

    /// Wraps an image that `retpath receive` created in `folder`, at the path that [`Image::path`]
    /// returns.
    pub fn received(folder: TempDir, machine: Machine) -> Self {
        Self { folder, machine }
    }

    /// Returns the image's folder.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("image")
    }

    /// Returns the machine stored in the image.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Starts a QEMU that waits for the migration, and returns it with its URI.
    pub fn destination(&self, capabilities: &[&str]) -> (Qemu, String) {
        Self::listen(Qemu::incoming(&self.machine), capabilities)
    }

    /// Like [`Image::destination`], but the guest stays stopped after the migration.
    pub fn stopped_destination(&self, capabilities: &[&str]) -> (Qemu, String) {
        let arguments = ["-incoming", "defer", "-S"];
        let qemu = Qemu::start("destination", &self.machine, &arguments);
        Self::listen(qemu, capabilities)
    }

    fn listen(mut qemu: Qemu, capabilities: &[&str]) -> (Qemu, String) {
        qemu.enable(&[POSTCOPY_RAM]);
        qemu.enable(capabilities);
        let uri = unix(&qemu.listen());
        (qemu, uri)
    }

    /// Starts `retpath serve` with a JSON report.
    pub fn serve(&self, uris: &[&str], more: &[&str]) -> Program {
        let path = text(&self.path());
        let mut args = vec!["serve", "--format", "json", "--image", &path];
        args.extend(uris.iter().flat_map(|uri| ["--connect", uri]));
        args.extend(more);
        Program::retpath(&args)
    }

    /// Returns the image's ID from its manifest.
    pub fn id(&self) -> String {
        let id = self.manifest()["id"].as_str().map(str::to_owned);
        id.expect("an image has an id")
    }

    /// Returns the RAM file of the first block, which holds the guest.
    pub fn ram(&self) -> PathBuf {
        let manifest = self.manifest();
        let file = manifest["blocks"][0]["file"].as_str();
        self.path().join(file.expect("a block has a file"))
    }

    fn manifest(&self) -> Value {
        let text = fs::read(self.path().join("manifest.json")).expect("an image has a manifest");
        serde_json::from_slice(&text).expect("a manifest is JSON")
    }

    /// Returns every file of the image, by name.
    pub fn files(&self) -> Vec<(String, Vec<u8>)> {
        let list = fs::read_dir(self.path()).expect("an image is a folder");
        let read = |entry: std::io::Result<fs::DirEntry>| {
            let entry = entry.expect("folder is readable");
            let name = entry.file_name().to_string_lossy().into_owned();
            (name, fs::read(entry.path()).expect("file is readable"))
        };
        let mut files: Vec<_> = list.map(read).collect();
        files.sort();
        files
    }
}

/// Parses the report that `retpath serve` printed.
pub fn report(served: &Program) -> Value {
    let output = served.output();
    serde_json::from_str(&output)
        .unwrap_or_else(|error| panic!("invalid report: {error}\n{served}"))
}

fn text(path: &Path) -> String {
    path.to_str().expect("path is UTF-8").to_owned()
}
