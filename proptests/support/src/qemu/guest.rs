//! The guest: what the boot sector is told to do, and what it says on its serial port.
//!
//! `guest.S` says how it works; `guest.bin` is that file assembled, so that a test run needs no
//! assembler.

use std::time::Instant;

/// One page of the guest.
pub const PAGE: u64 = 4096;

/// Where the guest's pages begin, in guest physical memory.
pub const BASE: u64 = 1 << 20;

/// The assembled boot sector.
pub const SECTOR: &[u8; 512] = include_bytes!("guest.bin");

const TAG: u32 = 0x5a5a_5a5a;
const PARAMETERS: usize = 4;

/// What the guest does with its memory. Pages of [`PAGE`] bytes lie from [`BASE`] up: first the hot
/// ones, then the quiet ones.
#[derive(Clone, Copy, Debug)]
pub struct Guest {
    /// Pages checked and written on every pass.
    pub hot: u32,
    /// Pages written once, then only checked.
    pub quiet: u32,
    /// How many quiet pages each pass checks, one after the other, starting over at the end.
    pub sweep: u32,
    /// Hot pages are visited this many pages apart. Without a common factor with `hot`.
    pub stride: u32,
    /// Turns of an empty loop after each hot page: tames the rate at which memory gets dirty.
    pub page_spin: u32,
    /// Turns of an empty loop after each pass.
    pub pass_spin: u32,
}

impl Guest {
    /// A guest with so many MiB of hot and of quiet pages, that checks 1 MiB of the quiet ones
    /// per pass and does not pause.
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

    /// The same guest visiting its hot pages far apart, so that pages sent ahead of a request help
    /// it little.
    pub fn scattered(self) -> Self {
        // Steps of the golden section spread visits most evenly.
        let golden = self.hot / 5 * 3 + self.hot / 55;
        let stride = (golden.max(1)..=self.hot).find(|&stride| gcd(stride, self.hot) == 1);
        let stride =
            stride.expect("one less than the number of pages has no common factor with it");
        Self { stride, ..self }
    }

    /// The end of the guest's pages, in guest physical memory.
    pub fn end(&self) -> u64 {
        BASE + (u64::from(self.hot) + u64::from(self.quiet)) * PAGE
    }

    /// The boot sector that does this, for a machine with `memory` bytes.
    pub fn sector(&self, memory: u64) -> [u8; 512] {
        assert!(
            self.hot > 0 && self.quiet > 0,
            "{self:?}: each part needs a page"
        );
        assert!(
            gcd(self.stride, self.hot) == 1,
            "{self:?}: the stride must reach every page"
        );
        assert!(
            self.stride <= self.hot,
            "{self:?}: the stride leaves the hot pages"
        );
        assert!(
            self.end() <= memory.min(3 << 30),
            "{self:?} does not fit into {memory} bytes"
        );
        let base = u32::try_from(BASE).expect("the base is below 4 GiB");
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

    /// What a page that the guest holds must contain, but for its counter, the first four bytes.
    ///
    /// `address`: guest physical, a multiple of [`PAGE`].
    pub fn tag(address: u64) -> [u8; 4] {
        let address = u32::try_from(address).expect("the guest lives below 4 GiB");
        (address ^ TAG).to_le_bytes()
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// What the guest said so far, with the time at which each byte reached us.
#[derive(Clone, Debug, Default)]
pub struct Said {
    /// When its memory was filled.
    pub ready: Option<Instant>,
    /// The end of each pass over the hot pages.
    pub passes: Vec<Instant>,
    /// The moments at which all quiet pages had been checked once more.
    pub sweeps: Vec<Instant>,
    /// What is wrong, in the guest's words. Empty while all is well.
    pub complaint: String,
}

impl Said {
    /// Takes what came from the serial port.
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

    /// The first sign of life: a guest that was moved begins with a pass or a sweep.
    pub fn first(&self) -> Option<Instant> {
        let all = [
            self.ready.as_ref(),
            self.passes.first(),
            self.sweeps.first(),
        ];
        all.into_iter().flatten().min().copied()
    }

    /// What the guest found wrong with its memory: the whole sentence if it got that far.
    pub fn wrong(&self) -> Option<String> {
        let mut words = self.complaint.split_whitespace();
        let (what, address, word) = (words.next()?, words.next(), words.next());
        let what = match what {
            "C" => "the counter",
            "T" => "the tag",
            _ => return Some(format!("the guest says {:?}", self.complaint)),
        };
        Some(format!(
            "the guest found {what} at {} to be {}",
            address.unwrap_or("?"),
            word.unwrap_or("?"),
        ))
    }
}
