//! One `retpath serve` and many clones of its image.

use std::fs;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use retpath_engine::socket::Address;
use retpath_support::SOON;
use retpath_support::clones::{Footprint, Touches, receive_clone};
use retpath_support::program::Program;
use retpath_support::small_image::{RAM, make};

const CLONES: usize = 16;

/// Descriptors that do not depend on the number of clones.
const DESCRIPTORS: usize = 16;

fn text(path: &Path) -> &str {
    path.to_str().expect("paths of tests are text")
}

/// Serves 16 clones; `more` are further arguments. Looks at the process while all guests run.
fn serve(more: &[&str]) {
    let folder = tempfile::tempdir().expect("temporary folder can be created");
    let image = make(folder.path(), "pc-i440fx-7.2");
    let socket = |at: usize| folder.path().join(at.to_string());
    let uris: Vec<String> = (0..CLONES)
        .map(|at| format!("unix:{}", socket(at).display()))
        .collect();
    let (runs, running) = mpsc::channel();
    let clones: Vec<_> = (0u64..)
        .zip(&uris)
        .map(|(seed, uri)| {
            let address: Address = uri.parse().expect("valid address");
            let mut listener = address.listen(false).expect("address is free");
            let runs = runs.clone();
            let (go, wait) = mpsc::channel::<()>();
            let pause = Duration::from_micros(500);
            let touches = Touches { seed, pause };
            let clone = thread::spawn(move || {
                receive_clone(&mut listener, Some(touches), 0, &mut || {
                    runs.send(()).expect("the test waits");
                    wait.recv().expect("the test lets it go on");
                })
            });
            (clone, go)
        })
        .collect();
    let mut args = vec!["serve", "--image", text(&image)];
    args.extend(uris.iter().flat_map(|uri| ["--connect", uri]));
    args.extend(more);
    let mut served = Program::retpath(&args);
    for _ in 0..CLONES {
        let started = running.recv_timeout(SOON);
        started.unwrap_or_else(|error| panic!("a guest does not run: {error}\n{served}"));
    }
    let used = Footprint::of(served.id()).expect("serve runs as long as a clone is incomplete");
    let (clones, go): (Vec<_>, Vec<_>) = clones.into_iter().unzip();
    for go in go {
        go.send(()).expect("the clone waits");
    }
    served.wait_success(SOON);

    assert_eq!(used.threads, CLONES as u64 + 1, "one thread for each clone");
    let descriptors = CLONES * 2 + DESCRIPTORS;
    assert!(
        used.descriptors <= descriptors as u64,
        "more than two descriptors for each clone: {used:?}"
    );
    let want = [RAM, "ram-001-vga.vram.raw"]
        .map(|file| fs::read(image.join(file)).expect("a block's file"));
    for clone in clones {
        let memory = clone.join().expect("the migration completes").memory;
        for (memory, want) in memory.iter().zip(&want) {
            let mut got = vec![0; want.len()];
            memory.read(0, &mut got).expect("range lies in the block");
            assert!(got == *want, "a block differs");
        }
    }
}

#[test]
fn serves_16_clones_with_a_thread_and_two_descriptors_each() {
    serve(&[]);
}

#[test]
fn serves_16_clones_with_a_bandwidth_limit() {
    serve(&["--bandwidth", "16M"]);
}
