//! An image of a machine whose guest has filled its memory, and `retpath serve` at work on it.

use std::fs;
use std::path::{Path, PathBuf};

use retpath_codec::wire::capability::POSTCOPY_RAM;
use serde_json::Value;
use tempfile::TempDir;

use super::machine::Machine;
use super::migration::unix;
use super::process::{Qemu, folder};
use crate::program::Program;

/// An image in a folder of its own.
pub struct Image {
    folder: TempDir,
    machine: Machine,
}

impl Image {
    /// Saves a machine whose guest is paused, and imports the stream.
    pub fn saved(machine: &Machine) -> Self {
        Self::import(machine, &[])
    }

    /// The same, with more arguments for `retpath import`.
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
        fs::remove_file(saved).expect("the stream is ours");
        image
    }

    /// An image that `retpath receive` has made in a folder, under the name that [`Image::path`]
    /// gives.
    pub fn received(folder: TempDir, machine: Machine) -> Self {
        Self { folder, machine }
    }

    /// The image's folder.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("image")
    }

    /// The machine in it.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// A QEMU that waits for the machine with these capabilities, and where it listens.
    pub fn destination(&self, capabilities: &[&str]) -> (Qemu, String) {
        Self::listen(Qemu::incoming(&self.machine), capabilities)
    }

    /// The same with a guest that stays as it is in the image.
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

    /// The image's id, as its manifest has it.
    pub fn id(&self) -> String {
        let id = self.manifest()["id"].as_str().map(str::to_owned);
        id.expect("an image has an id")
    }

    /// The file with the RAM of the first block, which is the guest's.
    pub fn ram(&self) -> PathBuf {
        let manifest = self.manifest();
        let file = manifest["blocks"][0]["file"].as_str();
        self.path().join(file.expect("a block has a file"))
    }

    fn manifest(&self) -> Value {
        let text = fs::read(self.path().join("manifest.json")).expect("an image has a manifest");
        serde_json::from_slice(&text).expect("a manifest is JSON")
    }

    /// Every file of the image with its bytes, by name.
    pub fn files(&self) -> Vec<(String, Vec<u8>)> {
        let list = fs::read_dir(self.path()).expect("an image is a folder");
        let read = |entry: std::io::Result<fs::DirEntry>| {
            let entry = entry.expect("the folder can be read");
            let name = entry.file_name().to_string_lossy().into_owned();
            (name, fs::read(entry.path()).expect("its files can be read"))
        };
        let mut files: Vec<_> = list.map(read).collect();
        files.sort();
        files
    }
}

/// The report that `retpath serve` printed.
pub fn report(served: &Program) -> Value {
    let output = served.output();
    serde_json::from_str(&output).unwrap_or_else(|error| panic!("no report: {error}\n{served}"))
}

fn text(path: &Path) -> String {
    path.to_str().expect("paths of tests are text").to_owned()
}
