//! The size of the program.

use std::process::Command;

use crate::bench::{Bench, figure, row};

pub fn size(bench: &Bench) {
    let bytes = |path: &std::path::Path| std::fs::metadata(path).unwrap().len() as f64;
    let stripped = std::env::temp_dir().join(format!("k2d-bench-{}", std::process::id()));
    let mut strip = Command::new("strip");
    let done = strip.arg("-o").arg(&stripped).arg(&bench.program).status();
    let (what, size) = match done.is_ok_and(|status| status.success()) {
        true => ("size of the program, stripped", bytes(&stripped)),
        false => ("size of the program as it is: there is no `strip`", bytes(&bench.program)),
    };
    let _ = std::fs::remove_file(stripped);
    let size = size / 1e6;
    row(what, &format!("{} MB", figure(size)), "", size, (8.0, "MB"));
}
