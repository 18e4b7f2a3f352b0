//! `d2k policy run`: one decision, with what it took.

use std::io::Read as _;
use std::path::Path;
use std::time::Instant;

use serde_json::json;

use super::Output;
use super::error::Error;
use super::subject::Subject;
use crate::ask::ask;
use crate::fixtures;
use crate::limits::Limits;
use crate::value::without_empty;

pub fn run(path: &Path, input: &Path, output: Output) -> Result<bool, Error> {
    let subject = Subject::open(path)?;
    let shown = input.display().to_string();
    let text = if input == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map_err(Error::file(Path::new("standard input")))?;
        text
    } else {
        std::fs::read_to_string(input).map_err(Error::file(input))?
    };
    for question in fixtures::questions(&shown, &text)? {
        let limits = Limits::default();
        let begin = Instant::now();
        let asked = ask(&subject.linked, question.hook, &question.input, &question.settings, limits)?;
        let took = begin.elapsed();
        let counted = ask(&subject.counted, question.hook, &question.input, &question.settings, limits)?;
        let log: Vec<String> = asked.lines.iter().map(|(level, line)| format!("{level:?}: {line}")).collect();
        if output == Output::Json {
            let json = json!({
                "reply": asked.reply.json(), "log": log, "microseconds": took.as_micros(),
                "fuel": counted.fuel, "memory": asked.memory,
            });
            println!("{json:#}");
            continue;
        }
        let reply = serde_yaml_ng::to_string(&without_empty(asked.reply.json()))?;
        print!("{reply}");
        for line in log {
            println!("# {line}");
        }
        println!("# {} µs, {} fuel, {} KiB of memory", took.as_micros(), counted.fuel, asked.memory / 1024);
    }
    Ok(true)
}
