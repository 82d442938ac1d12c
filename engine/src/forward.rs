//! Stand-in for `retpath_codec::forward` until it is there.
#![allow(missing_docs)]
use retpath_codec::{Name, command::{Command, Ranges}};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockId(u32);
impl BlockId {
    pub const fn new(index: u32) -> Self { Self(index) }
    pub fn index(self) -> usize { usize::try_from(self.0).unwrap_or(usize::MAX) }
}
impl Event<'_> {
    pub fn label(&self) -> &'static str { "EVENT" }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SectionKind { Start, Part, End, Full }

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity<'a> { pub idstr: &'a [u8], pub instance: u32, pub version: u32 }

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subsection<'a> { TargetPageBits(u32), Capabilities(&'a [u8]), Uuid([u8; 16]) }

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    Header,
    Configuration { machine: &'a [u8] },
    Subsection(Subsection<'a>),
    Section { kind: SectionKind, id: u32, identity: Option<Identity<'a>> },
    Footer { id: u32 },
    Command(Command<Name<'a>, Ranges<'a>>),
    PackageEnd,
    Record(ram::Record<'a>),
    DeviceState { id: u32, bytes: &'a [u8] },
    Eof,
    Description { size: u32 },
    DescriptionBytes(&'a [u8]),
}

pub mod ram {
    use super::{BlockId, Name};
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Record<'a> {
        Zero { block: BlockId, offset: u64, fill: u8, named: bool },
        Page { block: BlockId, offset: u64, data: &'a [u8], named: bool },
        MemSize { total: u64 },
        Block { name: Name<'a>, len: u64, page_size: Option<u64>, gpa: Option<u64> },
        Xbzrle { block: BlockId, offset: u64, data: &'a [u8], named: bool },
        Compressed { block: BlockId, offset: u64, data: &'a [u8], named: bool },
        Hook,
        MultifdFlush,
        Eos,
    }
}
