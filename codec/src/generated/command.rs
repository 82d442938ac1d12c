// Written by `cargo rp-gen` from spec/src/table. Edit the table, not this file.

//! Commands of the forward stream. Each one is a section of type 0x08 without a
//! footer. QEMU 3.0 numbers POSTCOPY_RESUME 8 and RECV_BITMAP 9; 3.1 inserted
//! ENABLE_COLO before them, so 3.0 and later releases cannot recover a
//! migration together (read 3.0, 3.1).

#[cfg(feature = "encode")]
use std::io::Write;
#[cfg(feature = "encode")]
use std::vec::Vec;
#[cfg(feature = "encode")]
use cookie_factory::SerializeFn;
#[cfg(feature = "encode")]
use cookie_factory::bytes::{be_u8, be_u16, be_u32};
#[cfg(feature = "encode")]
use cookie_factory::combinator::slice;
use nom::Parser;
#[cfg(feature = "encode")]
use crate::encode::{Encode, into_slice, invalid};
use crate::error::{DecodeError, EncodeError};
use crate::field::parse;
use crate::field::combinator::FieldError;
use crate::field::input::Bytes;
#[cfg(feature = "encode")]
use crate::field::write;
#[cfg(feature = "encode")]
use crate::field::output::{Refused, Sink, Written, fixed, tuple};
use crate::validate;
use crate::frame::{Decoded, Dialect, Trailer, Value, header};
use crate::frame::sealed::Sealed;
use crate::name::{BlockName, Name};
#[cfg(feature = "alloc")]
use crate::name::NameBuf;
use crate::ranges::{PageSizes, RangeList, Ranges};
#[cfg(feature = "alloc")]
use crate::ranges::RangeBuf;

/// Selects the commands of the forward stream in [`decode`](crate::decode).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Commands {}

/// Commands of the forward stream. Each one is a section of type 0x08 without a
/// footer. QEMU 3.0 numbers POSTCOPY_RESUME 8 and RECV_BITMAP 9; 3.1 inserted
/// ENABLE_COLO before them, so 3.0 and later releases cannot recover a
/// migration together (read 3.0, 3.1).
///
/// `N` is [`Name`] in a message that borrows from its input and `NameBuf` in
/// one that owns its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command<N, R> {
    /// Opens the return path: the destination may write from now on.
    ///
    /// `MIG_CMD_OPEN_RETURN_PATH`, number 1.
    OpenReturnPath,
    /// Requests a PONG with the same value.
    ///
    /// `MIG_CMD_PING`, number 2.
    Ping {
        /// Value that the PONG repeats.
        value: u32,
    },
    /// Announces that postcopy may follow. With page sizes: check that the host
    /// supports it and discard all RAM contents.
    ///
    /// `MIG_CMD_POSTCOPY_ADVISE`, number 3.
    PostcopyAdvise {
        /// Bitwise OR of the page sizes of all RAM blocks (before 2.9: the host
        /// page size), then the target page size.
        sizes: Option<PageSizes>,
    },
    /// Pages may arrive in any order from now on: start to trap accesses to
    /// missing pages.
    ///
    /// `MIG_CMD_POSTCOPY_LISTEN`, number 4.
    PostcopyListen,
    /// The guest may run at the destination.
    ///
    /// `MIG_CMD_POSTCOPY_RUN`, number 5.
    PostcopyRun,
    /// Ranges of a RAM block that will be sent after the switch: discard their
    /// contents.
    ///
    /// `MIG_CMD_POSTCOPY_RAM_DISCARD`, number 6.
    PostcopyRamDiscard {
        /// Name of the RAM block, as in the block list of the `ram` section.
        block: N,
        /// Start and length of each range, multiples of the block's page size.
        ranges: R,
    },
    /// Precedes a nested stream: LISTEN, the device states, RUN.
    ///
    /// `MIG_CMD_PACKAGED`, number 7.
    Packaged {
        /// Size of the nested stream; at most 16 MiB up to 2.11.
        size: u32,
    },
    /// The source wants to continue with COLO replication.
    ///
    /// `MIG_CMD_ENABLE_COLO`, number 8.
    EnableColo,
    /// The source has processed the received bitmaps and is ready to continue.
    ///
    /// `MIG_CMD_POSTCOPY_RESUME`, number 9.
    PostcopyResume,
    /// Requests the received bitmap of a RAM block.
    ///
    /// `MIG_CMD_RECV_BITMAP`, number 10.
    RecvBitmap {
        /// Name of the RAM block, as in the block list of the `ram` section.
        block: N,
    },
    /// The guest has stopped at the source and the switchover begins.
    ///
    /// `MIG_CMD_SWITCHOVER_START`, number 11.
    SwitchoverStart,
}

