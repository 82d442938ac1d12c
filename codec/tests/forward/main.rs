//! The forward stream: recordings, hand-written streams, defects.

mod blocks;
mod capture;
mod channels;
mod device;
mod flood;
mod json;
mod kit;
mod mutate;
mod need;
mod recipe;
mod refuse_commands;
mod refuse_ram;
mod refuse_sections;
mod seed;
mod state;
mod tokio;
mod write;
