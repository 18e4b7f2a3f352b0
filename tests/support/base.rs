//! The images `busybox` and `nginx` for a cluster that has no registry but ours, made of the busybox
//! of this machine, or of the one in a Debian package.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use super::process::find;
use super::registry::Image;

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What tests run in containers beyond a shell.
const NEEDED: [&str; 9] = ["httpd", "nc", "nslookup", "wget", "stty", "tar", "setsid", "tee", "timeout"];

const FOLDERS: [&str; 16] = [
    "bin",
    "dev",
    "etc",
    "home",
    "proc",
    "root",
    "run",
    "sbin",
    "sys",
    "usr/bin",
    "usr/sbin",
    "var/log",
    "var/www",
    "usr/local/bin",
    "usr/share/nginx/html",
    "lib",
];

const FILES: [(&str, &str); 3] = [
    (
        "etc/passwd",
        "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\n\
         www-data:x:33:33:www-data:/var/www:/bin/false\nnobody:x:65534:65534:nobody:/home:/bin/false\n",
    ),
    ("etc/group", "root:x:0:\ndaemon:x:1:\nwww-data:x:33:\nnogroup:x:65534:\n"),
    ("etc/nsswitch.conf", "hosts: files dns\n"),
];

/// Ends as nginx does when it is asked to, and logs requests in its way.
const NGINX: &str = r#"#!/bin/sh
trap 'exit 0' QUIT TERM INT
httpd -f -vv -p 80 -h /usr/share/nginx/html 2>&1 | while read -r line; do
    case $line in
    *url:*) echo "${line%%: *} \"GET ${line#*url:} HTTP/1.1\"" ;;
    esac
done &
wait
"#;

/// Makes both images and puts them into the registry.
///
/// `nginx` has the real one's command line, port, stop signal and first page; behind them is busybox's
/// web server.
///
/// # Errors
/// One line on what this machine lacks.
pub fn push() -> Result<(), String> {
    let layer = layer(&busybox()?)?;
    let config = json!({"Env": [PATH], "Cmd": ["sh"]});
    // Another time than that of tests' own images, which are told apart by it.
    let created = "2025-12-24T12:00:00Z";
    Image::empty("busybox").created(created).config(config).layer(layer.clone()).push();
    let page = "<!DOCTYPE html><title>Welcome to nginx!</title><h1>Welcome to nginx!</h1>\n";
    let config = json!({
        "Env": [PATH, "NGINX_VERSION=1.22.1"], "Cmd": ["nginx", "-g", "daemon off;"],
        "ExposedPorts": {"80/tcp": {}}, "StopSignal": "SIGQUIT",
    });
    Image::empty("nginx")
        .created(created)
        .config(config)
        .layer(layer)
        .file("usr/sbin/nginx", NGINX, 0o755)
        .file("usr/share/nginx/html/index.html", page, 0o644)
        .push();
    Ok(())
}

/// A busybox that has all that tests use.
pub fn busybox() -> Result<PathBuf, String> {
    if let Some(own) = find("busybox").filter(|own| has_all(own)) {
        return Ok(own);
    }
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("busybox");
    let program = cache.join("root/bin/busybox");
    if !has_all(&program) {
        download(&cache).map_err(|error| {
            format!("no busybox on the PATH: install it (Debian: busybox-static); its package cannot be used: {error}")
        })?;
    }
    match has_all(&program) {
        true => Ok(program),
        false => Err(format!("{} does not run, or lacks one of {NEEDED:?}", program.display())),
    }
}

fn has_all(program: &Path) -> bool {
    let listed = Command::new(program).arg("--list").output();
    let listed =
        listed.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    NEEDED.iter().all(|needed| listed.lines().any(|applet| applet == *needed))
}

/// Unpacks the Debian package, without installing it. The machine may never have asked for the list of
/// packages; then it is fetched to the cache, and the machine's own left alone.
fn download(cache: &Path) -> Result<(), String> {
    let script = r#"
        rm -rf "$1"; mkdir -p "$1/lists/partial" "$1/root"; cd "$1"
        get() { apt-get -q "$@" download busybox-static; }
        get || { apt-get -q -o Dir::State::Lists="$1/lists" update && get -o Dir::State::Lists="$1/lists"; }
        dpkg-deb -x busybox-static_*.deb root
        rm -rf lists"#;
    let output = Command::new("sh").args(["-ec", script, "sh"]).arg(cache).output();
    let output = output.map_err(|error| format!("sh: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ")),
    }
}

/// A root file system with nothing but busybox in it.
fn layer(busybox: &Path) -> Result<Vec<u8>, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", busybox.display());
    let mut tar = tar::Builder::new(Vec::new());
    for folder in FOLDERS {
        add(&mut tar, folder, tar::EntryType::Directory, 0o755, b"")?;
    }
    for folder in ["tmp", "var/tmp"] {
        add(&mut tar, folder, tar::EntryType::Directory, 0o1777, b"")?;
    }
    for (path, text) in FILES {
        add(&mut tar, path, tar::EntryType::Regular, 0o644, text.as_bytes())?;
    }
    add(&mut tar, "bin/busybox", tar::EntryType::Regular, 0o755, &fs::read(busybox).map_err(failed)?)?;
    for library in libraries(busybox) {
        let content = fs::read(&library).map_err(failed)?;
        add(&mut tar, library.trim_start_matches('/'), tar::EntryType::Regular, 0o755, &content)?;
    }
    let applets = Command::new(busybox).arg("--list").output().map_err(failed)?;
    for applet in String::from_utf8_lossy(&applets.stdout).lines().filter(|applet| *applet != "busybox") {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        header.set_mode(0o777);
        tar.append_link(&mut header, format!("bin/{applet}"), "/bin/busybox").map_err(failed)?;
    }
    tar.into_inner().map_err(failed)
}

fn add(
    tar: &mut tar::Builder<Vec<u8>>,
    path: &str,
    kind: tar::EntryType,
    mode: u32,
    content: &[u8],
) -> Result<(), String> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(content.len() as u64);
    header.set_mode(mode);
    header.set_mtime(1_700_000_000);
    tar.append_data(&mut header, path, content).map_err(|error| format!("{path}: {error}"))
}

/// What a program that is not static is linked with, its interpreter among it.
fn libraries(program: &Path) -> Vec<String> {
    let output = Command::new("ldd").arg(program).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.split_whitespace().filter(|word| word.starts_with('/')).map(str::to_owned).collect()
}
