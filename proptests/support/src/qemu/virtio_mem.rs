//! A driver for a virtio-mem device, in place of one in the guest: it plugs memory from outside,
//! through QEMU's `-qtest` socket, with the registers and the queue that a guest would use.
//!
//! The queue lies in guest memory that the boot sector leaves alone.

use std::io::{BufRead, BufReader, Write};
use std::ops::Range;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::SOON;

/// Vendor and device number on the PCI bus.
const IDENTITY: u32 = 0x1058_1af4;

/// Where the queue's parts lie in guest memory.
const DESCRIPTORS: u64 = 0x3_0000;
const DRIVER_RING: u64 = 0x3_1000;
const DEVICE_RING: u64 = 0x3_2000;
const REQUEST: u64 = 0x3_3000;
const RESPONSE: u64 = 0x3_3100;

/// Places in the device's memory: common configuration, its own configuration, notifications.
const OWN: u64 = 0x2000;
const NOTIFY: u64 = 0x3000;

/// VIRTIO_MEM_F_UNPLUGGED_INACCESSIBLE, and the upper half's VIRTIO_F_VERSION_1.
const FEATURES: [u32; 2] = [1 << 1, 1 << 0];

/// A connection to QEMU's `-qtest` socket: reads and writes as a processor would make them.
pub struct Qtest(BufReader<UnixStream>);

/// The device, and the connection to QEMU.
pub struct Driver {
    qtest: Qtest,
    /// Where the device's registers are.
    base: u64,
    requests: u16,
    /// Guest physical address of its memory.
    pub address: u64,
    /// Bytes of a piece.
    pub piece: u64,
}

/// The arguments that make a QEMU listen there.
pub fn qtest(socket: &Path) -> [String; 4] {
    let listen = format!("unix:{},server=on,wait=off", socket.display());
    ["-qtest".into(), listen, "-qtest-log".into(), "none".into()]
}

impl Qtest {
    /// Connects to a QEMU that was started with [`qtest`].
    pub fn connect(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).expect("QEMU listens for qtest");
        stream.set_read_timeout(Some(SOON)).expect("a limit");
        Self(BufReader::new(stream))
    }

    /// Reads 8 bytes of guest physical memory.
    pub fn read(&mut self, address: u64) -> u64 {
        self.number(&format!("readq {address:#x}"))
    }

    /// One line to QEMU; gives its answer.
    fn say(&mut self, line: &str) -> String {
        writeln!(self.0.get_mut(), "{line}").expect("QEMU reads");
        let mut answer = String::new();
        self.0.read_line(&mut answer).expect("QEMU answers");
        let answer = answer.strip_prefix("OK");
        answer
            .unwrap_or_else(|| panic!("qtest: {line}"))
            .trim()
            .to_owned()
    }

    fn number(&mut self, line: &str) -> u64 {
        let answer = self.say(line);
        let digits = answer.trim_start_matches("0x");
        u64::from_str_radix(digits, 16).unwrap_or_else(|_| panic!("{line}: {answer}"))
    }
}

impl Driver {
    /// Takes the only such device of a QEMU whose firmware has run into use.
    pub fn start(socket: &Path) -> Self {
        let mut driver = Self {
            qtest: Qtest::connect(socket),
            base: 0,
            requests: 0,
            address: 0,
            piece: 0,
        };
        let slot = (0..32).find(|slot| driver.config(*slot, 0) == IDENTITY);
        let slot = slot.expect("a virtio-mem device");
        let memory = 0x20;
        let low = u64::from(driver.config(slot, memory) & !0xf);
        driver.base = low | u64::from(driver.config(slot, memory + 4)) << 32;
        // Memory, and reads and writes of its own.
        let command = driver.config(slot, 4) & 0xffff | 6;
        driver.qtest.say(&format!("outl 0xcfc {command:#x}"));
        driver.set_up();
        driver.piece = driver.read('q', OWN);
        driver.address = driver.read('q', OWN + 16);
        driver
    }

