//! QEMU's verdict, read from the trace events of its return-path functions.
//!
//! The thread traces `loop_top` before it reads a message. Events between two
//! `loop_top`s belong to an accepted message; events after the last one belong to
//! an accepted message only if that is SHUT. The verdict therefore does not depend
//! on the error texts of a release.

use crate::verdict::{Accepted, End, Fault, Verdict};

const TOP: &[u8] = b"source_return_path_thread_loop_top";
const SHUT: &[u8] = b"source_return_path_thread_shut ";
const PONG: &[u8] = b"source_return_path_thread_pong ";
const ACK: &[u8] = b"source_return_path_thread_resume_ack ";
const SWITCHOVER: &[u8] = b"source_return_path_thread_switchover_acked";
const LOADED: &[u8] = b"source_return_path_thread_postcopy_package_loaded";
const END: &[u8] = b"source_return_path_thread_end";
const REQUEST: &[u8] = b"migrate_handle_rp_req_pages in ";
const QUEUED: &[u8] = b"ram_save_queue_pages ";
const BITMAP: &[u8] = b"ram_dirty_bitmap_reload_complete ";

/// Trace events enabled in QEMU.
pub(crate) const TRACES: [&str; 4] = [
    "source_return_path*",
    "migrate_handle_rp*",
    "ram_save_queue_pages",
    "ram_dirty_bitmap_reload*",
];

/// The trace events of one message.
#[derive(Default)]
struct Message {
    accepted: Option<Accepted>,
    /// Whether the request as received carried a block name.
    named: bool,
}

/// Parses a trace. The result is [`End::Open`] while the thread still reads.
pub(crate) fn read(log: &[u8]) -> Verdict {
    let mut taken = Vec::new();
    let mut message: Option<Message> = None;
    let mut end = End::Open;
    for line in log.split(|byte| *byte == b'\n') {
        let line = event(line);
        if line.starts_with(TOP) {
            if let Some(message) = message.take() {
                let accepted = message.accepted;
                taken.push(accepted.expect("QEMU traces every message it accepts"));
            }
            message = Some(Message::default());
        } else if line.starts_with(END) {
            end = match message.take().and_then(|message| message.accepted) {
                Some(accepted @ Accepted::Shut(_)) => {
                    taken.push(accepted);
                    End::Shut
                }
                _ => End::Refused(Fault {
                    label: "",
                    rule: "",
                    why: "see QEMU's standard error".into(),
                }),
            };
        } else if let Some(message) = &mut message {
            message.note(line);
        }
    }
    Verdict { taken, end }
}

impl Message {
    fn note(&mut self, line: &[u8]) {
        if let Some(rest) = line.strip_prefix(REQUEST) {
            self.named = !rest.starts_with(b"(null) at ");
        }
        let accepted = if let Some(value) = line.strip_prefix(SHUT) {
            Accepted::Shut(small(value))
        } else if let Some(value) = line.strip_prefix(PONG) {
            Accepted::Pong(small(value))
        } else if line.starts_with(ACK) {
            Accepted::ResumeAck
        } else if line.starts_with(SWITCHOVER) {
            Accepted::SwitchoverAck
        } else if line.starts_with(LOADED) {
            // Traced in addition to, and after, the PONG.
            return;
        } else if let Some(block) = line.strip_prefix(BITMAP) {
            Accepted::Bitmap(block.into())
        } else if let Some(rest) = line.strip_prefix(QUEUED) {
            self.request(rest)
        } else {
            return;
        };
        self.accepted = Some(accepted);
    }

    /// `NAME: start: 0x1000 len: 0x1000`
    fn request(&self, rest: &[u8]) -> Accepted {
        let (rest, len) = cut(rest, b" len: ");
        let (block, start) = cut(rest, b": start: ");
        Accepted::Request {
            named: self.named,
            block: block.into(),
            start: number(start),
            len: number(len),
        }
    }
}

/// Strips the process ID and time that some builds prepend.
fn event(line: &[u8]) -> &[u8] {
    let digits = |byte: &u8| byte.is_ascii_digit() || b"@.".contains(byte);
    match line.iter().position(|byte| *byte == b':') {
        Some(colon) if colon > 0 && line[..colon].iter().all(digits) => &line[colon + 1..],
        _ => line,
    }
}

/// Splits a line at its last `mark`.
fn cut<'a>(line: &'a [u8], mark: &[u8]) -> (&'a [u8], &'a [u8]) {
    let found = line.windows(mark.len()).rposition(|part| part == mark);
    let at = found.unwrap_or_else(|| panic!("unknown trace format: {}", text(line)));
    (&line[..at], &line[at + mark.len()..])
}

fn number(digits: &[u8]) -> u64 {
    let text = text(digits);
    let digits = text.trim().trim_start_matches("0x");
    u64::from_str_radix(digits, 16).unwrap_or_else(|_| panic!("not a number in the trace: {text}"))
}

fn small(digits: &[u8]) -> u32 {
    number(digits).try_into().expect("value fits in u32")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "source_return_path_thread_entry \nsource_return_path_thread_loop_top \n";
    const PONG: &str = "source_return_path_thread_pong 0x1f\n";
    const AGAIN: &str = "source_return_path_thread_loop_top \n";
    const OVER: &str = "source_return_path_thread_end \n";

    fn verdict(parts: &[&str]) -> Verdict {
        read(parts.concat().as_bytes())
    }

    #[test]
    fn accepts_only_messages_followed_by_another() {
        let open = verdict(&[HEAD, PONG, AGAIN]);
        assert_eq!(
            (open.taken.as_slice(), open.end),
            (&[Accepted::Pong(31)][..], End::Open)
        );
        let refused = verdict(&[HEAD, PONG, OVER]);
        assert!(refused.taken.is_empty());
        assert!(matches!(refused.end, End::Refused(_)));
        let shut = "source_return_path_thread_shut 0x2\n";
        let ended = verdict(&[HEAD, PONG, AGAIN, shut, OVER]);
        assert_eq!(ended.taken, [Accepted::Pong(31), Accepted::Shut(2)]);
        assert_eq!(ended.end, End::Shut);
    }

    #[test]
    fn parses_requests_with_any_block_name() {
        let named = "12@34.5:migrate_handle_rp_req_pages in a: start: b at 0x0 len 0x1000\n\
                     12@34.5:ram_save_queue_pages a: start: b: start: 0x2000 len: 0x1000\n";
        let plain = "migrate_handle_rp_req_pages in (null) at 0x0 len 0x1000\n\
                     ram_save_queue_pages a: start: b: start: 0x0 len: 0x0\n";
        let verdict = verdict(&[HEAD, named, AGAIN, plain, AGAIN]);
        let request = |named, start, len| Accepted::Request {
            named,
            block: b"a: start: b".into(),
            start,
            len,
        };
        assert_eq!(
            verdict.taken,
            [request(true, 0x2000, 0x1000), request(false, 0, 0)]
        );
    }
}
