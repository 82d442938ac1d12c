//! `retpath completions` and `retpath man`: files for packages and shells, generated from the
//! command line's definition.

use std::fs;
use std::path::PathBuf;

use clap::Command;
use clap_complete::Shell;
use retpath_image::shown;

use crate::exit::{self, Error, Exit};
use crate::{lost_report, output};

const COMPLETIONS: &str = "  \
  retpath completions bash >/etc/bash_completion.d/retpath
  retpath completions zsh >~/.zfunc/_retpath
  retpath completions fish >~/.config/fish/completions/retpath.fish";

fn completions_help() -> String {
    exit::help(
        COMPLETIONS,
        "the completions were written",
        "standard output cannot be written",
    )
}

/// Command line of `retpath completions`.
#[derive(Debug, clap::Args)]
#[command(after_help = completions_help())]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL", value_enum)]
    shell: Shell,
}

fn man_help() -> String {
    exit::help(
        "  retpath man /usr/local/share/man/man1",
        "the pages were written",
        "a page cannot be written",
    )
}

/// Command line of `retpath man`.
#[derive(Debug, clap::Args)]
#[command(after_help = man_help())]
pub(crate) struct ManArgs {
    /// The folder; made if it does not exist
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

/// Prints the completions of a shell.
pub(crate) fn completions(args: &CompletionsArgs, mut command: Command) -> Result<Exit, Error> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut command, "retpath", &mut text);
    output::print(&String::from_utf8_lossy(&text)).map_err(|error| lost_report(&error))?;
    Ok(Exit::Success)
}

/// Writes a page for `retpath` and one for each subcommand.
pub(crate) fn man(args: &ManArgs, command: Command) -> Result<Exit, Error> {
    let folder = &args.folder;
    fs::create_dir_all(folder)
        .and_then(|()| clap_mangen::generate_to(command, folder))
        .map_err(|error| format!("cannot write manual pages to {}: {error}", shown(folder)))?;
    Ok(Exit::Success)
}
