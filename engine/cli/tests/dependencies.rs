//! The tables of dependencies in CONTRIBUTING.md, compared with the manifests.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// What cargo says about a workspace.
fn metadata(manifest: &str, more: &[&str]) -> Value {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args([
        "metadata",
        "--format-version",
        "1",
        "--offline",
        "--manifest-path",
    ]);
    let output = cargo.arg(top().join(manifest)).args(more).output();
    let output = output.expect("cargo starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{manifest}: {errors}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}

/// Names of the dependencies from registries: those of published crates, and all others.
fn direct() -> [BTreeSet<String>; 2] {
    let mut all = BTreeSet::new();
    let mut shipped = BTreeSet::new();
    for manifest in [
        "Cargo.toml",
        "fuzz/Cargo.toml",
        "codec/bench/plain/Cargo.toml",
    ] {
        for package in list(&metadata(manifest, &["--no-deps"]), "packages") {
            let is_published = package["publish"].is_null();
            for dependency in list(package, "dependencies") {
                if dependency["path"].is_string() {
                    continue;
                }
                let name = text(dependency, "name");
                if is_published && dependency["kind"].is_null() {
                    shipped.insert(name.clone());
                }
                all.insert(name);
            }
        }
    }
    let others = all.difference(&shipped).cloned().collect();
    [shipped, others]
}

/// The two tables: name and license of each line.
fn tables() -> [BTreeMap<String, String>; 2] {
    let document = fs::read_to_string(top().join("CONTRIBUTING.md")).expect("it exists");
    let chapter = document
        .split("\n## Dependencies\n")
        .nth(1)
        .expect("the chapter");
    let mut tables = chapter.split("|---|---|---|---|\n").skip(1).map(|table| {
        let lines = table.lines().take_while(|line| line.starts_with('|'));
        let row = |line: &str| -> (String, String) {
            let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
            let [name, purpose, reason, license] = cells[..] else {
                panic!("not four cells: {line}");
            };
            assert!(!purpose.is_empty() && !reason.is_empty(), "{line}");
            (name.to_owned(), license.to_owned())
        };
        lines.map(row).collect()
    });
    [(); 2].map(|()| tables.next().expect("two tables"))
}

#[test]
fn every_dependency_has_a_line() {
    for (manifests, table) in direct().into_iter().zip(tables()) {
        let lines: BTreeSet<_> = table.into_keys().collect();
        assert_eq!(
            manifests, lines,
            "left: the manifests; right: CONTRIBUTING.md"
        );
    }
}

#[test]
fn every_line_has_the_license_of_the_crate() {
    let metadata = metadata("Cargo.toml", &["--locked"]);
    let packages = list(&metadata, "packages").iter();
    // Old manifests separate alternatives by a slash.
    let license = |package| text(package, "license").replace('/', " OR ");
    let licenses: BTreeMap<_, _> = packages
        .map(|package| (text(package, "name"), license(package)))
        .collect();
    let mut compared = 0;
    for (name, license) in tables().into_iter().flatten() {
        // The fuzz targets have a lock file of their own.
        let Some(expected) = licenses.get(&name) else {
            assert_eq!(name, "libfuzzer-sys");
            continue;
        };
        assert_eq!(&license, expected, "{name}");
        compared += 1;
    }
    assert!(compared > 30, "{compared}");
}
