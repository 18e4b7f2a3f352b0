//! The manager of fields: who writes an object, as server-side apply records it (KEP-555).

/// Who writes, and how.
#[derive(Debug, Clone, Default)]
pub struct Manager {
    /// `fieldManager`, or the client's own name.
    pub name: String,
    /// Takes fields from others.
    pub force: bool,
    /// Subresource that is written, empty for the object itself.
    pub subresource: String,
}
