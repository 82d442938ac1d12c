//! Properties of the retpath crates.
