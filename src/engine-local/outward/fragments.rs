//! Puts the fragments of IPv4 packets together (RFC 791), within limits: what does not become whole in
//! time, or is too much, is forgotten.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use super::packet::{self, Head};

/// Packets that may be incomplete at a time, 64 KiB each.
const INCOMPLETE_MAX: usize = 64;
/// How long the parts of one packet may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The largest payload that all lengths can say.
const LARGEST: usize = 65_515;

type Key = (Ipv4Addr, Ipv4Addr, u8, u16);

/// Packets of which some parts are here.
#[derive(Default)]
pub(super) struct Fragments(HashMap<Key, Incomplete>);

struct Incomplete {
    since: Instant,
    bytes: Vec<u8>,
    /// Beginning and end of each part; parts do not overlap.
    parts: Vec<(usize, usize)>,
    /// The length, once the last part is here.
    length: Option<usize>,
}

impl Fragments {
    /// Takes a fragment; the whole packet when it was the last one missing.
    pub fn add(&mut self, fragment: &[u8], head: &Head) -> Option<Vec<u8>> {
        self.0.retain(|_, incomplete| incomplete.since.elapsed() < PATIENCE);
        let part = fragment.get(head.start..head.end)?;
        let (begin, end) = (head.offset, head.offset + part.len());
        let key = (head.source, head.destination, head.protocol, head.id);
        if part.is_empty() || end > LARGEST || (self.0.len() >= INCOMPLETE_MAX && !self.0.contains_key(&key))
        {
            return None;
        }
        let new = || Incomplete { since: Instant::now(), bytes: Vec::new(), parts: Vec::new(), length: None };
        let incomplete = self.0.entry(key).or_insert_with(new);
        // A part twice is normal; parts that overlap are an attack (RFC 5722).
        if incomplete.parts.contains(&(begin, end)) {
            return None;
        }
        if incomplete.parts.iter().any(|(b, e)| begin < *e && *b < end) {
            self.0.remove(&key);
            return None;
        }
        if incomplete.bytes.len() < end {
            incomplete.bytes.resize(end, 0);
        }
        incomplete.bytes.get_mut(begin..end)?.copy_from_slice(part);
        incomplete.parts.push((begin, end));
        if !head.more {
            incomplete.length = Some(end);
        }
        let here: usize = incomplete.parts.iter().map(|(begin, end)| end - begin).sum();
        if incomplete.length != Some(here) {
            return None;
        }
        let whole = self.0.remove(&key)?;
        packet::packets(head.protocol, head.source, head.destination, &whole.bytes, usize::from(u16::MAX))
            .pop()
    }
}
