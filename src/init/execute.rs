//! `docker exec` with a user, an environment and a directory, and what every start of a program
//! shares: where it is looked for, and what Docker's runtime says where it cannot be run.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::unistd::{AccessFlags, eaccess};

use crate::arguments::{Arguments, variable};
use crate::{signals, user};

/// Where programs are looked for if the environment does not say.
const USUAL_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Why a program cannot be run.
pub struct Failure {
    /// Docker's exit code for it: 126 or 127.
    pub code: u8,
    /// One line in the words of Docker's runtime.
    pub words: String,
}

impl Failure {
    /// That nobody may or can do this: 126.
    pub fn not_permitted(words: String) -> Self {
        Self { code: 126, words }
    }
}

/// What a program's environment has more, or less, than this one's.
#[derive(Default)]
pub struct Environment {
    /// Names and values, later ones win.
    pub set: Vec<(OsString, OsString)>,
    /// Names.
    pub unset: Vec<OsString>,
}

impl Environment {
    /// A command with this environment.
    pub fn command(&self, program: &OsStr) -> Command {
        let mut command = Command::new(program);
        for name in &self.unset {
            command.env_remove(name);
        }
        command.envs(self.set.iter().map(|(name, value)| (name, value)));
        command
    }

    fn path(&self) -> OsString {
        let own = self.set.iter().rev().find(|(name, _)| name == "PATH").map(|(_, value)| value.clone());
        own.or_else(|| std::env::var_os("PATH")).unwrap_or_else(|| USUAL_PATH.into())
    }
}

/// Finds the program that words begin with.
pub fn find(words: &[OsString], environment: &Environment) -> Result<OsString, Failure> {
    let name = words.first().cloned().unwrap_or_default();
    let shown = format!("exec: {:?}", name.to_string_lossy());
    if name.as_bytes().contains(&b'/') {
        return match check(&name) {
            Ok(()) => Ok(name),
            Err(ErrorKind::NotFound) => {
                let stat = format!("{shown}: stat {}: no such file or directory", name.to_string_lossy());
                Err(Failure { code: 127, words: stat })
            }
            Err(ErrorKind::IsADirectory) => Err(Failure::not_permitted(format!("{shown}: is a directory"))),
            Err(_) => Err(Failure::not_permitted(format!("{shown}: permission denied"))),
        };
    }
    let path = environment.path();
    let folders = path.as_bytes().split(|byte| *byte == b':');
    for folder in folders.filter(|folder| !folder.is_empty()) {
        let whole = [folder, b"/", name.as_bytes()].concat();
        let whole = OsStr::from_bytes(&whole);
        if check(whole).is_ok() {
            return Ok(whole.to_owned());
        }
    }
    Err(Failure { code: 127, words: format!("{shown}: executable file not found in $PATH") })
}

fn check(path: &OsStr) -> Result<(), ErrorKind> {
    let about = fs::metadata(path).map_err(|error| error.kind())?;
    if about.is_dir() {
        return Err(ErrorKind::IsADirectory);
    }
    eaccess(path, AccessFlags::X_OK).map_err(|_| ErrorKind::PermissionDenied)
}

/// Becomes a program; comes back only where that fails.
pub fn become_program(program: &OsStr, words: &[OsString], environment: &Environment) -> Failure {
    signals::unblock_all();
    let name = words.first().cloned().unwrap_or_default();
    let error = environment.command(program).arg0(&name).args(words.iter().skip(1)).exec();
    // std says it as Rust does; Docker's runtime as C does, in lower case and without the number.
    let words = nix::errno::Errno::from_raw(error.raw_os_error().unwrap_or(0)).desc().to_lowercase();
    let code = if error.kind() == ErrorKind::NotFound { 127 } else { 126 };
    Failure { code, words: format!("exec {}: {words}", program.to_string_lossy()) }
}

/// `exec [OPTIONS] -- PROGRAM [ARGUMENTS]`.
pub fn execute(mut arguments: Arguments) -> u8 {
    let mut environment = Environment::default();
    let (mut user, mut directory, mut home) = (None, None, false);
    while let Some(option) = arguments.option() {
        match option.as_str() {
            "--user" => user = arguments.word(),
            "--dir" => directory = arguments.raw(),
            "--env" => environment.set.extend(arguments.raw().and_then(variable)),
            "--unset" => environment.unset.extend(arguments.raw()),
            "--home" => home = true,
            _ => {}
        }
    }
    let words = arguments.rest();
    let failure = match prepare(user, directory, home, &mut environment) {
        Err(failure) => failure,
        Ok(()) => match find(&words, &environment) {
            Err(failure) => failure,
            Ok(program) => become_program(&program, &words, &environment),
        },
    };
    let mut out = std::io::stdout();
    let _ = write!(
        out,
        "OCI runtime exec failed: exec failed: unable to start container process: {}: unknown\r\n",
        failure.words
    );
    failure.code
}

fn prepare(
    user: Option<String>,
    directory: Option<OsString>,
    home: bool,
    environment: &mut Environment,
) -> Result<(), Failure> {
    if let Some(user) = user {
        let found = user::become_user(&user)?;
        if home {
            environment.set.insert(0, ("HOME".into(), found.into()));
        }
    }
    let Some(directory) = directory else { return Ok(()) };
    std::env::set_current_dir(&directory).map_err(|error| {
        let why = nix::errno::Errno::from_raw(error.raw_os_error().unwrap_or(0)).desc().to_lowercase();
        let shown = directory.to_string_lossy();
        Failure::not_permitted(format!("chdir to cwd ({shown:?}) set in config.json failed: {why}"))
    })
}

/// `begin -- PROGRAM [ARGUMENTS]`: becomes a program in a process group of its own, which gets what is
/// typed on the terminal. Run by a helper that stays.
pub fn begin(mut arguments: Arguments) -> u8 {
    while arguments.option().is_some() {}
    let words = arguments.rest();
    let environment = Environment::default();
    let own = nix::unistd::getpid();
    let _ = nix::unistd::setpgid(own, own);
    let _ = nix::unistd::tcsetpgrp(std::io::stdin(), own);
    let failure = match find(&words, &environment) {
        Err(failure) => failure,
        Ok(program) => become_program(&program, &words, &environment),
    };
    eprintln!("{}", failure.words);
    failure.code
}
