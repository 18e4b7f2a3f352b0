//! Variables that k2d does not read: settings of Portainer's k2d, which is archived and has the same names for the others, and
//! names that are no settings at all. A start tells them, so that nobody believes that they work.

use std::collections::BTreeSet;

use clap::CommandFactory;

use crate::cli::Cli;

/// Settings of Portainer's k2d that have no meaning here, and why.
const PORTAINER: &[(&str, &str)] = &[
    ("K2D_DOCKER_CLIENT_TIMEOUT", "each call of the engine has a limit of its own"),
    (
        "K2D_OPERATION_BATCH_MAX_SIZE",
        "objects are stored one by one, and what the engine has to do is not done in batches",
    ),
    ("K2D_STORE_BACKEND", "objects are in the journal below K2D_DATA_PATH"),
    ("K2D_STORE_REGISTRY_BACKEND", "objects are in the journal below K2D_DATA_PATH"),
    ("K2D_STORE_VOLUME_COPY_IMAGE_NAME", "k2d needs no image but its own"),
    ("PORTAINER_AGENT_VERSION", "k2d does not start Portainer's agent: apply Portainer's manifest"),
    ("PORTAINER_EDGE_ID", "k2d does not start Portainer's agent: apply Portainer's manifest"),
    ("PORTAINER_EDGE_KEY", "k2d does not start Portainer's agent: apply Portainer's manifest"),
];

/// Logs a warning for each variable of the environment that is meant for k2d and is not read.
pub fn warn() {
    let set = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    for (name, why) in unread(set) {
        tracing::warn!("{name} is not read: {why}");
    }
}

fn unread(set: impl Iterator<Item = String>) -> Vec<(String, &'static str)> {
    let known = known();
    let why = |name: &str| {
        let portainer = PORTAINER.iter().find(|(known, _)| *known == name).map(|(_, why)| *why);
        let unknown = name.starts_with("K2D_") && !known.contains(name);
        portainer.or_else(|| unknown.then_some("there is no such setting, k2d serve --help has all"))
    };
    let mut all: Vec<_> = set.filter_map(|name| why(&name).map(|why| (name, why))).collect();
    all.sort();
    all
}

/// The variables of all commands.
fn known() -> BTreeSet<String> {
    let cli = Cli::command();
    let arguments = cli.get_subcommands().flat_map(clap::Command::get_arguments);
    arguments.filter_map(|argument| argument.get_env()?.to_str().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_read_is_told_and_the_rest_is_not() {
        let set = ["K2D_PORT", "K2D_STORE_BACKEND", "K2D_PROT", "PORTAINER_EDGE_KEY", "PATH", "DOCKER_HOST"];
        let told: Vec<String> =
            unread(set.map(str::to_owned).into_iter()).into_iter().map(|(name, _)| name).collect();
        assert_eq!(told, ["K2D_PROT", "K2D_STORE_BACKEND", "PORTAINER_EDGE_KEY"]);
    }
}
