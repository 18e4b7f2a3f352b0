//! Pure functions between Docker's API types and Kubernetes objects: no I/O, no clock, no state.
//! Everything Docker knows and Kubernetes has no field for is kept in annotations (`keys`).

pub mod container;
pub mod image;
pub mod keys;
pub mod network;
pub mod record;
pub mod service;
pub mod signal;
pub mod state;
pub mod time;
pub mod workload;
