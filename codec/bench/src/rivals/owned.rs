//! What libraries need that read from a stream and write to one: a cursor, and
//! block names that own a copy. (Held in place, as an array, a name slows them
//! down further: every move of a message moves 256 bytes.)

use std::io::{self, Cursor, Seek, SeekFrom};

use retpath_codec as codec;

/// A block name: 1 to 255 bytes, none of them NUL.
#[derive(Debug)]
pub(crate) struct Name(Vec<u8>);

impl Name {
    /// Reads the bytes of a name whose length has been read; `None` if they
    /// are none.
    #[inline(always)]
    pub(crate) fn read(size: u8, input: &mut impl io::Read) -> io::Result<Option<Self>> {
        let mut name = vec![0; usize::from(size)];
        input.read_exact(&mut name)?;
        if codec::Name::new(&name).is_err() {
            return Ok(None);
        }
        Ok(Some(Self(name)))
    }

    /// The name, as the codec has it.
    pub(crate) fn view(&self) -> codec::Name<'_> {
        codec::Name::new(&self.0).expect("checked when it was read")
    }

    #[inline(always)]
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    #[inline(always)]
    pub(crate) fn size(&self) -> u8 {
        self.0.len().to_le_bytes()[0]
    }
}

/// What a cursor has left.
#[inline(always)]
pub(crate) fn rest<'a>(reader: &Cursor<&'a [u8]>) -> &'a [u8] {
    let at = usize::try_from(reader.position()).expect("inside its slice");
    &reader.get_ref()[at..]
}

/// A cursor that appends.
#[inline(always)]
pub(crate) fn appending(out: &mut Vec<u8>) -> Cursor<&mut Vec<u8>> {
    let mut writer = Cursor::new(out);
    writer.seek(SeekFrom::End(0)).expect("a vector has an end");
    writer
}
