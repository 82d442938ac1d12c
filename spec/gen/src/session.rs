//! Short valid sessions: return paths, RAM records, forward streams.
//!
//! They are seeds, and examples of the reference. No piece is larger than a
//! page.

use super::stream::{Load, Stream};
use retpath_spec::model::Dialect;
use retpath_spec::oracle::Value;
use retpath_spec::sample::{PAGE, bitmap_trailer};
use retpath_spec::table::command::PING_PACKAGE_LOADED;
use retpath_spec::table::return_path::{QEMU, V7};

const RAM: &str = "pc.ram";
const ROM: &str = "/rom@etc/acpi/tables";
const MACHINE: &str = "pc-i440fx-10.0";
/// Number of the `ram` section.
const ID: u32 = 1;

/// Short complete return paths: dialect, name, messages.
pub fn return_paths() -> Vec<(&'static Dialect, &'static str, Stream)> {
    let new = Stream::default;
    let precopy = new().number(&QEMU, "PONG", 1).number(&QEMU, "SHUT", 0);
    let failed = new().number(&QEMU, "PONG", 1).number(&QEMU, "SHUT", 1);
    let switchover_ack = new()
        .message(&QEMU, "SWITCHOVER_ACK", &[], &[])
        .number(&QEMU, "PONG", 1)
        .number(&QEMU, "SHUT", 0);
    let postcopy = new()
        .number(&QEMU, "PONG", 1)
        .number(&QEMU, "PONG", 2)
        .wants(0x2000, Some(RAM))
        .number(&QEMU, "PONG", 4)
        .wants(0x8000, None)
        .number(&QEMU, "PONG", 3)
        .number(&QEMU, "PONG", PING_PACKAGE_LOADED.into())
        .wants(0x1000, Some(ROM))
        .wants(0x9000, Some(RAM))
        .wants(0, None)
        .number(&QEMU, "SHUT", 0);
    let recovery = new()
        .received(RAM, [0xff, 0x0f, 0, 0, 0, 0, 0, 0])
        .received(ROM, [0x03, 0, 0, 0, 0, 0, 0, 0])
        .number(&QEMU, "RESUME_ACK", 1)
        .wants(0xc000, Some(RAM))
        .wants(0xd000, None)
        .number(&QEMU, "SHUT", 0);
    let draft = new()
        .number(&V7, "PONG", 1)
        .wants_v7(0x2000, Value::Name(RAM.into()))
        .wants_v7(0x8000, Value::NoName)
        .number(&V7, "SHUT", 0);
    Vec::from([
        (&QEMU, "precopy", precopy),
        (&QEMU, "failed", failed),
        (&QEMU, "switchover_ack", switchover_ack),
        (&QEMU, "postcopy", postcopy),
        (&QEMU, "recovery", recovery),
        (&V7, "postcopy", draft),
    ])
}

/// Single RAM records, and complete preempt channels.
pub fn records() -> Vec<(&'static str, Stream)> {
    let new = Stream::default;
    // Format 1, 5 bytes: 16 unchanged bytes, then 3 new ones.
    let delta = [1, 0, 5, 0x10, 3, 0xaa, 0xbb, 0xcc];
    let deflated = [0, 0, 0, 2, 0x78, 0x9c];
    let preempt = || {
        new()
            .page("PAGE", 0x3000, Some(RAM), Load::Page(0x33))
            .page("ZERO", 0x4000, None, Load::Fill(0))
    };
    Vec::from([
        (
            "zero-named",
            new().page("ZERO", 0, Some(RAM), Load::Fill(0)),
        ),
        (
            "zero-continue",
            new().page("ZERO", PAGE, None, Load::Fill(0)),
        ),
        (
            "page-named",
            new().page("PAGE", 0, Some(RAM), Load::Page(0x55)),
        ),
        (
            "page-continue",
            new().page("PAGE", PAGE, None, Load::Page(0xaa)),
        ),
        ("mem_size-one", new().ram_blocks(&[(RAM, 16 << 20)])),
        (
            "mem_size-two",
            new().ram_blocks(&[(RAM, 16 << 20), (ROM, 0x2_0000)]),
        ),
        (
            "xbzrle",
            new().page("XBZRLE", 0, Some(RAM), Load::Bytes(&delta)),
        ),
        (
            "compress_page",
            new().page("COMPRESS_PAGE", 0, Some(RAM), Load::Bytes(&deflated)),
        ),
        ("eos", new().word("EOS")),
        ("hook", new().word("HOOK")),
        ("multifd_flush", new().word("MULTIFD_FLUSH")),
        ("preempt", preempt()),
        ("preempt-7.2", preempt().word("EOS")),
    ])
}

