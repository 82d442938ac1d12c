//! Valid and invalid states of virtio-mem devices.

use retpath_codec::NameBuf;

use super::*;
use crate::blocks::Block;

const MIB: u64 = 1 << 20;

/// A device of 128 MiB in pieces of 2 MiB, of which these are plugged.
fn geometry() -> Vec<u8> {
    let numbers = [1 << 32, 128 * MIB, 2 * MIB].map(u64::to_be_bytes);
    [&numbers.concat()[..], &[0, 0, 0, 0]].concat()
}

fn early(plugged: u64) -> Vec<u8> {
    let size = u64::from(plugged.count_ones()) * 2 * MIB;
    [
        geometry(),
        [size, plugged].map(u64::to_be_bytes).concat().to_vec(),
    ]
    .concat()
}

/// The same state inside a section `virtio-mem`.
fn full(plugged: u64) -> Vec<u8> {
    let size = u64::from(plugged.count_ones()) * 2 * MIB;
    let numbers = [128 * MIB, size, size, plugged].map(u64::to_be_bytes);
    let before = (0..300_u32).flat_map(|n| [0, (n % 7) as u8, 0x10]);
    let mut bytes: Vec<u8> = before.collect();
    bytes.extend(geometry());
    bytes.extend(numbers.concat());
    bytes.extend(b"\x05\x11virtio/64bit_features\0\0\0\x01");
    bytes
}

fn blocks(list: &[(&str, u64, u64)]) -> Blocks {
    let mut blocks = Blocks::new(4096).expect("a page size");
    for (name, len, page) in list {
        let block = Block {
            name: NameBuf::new(*name).expect("a name"),
            len: *len,
            page: *page,
        };
        blocks.add(block).expect("a block");
    }
    blocks
}

const PATH: &str = "0000:00:02.0/vm0";

/// The blocks of a machine with one such device.
fn machine() -> Blocks {
    blocks(&[("pc.ram", 128 * MIB, 4096), (PATH, 128 * MIB, 4096)])
}

/// Feeds a section as a decoder does.
fn section(devices: &mut Devices, idstr: &str, state: &[u8]) -> bool {
    let identity = Identity {
        idstr: idstr.as_bytes(),
        instance: 0,
        version: 1,
    };
    devices.event(&Event::Section {
        kind: SectionKind::Full,
        id: 7,
        identity: Some(identity),
    });
    for bytes in state.chunks(13) {
        assert!(!devices.event(&Event::DeviceState { id: 7, bytes }));
    }
    devices.event(&Event::Footer { id: 7 })
}

fn unplugged(devices: &Devices, blocks: &Blocks) -> Vec<Part> {
    let parts = devices.unplugged(blocks);
    parts
        .map(|part| (part.block, part.offset / MIB, part.len / MIB))
        .collect()
}

/// Block, start and length in MiB.
type Part = (BlockId, u64, u64);

/// Bitmaps and the unplugged ranges.
const STATES: [(u64, &[Part]); 4] = [
    (0, &[(1, 0, 128)]),
    (u64::MAX, &[]),
    (0xffff_ffff, &[(1, 64, 64)]),
    (!0b1001, &[(1, 0, 2), (1, 6, 2)]),
];

#[test]
fn parses_the_unplugged_pieces() {
    for (plugged, want) in STATES {
        for (name, state) in [
            ("virtio-mem-device-early", early(plugged)),
            ("virtio-mem", full(plugged)),
        ] {
            let mut devices = Devices::new(1 << 40);
            assert!(section(
                &mut devices,
                &format!("0000:00:02.0/{name}"),
                &state
            ));
            assert_eq!(unplugged(&devices, &machine()), want, "{plugged:x}");
        }
    }
}

#[test]
fn the_first_state_of_a_device_counts() {
    let mut devices = Devices::new(1 << 40);
    assert!(section(
        &mut devices,
        "x/virtio-mem-device-early",
        &early(0)
    ));
    assert!(!section(&mut devices, "x/virtio-mem", &full(u64::MAX)));
    let blocks = blocks(&[("x/vm0", 128 * MIB, 4096)]);
    assert_eq!(unplugged(&devices, &blocks), [(0, 0, 128)]);
}

