//! `retpath doctor` as a user meets it: its reports and exit codes.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use retpath_support::program::{NOBODY, as_ordinary_user};
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_retpath");

fn json(output: &Output) -> Value {
    assert!(
        output.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(
        output.stdout.iter().filter(|&&byte| byte == b'\n').count(),
        1,
        "one line"
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

fn doctor(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(["doctor", "--format", "json"]);
    command
}

#[test]
fn prints_one_object_that_agrees_with_the_exit_code() {
    let output = doctor(Path::new(PROGRAM)).output().unwrap();
    let report = json(&output);
    let routes = report["routes"].as_array().unwrap();
    let names: Vec<_> = routes
        .iter()
        .map(|route| route["route"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["device", "syscall", "user-mode-only"]);
    let first = routes.iter().find(|route| route["works"] == true);
    assert_eq!(
        report["route"],
        first.map_or(Value::Null, |route| route["route"].clone())
    );
    for route in routes {
        assert_ne!(
            route["works"].as_bool().unwrap(),
            route["why"].is_string(),
            "{route}"
        );
    }
    let code = i32::from(report["reach"] != "all");
    assert_eq!(output.status.code(), Some(code));
    assert_eq!(report["reach"] == "nothing", first.is_none());
    let expected = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert_eq!(report["kernel"], expected.trim_end());
    assert!(report["features"]["MISSING_SHMEM"].is_boolean() || first.is_none());
    for lack in report["lacks"].as_array().unwrap() {
        assert!(
            lack["what"].is_string() && lack["fix"].is_string(),
            "{lack}"
        );
    }
}

#[test]
fn reports_the_same_to_people_and_programs() {
    let report = json(&doctor(Path::new(PROGRAM)).output().unwrap());
    let output = Command::new(PROGRAM).arg("doctor").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    for lack in report["lacks"].as_array().unwrap() {
        assert!(
            text.contains(lack["fix"].as_str().unwrap()),
            "{lack} is missing in {text}"
        );
    }
    for name in report["features"].as_object().unwrap().keys() {
        assert!(text.contains(name), "{name} is missing in {text}");
    }
}

#[test]
fn serves_faults_of_user_code_for_an_ordinary_user() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = as_ordinary_user(folder.path());
    let output = command
        .args(["doctor", "--format", "json"])
        .output()
        .unwrap();

    let report = json(&output);
    let code = i32::from(report["reach"] != "all");
    assert_eq!(output.status.code(), Some(code));
    assert_eq!(report["routes"][2]["works"], true, "{report}");
    let root = rustix::process::geteuid().is_root();
    assert!(!root || report["uid"] == NOBODY);
    // Each of the other routes works, or there is a way to make it work.
    let fixes = report["lacks"].to_string();
    match report["reach"].as_str().unwrap() {
        "all" => assert!(!fixes.contains("userfaultfd"), "{fixes}"),
        reach => {
            assert_eq!(reach, "user-only");
            assert!(
                fixes.contains("sysctl") || fixes.contains("docker"),
                "{fixes}"
            );
        }
    }
}

#[test]
fn ends_quietly_when_standard_output_is_closed() {
    let mut child = Command::new(PROGRAM)
        .arg("doctor")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(
        output.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.code().is_some(), "{}", output.status);
}

#[test]
fn refuses_wrong_usage_with_code_2() {
    for args in [
        &[][..],
        &["doctor", "--format", "xml"],
        &["doctor", "now"],
        &["nurse"],
    ] {
        let output = Command::new(PROGRAM).args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(
            output.stdout.is_empty() && !output.stderr.is_empty(),
            "{args:?}"
        );
    }
}
