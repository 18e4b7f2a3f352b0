//! Names and answers from objects, as Kubernetes' DNS specification has them.

use std::net::Ipv4Addr;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::json;

use super::answer::{Answer, Range, answer};
use super::names::{Names, names};
use super::wire::{Asked, Question, Transport, read};

fn table() -> Names {
    let services = json!([
        {"metadata": {"name": "web", "namespace": "a"}, "spec": {"clusterIP": "10.96.0.9", "ports": [{"name": "http", "port": 80}]}},
        {"metadata": {"name": "net", "namespace": "a"}, "spec": {"clusterIP": "None"}},
        {"metadata": {"name": "slow", "namespace": "a"}, "spec": {"clusterIP": "None", "publishNotReadyAddresses": true}},
        {"metadata": {"name": "out", "namespace": "a"}, "spec": {"type": "ExternalName", "externalName": "Example.test."}},
        {"metadata": {"name": "in", "namespace": "a"}, "spec": {"type": "ExternalName", "externalName": "web.a.svc.cluster.local"}},
        {"metadata": {"name": "loop", "namespace": "a"}, "spec": {"type": "ExternalName", "externalName": "loop.a.svc.cluster.local"}},
    ]);
    let unready = json!({"ready": false});
    let slices = json!([
        {"metadata": {"namespace": "a", "labels": {"kubernetes.io/service-name": "net"}}, "addressType": "IPv4",
         "endpoints": [{"addresses": ["10.88.0.5"], "hostname": "db"}, {"addresses": ["10.88.0.6"]},
                       {"addresses": ["10.88.0.7"], "hostname": "late", "conditions": unready}],
         "ports": [{"name": "pg", "port": 5432}]},
        {"metadata": {"namespace": "a", "labels": {"kubernetes.io/service-name": "slow"}}, "addressType": "IPv4",
         "endpoints": [{"addresses": ["10.88.0.7"], "conditions": unready}]},
        {"metadata": {"namespace": "a", "labels": {"kubernetes.io/service-name": "gone"}}, "addressType": "IPv4",
         "endpoints": [{"addresses": ["10.88.0.8"], "hostname": "x"}]},
    ]);
    names(
        &serde_json::from_value::<Vec<_>>(services).unwrap(),
        &serde_json::from_value::<Vec<_>>(slices).unwrap(),
        "Cluster.local.",
    )
}

fn ask(kind: RecordType, name: &str) -> Option<Answer> {
    let pods = Range { base: Ipv4Addr::new(10, 88, 0, 0), prefix: 16 };
    answer(&table(), &[pods], &Query::query(Name::from_ascii(format!("{name}.")).unwrap(), kind))
}

/// Code and data of an answer.
fn said(kind: RecordType, name: &str) -> (ResponseCode, Vec<String>) {
    let answer = ask(kind, name).unwrap();
    (answer.code, answer.answers.iter().map(|record| record.data.to_string()).collect())
}

#[track_caller]
fn is(kind: RecordType, name: &str, wanted: &[&str]) {
    assert_eq!(
        said(kind, name),
        (ResponseCode::NoError, wanted.iter().map(|w| (*w).to_owned()).collect()),
        "{name}"
    );
}

#[track_caller]
fn is_no_name(name: &str) {
    let answer = ask(RecordType::A, name).unwrap();
    assert_eq!(
        (answer.code, answer.answers.len(), answer.authorities.len()),
        (ResponseCode::NXDomain, 0, 1),
        "{name}"
    );
}

#[test]
fn services_have_their_address_and_headless_ones_those_of_their_endpoints() {
    is(RecordType::A, "web.a.svc.cluster.local", &["10.96.0.9"]);
    is(RecordType::A, "WEB.a.svc.Cluster.Local", &["10.96.0.9"]);
    is(RecordType::AAAA, "web.a.svc.cluster.local", &[]);
    is(RecordType::A, "net.a.svc.cluster.local", &["10.88.0.5", "10.88.0.6"]);
    is(RecordType::A, "slow.a.svc.cluster.local", &["10.88.0.7"]);
    is_no_name("gone.a.svc.cluster.local");
    is_no_name("web.b.svc.cluster.local");
}

#[test]
fn endpoints_have_names_of_their_own() {
    is(RecordType::A, "db.net.a.svc.cluster.local", &["10.88.0.5"]);
    is(RecordType::A, "10-88-0-6.net.a.svc.cluster.local", &["10.88.0.6"]);
    is_no_name("late.net.a.svc.cluster.local");
    is_no_name("other.net.a.svc.cluster.local");
}

#[test]
fn named_ports_are_found_with_the_addresses_of_their_targets() {
    is(RecordType::SRV, "_http._tcp.web.a.svc.cluster.local", &["0 100 80 web.a.svc.cluster.local."]);
    let answer = ask(RecordType::SRV, "_pg._tcp.net.a.svc.cluster.local").unwrap();
    assert_eq!((answer.answers.len(), answer.additionals.len()), (2, 2));
    is_no_name("_http._udp.web.a.svc.cluster.local");
}

#[test]
fn names_above_others_exist_without_records() {
    for name in ["cluster.local", "svc.cluster.local", "a.svc.cluster.local", "_tcp.web.a.svc.cluster.local"]
    {
        is(RecordType::A, name, &[]);
    }
    is(RecordType::A, "pod.cluster.local", &[]);
    is(RecordType::TXT, "dns-version.cluster.local", &["1.1.0"]);
}

