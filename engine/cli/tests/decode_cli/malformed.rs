//! `corpus/malformed`: the command reports the error in the file beside the input.

use std::fs;

use retpath_cli::decode::{Dialect, Failure, Kind, Options, PageSize, decode_slice};
use retpath_codec::NameBuf;

use crate::corpus;

#[test]
fn reports_the_expected_error_for_every_malformed_file() {
    let hugemem = PageSize {
        name: NameBuf::new("hugemem").expect("a name"),
        size: 2 << 20,
    };
    let options = |kind, dialect| Options {
        kind,
        dialect,
        max_bitmap: 4096,
        page_sizes: match kind {
            Kind::Forward => vec![hugemem.clone()],
            _ => Vec::new(),
        },
        ..Options::default()
    };
    for (folder, options) in [
        ("qemu", options(Kind::ReturnPath, Dialect::Qemu)),
        ("v7", options(Kind::ReturnPath, Dialect::V7)),
        ("forward", options(Kind::Forward, Dialect::Qemu)),
        ("resumed", options(Kind::Resumed, Dialect::Qemu)),
        ("preempt", options(Kind::Preempt, Dialect::Qemu)),
    ] {
        let mut count = 0;
        for entry in fs::read_dir(corpus("malformed").join(folder)).expect("the corpus has it") {
            let expect = entry.expect("can be listed").path();
            if expect.extension().is_none_or(|ending| ending != "expect") {
                continue;
            }
            let ending = match folder {
                "qemu" | "v7" => "rp",
                "preempt" => "ram",
                _ => "fwd",
            };
            let bytes = fs::read(expect.with_extension(ending)).expect("the input is beside it");
            let Err(Failure::Bytes { error, .. }) = decode_slice(&options, &bytes).1 else {
                panic!("takes {}", expect.display());
            };
            let expected = fs::read_to_string(&expect).expect("can be read");
            assert_eq!(format!("{error}\n"), expected, "{}", expect.display());
            count += 1;
        }
        assert!(count > 10, "{folder} has {count} files");
    }
}
