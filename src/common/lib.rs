//! Vocabulary that several layers share and none of them owns: failures in Docker's terms, facts of images, names that
//! d2k and its embedded cluster agree on. No I/O beyond decompression of a reader, and no other module of d2k.

pub mod capabilities;
pub mod compression;
pub mod fault;
pub mod image;
pub mod log_streams;
pub mod masked_paths;
pub mod metrics;
pub mod signal;
pub mod usage_names;
