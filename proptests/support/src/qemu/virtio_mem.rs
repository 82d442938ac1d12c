//! A virtio-mem driver outside the guest: plugs memory through QEMU's `-qtest` socket, with the
//! registers and the queue that a guest driver would use.
//!
//! The queue lies in guest memory that the boot sector does not use.

use std::io::{BufRead, BufReader, Write};
use std::ops::Range;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::SOON;

/// Vendor and device number on the PCI bus.
const IDENTITY: u32 = 0x1058_1af4;

/// Guest physical addresses of the queue.
const DESCRIPTORS: u64 = 0x3_0000;
const DRIVER_RING: u64 = 0x3_1000;
const DEVICE_RING: u64 = 0x3_2000;
const REQUEST: u64 = 0x3_3000;
const RESPONSE: u64 = 0x3_3100;

/// Offsets in the device's memory: its own configuration and its notifications.
const OWN: u64 = 0x2000;
const NOTIFY: u64 = 0x3000;

/// VIRTIO_MEM_F_UNPLUGGED_INACCESSIBLE and, in the upper half, VIRTIO_F_VERSION_1.
const FEATURES: [u32; 2] = [1 << 1, 1 << 0];

/// A connection to QEMU's `-qtest` socket, which accesses memory as a processor does.
pub struct Qtest(BufReader<UnixStream>);

/// The device and the connection to QEMU.
pub struct Driver {
    qtest: Qtest,
    /// Base address of the device's registers.
    base: u64,
    requests: u16,
    /// Guest physical address of the device's memory region.
    pub address: u64,
    /// Size of a device block in bytes.
    pub piece: u64,
}

/// Returns the arguments that make QEMU listen for qtest.
pub fn qtest(socket: &Path) -> [String; 4] {
    let listen = format!("unix:{},server=on,wait=off", socket.display());
    ["-qtest".into(), listen, "-qtest-log".into(), "none".into()]
}

impl Qtest {
    /// Connects to a QEMU that was started with [`qtest`].
    pub fn connect(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).expect("QEMU listens for qtest");
        stream
            .set_read_timeout(Some(SOON))
            .expect("timeout is valid");
        Self(BufReader::new(stream))
    }

    /// Reads 8 bytes of guest physical memory.
    pub fn read(&mut self, address: u64) -> u64 {
        self.number(&format!("readq {address:#x}"))
    }

    /// Sends one line to QEMU and returns the answer.
    fn say(&mut self, line: &str) -> String {
        writeln!(self.0.get_mut(), "{line}").expect("qtest connection is open");
        let mut answer = String::new();
        self.0
            .read_line(&mut answer)
            .expect("qtest connection is open");
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
    /// Initializes the only virtio-mem device of a QEMU whose firmware has run.
    pub fn start(socket: &Path) -> Self {
        let mut driver = Self {
            qtest: Qtest::connect(socket),
            base: 0,
            requests: 0,
            address: 0,
            piece: 0,
        };
        let slot = (0..32).find(|slot| driver.config(*slot, 0) == IDENTITY);
        let slot = slot.expect("a virtio-mem device exists");
        let memory = 0x20;
        let low = u64::from(driver.config(slot, memory) & !0xf);
        driver.base = low | u64::from(driver.config(slot, memory + 4)) << 32;
        // Enable memory access and bus mastering.
        let command = driver.config(slot, 4) & 0xffff | 6;
        driver.qtest.say(&format!("outl 0xcfc {command:#x}"));
        driver.set_up();
        driver.piece = driver.read('q', OWN);
        driver.address = driver.read('q', OWN + 16);
        driver
    }

    /// Reads a word of PCI configuration space. The next access to 0xcfc uses the same address.
    fn config(&mut self, slot: u32, offset: u32) -> u32 {
        self.qtest
            .say(&format!("outl 0xcf8 {:#x}", 1 << 31 | slot << 11 | offset));
        u32::try_from(self.qtest.number("inl 0xcfc")).expect("fits in u32")
    }

    fn read(&mut self, size: char, register: u64) -> u64 {
        let at = self.base + register;
        self.qtest.number(&format!("read{size} {at:#x}"))
    }

    fn write(&mut self, size: char, register: u64, value: u64) {
        let at = self.base + register;
        self.qtest.say(&format!("write{size} {at:#x} {value:#x}"));
    }

    /// Performs the device initialization sequence.
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
        assert_eq!(
            self.read('b', STATUS),
            status,
            "the device refused the features"
        );
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

    /// Plugs a range of device blocks.
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
        // Descriptors of the request and of the response.
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
            assert!(
                Instant::now() < end,
                "timed out waiting for the plug response"
            );
            thread::sleep(Duration::from_millis(2));
        }
        assert_eq!(
            self.qtest.number(&format!("readw {RESPONSE:#x}")),
            0,
            "no ACK"
        );
    }

    /// Fills a device block with one byte.
    pub fn fill(&mut self, piece: u16, byte: u8) {
        let (at, len) = (self.address + u64::from(piece) * self.piece, self.piece);
        self.qtest
            .say(&format!("memset {at:#x} {len:#x} {byte:#x}"));
    }
}
