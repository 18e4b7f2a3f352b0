//! Why a command at the desk has no result.

use std::io;
use std::path::{Path, PathBuf};

use crate::component::LinkError;
use crate::failure::Failure;
use crate::{ask, compile, fixtures};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{file}: {source}")]
    File { file: PathBuf, source: io::Error },
    #[error("{folder}: no component (*.wasm): build it first")]
    NoComponent { folder: PathBuf },
    #[error("{folder}: {count} components: name one")]
    ManyComponents { folder: PathBuf, count: usize },
    #[error("{shown}: {source}")]
    Component { shown: String, source: ComponentError },
    #[error(transparent)]
    Fixtures(#[from] fixtures::ParseError),
    #[error(transparent)]
    Fixture(#[from] fixtures::RunError),
    #[error(transparent)]
    Ask(#[from] ask::Error),
    /// A typed call failed.
    #[error(transparent)]
    Call(#[from] Failure),
    #[error("no such hook")]
    NoHook,
    /// A reply cannot be written as YAML.
    #[error(transparent)]
    Yaml(#[from] serde_yaml_ng::Error),
}

impl Error {
    pub fn file(file: &Path) -> impl Fn(io::Error) -> Self {
        move |source| Self::File { file: file.to_owned(), source }
    }
}

/// Why a component is not good.
#[derive(Debug, thiserror::Error)]
pub enum ComponentError {
    #[error(transparent)]
    Compile(#[from] compile::Error),
    #[error(transparent)]
    Link(#[from] LinkError),
    /// It was compiled as the daemon runs it, and not where fuel is counted.
    #[error("{0:#}")]
    Counting(#[source] wasmtime::Error),
    #[error("describe {0}")]
    Describe(#[source] Failure),
}
