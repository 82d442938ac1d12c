//! `retpath serve` with a changed image: no wrong byte is sent, and the advice in the message works.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use retpath_support::SOON;
use retpath_support::harm::{HARMS, do_harm, flip, strip};
use retpath_support::program::Program;
use retpath_support::qemu::Relay;
use retpath_support::qemu::image::report;
use retpath_support::qemu::stream::Ram;
use retpath_support::small_image::{PAGE, PAGES, RAM, make};
use tempfile::TempDir;

/// A bandwidth at which the image takes minutes.
const SLOW: &str = "64K";

fn text(path: &Path) -> &str {
    path.to_str().expect("paths of tests are text")
}

/// An image, and its RAM when it was made.
struct Made {
    folder: TempDir,
    image: PathBuf,
    ram: Vec<u8>,
}

impl Made {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let image = make(folder.path(), "pc-i440fx-7.2");
        let ram = fs::read(image.join(RAM)).expect("a block's file");
        Self { folder, image, ram }
    }

    fn path(&self) -> PathBuf {
        self.image.join(RAM)
    }

    /// Restores the bytes of the existing file.
    fn restore(&self) {
        fs::write(self.path(), &self.ram).expect("ours");
    }

    fn serve(&self, uri: &str, more: &[&str]) -> Program {
        let image = text(&self.image);
        let args = ["serve", "--format", "json", "--image", image];
        Program::retpath(&[&args[..], &["--connect", uri], more].concat())
    }

    fn verify(&self) -> Program {
        Program::retpath(&["verify", text(&self.image)])
    }

    /// The bytes of a page of the first block.
    fn page(&self, number: usize) -> &[u8] {
        &self.ram[number * 4096..][..4096]
    }
}

/// The image's id, as `serve` prints it.
fn id_of(served: &Program) -> String {
    served.wait_error(SOON, |line| {
        line.split_once("has the id ").map(|(_, id)| id.to_owned())
    })
}

/// An image, a `receive` that has a part of it, and a `serve` that is slow to send the rest.
struct Half {
    made: Made,
    out: PathBuf,
    receiver: Program,
    relay: Relay,
    served: Program,
}

impl Half {
    fn start(bandwidth: &str, more: &[&str]) -> Self {
        Self::of(Made::new(), bandwidth, more)
    }

    fn of(made: Made, bandwidth: &str, more: &[&str]) -> Self {
        let path = |name| made.folder.path().join(name);
        let (out, socket) = (path("copy"), path("socket"));
        let uri = format!("unix:{}", socket.display());
        let args = ["receive", "--listen", &uri, "--out", text(&out)];
        let receiver = Program::retpath(&args);
        receiver.wait_error(SOON, |line| line.contains("listening on").then_some(()));
        let relay = Relay::recording(&socket);
        let bandwidth = ["--bandwidth", bandwidth];
        let served = made.serve(&relay.uri(), &[&bandwidth, more].concat());
        relay.wait(SOON, "some pages", |links| {
            links
                .first()
                .filter(|link| link.forward > 64 << 10)
                .cloned()
        });
        Self {
            made,
            out,
            receiver,
            relay,
            served,
        }
    }

    /// Changes the image's file; `serve` can only see the result.
    fn harm(&mut self, harm: fn(&fs::File)) {
        let path = self.made.path();
        self.served.stopped(|| do_harm(&path, harm));
    }

    /// The failure that `serve` reports of its only destination.
    fn failure(&mut self) -> serde_json::Value {
        let status = self.served.wait(SOON);
        assert_eq!(status.code(), Some(1), "{}", self.served);
        report(&self.served)["destinations"][0]["failure"].clone()
    }

    /// Resumes the migration with another `serve`.
    fn resume(&mut self, id: &str) {
        self.relay.wait(SOON, "the end of the last link", |links| {
            links.iter().all(|link| link.closed).then_some(())
        });
        let uri = self.relay.uri();
        self.served = self.made.serve(&uri, &["--resume", id]);
    }