impl Sealed for Commands {}

impl Dialect for Commands {
    type Message<'a> = Command<Name<'a>, Ranges<'a>>;
    #[cfg(feature = "alloc")]
    type Owned = Command<NameBuf, RangeBuf>;
    const NAME: &'static str = "command";
    const HEADER: usize = 5;
    const MAX_PAYLOAD: usize = 65535;

    #[inline]
    fn frame(input: &[u8]) -> Result<Decoded<'_, Self::Message<'_>>, DecodeError> {
        let frame = match header(&[8], input)? {
            Ok(frame) => frame,
            Err(missing) => return Ok(Decoded::Need(missing)),
        };
        match frame.number() {
            0 => frame.reserved(),
            1 => frame.empty::<_, 65535>("OPEN_RETURN_PATH", Command::OpenReturnPath, Self::trailer),
            2 => frame.message::<_, 4, 4, 65535>("PING", parse_ping, Self::trailer),
            3 => frame.message::<_, 0, 16, 65535>("POSTCOPY_ADVISE", parse_postcopy_advise, Self::trailer),
            4 => frame.empty::<_, 65535>("POSTCOPY_LISTEN", Command::PostcopyListen, Self::trailer),
            5 => frame.empty::<_, 65535>("POSTCOPY_RUN", Command::PostcopyRun, Self::trailer),
            6 => frame.message::<_, 20, 65535, 65535>("POSTCOPY_RAM_DISCARD", parse_postcopy_ram_discard, Self::trailer),
            7 => frame.message::<_, 4, 4, 65535>("PACKAGED", parse_packaged, Self::trailer),
            8 => frame.empty::<_, 65535>("ENABLE_COLO", Command::EnableColo, Self::trailer),
            9 => frame.empty::<_, 65535>("POSTCOPY_RESUME", Command::PostcopyResume, Self::trailer),
            10 => frame.message::<_, 2, 256, 65535>("RECV_BITMAP", parse_recv_bitmap, Self::trailer),
            11 => frame.empty::<_, 65535>("SWITCHOVER_START", Command::SwitchoverStart, Self::trailer),
            _ => frame.unknown(),
        }
    }

    #[inline(always)]
    fn trailer(message: &Self::Message<'_>) -> Trailer {
        match message {
            Command::Packaged { size } => Trailer::Package(*size),
            _ => Trailer::None,
        }
    }

    fn label(message: &Self::Message<'_>) -> &'static str {
        message.label()
    }

    fn fields(message: &Self::Message<'_>, show: &mut dyn FnMut(&'static str, Value<'_>)) {
        match message {
            Command::OpenReturnPath => {}
            Command::Ping { value } => {
                show("value", Value::Number((*value).into()));
            }
            Command::PostcopyAdvise { sizes } => {
                show("sizes", Value::PageSizes(*sizes));
            }
            Command::PostcopyListen => {}
            Command::PostcopyRun => {}
            Command::PostcopyRamDiscard { block, ranges } => {
                show("version", Value::Number(0));
                show("block", Value::Name(Some(*block)));
                show("terminator", Value::Number(0));
                show("ranges", Value::Ranges(*ranges));
            }
            Command::Packaged { size } => {
                show("size", Value::Bytes((*size).into()));
            }
            Command::EnableColo => {}
            Command::PostcopyResume => {}
            Command::RecvBitmap { block } => {
                show("block", Value::Name(Some(*block)));
            }
            Command::SwitchoverStart => {}
        }
    }

    #[cfg(feature = "alloc")]
    fn into_owned(message: Self::Message<'_>) -> Self::Owned {
        message.into_owned()
    }
}

impl<'a> Command<Name<'a>, Ranges<'a>> {
    /// Makes [`OPEN_RETURN_PATH`](Self::OpenReturnPath).
    pub const fn open_return_path() -> Self {
        Self::OpenReturnPath
    }