/// Complete forward streams.
pub fn forward() -> Vec<(&'static str, Stream)> {
    let new = Stream::default;
    let end = |stream: Stream| stream.word("EOS").footer(ID).bare("EOF");
    let precopy = new()
        .header()
        .configuration(MACHINE)
        .ram_start(ID)
        .ram_blocks(&[(RAM, 4 * PAGE)])
        .word("EOS")
        .footer(ID)
        .piece("SECTION_PART", ID)
        .page("ZERO", 0, Some(RAM), Load::Fill(0))
        .page("PAGE", PAGE, None, Load::Page(0x11))
        .word("EOS")
        .footer(ID)
        .piece("SECTION_END", ID)
        .page("ZERO", 2 * PAGE, None, Load::Fill(0));
    let configured = new()
        .header()
        .configuration("virt-10.0")
        .subsection("configuration/target-page-bits", &12_u32.to_be_bytes())
        .subsection(
            "configuration/capabilities",
            b"\0\0\0\x01\x0fx-ignore-shared",
        )
        .subsection("configuration/uuid", &[0x11; 16])
        .command("OPEN_RETURN_PATH", &[])
        .command("PING", &[Value::Number(1)])
        .bare("EOF");
    // Machine types 2.3 and earlier: no configuration, no footers.
    let old = new()
        .header()
        .command("OPEN_RETURN_PATH", &[])
        .command("PING", &[Value::Number(1)])
        .ram_start(ID)
        .ram_blocks(&[(RAM, PAGE)])
        .word("EOS")
        .piece("SECTION_END", ID)
        .page("ZERO", 0, Some(RAM), Load::Fill(0))
        .word("EOS")
        .bare("EOF");
    let name = |block: &str| Value::Name(block.into());
    let resumed = new()
        .command("RECV_BITMAP", &[name(RAM)])
        .command("RECV_BITMAP", &[name(ROM)])
        .command("POSTCOPY_RESUME", &[])
        .piece("SECTION_PART", ID)
        .page("PAGE", 2 * PAGE, Some(RAM), Load::Page(0x22))
        .word("EOS")
        .footer(ID)
        .piece("SECTION_END", ID);
    Vec::from([
        ("precopy", end(precopy)),
        ("configured", configured),
        ("old-machine", old),
        ("resumed", end(resumed)),
        ("postcopy", postcopy()),
    ])
}

/// A minimal postcopy migration: 16 KiB of RAM and one device.
pub fn postcopy() -> Stream {
    let new = Stream::default;
    let ping = |stream: Stream, value| stream.command("PING", &[Value::Number(value)]);
    let package = new()
        .command("POSTCOPY_LISTEN", &[])
        .full(2, "serial", 3, &[0x00, 0x0c, 0x03]);
    let package = ping(package.footer(2), 3).command("POSTCOPY_RUN", &[]);

    let stream = new()
        .header()
        .configuration(MACHINE)
        .command("OPEN_RETURN_PATH", &[]);
    let stream = ping(stream, 1)
        .command("POSTCOPY_ADVISE", &[Value::PageSizes(Some((PAGE, PAGE)))])
        .ram_start(ID)
        .ram_blocks(&[(RAM, 4 * PAGE)])
        .word("EOS")
        .footer(ID)
        .command("SWITCHOVER_START", &[])
        .command(
            "POSTCOPY_RAM_DISCARD",
            &[
                Value::Number(0),
                Value::Name(RAM.into()),
                Value::Number(0),
                Value::Ranges(Vec::from([(0, 4 * PAGE)])),
            ],
        );
    let stream = ping(stream, 2).packaged(package);
    ping(stream, 4)
        .piece("SECTION_PART", ID)
        .page("ZERO", 0, Some(RAM), Load::Fill(0))
        .page("ZERO", PAGE, None, Load::Fill(0))
        .page("PAGE", 3 * PAGE, None, Load::Page(0x55))
        .word("EOS")
        .footer(ID)
        .piece("SECTION_END", ID)
        .page("ZERO", 2 * PAGE, None, Load::Fill(0))
        .word("EOS")
        .footer(ID)
        .bare("EOF")
}

impl Stream {
    /// A message with a number as its only field.
    fn number(self, dialect: &'static Dialect, label: &str, value: u64) -> Self {
        self.message(dialect, label, &[Value::Number(value)], &[])
    }

    /// A request for one page of a block, or of the current block.
    fn wants(self, start: u64, block: Option<&str>) -> Self {
        let mut values = Vec::from([Value::Number(start), Value::Number(PAGE)]);
        let Some(block) = block else {
            return self.message(&QEMU, "REQ_PAGES", &values, &[]);
        };
        values.push(Value::Name(block.into()));
        self.message(&QEMU, "REQ_PAGES_ID", &values, &[])
    }

    /// A request in the draft dialect.
    fn wants_v7(self, start: u64, block: Value) -> Self {
        let values = [Value::Number(start), Value::Number(PAGE), block];
        self.message(&V7, "REQ_PAGES", &values, &[])
    }

    /// The received bitmap of a block of up to 64 pages.
    fn received(self, block: &str, pages: [u8; 8]) -> Self {
        let trailer = bitmap_trailer(&pages);
        self.message(&QEMU, "RECV_BITMAP", &[Value::Name(block.into())], &trailer)
    }
}
