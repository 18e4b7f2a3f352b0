//! `docker cp` and `export`: the helper, or without it the image's own `tar`, by exec while the container
//! runs; staged files before its start.

use std::path::Path;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use super::Daemon;
use super::staging::{Files, Staged};
use d2k_cluster::{Process, Wanted};
use d2k_common::fault::{Fault, Kind, Result};
use d2k_translate::archive::{Stat, base};
use d2k_translate::container::Container;
use d2k_translate::helper::{self, protocol};
use d2k_translate::mounts::MountPlan;
use d2k_translate::path::clean;
use d2k_translate::state::Phase;

/// A stream of an archive's bytes; a failure in the middle breaks it off.
pub type Stream = mpsc::Receiver<std::io::Result<Bytes>>;

const BLOCK: usize = 64 * 1024;

fn missing(path: &str, container: &Container) -> Fault {
    Fault::not_found(format!("Could not find the file {path} in container {}", container.record.name))
}

fn gone(container: &Container) -> Fault {
    Fault::conflict(format!(
        "container {} is not running: its file system went with its Pod; start it, or keep files in a volume",
        container.record.name
    ))
}

impl Daemon {
    /// The stat of a path in a container.
    ///
    /// # Errors
    /// 404 if there is none, 409 if the container has stopped, 501 if its image has no shell.
    pub async fn path_stat(&self, container: &Container, path: &str) -> Result<Stat> {
        let Some(pod) = container.running_pod() else {
            return self.staged_stat(container, path).await;
        };
        if container.has_helper() {
            return self.stat_by_helper(container, &pod, path).await;
        }
        // The link itself is asked about, even where the path ends in a slash.
        let script =
            "p=$1; [ \"$p\" = / ] || p=${p%/}; stat -c '%f %s %Y' \"$p\" || exit 44; readlink \"$p\" || true";
        let command = ["/bin/sh", "-c", script, "sh", path].map(str::to_owned);
        match self.run_quietly(&pod, &container.container_name(), &command).await {
            Ok((0, output)) => {
                let mut lines = output.lines();
                let (first, target) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
                Stat::read(first, path, target)
                    .ok_or_else(|| Fault::internal(format!("stat of {path} answered {first:?}")))
            }
            Ok((44, _)) => Err(missing(path, container)),
            Ok((_, words)) => Err(no_tools(container, &words)),
            Err(fault) => Err(no_tools(container, &fault.message)),
        }
    }

    async fn stat_by_helper(&self, container: &Container, pod: &str, path: &str) -> Result<Stat> {
        let command = helper::command(["stat", path]);
        let (code, output) = self.run_quietly(pod, &container.container_name(), &command).await?;
        match u8::try_from(code) {
            Ok(0) => {
                let (first, target) = output.split_once('\n').unwrap_or((&output, ""));
                Stat::read(first, path, target.strip_suffix('\n').unwrap_or(target))
                    .ok_or_else(|| Fault::internal(format!("stat of {path} answered {first:?}")))
            }
            Ok(protocol::NOT_FOUND) => Err(missing(path, container)),
            Ok(protocol::NOT_PERMITTED) => Err(Fault::forbidden(format!("{path}: {}", output.trim()))),
            _ => Err(Fault::internal(format!("stat of {path} failed: {}", output.trim()))),
        }
    }

    async fn staged_stat(&self, container: &Container, path: &str) -> Result<Stat> {
        let files = self.read_staged(&container.record).await?;
        let wanted = clean(path);
        if let Some((file, bytes)) = files.get(&wanted) {
            return Ok(stat_of(file, bytes));
        }
        let directory = Staged {
            path: wanted.clone(),
            mode: 0o755,
            mtime: 0,
            directory: true,
            key: String::new(),
            link: false,
            uid: 0,
            gid: 0,
        };
        let above = wanted == "/" || files.keys().any(|p| p.starts_with(&format!("{wanted}/")));
        // What directories the image has is not known here: the ones that every image has are taken
        // for granted, others are made when the container starts.
        let usual = [
            "/bin", "/dev", "/etc", "/home", "/opt", "/proc", "/root", "/run", "/srv", "/tmp", "/usr", "/var",
        ];
        if above || usual.contains(&wanted.as_str()) || path.ends_with("/.") || path.ends_with('/') {
            return Ok(stat_of(&directory, &[0; 4096]));
        }
        let exited = container.state().phase == Phase::Exited;
        Err(if exited { gone(container) } else { missing(path, container) })
    }