    /// Makes [`PING`](Self::Ping).
    pub const fn ping(value: u32) -> Self {
        Self::Ping { value }
    }

    /// Makes [`POSTCOPY_ADVISE`](Self::PostcopyAdvise).
    pub const fn postcopy_advise(sizes: Option<PageSizes>) -> Self {
        Self::PostcopyAdvise { sizes }
    }

    /// Makes [`POSTCOPY_LISTEN`](Self::PostcopyListen).
    pub const fn postcopy_listen() -> Self {
        Self::PostcopyListen
    }

    /// Makes [`POSTCOPY_RUN`](Self::PostcopyRun).
    pub const fn postcopy_run() -> Self {
        Self::PostcopyRun
    }

    /// Makes [`POSTCOPY_RAM_DISCARD`](Self::PostcopyRamDiscard).
    pub const fn postcopy_ram_discard(block: Name<'a>, ranges: Ranges<'a>) -> Self {
        Self::PostcopyRamDiscard { block, ranges }
    }

    /// Makes [`PACKAGED`](Self::Packaged).
    pub const fn packaged(size: u32) -> Self {
        Self::Packaged { size }
    }

    /// Makes [`ENABLE_COLO`](Self::EnableColo).
    pub const fn enable_colo() -> Self {
        Self::EnableColo
    }

    /// Makes [`POSTCOPY_RESUME`](Self::PostcopyResume).
    pub const fn postcopy_resume() -> Self {
        Self::PostcopyResume
    }

    /// Makes [`RECV_BITMAP`](Self::RecvBitmap).
    pub const fn recv_bitmap(block: Name<'a>) -> Self {
        Self::RecvBitmap { block }
    }

    /// Makes [`SWITCHOVER_START`](Self::SwitchoverStart).
    pub const fn switchover_start() -> Self {
        Self::SwitchoverStart
    }
}

impl<N: BlockName, R: RangeList> Sealed for Command<N, R> {}

impl<N, R> Command<N, R> {
    /// Short name, such as `REQ_PAGES_ID`.
    pub fn label(&self) -> &'static str {
        match self {
            Command::OpenReturnPath => "OPEN_RETURN_PATH",
            Command::Ping { .. } => "PING",
            Command::PostcopyAdvise { .. } => "POSTCOPY_ADVISE",
            Command::PostcopyListen => "POSTCOPY_LISTEN",
            Command::PostcopyRun => "POSTCOPY_RUN",
            Command::PostcopyRamDiscard { .. } => "POSTCOPY_RAM_DISCARD",
            Command::Packaged { .. } => "PACKAGED",
            Command::EnableColo => "ENABLE_COLO",
            Command::PostcopyResume => "POSTCOPY_RESUME",
            Command::RecvBitmap { .. } => "RECV_BITMAP",
            Command::SwitchoverStart => "SWITCHOVER_START",
        }
    }

    /// Message number on the wire.
    pub fn number(&self) -> u16 {
        match self {
            Command::OpenReturnPath => 1,
            Command::Ping { .. } => 2,
            Command::PostcopyAdvise { .. } => 3,
            Command::PostcopyListen => 4,
            Command::PostcopyRun => 5,
            Command::PostcopyRamDiscard { .. } => 6,
            Command::Packaged { .. } => 7,
            Command::EnableColo => 8,
            Command::PostcopyResume => 9,
            Command::RecvBitmap { .. } => 10,
            Command::SwitchoverStart => 11,
        }
    }
}

impl<N: BlockName, R: RangeList> Command<N, R> {
    /// Borrows the message's name and ranges.
    pub fn as_borrowed(&self) -> Command<Name<'_>, Ranges<'_>> {
        match self {
            Command::OpenReturnPath => Command::OpenReturnPath,
            Command::Ping { value } => Command::Ping { value: *value },
            Command::PostcopyAdvise { sizes } => Command::PostcopyAdvise { sizes: *sizes },
            Command::PostcopyListen => Command::PostcopyListen,
            Command::PostcopyRun => Command::PostcopyRun,
            Command::PostcopyRamDiscard { block, ranges } => Command::PostcopyRamDiscard { block: block.name(), ranges: ranges.as_ranges() },
            Command::Packaged { size } => Command::Packaged { size: *size },
            Command::EnableColo => Command::EnableColo,
            Command::PostcopyResume => Command::PostcopyResume,
            Command::RecvBitmap { block } => Command::RecvBitmap { block: block.name() },
            Command::SwitchoverStart => Command::SwitchoverStart,
        }
    }
}

