//! Writes the C types and glue of one hook into a folder.
//!
//! ```text
//! cargo run --manifest-path plugins/Cargo.toml -p d2k-c-bindings -- wit workload-policy FOLDER
//! ```

use std::path::{Path, PathBuf};
use std::{env, fs};

use anyhow::{Context as _, Result, bail};

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [wit, world, folder] = arguments.as_slice() else {
        bail!("usage: d2k-c-bindings WIT WORLD FOLDER, such as: wit workload-policy bindings");
    };
    let folder = PathBuf::from(folder);
    fs::create_dir_all(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    for (name, bytes) in d2k_c_bindings::generate(Path::new(wit), world)? {
        let file = folder.join(name);
        fs::write(&file, bytes).with_context(|| format!("{} cannot be written", file.display()))?;
    }
    Ok(())
}
