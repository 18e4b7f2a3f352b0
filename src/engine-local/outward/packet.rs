//! IPv4 packets as bytes: what is read of them, how addresses in them are replaced, and the few that
//! are made here. Sums are kept right by difference (RFC 1624). No I/O.

use std::net::{Ipv4Addr, SocketAddrV4};

pub(super) const ICMP: u8 = 1;
pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;

pub(super) const FIN: u8 = 0x01;
pub(super) const SYN: u8 = 0x02;
pub(super) const RST: u8 = 0x04;
pub(super) const ACK: u8 = 0x10;

const IP_HEADER: usize = 20;
const IP_SUM: usize = 10;
const SOURCE: usize = 12;
const DESTINATION: usize = 16;
const TIME_TO_LIVE: u8 = 64;

/// What the header of an IPv4 packet says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
    pub protocol: u8,
    /// Where the transport header begins.
    pub start: usize,
    /// Where the packet ends.
    pub end: usize,
    /// Offset in bytes of a fragment.
    pub offset: usize,
    /// More fragments follow.
    pub more: bool,
    pub id: u16,
}

/// What a TCP header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment {
    pub source: SocketAddrV4,
    pub destination: SocketAddrV4,
    pub flags: u8,
    pub sequence: u32,
    pub acknowledged: u32,
    /// How much of the sequence it takes: payload, SYN and FIN.
    pub takes: u32,
}

/// Reads the header of an IPv4 packet; `None` for all that is not one, whole.
pub(super) fn head(packet: &[u8]) -> Option<Head> {
    let first = *packet.first()?;
    let start = usize::from(first & 0x0f) * 4;
    let end = usize::from(word(packet, 2)?);
    if first >> 4 != 4 || start < IP_HEADER || end < start || end > packet.len() {
        return None;
    }
    let fragment = word(packet, 6)?;
    Some(Head {
        source: address(packet, SOURCE)?,
        destination: address(packet, DESTINATION)?,
        protocol: *packet.get(9)?,
        start,
        end,
        offset: usize::from(fragment & 0x1fff) * 8,
        more: fragment & 0x2000 != 0,
        id: word(packet, 4)?,
    })
}

/// Reads the TCP header of a packet that is not a fragment.
pub(super) fn segment(packet: &[u8], head: &Head) -> Option<Segment> {
    let tcp = packet.get(head.start..head.end)?;
    let header = usize::from(tcp.get(12)? >> 4) * 4;
    let flags = *tcp.get(13)?;
    if header < 20 || header > tcp.len() {
        return None;
    }
    let payload = u32::try_from(tcp.len() - header).ok()?;
    Some(Segment {
        source: SocketAddrV4::new(head.source, word(tcp, 0)?),
        destination: SocketAddrV4::new(head.destination, word(tcp, 2)?),
        flags,
        sequence: double(tcp, 4)?,
        acknowledged: double(tcp, 8)?,
        takes: payload + u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0),
    })
}

/// Source and destination port and payload of a UDP datagram that is not a fragment.
pub(super) fn datagram<'a>(packet: &'a [u8], head: &Head) -> Option<(SocketAddrV4, SocketAddrV4, &'a [u8])> {
    let udp = packet.get(head.start..head.end)?;
    let length = usize::from(word(udp, 4)?);
    let payload = udp.get(8..length)?;
    let source = SocketAddrV4::new(head.source, word(udp, 0)?);
    Some((source, SocketAddrV4::new(head.destination, word(udp, 2)?), payload))
}

/// Replaces both ends of a TCP packet and puts its sums right.
pub(super) fn readdress(
    packet: &mut [u8],
    head: &Head,
    source: SocketAddrV4,
    destination: SocketAddrV4,
) -> Option<()> {
    replace(packet, SOURCE, &source.ip().octets(), &[IP_SUM, head.start + 16])?;
    replace(packet, DESTINATION, &destination.ip().octets(), &[IP_SUM, head.start + 16])?;
    replace(packet, head.start, &source.port().to_be_bytes(), &[head.start + 16])?;
    replace(packet, head.start + 2, &destination.port().to_be_bytes(), &[head.start + 16])
}

/// Replaces bytes that the sums at the given places cover.
fn replace(packet: &mut [u8], at: usize, new: &[u8], sums: &[usize]) -> Option<()> {
    let difference = u32::from(!sum(packet.get(at..at + new.len())?, 0)) + u32::from(sum(new, 0));
    for place in sums {
        let old = word(packet, *place)?;
        put(packet, *place, &(!fold(u32::from(!old) + difference)).to_be_bytes())?;
    }
    put(packet, at, new)
}

/// The reset that a segment gets where nobody has asked for it (RFC 9293, section 3.5.2).
pub(super) fn refusal(segment: &Segment) -> Option<Vec<u8>> {
    if segment.flags & RST != 0 {
        return None;
    }
    let (sequence, acknowledged, flags) = if segment.flags & ACK != 0 {
        (segment.acknowledged, 0, RST)
    } else {
        (0, segment.sequence.wrapping_add(segment.takes), RST | ACK)
    };
    let mut tcp = Vec::with_capacity(20);
    tcp.extend_from_slice(&segment.destination.port().to_be_bytes());
    tcp.extend_from_slice(&segment.source.port().to_be_bytes());
    tcp.extend_from_slice(&sequence.to_be_bytes());
    tcp.extend_from_slice(&acknowledged.to_be_bytes());
    tcp.extend_from_slice(&[0x50, flags, 0, 0, 0, 0, 0, 0]);
    let (from, to) = (*segment.destination.ip(), *segment.source.ip());
    let sum = transport_sum(TCP, from, to, &tcp);
    put(&mut tcp, 16, &sum.to_be_bytes())?;
    packets(TCP, from, to, &tcp, usize::from(u16::MAX)).pop()
}

