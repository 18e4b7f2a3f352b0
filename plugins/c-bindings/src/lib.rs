//! The C types and glue of one hook, for policies in C: the header and the source that wit-bindgen
//! makes, and the object file with the types, which the linker makes a component of.

use std::path::Path;

use anyhow::{Context as _, Result};
use wit_bindgen_core::{Files, wit_parser::Resolve};

/// Names and contents of the files for a world of a folder of WIT.
pub fn generate(wit: &Path, world: &str) -> Result<Vec<(String, Vec<u8>)>> {
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_path(wit).with_context(|| format!("{} cannot be read", wit.display()))?;
    let world = resolve.select_world(&[package], Some(world)).with_context(|| format!("no world {world}"))?;
    let mut files = Files::default();
    wit_bindgen_c::Opts::default().build().generate(&mut resolve, world, &mut files)?;
    Ok(files.iter().map(|(name, bytes)| (name.to_owned(), bytes.to_vec())).collect())
}
