//! Stub, replaced on merge.
/// Stub.
#[derive(Default)]
pub struct Meters;
