//! Builds saved streams for tests with the codec's serializers.

use retpath_codec::forward::{Identity, SectionKind, write};
use retpath_codec::{BlockName, NameBuf};

/// The number of the `ram` section.
const RAM: u32 = 2;

/// The only device, as encoded in a stream with footers.
pub const DEVICE: &[u8] = b"\x04\0\0\0\x05\x05timer\0\0\0\0\0\0\0\x02\x01\x02\x03\x7e\0\0\0\x05";

/// Number of bytes that end a RAM section with a footer: EOS and the footer.
pub const CLOSE: usize = 8 + 5;

/// Number of bytes between EOF and the text of a description.
pub const DESCRIPTION_HEAD: usize = 5;

/// A stream under construction. Each page is a section of its own.
pub struct Stream {
    pub bytes: Vec<u8>,
    names: Vec<NameBuf>,
    footers: bool,
}

impl Stream {
    /// Starts the stream of a machine type.
    pub fn new(machine: &str) -> Self {
        let mut stream = Self::old();
        stream.footers = true;
        write::configuration(machine.as_bytes(), &mut stream.bytes).expect("name is short");
        stream
    }

    /// Starts the stream of a machine type up to 2.3: without configuration and footers.
    pub fn old() -> Self {
        let mut bytes = Vec::new();
        write::header(&mut bytes);
        Self {
            bytes,
            names: Vec::new(),
            footers: false,
        }
    }

    /// Starts the stream of a machine with a capability that both sides must have.
    pub fn with_capability(name: &[u8]) -> Self {
        let mut stream = Self::new("pc");
        stream
            .bytes
            .extend(b"\x05\x1aconfiguration/capabilities\0\0\0\x01\0\0\0\x01");
        stream.bytes.push(name.len() as u8);
        stream.bytes.extend(name);
        stream.bytes.push(1);
        stream
    }

    /// Adds the list of RAM blocks: names and numbers of pages.
    pub fn blocks(mut self, blocks: &[(&[u8], u64)]) -> Self {
        write::ram_start(RAM, &mut self.bytes);
        let total: u64 = blocks.iter().map(|(_, pages)| pages * 4096).sum();
        write::mem_size(total, &mut self.bytes).expect("length is whole pages");
        for (name, pages) in blocks {
            let name = NameBuf::new(name).expect("valid name");
            write::block(name.name(), pages * 4096, None, None, &mut self.bytes);
            self.names.push(name);
        }
        self.close()
    }

    /// Ends a RAM section.
    fn close(mut self) -> Self {
        write::eos(&mut self.bytes);
        if self.footers {
            write::footer(RAM, &mut self.bytes);
        }
        self
    }

    /// Adds a page filled with one byte.
    pub fn page(self, block: usize, page: u64, fill: u8) -> Self {
        self.page_of(block, page, &[fill; 4096])
    }

    /// Adds a page with these bytes.
    pub fn page_of(mut self, block: usize, page: u64, bytes: &[u8]) -> Self {
        write::part(RAM, &mut self.bytes);
        let name = Some(self.names[block].name());
        write::page_header(page * 4096, name, &mut self.bytes).expect("offset is aligned");
        self.bytes.extend(bytes);
        self.close()
    }

    /// Adds a zero page.
    pub fn zero(mut self, block: usize, page: u64) -> Self {
        write::part(RAM, &mut self.bytes);
        let name = Some(self.names[block].name());
        write::zero(page * 4096, name, &mut self.bytes).expect("offset is aligned");
        self.close()
    }

    /// Adds raw bytes as a record.
    pub fn record(mut self, record: &[u8]) -> Self {
        write::part(RAM, &mut self.bytes);
        self.bytes.extend(record);
        self.close()
    }

    /// Adds multifd's flush record.
    pub fn flush(self) -> Self {
        self.record(&0x200_u64.to_be_bytes())
    }

    /// Adds the end of RAM, the device, and EOF.
    pub fn devices(mut self) -> Self {
        write::end(RAM, &mut self.bytes);
        let mut stream = self.close();
        let identity = Identity {
            idstr: b"timer",
            instance: 0,
            version: 2,
        };
        let mut device = Vec::new();
        write::section(SectionKind::Full, 5, Some(identity), &mut device).expect("name is short");
        device.extend([1, 2, 3]);
        if stream.footers {
            write::footer(5, &mut device);
            assert_eq!(device, DEVICE);
        }
        stream.bytes.extend(device);
        write::eof(&mut stream.bytes);
        stream
    }

    /// Adds the description, which ends the stream.
    pub fn description(mut self, json: &[u8]) -> Self {
        let size = u32::try_from(json.len()).expect("fits in u32");
        write::description(size, &mut self.bytes);
        self.bytes.extend(json);
        self
    }
}
