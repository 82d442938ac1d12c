//! Machines with virtio-mem: memory that is unplugged is in no stream.

use super::{Room, capture};
use retpath_support::saved_stream::{DEVICE, Stream};

/// Recorded from QEMU 7.2; a block of 4 MiB, all unplugged, that was counted as missing.
#[test]
fn imports_a_postcopy_stream_without_unplugged_memory() {
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

/// A device of 4 MiB with its second half plugged, in front of the first page.
fn early() -> Vec<u8> {
    let name = b"dev/virtio-mem-device-early";
    let mut bytes = vec![4, 0, 0, 0, 9, u8::try_from(name.len()).expect("short")];
    bytes.extend(name);
    bytes.extend([0, 0, 0, 0, 0, 0, 0, 1]);
    let numbers: [u64; 3] = [1 << 32, 4 << 20, 2 << 20];
    bytes.extend(numbers.map(u64::to_be_bytes).concat());
    bytes.extend([0; 4]);
    bytes.extend([2 << 20, 0b10].map(u64::to_be_bytes).concat());
    bytes.extend([0x7e, 0, 0, 0, 9]);
    bytes
}

/// QEMU 10.0 sends it behind the list of RAM blocks, 11.1 in front of it.
#[test]
fn keeps_early_sections_apart_in_any_position() {
    for in_front in [true, false] {
        let mut stream = Stream::new("pc-i440fx-10.0");
        if in_front {
            stream.bytes.extend(early());
        }
        let mut stream = stream.blocks(&[(b"ram", 4), (b"dev/vm0", 1024)]);
        if !in_front {
            stream.bytes.extend(early());
        }
        let stream = stream.page(1, 512, 7).devices().description(b"{}");
        let image = Room::new().image(&stream.bytes, &[]);
        assert_eq!(image.early_state(), early());
        assert_eq!(image.device_state(), DEVICE);
        let unplugged = image.unplugged();
        let part = unplugged.first().expect("one half");
        assert_eq!((part.block, part.offset, part.len), (1, 0, 2 << 20));
        assert_eq!(unplugged.len(), 1);
    }
}
