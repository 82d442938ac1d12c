//! Names and texts from a stream, a manifest, a file system or a command line never control the
//! terminal that a command writes to, or forge a line there.

use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use retpath_support::program::Program;
use retpath_support::small_image::make;
use retpath_support::{SOON, corpus};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Sets a title, colors, a forged line, a C1 control sequence, a right-to-left override, a line
/// separator.
const HOSTILE: &str = "\u{1b}]0;pwn\u{7}\u{1b}[31m\nFAKE LINE\r\u{7f}\u{9b}31m\u{202e}\u{2028}";

/// Text that only a hostile name puts at the start of a line.
const FORGED: &str = "FAKE LINE";

/// Whether a character may control a terminal.
fn is_control(c: char) -> bool {
    let is_bidi = matches!(
        c,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
    );
    c.is_control() || is_bidi || matches!(c, '\u{2066}'..='\u{2069}')
}

/// Asserts that an output holds nothing but printable lines.
#[track_caller]
fn assert_clean(what: &str, output: &[u8]) {
    let text = str::from_utf8(output).unwrap_or_else(|error| panic!("{what}: {error}"));
    let found = text.chars().find(|c| *c != '\n' && is_control(*c));
    assert_eq!(found, None, "{what}: {text:?}");
    let forged = text.lines().find(|line| line.starts_with(FORGED));
    assert_eq!(forged, None, "{what}: {text:?}");
}

/// Removes the colors that the command itself adds. They are among those of [`HOSTILE`], of which
/// the other sequences remain.
fn without_colors(output: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(output).into_owned();
    let colors = (0..40).map(|number| format!("\u{1b}[{number}m"));
    colors
        .fold(text, |text, color| text.replace(&color, ""))
        .into()
}

/// Runs the command; returns what it wrote to both outputs, after a check of every byte.
#[track_caller]
fn run(args: &[OsString]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_retpath"));
    command.args(args).stdin(Stdio::null());
    let Output { stdout, stderr, .. } = command.output().expect("the binary has been built");
    let what = format!("{args:?}");
    let [stdout, stderr] = match args.iter().any(|arg| arg == "--color=always") {
        true => [stdout, stderr].map(|bytes| without_colors(&bytes)),
        false => [stdout, stderr],
    };
    assert_clean(&what, &stdout);
    assert_clean(&what, &stderr);
    assert!(
        !stdout.is_empty() || !stderr.is_empty(),
        "{what}: no output"
    );
    [stderr, stdout]
        .map(|bytes| String::from_utf8(bytes).expect("text"))
        .concat()
}