    /// The archive of a path, with its entries under the path's last element.
    ///
    /// # Errors
    /// Those of [`Daemon::path_stat`].
    pub async fn read_archive(&self, container: &Container, path: &str) -> Result<(Stat, Stream)> {
        let stat = self.path_stat(container, path).await?;
        self.tell(&container.record, "copied-out", []);
        let Some(pod) = container.running_pod() else {
            let files = self.read_staged(&container.record).await?;
            let bytes = pack(&files, &clean(path)).ok_or_else(|| missing(path, container))?;
            let (sender, receiver) = mpsc::channel(1);
            let _ = sender.send(Ok(Bytes::from(bytes))).await;
            return Ok((stat, receiver));
        };
        let contents = path.ends_with("/.") || clean(path) == "/";
        let whole = clean(path);
        let (parent, name) =
            if contents { (whole.clone(), ".".to_owned()) } else { (parent(&whole), base(&whole)) };
        if container.has_helper() {
            let command = helper::command(["pack", &whole, if contents { "." } else { &name }]);
            let stream = self.tar_out(container, &pod, &command).await?;
            return Ok((stat, stream));
        }
        // `./` keeps a name that begins with a dash from being an option.
        let name = if name.starts_with('-') { format!("./{name}") } else { name };
        let script = "cd \"$1\" && tar -cf - \"$2\"";
        let command = ["/bin/sh", "-c", script, "sh", &parent, &name].map(str::to_owned);
        let stream = self.tar_out(container, &pod, &command).await?;
        Ok((stat, stream))
    }

    /// The whole file system of a running container.
    ///
    /// # Errors
    /// 409 if it does not run.
    pub async fn export(&self, container: &Container) -> Result<Stream> {
        let pod = container.running_pod().ok_or_else(|| gone(container))?;
        if container.has_helper() {
            self.tell(&container.record, "exported", []);
            return self.tar_out(container, &pod, &helper::command(["export"])).await;
        }
        let script = "cd / && set -- && for f in * .[!.]*; do case $f in proc|sys|dev|'.[!.]*') ;; \
                      *) set -- \"$@\" \"$f\";; esac; done; tar -cf - \"$@\"";
        let command = ["/bin/sh", "-c", script].map(str::to_owned);
        self.tell(&container.record, "exported", []);
        self.tar_out(container, &pod, &command).await
    }

    async fn tar_out(&self, container: &Container, pod: &str, command: &[String]) -> Result<Stream> {
        let wanted = Wanted { stdout: true, stderr: true, ..Wanted::default() };
        let mut process = self.cluster.exec(pod, &container.container_name(), command, wanted).await?;
        let mut stdout = process.stdout.take().ok_or_else(|| Fault::internal("tar has no output"))?;
        let mut first = bytes::BytesMut::with_capacity(BLOCK);
        // Nothing is answered before tar has begun: what it has to say can still become a status.
        if stdout.read_buf(&mut first).await.unwrap_or(0) == 0 {
            return Err(no_tools(container, &last_words(process).await));
        }
        let (sender, receiver) = mpsc::channel(16);
        let ended = process.ended();
        tokio::spawn(async move {
            // Dropped with the task: the connection lives as long as it.
            let _process = process;
            let mut buffer = first;
            loop {
                if sender.send(Ok(buffer.split().freeze())).await.is_err() {
                    return;
                }
                buffer.reserve(BLOCK);
                match stdout.read_buf(&mut buffer).await {
                    Ok(0) => break,
                    Ok(_) => {}
                    Err(error) => {
                        let _ = sender.send(Err(error)).await;
                        return;
                    }
                }
            }
            // tar's own failures (a file that changed while it was read) are told by its exit code 1.
            let status = ended.await;
            if status.code.is_none_or(|code| code > 1) {
                let _ = sender.send(Err(std::io::Error::other(status.message))).await;
            }
        });
        Ok(receiver)
    }

