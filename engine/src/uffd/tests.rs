//! Tests that need the inside: scripted answers, and kernel states that the public API does not
//! lead to. What it does lead to is in `engine/tests/`.

#![deny(unsafe_code)]

mod huge;
mod kernel;
mod model;
mod routes;
mod script;
