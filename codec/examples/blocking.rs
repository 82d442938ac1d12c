//! Reads a return path with blocking calls and prints what is in it.
//!
//! ```text
//! cargo run -p retpath-codec --example blocking -- corpus/capture/qemu-10.0-recover.ch1.rp
//! cargo run -p retpath-codec --example blocking -- - < some.rp
//! cargo run -p retpath-codec --example blocking       # a conversation made up here
//! ```

use std::error::Error;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::thread;

use retpath_codec::bitmap::{self, Bitmap};
use retpath_codec::stream::{Item, Stream};
use retpath_codec::{Encode, Message, Name, Qemu};

/// Largest bitmap that this reader takes: of a block of 256 GiB with pages of
/// 4 KiB. A source knows its blocks, and would call `limit_bitmap`.
const LIMIT: u64 = bitmap::size(256 << 30 >> 12);

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("blocking: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    match std::env::args_os().nth(1) {
        Some(path) if path == "-" => print(io::stdin().lock()),
        Some(path) => print(File::open(path)?),
        None => {
            let (source, destination) = UnixStream::pair()?;
            let writer = thread::spawn(|| answer(destination));
            print(source)?;
            writer.join().map_err(|_| "the destination panicked")?
        }
    }
}

/// The source's side: reads until the other side closes.
fn print(mut from: impl Read) -> Result<()> {
    let mut stream = Stream::<Qemu>::new(LIMIT);
    let mut buffer = [0; 4096];
    loop {
        let size = from.read(&mut buffer)?;
        if size == 0 {
            stream.finish()?;
            println!("{:>8}  end", stream.offset());
            return Ok(());
        }
        let mut input = &buffer[..size];
        while let Some(item) = stream.next(&mut input)? {
            match item {
                Item::Message { offset, message } => println!("{offset:>8}  {message:?}"),
                Item::Bitmap { offset, bitmap } => {
                    let (received, bits) = (bitmap.received(), bitmap.bits());
                    println!("{offset:>8}  bitmap: {received} of {bits} bits set");
                }
            }
        }
    }
}

/// The destination's side, a few bytes at a time.
fn answer(mut to: UnixStream) -> Result<()> {
    let block = Name::new(b"pc.ram")?;
    let mut bytes = Vec::new();
    Message::RecvBitmap { block }.encode(&mut bytes)?;
    bitmap::encode(Bitmap::new(&[0xff; 512]), &mut bytes)?;
    for message in [
        Message::ResumeAck,
        Message::ReqPagesId {
            start: 0x331_6000,
            len: 4096,
            block,
        },
        Message::ReqPages {
            start: 0x331_7000,
            len: 4096,
        },
        Message::Shut { value: 0 },
    ] {
        message.encode(&mut bytes)?;
    }
    for piece in bytes.chunks(5) {
        to.write_all(piece)?;
    }
    Ok(())
}
