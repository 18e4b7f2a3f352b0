//! The grammar of image names: which registries, repositories, tags and digests are legal, and the
//! words for those that are not.

use d2k_common::fault::{Fault, Result};

/// Docker's words for a name that fits nothing.
pub(super) const INVALID: &str = "invalid reference format";
/// A host name has at most 253 characters; a colon and a port follow it.
const LONGEST_REGISTRY: usize = 259;
const LONGEST_REPOSITORY: usize = 255;
const LONGEST_TAG: usize = 128;

pub(super) fn check_name(registry: &str, repository: &str) -> Result<()> {
    if !is_registry(registry) || !repository.split('/').all(is_component) {
        return Err(Fault::invalid(INVALID));
    }
    if repository.len() > LONGEST_REPOSITORY {
        return Err(Fault::invalid("repository name must not be more than 255 characters"));
    }
    Ok(())
}

fn is_registry(text: &str) -> bool {
    if text.len() > LONGEST_REGISTRY {
        return false;
    }
    if let Some((address, port)) = text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        let port_fits = port.is_empty() || port.strip_prefix(':').is_some_and(is_digits);
        return port_fits
            && !address.is_empty()
            && address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':');
    }
    let host = match text.split_once(':') {
        Some((host, port)) if is_digits(port) => host,
        Some(_) => return false,
        None => text,
    };
    host.split('.').all(|label| {
        let fits = label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        fits && !label.is_empty() && !label.starts_with('-') && !label.ends_with('-')
    })
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

fn is_component(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if !text.starts_with(plain) || !text.ends_with(plain) {
        return false;
    }
    let mut separators = text.split(plain).filter(|separator| !separator.is_empty());
    separators.all(|s| matches!(s, "." | "_" | "__") || s.bytes().all(|b| b == b'-'))
}

pub(super) fn is_tag(text: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.len() <= LONGEST_TAG
        && text.starts_with(word)
        && text.chars().all(|c| word(c) || c == '.' || c == '-')
}

pub(super) fn is_lower_hex(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

pub(super) fn check_digest(text: &str) -> Result<()> {
    let Some((algorithm, hex)) = text.split_once(':') else {
        return Err(Fault::invalid(INVALID));
    };
    if hex.len() < 32 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(Fault::invalid(INVALID));
    }
    let length = match algorithm {
        "sha256" => 64,
        "sha384" => 96,
        "sha512" => 128,
        _ => return Err(Fault::invalid("unsupported digest algorithm")),
    };
    if hex.len() != length {
        return Err(Fault::invalid("invalid checksum digest length"));
    }
    if !is_lower_hex(hex) {
        return Err(Fault::invalid("invalid checksum digest format"));
    }
    Ok(())
}
