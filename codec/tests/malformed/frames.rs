//! Frames of the return path, of both dialects, and of commands.

use crate::Malformed;
use crate::samples::hex;

/// Folder, name and bytes of each file.
macro_rules! files {
    ($($folder:literal { $($name:literal: $bytes:expr;)* })*) => {
        vec![$($(Malformed { folder: $folder, name: $name, bytes: hex($bytes) }),*),*]
    };
}

pub(crate) fn all() -> Vec<Malformed> {
    files! {
        "qemu" {
            "reserved": "0000 0004  00000000";
            "unknown-swapped": "0100 0000";
            "unknown-last": "ffff 0000";
            "too-long-513": "0003 0201";
            "too-long-of-fixed-length": "0001 ffff";
            "length-shut-3": "0001 0003  000000";
            "length-pong-5": "0002 0005  0000000100";
            "length-req-pages-11": "0004 000b  0000000000001000 000010";
            "length-req-pages-with-a-name": "0004 0013  0000000000001000 00001000 06 'pc.ram'";
            "length-req-pages-id-without-a-name": "0003 000d  0000000000001000 00001000 00";
            "length-req-pages-id-269": "0003 010d";
            "length-recv-bitmap-1": "0005 0001  00";
            "length-recv-bitmap-257": "0005 0101";
            "length-resume-ack-0": "0006 0000";
            "length-switchover-ack-4": "0007 0004  00000001";
            "short-req-pages-id-name": "0003 0013  0000000000001000 00001000 07 'pc.ram'";
            "short-recv-bitmap-name": "0005 0007  07 'pc.ram'";
            "leftover-req-pages-id": "0003 0013  0000000000001000 00001000 05 'pc.ram'";
            "leftover-recv-bitmap": "0005 0007  05 'pc.ram'";
            "value-resume-ack-0": "0006 0004  00000000";
            "value-resume-ack-2": "0006 0004  00000002";
            "zero-req-pages": "0004 000c  0000000000001000 00000000";
            "zero-req-pages-id": "0003 0013  0000000000001000 00000000 06 'pc.ram'";
            "overflow-req-pages": "0004 000c  fffffffffffff000 00001000";
            "overflow-req-pages-id": "0003 0013  ffffffffffffffff 00000001 06 'pc.ram'";
            "empty-name-req-pages-id": "0003 000e  0000000000001000 00001000 00 'a'";
            "empty-name-recv-bitmap": "0005 0002  00 'a'";
            "nul-req-pages-id": "0003 0013  0000000000001000 00001000 06 'pc' 00 'ram'";
            "nul-recv-bitmap": "0005 0007  06 'pc.ra' 00";
            "bitmap-size-0": "0005 0007 06 'pc.ram'  0000000000000000 0123456789abcdef";
            "bitmap-size-12": "0005 0007 06 'pc.ram'  000000000000000c 000000000000000000000000 0123456789abcdef";
            "bitmap-limit": "0005 0007 06 'pc.ram'  0000000000001008";
            "bitmap-limit-all-memory": "0005 0007 06 'pc.ram'  fffffffffffffff8";
            "bitmap-end-early": "0005 0007 06 'pc.ram'  0000000000000010 ffffffffffffffff 0123456789abcdef 0123456789abcdee";
            "bitmap-end-zeros": "0005 0007 06 'pc.ram'  0000000000000008 ffffffffffffffff 0000000000000000";
            "bitmap-end-swapped": "0005 0007 06 'pc.ram'  0000000000000008 ffffffffffffffff efcdab8967452301";
            "after-shut-pong": "0001 0004 00000000  0002 0004 00000001";
            "after-shut-twice": "0001 0004 00000000  0001 0004 00000000";
            "after-shut-one-byte": "0002 0004 00000001  0001 0004 00000001  00";
            "cut-short-header": "0002 00";
            "cut-short-payload": "0002 0004 000000";
            "cut-short-name": "0003 0013  0000000000001000 00001000 06 'pc.ra'";
            "cut-short-bitmap-size": "0005 0007 06 'pc.ram'  00000000000000";
            "cut-short-bitmap": "0005 0007 06 'pc.ram'  0000000000000010 ffffffffffffffff 00";
            "cut-short-bitmap-end": "0005 0007 06 'pc.ram'  0000000000000008 ffffffffffffffff 0123456789abcd";
        }
        "v7" {
            "reserved": "0000 0004  00000000";
            "unknown-4": "0004 000c  0000000000001000 00001000";
            "too-long-513": "0003 0201";
            "length-shut-5": "0001 0005  0000000000";
            "length-pong-0": "0002 0000";
            "length-req-pages-15": "0003 000f  0000000000001000 00000000000010";
            "length-req-pages-273": "0003 0111";
            "short-flag-without-a-name": "0003 0010  0000000000001000 0000000000001001";
            "short-name": "0003 0017  0000000000001000 0000000000001001 07 'pc.ram'";
            "leftover-name-without-a-flag": "0003 0017  0000000000001000 0000000000001000 06 'pc.ram'";
            "leftover-behind-a-name": "0003 0017  0000000000001000 0000000000001001 05 'pc.ram'";
            "zero": "0003 0010  0000000000001000 0000000000000000";
            "zero-but-for-the-flag": "0003 0017  0000000000001000 0000000000000001 06 'pc.ram'";
            "overflow": "0003 0010  fffffffffffff000 0000000000001000";
            "overflow-with-a-name": "0003 0017  8000000000000000 8000000000000001 06 'pc.ram'";
            "empty-name": "0003 0011  0000000000001000 0000000000001001 00";
            "nul": "0003 0017  0000000000001000 0000000000001001 06 'pc.ra' 00";
            "after-shut": "0001 0004 00000000  0002 0004 00000001";
            "cut-short": "0003 0017  0000000000001000 0000000000001001 06 'pc'";
        }
        "command" {
            "lead": "04 0001 0000";
            "reserved": "08 0000 0000";
            "unknown-swapped": "08 0100 0000";
            "length-open-return-path-1": "08 0001 0001 00";
            "length-ping-0": "08 0002 0000";
            "length-advise-17": "08 0003 0011";
            "length-listen-4": "08 0004 0004 00000000";
            "length-run-4": "08 0005 0004 00000000";
            "length-discard-19": "08 0006 0013";
            "length-packaged-8": "08 0007 0008 0000000000000013";
            "length-enable-colo-1": "08 0008 0001 00";
            "length-resume-4": "08 0009 0004 00000001";
            "length-recv-bitmap-0": "08 000a 0000";
            "length-recv-bitmap-257": "08 000a 0101";
            "length-switchover-start-1": "08 000b 0001 00";
            "short-advise-8": "08 0003 0008  0000000000001000";
            "short-discard-name": "08 0006 0014  00 13 'a' 00  0000000000000000 0000000000001000";
            "short-discard-without-a-terminator": "08 0006 0014  00 12 'abcdefghijklmnopqr'";
            "short-discard-without-a-range": "08 0006 0014  00 11 'abcdefghijklmnopq' 00";
            "short-discard-half-a-range": "08 0006 0021  00 06 'pc.ram' 00  0000000000000000 0000000000001000  0000000000002000";
            "short-recv-bitmap-name": "08 000a 0007  07 'pc.ram'";
            "leftover-recv-bitmap": "08 000a 0007  05 'pc.ram'";
            "value-discard-version": "08 0006 0019  01 06 'pc.ram' 00  0000000000000000 0000000000001000";
            "value-discard-terminator": "08 0006 0019  00 06 'pc.ram' 20  0000000000000000 0000000000001000";
            "zero-discard": "08 0006 0019  00 06 'pc.ram' 00  0000000000001000 0000000000000000";
            "overflow-discard": "08 0006 0019  00 06 'pc.ram' 00  fffffffffffff000 0000000000001000";
            "overflow-discard-second-range": "08 0006 0029  00 06 'pc.ram' 00  0000000000000000 0000000000001000  0000000000001000 ffffffffffffffff";
            "empty-name-discard": "08 0006 0014  00 00 'a' 00  0000000000000000 0000000000001000";
            "empty-name-recv-bitmap": "08 000a 0002  00 'a'";
            "nul-discard": "08 0006 0019  00 06 'pc' 00 'ram' 00  0000000000000000 0000000000001000";
            "nul-recv-bitmap": "08 000a 0007  06 'pc.ra' 00";
        }
    }
}
