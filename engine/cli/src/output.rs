//! What the commands write: lines on standard error, a report on standard output.
//!
//! Nothing here panics. A line on standard error that cannot be written is dropped: a closed pipe, a
//! full disk or a terminal that is gone must not change what happens to a guest. `println!` and
//! `eprintln!` panic instead, so clippy refuses them in this crate; no other module writes to
//! either.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::env;
use std::fmt::Display;
use std::io::{self, ErrorKind, IsTerminal, Write};

use clap::ColorChoice;
use indicatif::MultiProgress;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Writes a line, or several, to standard error. Escapes what does not print: names were escaped
/// where they became text, but not everything in the message of a system or another library.
pub(crate) fn note(line: impl Display) {
    note_styled(escape(line.to_string()));
}

/// Writes a line to standard error, with the escape sequences that it contains.
pub(crate) fn note_styled(line: impl Display) {
    // In one write, so that lines of several threads or processes do not mix.
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// Whether a character is printed as it is; all others are escaped.
fn is_plain(c: char) -> bool {
    matches!(c, ' '..='~') || c.escape_debug().eq([c])
}

/// Escapes the characters of a text that do not print, except line breaks.
pub(crate) fn escape(text: String) -> String {
    let is_good = |c| c == '\n' || is_plain(c);
    if text.chars().all(is_good) {
        return text;
    }
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match is_good(c) {
            true => escaped.push(c),
            false => escaped.extend(c.escape_debug()),
        }
    }
    escaped
}

/// Escapes the characters of a JSON text that do not print. They are within strings, so its meaning
/// remains; JSON itself demands this of C0 only.
pub(crate) fn escape_json(text: String) -> String {
    if text.chars().all(is_plain) {
        return text;
    }
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if is_plain(c) {
            escaped.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            escaped += &format!("\\u{unit:04x}");
        }
    }
    escaped
}

/// Writes a line to standard error, unless that would block.
pub(crate) fn note_or_drop(line: impl Display) {
    if is_writable() {
        note(line);
    }
}

/// Writes a line to standard error, between the live lines there.
pub(crate) fn note_between(bars: &MultiProgress, line: impl Display) {
    // Not `MultiProgress::suspend`, which panics when the terminal is gone.
    let line = escape(line.to_string());
    if bars.is_hidden() || bars.println(&line).is_err() {
        note_styled(line);
    }
}

/// Lines for standard error while a guest depends on this process.
///
/// A stopped terminal (Ctrl-S) or a full pipe would block a write indefinitely, and the guest with
/// it. Lines are queued here instead.
#[derive(Debug, Default)]
pub(crate) struct Lines(RefCell<VecDeque<String>>);

/// Capacity of the queue; adding to a full one drops the oldest line.
const WAITING: usize = 100;

impl Lines {
    /// Queues a line, and writes what standard error accepts.
    pub(crate) fn say(&self, line: String, write: impl Fn(&str)) {
        {
            let mut lines = self.0.borrow_mut();
            if lines.len() >= WAITING {
                lines.pop_front();
            }
            lines.push_back(line);
        }
        self.go_on(write);
    }

    /// Writes queued lines without blocking; returns whether standard error accepts more.
    pub(crate) fn go_on(&self, write: impl Fn(&str)) -> bool {
        while is_writable() {
            let next = self.0.borrow_mut().pop_front();
            match next {
                Some(line) => write(&line),
                None => return true,
            }
        }
        false
    }

    /// Writes all queued lines, and may block: no guest depends on this process any more.
    pub(crate) fn finish(&self, write: impl Fn(&str)) {
        let lines = self.0.take();
        lines.iter().for_each(|line| write(line));
    }
}

/// Whether a write to standard error returns at once, if only with an error.
fn is_writable() -> bool {
    let stderr = io::stderr();
    let mut fds = [PollFd::new(&stderr, PollFlags::OUT)];
    poll(&mut fds, Some(&Timespec::default())).is_ok() && !fds[0].revents().is_empty()
}

/// Standard output, for a report that is written piece by piece.
pub(crate) fn stdout() -> io::StdoutLock<'static> {
    io::stdout().lock()
}

/// Whether text for a stream has colors (<https://no-color.org>).
pub(crate) fn wants_color(choice: ColorChoice, stream: &impl IsTerminal) -> bool {
    let is_set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
    let is_dumb = || env::var_os("TERM").is_none_or(|term| term == "dumb");
    match choice {
        ColorChoice::Always => true,
        ColorChoice::Never => false,
        ColorChoice::Auto => stream.is_terminal() && !is_set("NO_COLOR") && !is_dumb(),
    }
}

/// Writes to standard output. A closed pipe, as in `retpath … | head`, is not an error.
///
/// # Errors
///
/// Standard output cannot be written for another reason.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        done => done,
    }
}

/// Writes the report of a command whose work is done. A failure is reported on standard error, after
/// `done`; it does not change the exit code, which says what happened to the guest.
pub(crate) fn print_report(command: &str, done: &str, text: &str) {
    if let Err(error) = print(text) {
        note(format_args!(
            "retpath {command}: {done}; only the report could not be written to standard output: \
             {error}"
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_every_character_that_could_control_a_terminal() {
        let hostile = |c: &char| {
            let is_bidi = matches!(
                c,
                '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
            ) || matches!(c, '\u{2066}'..='\u{2069}');
            c.is_control() || is_bidi
        };
        let all: Vec<char> = ('\0'..=char::MAX).filter(hostile).collect();
        assert_eq!(all.len(), 65 + 14);
        for c in all.into_iter().filter(|c| *c != '\n') {
            let text = format!("a{c}b\\n\n");
            let escaped = escape(text.clone());
            assert!(!escaped.contains(c), "{escaped:?}");
            assert!(
                escaped.starts_with("a\\") && escaped.ends_with("b\\n\n"),
                "{escaped:?}"
            );
            let json = serde_json::to_string(&text).expect("a string");
            let json = escape_json(json);
            assert!(!json.contains(c), "{json:?}");
            assert_eq!(serde_json::from_str::<String>(&json).expect("JSON"), text);
        }
    }

    #[test]
    fn leaves_other_text_as_it_is() {
        let text = "größe 内存 \\u{1b} `'\"` 5.00 µs …\n".to_owned();
        assert_eq!(escape(text.clone()), text);
        let json = r#"{"a":"größe 内存 \n \u001b"}"#.to_owned();
        assert_eq!(escape_json(json.clone()), json);
        let beyond = serde_json::to_string("\u{e0001}").expect("a string");
        assert_eq!(escape_json(beyond), r#""\udb40\udc01""#);
    }
}
