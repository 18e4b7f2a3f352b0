//! The command line. The table of settings in `config` becomes flags here. A value that makes no sense ends
//! the program with exit code 2.

mod doctor;
mod policies;

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Arg, ArgMatches, Args, Command, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::config::{SETTINGS, Settings, readable};
use crate::embedded::{self, Job};
use crate::serve::Own;
use crate::telemetry;
use d2k_docker::version::{ENGINE, NEWEST, OLDEST};
use d2k_policy::desk;

/// The version with the commit, where d2k was built from a clone.
const VERSION: &str = env!("D2K_VERSION");

/// How long `health` waits.
const HEALTH_TIME: Duration = Duration::from_secs(5);

/// The Docker Engine API over one Kubernetes namespace.
#[derive(Debug, Parser)]
#[command(name = "d2k", version = VERSION)]
struct Cli {
    #[command(subcommand)]
    command: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Serve the Docker Engine API over a Kubernetes namespace
    Serve {
        /// Bring a Kubernetes of d2k's own, with containers on this machine
        #[arg(long)]
        embedded: bool,
        #[command(flatten)]
        flags: Flags,
        /// With --embedded: run this command with DOCKER_HOST and KUBECONFIG set, and end with its exit code
        #[arg(last = true, requires = "embedded", value_name = "COMMAND")]
        command: Vec<String>,
    },
    /// Tell the version of d2k and of the API it speaks
    Version,
    /// Tell which right, class, metrics server, registry or kernel feature is missing, and what does not work without
    /// it; exit code 1 if d2k cannot work
    Doctor {
        /// Look at this machine instead of a cluster: can it run `d2k serve --embedded`?
        #[arg(long)]
        embedded: bool,
        /// Output format
        #[arg(short, long, value_enum, default_value_t)]
        output: desk::Output,
        #[command(flatten)]
        flags: Flags,
    },
    /// Print a completion script for a shell
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Develop and test policies offline, and look at those of a running d2k
    #[command(subcommand)]
    Policy(Policy),
    /// Compile a policy: a component on the input, its code on the output
    #[command(name = d2k_policy::compile::COMMAND, hide = true)]
    CompilePolicy,
    /// Ask the d2k of these settings whether it answers; the exit code tells
    Health(Flags),
}

#[derive(Debug, Subcommand)]
enum Policy {
    #[command(flatten)]
    Desk(desk::Command),
    /// Compare what a folder of policies would make of the live containers and volumes with what is made now
    Diff {
        /// The folder with the candidate set
        folder: std::path::PathBuf,
        /// How the result is written
        #[arg(short, long, value_enum, default_value_t)]
        output: desk::Output,
        #[command(flatten)]
        flags: Flags,
    },
    /// Tell which policies decided about a container
    Explain {
        /// Name or ID
        container: String,
        /// How the result is written
        #[arg(short, long, value_enum, default_value_t)]
        output: desk::Output,
        #[command(flatten)]
        flags: Flags,
    },
    /// Write the last decisions of a running d2k as fixtures, with what may be a secret masked (variables, arguments, labels)
    Record {
        /// How many
        #[arg(long, default_value_t = 20)]
        last: usize,
        /// How the result is written
        #[arg(short, long, value_enum, default_value_t)]
        output: desk::Output,
        #[command(flatten)]
        flags: Flags,
    },
}

/// The settings as flags, before they are understood.
#[derive(Debug)]
struct Flags(ArgMatches);

impl Args for Flags {
    fn augment_args(command: Command) -> Command {
        command.args(SETTINGS.iter().map(|setting| {
            let default = match setting.default {
                "" => String::new(),
                default => format!(" [default: {default}]"),
            };
            // No default for clap: an empty variable means the default, too.
            Arg::new(setting.name)
                .long(setting.flag)
                .env(setting.name)
                .value_name(setting.value)
                .allow_hyphen_values(true)
                .help(format!("{}{default}", setting.help))
        }))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Flags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self(matches.clone()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.0 = matches.clone();
        Ok(())
    }
}

impl Flags {
    fn settings(&self) -> Result<Settings, String> {
        let settings = Settings::read(&|name| {
            let known = SETTINGS.iter().any(|setting| setting.name == name);
            if known { self.0.get_one::<String>(name).cloned() } else { std::env::var(name).ok() }
        })?;
        readable(&settings)?;
        Ok(settings)
    }
}

/// The whole program.
pub fn run() -> ExitCode {
    // Before anything of the daemon's own is set up.
    if let Some(code) = embedded::run_as_helper() {
        return code;
    }
    let (flags, serves) = match Cli::parse().command {
        What::Version => {
            println!("d2k {VERSION}, Docker API {OLDEST} to {NEWEST} (Engine {ENGINE})");
            return ExitCode::SUCCESS;
        }
        What::Completion { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "d2k", &mut std::io::stdout());
            return ExitCode::SUCCESS;
        }
        What::Doctor { embedded, output, flags } => {
            return with_settings(&flags, |settings| doctor::run(settings, embedded, output));
        }
        What::Policy(command) => return policy(command),
        What::CompilePolicy => {
            let compiled = d2k_policy::compile::child(std::io::stdin().lock(), std::io::stdout().lock());
            return match compiled {
                Ok(()) => ExitCode::SUCCESS,
                Err(line) => {
                    eprintln!("{line}");
                    ExitCode::FAILURE
                }
            };
        }
        What::Serve { embedded, flags, command } => (flags, Some((embedded, command))),
        What::Health(flags) => (flags, None),
    };
    let settings = match flags.settings() {
        Ok(settings) => settings,
        Err(line) => return fail(&line, 2),
    };
    let done = match serves {
        Some((true, command)) => return serve_embedded(settings, command),
        Some((false, _)) => serve(settings, None).map(|_| ()),
        None => health(&settings),
    };
    done.map_or_else(|line| fail(&line, 1), |()| ExitCode::SUCCESS)
}