#[test]
fn names_of_pods_spell_their_address() {
    is(RecordType::A, "10-88-1-2.a.pod.cluster.local", &["10.88.1.2"]);
    is_no_name("10-88-1.a.pod.cluster.local");
    is_no_name("x.10-88-1-2.a.pod.cluster.local");
}

#[test]
fn addresses_have_names_and_unknown_ones_of_ours_none() {
    is(RecordType::PTR, "9.0.96.10.in-addr.arpa", &["web.a.svc.cluster.local."]);
    is(RecordType::PTR, "5.0.88.10.in-addr.arpa", &["db.net.a.svc.cluster.local."]);
    assert_eq!(said(RecordType::PTR, "99.9.88.10.in-addr.arpa").0, ResponseCode::NXDomain);
    assert!(ask(RecordType::PTR, "1.1.1.1.in-addr.arpa").is_none());
}

#[test]
fn external_names_are_aliases_and_a_circle_ends() {
    let out = ask(RecordType::A, "out.a.svc.cluster.local").unwrap();
    assert_eq!(out.elsewhere.unwrap().to_ascii(), "example.test.");
    is(RecordType::A, "in.a.svc.cluster.local", &["web.a.svc.cluster.local.", "10.96.0.9"]);
    is(RecordType::CNAME, "in.a.svc.cluster.local", &["web.a.svc.cluster.local."]);
    assert_eq!(ask(RecordType::A, "loop.a.svc.cluster.local").unwrap().answers.len(), 8);
}

#[test]
fn all_else_is_for_others() {
    for name in ["example.org", "notcluster.local", "local", "web"] {
        assert!(ask(RecordType::A, name).is_none(), "{name}");
    }
}

fn question(edns: Option<u16>, transport: Transport) -> Box<Question> {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(Name::from_ascii("many.test.").unwrap(), RecordType::A));
    if let Some(size) = edns {
        message.set_edns(Edns::new().set_max_payload(size).clone());
    }
    match read(&message.to_vec().unwrap(), transport) {
        Asked::Question(question) => question,
        other => panic!("{other:?}"),
    }
}

fn many(count: u8) -> Answer {
    let name = Name::from_ascii("many.test.").unwrap();
    let data = |i| RData::A(Ipv4Addr::new(10, 88, 3, i).into());
    let answers =
        (0..count).map(|i| hickory_proto::rr::Record::from_rdata(name.clone(), 5, data(i))).collect();
    Answer { answers, ..Answer::default() }
}

#[test]
fn answers_fit_what_the_client_takes_and_say_when_something_is_missing() {
    for (edns, transport, limit, whole) in [
        (None, Transport::Udp, 512, false),
        (Some(100), Transport::Udp, 512, false),
        (Some(900), Transport::Udp, 900, false),
        (Some(65535), Transport::Udp, 1232, false),
        (None, Transport::Tcp, 65535, true),
    ] {
        let bytes = question(edns, transport).reply(many(200)).unwrap();
        assert!(bytes.len() <= limit, "{edns:?}: {}", bytes.len());
        let message = Message::from_vec(&bytes).unwrap();
        assert_eq!(message.metadata.truncation, !whole);
        assert_eq!(message.edns.is_some(), edns.is_some());
        assert!(if whole { message.answers.len() == 200 } else { message.answers.len() > 20 });
    }
    let small = Message::from_vec(&question(None, Transport::Udp).reply(many(20)).unwrap()).unwrap();
    assert!(!small.metadata.truncation && small.answers.len() == 20);
}

#[test]
fn what_is_no_question_is_refused_or_dropped() {
    let refused = |packet: &[u8]| match read(packet, Transport::Udp) {
        Asked::Refused(bytes) => Some(bytes[3] & 0x0f),
        _ => None,
    };
    assert!(matches!(read(&[], Transport::Udp), Asked::Nothing));
    assert!(matches!(read(&[0; 11], Transport::Udp), Asked::Nothing));
    let mut query = Message::new(7, MessageType::Query, OpCode::Query);
    assert_eq!(refused(&query.to_vec().unwrap()), Some(1));
    query.add_query(Query::query(Name::root(), RecordType::AXFR));
    assert_eq!(refused(&query.to_vec().unwrap()), Some(5));
    query.metadata.op_code = OpCode::Status;
    assert_eq!(refused(&query.to_vec().unwrap()), Some(4));
    query.metadata.message_type = MessageType::Response;
    assert!(matches!(read(&query.to_vec().unwrap(), Transport::Udp), Asked::Nothing));
    assert_eq!(refused(&[0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 63]), Some(1));
}

#[test]
fn any_bytes_are_read_without_a_panic() {
    let mut random = StdRng::seed_from_u64(96);
    let names = table();
    let seed = {
        let mut message = Message::new(7, MessageType::Query, OpCode::Query);
        message
            .add_query(Query::query(Name::from_ascii("in.a.svc.cluster.local.").unwrap(), RecordType::ANY));
        message.set_edns(Edns::new().set_max_payload(1232).clone());
        message.to_vec().unwrap()
    };
    let mut questions = 0;
    for _ in 0..50_000 {
        let mut packet = seed.clone();
        for _ in 0..random.random_range(0..6) {
            let at = random.random_range(0..packet.len());
            packet[at] = random.random();
        }
        packet.truncate(random.random_range(0..=packet.len() * 2).min(packet.len()));
        if let Asked::Question(question) = read(&packet, Transport::Udp) {
            questions += 1;
            let reply = answer(&names, &[], &question.query).unwrap_or_default();
            assert!(question.reply(reply).is_none_or(|bytes| bytes.len() <= 1232));
        }
    }
    assert!(questions > 1000);
}
