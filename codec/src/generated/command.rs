//! Written by `cargo rp-gen` from spec/src/table. Edit the table, not this file.
//!
//! Commands of the forward stream. Each is a section of type 0x08 without a
//! footer. QEMU 3.0 numbers POSTCOPY_RESUME 8 and RECV_BITMAP 9; 3.1 put
//! ENABLE_COLO in front of them, so 3.0 and later releases cannot recover
//! together.

#[cfg(feature = "encode")]
use std::{io::Write, vec::Vec};

use crate::error::{DecodeError, EncodeError};
use crate::fit;
#[cfg(feature = "encode")]
use crate::frame::{Encode, into_slice, unfit};
use crate::frame::{Decoded, Dialect, Trailer, Value, header, sealed::Sealed};
#[cfg(feature = "alloc")]
use crate::name::NameBuf;
use crate::name::{BlockName, Name};
#[cfg(feature = "encode")]
use crate::field::{Refused, Run, Sink, Written};
use crate::field::{self, Fail, Parsed};
#[cfg(feature = "alloc")]
use crate::ranges::RangeBuf;
use crate::ranges::{PageSizes, RangeList, Ranges};

/// Chooses the commands of the forward stream in [`decode`](crate::decode).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Commands {}

/// Commands of the forward stream. Each is a section of type 0x08 without a
/// footer. QEMU 3.0 numbers POSTCOPY_RESUME 8 and RECV_BITMAP 9; 3.1 put
/// ENABLE_COLO in front of them, so 3.0 and later releases cannot recover
/// together.
///
/// `N` is [`Name`] in a message that borrows from its input and `NameBuf` in
/// one that owns its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command<N, R> {
    /// The destination may write to the return path from now on.
    ///
    /// `MIG_CMD_OPEN_RETURN_PATH`, number 1.
    OpenReturnPath,
    /// Asks for a PONG with the same value.
    ///
    /// `MIG_CMD_PING`, number 2.
    Ping {
        /// What the PONG must carry.
        value: u32,
    },
    /// Postcopy may follow: check that this host can do it, and forget all RAM
    /// contents.
    ///
    /// `MIG_CMD_POSTCOPY_ADVISE`, number 3.
    PostcopyAdvise {
        /// Bitwise OR of the page sizes of all RAM blocks (before 2.9: the host
        /// page size), then the target page size.
        sizes: Option<PageSizes>,
    },
    /// Pages may arrive in any order from now on: trap accesses to the missing
    /// ones.
    ///
    /// `MIG_CMD_POSTCOPY_LISTEN`, number 4.
    PostcopyListen,
    /// The guest may run.
    ///
    /// `MIG_CMD_POSTCOPY_RUN`, number 5.
    PostcopyRun,
    /// These ranges of a RAM block will be sent after the switch: forget what
    /// was received of them.
    ///
    /// `MIG_CMD_POSTCOPY_RAM_DISCARD`, number 6.
    PostcopyRamDiscard {
        /// RAM block, as the block list of the `ram` section spells it.
        block: N,
        /// Start and length of each range, multiples of the block's page size.
        ranges: R,
    },
    /// The next bytes are a nested stream: LISTEN, the device state, RUN.
    ///
    /// `MIG_CMD_PACKAGED`, number 7.
    Packaged {
        /// Size of the nested stream; at most 16 MiB up to 2.11.
        size: u32,
    },
    /// The source wants to go on with COLO replication.
    ///
    /// `MIG_CMD_ENABLE_COLO`, number 8.
    EnableColo,
    /// The source has taken over the received bitmaps and is ready to go on.
    ///
    /// `MIG_CMD_POSTCOPY_RESUME`, number 9.
    PostcopyResume,
    /// Asks for the received bitmap of a RAM block.
    ///
    /// `MIG_CMD_RECV_BITMAP`, number 10.
    RecvBitmap {
        /// RAM block, as the block list of the `ram` section spells it.
        block: N,
    },
    /// The guest has been stopped at the source; the switch begins.
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
        let frame = match header([8], input)? {
            Ok(frame) => frame,
            Err(missing) => return Ok(Decoded::Need(missing)),
        };
        match frame.number() {
            0 => frame.reserved(),
            1 => frame.empty::<_, 65535>("OPEN_RETURN_PATH", Command::OpenReturnPath),
            2 => frame.message::<_, 4, 4, 65535>("PING", parse_ping, parse_ping),
            3 => frame.message::<_, 0, 16, 65535>("POSTCOPY_ADVISE", parse_postcopy_advise, parse_postcopy_advise),
            4 => frame.empty::<_, 65535>("POSTCOPY_LISTEN", Command::PostcopyListen),
            5 => frame.empty::<_, 65535>("POSTCOPY_RUN", Command::PostcopyRun),
            6 => frame.message::<_, 20, 65535, 65535>("POSTCOPY_RAM_DISCARD", parse_postcopy_ram_discard, parse_postcopy_ram_discard),
            7 => frame.message::<_, 4, 4, 65535>("PACKAGED", parse_packaged, parse_packaged),
            8 => frame.empty::<_, 65535>("ENABLE_COLO", Command::EnableColo),
            9 => frame.empty::<_, 65535>("POSTCOPY_RESUME", Command::PostcopyResume),
            10 => frame.message::<_, 2, 256, 65535>("RECV_BITMAP", parse_recv_bitmap, parse_recv_bitmap),
            11 => frame.empty::<_, 65535>("SWITCHOVER_START", Command::SwitchoverStart),
            _ => frame.unknown(),
        }
    }

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

