//! The parts of a create request in Docker's notation, parsed: the body, the command line, ports, capabilities,
//! extra hosts and links. Checks, records and Pod templates all read them from here, so this file uses none of those.

use std::net::IpAddr;

use bollard_stubs::models::ContainerCreateBody;

use d2k_common::fault::{Fault, Result};
use d2k_common::image::ImageFacts;

mod body;

pub use body::body;

/// What Docker would run: entrypoint and command after the image's defaults are filled in.
pub fn argv(body: &ContainerCreateBody, image: &ImageFacts) -> (Vec<String>, Vec<String>) {
    let cmd = body.cmd.clone().unwrap_or_default();
    match &body.entrypoint {
        None if cmd.is_empty() => (image.entrypoint.clone(), image.cmd.clone()),
        None => (image.entrypoint.clone(), cmd),
        // An empty list takes the entrypoint away and keeps the image's command ...
        Some(list) if list.is_empty() && cmd.is_empty() => (Vec::new(), image.cmd.clone()),
        // ... a list of one empty string takes both away.
        Some(list) if is_reset(list) => (Vec::new(), cmd),
        Some(list) => (list.clone(), cmd),
    }
}

fn is_reset(entrypoint: &[String]) -> bool {
    entrypoint.iter().all(String::is_empty) && entrypoint.len() <= 1
}

/// The ports of `80`, `80/tcp`, `7000-7002/udp`, with their protocol in lower case.
pub fn ports(spec: &str) -> Result<Vec<(u16, String)>> {
    let (numbers, protocol) = spec.split_once('/').unwrap_or((spec, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(Fault::invalid(format!(
            "invalid port specification: {spec:?}: the protocol must be tcp, udp or sctp"
        )));
    }
    match port_range(numbers) {
        Some((first, last)) if first > 0 => Ok((first..=last).map(|port| (port, protocol.clone())).collect()),
        _ => Err(wrong_port(numbers)),
    }
}

/// A port or a range of ports, `8000` or `8000-8010`.
pub fn port_range(text: &str) -> Option<(u16, u16)> {
    let number = |text: &str| text.parse::<u16>().ok().filter(|_| text.chars().all(|c| c.is_ascii_digit()));
    match text.split_once('-') {
        None => number(text).map(|port| (port, port)),
        Some((first, last)) => Some((number(first)?, number(last)?)).filter(|(first, last)| first <= last),
    }
}

/// The refusal of a text that is no port and no range of ports.
pub fn wrong_port(text: &str) -> Fault {
    Fault::invalid(format!("invalid port specification: {text:?}"))
}

/// Kubernetes' spelling of a capability: upper case, without `CAP_`.
pub fn capability(name: &str) -> String {
    let upper = name.to_ascii_uppercase();
    upper.strip_prefix("CAP_").unwrap_or(&upper).to_owned()
}

/// Name and address of an extra host, `name:address` or `name=address`; the address may be in brackets.
pub fn extra_host(entry: &str) -> Result<(String, String)> {
    let separator = if entry.contains('=') { '=' } else { ':' };
    let (name, address) = entry
        .split_once(separator)
        .filter(|(name, address)| !name.is_empty() && !address.is_empty())
        .ok_or_else(|| Fault::invalid(format!("bad format for add-host: {entry:?}")))?;
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    if bare != "host-gateway" && bare.parse::<IpAddr>().is_err() {
        return Err(Fault::invalid(format!("invalid IP address in add-host: {address:?}")));
    }
    Ok((name.to_owned(), bare.to_owned()))
}

/// One link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Name or ID of the other container.
    pub target: String,
    /// What it is called.
    pub alias: String,
}

impl Link {
    /// Reads `name`, `name:alias`, or what inspect tells: `/name:/container/alias`.
    ///
    /// # Errors
    /// 400 with Docker's words.
    pub fn parse(text: &str) -> Result<Self> {
        if text.is_empty() {
            return Err(Fault::invalid("empty string specified for links"));
        }
        let (target, alias) = text.split_once(':').unwrap_or((text, text));
        let alias = alias.rsplit('/').next().unwrap_or_default();
        let target = target.trim_start_matches('/');
        if target.is_empty() || alias.is_empty() || alias.contains(':') {
            return Err(Fault::invalid(format!("bad format for links: {text}")));
        }
        Ok(Self { target: target.to_owned(), alias: alias.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_numbers_or_ranges() {
        assert_eq!(ports("80"), Ok(vec![(80, "tcp".to_owned())]));
        assert_eq!(ports("7000-7001/UDP").map(|all| all.len()), Ok(2));
        for bad in ["0/tcp", "65536/tcp", "80/icmp", "x", "", "9-8/tcp", "+80", "-1"] {
            assert!(ports(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_link_is_read_in_each_form_that_clients_send() {
        for text in ["db:mysql", "/db:/web/mysql"] {
            assert_eq!(Link::parse(text).unwrap(), Link { target: "db".into(), alias: "mysql".into() });
        }
        assert_eq!(Link::parse("db").unwrap().alias, "db");
        for text in ["", ":x", "db:", "a:b:c"] {
            assert!(Link::parse(text).is_err(), "{text}");
        }
    }
}
