//! Finds the end of device state, whose format is unknown.
//!
//! ```text
//!  ... state ...  7e id  next item
//! ```
//!
//! A footer counts only if it is followed by an item that may follow it: the
//! header of a section with a new id and a name of printable ASCII, a command,
//! or, outside a package, a part of a section that was started, or EOF with a
//! description. Nothing here panics or allocates.
//!
//! State before a candidate is returned to the caller, so it is examined once. Of a
//! candidate at most [`MAX_CANDIDATE`] bytes are examined, again with each byte that
//! arrives while it is incomplete: the work is linear in the size of the state.

use alloc::collections::BTreeMap;

use nom::bytes::take;
use nom::number::{be_u8, be_u32};

use crate::command::{Command, Commands};
use crate::forward::cursor::{Cursor, Stop};
use crate::forward::expected::{Payload, Section};
use crate::frame::{Decoded, decode};
use crate::generated::{MAX_NAME, section};

/// Maximum size of a candidate: a footer, and the header of a section with the longest
/// name.
const MAX_CANDIDATE: usize = FOOTER + 1 + 4 + 1 + MAX_NAME + 4 + 4;

/// Size of a footer.
const FOOTER: usize = 5;

/// The context of the device state.
pub(super) struct Surroundings<'f> {
    /// Inside a package.
    pub(super) package: bool,
    /// The package or the channel ends with the slice.
    pub(super) last: bool,
    /// The sections so far.
    pub(super) sections: &'f BTreeMap<u32, Section>,
    /// Maximum length of a description, in bytes.
    pub(super) max_description: u32,
}

/// What a slice starts with.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// State of this many bytes; more than 0.
    State(usize),
    /// The footer.
    Footer,
}

/// Whether an item may follow a footer.
enum Likely {
    Yes,
    No,
    /// Depends on further bytes; each one may decide.
    Unsure,
}

/// Searches for the footer of section `id` in `view`.
pub(super) fn next(view: &[u8], id: u32, around: &Surroundings<'_>) -> Result<Next, Stop> {
    let [a, b, c, d] = id.to_be_bytes();
    let footer = [section::SECTION_FOOTER, a, b, c, d];
    let mut at = 0;
    while let Some(found) = position(view, at) {
        let rest = &view[found..];
        let examined = &rest[..rest.len().min(MAX_CANDIDATE)];
        match candidate(examined, &footer, around) {
            Likely::Yes if found == 0 => return Ok(Next::Footer),
            Likely::Unsure if found == 0 => return Err(Stop::Need(1)),
            Likely::No => at = found + 1,
            Likely::Yes | Likely::Unsure => return Ok(Next::State(found)),
        }
    }
    if view.is_empty() {
        return Err(Stop::Need(1));
    }
    Ok(Next::State(view.len()))
}

/// Returns the position of the next byte that may start a footer.
fn position(view: &[u8], from: usize) -> Option<usize> {
    view.iter()
        .skip(from)
        .position(|&byte| byte == section::SECTION_FOOTER)
        .map(|found| from + found)
}

fn candidate(view: &[u8], footer: &[u8; FOOTER], around: &Surroundings<'_>) -> Likely {
    let Some((head, rest)) = view.split_first_chunk::<FOOTER>() else {
        if around.last || !footer.starts_with(view) {
            return Likely::No;
        }
        return Likely::Unsure;
    };
    if head != footer {
        return Likely::No;
    }
    match (follows(rest, around), around.last) {
        (Likely::Unsure, true) => Likely::No,
        (likely, _) => likely,
    }
}

/// Returns whether `view` may follow a footer.
fn follows(view: &[u8], around: &Surroundings<'_>) -> Likely {
    let mut cursor = Cursor::new(view);
    let looked = match cursor.read(be_u8()) {
        Ok(section::SECTION_FULL) => head(cursor, around),
        Ok(section::SECTION_START) if !around.package => head(cursor, around),
        Ok(section::SECTION_PART | section::SECTION_END) if !around.package => {
            piece(cursor, around)
        }
        Ok(section::COMMAND) => return command(view, around),
        Ok(section::EOF) if !around.package => end(cursor, around),
        Ok(_) => Ok(false),
        Err(stop) => Err(stop),
    };
    match looked {
        Ok(true) => Likely::Yes,
        Err(Stop::Need(_)) => Likely::Unsure,
        Ok(false) | Err(Stop::Malformed(_)) => Likely::No,
    }
}

/// Returns whether a section header follows the type byte.
fn head(mut cursor: Cursor<'_>, around: &Surroundings<'_>) -> Result<bool, Stop> {
    let (id, size) = cursor.read((be_u32(), be_u8()))?;
    let name = cursor.rest().get(..size.into()).unwrap_or(cursor.rest());
    let printable = name.iter().all(|byte| (b' '..=b'~').contains(byte));
    if around.sections.contains_key(&id) || size == 0 || !printable {
        return Ok(false);
    }
    // Name, instance, version.
    cursor.read(take(usize::from(size) + 8))?;
    Ok(true)
}

/// Returns whether the id of a started section follows the type byte.
fn piece(mut cursor: Cursor<'_>, around: &Surroundings<'_>) -> Result<bool, Stop> {
    let section = around.sections.get(&cursor.read(be_u32())?);
    Ok(section.is_some_and(|section| section.payload != Payload::Device))
}

/// Returns whether a command may follow the section of a device. Commands with a
/// block name of more than a few letters do not: they follow other commands.
fn command(view: &[u8], around: &Surroundings<'_>) -> Likely {
    /// Size of the longest command without a block name, POSTCOPY_ADVISE.
    const LONGEST: usize = 5 + 16;
    match decode::<Commands>(view) {
        // The same decision as for an incomplete command, below.
        Ok(Decoded::Message { rest, .. }) if view.len() - rest.len() > LONGEST => Likely::No,
        Ok(Decoded::Message { message, .. }) => match message {
            Command::Ping { .. } | Command::PostcopyRun => Likely::Yes,
            _ if around.package => Likely::No,
            _ => Likely::Yes,
        },
        Ok(Decoded::Need(need)) if view.len() + need <= LONGEST => Likely::Unsure,
        Ok(Decoded::Need(_)) | Err(_) => Likely::No,
    }
}

/// Returns whether EOF is followed by a description or by the end of the channel.
fn end(mut cursor: Cursor<'_>, around: &Surroundings<'_>) -> Result<bool, Stop> {
    if cursor.rest().is_empty() && around.last {
        return Ok(true);
    }
    if cursor.read(be_u8())? != section::VMDESCRIPTION {
        return Ok(false);
    }
    let size = cursor.read(be_u32())?;
    Ok(size <= around.max_description && cursor.read(be_u8())? == b'{')
}

#[cfg(test)]
mod tests;
