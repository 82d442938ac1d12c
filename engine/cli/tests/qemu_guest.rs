//! The guest of the QEMU tests works as its source describes: a guest that cannot fail proves nothing.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;

use retpath_support::SOON;
use retpath_support::qemu::guest::{BASE, PAGE, SECTOR};
use retpath_support::qemu::process::folder;
use retpath_support::qemu::{Guest, Machine, Qemu};

#[test]
#[ignore = "needs GNU as and ld for x86; run by .ci/run"]
fn keeps_the_assembled_sector_fresh() {
    let folder = folder();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let source = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../proptests/support/src/qemu/guest.S"
    );
    let (object, binary) = (path("guest.o"), path("guest.bin"));
    let run = |program: &str, args: &[&str]| {
        let output = Command::new(program).args(args).output();
        let output =
            output.unwrap_or_else(|error| panic!("cannot run {program} (binutils): {error}"));
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program}: {errors}");
    };
    run("as", &["--32", "-o", &object, source]);
    let link = [
        "-m",
        "elf_i386",
        "-Ttext",
        "0x7c00",
        "--oformat",
        "binary",
        "-o",
    ];
    run("ld", &[link.as_slice(), &[&binary, &object]].concat());
    let fresh = fs::read(&binary).unwrap();
    assert_eq!(
        fresh, SECTOR,
        "run the two commands in guest.S and commit guest.bin"
    );
}

/// A guest with 64 hot and 64 quiet pages, visited in an order of its own.
fn small() -> Machine {
    let guest = Guest {
        hot: 64,
        quiet: 64,
        sweep: 8,
        stride: 27,
        ..Guest::mib(1, 1)
    };
    Machine::new(16, guest)
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn fills_and_counts_as_it_says() {
    let machine = small();
    let mut qemu = Qemu::boot(&machine);
    qemu.wait_healthy(100, SOON);
    qemu.stop();
    let block = qemu.blocks().remove(0);
    assert_eq!(
        (block.name.as_str(), block.len),
        ("pc.ram", machine.memory())
    );
    let bytes = qemu.block(&block);
    let guest = machine.guest();
    let counters: Vec<u32> = (0..u64::from(guest.hot + guest.quiet))
        .map(|number| {
            let address = BASE + number * PAGE;
            let start = usize::try_from(address).unwrap();
            let page = &bytes[start..start + 4096];
            let mut words = page.chunks_exact(4);
            let counter = words.next().unwrap();
            assert!(
                words.all(|word| word == Guest::tag(address)),
                "page at {address:#x}"
            );
            u32::from_le_bytes(counter.try_into().unwrap())
        })
        .collect();
    let (hot, quiet) = counters.split_at(64);
    // The pass under way has been to some of the pages, or to all and not said so yet.
    let least = *hot.iter().min().unwrap();
    assert!(hot.iter().all(|&counter| counter - least <= 1), "{hot:?}");
    let least = usize::try_from(least).unwrap();
    qemu.wait_said(SOON, "say what it did", |said| {
        (said.passes.len() + 1 >= least).then_some(())
    });
    let passes = qemu.said().passes.len();
    assert!(passes <= least, "{passes} passes said, {least} made");
    assert!(quiet.iter().all(|&counter| counter == 0), "{quiet:?}");

    let physical = qemu.physical(BASE, guest.end() - BASE);
    let start = usize::try_from(BASE).unwrap();
    assert!(
        physical == bytes[start..start + physical.len()],
        "pmemsave shows the same"
    );
    qemu.cont();
    qemu.wait_healthy(10, SOON);
    qemu.assert_silent();
    qemu.quit();
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn finds_one_changed_word() {
    let machine = small();
    let quiet = BASE + 64 * PAGE;
    let cases = [
        ("a hot page's tag", BASE + 17 * PAGE + 2048, "the tag"),
        ("a hot page's last word", BASE + 63 * PAGE + 4092, "the tag"),
        ("a quiet page's counter", quiet + 5 * PAGE, "the counter"),
        ("a quiet page's tag", quiet + 63 * PAGE + 4, "the tag"),
    ];
    for (what, address, part) in cases {
        let mut qemu = Qemu::boot(&machine);
        qemu.wait_healthy(1, SOON);
        let block = qemu.blocks().remove(0);
        qemu.write_block(&block, address, &0x0bad_cafe_u32.to_le_bytes());
        let wrong = qemu.wait_complaint(SOON);
        let expected = format!("the guest found {part} at {address:08x} to be 0badcafe");
        assert_eq!(wrong, expected, "{what}");
    }
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn shows_every_byte_of_every_block() {
    let mut qemu = Qemu::boot(&small());
    let ram = qemu.ram();
    qemu.assert_ram(&ram);
    let bios = ram.block("pc.bios");
    let contains = |bytes: &[u8], word: &[u8]| bytes.windows(word.len()).any(|at| at == word);
    assert!(contains(bios, b"SeaBIOS"));
    let end = 4 << 30;
    let len = u64::try_from(bios.len()).unwrap();
    assert!(
        qemu.physical(end - len, len) == bios,
        "pmemsave shows the same"
    );
    // The guest does not check these.
    assert!(ram.block("/rom@etc/acpi/rsdp").starts_with(b"RSD PTR "));
    assert!(contains(ram.block("/rom@etc/acpi/tables"), b"APIC"));
    assert!(contains(ram.block("/rom@etc/table-loader"), b"etc/acpi/"));
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn finds_one_byte_that_was_not_sent() {
    let mut qemu = Qemu::boot(&small());
    let ram = qemu.ram();
    qemu.assert_ram(&ram);
    let block = qemu.blocks().remove(0);
    let (at, mut byte) = (BASE + 77, [0]);
    qemu.read_block(&block, at, &mut byte);
    qemu.write_block(&block, at, &[!byte[0]]);
    let caught = catch_unwind(AssertUnwindSafe(|| qemu.assert_ram(&ram)));
    let message = caught.expect_err("it differs");
    let message = message.downcast_ref::<String>().expect("a sentence");
    assert!(
        message.contains("pc.ram differs from the stream"),
        "{message}"
    );
}
