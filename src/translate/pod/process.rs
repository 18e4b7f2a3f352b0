//! The process of a container: command, environment, working directory. Kubernetes expands
//! `$(NAME)` in commands and values; Docker hands every byte through, so dollars are escaped.

use std::collections::HashMap;

use bollard_stubs::models::ContainerCreateBody;
use k8s_openapi::api::core::v1::EnvVar;

use super::context::PodContext;
use crate::literal::literal;
use crate::mounts::Mounts;
use crate::path::clean;
use crate::record::Record;
use crate::request::argv;
use d2k_common::fault::{Fault, Result};
use d2k_common::image::ImageFacts;
use d2k_common::signal;

/// The container's `command` and `args`. The image's own are left to the image, so that a template
/// says only what the user said.
pub(super) fn command(
    body: &ContainerCreateBody,
    image: &ImageFacts,
) -> (Option<Vec<String>>, Option<Vec<String>>) {
    let words = |list: Vec<String>| -> Option<Vec<String>> {
        (!list.is_empty()).then(|| list.iter().map(|word| literal(word)).collect())
    };
    let (entrypoint, cmd) = argv(body, image);
    match &body.entrypoint {
        None => (None, words(body.cmd.clone().unwrap_or_default())),
        // Without an entrypoint the command itself is what runs: in Kubernetes that is `command`.
        Some(_) if entrypoint.is_empty() => (words(cmd), None),
        Some(_) => (words(entrypoint), words(cmd)),
    }
}

pub(super) fn working_dir(body: &ContainerCreateBody) -> Option<String> {
    body.working_dir.as_deref().filter(|dir| !dir.is_empty()).map(clean)
}

/// The variables of the request; those of the image come with the image.
pub(super) fn environment(
    record: &Record,
    mounts: &Mounts,
    context: &PodContext,
    warnings: &mut Vec<String>,
) -> Result<Option<Vec<EnvVar>>> {
    let mut variables: Vec<(String, String)> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut set = |name: &str, value: &str| match places.get(name).and_then(|place| variables.get_mut(*place))
    {
        Some(variable) => value.clone_into(&mut variable.1),
        None => {
            places.insert(name.to_owned(), variables.len());
            variables.push((name.to_owned(), value.to_owned()));
        }
    };
    for (name, value) in &context.link_variables {
        set(name, value);
    }
    for entry in record.body.env.iter().flatten() {
        match entry.split_once('=') {
            Some((name, value)) => {
                check_name(name)?;
                set(name, value);
            }
            None if record.helper.is_some() => {}
            None => warn_of_kept(entry, &record.image, warnings),
        }
    }
    // A client told to use another daemon over the network goes on doing so.
    let elsewhere =
        |entry: &String| entry.starts_with("DOCKER_HOST=") && !entry.starts_with("DOCKER_HOST=unix:");
    if mounts.docker_socket && !record.body.env.iter().flatten().any(elsewhere) {
        set("DOCKER_HOST", &context.docker_host);
    }
    let variables: Vec<EnvVar> = variables
        .into_iter()
        .map(|(name, value)| EnvVar { name, value: Some(literal(&value)), value_from: None })
        .collect();
    Ok((!variables.is_empty()).then_some(variables))
}

/// Kubernetes takes every printable ASCII character but `=` in a name.
fn check_name(name: &str) -> Result<()> {
    if name.chars().all(|c| c.is_ascii_graphic() || c == ' ') {
        return Ok(());
    }
    Err(Fault::invalid(format!(
        "invalid environment variable name {name:?}: Kubernetes allows printable ASCII characters only; rename the variable"
    )))
}

/// `-e NAME` without a value takes a variable of the image away in Docker.
fn warn_of_kept(name: &str, image: &ImageFacts, warnings: &mut Vec<String>) {
    let kept = image.env.iter().any(|entry| entry.split_once('=').is_some_and(|(known, _)| known == name));
    if kept {
        warnings.push(format!(
            "Env: {name} keeps the image's value, Kubernetes cannot take a variable of the image away; set it to an empty value (-e {name}=)"
        ));
    }
}

/// The node's runtime sends the image's stop signal; a Pod has no field for another one that every cluster takes.
pub(super) fn warn_of_signal(record: &Record, warnings: &mut Vec<String>) {
    let own = if record.image.stop_signal.is_empty() { "SIGTERM" } else { &record.image.stop_signal };
    let asked = record.body.stop_signal.as_deref().unwrap_or_default();
    if !asked.is_empty() && signal::number(asked).ok() != signal::number(own).ok() {
        warnings.push(format!(
            "StopSignal: Kubernetes stops the container with the image's own signal, {own}, and not with {asked}; set STOPSIGNAL in the image, or send it with \"docker kill -s {asked}\""
        ));
    }
}
