//! From the layers of an image to the root of a container: the overlay that is to be mounted, or the
//! copy that takes its place where this machine cannot mount one.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::StatFs;
use rustix::io::Errno;
use rustix::mount::FsOpenFlags;

use crate::rootfs::{Overlay, Rootfs};

use super::marks::Marks;
use super::merge::{self, By};

/// What statfs says of an overlay.
const OVERLAYFS: i64 = 0x794c_7630;
/// The kernel takes one page of options; what is not names of layers needs some of it.
const LONGEST: usize = 3000;
/// The longest path that is tried out.
const LONGEST_TRIED: usize = 240;

/// How roots are made on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum How {
    /// By overlayfs. With `user_xattrs` the mount needs the option `userxattr`.
    Overlay {
        /// Whether layers are marked with attributes of users, because this process is not root.
        user_xattrs: bool,
    },
    /// By copies, because of this.
    Copy(String),
}

impl How {
    /// Finds out with `scratch`, an empty folder beside the layers.
    pub(super) fn probe(scratch: &Path, marks: Marks) -> io::Result<Self> {
        let user_xattrs = match marks {
            Marks::Files => {
                let why = "the disk of the images takes neither devices nor attributes that overlayfs needs";
                return Ok(Self::Copy(why.to_owned()));
            }
            Marks::Trusted => false,
            Marks::User => true,
        };
        let StatFs { f_type, .. } = rustix::fs::statfs(scratch)?;
        if f_type == OVERLAYFS {
            return Ok(Self::Copy(
                "the images are on an overlayfs, over which no other can write".to_owned(),
            ));
        }
        if !is_nameable(scratch) {
            let why =
                "the path of the images has a colon, a comma or a backslash, which mean something to a mount";
            return Ok(Self::Copy(why.to_owned()));
        }
        for part in ["lower", "upper", "work"] {
            fs::create_dir_all(scratch.join(part))?;
        }
        // The options of this way to mount are short, those of the runtime's are not.
        if scratch.as_os_str().len() > LONGEST_TRIED {
            return Ok(Self::Overlay { user_xattrs });
        }
        match mount(scratch) {
            // Without the right to mount, or with an old kernel, the runtime's own try decides.
            Ok(()) | Err((_, Errno::PERM | Errno::NOSYS)) => Ok(Self::Overlay { user_xattrs }),
            Err((step, error)) => Ok(Self::Copy(format!("overlayfs cannot be used here: {step}: {error}"))),
        }
    }
}

/// Whether a path can be an option of a mount as it is.
pub(super) fn is_nameable(path: &Path) -> bool {
    !path.as_os_str().as_encoded_bytes().iter().any(|byte| matches!(byte, b':' | b',' | b'\\'))
}

/// Makes a mount that is attached nowhere and is gone when this returns.
fn mount(scratch: &Path) -> Result<(), (&'static str, Errno)> {
    let context =
        rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).map_err(|error| ("fsopen", error))?;
    for (option, part) in [("lowerdir", "lower"), ("upperdir", "upper"), ("workdir", "work")] {
        rustix::mount::fsconfig_set_string(&context, option, scratch.join(part))
            .map_err(|error| (option, error))?;
    }
    rustix::mount::fsconfig_create(&context).map_err(|error| ("mounting", error))
}

/// Plans a root below `folder` over `layers`, the topmost first. `flat` is where layers may be put
/// together once if they are too many for a mount.
pub(super) fn rootfs(
    layers: &[PathBuf],
    folder: &Path,
    how: &How,
    flat: &dyn Fn() -> io::Result<PathBuf>,
) -> io::Result<Rootfs> {
    if let How::Copy(_) = how {
        let root = folder.join("root");
        fs::create_dir_all(&root)?;
        for layer in layers.iter().rev() {
            merge::apply(layer, &root, By::Copy)?;
        }
        return Ok(Rootfs { root, overlays: Vec::new() });
    }
    let (root, upper, work) = (folder.join("merged"), folder.join("upper"), folder.join("work"));
    for part in [&root, &upper, &work] {
        fs::create_dir_all(part)?;
    }
    let length: usize = layers.iter().map(|layer| layer.as_os_str().len() + 1).sum();
    let lower = match layers {
        // An image of nothing still needs something to lie over.
        [] => {
            let empty = folder.join("empty");
            fs::create_dir_all(&empty)?;
            fs::set_permissions(&empty, fs::Permissions::from_mode(0o755))?;
            vec![empty]
        }
        _ if length > LONGEST => vec![flat()?],
        _ => layers.to_vec(),
    };
    if let Some(top) = lower.first() {
        // The root of an overlay looks as its upper folder does.
        merge::like(&fs::symlink_metadata(top)?, top, &upper)?;
    }
    Ok(Rootfs { root, overlays: vec![Overlay { at: PathBuf::new(), lower, upper, work }] })
}
