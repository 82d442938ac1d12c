//! The `retpath` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    retpath_cli::main()
}
