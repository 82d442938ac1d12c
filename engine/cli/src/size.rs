//! Sizes as people write and read them.
//!
//! All units are binary, as in QEMU: K, M, G and T are KiB, MiB, GiB and TiB. Neither direction
//! rounds.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::OsStrExt;

use clap::builder::{OsStringValueParser, TypedValueParser};
use retpath_codec::NameBuf;

const UNITS: [(char, u64); 4] = [
    ('T', 1 << 40),
    ('G', 1 << 30),
    ('M', 1 << 20),
    ('K', 1 << 10),
];

/// A number of bytes, shown in the largest unit that divides it: `4 KiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Human(pub(crate) u64);

impl fmt::Display for Human {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = UNITS
            .iter()
            .find(|(_, unit)| self.0 >= *unit && self.0.is_multiple_of(*unit));
        match unit {
            Some((letter, unit)) => write!(f, "{} {letter}iB", self.0 / unit),
            None => write!(f, "{} B", self.0),
        }
    }
}

/// Parses a size in bytes: `2097152`, `2048K`, `2M`, `2MiB`, `0x200000`.
///
/// # Errors
///
/// The text is not such a size, or it is 2^64 bytes or more.
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    let wrong =
        || format!("`{text}` is not a size: give bytes or a unit, as in 2097152, 2M or 2MiB");
    let text = text.trim();
    if let Some(hex) = text.strip_prefix("0x") {
        // `from_str_radix` would take a sign.
        if !hex.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        return u64::from_str_radix(hex, 16).map_err(|_| wrong());
    }
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit = match unit.trim_start().to_ascii_uppercase().as_str() {
        "" | "B" => 1,
        unit => UNITS
            .iter()
            .find(|(letter, _)| {
                unit.strip_prefix(*letter)
                    .is_some_and(|rest| matches!(rest, "" | "IB"))
            })
            .map(|(_, unit)| *unit)
            .ok_or_else(wrong)?,
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number
        .checked_mul(unit)
        .ok_or_else(|| format!("`{text}` is more than 2^64 - 1 bytes"))
}

/// The page size of one RAM block, as in `pc.ram=2M`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageSize {
    /// Name of the block.
    pub name: NameBuf,
    /// Size of its host pages in bytes.
    pub size: u64,
}

impl PageSize {
    /// Smallest page size in bytes: QEMU's RAM records use the lower bits for flags.
    pub const SMALLEST: u64 = 1024;

    /// The parser of `--block-page-size`.
    pub(crate) fn parser() -> impl TypedValueParser<Value = Self> {
        OsStringValueParser::new().try_map(Self::parse)
    }

    /// Parses NAME=SIZE. A name consists of bytes, and may contain a `=`.
    fn parse(arg: OsString) -> Result<Self, String> {
        let bytes = arg.as_bytes();
        let equals = bytes.iter().rposition(|byte| *byte == b'=');
        let equals = equals.ok_or("expected NAME=SIZE, as in pc.ram=2M")?;
        let (name, size) = (&bytes[..equals], &bytes[equals + 1..]);
        let name = NameBuf::new(name).map_err(|rule| rule.to_string())?;
        let size = parse(&OsStr::from_bytes(size).to_string_lossy())?;
        if !size.is_power_of_two() || size < Self::SMALLEST {
            let least = Self::SMALLEST;
            return Err(format!(
                "a page size must be a power of two and at least {least}, not {size}"
            ));
        }
        Ok(Self { name, size })
    }
}

/// The page sizes that were given, the last one of each block.
pub(crate) fn last_of_each(given: &[PageSize]) -> Vec<PageSize> {
    let mut sizes: Vec<PageSize> = Vec::new();
    for one in given {
        sizes.retain(|known| known.name != one.name);
        sizes.push(one.clone());
    }
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_bytes_units_and_hex() {
        for text in [
            "2097152", "2048K", "2M", "2m", "2MiB", "2 MiB", "0x200000", "2097152B",
        ] {
            assert_eq!(parse(text), Ok(2 << 20), "{text}");
        }
        assert_eq!(parse("0"), Ok(0));
        assert_eq!(parse("18446744073709551615"), Ok(u64::MAX));
        assert_eq!(parse("1G"), Ok(1 << 30));
        assert_eq!(parse("3T"), Ok(3 << 40));
    }

    #[test]
    fn refuses_text_that_is_not_a_size() {
        // MB could mean 10^6 bytes; the sizes of migrations are binary.
        for text in [
            "", "M", "-1", "+1", "2MB", "2.5M", "2MiBs", "0x", "0x+1", "0xg", "x", "1e3",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        for text in ["18446744073709551616", "16777216T"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn shows_the_largest_unit_that_divides() {
        let shown = [
            (0, "0 B"),
            (1, "1 B"),
            (1000, "1000 B"),
            (4096, "4 KiB"),
            (6144, "6 KiB"),
            (4097, "4097 B"),
            (2 << 20, "2 MiB"),
            ((1 << 30) + 4096, "1048580 KiB"),
            (3 << 40, "3 TiB"),
        ];
        for (bytes, text) in shown {
            assert_eq!(Human(bytes).to_string(), text);
        }
    }
}