/// Tells the sender of a packet that it did not arrive: code 1, host; code 3, port (RFC 792).
pub(super) fn unreachable(packet: &[u8], head: &Head, code: u8) -> Option<Vec<u8>> {
    let quoted = packet.get(..head.end.min(head.start + 8))?;
    let mut icmp = vec![3, code, 0, 0, 0, 0, 0, 0];
    icmp.extend_from_slice(quoted);
    let sum = !sum(&icmp, 0);
    put(&mut icmp, 2, &sum.to_be_bytes())?;
    packets(ICMP, head.destination, head.source, &icmp, usize::from(u16::MAX)).pop()
}

/// A UDP datagram, in as many packets as it needs.
pub(super) fn udp(
    source: SocketAddrV4,
    destination: SocketAddrV4,
    payload: &[u8],
    mtu: usize,
) -> Vec<Vec<u8>> {
    let Ok(length) = u16::try_from(payload.len() + 8) else { return Vec::new() };
    let mut udp = Vec::with_capacity(usize::from(length));
    udp.extend_from_slice(&source.port().to_be_bytes());
    udp.extend_from_slice(&destination.port().to_be_bytes());
    udp.extend_from_slice(&length.to_be_bytes());
    udp.extend_from_slice(&[0, 0]);
    udp.extend_from_slice(payload);
    // Zero stands for "no sum".
    let sum = match transport_sum(UDP, *source.ip(), *destination.ip(), &udp) {
        0 => u16::MAX,
        sum => sum,
    };
    if put(&mut udp, 6, &sum.to_be_bytes()).is_none() {
        return Vec::new();
    }
    packets(UDP, *source.ip(), *destination.ip(), &udp, mtu)
}

/// An ICMP message with its identifier replaced and its sum made anew.
pub(super) fn with_identifier(message: &[u8], identifier: [u8; 2]) -> Option<Vec<u8>> {
    let mut message = message.to_vec();
    put(&mut message, 4, &identifier)?;
    put(&mut message, 2, &[0, 0])?;
    let sum = !sum(&message, 0);
    put(&mut message, 2, &sum.to_be_bytes())?;
    Some(message)
}

/// A transport message in one IPv4 packet, or in fragments of at most `mtu` bytes.
pub(super) fn packets(
    protocol: u8,
    source: Ipv4Addr,
    destination: Ipv4Addr,
    message: &[u8],
    mtu: usize,
) -> Vec<Vec<u8>> {
    let room = mtu.saturating_sub(IP_HEADER) / 8 * 8;
    let whole = message.len() + IP_HEADER <= mtu;
    let size = if whole { message.len().max(1) } else { room.max(8) };
    let id: u16 = if whole { 0 } else { rand::random() };
    let mut made = Vec::new();
    for (index, part) in message.chunks(size).enumerate() {
        let more = (index + 1) * size < message.len();
        let (Ok(offset), Ok(length)) =
            (u16::try_from(index * size / 8), u16::try_from(IP_HEADER + part.len()))
        else {
            return Vec::new();
        };
        let mut packet = Vec::with_capacity(usize::from(length));
        packet.extend_from_slice(&[0x45, 0]);
        packet.extend_from_slice(&length.to_be_bytes());
        packet.extend_from_slice(&id.to_be_bytes());
        packet.extend_from_slice(&(offset | if more { 0x2000 } else { 0 }).to_be_bytes());
        packet.extend_from_slice(&[TIME_TO_LIVE, protocol, 0, 0]);
        packet.extend_from_slice(&source.octets());
        packet.extend_from_slice(&destination.octets());
        let header_sum = !sum(&packet, 0);
        if put(&mut packet, IP_SUM, &header_sum.to_be_bytes()).is_none() {
            return Vec::new();
        }
        packet.extend_from_slice(part);
        made.push(packet);
    }
    made
}

fn transport_sum(protocol: u8, source: Ipv4Addr, destination: Ipv4Addr, message: &[u8]) -> u16 {
    let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
    let mut pseudo = Vec::with_capacity(12);
    pseudo.extend_from_slice(&source.octets());
    pseudo.extend_from_slice(&destination.octets());
    pseudo.extend_from_slice(&[0, protocol]);
    pseudo.extend_from_slice(&length.to_be_bytes());
    !sum(message, u32::from(sum(&pseudo, 0)))
}

/// The sum of RFC 1071, not complemented.
pub(super) fn sum(bytes: &[u8], start: u32) -> u16 {
    let mut pairs = bytes.chunks_exact(2);
    let mut total = start;
    for pair in &mut pairs {
        if let [high, low] = pair {
            total += u32::from(u16::from_be_bytes([*high, *low]));
        }
    }
    if let [last] = pairs.remainder() {
        total += u32::from(*last) << 8;
    }
    fold(total)
}

fn fold(mut total: u32) -> u16 {
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    total as u16
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|word| u16::from_be_bytes(*word))
}

fn double(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|word| u32::from_be_bytes(*word))
}

fn address(bytes: &[u8], at: usize) -> Option<Ipv4Addr> {
    bytes.get(at..)?.first_chunk::<4>().map(|octets| Ipv4Addr::from(*octets))
}

fn put(bytes: &mut [u8], at: usize, new: &[u8]) -> Option<()> {
    bytes.get_mut(at..at + new.len())?.copy_from_slice(new);
    Some(())
}
