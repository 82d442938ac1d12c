//! Chooses the next message of a hostile destination and the next call of its caller.

use retpath_codec::bitmap::{self, Bitmap};
use retpath_codec::stream::{Item, Stream};
use retpath_codec::wire::value::PING_PACKAGE_LOADED;
use retpath_codec::{Encode, Message, NameBuf, Qemu, decode};

use super::{Harness, STEP};
use crate::choices::Choices;
use crate::source::TARGET;
use retpath_engine::Channel;
use retpath_engine::source::{Error, SourcePhase};

impl Harness {
    pub(super) fn call(&mut self, choices: &mut Choices<'_>) -> Result<(), Error> {
        match choices.below(40) {
            0 => self.source.link_lost(),
            1 => {
                if choices.one_in(4) {
                    self.replace_source();
                }
                self.source.resume(self.now)
            }
            2 => self.source.preempt_connected(self.now),
            3 => self.source.switch(self.device_state(choices)),
            4 => {
                let block = choices.index(4);
                let (start, len) = range(choices);
                self.source.mark_dirty(block, start, len)
            }
            5 => {
                let limits = [0, 1, 1 << 30, u64::MAX];
                self.source.set_bandwidth(limits[choices.index(4)]);
                Ok(())
            }
            6 => {
                let error = decode::<Qemu>(&[0; 4]).expect_err("message number is reserved");
                Err(self.source.malformed(error))
            }
            7 => {
                let bytes = vec![choices.byte(); choices.index(40)];
                let bitmap = Bitmap::new(&bytes);
                self.source
                    .message(Item::Bitmap { offset: 9, bitmap }, self.now)
            }
            8..14 => {
                let message = self.message(choices);
                self.say(&message)
            }
            14..20 => self.answer(),
            20..28 => {
                self.next(Channel::Preempt, choices);
                Ok(())
            }
            _ => {
                self.next(Channel::Main, choices);
                Ok(())
            }
        }
    }

    /// Returns no device state, or a few bytes of it.
    fn device_state(&self, choices: &mut Choices<'_>) -> Vec<u8> {
        if choices.one_in(2) {
            return Vec::new();
        }
        let mut state = b"\x04\0\0\0\x09\x03cpu\0\0\0\0\0\0\0\x01".to_vec();
        state.resize(state.len() + choices.index(9), 0x7e);
        if self.config.footers {
            state.extend(b"\x7e\0\0\0\x09");
        }
        state
    }

    /// Returns any message.
    fn message(&self, choices: &mut Choices<'_>) -> Message<NameBuf> {
        let blocks = self.blocks.iter().map(|block| block.name.clone());
        let mut names: Vec<NameBuf> = blocks.collect();
        names.push(NameBuf::new("none").expect("valid name"));
        let block = names[choices.index(names.len())].clone();
        let (start, len) = range(choices);
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        match choices.below(24) {
            0 => Message::Shut {
                value: u32::from(choices.one_in(4)),
            },
            1 => Message::SwitchoverAck,
            2 => Message::ResumeAck,
            3 => Message::Pong {
                value: PING_PACKAGE_LOADED,
            },
            4 => Message::Pong { value: 1 },
            5 => Message::RecvBitmap { block },
            6..15 => Message::ReqPages { start, len },
            _ => Message::ReqPagesId { start, len, block },
        }
    }

    /// Encodes a message, if it can be encoded, and lets the source decode it.
    fn say(&mut self, message: &Message<NameBuf>) -> Result<(), Error> {
        let mut bytes = Vec::new();
        if message.encode(&mut bytes).is_err() {
            return Ok(());
        }
        let mut stream = Stream::<Qemu>::new(0);
        let item = stream.next(&mut bytes.as_slice());
        let item = item.expect("was just encoded").expect("is complete");
        self.source.message(item, self.now)
    }

    /// Does what a well-behaved destination and caller do next.
    fn answer(&mut self) -> Result<(), Error> {
        match self.source.phase() {
            SourcePhase::Paused => self.source.resume(self.now),
            SourcePhase::Recovering => {
                let limit = self.source.recv_bitmap_limit();
                if limit == 0 {
                    let ids = 0..self.blocks.len();
                    for id in ids {
                        self.bitmap(id)?;
                    }
                }
                let _ = self.source.preempt_connected(self.now);
                Ok(())
            }
            SourcePhase::Resuming => self.say(&Message::ResumeAck),
            SourcePhase::Completing if self.ended => self.say(&Message::Shut { value: 0 }),
            SourcePhase::Precopy | SourcePhase::Switching => {
                let _ = self.source.preempt_connected(self.now);
                if self.config.switchover_ack && !self.source.is_ready_to_switch() {
                    return self.say(&Message::SwitchoverAck);
                }
                self.say(&Message::Pong { value: 1 })
            }
            SourcePhase::Postcopy => self.say(&Message::Pong {
                value: PING_PACKAGE_LOADED,
            }),
            _ => Ok(()),
        }
    }

    /// Announces and sends the correct bitmap of a block.
    fn bitmap(&mut self, id: usize) -> Result<(), Error> {
        let block = self.blocks.block(id).expect("block exists").clone();
        let pages = self.blocks.target_pages(id);
        let size = usize::try_from(bitmap::size(pages)).expect("fits in usize");
        let mut bytes = vec![0; size];
        for host in 0..block.len / block.page {
            let parts = (host * block.page..(host + 1) * block.page).step_by(STEP);
            let whole = parts.clone().all(|at| self.received.contains(&(id, at)));
            for at in parts {
                if whole {
                    let page = at / TARGET;
                    bytes[usize::try_from(page / 8).expect("fits in usize")] |= 1 << (page % 8);
                } else {
                    self.received.remove(&(id, at));
                }
            }
        }
        self.say(&Message::RecvBitmap { block: block.name })?;
        if self.source.phase() != SourcePhase::Recovering {
            return Ok(());
        }
        assert_eq!(self.source.recv_bitmap_limit(), bitmap::size(pages));
        let bitmap = Bitmap::new(&bytes);
        self.source
            .message(Item::Bitmap { offset: 9, bitmap }, self.now)
    }
}

/// Returns start and length of a range, usually aligned to pages.
fn range(choices: &mut Choices<'_>) -> (u64, u64) {
    let page = TARGET;
    let start = match choices.below(16) {
        0 => choices.any(),
        1 => choices.below(1 << 17),
        _ => choices.below(64) * page,
    };
    let len = match choices.below(16) {
        0 => choices.any(),
        1 => choices.below(10_000),
        2..6 => 16 * TARGET,
        _ => (1 + choices.below(4)) * page,
    };
    (start, len)
}
