//! Volumes that are paths of this machine (`hostPath`): checks of their type, and what is made that is missing.
//! The path may be on a file system that does not answer, so that every look at it has a thread of its own,
//! which nothing waits for longer than a moment and which keeps d2k from nothing.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, FileType, Permissions};
use std::io::{Error, ErrorKind, Result as IoResult};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Mutex as Turn, oneshot};

/// The longest that a look at a path may take.
const ANSWER: Duration = Duration::from_secs(10);

/// Mode of folders that are made, as Docker and the kubelet have it.
const FOLDER: u32 = 0o755;
/// Mode of files that are made.
const FILE: u32 = 0o644;

/// Why a path is not what a volume's `type` says.
#[derive(Debug, thiserror::Error)]
pub enum HostPathError {
    /// It cannot be looked at, or what is missing cannot be made.
    #[error("{0}: {1}")]
    Path(PathBuf, #[source] Error),
    /// There is no such type.
    #[error("{0} is an invalid volume type")]
    Kind(String),
    /// Something else is there.
    #[error("hostPath type check failed: {path} is not a {expected}, it's a {found}")]
    Other {
        /// The path.
        path: PathBuf,
        /// What the type says.
        expected: &'static str,
        /// What is there.
        found: &'static str,
    },
    /// Nothing is there, and the type makes nothing.
    #[error("hostPath {0} doesn't exist")]
    Missing(PathBuf),
    /// The system does not say what is there.
    #[error("hostPath type check failed, {path} is not a {expected}, unable to determine its type: {source}")]
    Unknown {
        /// The path.
        path: PathBuf,
        /// What the type says.
        expected: &'static str,
        /// Why.
        source: Error,
    },
    /// The system gives no thread for the look.
    #[error(transparent)]
    Thread(Error),
    /// The thread has ended without an answer.
    #[error("the check was given up")]
    GivenUp,
    /// The look takes longer than it may.
    #[error(
        "hostPath {0}: its file system has not answered within {seconds} s; check what is mounted there",
        seconds = .1.as_secs()
    )]
    NoAnswer(PathBuf, Duration),
}

type Result<T> = std::result::Result<T, HostPathError>;

/// Checks of paths. Of each path there is one at a time, so that a dead one holds one thread.
#[derive(Debug, Default)]
pub struct Checks(Mutex<BTreeMap<PathBuf, Arc<Turn<()>>>>);

impl Checks {
    /// Sees to it that there is what a volume's `type` says; `""` is anything, and a folder is made if there is
    /// nothing.
    ///
    /// # Errors
    /// What is there instead, or that the file system does not answer.
    pub async fn check(&self, path: &Path, kind: &str) -> Result<()> {
        let (path, kind) = (path.to_owned(), kind.to_owned());
        self.within(ANSWER, &path.clone(), move || check(&path, &kind)).await
    }

    async fn within(
        &self,
        longest: Duration,
        path: &Path,
        look: impl FnOnce() -> Result<()> + Send + 'static,
    ) -> Result<()> {
        let turn = self.turn(path);
        let answered = async {
            let turn = turn.lock_owned().await;
            let (tell, told) = oneshot::channel();
            let look = move || {
                let _ = tell.send(look());
                drop(turn);
            };
            // No task of the runtime's own: those are waited for when d2k ends.
            std::thread::Builder::new()
                .name("host-path".into())
                .spawn(look)
                .map_err(HostPathError::Thread)?;
            told.await.map_err(|_| HostPathError::GivenUp)?
        };
        let late = |_| Err(HostPathError::NoAnswer(path.to_owned(), longest));
        tokio::time::timeout(longest, answered).await.unwrap_or_else(late)
    }

    fn turn(&self, path: &Path) -> Arc<Turn<()>> {
        let mut all = self.0.lock();
        all.retain(|_, turn| Arc::strong_count(turn) > 1);
        all.entry(path.to_owned()).or_default().clone()
    }
}

/// The same without a limit of time.
///
/// # Errors
/// What is there instead.
pub fn check(path: &Path, kind: &str) -> Result<()> {
    let failed = |error| HostPathError::Path(path.to_owned(), error);
    let found = path.metadata().map(|found| found.file_type());
    let missing = found.as_ref().is_err_and(|error| error.kind() == ErrorKind::NotFound);
    let expected = match kind {
        "" | "DirectoryOrCreate" if missing => return make_folders(path).map_err(failed),
        "FileOrCreate" if missing => return make_file(path).map_err(failed),
        "" => return found.map(drop).map_err(failed),
        "Directory" | "DirectoryOrCreate" => "directory",
        "File" | "FileOrCreate" => "file",
        "Socket" => "socket file",
        "CharDevice" => "character device",
        "BlockDevice" => "block device",
        other => return Err(HostPathError::Kind(other.to_owned())),
    };
    let path = path.to_owned();
    match found {
        Ok(found) if name(found) == kind.trim_end_matches("OrCreate") => Ok(()),
        Ok(found) => Err(HostPathError::Other { path, expected, found: name(found) }),
        Err(_) if missing => Err(HostPathError::Missing(path)),
        Err(source) => Err(HostPathError::Unknown { path, expected, source }),
    }
}

