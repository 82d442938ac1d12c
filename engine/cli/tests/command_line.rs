//! The command line: exit codes, help, completions, manual pages, colors and the log.

use std::fs;
use std::process::{Command, Output, Stdio};

const COMMANDS: [&str; 9] = [
    "decode",
    "demo",
    "doctor",
    "import",
    "receive",
    "serve",
    "verify",
    "completions",
    "man",
];

/// Runs `retpath` with an empty standard input.
fn run(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_retpath"));
    command.args(args).stdin(Stdio::null());
    command.output().expect("retpath runs")
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("text")
}

#[test]
fn fails_with_code_1_and_one_line_when_an_input_does_not_exist() {
    let folder = tempfile::tempdir().expect("a folder");
    let missing = folder.path().join("missing");
    let missing = missing.to_str().expect("text");
    let file = folder.path().join("file");
    fs::write(&file, "").expect("room");
    let below_a_file = file.join("folder");
    let below_a_file = below_a_file.to_str().expect("text");
    let listen = format!("unix:{below_a_file}");
    for args in [
        &["decode", missing][..],
        &["import", missing, "--out", below_a_file],
        &["receive", "--listen", &listen, "--out", below_a_file],
        &["receive", "--continue", missing],
        &["serve", "--image", missing, "--connect", "unix:/nowhere"],
        &["verify", missing],
        &["man", below_a_file],
    ] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {output:?}");
        let line = err(&output);
        assert_eq!(line.lines().count(), 1, "{args:?}: {line}");
        let begins = format!("retpath {}: ", args[0]);
        assert!(line.starts_with(&begins), "{args:?}: {line}");
    }
}

#[test]
fn refuses_wrong_usage_with_code_2() {
    for command in COMMANDS {
        let output = run(&[command, "--no-such-option"]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert_eq!(out(&output), "");
        assert!(err(&output).contains("Usage: retpath"), "{output:?}");
    }
    for args in [
        &["demo", "--size", "1"][..],
        &["serve", "--image=x", "--connect=unix:y", "--connect=unix:y"],
    ] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(err(&output).contains("try '--help'"), "{output:?}");
    }
}

#[test]
fn suggests_the_command_that_was_meant() {
    let output = run(&["decod"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(err(&output).contains("'decode'"), "{output:?}");
}

#[test]
fn lists_examples_and_exit_codes_in_every_help() {
    for command in COMMANDS {
        for flag in ["-h", "--help"] {
            let help = out(&run(&[command, flag]));
            let examples = help
                .find("Examples:\n  retpath ")
                .or(help.find("Examples:\n  zcat "));
            assert!(examples.is_some(), "{command} {flag}: {help}");
            for code in ["\nExit codes:\n  0  ", "\n  1  ", "\n  2  wrong usage"] {
                assert!(help.contains(code), "{command} {flag}: {help}");
            }
        }
    }
}

#[test]
fn wraps_help_to_the_width_of_the_terminal() {
    for width in ["60", "90"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_retpath"));
        command.args(["receive", "--help"]).env("COLUMNS", width);
        let help = out(&command.output().expect("retpath runs"));
        let most = width.parse().expect("a number");
        // Examples are not wrapped: they are single words to a shell.
        let prose = help
            .lines()
            .filter(|line| !line.contains("retpath receive"));
        let longest = prose.map(|line| line.chars().count()).max();
        assert!(longest <= Some(most), "{longest:?} of {width}: {help}");
        assert!(longest > Some(most - 20), "{longest:?} of {width}");
    }
}

#[test]
fn prints_completions_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = run(&["completions", shell]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let text = out(&output);
        for word in COMMANDS
            .iter()
            .chain(&["allow-plaintext", "recover-timeout"])
        {
            assert!(text.contains(word), "{shell}: {word}");
        }
    }
}

#[test]
fn writes_a_manual_page_for_every_command() {
    let folder = tempfile::tempdir().expect("a folder");
    let pages = folder.path().join("new/man1");
    let output = run(&["man", pages.to_str().expect("text")]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(pages.join("retpath.1").exists());
    for command in COMMANDS {
        let page = fs::read_to_string(pages.join(format!("retpath-{command}.1")));
        let page = page.expect("a page");
        assert!(page.contains(".SH SYNOPSIS"), "{page}");
        assert!(page.contains("Exit codes:"), "{page}");
    }
}

#[test]
fn colors_help_and_errors_only_when_asked() {
    for args in [&["--help"][..], &["decod"], &["decode", "--help"]] {
        let plain = run(args);
        let always = run(&[args, &["--color", "always"]].concat());
        let never = run(&[args, &["--color=never"]].concat());
        let has_color = |output: &Output| (out(output) + &err(output)).contains('\u{1b}');
        assert!(has_color(&always), "{always:?}");
        assert!(!has_color(&plain) && !has_color(&never), "{args:?}");
    }
}

#[test]
fn logs_only_when_asked() {
    let demo = ["demo", "--size", "64K"];
    assert_eq!(err(&run(&demo)), "");
    assert_eq!(err(&run(&[&demo[..], &["--log", "off"]].concat())), "");
    let log = |more: &[&str]| {
        let output = run(&[&demo[..], more].concat());
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        err(&output)
    };
    let info = log(&["-v"]);
    assert!(info.contains(" INFO  retpath::demo::"), "{info}");
    assert!(!info.contains(" DEBUG "), "{info}");
    let debug = log(&["--log", "debug"]);
    assert!(debug.contains(" DEBUG retpath::demo::"), "{debug}");
    assert!(log(&["-vv"]).contains(" DEBUG "));
    // The option counts, not the number of -v.
    assert_eq!(log(&["-vvv", "--log=error"]), "");
}