#[cfg(feature = "alloc")]
impl<N: BlockName, R: RangeList> Command<N, R> {
    /// An owned copy of the message.
    pub fn into_owned(self) -> Command<NameBuf, RangeBuf> {
        match self {
            Command::OpenReturnPath => Command::OpenReturnPath,
            Command::Ping { value } => Command::Ping { value },
            Command::PostcopyAdvise { sizes } => Command::PostcopyAdvise { sizes },
            Command::PostcopyListen => Command::PostcopyListen,
            Command::PostcopyRun => Command::PostcopyRun,
            Command::PostcopyRamDiscard { block, ranges } => Command::PostcopyRamDiscard { block: block.name().to_buf(), ranges: RangeBuf::copy(&ranges) },
            Command::Packaged { size } => Command::Packaged { size },
            Command::EnableColo => Command::EnableColo,
            Command::PostcopyResume => Command::PostcopyResume,
            Command::RecvBitmap { block } => Command::RecvBitmap { block: block.name().to_buf() },
            Command::SwitchoverStart => Command::SwitchoverStart,
        }
    }
}

impl<N: BlockName, R: RangeList> Command<N, R> {
    /// Checks the values as a receiver does.
    ///
    /// # Errors
    ///
    /// The first field whose value is invalid, and the rule.
    pub fn check(&self) -> Result<(), EncodeError> {
        let checked = match self {
            Command::PostcopyRamDiscard { block, ranges } => validate::ranges("ranges", 3 + u16::from(block.name().size()), ranges).map(drop),
            _ => Ok(()),
        };
        checked.map_err(|invalid| invalid.in_message(self.label()))
    }
}

#[cfg(feature = "encode")]
impl<N: BlockName, R: RangeList> Command<N, R> {
    #[inline(always)]
    fn write<W: Write>(&self, out: Sink<W>) -> Written<W> {
        Ok(match self {
            Command::OpenReturnPath => write_open_return_path()(out)?,
            Command::Ping { value } => write_ping(*value)(out)?,
            Command::PostcopyAdvise { sizes } => write_postcopy_advise(*sizes)(out)?,
            Command::PostcopyListen => write_postcopy_listen()(out)?,
            Command::PostcopyRun => write_postcopy_run()(out)?,
            Command::PostcopyRamDiscard { block, ranges } => {
                let size = validate::ranges("ranges", 3 + u16::from(block.name().size()), ranges)?;
                write_postcopy_ram_discard(size, block.name(), ranges)(out)?
            }
            Command::Packaged { size } => write_packaged(*size)(out)?,
            Command::EnableColo => write_enable_colo()(out)?,
            Command::PostcopyResume => write_postcopy_resume()(out)?,
            Command::RecvBitmap { block } => write_recv_bitmap(block.name())(out)?,
            Command::SwitchoverStart => write_switchover_start()(out)?,
        })
    }
}

#[cfg(feature = "encode")]
impl<N: BlockName, R: RangeList> Encode for Command<N, R> {
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        match self.write(Sink::from(out)) {
            Ok(_) => Ok(()),
            Err(Refused) => invalid(self, Self::check, Self::label),
        }
    }

    #[inline]
    fn encode_into(&self, out: &mut [u8]) -> Result<usize, EncodeError> {
        match into_slice(out, |sink| self.write(sink)) {
            Ok(size) => Ok(size),
            Err(Refused) => invalid(self, Self::check, Self::label),
        }
    }
}

#[inline(always)]
fn parse_ping<'a>() -> impl Parser<Bytes<'a>, Output = Command<Name<'a>, Ranges<'a>>, Error = FieldError> {
    parse::u32("value").map(|value| Command::Ping { value })
}

#[inline(always)]
fn parse_postcopy_advise<'a>() -> impl Parser<Bytes<'a>, Output = Command<Name<'a>, Ranges<'a>>, Error = FieldError> {
    parse::page_sizes("sizes").map(|sizes| Command::PostcopyAdvise { sizes })
}

