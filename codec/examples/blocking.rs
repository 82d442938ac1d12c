//! Reads a return path with blocking I/O and prints its messages.
//!
//! ```text
//! cargo run -p retpath-codec --example blocking -- corpus/capture/qemu-10.0-recover.ch1.rp
//! cargo run -p retpath-codec --example blocking -- - < some.rp
//! cargo run -p retpath-codec --example blocking       # an example conversation
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

/// Maximum size of bitmaps: of a block of 256 GiB in pages of 4 KiB. A source knows
/// its blocks and would call `limit_bitmap` for each RECV_BITMAP.
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

/// The source: reads until the destination closes the connection.
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

/// The destination: writes a few bytes at a time.
fn answer(mut to: UnixStream) -> Result<()> {
    let block = Name::new(b"pc.ram")?;
    let mut bytes = Vec::new();
    Message::recv_bitmap(block).encode(&mut bytes)?;
    bitmap::encode(Bitmap::new(&[0xff; 512]), &mut bytes)?;
    for message in [
        Message::resume_ack(),
        Message::req_pages_id(0x331_6000, 4096, block),
        Message::req_pages(0x331_7000, 4096),
        Message::shut(0),
    ] {
        message.encode(&mut bytes)?;
    }
    for piece in bytes.chunks(5) {
        to.write_all(piece)?;
    }
    Ok(())
}
