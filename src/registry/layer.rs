//! A layer of an image: its sizes are in the history of the config, its bytes are at the registry.

/// A compressed layer as the manifest lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Digest of the compressed layer.
    pub digest: String,
    /// Its size in bytes.
    pub size: i64,
    /// Kept elsewhere (base layers of Windows): the registry need not have it.
    pub foreign: bool,
}
