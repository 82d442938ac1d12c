//! Machines with virtio-mem: memory that is unplugged is in no stream.

use super::{Room, capture};

/// Recorded from QEMU 7.2; a block of 4 MiB, all unplugged, that was counted as missing.
#[test]
fn imports_a_postcopy_without_unplugged_memory() {
    let stream = capture("qemu-7.2-virtio-mem.ch0.fwd.gz");
    let image = Room::new().image(&stream, &[]);
    assert!(image.manifest().source.switched);
    let block = image.blocks().block(1).expect("the device's");
    assert_eq!(block.name.to_string(), "0000:00:02.0/vm0");
    assert_eq!((block.len, image.stored(1)), (4 << 20, 0));
}

/// The same stream without what says that the memory is unplugged.
#[test]
fn expects_the_memory_of_a_block_that_is_no_virtio_mem_device() {
    let mut stream = capture("qemu-7.2-virtio-mem.ch0.fwd.gz");
    let name = b"0000:00:02.0/virtio-mem";
    let at = stream.windows(name.len()).position(|part| part == name);
    stream[at.expect("its section") + name.len() - 1] = b'n';
    let message = Room::new().refusal(&stream);
    assert!(
        message.contains("1024 target pages are missing"),
        "{message}"
    );
}