#[inline(always)]
fn parse_postcopy_ram_discard<'a>() -> impl Parser<Bytes<'a>, Output = Command<Name<'a>, Ranges<'a>>, Error = FieldError> {
    (
        parse::u8_equals("version", 0),
        parse::name("block"),
        parse::u8_equals("terminator", 0),
        parse::ranges("ranges"),
    )
        .map(|((), block, (), ranges)| Command::PostcopyRamDiscard { block, ranges })
}

#[inline(always)]
fn parse_packaged<'a>() -> impl Parser<Bytes<'a>, Output = Command<Name<'a>, Ranges<'a>>, Error = FieldError> {
    parse::u32("size").map(|size| Command::Packaged { size })
}

#[inline(always)]
fn parse_recv_bitmap<'a>() -> impl Parser<Bytes<'a>, Output = Command<Name<'a>, Ranges<'a>>, Error = FieldError> {
    parse::name("block").map(|block| Command::RecvBitmap { block })
}

#[cfg(feature = "encode")]
#[inline(always)]
fn write_open_return_path<W: Write>() -> impl SerializeFn<W> {
    fixed::<5, _>(move |out| tuple((be_u8(8), be_u16(1), be_u16(0)))(out))
}

#[cfg(feature = "encode")]
#[inline(always)]
fn write_ping<W: Write>(value: u32) -> impl SerializeFn<W> {
    fixed::<9, _>(move |out| tuple((be_u8(8), be_u16(2), be_u16(4), be_u32(value)))(out))
}

#[cfg(feature = "encode")]
#[inline(always)]
fn write_postcopy_advise<W: Write>(sizes: Option<PageSizes>) -> impl SerializeFn<W> {
    tuple((
        fixed::<5, _>(move |out| tuple((be_u8(8), be_u16(3), be_u16(write::page_sizes_size(sizes))))(out)),
        write::page_sizes(sizes),
    ))
}

#[cfg(feature = "encode")]
#[inline(always)]
fn write_postcopy_listen<W: Write>() -> impl SerializeFn<W> {
    fixed::<5, _>(move |out| tuple((be_u8(8), be_u16(4), be_u16(0)))(out))
}

#[cfg(feature = "encode")]
#[inline(always)]
fn write_postcopy_run<W: Write>() -> impl SerializeFn<W> {
    fixed::<5, _>(move |out| tuple((be_u8(8), be_u16(5), be_u16(0)))(out))
}

#[cfg(feature = "encode")]
#[inline(always)]
fn write_postcopy_ram_discard<W: Write, R: RangeList>(size: u16, block: Name<'_>, ranges: &R) -> impl SerializeFn<W> {
    tuple((
        fixed::<7, _>(move |out| tuple((be_u8(8), be_u16(6), be_u16(size), be_u8(0), be_u8(block.size())))(out)),
        slice(block.as_bytes()),
        fixed::<1, _>(move |out| be_u8(0)(out)),
        write::ranges(ranges),
    ))
}

#[cfg(feature = "encode")]
#[inline(always)]
fn write_packaged<W: Write>(size: u32) -> impl SerializeFn<W> {
    fixed::<9, _>(move |out| tuple((be_u8(8), be_u16(7), be_u16(4), be_u32(size)))(out))
}

#[cfg(feature = "encode")]
#[inline(always)]
fn write_enable_colo<W: Write>() -> impl SerializeFn<W> {
    fixed::<5, _>(move |out| tuple((be_u8(8), be_u16(8), be_u16(0)))(out))
}

#[cfg(feature = "encode")]
#[inline(always)]
fn write_postcopy_resume<W: Write>() -> impl SerializeFn<W> {
    fixed::<5, _>(move |out| tuple((be_u8(8), be_u16(9), be_u16(0)))(out))
}

#[cfg(feature = "encode")]
#[inline(always)]
fn write_recv_bitmap<W: Write>(block: Name<'_>) -> impl SerializeFn<W> {
    tuple((
        fixed::<6, _>(move |out| tuple((be_u8(8), be_u16(10), be_u16(1 + u16::from(block.size())), be_u8(block.size())))(out)),
        slice(block.as_bytes()),
    ))
}

#[cfg(feature = "encode")]
#[inline(always)]
fn write_switchover_start<W: Write>() -> impl SerializeFn<W> {
    fixed::<5, _>(move |out| tuple((be_u8(8), be_u16(11), be_u16(0)))(out))
}
