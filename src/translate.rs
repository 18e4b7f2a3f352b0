//! Pure functions between Docker's API types and Kubernetes objects: no I/O, no clock, no state.
//! Everything Docker knows and Kubernetes has no field for is kept in annotations (`keys`).

pub mod fields;
pub mod image;
pub mod keys;
pub mod mounts;
pub mod path;
pub mod pod;
pub mod quantity;
pub mod record;
pub mod resources;
pub mod security;
pub mod signal;
pub mod validate;
pub mod volume;
