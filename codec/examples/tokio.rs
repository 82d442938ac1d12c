//! Both ends of a return path with tokio, over a pair of unix sockets.
//!
//! ```text
//! cargo run -p retpath-codec --features tokio --example tokio
//! ```

use std::error::Error;

use futures_util::{SinkExt, StreamExt};
use retpath_codec::bitmap::{self, Bitmap};
use retpath_codec::stream::ItemBuf;
use retpath_codec::tokio::ReturnPath;
use retpath_codec::{Message, Name, Qemu};
use tokio::net::UnixStream;
use tokio_util::codec::{FramedRead, FramedWrite};

/// Target pages of the only RAM block: 16 MiB.
const PAGES: u64 = 4096;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let (source, destination) = UnixStream::pair()?;
    let (read, sent) = tokio::join!(source_side(source), destination_side(destination));
    sent?;
    println!("{} items", read?);
    Ok(())
}

/// Prints every item and returns their number.
async fn source_side(socket: UnixStream) -> Result<usize, Box<dyn Error>> {
    // The source knows the block, and so the size of its bitmap.
    let mut path = FramedRead::new(socket, ReturnPath::<Qemu>::new(bitmap::size(PAGES)));
    let mut items = 0;
    while let Some(item) = path.next().await {
        items += 1;
        match item? {
            ItemBuf::Message { offset, message } => println!("{offset:>8}  {message:?}"),
            ItemBuf::Bitmap { offset, bytes } => {
                let bitmap = Bitmap::new(&bytes);
                bitmap.check(PAGES)?;
                println!(
                    "{offset:>8}  bitmap: {} of {PAGES} pages received",
                    bitmap.received()
                );
            }
        }
    }
    Ok(items)
}

async fn destination_side(socket: UnixStream) -> Result<(), Box<dyn Error>> {
    let mut path = FramedWrite::new(socket, ReturnPath::<Qemu>::new(0));
    let block = Name::new(b"pc.ram")?;
    path.send(Message::pong(1)).await?;
    path.send(Message::recv_bitmap(block)).await?;
    path.send(Bitmap::new(&[0x0f; 512])).await?;
    path.send(Message::resume_ack()).await?;
    for page in 0..3 {
        path.send(Message::req_pages_id(page << 12, 4096, block))
            .await?;
    }
    path.send(Message::shut(0)).await?;
    Ok(())
}
