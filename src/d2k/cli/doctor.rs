//! `d2k doctor`: tells what is missing for what, before a user runs into it.

use std::process::ExitCode;

use serde_json::json;

use crate::config::Settings;
use crate::embedded;
use crate::serve;
use d2k_cluster::examine::{Finding, State, examine};
use d2k_policy::desk::Output;
use d2k_registry::Reference;

/// An image that every public registry and mirror has.
const IMAGE: &str = "busybox";

/// Looks at the cluster of the settings, or with `embedded` at this machine, and at the registry.
///
/// Exit code 0: nothing that d2k needs is missing; 1: something is.
///
/// # Errors
/// One line where the settings cannot be used.
pub fn run(settings: &Settings, is_embedded: bool, output: Output) -> Result<ExitCode, String> {
    // The engine's helper must be started before this process has threads.
    let mut all = if is_embedded { machine() } else { Vec::new() };
    let runtime = super::policies::runtime()?;
    if !is_embedded {
        let kubeconfig = settings.kubeconfig.as_ref().map(|path| path.display().to_string());
        all.extend(runtime.block_on(examine(&kubeconfig.unwrap_or_default(), &settings.namespace)));
    }
    all.push(runtime.block_on(registry(settings)));
    print(&all, output);
    let missing = all.iter().any(|finding| finding.state == State::Missing);
    Ok(if missing { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn machine() -> Vec<Finding> {
    let folder = match embedded::temporary_folder() {
        Ok(folder) => folder,
        Err(message) => return vec![Finding::new("data folder", State::Missing, message)],
    };
    let facts = embedded::facts(&folder);
    if let Err(error) = std::fs::remove_dir_all(&folder) {
        eprintln!("d2k: {} was not removed: {error}", folder.display());
    }
    let facts = match facts {
        Ok(facts) => facts,
        Err(message) => return vec![Finding::new("containers on this machine", State::Missing, message)],
    };
    let mut all = vec![Finding::new("containers on this machine", State::Ok, "namespaces, cgroups, network")];
    all.push(match facts.overlay {
        true => Finding::new("overlayfs", State::Ok, "images are shared by their containers"),
        false => Finding::new(
            "overlayfs",
            State::Limited,
            "each container copies its image, and `host` does not work",
        ),
    });
    all.push(match facts.host_network {
        true => Finding::new("host network", State::Ok, "--network host"),
        false => Finding::new("host network", State::Limited, "--network host fails; run d2k as root"),
    });
    all.push(match facts.no_device_rules {
        None => Finding::new("device rules", State::Ok, "the kernel keeps containers from devices"),
        Some(why) => Finding::new("device rules", State::Limited, format!("containers get no MKNOD: {why}")),
    });
    all
}

async fn registry(settings: &Settings) -> Finding {
    let subject = "registry";
    let registry = match serve::registry(settings) {
        Ok(registry) => registry,
        Err(message) => return Finding::new(subject, State::Missing, message),
    };
    let Ok(reference) = Reference::parse(IMAGE) else {
        return Finding::new(subject, State::Unknown, "the test image has no legal name");
    };
    match registry.image(&reference, None).await {
        Ok(_) => Finding::new(subject, State::Ok, format!("{} answers", reference.registry())),
        Err(error) => {
            let detail = format!(
                "{IMAGE} cannot be looked up: {error}; pulls fail, and the helper is left out of images whose \
                 entrypoint is unknown; set D2K_REGISTRY_MIRRORS"
            );
            Finding::new(subject, State::Limited, detail)
        }
    }
}

fn print(all: &[Finding], output: Output) {
    if output == Output::Json {
        println!("{:#}", json!(all));
        return;
    }
    let widest = all.iter().map(|finding| finding.subject.chars().count()).max().unwrap_or_default();
    for finding in all {
        let state = match finding.state {
            State::Ok => "ok",
            State::Missing => "MISSING",
            State::Limited => "limited",
            State::Unknown => "unknown",
        };
        println!("{state:8} {:widest$}  {}", finding.subject, finding.detail);
    }
}