    /// Unpacks an archive into a directory of a container.
    ///
    /// # Errors
    /// 400 if the path is no directory, 403 if it may not be written, 404 if it is not there.
    pub async fn write_archive(
        &self,
        container: &Container,
        path: &str,
        keep_kinds: bool,
        archive: impl futures::Stream<Item = std::io::Result<Bytes>> + Send + Unpin,
    ) -> Result<()> {
        self.require_own(container, "copied into while it does not run")
            .or_else(|fault| if container.running_pod().is_some() { Ok(()) } else { Err(fault) })?;
        self.require_writable(container, &clean(path))?;
        let Some(pod) = container.running_pod() else {
            let bytes = collect(archive).await?;
            self.stage(container, &clean(path), &bytes).await?;
            self.tell(&container.record, "copied-in", []);
            return Ok(());
        };
        match self.path_stat(container, &format!("{}/.", path.trim_end_matches('/'))).await {
            Ok(stat) if stat.is_dir() => {}
            Err(fault) if fault.kind == Kind::NotFound => {
                return match self.path_stat(container, path).await {
                    Ok(_) => Err(Fault::invalid("extraction point is not a directory")),
                    Err(_) => Err(missing(path, container)),
                };
            }
            Ok(_) => return Err(Fault::invalid("extraction point is not a directory")),
            Err(fault) => return Err(fault),
        }
        self.tar_in(container, &pod, path, keep_kinds, archive).await?;
        self.tell(&container.record, "copied-in", []);
        Ok(())
    }

    /// Docker's refusal of a place in a volume or bind that the container itself may only read.
    fn require_writable(&self, container: &Container, path: &str) -> Result<()> {
        let mounts = self.mounts_of(container);
        let holds = |(plan, _): &&(MountPlan, String)| Path::new(path).starts_with(&plan.target);
        match mounts.iter().filter(holds).max_by_key(|(plan, _)| plan.target.len()) {
            Some((plan, _)) if plan.read_only => Err(Fault::invalid("mounted volume is marked read-only")),
            _ => Ok(()),
        }
    }

    async fn tar_in(
        &self,
        container: &Container,
        pod: &str,
        path: &str,
        keep_kinds: bool,
        mut archive: impl futures::Stream<Item = std::io::Result<Bytes>> + Send + Unpin,
    ) -> Result<()> {
        use futures::StreamExt;
        let script = "cd \"$1\" && tar -xpf -";
        let command = match container.has_helper() {
            true => helper::command(["unpack", path, if keep_kinds { "--keep-kinds" } else { "" }]),
            false => ["/bin/sh", "-c", script, "sh", path].map(str::to_owned).into(),
        };
        let wanted = Wanted { stdin: true, stdout: true, stderr: true, tty: false };
        let mut process = self.exec_with_input(container, pod, command, wanted).await?;
        let mut stdin = process.stdin.take().ok_or_else(|| Fault::internal("tar has no input"))?;
        while let Some(block) = archive.next().await {
            let block = block.map_err(|e| Fault::invalid(format!("the archive did not arrive: {e}")))?;
            if stdin.write_all(&block).await.is_err() {
                break;
            }
        }
        let _ = stdin.shutdown().await;
        let ended = process.ended();
        let words = last_words(process).await;
        let status = ended.await;
        match status.code {
            Some(0) => Ok(()),
            Some(code) if code == i32::from(protocol::WRONG_KIND) => Err(Fault::invalid(words.trim())),
            _ if words.to_lowercase().contains("read-only") => {
                Err(Fault::forbidden("container rootfs is marked read-only"))
            }
            _ => Err(Fault::invalid(format!(
                "the archive could not be unpacked into {path}: {}",
                words.trim()
            ))),
        }
    }
}

