//! A link that breaks between `retpath serve` and `retpath receive`: both report it, what to do, and
//! the recovery, also where standard error is not a terminal.

use std::path::Path;

use retpath_image::Image;
use retpath_support::SOON;
use retpath_support::program::Program;
use retpath_support::qemu::Relay;
use retpath_support::small_image::make;

/// The answers to every PING: `serve` knows that the devices are loaded.
const PONGS: u64 = 5 * 8;

fn text(path: &Path) -> &str {
    path.to_str().expect("paths of tests are text")
}

#[test]
fn both_sides_report_a_broken_link_and_the_recovery() {
    let folder = tempfile::tempdir().expect("a folder");
    let image = make(folder.path(), "pc-i440fx-7.2");
    let (socket, out) = (folder.path().join("in"), folder.path().join("copy"));
    let uri = format!("unix:{}", socket.display());
    let args = ["receive", "--listen", &uri, "--out", text(&out)];
    let mut receiver = Program::retpath(&args);
    receiver.wait_error(SOON, |line| line.contains("listening on").then_some(()));
    let relay = Relay::new(&socket);
    let there = relay.uri();
    let args = ["serve", "--image", text(&image), "--connect", &there];
    let mut served = Program::retpath(&[&args[..], &["--bandwidth", "512K"]].concat());
    relay.wait(SOON, "PONGs", |links| {
        links.iter().any(|link| link.back >= PONGS).then_some(())
    });
    relay.cut();
    served.wait_success(SOON);
    receiver.wait_success(SOON);
    Image::open(&out).expect("a whole image");

    let errors = receiver.errors();
    let line = |what: &str| errors.lines().position(|line| line.contains(what));
    let broken = line(&format!("`migrate -r {uri}`"));
    assert!(broken.is_some(), "{errors}");
    assert!(errors.contains("up to 300 s"), "{errors}");
    assert!(line("recovered") > broken, "{errors}");
    let errors = served.errors();
    let line = |what: &str| errors.lines().position(|line| line.contains(what));
    let broken = line(&format!("`migrate_recover {there}`"));
    assert!(broken.is_some(), "{errors}");
    assert!(line("recovered") > broken, "{errors}");
}
