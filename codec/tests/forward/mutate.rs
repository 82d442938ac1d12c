//! Mutated and random streams: nothing panics, and accepted events encode to the same
//! bytes.

use retpath_codec::command::Command;
use retpath_codec::forward::{Decoded, Decoder, MAX_ITEM, Options};
use retpath_random::Random;

use crate::kit::{Stream, drain, fresh};
use crate::recipe::by_hand;

/// Decodes the bytes in random pieces.
fn survive(mut decoder: Decoder, bytes: &[u8], random: &mut Random) {
    let (mut at, mut have) = (0, 0);
    let mut written = Vec::new();
    loop {
        if at + have >= 8 && random.index(4) == 0 && have >= 8 {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[at..at + 8]);
            // On a clone, because the page may be incomplete.
            decoder.clone().continued_page(word, true);
        }
        match decoder.next(&bytes[at..at + have]) {
            Ok(Decoded::Event { event, size }) => {
                assert!(size <= have);
                event.encode(decoder.blocks(), &mut written).unwrap();
                at += size;
                have -= size;
                assert!(written == bytes[..at]);
            }
            Ok(Decoded::Need(need)) => {
                assert!(have + need <= MAX_ITEM);
                if at + have == bytes.len() {
                    let _ = decoder.finish(&bytes[at..]);
                    decoder.close();
                    let _ = drain(&mut decoder, &bytes[at..], |_, _, _| {});
                    return;
                }
                have += (1 + random.index(need)).min(bytes.len() - at - have);
            }
            Err(error) => {
                assert!(error.offset <= u64::try_from(bytes.len()).unwrap());
                assert!(!error.to_string().is_empty());
                assert_eq!(decoder.next(&[]), Err(error));
                assert_eq!(decoder.finish(&[]), Err(error));
                return;
            }
        }
    }
}

fn streams() -> Vec<Vec<u8>> {
    let package = Stream::default()
        .listen()
        .device(5, b"timer", [0x7e; 30])
        .device(6, b"cpu", [])
        .run();
    let postcopy = Stream::discarded()
        .package(&package)
        .part(1)
        .zero(0, Some(b"pc.ram"))
        .page(4096, None)
        .eos(1)
        .end(1)
        .eos(1)
        .eof();
    let precopy = Stream::listed()
        .part(1)
        .page(0, Some(b"rom"))
        .word(0x200)
        .eos(1)
        .end(1)
        .eos(1)
        .device(5, b"timer", [0; 30])
        .eof()
        .description(b"{}");
    vec![by_hand(), postcopy.0, precopy.0]
}

#[test]
fn survives_changed_streams() {
    let mut random = Random::new(1);
    for whole in streams() {
        // Most changes should not hit page contents.
        for _ in 0..6_000 {
            let mut bytes = whole.clone();
            for _ in 0..=random.index(3) {
                let at = random.index(bytes.len().min(500));
                let at = if random.index(4) == 0 {
                    bytes.len() - 1 - at
                } else {
                    at
                };
                match random.index(4) {
                    0 => bytes[at] ^= 1 << random.index(8),
                    1 => bytes[at] = random.byte(),
                    2 => drop(bytes.remove(at)),
                    _ => bytes.insert(at, u8::try_from(random.index(9)).unwrap()),
                }
            }
            survive(fresh(), &bytes, &mut random);
        }
    }
}

#[test]
fn survives_random_bytes_after_a_valid_start() {
    let mut random = Random::new(2);
    let starts = [
        Stream::default(),
        Stream::configured(),
        Stream::advised(),
        Stream::listed(),
        Stream::listed().part(1),
        Stream::discarded(),
        Stream::discarded()
            .command(Command::Packaged { size: 200 })
            .listen(),
        Stream::switched(),
        Stream::switched().part(1),
    ];
    for start in starts {
        for _ in 0..5_000 {
            let noise = noise(&mut random);
            survive(fresh(), &start.clone().raw(noise).0, &mut random);
        }
    }
}

#[test]
fn survives_random_bytes_on_other_channels() {
    let mut random = Random::new(3);
    let mut first = fresh();
    drain(&mut first, &Stream::switched().0, |_, _, _| {}).unwrap();
    for decoder in [
        first.resume(),
        first.preempt(),
        Decoder::blind_resumed(Options::default()),
        Decoder::blind_preempt(Options::default()),
        fresh().preempt(),
        fresh().resume(),
    ] {
        for _ in 0..5_000 {
            let noise = noise(&mut random);
            survive(decoder.clone(), &noise, &mut random);
        }
    }
}

/// Random bytes that resemble a stream.
fn noise(random: &mut Random) -> Vec<u8> {
    let mut noise = Vec::new();
    while noise.len() < 300 && random.index(40) != 0 {
        match random.index(8) {
            0 => noise.extend((random.any() & 0x3f_f3ff).to_be_bytes()),
            1 => noise.extend([8, 0, u8::try_from(random.index(13)).unwrap(), 0, 0]),
            2 => noise.extend([u8::try_from(random.index(9)).unwrap(), 0, 0, 0, 1]),
            3 => noise.extend(b"\x06pc.ram"),
            4 => noise.extend([0x7e, 0, 0, 0, 1]),
            5 => noise.extend(0x10_u64.to_be_bytes()),
            6 => noise.extend([0; 4]),
            _ => noise.push(random.byte()),
        }
    }
    noise
}
