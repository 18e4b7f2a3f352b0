//! `k2d kubeconfig`: the file that k2d has made at its first start, for a client on this machine or elsewhere.

use std::io::Write;
use std::net::Ipv6Addr;
use std::path::Path;

use crate::cli::KubeconfigSettings;

/// Prints the kubeconfig.
///
/// # Errors
/// One line that names the file or the address, and what to do.
pub fn print(settings: &KubeconfigSettings) -> Result<(), String> {
    let path = settings.data_path.join("kubeconfig");
    let text = read(&path)?;
    let text = match settings.server.as_deref() {
        Some(server) if !server.starts_with("https://") => {
            return Err(format!("--server is {server}: give an address such as https://192.0.2.7:6443"));
        }
        Some(server) => with_server(&text, server),
        None => with_name(&text, &settings.names),
    };
    std::io::stdout().write_all(text.as_bytes()).map_err(|error| format!("standard output: {error}"))
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| {
        format!("{}: {error}; start k2d first, or name its folder with --data-path", path.display())
    })
}

/// The same kubeconfig for another address.
fn with_server(text: &str, server: &str) -> String {
    let line = |line: &str| match line.split_once("server: ") {
        Some((before, _)) if before.trim().is_empty() => format!("{before}server: {server}\n"),
        _ => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}

/// The same kubeconfig for the first of these names that a client can ask for, at the same port.
fn with_name(text: &str, names: &[String]) -> String {
    let server = text.lines().find_map(|line| line.trim().strip_prefix("server: "));
    let port = server.and_then(|server| server.rsplit(':').next()).unwrap_or_default();
    match names.iter().find(|name| !name.starts_with('*')) {
        Some(name) if name.parse::<Ipv6Addr>().is_ok() => {
            with_server(text, &format!("https://[{name}]:{port}"))
        }
        Some(name) => with_server(text, &format!("https://{name}:{port}")),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_address_of_the_server_is_replaced() {
        let text = "clusters:\n- cluster:\n    server: https://127.0.0.1:6443\n  name: edge\n";
        let wanted = "clusters:\n- cluster:\n    server: https://edge.example:6443\n  name: edge\n";
        assert_eq!(with_server(text, "https://edge.example:6443"), wanted);
        let named = |names: &[&str]| {
            with_name(text, &names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(named(&["*.example", "edge.example", "192.0.2.7"]), wanted);
        assert_eq!(named(&["2001:db8::7"]), wanted.replace("edge.example", "[2001:db8::7]"));
        assert_eq!((named(&[]), named(&["*.example"])), (text.to_owned(), text.to_owned()));
    }
}
