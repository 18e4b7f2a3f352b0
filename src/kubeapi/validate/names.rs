//! Names of objects and of their parts, as DNS allows them (RFC 1123, RFC 1035), with Kubernetes' words.

use serde_json::Value;

use crate::kinds::Kind;
use crate::status::Cause;

/// What is wrong with the name of an object.
pub fn bad(kind: &Kind, name: &str) -> Option<String> {
    match kind.name {
        "Service" => bad_old_label(name),
        // The names of its Pods are made of a StatefulSet's.
        "Namespace" | "StatefulSet" => bad_label(name),
        _ => bad_subdomain(name),
    }
}

fn is_end(letter: Option<char>) -> bool {
    letter.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
}

fn is_label(text: &str) -> bool {
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    text.chars().all(legal) && is_end(text.chars().next()) && is_end(text.chars().last())
}

fn too_long(name: &str, limit: usize) -> Option<String> {
    (name.len() > limit).then(|| format!("must be no more than {limit} characters"))
}

/// Of a label of RFC 1123.
pub fn bad_label(name: &str) -> Option<String> {
    let words = if name.split('.').all(is_label) {
        "must not contain dots"
    } else {
        "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
    };
    too_long(name, 63).or_else(|| (!is_label(name)).then(|| words.to_owned()))
}

/// Of a label of RFC 1035, which begins with a letter.
pub fn bad_old_label(name: &str) -> Option<String> {
    let good = is_label(name) && name.starts_with(|c: char| c.is_ascii_lowercase());
    too_long(name, 63).or_else(|| (!good).then(|| "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')".to_owned()))
}

/// Of labels with dots between them.
pub fn bad_subdomain(name: &str) -> Option<String> {
    too_long(name, 253).or_else(|| (!name.split('.').all(is_label)).then(|| "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')".to_owned()))
}

/// Of a search domain, which may have underscores.
pub fn bad_search(name: &str) -> Option<String> {
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c);
    let part = |part: &str| {
        let inner = part.strip_prefix('_').unwrap_or(part);
        inner.chars().all(legal) && is_end(inner.chars().next()) && is_end(inner.chars().last())
    };
    too_long(name, 253).or_else(|| (!name.split('.').all(part)).then(|| "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*')".to_owned()))
}

/// Of the name of a port.
pub fn bad_port(name: &str) -> Option<&'static str> {
    if name.len() > 15 {
        return Some("must be no more than 15 characters");
    }
    if !name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-') {
        return Some("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)");
    }
    if !name.contains(|c: char| c.is_ascii_lowercase()) {
        return Some("must contain at least one letter (a-z)");
    }
    if name.contains("--") {
        return Some("must not contain consecutive hyphens");
    }
    (name.starts_with('-') || name.ends_with('-')).then_some("must not begin or end with a hyphen")
}

/// Checks a name that is a label and must be there.
pub fn label(name: &str, path: String, causes: &mut Vec<Cause>) {
    if name.is_empty() {
        causes.push(Cause::required(path, ""));
    } else if let Some(words) = bad_label(name) {
        causes.push(Cause::invalid(path, &name.into(), &words));
    }
}

/// Checks an address.
pub fn address(value: &Value, path: String, causes: &mut Vec<Cause>) {
    let text = value.as_str().unwrap_or_default();
    if text.parse::<std::net::IpAddr>().is_err() {
        let words = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
        causes.push(Cause::invalid(path, &text.into(), words));
    }
}

/// Checks a port that is a number or a name.
pub fn port(value: &Value, path: String, causes: &mut Vec<Cause>) {
    match (value.as_i64(), value.as_str()) {
        (_, Some(name)) => {
            if let Some(words) = bad_port(name) {
                causes.push(Cause::invalid(path, value, words));
            }
        }
        (Some(1..=65535), _) => {}
        (number, _) => {
            let words = "must be between 1 and 65535, inclusive";
            causes.push(Cause::invalid(path, &number.unwrap_or(0).into(), words));
        }
    }
}
