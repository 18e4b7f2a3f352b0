//! Pure functions between Docker's API types and Kubernetes objects: no I/O, no clock, no state.
//! Everything Docker knows and Kubernetes has no field for is kept in annotations (`keys`).

pub mod image;
pub mod keys;
pub mod record;
