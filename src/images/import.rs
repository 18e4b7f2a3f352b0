//! `docker import`: an image of one layer from the archive of a file system.

use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::Arc;

use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::io::AsyncRead;

use d2k_common::fault::{Fault, Result};
use d2k_registry::Platform;

use super::layers::{id_of, parts};
use super::manage::taggable;
use super::store::failed;
use super::stream::{ChannelReader, channel, fed};
use super::{Images, Shared, blocking, changes};
use d2k_common::compression::plain;

const CHUNK: usize = 128 << 10;

/// How an image is made from a file system, besides its files.
#[derive(Debug, Clone, Default)]
pub struct Import {
    /// Its name, if it gets one.
    pub reference: Option<String>,
    /// Dockerfile instructions.
    pub changes: Vec<String>,
    /// The comment in its history.
    pub message: String,
    /// When it is made, RFC 3339.
    pub created: String,
}

impl Images {
    /// Makes an image from the archive of a file system, plain or compressed; its ID.
    pub async fn import(&self, archive: impl AsyncRead + Send + Unpin, import: Import) -> Result<String> {
        let name = import.reference.as_deref().map(taggable).transpose()?.map(|name| name.to_string());
        let config = changes::apply(&import.changes)?;
        let (sender, reader) = channel();
        let shared = Arc::clone(&self.shared);
        let making = blocking(move || make(&shared, reader, &import, config, name));
        fed(archive, sender, making).await
    }
}

fn make(
    shared: &Arc<Shared>,
    mut archive: ChannelReader,
    import: &Import,
    config: serde_json::Value,
    name: Option<String>,
) -> Result<String> {
    let temporary = shared.store.temporary();
    let path = &temporary.path;
    let mut file = File::create_new(path).map_err(failed("write", path))?;
    let mut digest = Digesting { into: &mut file, hasher: Sha256::new() };
    let size = copy(&mut archive, &mut digest).map_err(failed("write", path))?;
    let blob = digest.finish();
    file.sync_all().map_err(failed("write", path))?;
    let wrong = |error: io::Error| Fault::invalid(format!("cannot import the archive: {error}"));
    let file = File::open(path).map_err(failed("read", path))?;
    let mut digest = Digesting { into: io::sink(), hasher: Sha256::new() };
    copy(&mut plain(file).map_err(wrong)?, &mut digest).map_err(wrong)?;
    let diff_id = digest.finish();
    let platform = Platform::default();
    let config = json!({
        "created": import.created, "os": platform.os, "architecture": platform.architecture, "config": config,
        "rootfs": { "type": "layers", "diff_ids": [&diff_id] },
        "history": [{ "created": import.created, "comment": import.message }],
    });
    let config = config.to_string().into_bytes();
    let id = id_of(&config);
    let parts = parts(vec![(blob.clone(), size)], &[diff_id])?;
    let _pin = shared.pin(&id, &parts);
    shared.store.keep_blob(&blob, path)?;
    let unpacked = shared.unpack_all(&parts);
    if unpacked.is_err() {
        drop(shared.store.take_away(&shared.store.blob(&blob)));
    }
    unpacked?;
    let names: Vec<String> = name.into_iter().collect();
    shared.commit(&id, &config, &parts, &names, None)?;
    Ok(id)
}

fn copy(from: &mut impl Read, into: &mut impl Write) -> io::Result<u64> {
    let mut from = io::BufReader::with_capacity(CHUNK, from);
    io::copy(&mut from, into)
}

/// Digests what is written through it.
struct Digesting<W> {
    into: W,
    hasher: Sha256,
}

impl<W> Digesting<W> {
    fn finish(self) -> String {
        format!("sha256:{}", hex::encode(self.hasher.finalize()))
    }
}

impl<W: Write> Write for Digesting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.into.write(bytes)?;
        self.hasher.update(bytes.get(..written).unwrap_or_default());
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.into.flush()
    }
}
