//! Guest memory: copies, discards, bounds, and the mapping of files.

use std::fs::File;
use std::os::unix::fs::FileExt;

use retpath_engine::memory::{Backing, Error, Memory};
use retpath_engine::source::PageSource;

const MIB: u64 = 1 << 20;

/// Returns bytes that differ from their neighbors at every distance used here.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + i / 251) as u8 | 1).collect()
}

fn kinds() -> [Memory; 2] {
    [Backing::Anonymous, Backing::Shared].map(|backing| Memory::new(backing, MIB).unwrap())
}

#[test]
fn copies_every_length_at_every_alignment() {
    for memory in kinds() {
        let bytes = pattern(40);
        for offset in 0..17 {
            for len in 0..bytes.len() {
                memory.discard(0, MIB).unwrap();
                memory.write(offset, &bytes[..len]).unwrap();
                let mut around = [0; 80];
                memory.read(0, &mut around).unwrap();
                let start = offset as usize;
                let mut expected = [0; 80];
                expected[start..start + len].copy_from_slice(&bytes[..len]);
                assert_eq!(around, expected, "{len} bytes at {offset}");

                let mut back = vec![0xee; len];
                memory.read(offset, &mut back).unwrap();
                assert_eq!(back, &bytes[..len]);
            }
        }
    }
}

#[test]
fn copies_up_to_the_last_byte() {
    for memory in kinds() {
        let bytes = pattern(4096);
        memory.write(MIB - 4096, &bytes).unwrap();
        assert_eq!(memory.touch(MIB - 1).unwrap(), bytes[4095]);
        let mut tail = [0; 3];
        memory.read(MIB - 3, &mut tail).unwrap();
        assert_eq!(tail, bytes[4093..]);
        memory.read(MIB, &mut []).unwrap();
    }
}

#[test]
fn refuses_ranges_outside_the_memory() {
    for memory in kinds() {
        let ends = [
            (MIB, 1),
            (MIB - 1, 2),
            (u64::MAX, 1),
            (u64::MAX - 1, 2),
            (0, MIB as usize + 1),
        ];
        for (offset, len) in ends {
            let mut buf = vec![0; len];
            assert!(matches!(
                memory.read(offset, &mut buf),
                Err(Error::OutOfRange { .. })
            ));
            assert!(matches!(
                memory.write(offset, &buf),
                Err(Error::OutOfRange { .. })
            ));
        }
        assert!(matches!(memory.touch(MIB), Err(Error::OutOfRange { .. })));
        for (offset, len) in [
            (MIB, 4096),
            (0, MIB + 4096),
            (4096, u64::MAX - 4095),
            (u64::MAX - 4095, 4096),
        ] {
            assert!(matches!(
                memory.discard(offset, len),
                Err(Error::OutOfRange { .. })
            ));
        }
    }
}

#[test]
fn refuses_to_discard_parts_of_pages() {
    for memory in kinds() {
        let half = memory.page_size() / 2;
        for (offset, len) in [(half, 2 * half), (0, half), (half, half)] {
            let error = memory.discard(offset, len).unwrap_err();
            assert!(matches!(error, Error::Unaligned { .. }), "{error}");
        }
    }
}

#[test]
fn discards_whole_pages_and_keeps_their_neighbours() {
    for memory in kinds() {
        let page = memory.page_size();
        memory.nohugepage().unwrap();
        memory.write(0, &pattern(3 * page as usize)).unwrap();
        memory.discard(page, page).unwrap();
        memory.discard(2 * page, 0).unwrap();
        assert_ne!(memory.touch(page - 1).unwrap(), 0);
        assert_eq!(memory.touch(page).unwrap(), 0);
        assert_eq!(memory.touch(2 * page - 1).unwrap(), 0);
        assert_ne!(memory.touch(2 * page).unwrap(), 0);
    }
}

#[test]
fn shares_its_pages_through_the_memfd() {
    let memory = Memory::new(Backing::Shared, MIB).unwrap();
    let file = File::from(memory.file().unwrap().try_clone_to_owned().unwrap());
    file.write_all_at(b"seen", 4096).unwrap();
    let mut seen = [0; 4];
    memory.read(4096, &mut seen).unwrap();
    assert_eq!(&seen, b"seen");
    memory.discard(0, MIB).unwrap();
    file.read_exact_at(&mut seen, 4096).unwrap();
    assert_eq!(seen, [0; 4], "a discard reaches the file");
    assert!(
        Memory::new(Backing::Anonymous, MIB)
            .unwrap()
            .file()
            .is_none()
    );
}

#[test]
fn refuses_invalid_sizes() {
    for backing in [
        Backing::Anonymous,
        Backing::Shared,
        Backing::Huge2M,
        Backing::Huge1G,
    ] {
        for len in [0, 1, backing.page_size() - 1, backing.page_size() + 1] {
            let error = Memory::new(backing, len).unwrap_err();
            assert!(matches!(error, Error::Length { .. }), "{error}");
        }
    }
    let error = Memory::new(Backing::Anonymous, 1 << 63).unwrap_err();
    assert!(matches!(error, Error::System { .. }), "{error}");
}

#[test]
fn reports_a_huge_page_pool_that_is_too_small() {
    let error = Memory::new(Backing::Huge1G, 1 << 42).unwrap_err();
    assert!(
        matches!(error, Error::NoHugePages { needed: 4096, .. }),
        "{error}"
    );
    let text = error.to_string();
    let (before, pool) = text.split_once("`echo ").expect("advice");
    assert_eq!(
        before,
        "the kernel does not have 4096 free huge pages of 1048576 KiB; reserve them with "
    );
    let pool = pool.trim_start_matches(|c: char| c.is_ascii_digit());
    assert_eq!(
        pool,
        " | sudo tee /sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages`"
    );
}

#[test]
fn lends_the_bytes_of_frozen_memory() {
    let memory = Memory::new(Backing::Anonymous, MIB).unwrap();
    let bytes = pattern(4096);
    memory.write(8192, &bytes).unwrap();
    let frozen = memory.seal().unwrap();
    assert_eq!(frozen.page(8192, 4096), Some(&bytes[..]));
    assert_eq!(frozen.page(MIB - 1, 1), Some(&[0][..]));
    for (offset, len) in [(MIB, 1), (MIB - 1, 2), (u64::MAX, 2), (1, usize::MAX)] {
        assert_eq!(frozen.page(offset, len), None);
    }
}

#[test]
fn refuses_to_freeze_shared_memory() {
    let error = Memory::new(Backing::Shared, MIB)
        .unwrap()
        .seal()
        .unwrap_err();
    assert!(matches!(error, Error::NotPrivate), "{error}");
}

#[test]
fn serves_blocks_that_may_change_by_copying() {
    let memory = Memory::new(Backing::Anonymous, 1 << 16).unwrap();
    memory.write(200, &[7; 40]).unwrap();
    let blocks = vec![memory];
    assert!(blocks.lend(0, 0, 1).is_none(), "it may change");
    let mut bytes = [0; 40];
    blocks.read(0, 200, &mut bytes).unwrap();
    assert_eq!(bytes, [7; 40]);
    assert!(blocks.read(0, 0xffff, &mut [0; 2]).is_err());
    assert!(blocks.read(1, 0, &mut [0; 1]).is_err());
}
