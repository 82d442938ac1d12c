//! Helpers of libraries that read from and write to streams: a cursor, and block
//! names that own a copy. (Stored inline, as an array, a name slows them down
//! further: every move of a message copies 256 bytes.)

use std::io::{self, Cursor, Seek, SeekFrom};

use retpath_codec as codec;

/// A block name: 1 to 255 bytes, none of them NUL.
#[derive(Debug)]
pub(crate) struct Name(Vec<u8>);

impl Name {
    /// Reads the bytes of a name whose length has been read; `None` if they are not
    /// a valid name.
    #[inline(always)]
    pub(crate) fn read(size: u8, input: &mut impl io::Read) -> io::Result<Option<Self>> {
        let mut name = vec![0; usize::from(size)];
        input.read_exact(&mut name)?;
        if codec::Name::new(&name).is_err() {
            return Ok(None);
        }
        Ok(Some(Self(name)))
    }

    /// Returns the name as that of the codec.
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

/// Returns the unread part of a cursor.
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