fn name(found: FileType) -> &'static str {
    let known = [
        (found.is_dir(), "Directory"),
        (found.is_file(), "File"),
        (found.is_socket(), "Socket"),
        (found.is_char_device(), "CharDevice"),
        (found.is_block_device(), "BlockDevice"),
    ];
    known.into_iter().find(|(is, _)| *is).map_or("Pipe", |(_, name)| name)
}

/// Makes a folder and those above it, with the mode whatever the umask of d2k is.
fn make_folders(path: &Path) -> IoResult<()> {
    if let Some(above) = path.parent().filter(|above| above.metadata().is_err()) {
        make_folders(above)?;
    }
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => std::fs::set_permissions(path, Permissions::from_mode(FOLDER)),
        // Somebody else was faster.
        Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

/// Makes an empty file in a folder that is there.
fn make_file(path: &Path) -> IoResult<()> {
    match File::options().write(true).create_new(true).mode(0o600).open(path) {
        Ok(file) => file.set_permissions(Permissions::from_mode(FILE)),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;

    fn folder(test: &str) -> PathBuf {
        let base = std::env::temp_dir().join(format!("d2k-host-path-{test}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&base);
        std::fs::create_dir_all(&base).unwrap();
        base
    }

    #[test]
    fn a_path_is_what_the_type_says_or_the_words_say_what_it_is() {
        let base = folder("types");
        let at = |name: &str| base.join(name);
        std::fs::write(at("file"), "").unwrap();
        let _socket = UnixListener::bind(at("socket")).unwrap();
        symlink("file", at("link")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            at("fifo"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        let null = PathBuf::from("/dev/null");
        let right = [
            (base.clone(), "Directory"),
            (base.clone(), "DirectoryOrCreate"),
            (at("file"), "File"),
            (at("link"), "File"),
            (at("file"), "FileOrCreate"),
            (at("socket"), "Socket"),
            (at("fifo"), ""),
            (null.clone(), "CharDevice"),
        ];
        for (path, kind) in &right {
            let found = check(path, kind);
            assert!(found.is_ok(), "{} {kind}: {found:?}", path.display());
        }
        let wrong = [
            (base.clone(), "File", "file, it's a Directory"),
            (base.clone(), "FileOrCreate", "file, it's a Directory"),
            (at("file"), "Directory", "directory, it's a File"),
            (at("file"), "DirectoryOrCreate", "directory, it's a File"),
            (at("file"), "Socket", "socket file, it's a File"),
            (at("socket"), "File", "file, it's a Socket"),
            (at("fifo"), "File", "file, it's a Pipe"),
            (null.clone(), "BlockDevice", "block device, it's a CharDevice"),
            (at("socket"), "CharDevice", "character device, it's a Socket"),
        ];
        for (path, kind, words) in &wrong {
            let words = format!("hostPath type check failed: {} is not a {words}", path.display());
            assert_eq!(check(path, kind).unwrap_err().to_string(), words);
        }
        for kind in ["Directory", "File", "Socket", "CharDevice", "BlockDevice"] {
            let words = format!("hostPath {} doesn't exist", at("none").display());
            assert_eq!(check(&at("none"), kind).unwrap_err().to_string(), words);
        }
        let refused = check(&at("file/below"), "File").unwrap_err().to_string();
        assert!(refused.contains("unable to determine its type: Not a directory"), "{refused}");
        assert_eq!(check(&null, "Nope").unwrap_err().to_string(), "Nope is an invalid volume type");
        std::fs::remove_dir_all(base).unwrap();
    }

    #[test]
    fn what_is_missing_is_made_where_the_type_says_so() {
        let base = folder("made");
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        for (name, kind) in [("a/b", ""), ("c/d", "DirectoryOrCreate")] {
            check(&base.join(name), kind).unwrap();
            assert_eq!(mode(&base.join(name)), 0o755);
            assert_eq!(mode(base.join(name).parent().unwrap()), 0o755);
        }
        check(&base.join("file"), "FileOrCreate").unwrap();
        assert_eq!(mode(&base.join("file")), 0o644);
        // As with a kubelet: no folder is made for a file.
        let refused = check(&base.join("none/file"), "FileOrCreate").unwrap_err().to_string();
        assert!(refused.contains("No such file"), "{refused}");
        std::fs::remove_dir_all(base).unwrap();
    }

    #[tokio::test]
    async fn a_path_that_does_not_answer_holds_one_thread_and_nobody_else() {
        let checks = Checks::default();
        let (dead, moment) = (Path::new("/dead"), Duration::from_millis(50));
        let (answer, wait) = std::sync::mpsc::channel::<()>();
        let begun = Arc::new(Mutex::new(0));
        let first = begun.clone();
        let stuck = move || {
            *first.lock() += 1;
            let _ = wait.recv();
            Ok(())
        };
        let words =
            "hostPath /dead: its file system has not answered within 0 s; check what is mounted there";
        assert_eq!(checks.within(moment, dead, stuck).await.unwrap_err().to_string(), words);
        let again = begun.clone();
        let more = move || {
            *again.lock() += 1;
            Ok(())
        };
        assert_eq!(checks.within(moment, dead, more).await.unwrap_err().to_string(), words);
        assert_eq!(*begun.lock(), 1);
        checks.within(ANSWER, Path::new("/other"), || Ok(())).await.unwrap();
        drop(answer);
        checks.within(ANSWER, dead, || Ok(())).await.unwrap();
    }
}
