//! The source's side of the link: puts its output on the wires and delivers the
//! return path to it.

use retpath_codec::BlockName;

use super::{Link, Wire, at};
use retpath_engine::Channel;
use retpath_engine::blocks::BlockId;
use retpath_engine::source::{Next, PageRun, PageSource, SourcePhase};

impl Link {
    /// Puts what the source sends next on a channel onto its wire.
    pub fn send(&mut self, channel: Channel) -> Next {
        let wire = match channel {
            Channel::Main => Wire::Main,
            Channel::Preempt => Wire::Preempt,
        };
        let mut out = Vec::new();
        let next = self.source.next(channel, self.now, &mut out);
        if self.up {
            self.wires[at(wire)].extend_from_slice(&out);
        } else {
            assert_eq!((next, out.len()), (Next::Stop, 0));
        }
        match next {
            Next::Urgent(run) | Next::Sweep(run) => self.write(wire, run),
            Next::Connect => self
                .source
                .preempt_connected(self.now)
                .expect("Next::Connect was returned"),
            Next::Write | Next::Wait { .. } | Next::Stop => {}
        }
        next
    }

    fn write(&mut self, wire: Wire, run: PageRun) {
        let block = self.blocks.block(run.block).expect("block exists");
        let len = usize::try_from(run.len).expect("fits in usize");
        let memory: Vec<&[u8]> = self.setup.blocks.iter().map(|b| b.2.as_slice()).collect();
        let bytes = memory.lend(run.block, run.offset, len);
        let bytes = bytes.expect("run lies in its block");
        let zeros = self.gather.lay(&run, block.name.name(), bytes);
        for slice in self.gather.slices(bytes) {
            self.wires[at(wire)].extend_from_slice(slice);
        }
        self.source.written(&run, zeros);
    }

    /// Changes a byte of guest memory, if the guest is still at the source.
    pub fn change(&mut self, block: BlockId, offset: u64, value: u8) {
        if matches!(
            self.source.phase(),
            SourcePhase::Fresh | SourcePhase::Precopy
        ) {
            let place = usize::try_from(offset).expect("fits in usize");
            self.setup.blocks[block].2[place] = value;
            let marked = self.source.mark_dirty(block, offset, 1);
            marked.expect("guest is at the source");
        }
    }

    /// Stops the guest and switches to postcopy, if the source is ready.
    pub fn switch(&mut self) -> bool {
        let now = self.source.phase() == SourcePhase::Precopy && self.source.is_ready_to_switch();
        if now {
            let state = self.setup.device_state.clone();
            self.source.switch(state).expect("phase is precopy");
        }
        now
    }

    /// Delivers bytes of the return path to the source.
    pub(super) fn hear(&mut self, mut bytes: &[u8]) {
        let size = bytes.len();
        let before = self.delivered[at(Wire::Back)] - size;
        loop {
            match self.path.next(&mut bytes).expect("valid return path") {
                None => return,
                Some(item) => {
                    let taken = self.source.message(item, self.now);
                    taken.expect("valid message");
                }
            }
            let end = before + size - bytes.len();
            self.receiver.note(Wire::Back, end);
            let limit = self.source.recv_bitmap_limit();
            self.path.limit_bitmap(limit);
        }
    }
}