/// Arguments: words, then paths.
fn args(words: &str, paths: &[&Path]) -> Vec<OsString> {
    let words = words.split_whitespace().map(OsString::from);
    words.chain(paths.iter().map(OsString::from)).collect()
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

/// A path in the folder with a hostile name.
fn hostile(folder: &TempDir, name: &str) -> PathBuf {
    // Short enough for the address of a socket.
    folder.path().join(format!("{HOSTILE}{name}"))
}

fn stream() -> PathBuf {
    corpus("regressions/terminal-escapes.fwd")
}

#[test]
fn commands_print_no_control_characters_of_a_stream() {
    let folder = folder();
    let bytes = fs::read(stream()).expect("the corpus has it");
    // Whole, cut in every part, and with a defect behind the names.
    let mut inputs = vec![bytes.clone()];
    inputs.extend([20, 80, 129, 200, 4300].map(|len| bytes[..len].to_vec()));
    inputs.extend([46, 111, 167, 4266, 4279].map(|at| {
        let mut bytes = bytes.clone();
        bytes[at..at + 4].fill(0xff);
        bytes
    }));
    let mut shown = 0;
    for (number, input) in inputs.iter().enumerate() {
        let file = hostile(&folder, &format!("{number}.fwd"));
        fs::write(&file, input).expect("a new file");
        for options in [
            "decode",
            "decode --summary",
            "decode --format json",
            "decode --format json --summary",
            "--color=always decode",
            "decode --kind preempt",
            "decode --kind return-path",
            "-vvv decode",
        ] {
            let said = run(&args(options, &[&file]));
            shown += usize::from(said.contains("\\u{1b}]0;pwn") || said.contains("\\u001b]0;pwn"));
        }
        for options in ["-vvv import", "import --format json"] {
            let out = hostile(&folder, &format!("vm-{number}-{}", options.len()));
            let imported = args(options, &[&file, Path::new("--out"), &out]);
            run(&imported);
            // The name is taken, or a leftover is mentioned.
            run(&imported);
        }
    }
    assert!(shown > 40, "the names are hardly shown: {shown}");
}

#[test]
fn receive_prints_no_control_characters_of_a_stream() {
    let bytes = fs::read(stream()).expect("the corpus has it");
    for (format, len) in [("text", bytes.len()), ("json", bytes.len()), ("text", 4300)] {
        let folder = folder();
        let (socket, out) = (hostile(&folder, "s"), hostile(&folder, "vm"));
        let mut uri = OsString::from("unix:");
        uri.push(&socket);
        let mut command = Command::new(env!("CARGO_BIN_EXE_retpath"));
        command.args(args(
            "-vvv receive --accept-unproven-end --format",
            &[Path::new(format)],
        ));
        command.arg("--out").arg(&out).arg("--listen").arg(&uri);
        let mut receiver = Program::spawn(command);
        receiver.wait_error(SOON, |line| line.contains("listening on").then_some(()));
        let mut source = UnixStream::connect(&socket).expect("it listens");
        source.write_all(&bytes[..len]).expect("it reads");
        drop(source);
        let status = receiver.wait(SOON);
        assert_eq!(status.success(), len == bytes.len(), "{receiver}");
        assert_clean("output", receiver.output().as_bytes());
        assert_clean("errors", receiver.errors().as_bytes());
        assert!(receiver.errors().contains("\\u{1b}]0;pwn"), "{receiver}");
    }
}

/// What a change makes hostile, and the change.
type Change<'a> = (&'a str, &'a dyn Fn(&mut Value));

/// Changes the manifest of an image.
fn change(image: &Path, change: impl FnOnce(&mut Value)) {
    let path = image.join("manifest.json");
    let text = fs::read(&path).expect("an image");
    let mut manifest = serde_json::from_slice(&text).expect("JSON");
    change(&mut manifest);
    fs::write(&path, manifest.to_string()).expect("ours");
}

#[test]
fn commands_print_no_control_characters_of_a_manifest() {
    let uri = |folder: &TempDir| {
        let mut uri = OsString::from("unix:");
        uri.push(hostile(folder, "none"));
        PathBuf::from(uri)
    };
    let printable: String = HOSTILE.chars().filter(|c| !c.is_control()).collect();
    let changes: [Change<'_>; 9] = [
        ("machine", &|all| all["machine"] = HOSTILE.into()),
        ("no digests", &|all| {
            all["machine"] = HOSTILE.into();
            all["digests"] = Value::Null;
        }),
        ("block", &|all| all["blocks"][0]["name"] = HOSTILE.into()),
        ("file", &|all| all["blocks"][0]["file"] = HOSTILE.into()),
        ("file that is not there", &|all| {
            all["blocks"][0]["file"] = printable.clone().into();
        }),
        ("page size of a block", &|all| {
            all["blocks"][0]["name"] = HOSTILE.into();
            all["blocks"][0]["page_size"] = 5.into();
        }),
        ("digest's file", &|all| {
            all["digests"]["blocks"][0]["file"] = HOSTILE.into()
        }),
        ("end", &|all| all["end"] = HOSTILE.into()),
        ("member", &|all| *all = json!({ HOSTILE: HOSTILE })),
    ];
    for (what, apply) in changes {
        let folder = folder();
        let image = hostile(&folder, "vm");
        fs::rename(make(folder.path(), HOSTILE), &image).expect("both ours");
        change(&image, apply);
        let to = uri(&folder);
        for options in [
            "-vvv serve --wait 0",
            "serve --wait 0 --format json",
            "serve --wait 0 --no-verify --preempt",
            "serve --wait 0 --resume none",
        ] {
            let paths = [Path::new("--image"), &image, Path::new("--connect"), &to];
            let said = run(&args(options, &paths));
            assert!(
                said.contains("\\u{1b}]0;pwn") || said.contains("\\u001b]0;pwn"),
                "{what}"
            );
        }
        for options in ["-vvv verify", "verify --format json"] {
            run(&args(options, &[&image]));
        }
        let paths = [Path::new("--continue"), &image];
        run(&args("receive", &paths));
    }
}

#[test]
fn commands_print_no_control_characters_of_their_arguments() {
    let words = [
        "",
        "decode",
        "demo --size",
        "demo",
        "import",
        "receive",
        "serve",
        "verify",
    ];
    for words in words
        .iter()
        .chain(&["completions", "--log", "--color=always decode"])
    {
        let mut args = args(words, &[]);
        for _ in 0..3 {
            args.push(HOSTILE.into());
            run(&args);
        }
    }
    let folder = folder();
    let file = hostile(&folder, "file");
    fs::write(&file, "").expect("a new file");
    run(&args("man", &[&file]));
    for address in ["tcp:", "tcp:a:", "unix:", "fd:", ""] {
        let address = PathBuf::from(format!("{address}{HOSTILE}"));
        run(&args(
            "receive --out",
            &[&file, Path::new("--listen"), &address],
        ));
        run(&args(
            "serve --wait 0 --image",
            &[&file, Path::new("--connect"), &address],
        ));
    }
    for name in ["incomplete-1", "incomplete-x"] {
        let mut left = file.clone().into_os_string();
        left.push(format!(".{name}"));
        fs::create_dir(&left).expect("a new folder");
    }
    run(&args("import /nonexistent --out", &[&file]));
    run(&args("-vvv doctor", &[]));
    run(&args("-vvv doctor --format json", &[]));
}
