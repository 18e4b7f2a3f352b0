//! What d2k and its helper inside a container have agreed upon. Compiled into both.

/// Where the helper lies in a container: a ConfigMap is mounted there.
pub const FOLDER: &str = "/.d2k";
/// The helper's path in a container, and its name in the ConfigMap.
pub const PATH: &str = "/.d2k/d2k-init";
/// The byte that lets a waiting container run. A terminal in canonical mode takes it as the end of a
/// line and does not echo it, so it is never seen on the other side.
pub const GO: u8 = 4;
/// The name (`/proc/1/comm`) of a helper that waits for leave to run.
pub const WAITING: &str = "d2k-wait";
/// The name of a helper that stays in front of the container's process (`--init`).
pub const STAYING: &str = "d2k-init";
/// The name of a helper that holds the container's processes.
pub const HOLDING: &str = "d2k-hold";
/// The name of a helper that stays beside a command with input.
pub const CARRYING: &str = "d2k-input";
/// How a termination message begins that tells why the container's process could not be run.
pub const FAILURE: &str = "d2k-init: ";
/// Exit code of a command of the helper that found no such file or directory.
pub const NOT_FOUND: u8 = 44;
/// Exit code of a command of the helper that may not do what it was asked to.
pub const NOT_PERMITTED: u8 = 45;
/// Exit code of a command of the helper that found a directory where a file is to be put, or the
/// other way round.
pub const WRONG_KIND: u8 = 46;
/// Exit code of a command of the helper that cannot send such a signal.
pub const NO_SUCH_SIGNAL: u8 = 47;
/// What the helper writes when all processes are held.
pub const HELD: &str = "held";
/// Where files lie in a container that are to be put in their places before its process runs.
pub const FILES: &str = "/.d2k-files";
/// The list of them, in the same folder: for each its kind, mode (octal), time (seconds since 1970), user,
/// group, the name of the file with its bytes, and its path, each ended by a zero byte.
pub const LIST: &str = "list";
/// Kinds in the list: a file, a folder, and a link, whose bytes are what it points to.
pub const FILE: &str = "f";
/// A folder.
pub const DIRECTORY: &str = "d";
/// A symbolic link.
pub const LINK: &str = "l";
/// Below which the volumes lie that are to be filled with the image's files, each in a folder of its own.
pub const VOLUMES: &str = "/.d2k-volumes";
/// Bytes of the length in front of each block of a command's input, most significant first.
pub const LENGTH: usize = 4;
/// The length that says, instead of a block, that d2k has heard of the command's end.
pub const HEARD: u32 = u32::MAX;

/// What a helper beside a command writes on standard error behind all that the command wrote there: how it
/// ended. The mark is one that nobody else knows.
pub fn trailer(mark: &str, code: u8) -> String {
    format!("{}{code}\n", trailer_head(mark))
}

/// What stands in front of the exit code.
pub fn trailer_head(mark: &str) -> String {
    format!("\0{mark} ")
}
