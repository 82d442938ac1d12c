//! Stand-in for `retpath_codec::forward::write` until it is there.

use retpath_codec::Name;

pub(super) fn header(out: &mut Vec<u8>) {
    out.extend(*b"QEVM\0\0\0\x03");
}

pub(super) fn configuration(machine: &[u8], out: &mut Vec<u8>) {
    out.push(7);
    out.extend(u32::try_from(machine.len()).expect("checked").to_be_bytes());
    out.extend(machine);
}

pub(super) fn target_page_bits(bits: u32, out: &mut Vec<u8>) {
    out.push(5);
    let name = b"configuration/target-page-bits";
    out.push(u8::try_from(name.len()).expect("short"));
    out.extend(name);
    out.extend(1_u32.to_be_bytes());
    out.extend(bits.to_be_bytes());
}

pub(super) fn section_start(id: u32, name: &[u8], instance: u32, version: u32, out: &mut Vec<u8>) {
    out.push(1);
    out.extend(id.to_be_bytes());
    out.push(u8::try_from(name.len()).expect("short"));
    out.extend(name);
    out.extend(instance.to_be_bytes());
    out.extend(version.to_be_bytes());
}

pub(super) fn section_part(id: u32, out: &mut Vec<u8>) {
    out.push(2);
    out.extend(id.to_be_bytes());
}

pub(super) fn section_end(id: u32, out: &mut Vec<u8>) {
    out.push(3);
    out.extend(id.to_be_bytes());
}

pub(super) fn footer(id: u32, out: &mut Vec<u8>) {
    out.push(0x7e);
    out.extend(id.to_be_bytes());
}

pub(super) fn eof(out: &mut Vec<u8>) {
    out.push(0);
}

pub(super) fn mem_size(total: u64, out: &mut Vec<u8>) {
    out.extend((total | 4).to_be_bytes());
}

pub(super) fn block(name: Name<'_>, len: u64, page_size: Option<u64>, out: &mut Vec<u8>) {
    put_name(name, out);
    out.extend(len.to_be_bytes());
    out.extend(page_size.into_iter().flat_map(u64::to_be_bytes));
}

pub(super) fn eos(out: &mut Vec<u8>) {
    out.extend(0x10_u64.to_be_bytes());
}

pub(super) fn page_header(offset: u64, name: Option<Name<'_>>, out: &mut Vec<u8>) {
    word(offset, 8, name, out);
}

pub(super) fn zero(offset: u64, name: Option<Name<'_>>, out: &mut Vec<u8>) {
    word(offset, 2, name, out);
    out.push(0);
}

fn word(offset: u64, flag: u64, name: Option<Name<'_>>, out: &mut Vec<u8>) {
    let more = if name.is_some() { 0 } else { 0x20 };
    out.extend((offset | flag | more).to_be_bytes());
    if let Some(name) = name {
        put_name(name, out);
    }
}

fn put_name(name: Name<'_>, out: &mut Vec<u8>) {
    let bytes = name.as_bytes();
    out.push(u8::try_from(bytes.len()).expect("checked"));
    out.extend(bytes);
}
