//! Writes the OpenAPI documents to the folder above this package, compressed; with `--check`, compares what is
//! there with what it would write, after decompression, and fails where they differ.

use std::error::Error;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let check = std::env::args().nth(1).as_deref() == Some("--check");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut wrong = false;
    // As text, because an error of `main` is shown in its form for debugging.
    let documents = openapi_generate::documents().map_err(|error| error.to_string())?;
    for (place, document) in documents {
        let path = folder.join(format!("{}.json.gz", place.replace('/', ".")));
        if !check {
            write(&path, &document)?;
        } else if read(&path).ok().as_deref() != Some(document.as_bytes()) {
            eprintln!("{} is not as it would be written: run this program without --check", path.display());
            wrong = true;
        }
    }
    Ok(if wrong { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn write(path: &Path, document: &str) -> std::io::Result<()> {
    let mut compressed = GzEncoder::new(Vec::new(), Compression::best());
    compressed.write_all(document.as_bytes())?;
    fs::write(path, compressed.finish()?)
}

fn read(path: &PathBuf) -> std::io::Result<Vec<u8>> {
    let mut document = Vec::new();
    GzDecoder::new(File::open(path)?).read_to_end(&mut document)?;
    Ok(document)
}
