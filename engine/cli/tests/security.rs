//! SECURITY.md names tests, constants and options that exist.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn document() -> String {
    fs::read_to_string(top().join("SECURITY.md")).expect("SECURITY.md is there")
}

/// The Rust sources below a folder.
fn sources(folder: &Path, all: &mut String) {
    for entry in fs::read_dir(folder).expect("folder is readable").flatten() {
        let path = entry.path();
        if path.is_dir() && entry.file_name() != "target" {
            sources(&path, all);
        } else if path.extension().is_some_and(|end| end == "rs") {
            all.push_str(&fs::read_to_string(&path).expect("source is UTF-8"));
        }
    }
}

fn tree() -> String {
    let mut all = String::new();
    for folder in ["spec", "codec", "engine", "proptests", "fuzz"] {
        sources(&top().join(folder), &mut all);
    }
    all
}

/// The rows of tables whose last column is `Test`, as cells.
fn limits(document: &str) -> Vec<Vec<&str>> {
    let mut rows = Vec::new();
    let mut is_inside = false;
    for line in document.lines() {
        if !line.starts_with('|') {
            is_inside = false;
        } else if line.ends_with("| Test |") {
            is_inside = true;
        } else if is_inside && !line.starts_with("|---") {
            rows.push(line.trim_matches('|').split(" | ").collect());
        }
    }
    rows
}

/// The names between backticks.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

#[test]
fn every_test_that_security_md_names_exists() {
    let (document, tree) = (document(), tree());
    let rows = limits(&document);
    let tests: Vec<_> = rows
        .iter()
        .filter_map(|row| row.last())
        .flat_map(|cell| quoted(cell))
        .collect();
    assert!(tests.len() > 20, "{tests:?}");
    for name in tests {
        // Benchmarks are modules.
        let items = [format!("fn {name}("), format!("mod {name};")];
        let is_there = items.iter().any(|item| tree.contains(item));
        assert!(is_there, "SECURITY.md names {name}, which is no test");
    }
}

#[test]
fn every_constant_that_security_md_names_exists() {
    let (document, tree) = (document(), tree());
    let rows = limits(&document);
    let names = rows.iter().flatten().flat_map(|cell| quoted(cell));
    let last = names.map(|name| name.rsplit("::").next().unwrap_or(name));
    let is_constant = |name: &&str| {
        let mut bytes = name.bytes();
        bytes.all(|byte| byte.is_ascii_uppercase() || byte == b'_')
    };
    let constants: Vec<_> = last.filter(is_constant).collect();
    assert!(constants.len() > 5, "{constants:?}");
    for name in constants {
        let is_there = tree.contains(&format!("const {name}:"));
        assert!(is_there, "SECURITY.md names {name}, which is no constant");
    }
}

/// Every help text of the command.
fn help() -> String {
    let commands = [
        "", "decode", "demo", "doctor", "import", "receive", "serve", "verify",
    ];
    let texts = commands.iter().map(|command| {
        let args = [command, "--help"]
            .into_iter()
            .filter(|arg| !arg.is_empty());
        let mut retpath = Command::new(env!("CARGO_BIN_EXE_retpath"));
        let output = retpath.args(args).output().expect("the program starts");
        assert!(output.status.success(), "{command}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    });
    texts.collect()
}

#[test]
fn every_option_that_security_md_names_exists() {
    let (document, help) = (document(), help());
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let words = |text: &str| -> Vec<String> {
        let words = text.split(|c| !is_part(c));
        let options = words.filter(|word| word.starts_with("--"));
        let named = options.filter(|word| word.trim_matches('-').len() > 1);
        named.map(str::to_owned).collect()
    };
    let (named, known) = (words(&document), words(&help));
    assert!(named.len() > 5, "{named:?}");
    for option in named {
        // What cargo gets.
        if ["--release", "--test", "--ignored", "--nocapture"].contains(&option.as_str()) {
            continue;
        }
        assert!(known.contains(&option), "no command has {option}");
    }
}
