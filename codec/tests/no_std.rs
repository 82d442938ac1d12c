//! Without features the codec needs neither std nor an allocator.

use std::path::Path;
use std::process::Command;

/// Builds `codec/tests/no_std` as a static library with these features, and returns
/// the errors of the compiler.
fn link(features: &str) -> Result<(), String> {
    let codec = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("no_std");
    let mut cargo = Command::new(env!("CARGO"));
    // Flags of this build, such as those for coverage, may require std.
    for variable in [
        "RUSTFLAGS",
        "CARGO_ENCODED_RUSTFLAGS",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "CARGO_BUILD_TARGET",
    ] {
        cargo.env_remove(variable);
    }
    let output = cargo
        .args(["rustc", "--locked", "--package", "retpath-no-std", "--lib"])
        .args(["--crate-type", "staticlib", "--features", features])
        .args(["--config", "profile.dev.panic='abort'"])
        .arg("--manifest-path")
        .arg(codec.join("tests/no_std/Cargo.toml"))
        .arg("--target-dir")
        .arg(target)
        .args(["--", "--cfg", "proof"])
        .output()
        .expect("cargo runs this test, so it can be run");
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn needs_neither_std_nor_an_allocator() {
    link("").expect("the parser needs nothing");
    // With these features the same build fails.
    let alloc = link("alloc").expect_err("there is no allocator");
    assert!(alloc.contains("no global memory allocator"), "{alloc}");
    let std = link("encode").expect_err("std brings its own panic handler");
    assert!(std.contains("panic_impl"), "{std}");
}
