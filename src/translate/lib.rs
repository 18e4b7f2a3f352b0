//! Pure functions between Docker's API types and Kubernetes objects: no I/O, no clock, no state.
//! Everything Docker knows and Kubernetes has no field for is kept in annotations (`keys`).

#![recursion_limit = "256"]

pub mod archive;
pub mod bindings;
pub mod bounds;
pub mod container;
pub mod exec;
pub mod fields;
mod fill;
pub mod health;
pub mod helper;
pub mod inspect;
pub mod keys;
pub mod links;
mod literal;
pub mod mounts;
pub mod names;
pub mod network;
pub mod patch;
pub mod path;
pub mod pod;
pub mod quantity;
pub mod record;
pub mod request;
pub mod resources;
pub mod security;
pub mod service;
pub mod settings;
pub mod state;
pub mod stats;
pub mod time;
pub mod top;
pub mod update;
pub mod validate;
pub mod volume;
pub mod workload;
