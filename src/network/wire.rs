//! DNS messages as bytes: what of a packet is a question, and how an answer is made to fit the size
//! that its client takes (RFC 1035, RFC 6891). No I/O.

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, RecordType};

use super::answer::Answer;

/// What every client takes over UDP.
const PLAIN_UDP: u16 = 512;
/// More is not sent over UDP, whatever a client takes: larger packets are fragmented on their way.
const LARGEST_UDP: u16 = 1232;
const HEADER: usize = 12;

/// How a question came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    Udp,
    Tcp,
}

/// What a packet asks.
#[derive(Debug)]
pub(super) enum Asked {
    /// A question to be answered.
    Question(Box<Question>),
    /// Something that gets this answer at once.
    Refused(Vec<u8>),
    /// Nothing that deserves an answer.
    Nothing,
}

/// One question, with what its answer must agree with.
#[derive(Debug)]
pub(super) struct Question {
    pub query: Query,
    message: Message,
    limit: u16,
}

/// Reads a packet. Never fails: what is not a question is answered with the reason or dropped.
pub(super) fn read(packet: &[u8], transport: Transport) -> Asked {
    let Some((id, flags)) = header(packet) else { return Asked::Nothing };
    // Answers are never answered: two servers would go on forever.
    if flags & 0x80 != 0 {
        return Asked::Nothing;
    }
    let Ok(message) = Message::from_vec(packet) else {
        let mut bare = vec![0_u8; HEADER];
        let head = [id[0], id[1], 0x80 | (flags & 0x79), ResponseCode::FormErr.low()];
        bare.splice(..head.len(), head);
        return Asked::Refused(bare);
    };
    let limit = match (transport, &message.edns) {
        (Transport::Tcp, _) => u16::MAX,
        (Transport::Udp, None) => PLAIN_UDP,
        (Transport::Udp, Some(edns)) => edns.max_payload().clamp(PLAIN_UDP, LARGEST_UDP),
    };
    let refused = refusal(&message);
    let query = message.queries.first().cloned().unwrap_or_default();
    let question = Question { query, message, limit };
    match refused {
        Some(code) => match question.reply(Answer { code, ..Answer::default() }) {
            Some(reply) => Asked::Refused(reply),
            None => Asked::Nothing,
        },
        None => Asked::Question(Box::new(question)),
    }
}

fn header(packet: &[u8]) -> Option<([u8; 2], u8)> {
    match packet {
        [first, second, flags, ..] if packet.len() >= HEADER => Some(([*first, *second], *flags)),
        _ => None,
    }
}

fn refusal(message: &Message) -> Option<ResponseCode> {
    let [query] = message.queries.as_slice() else { return Some(ResponseCode::FormErr) };
    if message.metadata.op_code != OpCode::Query {
        return Some(ResponseCode::NotImp);
    }
    if message.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
        return Some(ResponseCode::BADVERS);
    }
    let transfer = matches!(query.query_type, RecordType::AXFR | RecordType::IXFR);
    let internet = matches!(query.query_class, DNSClass::IN | DNSClass::ANY);
    (transfer || !internet).then_some(ResponseCode::Refused)
}

impl Question {
    /// The bytes of an answer of our own.
    pub fn reply(&self, answer: Answer) -> Option<Vec<u8>> {
        let asked = &self.message.metadata;
        let mut reply = Message::new(asked.id, MessageType::Response, asked.op_code);
        reply.metadata.recursion_desired = asked.recursion_desired;
        reply.metadata.checking_disabled = asked.checking_disabled;
        reply.metadata.recursion_available = true;
        reply.metadata.authoritative = answer.elsewhere.is_none() && answer.code != ResponseCode::ServFail;
        reply.metadata.response_code = answer.code;
        reply.queries.clone_from(&self.message.queries);
        reply.answers = answer.answers;
        reply.authorities = answer.authorities;
        reply.additionals = answer.additionals;
        if self.message.edns.is_some() {
            let mut edns = Edns::new();
            edns.set_max_payload(LARGEST_UDP).set_version(0);
            reply.edns = Some(edns);
        }
        self.fit(reply)
    }

    /// What another server answered, made to fit; its own bytes where they fit already.
    pub fn pass_on(&self, answer: Vec<u8>) -> Option<Vec<u8>> {
        if answer.len() <= usize::from(self.limit) {
            return Some(answer);
        }
        self.fit(Message::from_vec(&answer).ok()?)
    }

    /// The same question about another name, for whoever follows an alias.
    pub fn about(&self, name: hickory_proto::rr::Name) -> Option<Vec<u8>> {
        let mut message = self.message.clone();
        for query in &mut message.queries {
            query.name = name.clone();
        }
        message.to_vec().ok()
    }

    /// Drops the additional records first, then authorities, then answers, until the message fits; says
    /// so with the TC bit unless only additional records are missing, so that the client asks over TCP.
    fn fit(&self, mut message: Message) -> Option<Vec<u8>> {
        let limit = usize::from(self.limit);
        loop {
            let bytes = message.to_vec().ok()?;
            if bytes.len() <= limit {
                return Some(bytes);
            }
            let keep = |count: usize| (count * limit / bytes.len()).min(count.saturating_sub(1));
            if !message.additionals.is_empty() {
                message.additionals.clear();
            } else if !message.authorities.is_empty() {
                message.authorities.clear();
                message.metadata.truncation = true;
            } else if !message.answers.is_empty() {
                message.answers.truncate(keep(message.answers.len()));
                message.metadata.truncation = true;
            } else {
                return None;
            }
        }
    }
}