    /// Every page that has been sent is the one that was in the image when it was made.
    fn assert_nothing_wrong_sent(&self) {
        assert_right(&self.relay.ram(&[]), &self.made);
    }

    fn assert_complete(&mut self) {
        self.served.wait_success(SOON);
        self.receiver.wait_success(SOON);
        let got = fs::read(self.out.join(RAM)).expect("a block's file");
        assert!(got == self.made.ram);
    }
}

#[test]
fn resumes_once_a_changed_image_is_restored() {
    for (what, harm) in HARMS {
        let mut half = Half::start(SLOW, &[]);
        let id = id_of(&half.served);
        half.harm(harm);
        let failure = half.failure();
        assert_eq!(failure["guest"], "pages-missing", "{what}: {failure}");
        let why = failure["why"].as_str().unwrap_or_default();
        assert!(why.contains("was changed"), "{what}: {why}");
        assert!(why.contains(RAM), "{what}: {why}");
        let advice = failure["advice"].as_str().unwrap_or_default();
        assert!(!advice.contains("is unchanged"), "{what}: {advice}");
        assert!(advice.contains("retpath verify"), "{what}: {advice}");
        let resume = format!("--resume {id}");
        assert!(advice.contains(&resume), "{what}: {advice}");
        half.assert_nothing_wrong_sent();

        // Without restoring the image, --resume fails, and nothing is lost.
        half.resume(&id);
        assert_eq!(half.served.wait(SOON).code(), Some(1), "{what}");
        half.assert_nothing_wrong_sent();
        assert_eq!(half.made.verify().wait(SOON).code(), Some(1), "{what}");

        half.made.restore();
        half.made.verify().wait_success(SOON);
        half.resume(&id);
        half.assert_complete();
    }
}

#[test]
fn refuses_pages_that_changed_at_rest() {
    let made = Made::new();
    // Far after the pages that are sent by then.
    flip(&made.path(), &[500, 766]);
    let mut half = Half::of(made, "0", &[]);
    let failure = half.failure();
    let why = failure["why"].as_str().unwrap_or_default();
    assert!(why.contains("0x1f4000"), "{why}");
    assert!(why.contains("do not match their digest"), "{why}");
    assert_eq!(failure["guest"], "pages-missing", "{failure}");
    half.assert_nothing_wrong_sent();
    let id = id_of(&half.served);
    half.made.restore();
    half.resume(&id);
    half.assert_complete();
}

#[test]
fn serves_an_image_that_is_deleted_meanwhile() {
    let mut half = Half::start("4M", &[]);
    fs::remove_dir_all(&half.made.image).expect("ours");
    half.assert_complete();
}

#[test]
fn resumes_only_from_the_served_image() {
    let made = Made::new();
    let other = "0123456789abcdef0123456789abcdef";
    for wrong in [other, "none"] {
        let mut served = made.serve("unix:/nobody", &["--resume", wrong]);
        assert_eq!(served.wait(SOON).code(), Some(1), "{served}");
        let errors = served.errors();
        assert!(
            errors.contains("is not the one that was served"),
            "{errors}"
        );
        assert!(errors.contains("has the id "), "{errors}");
        assert!(!errors.contains("cannot connect"), "{errors}");
    }
    strip(&made.image);
    let mut served = made.serve("unix:/nobody", &["--resume", other]);
    assert_eq!(served.wait(SOON).code(), Some(1), "{served}");
    let errors = served.errors();
    assert!(errors.contains("has no id"), "{errors}");
    for wrong in ["", "7", "None"] {
        let mut served = made.serve("unix:/nobody", &["--resume", wrong]);
        assert_eq!(served.wait(SOON).code(), Some(2), "{served}");
    }
}