    /// A word of a PCI device's configuration. The next access to 0xcfc goes to the same.
    fn config(&mut self, slot: u32, offset: u32) -> u32 {
        self.qtest
            .say(&format!("outl 0xcf8 {:#x}", 1 << 31 | slot << 11 | offset));
        u32::try_from(self.qtest.number("inl 0xcfc")).expect("32 bits")
    }

    fn read(&mut self, size: char, register: u64) -> u64 {
        let at = self.base + register;
        self.qtest.number(&format!("read{size} {at:#x}"))
    }

    fn write(&mut self, size: char, register: u64, value: u64) {
        let at = self.base + register;
        self.qtest.say(&format!("write{size} {at:#x} {value:#x}"));
    }

    /// What a driver does before its first request.
    fn set_up(&mut self) {
        const STATUS: u64 = 0x14;
        let mut status = 0;
        self.write('b', STATUS, status);
        for bit in [1, 2] {
            status |= bit;
            self.write('b', STATUS, status);
        }
        for (half, wanted) in (0..).zip(FEATURES) {
            self.write('l', 0, half);
            let offered = self.read('l', 4);
            self.write('l', 8, half);
            self.write('l', 0xc, offered & u64::from(wanted));
        }
        status |= 8;
        self.write('b', STATUS, status);
        assert_eq!(self.read('b', STATUS), status, "the device refuses");
        self.write('w', 0x16, 0);
        for (register, address) in [
            (0x20, DESCRIPTORS),
            (0x28, DRIVER_RING),
            (0x30, DEVICE_RING),
        ] {
            self.write('l', register, address);
            self.write('l', register + 4, 0);
        }
        for ring in [DRIVER_RING, DEVICE_RING] {
            self.qtest.say(&format!("writel {ring:#x} 0"));
        }
        self.write('w', 0x1c, 1);
        self.write('b', STATUS, status | 4);
    }

    /// Plugs a range of pieces.
    pub fn plug(&mut self, pieces: Range<u16>) {
        let address = self.address + u64::from(pieces.start) * self.piece;
        for (offset, value) in [
            (0, 0),
            (8, address),
            (16, u64::from(pieces.end - pieces.start)),
        ] {
            self.qtest
                .say(&format!("writeq {:#x} {value:#x}", REQUEST + offset));
        }
        // The request, and then the answer.
        for (at, address, len, flags) in [(0, REQUEST, 24_u64, 1_u64), (1, RESPONSE, 10, 2)] {
            let descriptor = DESCRIPTORS + at * 16;
            let rest = len | flags << 32 | 1_u64 << 48;
            self.qtest
                .say(&format!("writeq {descriptor:#x} {address:#x}"));
            self.qtest
                .say(&format!("writeq {:#x} {rest:#x}", descriptor + 8));
        }
        self.qtest.say(&format!("writew {RESPONSE:#x} 0xffff"));
        let place = DRIVER_RING + 4 + 2 * u64::from(self.requests % 64);
        self.qtest.say(&format!("writew {place:#x} 0"));
        self.requests += 1;
        self.qtest
            .say(&format!("writew {:#x} {}", DRIVER_RING + 2, self.requests));
        self.write('w', NOTIFY, 0);
        let end = Instant::now() + SOON;
        while self.qtest.number(&format!("readw {:#x}", DEVICE_RING + 2))
            != u64::from(self.requests)
        {
            assert!(Instant::now() < end, "no answer to a request to plug");
            thread::sleep(Duration::from_millis(2));
        }
        assert_eq!(
            self.qtest.number(&format!("readw {RESPONSE:#x}")),
            0,
            "no ACK"
        );
    }

    /// Fills a piece with one byte.
    pub fn fill(&mut self, piece: u16, byte: u8) {
        let (at, len) = (self.address + u64::from(piece) * self.piece, self.piece);
        self.qtest
            .say(&format!("memset {at:#x} {len:#x} {byte:#x}"));
    }
}
