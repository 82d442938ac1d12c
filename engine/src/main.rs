//! The `retpath` command.

fn main() {}
