//! From the bytes of a component to machine code. Compiling takes tens of milliseconds and leaves
//! its memory in the process, so it is done in a child, and the result is kept in a folder of d2k's own.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sha2::{Digest as _, Sha256};
use wasmtime::component::Component;

use super::component::engine;

/// The hidden command of this program that compiles: component on its input, code on its output.
pub const COMMAND: &str = "compile-policy";
/// The largest component, in bytes.
pub const LARGEST: usize = 4 << 20;
/// A WebAssembly file begins so; a component has this version and layer behind it.
const MAGIC: &[u8] = b"\0asm";
const COMPONENT: &[u8] = &[0x0d, 0, 1, 0];
const MODULE: &[u8] = &[1, 0, 0, 0];

/// SHA-256 in hexadecimal digits.
pub fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Where compiled components are kept. Only what this user wrote is ever loaded.
#[derive(Debug, Clone)]
pub struct Cache {
    folder: Option<PathBuf>,
    program: Option<PathBuf>,
}

impl Cache {
    /// A cache in `folder`, which is made if it is not there; components are compiled by a child
    /// of `program`, a d2k. Where the folder cannot be used, nothing is kept.
    pub fn new(folder: &Path, program: Option<PathBuf>) -> Self {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
        match made.map_err(|e| e.to_string()).and_then(|()| private(folder)) {
            Ok(()) => Self { folder: Some(folder.to_owned()), program },
            Err(error) => {
                tracing::debug!(folder = %folder.display(), error, "compiled policies are not kept");
                Self::none()
            }
        }
    }

    /// Keeps nothing and compiles in this process.
    pub const fn none() -> Self {
        Self { folder: None, program: None }
    }

    /// The folder, if there is one.
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// Loads a component: from the cache, else compiled.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn load(&self, bytes: &[u8]) -> Result<Component, String> {
        check(bytes)?;
        let Some(folder) = &self.folder else { return compile(bytes) };
        let file = folder.join(format!("{}-{}.code", digest(bytes), engine_key()));
        if let Some(component) = read(&file) {
            return Ok(component);
        }
        match self.program.as_ref().map(|program| compile_in_child(program, bytes)) {
            Some(Ok(code)) => {
                write(&file, &code);
                read(&file).map_or_else(|| compile(bytes), Ok)
            }
            Some(Err(ChildError::Refused(words))) => Err(words),
            Some(Err(ChildError::Failed)) | None => {
                let component = compile(bytes)?;
                if let Ok(code) = component.serialize() {
                    write(&file, &code);
                }
                Ok(component)
            }
        }
    }
}

fn check(bytes: &[u8]) -> Result<(), String> {
    if bytes.len() > LARGEST {
        return Err(format!("it has {} bytes; the largest component has {LARGEST}", bytes.len()));
    }
    match (bytes.strip_prefix(MAGIC), bytes.starts_with(b"\x7fELF")) {
        (Some(rest), _) if rest.starts_with(COMPONENT) => Ok(()),
        (Some(rest), _) if rest.starts_with(MODULE) => {
            Err("it is a core module, not a component: link it with wasm-component-ld".into())
        }
        (None, true) => Err("it is compiled code (.cwasm), which is never loaded: give the component".into()),
        _ => Err("it is no WebAssembly component".into()),
    }
}

fn compile(bytes: &[u8]) -> Result<Component, String> {
    Component::from_binary(engine(), bytes).map_err(|e| first_line(&format!("{e:#}")))
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

/// The child's part: reads a component, writes its code.
///
/// # Errors
/// What is wrong with the bytes.
pub fn child(mut input: impl std::io::Read, mut output: impl std::io::Write) -> Result<(), String> {
    let mut bytes = Vec::new();
    input.read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    let code = engine().precompile_component(&bytes).map_err(|e| first_line(&format!("{e:#}")))?;
    output.write_all(&code).map_err(|e| e.to_string())
}

enum ChildError {
    /// The component is bad.
    Refused(String),
    /// The child could not do its work.
    Failed,
}

fn compile_in_child(program: &Path, bytes: &[u8]) -> Result<Vec<u8>, ChildError> {
    let spawned = Command::new(program)
        .arg(COMMAND)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = spawned.map_err(|_| ChildError::Failed)?;
    // The child reads all of its input before it writes.
    let written = child.stdin.take().map(|mut stdin| stdin.write_all(bytes));
    let output = child.wait_with_output().map_err(|_| ChildError::Failed)?;
    match (output.status.code(), written) {
        (Some(0), Some(Ok(()))) if !output.stdout.is_empty() => Ok(output.stdout),
        (Some(1), _) => Err(ChildError::Refused(first_line(&String::from_utf8_lossy(&output.stderr)))),
        _ => Err(ChildError::Failed),
    }
}

/// Another runtime, or another processor, has other code.
fn engine_key() -> String {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let mut hasher = DefaultHasher::new();
    engine().precompile_compatibility_hash().hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// Nobody else may write into the folder, since what is in it is run.
fn private(folder: &Path) -> Result<(), String> {
    let meta = fs::metadata(folder).map_err(|e| e.to_string())?;
    let mine = meta.uid() == rustix::process::geteuid().as_raw();
    if mine && meta.mode() & 0o022 == 0 { Ok(()) } else { Err("others may write into it".into()) }
}

/// A file is the digest of the code, then the code: what was damaged is compiled anew.
fn read(file: &Path) -> Option<Component> {
    let mut kept = Vec::new();
    fs::File::open(file).ok()?.read_to_end(&mut kept).ok()?;
    let (sum, code) = kept.split_at_checked(32)?;
    if Sha256::digest(code).as_slice() != sum {
        return None;
    }
    load_code(code)
}

/// The one place of this program with unsafe code. wasmtime runs what it is given here, unchecked:
/// it is code that this user's d2k compiled, in a folder that nobody else can write into, whole by
/// its digest, for this very engine (wasmtime checks version and configuration itself).
#[allow(unsafe_code)]
fn load_code(code: &[u8]) -> Option<Component> {
    // SAFETY: see above; `private` and the digest are checked by the callers.
    unsafe { Component::deserialize(engine(), code) }.ok()
}

/// Written aside and moved, so that a reader never sees half of it.
fn write(file: &Path, code: &[u8]) {
    let aside = file.with_extension(format!("{}.part", std::process::id()));
    let kept = [Sha256::digest(code).as_slice(), code].concat();
    if fs::write(&aside, kept).and_then(|()| fs::rename(&aside, file)).is_err() {
        let _ = fs::remove_file(&aside);
    }
}
