//! What the cluster says to one DNS question, from the table of names: records, "no such record",
//! "no such name", or nothing, and then somebody else is asked. No I/O.

use std::net::{IpAddr, Ipv4Addr};

use hickory_proto::op::{Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::names::{Entry, Names};

/// How long a client may keep what it was told, in seconds: short, since Pods come and go.
pub(super) const TTL: u32 = 5;
/// Aliases that lead to aliases: no more than these in a row.
const ALIASES_MAX: usize = 8;

/// What there is to say to a question.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub code: ResponseCode,
    pub answers: Vec<Record>,
    pub authorities: Vec<Record>,
    pub additionals: Vec<Record>,
    /// An alias led out of the cluster: this name is still to be looked up elsewhere.
    pub elsewhere: Option<Name>,
}

/// Part of the IPv4 address space, as `10.88.0.0/16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// Its first address.
    pub base: Ipv4Addr,
    /// How many leading bits all its addresses share.
    pub prefix: u8,
}

impl Range {
    /// Whether an address lies in it.
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        let mask = u32::MAX.checked_shl(32_u32.saturating_sub(u32::from(self.prefix))).unwrap_or(0);
        u32::from(address) & mask == u32::from(self.base) & mask
    }
}

/// Answers a question that is the cluster's own; `None` for all others.
pub(super) fn answer(names: &Names, own: &[Range], question: &Query) -> Option<Answer> {
    let name = plain(&question.name);
    if let Some(address) = reversed(&name) {
        return reverse(names, own, question, address);
    }
    names.owns(&name).then(|| forward(names, question, name))
}

/// The name as the tables have it: in lower case, without the last dot.
pub(super) fn plain(name: &Name) -> String {
    let mut text = name.to_ascii();
    text.make_ascii_lowercase();
    text.truncate(text.trim_end_matches('.').len());
    text
}

fn forward(names: &Names, question: &Query, mut name: String) -> Answer {
    let mut answer = Answer::default();
    let mut owner = question.name.clone();
    for _ in 0..ALIASES_MAX {
        let Some(entry) = names.find(&name) else {
            answer.code = ResponseCode::NXDomain;
            break;
        };
        let Some(alias) = entry.alias.as_deref().filter(|_| question.query_type != RecordType::CNAME) else {
            records(names, question.query_type, &owner, &entry, &mut answer);
            break;
        };
        let Ok(target) = Name::from_ascii(format!("{alias}.")) else {
            answer.code = ResponseCode::ServFail;
            break;
        };
        answer.answers.push(Record::from_rdata(owner, TTL, RData::CNAME(CNAME(target.clone()))));
        if !names.owns(alias) {
            answer.elsewhere = Some(target);
            return answer;
        }
        alias.clone_into(&mut name);
        owner = target;
    }
    if answer.answers.is_empty() {
        answer.authorities.extend(authority(names));
    }
    answer
}

fn records(names: &Names, kind: RecordType, owner: &Name, entry: &Entry, answer: &mut Answer) {
    let wants = |wanted| kind == wanted || kind == RecordType::ANY;
    let mut add = |data| answer.answers.push(Record::from_rdata(owner.clone(), TTL, data));
    for address in &entry.addresses {
        match address {
            IpAddr::V4(address) if wants(RecordType::A) => add(RData::A(A(*address))),
            IpAddr::V6(address) if wants(RecordType::AAAA) => add(RData::AAAA(AAAA(*address))),
            _ => {}
        }
    }
    if let Some(text) = entry.text.as_ref().filter(|_| wants(RecordType::TXT)) {
        add(RData::TXT(TXT::new(vec![text.clone()])));
    }
    if let Some(alias) = entry.alias.as_ref().and_then(|alias| Name::from_ascii(format!("{alias}.")).ok()) {
        add(RData::CNAME(CNAME(alias)));
    }
    if wants(RecordType::SOA) && plain(owner) == names.domain() {
        answer.answers.extend(authority(names));
    }
    if wants(RecordType::SRV) {
        service_records(names, owner, entry, answer);
    }
}

/// SRV records, with the addresses of their targets beside them.
fn service_records(names: &Names, owner: &Name, entry: &Entry, answer: &mut Answer) {
    for port in &entry.ports {
        let Ok(target) = Name::from_ascii(format!("{}.", port.target)) else { continue };
        let data = RData::SRV(SRV::new(0, 100, port.port, target.clone()));
        answer.answers.push(Record::from_rdata(owner.clone(), TTL, data));
        for address in names.find(&port.target).into_iter().flat_map(|entry| entry.addresses) {
            let data = match address {
                IpAddr::V4(address) => RData::A(A(address)),
                IpAddr::V6(address) => RData::AAAA(AAAA(address)),
            };
            let record = Record::from_rdata(target.clone(), TTL, data);
            if !answer.additionals.contains(&record) {
                answer.additionals.push(record);
            }
        }
    }
}

fn reverse(names: &Names, own: &[Range], question: &Query, address: IpAddr) -> Option<Answer> {
    let found = names.of(address);
    let ours = matches!(address, IpAddr::V4(address) if own.iter().any(|range| range.contains(address)));
    if found.is_empty() && !ours {
        return None;
    }
    let mut answer = Answer::default();
    if found.is_empty() {
        answer.code = ResponseCode::NXDomain;
    }
    if matches!(question.query_type, RecordType::PTR | RecordType::ANY) {
        for name in found.iter().filter_map(|name| Name::from_ascii(format!("{name}.")).ok()) {
            let record = Record::from_rdata(question.name.clone(), TTL, RData::PTR(PTR(name)));
            answer.answers.push(record);
        }
    }
    Some(answer)
}

/// The address that a name below `in-addr.arpa` or `ip6.arpa` stands for.
pub(super) fn reversed(name: &str) -> Option<IpAddr> {
    if let Some(labels) = name.strip_suffix(".in-addr.arpa") {
        let forward: Vec<&str> = labels.rsplit('.').collect();
        return forward.join(".").parse().ok().map(IpAddr::V4);
    }
    let digits: String = name.strip_suffix(".ip6.arpa")?.rsplit('.').collect();
    if digits.len() != 32 || !name.is_ascii() {
        return None;
    }
    u128::from_str_radix(&digits, 16).ok().map(|number| IpAddr::V6(number.into()))
}

/// The start of authority, which says how long "there is none" may be kept (RFC 2308).
fn authority(names: &Names) -> Option<Record> {
    let zone = Name::from_ascii(format!("{}.", names.domain())).ok()?;
    let server = zone.prepend_label("dns").ok()?.prepend_label("ns").ok()?;
    let mailbox = zone.prepend_label("hostmaster").ok()?;
    let data = SOA::new(server, mailbox, 1, 7200, 1800, 86400, TTL);
    Some(Record::from_rdata(zone, TTL, RData::SOA(data)))
}
