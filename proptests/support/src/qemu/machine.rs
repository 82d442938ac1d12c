//! QEMU's configuration: machine type, RAM blocks and guest. Source and destination start from the
//! same [`Machine`], as QEMU requires.

use std::path::Path;
use std::time::Duration;

use super::guest::Guest;
use crate::SOON;

/// One MiB.
pub const MIB: u64 = 1 << 20;

/// The memory backend of a RAM block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backing {
    /// Anonymous memory.
    Anonymous,
    /// A memfd, shared by QEMU's default.
    Memfd,
    /// A shared memfd of 2 MiB pages, which the test must reserve first.
    Huge,
}

/// A RAM block of the guest's memory.
#[derive(Clone, Debug)]
pub struct Ram {
    /// The block's name.
    pub name: String,
    /// Its length in bytes, whole MiB.
    pub len: u64,
    /// Its memory backend.
    pub backing: Backing,
}

impl Ram {
    /// Creates a block of `mib` MiB.
    pub fn new(name: &str, mib: u64, backing: Backing) -> Self {
        let (name, len) = (name.to_owned(), mib * MIB);
        Self { name, len, backing }
    }

    fn object(&self) -> String {
        let Self { name, len, backing } = self;
        let (kind, more) = match backing {
            Backing::Anonymous => ("ram", ""),
            Backing::Memfd => ("memfd", ",share=on"),
            Backing::Huge => ("memfd", ",share=on,hugetlb=on,hugetlbsize=2M"),
        };
        format!("memory-backend-{kind},id={name},size={len}{more}")
    }
}

/// A machine configuration for source and destination.
#[derive(Clone, Debug)]
pub struct Machine {
    kind: String,
    memory: u64,
    ram: Vec<Ram>,
    guest: Guest,
    more: Vec<String>,
}

impl Machine {
    /// Creates a PC with `mib` MiB in one block, `pc.ram`.
    pub fn new(mib: u64, guest: Guest) -> Self {
        Self {
            kind: "pc".into(),
            memory: mib * MIB,
            ram: Vec::new(),
            guest,
            more: Vec::new(),
        }
    }

    /// Creates a PC whose memory consists of several blocks, from guest physical address 0 up.
    pub fn with_blocks(ram: Vec<Ram>, guest: Guest) -> Self {
        let memory = ram.iter().map(|ram| ram.len).sum::<u64>();
        Self {
            ram,
            ..Self::new(memory / MIB, guest)
        }
    }

    /// Selects another machine type, such as `pc-i440fx-2.3`. It must have a floppy drive.
    pub fn kind(mut self, kind: &str) -> Self {
        self.kind = kind.into();
        self
    }

    /// Adds arguments to QEMU's command line.
    pub fn args(mut self, more: &[&str]) -> Self {
        self.more.extend(more.iter().map(|&arg| arg.to_owned()));
        self
    }

    /// Returns the guest's memory size in bytes.
    pub fn memory(&self) -> u64 {
        self.memory
    }

    /// How long to wait for something that goes through all of its memory: 2 s for a GiB at best,
    /// 10 s have been seen where the host had to find fresh memory.
    pub fn patience(&self) -> Duration {
        SOON + Duration::from_millis(self.memory >> 15)
    }

    /// What the guest does.
    pub fn guest(&self) -> Guest {
        self.guest
    }

    /// The blocks of the guest's memory with the guest physical address each one begins at.
    /// The BIOS and the tables that QEMU makes lie in others.
    pub fn layout(&self) -> Vec<(String, u64, u64)> {
        if self.ram.is_empty() {
            return vec![("pc.ram".into(), 0, self.memory)];
        }
        let mut start = 0;
        let place = |ram: &Ram| {
            let block = (ram.name.clone(), start, ram.len);
            start += ram.len;
            block
        };
        self.ram.iter().map(place).collect()
    }

    /// Returns the part of QEMU's command line that source and destination share.
    pub fn arguments(&self, boot: &Path) -> Vec<String> {
        let mut kind = self.kind.clone();
        if let [only] = self.ram.as_slice() {
            kind = format!("{kind},memory-backend={}", only.name);
        }
        let mut list = vec!["-M".into(), kind];
        list.extend(
            [
                "-accel",
                "tcg",
                "-nodefaults",
                "-no-user-config",
                "-display",
                "none",
            ]
            .map(str::to_owned),
        );
        list.extend(["-serial".into(), "stdio".into()]);
        list.extend(["-m".into(), format!("{}M", self.memory / MIB)]);
        for ram in &self.ram {
            list.extend(["-object".into(), ram.object()]);
            if self.ram.len() > 1 {
                list.extend(["-numa".into(), format!("node,memdev={}", ram.name)]);
            }
        }
        let drive = format!("if=floppy,format=raw,readonly=on,file={}", boot.display());
        list.extend(["-drive".into(), drive]);
        list.extend(self.more.iter().cloned());
        list
    }
}