#[test]
fn serves_and_resumes_an_image_without_digests() {
    let made = Made::new();
    strip(&made.image);
    let mut half = Half::of(made, SLOW, &[]);
    let errors = half.served.errors();
    assert!(errors.contains("has no digests"), "{errors}");
    let (_, harm) = HARMS[0];
    half.harm(harm);
    let failure = half.failure();
    let advice = failure["advice"].as_str().unwrap_or_default();
    assert!(advice.contains("--resume none"), "{advice}");
    half.assert_nothing_wrong_sent();
    half.made.restore();
    half.resume("none");
    half.assert_complete();
}

#[test]
fn detects_changes_without_digests() {
    for (what, harm) in HARMS {
        let mut half = Half::start(SLOW, &["--no-verify"]);
        half.harm(harm);
        let failure = half.failure();
        let why = failure["why"].as_str().unwrap_or_default();
        assert!(why.contains("was changed"), "{what}: {why}");
        half.assert_nothing_wrong_sent();
    }
    let mut half = Half::start("0", &["--no-verify"]);
    half.assert_complete();
}

/// Pages were sent, and each is the one that was in the image when it was made.
fn assert_right(sent: &Ram, made: &Made) {
    let ram = &sent.blocks()[0];
    assert_eq!(ram.name, "pc.ram");
    for (number, page) in ram.pages() {
        assert!(page == made.page(number), "page {number} is wrong");
    }
    assert!(ram.pages().count() > 0, "no page was sent");
}

/// PONG with the value 1.
const PONG: [u8; 8] = [0, 2, 0, 4, 0, 0, 0, 1];

/// Serves an image to a destination that reads so many bytes, cuts the image's file, and reads the
/// rest.
fn cut_after(made: &Made, moment: u64) {
    let socket = made.folder.path().join(format!("socket-{moment}"));
    let listener = UnixListener::bind(&socket).expect("a new name");
    let uri = format!("unix:{}", socket.display());
    let mut served = made.serve(&uri, &["--retry", "0"]);
    let (mut stream, _) = listener.accept().expect("it connects");
    stream.set_read_timeout(Some(SOON)).expect("a limit");
    // The switch waits for an answer.
    stream.write_all(&PONG).expect("it reads");
    let mut sent = Vec::new();
    let read = (&mut stream).take(moment).read_to_end(&mut sent);
    assert_eq!(read.expect("pages"), sent.len());
    assert_eq!(sent.len(), usize::try_from(moment).expect("small"));
    let file = fs::File::options().write(true).open(made.path());
    // Before, among or after the pages that are being sent.
    let len = moment * 7919 % (PAGES / 4 * PAGE);
    file.and_then(|file| file.set_len(len)).expect("ours");
    // The rest in the socket, until `serve` closes it.
    let _ = stream.read_to_end(&mut sent);
    let status = served.wait(SOON);
    assert_eq!(status.code(), Some(1), "cut at {moment}: {served}");
    let errors = served.errors();
    assert!(errors.contains(RAM), "cut at {moment}: {errors}");
    assert!(errors.contains("was changed"), "cut at {moment}: {errors}");
    assert!(
        !errors.contains("reconnecting for"),
        "cut at {moment}: {errors}"
    );
    assert_right(&Ram::saved(&sent, &[]), made);
}

#[test]
fn survives_truncation_at_any_moment_without_sending_a_wrong_page() {
    const CUTS: u64 = 180;
    // Less than is to be sent, by more than the capacity of sockets.
    const LAST: u64 = 1 << 20;
    thread::scope(|scope| {
        for worker in 0..3 {
            scope.spawn(move || {
                let made = Made::new();
                for cut in (worker..CUTS).step_by(3) {
                    made.restore();
                    // Timestamps of files are coarse, so the image must be older.
                    thread::sleep(Duration::from_millis(20));
                    cut_after(&made, 8192 + cut * (LAST / CUTS));
                }
            });
        }
    });
}
