//! Tests of private parts: scripted kernel answers, and kernel states that the public API cannot
//! reach. Tests of the public API are in `engine/tests/`.

#![deny(unsafe_code)]

mod huge;
mod kernel;
mod model;
mod routes;
mod script;