#[test]
fn ignores_inconsistent_states() {
    let wrong: [(&str, Vec<u8>); 8] = [
        ("virtio-mem-device-early", early(1)[..40].to_vec()),
        ("virtio-mem-device-early", [early(1), vec![0]].concat()),
        ("virtio-mem-device-early", full(1)),
        ("virtio-mem", early(0)),
        ("virtio-mem", [full(1), full(1)].concat()),
        ("virtio-mem", full(1)[..950].to_vec()),
        ("virtio-mem2", full(1)),
        ("virtio-mem", vec![0; MOST + 1]),
    ];
    for (at, (name, state)) in wrong.iter().enumerate() {
        let mut devices = Devices::new(1 << 40);
        assert!(!section(&mut devices, name, state), "{at}");
    }
    // Plugged bytes match the pieces, no piece past the region, whole pieces.
    for at in 0..early(0b111).len() {
        let mut state = early(0b111);
        state[at] ^= 1;
        // The node and the address of the region do not matter.
        let harmless = at < 5 || (24..28).contains(&at);
        assert_eq!(State::early(&state).is_some(), harmless, "byte {at}");
    }
}

#[test]
fn finds_only_the_block_of_the_device() {
    let mut devices = Devices::new(1 << 40);
    assert!(section(&mut devices, "0000:00:02.0/virtio-mem", &full(0)));
    for list in [
        &[("pc.ram", 128 * MIB, 4096)][..],
        &[("0000:00:02.1/vm0", 128 * MIB, 4096)],
        &[("0000:00:02.0", 128 * MIB, 4096)],
        &[(PATH, 64 * MIB, 4096)],
        &[(PATH, 128 * MIB, 4 * MIB)],
        &[
            (PATH, 128 * MIB, 4096),
            ("0000:00:02.0/vm1", 128 * MIB, 4096),
        ],
    ] {
        assert_eq!(unplugged(&devices, &blocks(list)), [], "{list:?}");
    }
    let huge = blocks(&[(PATH, 128 * MIB, 2 * MIB)]);
    assert_eq!(unplugged(&devices, &huge), [(0, 0, 128)]);
    // A device without a path owns a block without a path.
    let mut devices = Devices::new(1 << 40);
    assert!(section(&mut devices, "virtio-mem", &full(0)));
    let blocks = blocks(&[(PATH, 128 * MIB, 4096), ("vm0", 128 * MIB, 4096)]);
    assert_eq!(unplugged(&devices, &blocks), [(1, 0, 128)]);
}

#[test]
fn bounds_the_number_of_devices_by_the_memory() {
    let mut devices = Devices::new(256 * MIB);
    for (at, fits) in [true, true, false].into_iter().enumerate() {
        let name = format!("{at}/virtio-mem");
        assert_eq!(section(&mut devices, &name, &full(0)), fits);
    }
}

#[test]
fn gives_up_after_too_many_candidates() {
    let mut state = Vec::new();
    for _ in 0..1000 {
        state.extend(geometry());
        state.extend([128 * MIB, 0, 0, 1].map(u64::to_be_bytes).concat());
    }
    assert!(State::find(&state).is_none());
    // The only valid offset follows too many candidates.
    assert!(State::find(&[state, full(0)].concat()).is_none());
}

#[test]
fn parses_the_sections_of_an_image() {
    let sections = |id: u8, name: &str, state: &[u8]| {
        let mut bytes = vec![4, 0, 0, 0, id, u8::try_from(name.len()).expect("short")];
        bytes.extend(name.as_bytes());
        bytes.extend([0, 0, 0, 0, 0, 0, 0, 1]);
        bytes.extend(state);
        bytes.extend([0x7e, 0, 0, 0, id]);
        bytes
    };
    let timer = sections(1, "timer", b"state");
    let wanted = sections(2, "0000:00:02.0/virtio-mem", &full(0xffff_ffff));
    let last = sections(3, "globalstate", b"state");
    let early = sections(
        4,
        "0000:00:02.0/virtio-mem-device-early",
        &early(0xffff_ffff),
    );
    let device_state = [timer, wanted, last.clone()].concat();
    for parts in [
        [&[][..], &device_state],
        [&early, &last],
        [&early, &device_state],
    ] {
        let devices = Devices::in_sections(1 << 40, &parts);
        assert_eq!(unplugged(&devices, &machine()), [(1, 64, 64)]);
    }
    assert_eq!(
        unplugged(&Devices::in_sections(1 << 40, &[b"\x04no"]), &machine()),
        []
    );
}
