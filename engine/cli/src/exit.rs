//! How a command ends: the exit codes, alike in every command.

use std::process::ExitCode;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// The work is done.
    Success,
    /// The work failed, or found what it looks for: standard error or the report says what.
    Failure,
    /// The command line is wrong; nothing was done.
    Usage,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Success => 0,
            Exit::Failure => 1,
            Exit::Usage => 2,
        })
    }
}

/// Why a command did not do its work. Becomes a message on standard error and an exit code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Error {
    /// The work failed.
    Failed(String),
    /// Options contradict each other.
    Usage(String),
}

impl From<String> for Error {
    fn from(message: String) -> Self {
        Self::Failed(message)
    }
}

/// The end of a command's help: examples, then what each exit code means for this command.
pub(crate) fn help(examples: &str, success: &str, failure: &str) -> String {
    format!(
        "Examples:\n{examples}\n\nExit codes:\n  0  {success}\n  1  {failure}\n  2  wrong usage; \
         nothing was done"
    )
}