/// A command that needs the settings of a daemon.
type Live = Box<dyn FnOnce(&Settings) -> Result<ExitCode, String>>;

fn policy(command: Policy) -> ExitCode {
    let (flags, run): (Flags, Live) = match command {
        Policy::Desk(command) => return desk::command(command),
        Policy::Diff { folder, output, flags } => {
            (flags, Box::new(move |settings| policies::diff(settings, &folder, output)))
        }
        Policy::Explain { container, output, flags } => {
            (flags, Box::new(move |settings| policies::explain(settings, &container, output)))
        }
        Policy::Record { last, output, flags } => {
            (flags, Box::new(move |settings| policies::record(settings, last, output)))
        }
    };
    with_settings(&flags, run)
}

/// Runs a command with the settings of its flags.
fn with_settings(flags: &Flags, run: impl FnOnce(&Settings) -> Result<ExitCode, String>) -> ExitCode {
    match flags.settings() {
        Ok(settings) => run(&settings).unwrap_or_else(|line| fail(&line, 1)),
        Err(line) => fail(&line, 2),
    }
}

fn fail(line: &str, code: u8) -> ExitCode {
    eprintln!("d2k: {line}");
    ExitCode::from(code)
}

fn serve_embedded(mut settings: Settings, command: Vec<String>) -> ExitCode {
    if !settings.is_given("D2K_LISTEN") {
        settings.listen = IpAddr::V4(Ipv4Addr::LOCALHOST);
    }
    if let Err(line) = embedded::check(&settings) {
        return fail(&line, 2);
    }
    let job = match Job::new(command, settings.data_dir.as_deref()) {
        Ok(job) => job,
        Err(line) => return fail(&line, 1),
    };
    let served = embedded_folder(&mut settings, &job)
        .and_then(|folder| embedded::prepare(&folder))
        .and_then(|prepared| serve(settings, Some(Own { prepared, command: job.words.clone() })));
    if let Some(folder) = &job.folder
        && let Err(error) = std::fs::remove_dir_all(folder)
    {
        eprintln!("d2k: {} was not removed: {error}", folder.display());
    }
    served.map_or_else(|line| fail(&line, 1), ExitCode::from)
}

/// The folder of the cluster. A command has one of its own unless one is given, and free ports, so that
/// two may run side by side.
fn embedded_folder(settings: &mut Settings, job: &Job) -> Result<std::path::PathBuf, String> {
    if job.words.is_empty() {
        return embedded::data_dir(settings);
    }
    if !settings.is_given("D2K_PORT") {
        settings.port = 0;
    }
    if !settings.is_given("D2K_ADMIN_PORT") {
        settings.admin_port = None;
    }
    match &job.folder {
        Some(folder) => Ok(folder.clone()),
        None => embedded::data_dir(settings),
    }
}

fn serve(settings: Settings, own: Option<Own>) -> Result<u8, String> {
    telemetry::log(settings.log_level, settings.log_format);
    embedded::raise_open_files();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|e| format!("cannot start: {e}"))?;
    let done = runtime.block_on(crate::serve::serve(settings, own));
    // A blocked thread must not hold up the end.
    runtime.shutdown_timeout(Duration::from_secs(1));
    done
}

/// Asks `/_ping`. Behind TLS it asks the admin port, because it has no client certificate.
fn health(settings: &Settings) -> Result<(), String> {
    let (host, port, path) = match (&settings.tls, settings.admin_port) {
        (None, _) => (settings.listen, settings.port, "/_ping"),
        (Some(_), Some(admin)) => (settings.admin_listen, admin, "/healthz"),
        (Some(_), None) => return socket_health(settings),
    };
    let host = match host {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        other => other,
    };
    let address = SocketAddr::new(host, port);
    let wrong = |e: std::io::Error| format!("no answer from {address}: {e}");
    let stream = TcpStream::connect_timeout(&address, HEALTH_TIME).map_err(wrong)?;
    stream.set_read_timeout(Some(HEALTH_TIME)).map_err(wrong)?;
    ask(stream, path).map_err(wrong)
}

fn socket_health(settings: &Settings) -> Result<(), String> {
    let Some(path) = &settings.socket else {
        return Err("health needs D2K_ADMIN_PORT or D2K_SOCKET where TLS is served".into());
    };
    let wrong = |e: std::io::Error| format!("no answer from {}: {e}", path.display());
    let stream = UnixStream::connect(path).map_err(wrong)?;
    stream.set_read_timeout(Some(HEALTH_TIME)).map_err(wrong)?;
    ask(stream, "/_ping").map_err(wrong)
}

fn ask(mut stream: impl Read + Write, path: &str) -> std::io::Result<()> {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: d2k\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut status = [0; 12];
    stream.read_exact(&mut status)?;
    match status.strip_prefix(b"HTTP/1.1 ") {
        Some(b"200") => Ok(()),
        _ => Err(std::io::Error::other(format!("it says {}", String::from_utf8_lossy(&status)))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn flags_become_settings() {
        let cli = Cli::try_parse_from(["d2k", "serve", "--namespace", "team-a", "--log-level=warn"]).unwrap();
        let What::Serve { flags, .. } = cli.command else { panic!("not serve") };
        assert_eq!(flags.settings().unwrap().namespace, "team-a");
        let cli = Cli::try_parse_from(["d2k", "serve", "--port", "-1"]).unwrap();
        let What::Serve { flags, .. } = cli.command else { panic!("not serve") };
        assert_eq!(
            flags.settings().unwrap_err(),
            "D2K_PORT (--port) is \"-1\": it must be a port, 0 to 65535"
        );
    }
}