impl<N: BlockName, R: RangeList> Sealed for Command<N, R> {}

impl<N, R> Command<N, R> {
    /// Name that people use, such as `REQ_PAGES_ID`.
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

    /// Number on the wire.
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

#[cfg(feature = "alloc")]
impl<N: BlockName, R: RangeList> Command<N, R> {
    /// The same message, with copies of what it borrows.
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
    /// Whether a receiver would take the values.
    ///
    /// # Errors
    ///
    /// Which field breaks which rule.
    pub fn check(&self) -> Result<(), EncodeError> {
        let checked = match self {
            Command::PostcopyRamDiscard { block, ranges } => fit::ranges("ranges", 3 + u16::from(block.name().size()), ranges).map(drop),
            _ => Ok(()),
        };
        checked.map_err(|unfit| unfit.of(self.label()))
    }
}

#[cfg(feature = "encode")]
impl<N: BlockName, R: RangeList> Command<N, R> {
    #[inline(always)]
    fn write<W: Write>(&self, out: Sink<W>) -> Written<W> {
        match self {
            Command::OpenReturnPath => write_open_return_path(out),
            Command::Ping { value } => write_ping(out, *value),
            Command::PostcopyAdvise { sizes } => write_postcopy_advise(out, *sizes),
            Command::PostcopyListen => write_postcopy_listen(out),
            Command::PostcopyRun => write_postcopy_run(out),
            Command::PostcopyRamDiscard { block, ranges } => write_postcopy_ram_discard(out, block.name(), ranges),
            Command::Packaged { size } => write_packaged(out, *size),
            Command::EnableColo => write_enable_colo(out),
            Command::PostcopyResume => write_postcopy_resume(out),
            Command::RecvBitmap { block } => write_recv_bitmap(out, block.name()),
            Command::SwitchoverStart => write_switchover_start(out),
        }
    }
}

#[cfg(feature = "encode")]
impl<N: BlockName, R: RangeList> Encode for Command<N, R> {
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        match self.write(Sink::from(out)) {
            Ok(_) => Ok(()),
            Err(Refused) => unfit(self, Self::check, Self::label),
        }
    }

    #[inline]
    fn encode_into(&self, out: &mut [u8]) -> Result<usize, EncodeError> {
        match into_slice(out, |sink| self.write(sink)) {
            Ok(size) => Ok(size),
            Err(Refused) => unfit(self, Self::check, Self::label),
        }
    }
}

#[inline(always)]
fn parse_ping<F: Fail>(rest: &[u8]) -> Parsed<'_, Command<Name<'_>, Ranges<'_>>, F> {
    let (rest, value) = field::be32("value", rest)?;
    Ok((rest, Command::Ping { value }))
}

#[inline(always)]
fn parse_postcopy_advise<F: Fail>(rest: &[u8]) -> Parsed<'_, Command<Name<'_>, Ranges<'_>>, F> {
    let (rest, sizes) = field::page_sizes("sizes", rest)?;
    Ok((rest, Command::PostcopyAdvise { sizes }))
}

