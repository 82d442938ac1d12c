//! Escaping of bytes from a peer or a file, for terminals, logs and messages.
//!
//! | input | output |
//! |---|---|
//! | `\` | `\\` |
//! | NUL, tab, line feed, carriage return | `\0` `\t` `\n` `\r` |
//! | bytes that are not UTF-8 | `\xNN`, two hexadecimal digits for each byte |
//! | other characters that do not print | `\u{N}`, hexadecimal |
//! | anything else | itself |
//!
//! Characters that do not print are those for which [`char::escape_debug`] says so,
//! among them the control characters C0 and C1 with ESC and DEL, the bidirectional
//! controls (U+061C, U+200E, U+200F, U+202A to U+202E, U+2066 to U+2069), the line
//! separators U+2028 and U+2029, zero-width and combining characters. So the output
//! is one line, cannot move the cursor or reorder text, and different inputs look
//! different: the input can be recovered from it.

use core::fmt::{self, Write};

/// Bytes whose `Display` is safe to print; see the [module](self).
///
/// `Debug` adds double quotes around the text and escapes those within.
///
/// ```
/// use retpath_codec::escape::Escaped;
///
/// assert_eq!(Escaped::new("größe").to_string(), "größe");
/// assert_eq!(Escaped::new("\x1b]0;title\x07").to_string(), r"\u{1b}]0;title\u{7}");
/// assert_eq!(Escaped::new("\u{202e}gpj.exe").to_string(), r"\u{202e}gpj.exe");
/// assert_eq!(Escaped::new(b"\xff\\\n").to_string(), r"\xff\\\n");
/// assert_eq!(format!("{:?}", Escaped::new("a \"b\"")), r#""a \"b\"""#);
/// ```
///
/// For a path, escape `path.as_os_str().as_encoded_bytes()`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Escaped<'a>(&'a [u8]);

impl<'a> Escaped<'a> {
    /// Wraps bytes or a string.
    pub fn new<T: AsRef<[u8]> + ?Sized>(bytes: &'a T) -> Self {
        Self(bytes.as_ref())
    }

    /// Writes the text; double quotes are escaped if `quoted`.
    fn show(self, f: &mut fmt::Formatter<'_>, quoted: bool) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                match c {
                    '\'' => f.write_char(c)?,
                    '"' if !quoted => f.write_char(c)?,
                    c => write!(f, "{}", c.escape_debug())?,
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.show(f, false)
    }
}

impl fmt::Debug for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        self.show(f, true)?;
        f.write_char('"')
    }
}
