//! `d2k policy …`: policies at the desk, with no cluster. The code that runs them is the daemon's.
//! Exit codes for CI: 0 good, 1 bad, 2 a wrong command line, 3 differences.

mod bench;
mod error;
mod example;
mod inspect;
mod new;
mod run;
mod subject;
mod test;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Subcommand, ValueEnum};

/// How a result is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub enum Output {
    #[default]
    Text,
    Json,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a folder with a new policy that builds and whose tests pass
    New {
        /// Its name: lower-case letters, digits and dashes
        name: String,
        /// The hook that it answers
        #[arg(long, default_value = "ports")]
        hook: String,
        /// The folder of d2k's wit package and guest crate
        #[arg(long, value_name = "PATH", default_value = ".")]
        d2k: PathBuf,
    },
    /// Run the fixtures of policies, then what must hold for any policy
    Test {
        /// Components, or folders with a component and its fixtures
        #[arg(default_value = ".")]
        paths: Vec<PathBuf>,
        /// Write what the policy answers into the fixtures
        #[arg(long)]
        bless: bool,
        /// List the settings and kinds of answer that no fixture reaches
        #[arg(long)]
        coverage: bool,
        /// How the result is written
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Ask for one decision
    Run {
        /// The component, or a folder with one, or the name of a built-in policy
        policy: PathBuf,
        /// The question: a fixture file (YAML); - for the standard input
        #[arg(long, value_name = "FILE")]
        input: PathBuf,
        /// How the result is written
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Measure the time, fuel and memory of a decision
    Bench {
        /// The components, folders with one, or names of built-in policies; all built-in ones if none
        policies: Vec<PathBuf>,
        /// Another component, beside the first
        #[arg(long, value_name = "FILE")]
        against: Option<PathBuf>,
        /// How many calls are measured
        #[arg(long, default_value_t = 5000)]
        calls: u32,
        /// How the result is written
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Show what a component says of itself
    Inspect {
        /// The component, or a folder with one, or the name of a built-in policy
        policy: PathBuf,
        /// How the result is written
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
}

/// Runs a command.
pub fn command(command: Command) -> ExitCode {
    match is_good(command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(line) => {
            eprintln!("d2k: {line}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a command; false where its result is bad.
fn is_good(command: Command) -> Result<bool, Box<dyn Error>> {
    Ok(match command {
        Command::New { name, hook, d2k } => new::new(&name, &hook, &d2k)?,
        Command::Test { paths, bless, coverage, output } => {
            test::test(&paths, &test::Options { bless, coverage, output })?
        }
        Command::Run { policy, input, output } => run::run(&policy, &input, output)?,
        Command::Bench { mut policies, against, calls, output } => {
            policies.extend(against);
            bench::bench(&policies, calls, output)?
        }
        Command::Inspect { policy, output } => inspect::inspect(&policy, output)?,
    })
}