#[inline(always)]
fn parse_postcopy_ram_discard<F: Fail>(rest: &[u8]) -> Parsed<'_, Command<Name<'_>, Ranges<'_>>, F> {
    let (rest, ()) = field::u8_equals("version", 0, rest)?;
    let (rest, block) = field::name("block", rest)?;
    let (rest, ()) = field::u8_equals("terminator", 0, rest)?;
    let (rest, ranges) = field::ranges("ranges", rest)?;
    Ok((rest, Command::PostcopyRamDiscard { block, ranges }))
}

#[inline(always)]
fn parse_packaged<F: Fail>(rest: &[u8]) -> Parsed<'_, Command<Name<'_>, Ranges<'_>>, F> {
    let (rest, size) = field::be32("size", rest)?;
    Ok((rest, Command::Packaged { size }))
}

#[inline(always)]
fn parse_recv_bitmap<F: Fail>(rest: &[u8]) -> Parsed<'_, Command<Name<'_>, Ranges<'_>>, F> {
    let (rest, block) = field::name("block", rest)?;
    Ok((rest, Command::RecvBitmap { block }))
}

#[cfg(feature = "encode")]
#[inline(always)]
fn write_open_return_path<W: Write>(out: Sink<W>) -> Written<W> {
    field::put(out, Run::<5>::new().u8::<0>(8).be16::<1>(1).be16::<3>(0))
}

#[cfg(feature = "encode")]
#[inline(always)]
fn write_ping<W: Write>(out: Sink<W>, value: u32) -> Written<W> {
    field::put(out, Run::<9>::new().u8::<0>(8).be16::<1>(2).be16::<3>(4).be32::<5>(value))
}

#[cfg(feature = "encode")]
#[inline(always)]
fn write_postcopy_advise<W: Write>(out: Sink<W>, sizes: Option<PageSizes>) -> Written<W> {
    let out = field::put(out, Run::<5>::new().u8::<0>(8).be16::<1>(3).be16::<3>(field::page_sizes_size(sizes)))?;
    field::put_page_sizes(out, sizes)
}

#[cfg(feature = "encode")]
#[inline(always)]
fn write_postcopy_listen<W: Write>(out: Sink<W>) -> Written<W> {
    field::put(out, Run::<5>::new().u8::<0>(8).be16::<1>(4).be16::<3>(0))
}

#[cfg(feature = "encode")]
#[inline(always)]
fn write_postcopy_run<W: Write>(out: Sink<W>) -> Written<W> {
    field::put(out, Run::<5>::new().u8::<0>(8).be16::<1>(5).be16::<3>(0))
}

#[cfg(feature = "encode")]
#[inline(always)]
fn write_postcopy_ram_discard<W: Write, R: RangeList>(out: Sink<W>, block: Name<'_>, ranges: &R) -> Written<W> {
    let out = field::put(out, Run::<7>::new().u8::<0>(8).be16::<1>(6).be16::<3>(fit::ranges("ranges", 3 + u16::from(block.size()), ranges)?).u8::<5>(0).u8::<6>(block.size()))?;
    let out = field::put_name(out, block)?;
    let out = field::put(out, Run::<1>::new().u8::<0>(0))?;
    field::put_ranges(out, ranges)
}

#[cfg(feature = "encode")]
#[inline(always)]
fn write_packaged<W: Write>(out: Sink<W>, size: u32) -> Written<W> {
    field::put(out, Run::<9>::new().u8::<0>(8).be16::<1>(7).be16::<3>(4).be32::<5>(size))
}

#[cfg(feature = "encode")]
#[inline(always)]
fn write_enable_colo<W: Write>(out: Sink<W>) -> Written<W> {
    field::put(out, Run::<5>::new().u8::<0>(8).be16::<1>(8).be16::<3>(0))
}

#[cfg(feature = "encode")]
#[inline(always)]
fn write_postcopy_resume<W: Write>(out: Sink<W>) -> Written<W> {
    field::put(out, Run::<5>::new().u8::<0>(8).be16::<1>(9).be16::<3>(0))
}

#[cfg(feature = "encode")]
#[inline(always)]
fn write_recv_bitmap<W: Write>(out: Sink<W>, block: Name<'_>) -> Written<W> {
    let out = field::put(out, Run::<6>::new().u8::<0>(8).be16::<1>(10).be16::<3>(1 + u16::from(block.size())).u8::<5>(block.size()))?;
    field::put_name(out, block)
}

#[cfg(feature = "encode")]
#[inline(always)]
fn write_switchover_start<W: Write>(out: Sink<W>) -> Written<W> {
    field::put(out, Run::<5>::new().u8::<0>(8).be16::<1>(11).be16::<3>(0))
}
