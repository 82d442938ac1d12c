//! A block name for libraries that cannot borrow from their input: they own a
//! copy. (Held in place, as an array, it slows them down further: every move
//! of a message moves 256 bytes.)
use std::io;

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
        self.0.len() as u8
    }
}
