//! `d2k policy inspect`: what a component says of itself, and what it is.

use std::path::Path;

use serde_json::json;

use super::Output;
use super::error::Error;
use super::subject::Subject;

pub fn inspect(path: &Path, output: Output) -> Result<bool, Error> {
    let subject = Subject::open(path)?;
    let (info, hooks) = (&subject.info, subject.linked.hooks.list());
    if output == Output::Json {
        let settings: Vec<_> = info
            .settings
            .iter()
            .map(|s| json!({"name": s.name, "default": s.default, "help": s.help}))
            .collect();
        let json = json!({
            "name": info.name, "version": info.version, "summary": info.summary, "hooks": hooks,
            "interface": "d2k:policy@1.0.0", "digest": subject.digest(), "size": subject.bytes.len(),
            "settings": settings, "fixtures": subject.fixture_files,
        });
        println!("{json:#}");
        return Ok(true);
    }
    let hooks: Vec<&str> = hooks.iter().map(|hook| hook.name()).collect();
    println!("{} {}: {}", info.name, info.version, info.summary);
    println!("hooks      {} (d2k:policy@1.0.0)", hooks.join(", "));
    println!("component  {} bytes, sha256:{}", subject.bytes.len(), subject.digest());
    println!("fixtures   {}", subject.fixture_files.len());
    let width = info.settings.iter().map(|s| s.name.len()).max().unwrap_or(0);
    println!("settings{}", if info.settings.is_empty() { "   none" } else { "" });
    for setting in &info.settings {
        let default = match setting.default.as_str() {
            "" => String::new(),
            default => format!(" [default: {default}]"),
        };
        println!("  {:width$}  {}{default}", setting.name, setting.help);
    }
    Ok(true)
}
