//! Chooses the next event of a hostile source and the next call of its caller.

use retpath_codec::command::{Command, PageSizes, Range, RangeBuf};
use retpath_codec::forward::{BlockIndex, Event, Subsection, ram::Record};
use retpath_codec::wire::value::PING_PACKAGE_LOADED;
use retpath_codec::{BlockName, Name};

use super::{Harness, NAMES, PAGE, RAM, SIZES};
use crate::choices::Choices;
use retpath_engine::Channel::{self, Main, Preempt};
use retpath_engine::destination::{Error, Phase};

pub(super) fn name(choices: &mut Choices<'_>) -> Name<'static> {
    let bytes = NAMES[choices.index(NAMES.len())];
    Name::new(bytes).expect("valid name")
}

/// Returns an offset in a block, usually aligned to a page.
fn offset(choices: &mut Choices<'_>) -> u64 {
    match choices.below(16) {
        0 => choices.any(),
        1 => choices.below(RAM),
        _ => choices.below(32) * PAGE,
    }
}

fn length(choices: &mut Choices<'_>) -> u64 {
    match choices.below(8) {
        0 => choices.any(),
        1 => choices.below(3) * 256,
        2 => 16 * PAGE,
        _ => choices.below(5) * PAGE,
    }
}

fn channel(choices: &mut Choices<'_>) -> Channel {
    if choices.one_in(3) { Preempt } else { Main }
}

impl Harness {
    /// Performs most calls up to the switch, so that tests get past it.
    pub(super) fn start(&mut self, choices: &mut Choices<'_>) {
        let sizes = PageSizes {
            summary: if choices.one_in(3) { 17 * PAGE } else { PAGE },
            target: PAGE,
        };
        let _ = self.command(Command::OpenReturnPath);
        let _ = self.command(Command::PostcopyAdvise { sizes: Some(sizes) });
        for number in 0..1 + choices.below(3) {
            let len = (1 + choices.below(2)) * 16 * PAGE;
            let _ = self.block(number, NAMES[number as usize % 4], len, None);
        }
        for _ in 0..choices.below(4) {
            let event = record(choices, &[7; 1024]);
            let _ = self.event(Main, event);
        }
        for block in NAMES.iter().take(choices.index(3)) {
            let ranges = vec![Range {
                start: 0,
                len: 16 * PAGE,
            }];
            let _ = self.command(Command::PostcopyRamDiscard {
                block: Name::new(block).expect("valid name"),
                ranges: RangeBuf::new(ranges).expect("valid range"),
            });
        }
        for command in [
            Command::Packaged { size: 10 },
            Command::PostcopyListen,
            Command::PostcopyRun,
        ] {
            if choices.one_in(8) {
                return;
            }
            let _ = self.command(command);
        }
        let _ = self.event(Main, Event::PackageEnd);
    }

    /// Does what a well-behaved source and caller do next.
    fn well_behaved_call(&mut self, choices: &mut Choices<'_>) -> Result<(), Error> {
        match self.core.phase() {
            Phase::Paused => {
                self.forget(Main);
                self.forget(Preempt);
                self.core.link_lost(Main)?;
                self.core.link_lost(Preempt)?;
                self.core.link_restored()
            }
            Phase::Recovering => {
                let names: Vec<_> = self.core.blocks().iter().map(|b| b.name.clone()).collect();
                for name in &names {
                    let block = name.name();
                    self.command(Command::RecvBitmap { block })?;
                }
                self.command(Command::PostcopyResume)
            }
            Phase::Listening => self.command(Command::PostcopyRun),
            Phase::Running => {
                self.place_all();
                let all = choices.one_in(2);
                while let Some((block, offset)) = self.core.pages().first_missing() {
                    let number = u32::try_from(block).expect("fits in u32");
                    let page = Record::Zero {
                        block: BlockIndex::new(number),
                        offset,
                        fill: 0,
                        named: true,
                    };
                    self.event(Main, Event::Record(page))?;
                    self.place_all();
                    if !all && choices.one_in(4) {
                        return Ok(());
                    }
                    if self.core.pages().first_missing() == Some((block, offset)) {
                        // Send the rest of a host page.
                        return self.rest_of_page(block, offset);
                    }
                }
                self.event(Main, Event::Eof)?;
                self.core.device_state_saved()?;
                self.act_all();
                if self.complete {
                    self.confirm()?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Sends the remaining target pages of a host page whose first one was sent.
    fn rest_of_page(&mut self, block: usize, first: u64) -> Result<(), Error> {
        let number = u32::try_from(block).expect("fits in u32");
        let target = self.core.blocks().target();
        let page = self.core.blocks().block(block).expect("block exists").page;
        for part in 1..page / target {
            let page = Record::Zero {
                block: BlockIndex::new(number),
                offset: first + part * target,
                fill: 0,
                named: false,
            };
            self.event(Main, Event::Record(page))?;
        }
        Ok(())
    }

    pub(super) fn call(&mut self, choices: &mut Choices<'_>) -> Result<(), Error> {
        let block = choices.index(3);
        match choices.below(40) {
            33..40 => self.well_behaved_call(choices),
            32 if choices.one_in(4) => {
                self.core.abort();
                assert!(self.core.phase().is_over());
                Ok(())
            }
            32 => self.confirm(),
            0 => self.core.device_state_saved(),
            1 => {
                let channel = channel(choices);
                self.forget(channel);
                self.core.link_lost(channel)
            }
            2 => self.core.link_restored(),
            3 => {
                let channel = channel(choices);
                let over = channel == Main && self.core.phase() != Phase::Finished;
                let got = self.core.end_of_stream(channel);
                if over && self.core.phase() == Phase::Paused || got.is_err() {
                    self.forget(channel);
                }
                got
            }
            4..8 => {
                let (offset, now) = (offset(choices), self.now);
                self.core.fault(block, offset, now).map(drop)
            }
            8 | 9 => {
                let (channel, offset, len) = (channel(choices), offset(choices), length(choices));
                self.run(channel, block, offset, len)
            }
            10 => {
                let (channel, offset, len) = (channel(choices), offset(choices), length(choices));
                self.placed(channel, block, offset, len)
            }
            11 => {
                self.core.written(self.now);
                Ok(())
            }
            12..20 => {
                let command = command(choices);
                self.command(command)
            }
            20 | 21 => {
                let (number, len) = (choices.below(4), length(choices));
                let page = SIZES[choices.index(SIZES.len())];
                let page = choices.one_in(2).then_some(page);
                let name = NAMES[choices.index(NAMES.len())];
                self.block(number, name, len, page)
            }
            22 => {
                let event = match choices.below(8) {
                    0 => Event::Header,
                    1 => Event::Configuration { machine: b"pc" },
                    2 => {
                        let bits = u32::try_from(choices.below(80)).expect("fits in u32");
                        Event::Subsection(Subsection::TargetPageBits(bits))
                    }
                    3 => Event::Footer { id: 1 },
                    4 => Event::DeviceState { id: 7, bytes: &[1] },
                    5 => Event::Description { size: 2 },
                    6 => Event::DescriptionBytes(b"{}"),
                    _ => Event::PackageEnd,
                };
                let channel = channel(choices);
                self.event(channel, event)
            }
            23 if choices.one_in(3) => self.event(Main, Event::Eof),
            _ => {
                let data = [choices.byte(); 4096];
                let size = match choices.below(32) {
                    0 => 0,
                    1 => 1023,
                    2 => 4096,
                    _ => 1024,
                };
                let event = record(choices, &data[..size]);
                let channel = channel(choices);
                self.event(channel, event)
            }
        }
    }
}

fn record<'a>(choices: &mut Choices<'_>, data: &'a [u8]) -> Event<'a> {
    let block = BlockIndex::new(u32::try_from(choices.below(4)).expect("fits in u32"));
    let (offset, named) = (offset(choices), choices.one_in(2));
    Event::Record(match choices.below(24) {
        0 => Record::Eos,
        1 => Record::Hook,
        2 => Record::MultifdFlush,
        3 => Record::MemSize { total: offset },
        4 => Record::Xbzrle {
            block,
            offset,
            data,
            named,
        },
        5 => Record::Compressed {
            block,
            offset,
            data,
            named,
        },
        6..12 => Record::Zero {
            block,
            offset,
            fill: if choices.one_in(4) { choices.byte() } else { 0 },
            named,
        },
        _ => Record::Page {
            block,
            offset,
            data,
            named,
        },
    })
}

fn command(choices: &mut Choices<'_>) -> Command<Name<'static>, RangeBuf> {
    let block = name(choices);
    match choices.below(16) {
        0 => Command::OpenReturnPath,
        1 => Command::Ping {
            value: if choices.one_in(2) {
                PING_PACKAGE_LOADED
            } else {
                1
            },
        },
        2 => Command::PostcopyAdvise {
            sizes: (!choices.one_in(8)).then(|| PageSizes {
                summary: choices.any(),
                target: SIZES[choices.index(SIZES.len())],
            }),
        },
        3 => Command::PostcopyListen,
        4 => Command::PostcopyRun,
        5..9 => {
            let mut ranges = Vec::new();
            for _ in 0..1 + choices.below(3) {
                let (start, len) = (offset(choices), length(choices));
                ranges.extend(Range::new(start, len));
            }
            match RangeBuf::new(ranges) {
                Ok(ranges) => Command::PostcopyRamDiscard { block, ranges },
                Err(_) => Command::OpenReturnPath,
            }
        }
        9 => Command::Packaged { size: 0 },
        10 => Command::EnableColo,
        11 => Command::PostcopyResume,
        12 => Command::SwitchoverStart,
        _ => Command::RecvBitmap { block },
    }
}