/// What a process says on its standard error, or the cluster about it.
async fn last_words(mut process: Process) -> String {
    let ended = process.ended();
    let (mut words, mut output) = (Vec::new(), Vec::new());
    let (stdout, stderr) = (process.stdout.take(), process.stderr.take());
    let read = async |stream: Option<Box<dyn AsyncRead + Send + Unpin>>, bytes: &mut Vec<u8>| {
        if let Some(stream) = stream {
            let _ = stream.take(4096).read_to_end(bytes).await;
        }
    };
    tokio::join!(read(stderr, &mut words), read(stdout, &mut output));
    match words.is_empty() {
        true => ended.await.message,
        false => String::from_utf8_lossy(&words).into_owned(),
    }
}

async fn collect(
    mut archive: impl futures::Stream<Item = std::io::Result<Bytes>> + Unpin,
) -> Result<Vec<u8>> {
    use futures::StreamExt;
    let mut all = Vec::new();
    while let Some(block) = archive.next().await {
        let block = block.map_err(|e| Fault::invalid(format!("the archive did not arrive: {e}")))?;
        all.extend_from_slice(&block);
        if all.len() > 4 * 1024 * 1024 {
            return Err(Fault::invalid(
                "Kubernetes can hold 1000 KiB of files until a container starts: start it first, or copy into a volume",
            ));
        }
    }
    Ok(all)
}

fn no_tools(container: &Container, words: &str) -> Fault {
    Fault::not_implemented(format!(
        "files of container {} cannot be read or written: its image must have sh, stat and tar ({})",
        container.record.name,
        words.trim()
    ))
}

fn parent(path: &str) -> String {
    let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
    if parent.is_empty() { "/".into() } else { parent.to_owned() }
}

fn stat_of(file: &Staged, bytes: &[u8]) -> Stat {
    let kind = match (file.directory, file.link) {
        (true, _) => 0o040_000,
        (_, true) => 0o120_000,
        _ => 0o100_000,
    };
    Stat {
        name: base(&file.path),
        size: bytes.len() as u64,
        mode: (file.mode & 0o7777) | kind,
        mtime: i64::try_from(file.mtime).unwrap_or(0),
        target: if file.link { String::from_utf8_lossy(bytes).into_owned() } else { String::new() },
    }
}

/// An archive of the staged files at or below a path.
fn pack(files: &Files, path: &str) -> Option<Vec<u8>> {
    let below = format!("{}/", path.trim_end_matches('/'));
    let mut builder = tar::Builder::new(Vec::new());
    let mut any = false;
    for (name, (file, bytes)) in files {
        let inside = match name.strip_prefix(&below) {
            Some(rest) => format!("{}/{rest}", base(path)),
            None if name == path => base(path),
            None => continue,
        };
        let mut header = tar::Header::new_gnu();
        header.set_mode(file.mode);
        header.set_mtime(file.mtime);
        header.set_uid(file.uid);
        header.set_gid(file.gid);
        if file.link {
            header.set_size(0);
            header.set_entry_type(tar::EntryType::Symlink);
            let target = String::from_utf8_lossy(bytes).into_owned();
            builder.append_link(&mut header, inside.trim_start_matches('/'), target).ok()?;
            any = true;
            continue;
        }
        header.set_size(bytes.len() as u64);
        header.set_entry_type(if file.directory {
            tar::EntryType::Directory
        } else {
            tar::EntryType::Regular
        });
        builder.append_data(&mut header, inside.trim_start_matches('/'), bytes.as_slice()).ok()?;
        any = true;
    }
    let bytes = builder.into_inner().ok()?;
    any.then_some(bytes)
}
