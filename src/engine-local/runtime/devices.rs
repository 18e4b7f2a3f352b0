//! Device rules of containers. Cgroups of version 1 have files for them, which `libcontainer` writes;
//! version 2 asks a program in the kernel, which is loaded once here and attached to the cgroup of every
//! container that is not privileged. Without rules, a container that may make device nodes has the
//! machine's disks, so it gets no `CAP_MKNOD` then.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use aya::programs::cgroup_device::CgroupDeviceLink;
use aya::programs::{CgroupAttachMode, CgroupDevice, ProgramError};
use aya::{Ebpf, EbpfError, EbpfLoader};

use crate::runtime::cgroups::Cgroups;
use crate::runtime::reasons::chain;

mod program;

pub use program::is_harmless;

/// Why there are no device rules: `their` program is that of the rules.
#[derive(Debug, thiserror::Error)]
pub enum DevicesError {
    /// The program as a file.
    #[error("the object of the device rules cannot be written: {0}")]
    Write(#[source] object::write::Error),
    /// The kernel cannot read the file.
    #[error("the kernel does not take their program: {words}", words = chain(.0))]
    Read(#[source] EbpfError),
    /// The kernel cannot run the program.
    #[error("the kernel does not take their program: {words}", words = chain(.0))]
    Load(#[source] ProgramError),
    /// It is not in the file.
    #[error("their program has no name")]
    NoName,
    /// It is there as a program for something else.
    #[error(transparent)]
    Kind(ProgramError),
    /// A cgroup to try it with.
    #[error("{0}: {1}")]
    Probe(PathBuf, #[source] io::Error),
    /// The cgroup that the rules are for.
    #[error("device rules of the cgroup {0}: {1}")]
    Cgroup(PathBuf, #[source] io::Error),
    /// The kernel does not let the program decide about that cgroup.
    #[error("device rules of the cgroup {0}: {words}", words = chain(.1))]
    Attach(PathBuf, #[source] ProgramError),
}

/// Rules that hold as long as this lives; the kernel drops them with the helper, which all containers
/// end with, too.
#[derive(Debug)]
pub struct Attached {
    _link: CgroupDeviceLink,
}

/// How this machine keeps containers from devices.
#[derive(Debug)]
pub enum Devices {
    /// By files of cgroups of version 1, or, in a user namespace, by the kernel for every process in it.
    ByOthers,
    /// By the program that is attached to cgroups of version 2.
    Program(Box<Ebpf>),
    /// Not at all, and why.
    Unguarded(DevicesError),
}

impl Devices {
    /// Finds out what the machine can do, by attaching the program to a cgroup for a moment.
    pub fn prepare(cgroups: &Cgroups, unprivileged: bool) -> Self {
        if unprivileged {
            return Devices::ByOthers;
        }
        let Some(folder) = cgroups.unified_folder("probe-devices") else { return Devices::ByOthers };
        let tried = load().and_then(|mut program| {
            fs::create_dir_all(&folder).map_err(|error| DevicesError::Probe(folder.clone(), error))?;
            let attached = attach(&mut program, &folder);
            let _ = fs::remove_dir(&folder);
            attached.map(|_| program)
        });
        match tried {
            Ok(program) => Devices::Program(Box::new(program)),
            Err(error) => Devices::Unguarded(error),
        }
    }

    /// Why containers have no device rules, if they have none.
    pub fn unguarded(&self) -> Option<&DevicesError> {
        match self {
            Devices::Unguarded(why) => Some(why),
            Devices::ByOthers | Devices::Program(_) => None,
        }
    }

    /// Sets the rules of a container, whose cgroup must be there, before its program begins.
    ///
    /// # Errors
    /// The reason why the kernel does not take them; the container must not run then.
    pub fn attach(&mut self, cgroups: &Cgroups, container: &str) -> Result<Option<Attached>, DevicesError> {
        match (self, cgroups.unified_folder(container)) {
            (Devices::Program(program), Some(folder)) => attach(program, &folder).map(Some),
            _ => Ok(None),
        }
    }
}

fn load() -> Result<Ebpf, DevicesError> {
    let object = program::object(&program::instructions(&program::ALLOWED)).map_err(DevicesError::Write)?;
    // Type information of the kernel is megabytes, and the program needs none of it.
    let mut loaded = EbpfLoader::new().btf(None).load(&object).map_err(DevicesError::Read)?;
    device_program(&mut loaded)?.load().map_err(DevicesError::Load)?;
    Ok(loaded)
}

fn device_program(loaded: &mut Ebpf) -> Result<&mut CgroupDevice, DevicesError> {
    let found = loaded.program_mut(program::NAME).ok_or(DevicesError::NoName)?;
    found.try_into().map_err(DevicesError::Kind)
}

fn attach(loaded: &mut Ebpf, folder: &Path) -> Result<Attached, DevicesError> {
    let cgroup = File::open(folder).map_err(|error| DevicesError::Cgroup(folder.to_owned(), error))?;
    let program = device_program(loaded)?;
    let failed = |error: ProgramError| DevicesError::Attach(folder.to_owned(), error);
    // Links take no mode: the programs of all cgroups above are asked, too, whatever it is.
    let link = program.attach(cgroup, CgroupAttachMode::Single).map_err(failed)?;
    let link = program.take_link(link).map_err(failed)?;
    Ok(Attached { _link: link })
}
