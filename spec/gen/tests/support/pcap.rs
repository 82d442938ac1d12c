//! Writes a capture file of TCP connections, one packet per piece of data.
//!
//! Classic pcap, Ethernet, IPv4, with checksums, without loss or
//! retransmission. The destination listens on [`PORT`]; the connections come
//! from consecutive ports that start at [`FIRST_CLIENT`].

/// Port that the migration's destination listens on.
pub(crate) const PORT: u16 = 4444;
/// Port of the source's end of the first connection.
pub(crate) const FIRST_CLIENT: u16 = 20000;
/// Size of a packet's headers, in bytes.
pub(crate) const OVERHEAD: usize = 14 + 20 + 20;
/// Largest payload of a packet, in bytes.
pub(crate) const ROOM: usize = 65535 - 40;

const SOURCE: [u8; 4] = [10, 0, 0, 1];
const DESTINATION: [u8; 4] = [10, 0, 0, 2];
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
const PUSH_ACK: u8 = 0x18;

/// The sender of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The migration's source, which connects and writes the forward stream.
    Source,
    /// The migration's destination, which listens and writes the return path.
    Destination,
}

/// A capture file under construction.
pub(crate) struct Pcap {
    bytes: Vec<u8>,
    packets: u32,
    connections: u16,
}

/// A connection of a capture.
pub(crate) struct Connection {
    client: u16,
    /// Next sequence numbers of the source and of the destination.
    next: [u32; 2],
}

impl Pcap {
    /// An empty capture.
    pub(crate) fn new() -> Self {
        Self {
            bytes: head(1), // Ethernet
            packets: 0,
            connections: 0,
        }
    }

    /// Number of packets so far; the first one is frame 1.
    pub(crate) fn packets(&self) -> u32 {
        self.packets
    }

    /// A new connection, after its handshake.
    pub(crate) fn connect(&mut self) -> Connection {
        let mut connection = Connection {
            client: FIRST_CLIENT + self.connections,
            next: [1000, 5000],
        };
        self.connections += 1;
        self.packet(&connection, End::Source, SYN, &[]);
        connection.next[0] += 1;
        self.packet(&connection, End::Destination, SYN | ACK, &[]);
        connection.next[1] += 1;
        self.packet(&connection, End::Source, ACK, &[]);
        connection
    }

    /// One packet that carries `data`, at most [`ROOM`] bytes.
    pub(crate) fn send(&mut self, connection: &mut Connection, from: End, data: &[u8]) {
        assert!(data.len() <= ROOM);
        self.packet(connection, from, PUSH_ACK, data);
        let size = u32::try_from(data.len()).unwrap();
        connection.next[usize::from(from == End::Destination)] += size;
    }

    /// The file.
    pub(crate) fn finish(self) -> Vec<u8> {
        self.bytes
    }

    fn packet(&mut self, connection: &Connection, from: End, flags: u8, data: &[u8]) {
        let client = connection.client;
        let [source, destination] = connection.next;
        let (ports, hosts, seq, ack) = match from {
            End::Source => ([client, PORT], [SOURCE, DESTINATION], source, destination),
            End::Destination => ([PORT, client], [DESTINATION, SOURCE], destination, source),
        };
        let ack = if flags & ACK == 0 { 0 } else { ack };

        let mut tcp = Vec::new();
        tcp.extend(ports.map(u16::to_be_bytes).as_flattened());
        tcp.extend(seq.to_be_bytes());
        tcp.extend(ack.to_be_bytes());
        tcp.extend([5 << 4, flags, 0xff, 0xff, 0, 0, 0, 0]);
        tcp.extend(data);
        let tcp_size = u16::try_from(tcp.len()).unwrap();
        let mut pseudo = Vec::from(hosts.as_flattened());
        pseudo.extend([0, 6]);
        pseudo.extend(tcp_size.to_be_bytes());
        pseudo.extend(&tcp);
        tcp[16..18].copy_from_slice(&checksum(&pseudo).to_be_bytes());

        let mut ip = Vec::from([0x45, 0]);
        ip.extend((20 + tcp_size).to_be_bytes());
        ip.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
        ip.extend(hosts.as_flattened());
        let sum = checksum(&ip);
        ip[10..12].copy_from_slice(&sum.to_be_bytes());

        let ends = match from {
            End::Source => [2, 1],
            End::Destination => [1, 2],
        };
        let mut packet: Vec<u8> = ends.iter().flat_map(|end| [2, 0, 0, 0, 0, *end]).collect();
        packet.extend([0x08, 0x00]);
        packet.extend(ip);
        packet.extend(tcp);

        let size = u32::try_from(packet.len()).unwrap();
        // One millisecond per packet.
        let time = [self.packets / 1000, self.packets % 1000 * 1000];
        for number in [time[0], time[1], size, size] {
            self.bytes.extend(number.to_le_bytes());
        }
        self.bytes.extend(packet);
        self.packets += 1;
    }
}

/// A capture of a single packet that passes `data` to the dissector of this
/// name.
pub(crate) fn upper_pdu(dissector: &str, data: &[u8]) -> Vec<u8> {
    let name = dissector.len().next_multiple_of(4);
    let mut packet = Vec::from([0, 12]);
    packet.extend(u16::try_from(name).unwrap().to_be_bytes());
    packet.extend(dissector.bytes());
    packet.resize(4 + name, 0);
    packet.extend([0; 4]);
    packet.extend(data);
    let mut bytes = head(252); // Wireshark upper PDU
    let size = u32::try_from(packet.len()).unwrap();
    bytes.extend([0, 0, size, size].map(u32::to_le_bytes).as_flattened());
    bytes.extend(packet);
    bytes
}

/// The file header.
fn head(link_type: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(0xa1b2_c3d4_u32.to_le_bytes());
    bytes.extend([2, 0, 4, 0]); // version 2.4
    bytes.extend([0; 8]); // UTC
    bytes.extend(0x4_0000_u32.to_le_bytes());
    bytes.extend(link_type.to_le_bytes());
    bytes
}

/// The Internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| match *pair {
        [high, low] => u32::from(u16::from_be_bytes([high, low])),
        [last] => u32::from(last) << 8,
        _ => unreachable!("chunks of two"),
    });
    let sum: u32 = words.sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    !u16::try_from(sum).expect("folded into 16 bits")
}
