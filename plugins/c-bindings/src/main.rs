//! Writes the C types and glue of one hook, for policies in C: the header and the source that
//! wit-bindgen makes, and the object file with the types, which the linker makes a component of.
//!
//! ```text
//! cargo run --manifest-path plugins/Cargo.toml -p d2k-c-bindings -- wit workload-policy FOLDER
//! ```

use std::path::PathBuf;
use std::{env, fs};

use anyhow::{Context as _, Result, bail};
use wit_bindgen_core::{Files, wit_parser::Resolve};

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [wit, world, folder] = arguments.as_slice() else {
        bail!("usage: d2k-c-bindings WIT WORLD FOLDER, such as: wit workload-policy bindings");
    };
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_path(wit).with_context(|| format!("{wit} cannot be read"))?;
    let world = resolve.select_world(&[package], Some(world)).with_context(|| format!("no world {world}"))?;
    let mut files = Files::default();
    wit_bindgen_c::Opts::default().build().generate(&mut resolve, world, &mut files)?;
    let folder = PathBuf::from(folder);
    fs::create_dir_all(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    for (name, bytes) in files.iter() {
        let file = folder.join(name);
        fs::write(&file, bytes).with_context(|| format!("{} cannot be written", file.display()))?;
    }
    Ok(())
}
