//! The Dockerfile instructions that `docker import --change` takes, applied to an image's config.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use d2k_common::fault::{Fault, Result};

/// Why a change cannot be applied.
#[derive(Debug, thiserror::Error)]
enum ChangeError {
    #[error("{0} needs an argument")]
    NoArgument(String),
    #[error(
        "{0} is not possible here: use CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME or WORKDIR"
    )]
    Instruction(String),
    #[error("{0} is no port: write 80 or 53/udp")]
    Port(String),
    #[error("{0} is no list of strings in JSON")]
    List(String, #[source] serde_json::Error),
    #[error("{0} has no value: write NAME=value")]
    NoValue(String),
    #[error("{0} is no NAME=value")]
    Pair(String),
    #[error("a quote is not closed")]
    OpenQuote,
}

/// The `config` of an image after the changes.
pub(super) fn apply(changes: &[String]) -> Result<Value> {
    let mut config = Config::default();
    for change in changes {
        let change = change.trim();
        let (instruction, rest) = change.split_once(char::is_whitespace).unwrap_or((change, ""));
        config
            .one(&instruction.to_uppercase(), rest.trim())
            .map_err(|why| Fault::invalid(format!("cannot apply the change \"{change}\": {why}")))?;
    }
    Ok(Value::Object(config.into_map()))
}

#[derive(Default)]
struct Config {
    fields: Map<String, Value>,
    env: Vec<(String, String)>,
    labels: BTreeMap<String, String>,
    ports: BTreeMap<String, Value>,
    volumes: BTreeMap<String, Value>,
}

impl Config {
    fn one(&mut self, instruction: &str, rest: &str) -> Result<(), ChangeError> {
        if rest.is_empty() {
            return Err(ChangeError::NoArgument(instruction.to_owned()));
        }
        match instruction {
            "CMD" => self.set("Cmd", json!(command(rest)?)),
            "ENTRYPOINT" => self.set("Entrypoint", json!(command(rest)?)),
            "USER" => self.set("User", json!(rest)),
            "WORKDIR" => self.set("WorkingDir", json!(self.below(rest))),
            "STOPSIGNAL" => self.set("StopSignal", json!(rest)),
            "ENV" => {
                for (name, value) in pairs(rest)? {
                    self.env.retain(|(known, _)| *known != name);
                    self.env.push((name, value));
                }
            }
            "LABEL" => self.labels.extend(pairs(rest)?),
            "EXPOSE" => {
                for port in rest.split_whitespace() {
                    let port = if port.contains('/') { port.to_owned() } else { format!("{port}/tcp") };
                    let (number, protocol) = port.split_once('/').unwrap_or_default();
                    if number.parse::<u16>().is_err() || !["tcp", "udp", "sctp"].contains(&protocol) {
                        return Err(ChangeError::Port(port));
                    }
                    self.ports.insert(port, json!({}));
                }
            }
            "VOLUME" => {
                let volumes = match rest.starts_with('[') {
                    true => list(rest)?,
                    false => words(rest)?,
                };
                self.volumes.extend(volumes.into_iter().map(|volume| (volume, json!({}))));
            }
            other => return Err(ChangeError::Instruction(other.to_owned())),
        }
        Ok(())
    }

    fn set(&mut self, field: &str, value: Value) {
        self.fields.insert(field.to_owned(), value);
    }

    /// A relative directory is one below that of the instruction before.
    fn below(&self, folder: &str) -> String {
        if folder.starts_with('/') {
            return folder.to_owned();
        }
        let before = self.fields.get("WorkingDir").and_then(Value::as_str).unwrap_or("/");
        format!("{}/{folder}", before.trim_end_matches('/'))
    }

    fn into_map(self) -> Map<String, Value> {
        let mut map = self.fields;
        let mut add = |name: &str, value: Value, empty: bool| {
            if !empty {
                map.insert(name.to_owned(), value);
            }
        };
        let env: Vec<String> = self.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
        add("Env", json!(env), env.is_empty());
        add("Labels", json!(self.labels), self.labels.is_empty());
        add("ExposedPorts", json!(self.ports), self.ports.is_empty());
        add("Volumes", json!(self.volumes), self.volumes.is_empty());
        map
    }
}

/// A command is a JSON list, or a line for the shell.
fn command(rest: &str) -> Result<Vec<String>, ChangeError> {
    match rest.starts_with('[') {
        true => list(rest),
        false => Ok(["/bin/sh", "-c", rest].map(str::to_owned).to_vec()),
    }
}

fn list(rest: &str) -> Result<Vec<String>, ChangeError> {
    serde_json::from_str(rest).map_err(|error| ChangeError::List(rest.to_owned(), error))
}

/// `NAME=value NAME="a value"`, or the old form `NAME a value`.
fn pairs(rest: &str) -> Result<Vec<(String, String)>, ChangeError> {
    let words = words(rest)?;
    if words.first().is_some_and(|first| !first.contains('=')) {
        return match rest.split_once(char::is_whitespace) {
            Some((name, value)) => Ok(vec![(name.to_owned(), value.trim().to_owned())]),
            None => Err(ChangeError::NoValue(rest.to_owned())),
        };
    }
    let pair = |word: String| match word.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(ChangeError::Pair(word)),
    };
    words.into_iter().map(pair).collect()
}

/// Words with single quotes, double quotes and backslashes.
fn words(text: &str) -> Result<Vec<String>, ChangeError> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match (c, quote) {
            (c, Some(open)) if c == open => quote = None,
            ('\'' | '"', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            ('\\', None | Some('"')) => word.get_or_insert_default().extend(characters.next()),
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err(ChangeError::OpenQuote);
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(changes: &[&str]) -> Value {
        apply(&changes.iter().map(|change| (*change).to_owned()).collect::<Vec<_>>()).expect("changes")
    }

    #[test]
    fn instructions_become_the_config() {
        let config = applied(&[
            "CMD [\"sh\", \"-c\", \"x\"]",
            "entrypoint /run me",
            "ENV A=b C=\"d e\" A=c",
            "ENV OLD a value",
            "EXPOSE 80 53/udp",
            "LABEL l='m n'",
            "USER 1000:1000",
            "VOLUME /a /b",
            "VOLUME [\"/c d\"]",
            "WORKDIR /w",
            "WORKDIR x",
            "STOPSIGNAL SIGQUIT",
        ]);
        assert_eq!(
            config,
            json!({
                "Cmd": ["sh", "-c", "x"], "Entrypoint": ["/bin/sh", "-c", "/run me"],
                "Env": ["C=d e", "A=c", "OLD=a value"], "ExposedPorts": {"53/udp": {}, "80/tcp": {}},
                "Labels": {"l": "m n"}, "User": "1000:1000", "WorkingDir": "/w/x", "StopSignal": "SIGQUIT",
                "Volumes": {"/a": {}, "/b": {}, "/c d": {}}
            })
        );
        assert_eq!(applied(&[]), json!({}));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (bad, word) in [
            ("RUN x", "RUN"),
            ("CMD", "argument"),
            ("CMD [x", "JSON"),
            ("ENV A", "NAME=value"),
            ("EXPOSE x", "port"),
            ("LABEL a='b", "quote"),
        ] {
            let words = apply(&[bad.to_owned()]).expect_err(bad).message;
            assert!(words.contains(word) && words.contains(bad), "{words}");
        }
    }
}
