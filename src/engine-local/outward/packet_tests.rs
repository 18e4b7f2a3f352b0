//! Packets read, changed and made; fragments; and the table of connections.

use std::net::{Ipv4Addr, SocketAddrV4};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::connections::{Connections, Verdict};
use super::fragments::Fragments;
use super::packet::{self, ACK, RST, SYN, Segment};

const POD: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 88, 0, 2), 40000);
const WEB: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 80), 443);

fn opening(sequence: u32) -> Segment {
    Segment { source: POD, destination: WEB, flags: SYN, sequence, acknowledged: 0, takes: 1 }
}

/// Whether the sums of a packet hold.
fn sums_hold(packet: &[u8]) -> bool {
    let head = packet::head(packet).unwrap();
    let message = &packet[head.start..head.end];
    let mut pseudo = [head.source.octets(), head.destination.octets()].concat();
    pseudo.extend_from_slice(&[0, head.protocol]);
    pseudo.extend_from_slice(&(message.len() as u16).to_be_bytes());
    let start = if head.protocol == packet::ICMP { 0 } else { u32::from(packet::sum(&pseudo, 0)) };
    packet::sum(&packet[..head.start], 0) == 0xffff && packet::sum(message, start) == 0xffff
}

#[test]
fn a_refusal_is_a_whole_segment_back_to_who_asked() {
    let reset = packet::refusal(&opening(99)).unwrap();
    assert!(sums_hold(&reset));
    let head = packet::head(&reset).unwrap();
    let segment = packet::segment(&reset, &head).unwrap();
    assert_eq!((segment.source, segment.destination), (WEB, POD));
    assert_eq!((segment.flags, segment.acknowledged), (RST | ACK, 100));
    assert!(packet::refusal(&segment).is_none(), "a reset is not answered");
}

#[test]
fn other_ends_leave_the_sums_right() {
    let mut random = StdRng::seed_from_u64(7);
    let mut packet = packet::refusal(&opening(1)).unwrap();
    for _ in 0..10_000 {
        let head = packet::head(&packet).unwrap();
        let mut end = || SocketAddrV4::new(Ipv4Addr::from(random.random::<u32>()), random.random());
        let (source, destination) = (end(), end());
        packet::readdress(&mut packet, &head, source, destination).unwrap();
        assert!(sums_hold(&packet));
        let segment = packet::segment(&packet, &packet::head(&packet).unwrap()).unwrap();
        assert_eq!((segment.source, segment.destination), (source, destination));
    }
}

#[test]
fn a_large_datagram_comes_whole_out_of_its_fragments() {
    let payload: Vec<u8> = (0..60_000_u32).map(|i| (i % 251) as u8).collect();
    let mut parts = packet::udp(POD, WEB, &payload, 1500);
    assert_eq!(parts.len(), 41);
    assert!(parts.iter().all(|part| part.len() <= 1500));
    parts.reverse();
    let mut fragments = Fragments::default();
    let whole: Vec<Vec<u8>> =
        parts.iter().filter_map(|part| fragments.add(part, &packet::head(part).unwrap())).collect();
    let head = packet::head(&whole[0]).unwrap();
    assert_eq!(packet::datagram(&whole[0], &head).unwrap(), (POD, WEB, payload.as_slice()));
    assert!(sums_hold(&whole[0]));
}

#[test]
fn a_small_datagram_is_one_packet_and_what_did_not_arrive_is_quoted() {
    let [datagram] = packet::udp(POD, WEB, b"hi", 1500).try_into().unwrap();
    assert!(sums_hold(&datagram));
    let notice = packet::unreachable(&datagram, &packet::head(&datagram).unwrap(), 3).unwrap();
    assert!(sums_hold(&notice));
    assert_eq!(notice[20..22], [3, 3]);
    assert_eq!(notice[28..], datagram[..28]);
}

#[test]
fn any_bytes_are_read_without_a_panic() {
    let mut random = StdRng::seed_from_u64(45);
    let seeds = [packet::udp(POD, WEB, &[7; 64], 1500).remove(0), packet::refusal(&opening(5)).unwrap()];
    let mut fragments = Fragments::default();
    for round in 0..100_000 {
        let mut bytes = seeds[round % 2].clone();
        for _ in 0..random.random_range(0..5) {
            let at = random.random_range(0..bytes.len());
            bytes[at] = random.random();
        }
        bytes.truncate(random.random_range(0..=bytes.len()));
        let Some(head) = packet::head(&bytes) else { continue };
        let _ = packet::datagram(&bytes, &head);
        let _ = packet::unreachable(&bytes, &head, 1);
        let _ = fragments.add(&bytes, &head);
        if let Some(segment) = packet::segment(&bytes, &head) {
            let _ = packet::refusal(&segment);
            let _ = packet::readdress(&mut bytes, &head, WEB, POD);
        }
    }
}

#[test]
fn a_connection_is_dialled_once_and_then_passed_through_one_port() {
    let mut table = Connections::new(8);
    let Verdict::Dial(port) = table.outgoing(&opening(1), b"first") else { panic!() };
    assert_eq!(table.outgoing(&opening(1), b"again"), Verdict::Drop);
    assert_eq!(table.dialled(port, (POD, WEB), "stream").unwrap(), b"first");
    assert_eq!(table.outgoing(&opening(1), b"again"), Verdict::Pass(port));
    assert_eq!(table.accepted(port), Some("stream"));
    assert_eq!(table.accepted(port), None);
    assert_eq!(table.ends(port), Some((POD, WEB)));
    table.ended(port);
    let last = Segment { flags: ACK, ..opening(9) };
    assert_eq!(table.outgoing(&last, b""), Verdict::Pass(port), "last words are passed on");
    assert!(matches!(table.outgoing(&opening(77), b"new"), Verdict::Dial(other) if other != port));
}

#[test]
fn ports_of_connections_that_ended_are_used_again_the_oldest_first() {
    let mut table = Connections::new(8);
    for number in 0..100_000_u32 {
        let source = SocketAddrV4::new(Ipv4Addr::from(number), 1);
        let Verdict::Dial(port) = table.outgoing(&Segment { source, ..opening(1) }, b"x") else {
            panic!("{number}")
        };
        table.dialled(port, (source, WEB), ()).unwrap();
        table.accepted(port).unwrap();
        table.ended(port);
    }
    assert!(table.sweep());
}

#[test]
fn what_nobody_opened_or_what_is_too_much_is_refused() {
    let mut table: Connections<()> = Connections::new(1);
    assert_eq!(table.outgoing(&Segment { flags: ACK, ..opening(1) }, b""), Verdict::Refuse);
    let Verdict::Dial(port) = table.outgoing(&opening(1), b"x") else { panic!() };
    let other = Segment { destination: POD, ..opening(1) };
    assert_eq!(table.outgoing(&other, b""), Verdict::Refuse);
    assert_eq!(table.failed(port, (POD, WEB)).unwrap(), b"x");
    assert!(matches!(table.outgoing(&other, b""), Verdict::Dial(_)));
}

#[test]
fn a_pod_that_gives_up_is_not_dialled_for() {
    let mut table = Connections::new(8);
    let Verdict::Dial(port) = table.outgoing(&opening(1), b"x") else { panic!() };
    assert_eq!(table.outgoing(&Segment { flags: RST, ..opening(2) }, b""), Verdict::Drop);
    assert_eq!(table.dialled(port, (POD, WEB), ()), None);
    assert!(!table.sweep());
}
