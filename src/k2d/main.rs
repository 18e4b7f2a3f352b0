//! The program `k2d`.

use std::process::ExitCode;

use clap::Parser;
use k2d::cli::{Cli, Command};
use k2d::{health, inside, kubeconfig, net, serve};

fn main() -> ExitCode {
    let ended = match Cli::parse().command {
        Command::Serve(settings) => serve::run(settings),
        Command::Kubeconfig(settings) => kubeconfig::print(&settings),
        Command::Health(settings) => health::ask(&settings),
        Command::Net(settings) => net::run(settings),
        Command::Pause => inside::pause(),
        Command::Check { kind, path } => inside::check(&kind, &path),
        Command::Open { folder } => inside::open(&folder),
        Command::Relay { port } => inside::relay(port),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(words) => {
            eprintln!("k2d: {words}");
            ExitCode::FAILURE
        }
    }
}
