use std::sync::Arc;

use memmap2::MmapRaw;

use super::*;

const LEN: u64 = 1 << 20;

/// A mapping of the embedder, and memory that wraps it.
fn wrapped(file: Option<&File>) -> (Arc<MmapRaw>, Memory) {
    let mut options = MmapOptions::new();
    options.len(1 << 20);
    let (map, backing) = match file {
        None => (options.map_anon().map(MmapRaw::from), Backing::Anonymous),
        Some(file) => (options.map_raw(file), Backing::Shared),
    };
    let map = Arc::new(map.expect("a mapping"));
    // SAFETY: the memory owns a share of the mapping, and nothing else accesses its bytes.
    let memory = unsafe { Memory::from_raw(map.as_mut_ptr(), LEN, backing, Arc::clone(&map)) };
    (map, memory.expect("aligned"))
}

#[test]
fn copies_into_the_memory_of_the_embedder() {
    let (map, memory) = wrapped(None);
    assert_eq!(memory.as_ptr(), map.as_mut_ptr());
    assert_eq!(
        memory.range(),
        wide(map.as_ptr().addr())..wide(map.as_ptr().addr()) + LEN
    );
    memory.write(4093, b"postcopy").expect("inside");
    let (_, second) = wrapped(None);
    assert_eq!(second.touch(4093).expect("inside"), 0);
    let mut bytes = [0; 8];
    memory.read(4093, &mut bytes).expect("inside");
    assert_eq!(&bytes, b"postcopy");
    assert!(memory.write(LEN - 1, &[0; 2]).is_err());
}

#[test]
fn keeps_the_owner_as_long_as_the_memory() {
    let (map, memory) = wrapped(None);
    assert_eq!(Arc::strong_count(&map), 2);
    drop(memory);
    assert_eq!(Arc::strong_count(&map), 1);
}

/// A thread may wait for its missing pages, which must not read as zeros.
#[cfg(feature = "uffd")]
#[test]
fn memory_of_the_embedder_stays_registered_without_its_region() {
    use crate::uffd::{FailurePolicy, Uffd};
    use std::sync::mpsc;

    let (_map, memory) = wrapped(None);
    let uffd = Uffd::open().expect("a route works");
    let region = uffd.register(b"pc.ram", Arc::new(memory));
    drop(region.expect("its kind is supported"));
    let (send, failures) = mpsc::channel();
    let policy = FailurePolicy::call(move |failure| {
        send.send(failure.blocks.clone()).expect("it is received");
    });
    drop(uffd.handler().on_failure(policy));
    assert_eq!(failures.recv().expect("the policy applies"), ["pc.ram"]);
}

#[test]
fn discards_memory_of_the_embedder() {
    let file = memfd(MemfdFlags::empty(), LEN).expect("a memfd");
    for file in [None, Some(&file)] {
        let (_map, memory) = wrapped(file);
        memory.write(8192, &[7; 4096]).expect("inside");
        memory.discard(8192, 4096).expect("whole pages");
        assert_eq!(memory.touch(8192).expect("inside"), 0, "{file:?}");
    }
}

#[test]
fn refuses_an_unaligned_start_and_a_partial_page() {
    let (map, _memory) = wrapped(None);
    for (start, len) in [(1, 4096), (0, 4097), (0, 0)] {
        let start = map.as_mut_ptr().wrapping_add(start);
        // SAFETY: the range is inside the mapping, which outlives the result.
        let refused = unsafe { Memory::from_raw(start, len, Backing::Anonymous, ()) };
        assert!(
            matches!(refused, Err(Error::Start { .. } | Error::Length { .. })),
            "{refused:?}"
        );
    }
}

#[test]
fn refuses_to_seal_memory_of_the_embedder() {
    let (_map, memory) = wrapped(None);
    assert!(matches!(memory.seal(), Err(Error::NotPrivate)));
}

#[test]
fn keeps_a_mapped_memfd_from_being_truncated() {
    let memory = Memory::new(Backing::Shared, LEN).expect("a memfd");
    let file = memory.file().expect("shared").try_clone_to_owned();
    let file = File::from(file.expect("a descriptor"));
    assert!(file.set_len(4096).is_err());
    assert_eq!(memory.touch(LEN - 1).expect("inside"), 0);
}
