//! A small QMP client: sends one command at a time and queues events in order.
//!
//! Every wait has a limit. A refused command, a lost connection and a missing answer are errors, not
//! panics.

use std::collections::VecDeque;
use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::SOON;

/// Why a command failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QmpError {
    /// QEMU refused the command with this description.
    Refused(String),
    /// The connection broke, most likely because QEMU exited.
    Gone(String),
    /// No answer arrived within this time.
    Late(Duration),
}

impl fmt::Display for QmpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(why) => write!(f, "QEMU refuses: {why}"),
            Self::Gone(why) => write!(f, "no connection to QEMU: {why}"),
            Self::Late(limit) => write!(f, "no answer from QEMU within {limit:?}"),
        }
    }
}

/// A QMP session after the greeting.
pub struct Qmp {
    stream: UnixStream,
    pending: Vec<u8>,
    /// Unread events, oldest first.
    pub events: VecDeque<Value>,
}

impl Qmp {
    /// Negotiates capabilities on a fresh connection.
    pub fn new(stream: UnixStream) -> Result<Self, QmpError> {
        let mut qmp = Self {
            stream,
            pending: Vec::new(),
            events: VecDeque::new(),
        };
        let end = Instant::now() + SOON;
        match qmp.message(end)? {
            Some(greeting) if greeting.get("QMP").is_some() => {}
            Some(other) => return Err(QmpError::Gone(format!("unexpected greeting {other}"))),
            None => return Err(QmpError::Late(SOON)),
        }
        qmp.execute("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// Runs one command and returns its result.
    pub fn execute(&mut self, command: &str, arguments: Value) -> Result<Value, QmpError> {
        let message = json!({ "execute": command, "arguments": arguments });
        self.stream
            .write_all(message.to_string().as_bytes())
            .map_err(|error| QmpError::Gone(error.to_string()))?;
        let end = Instant::now() + SOON;
        loop {
            let Some(mut answer) = self.message(end)? else {
                return Err(QmpError::Late(SOON));
            };
            if answer.get("event").is_some() {
                self.events.push_back(answer);
            } else if let Some(error) = answer.get("error") {
                let why = error["desc"].as_str().unwrap_or("no description");
                return Err(QmpError::Refused(format!("{command}: {why}")));
            } else {
                return Ok(answer["return"].take());
            }
        }
    }

    /// Waits up to `within` for an event, queues it, and returns whether one arrived.
    pub fn poll(&mut self, within: Duration) -> Result<bool, QmpError> {
        let event = self.message(Instant::now() + within)?;
        let came = event.is_some();
        self.events.extend(event);
        Ok(came)
    }

    /// Reads the next message, or returns `None` at `end`.
    fn message(&mut self, end: Instant) -> Result<Option<Value>, QmpError> {
        loop {
            if let Some(len) = self.pending.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.pending.drain(..=len).collect();
                let message = serde_json::from_slice(&line);
                return message
                    .map(Some)
                    .map_err(|error| QmpError::Gone(format!("not JSON: {error}")));
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            let gone = |error: std::io::Error| QmpError::Gone(error.to_string());
            self.stream.set_read_timeout(Some(left)).map_err(gone)?;
            let mut piece = [0; 4096];
            match self.stream.read(&mut piece) {
                Ok(0) => return Err(QmpError::Gone("closed".into())),
                Ok(len) => self.pending.extend_from_slice(&piece[..len]),
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(gone(error)),
            }
        }
    }
}
