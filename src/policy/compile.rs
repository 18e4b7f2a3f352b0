//! From the bytes of a component to machine code. Compiling takes tens of milliseconds and leaves
//! its memory in the process, so it is done in a child, and the result is kept in a folder of d2k's own.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use wasmtime::component::Component;

pub use super::child::{COMMAND, ChildError, child};
use super::child::{NoCode, compile as compile_in_child, first_line};
use super::component::engine;
use super::private::Private;

/// The largest component, in bytes.
pub const LARGEST: usize = 4 << 20;
/// Bytes of a kept file: code has some ten times the size of its component.
const LARGEST_KEPT: usize = 128 << 20;
/// A WebAssembly file begins so; a component has this version and layer behind it.
const MAGIC: &[u8] = b"\0asm";
const COMPONENT: &[u8] = &[0x0d, 0, 1, 0];
const MODULE: &[u8] = &[1, 0, 0, 0];

/// Why there is no code for the bytes of a component.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It has so many bytes.
    #[error("it has {0} bytes; the largest component has {LARGEST}")]
    TooLarge(usize),
    /// Compilers give one where they are not told to make a component of it.
    #[error("it is a core module, not a component: link it with wasm-component-ld")]
    CoreModule,
    /// Nobody can say what is in it.
    #[error("it is compiled code (.cwasm), which is never loaded: give the component")]
    CompiledCode,
    /// It is something else.
    #[error("it is no WebAssembly component")]
    NoComponent,
    /// The child does not compile it.
    #[error(transparent)]
    Child(#[from] NoCode),
    /// This process does not compile it.
    #[error("{}", first_line(&format!("{:#}", .0)))]
    Compiler(#[source] wasmtime::Error),
}

/// SHA-256 in hexadecimal digits.
pub fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Where compiled components are kept. Only what this user wrote is ever loaded.
#[derive(Debug, Clone)]
pub struct Cache {
    folder: Option<Arc<Private>>,
    program: Option<PathBuf>,
}

impl Cache {
    /// A cache in `folder`, which is made if it is not there; components are compiled by a child
    /// of `program`, a d2k. Where the folder cannot be used, nothing is kept.
    pub fn new(folder: &Path, program: Option<PathBuf>) -> Self {
        let opened = Private::open(folder).inspect_err(|error| {
            tracing::debug!(folder = %folder.display(), %error, "compiled policies are not kept");
        });
        Self { folder: opened.ok().map(Arc::new), program }
    }

    /// Keeps nothing and compiles in this process.
    pub const fn none() -> Self {
        Self { folder: None, program: None }
    }

    /// The folder, if there is one.
    pub(super) fn folder(&self) -> Option<&Private> {
        self.folder.as_deref()
    }

    /// Loads a component: from the cache, else compiled.
    ///
    /// # Errors
    /// One line that says why the bytes are no component.
    pub fn load(&self, bytes: &[u8]) -> Result<Component, Error> {
        check(bytes)?;
        let name = format!("{}-{}.code", digest(bytes), engine_key());
        if let Some(component) = self.folder().and_then(|folder| read(folder, &name)) {
            return Ok(component);
        }
        let code = match &self.program {
            Some(program) => compile_in_child(program, bytes)?,
            None => None,
        };
        let component = match code.as_deref().and_then(load_code) {
            Some(component) => component,
            None => compile(bytes)?,
        };
        if let Some(folder) = self.folder() {
            let code = code.or_else(|| component.serialize().ok()).unwrap_or_default();
            let sum = Sha256::digest(&code);
            if let Err(error) = folder.write(&name, &[sum.as_slice(), &code]) {
                tracing::debug!(%error, "a compiled policy is not kept");
            }
        }
        Ok(component)
    }
}

fn check(bytes: &[u8]) -> Result<(), Error> {
    if bytes.len() > LARGEST {
        return Err(Error::TooLarge(bytes.len()));
    }
    match (bytes.strip_prefix(MAGIC), bytes.starts_with(b"\x7fELF")) {
        (Some(rest), _) if rest.starts_with(COMPONENT) => Ok(()),
        (Some(rest), _) if rest.starts_with(MODULE) => Err(Error::CoreModule),
        (None, true) => Err(Error::CompiledCode),
        _ => Err(Error::NoComponent),
    }
}

fn compile(bytes: &[u8]) -> Result<Component, Error> {
    Component::from_binary(engine(), bytes).map_err(Error::Compiler)
}

/// Another runtime, or another processor, has other code.
fn engine_key() -> String {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let mut hasher = DefaultHasher::new();
    engine().precompile_compatibility_hash().hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// A file is the digest of the code, then the code: what was damaged is compiled anew.
fn read(folder: &Private, name: &str) -> Option<Component> {
    let kept = folder.read(name, LARGEST_KEPT).ok()?;
    let (sum, code) = kept.split_at_checked(32)?;
    if Sha256::digest(code).as_slice() != sum {
        return None;
    }
    load_code(code)
}

/// The one place of this program with unsafe code. wasmtime runs what it is given here, unchecked:
/// it is code that a d2k of this user compiled for this very engine (wasmtime checks version and
/// configuration itself), and comes from the pipe of that child, or whole by its digest from a file
/// in a folder that nobody else can write into.
#[allow(unsafe_code)]
fn load_code(code: &[u8]) -> Option<Component> {
    // SAFETY: see above; `Private` checks owner and mode of folder and file, `read` the digest.
    unsafe { Component::deserialize(engine(), code) }.ok()
}
