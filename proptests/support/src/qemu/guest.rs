//! The guest: parameters of its boot sector, and the parser of its serial output.
//!
//! `guest.S` documents the program; `guest.bin` is the assembled file, so that tests need no
//! assembler.

use std::time::Instant;

/// Size of a guest page in bytes.
pub const PAGE: u64 = 4096;

/// Guest physical address of the first guest page.
pub const BASE: u64 = 1 << 20;

/// The assembled boot sector.
pub const SECTOR: &[u8; 512] = include_bytes!("guest.bin");

const TAG: u32 = 0x5a5a_5a5a;
const PARAMETERS: usize = 4;

/// The guest's memory access pattern. Pages of [`PAGE`] bytes start at [`BASE`]: first the hot
/// pages, then the quiet ones.
#[derive(Clone, Copy, Debug)]
pub struct Guest {
    /// Pages checked and written in every pass.
    pub hot: u32,
    /// Pages written once, then only checked.
    pub quiet: u32,
    /// Number of quiet pages that each pass checks, in order and starting over at the end.
    pub sweep: u32,
    /// Distance in pages between visits of hot pages; coprime to `hot`.
    pub stride: u32,
    /// Iterations of an empty loop after each hot page, which limits the dirty rate.
    pub page_spin: u32,
    /// Iterations of an empty loop after each pass.
    pub pass_spin: u32,
}

impl Guest {
    /// Creates a guest with `hot` and `quiet` MiB of pages, which checks 1 MiB of quiet pages per pass
    /// and does not pause.
    pub const fn mib(hot: u32, quiet: u32) -> Self {
        Self {
            hot: hot * 256,
            quiet: quiet * 256,
            sweep: 256,
            stride: 1,
            page_spin: 0,
            pass_spin: 0,
        }
    }

    /// Visits hot pages far apart, so that pages sent ahead of a request are of little
    /// use.
    pub fn scattered(self) -> Self {
        // Strides near the golden section spread visits most evenly.
        let golden = self.hot / 5 * 3 + self.hot / 55;
        let stride = (golden.max(1)..=self.hot).find(|&stride| gcd(stride, self.hot) == 1);
        let stride = stride.expect("one less than the number of pages is coprime to it");
        Self { stride, ..self }
    }

    /// Returns the end of the guest's pages, in guest physical memory.
    pub fn end(&self) -> u64 {
        BASE + (u64::from(self.hot) + u64::from(self.quiet)) * PAGE
    }

    /// Returns the boot sector with these parameters, for a machine with `memory` bytes.
    pub fn sector(&self, memory: u64) -> [u8; 512] {
        assert!(
            self.hot > 0 && self.quiet > 0,
            "{self:?}: each part needs a page"
        );
        assert!(
            gcd(self.stride, self.hot) == 1,
            "{self:?}: the stride must be coprime to the number of hot pages"
        );
        assert!(
            self.stride <= self.hot,
            "{self:?}: the stride exceeds the hot pages"
        );
        assert!(
            self.end() <= memory.min(3 << 30),
            "{self:?} does not fit into {memory} bytes"
        );
        let base = u32::try_from(BASE).expect("base is below 4 GiB");
        let words = [
            base,
            self.hot,
            self.quiet,
            self.sweep,
            self.stride,
            self.page_spin,
            self.pass_spin,
        ];
        let mut sector = *SECTOR;
        for (place, word) in sector[PARAMETERS..].chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        sector
    }

    /// Returns the expected content of a guest page after its counter, the first four bytes.
    ///
    /// `address` is guest physical and a multiple of [`PAGE`].
    pub fn tag(address: u64) -> [u8; 4] {
        let address = u32::try_from(address).expect("guest pages lie below 4 GiB");
        (address ^ TAG).to_le_bytes()
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// The guest's output so far, with the arrival time of each byte.
#[derive(Clone, Debug, Default)]
pub struct Said {
    /// When its memory was initialized.
    pub ready: Option<Instant>,
    /// The end of each pass over the hot pages.
    pub passes: Vec<Instant>,
    /// The end of each full check of the quiet pages.
    pub sweeps: Vec<Instant>,
    /// Report of corruption, in the guest's format; empty if none.
    pub complaint: String,
}

impl Said {
    /// Parses bytes from the serial port.
    pub fn take(&mut self, bytes: &[u8], now: Instant) {
        for &byte in bytes {
            match byte {
                _ if !self.complaint.is_empty() => self.complaint.push(char::from(byte)),
                b'R' => self.ready = Some(now),
                b'.' => self.passes.push(now),
                b'+' => self.sweeps.push(now),
                other => self.complaint.push(char::from(other)),
            }
        }
    }

    /// Returns the first output: a migrated guest starts with a pass or a sweep.
    pub fn first(&self) -> Option<Instant> {
        let all = [
            self.ready.as_ref(),
            self.passes.first(),
            self.sweeps.first(),
        ];
        all.into_iter().flatten().min().copied()
    }

    /// Describes the corruption the guest reported, as far as its report is complete.
    pub fn wrong(&self) -> Option<String> {
        let mut words = self.complaint.split_whitespace();
        let (what, address, word) = (words.next()?, words.next(), words.next());
        let what = match what {
            "C" => "the counter",
            "T" => "the tag",
            _ => return Some(format!("the guest reports {:?}", self.complaint)),
        };
        Some(format!(
            "the guest found {what} at {} to be {}",
            address.unwrap_or("?"),
            word.unwrap_or("?"),
        ))
    }
}
