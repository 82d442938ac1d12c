//! The source against a destination too simple to be wrong.

mod bitmaps;
mod bytes;
mod floods;
mod peer;
mod random;
mod recovery;
mod refusals;
mod rig;
mod service;
mod switch;
