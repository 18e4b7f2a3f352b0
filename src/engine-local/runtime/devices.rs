//! Device rules of containers. Cgroups of version 1 have files for them, which `libcontainer` writes;
//! version 2 asks a program in the kernel, which is loaded once here and attached to the cgroup of every
//! container that is not privileged. Without rules, a container that may make device nodes has the
//! machine's disks, so it gets no `CAP_MKNOD` then.

use std::error::Error;
use std::fs::{self, File};
use std::path::Path;

use aya::programs::cgroup_device::CgroupDeviceLink;
use aya::programs::{CgroupAttachMode, CgroupDevice};
use aya::{Ebpf, EbpfLoader};

use crate::runtime::cgroups::Cgroups;
use crate::runtime::reasons::chain;

mod program;

pub use program::is_harmless;

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
    Unguarded(String),
}

impl Devices {
    /// Finds out what the machine can do, by attaching the program to a cgroup for a moment.
    pub fn prepare(cgroups: &Cgroups, unprivileged: bool) -> Self {
        if unprivileged {
            return Devices::ByOthers;
        }
        let Some(folder) = cgroups.unified_folder("probe-devices") else { return Devices::ByOthers };
        let tried = load().and_then(|mut program| {
            fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
            let attached = attach(&mut program, &folder);
            let _ = fs::remove_dir(&folder);
            attached.map(|_| program)
        });
        match tried {
            Ok(program) => Devices::Program(Box::new(program)),
            Err(words) => Devices::Unguarded(words),
        }
    }

    /// Why containers have no device rules, if they have none.
    pub fn unguarded(&self) -> Option<&str> {
        match self {
            Devices::Unguarded(why) => Some(why),
            Devices::ByOthers | Devices::Program(_) => None,
        }
    }

    /// Sets the rules of a container, whose cgroup must be there, before its program begins.
    ///
    /// # Errors
    /// The reason why the kernel does not take them; the container must not run then.
    pub fn attach(&mut self, cgroups: &Cgroups, container: &str) -> Result<Option<Attached>, String> {
        match (self, cgroups.unified_folder(container)) {
            (Devices::Program(program), Some(folder)) => attach(program, &folder).map(Some),
            _ => Ok(None),
        }
    }
}

fn load() -> Result<Ebpf, String> {
    let object = program::object(&program::instructions(&program::ALLOWED))?;
    let words = |error: &dyn Error| format!("the kernel does not take their program: {}", chain(error));
    // Type information of the kernel is megabytes, and the program needs none of it.
    let mut loaded = EbpfLoader::new().btf(None).load(&object).map_err(|error| words(&error))?;
    device_program(&mut loaded)?.load().map_err(|error| words(&error))?;
    Ok(loaded)
}

fn device_program(loaded: &mut Ebpf) -> Result<&mut CgroupDevice, String> {
    let found = loaded.program_mut(program::NAME).ok_or("their program has no name")?;
    found.try_into().map_err(|error: aya::programs::ProgramError| error.to_string())
}

fn attach(loaded: &mut Ebpf, folder: &Path) -> Result<Attached, String> {
    let failed = |words: String| format!("device rules of the cgroup {}: {words}", folder.display());
    let cgroup = File::open(folder).map_err(|error| failed(error.to_string()))?;
    let program = device_program(loaded)?;
    // Links take no mode: the programs of all cgroups above are asked, too, whatever it is.
    let link = program.attach(cgroup, CgroupAttachMode::Single).map_err(|error| failed(chain(&error)))?;
    let link = program.take_link(link).map_err(|error| failed(chain(&error)))?;
    Ok(Attached { _link: link })
}
