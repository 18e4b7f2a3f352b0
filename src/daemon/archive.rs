//! Stub, replaced on merge.
