//! `d2k policy diff`, `explain` and `record`: the commands about policies that look at a live
//! namespace, or at a running d2k. The others need neither and are in `policy::desk`.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use similar::TextDiff;
use tokio_util::sync::CancellationToken;

use crate::config::Settings;
use crate::serve;
use d2k_cluster::connect;
use d2k_daemon::Daemon;
use d2k_policy::desk::Output;
use d2k_policy::{Options, Policies};

/// How long a running d2k may take to answer.
const ANSWER_TIME: Duration = Duration::from_secs(10);

/// The objects that the set of `folder` would make differently from the set that is configured now.
/// Exit code 0: none, 3: some.
pub fn diff(settings: &Settings, folder: &Path, output: Output) -> Result<ExitCode, String> {
    let candidate = Policies::new(Options {
        directory: Some(folder.to_owned()),
        settings: None,
        ..serve::policy_options(settings)
    })
    .map_err(|e| e.to_string())?;
    if let Some(words) = candidate.refused() {
        return Err(words);
    }
    let daemon = idle_daemon(settings)?;
    let (now, then) = (daemon.policies.current(), candidate.current());
    let (before, after) =
        runtime()?.block_on(async { (daemon.preview(&now).await, daemon.preview(&then).await) });
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let mut changes = Vec::new();
    for name in names {
        let (old, new) =
            (before.get(name).map_or("", String::as_str), after.get(name).map_or("", String::as_str));
        if old != new {
            changes.push((
                name,
                TextDiff::from_lines(old, new).unified_diff().header("now", "candidate").to_string(),
            ));
        }
    }
    if output == Output::Json {
        let json: Vec<_> =
            changes.iter().map(|(name, diff)| serde_json::json!({"for": name, "diff": diff})).collect();
        println!("{:#}", serde_json::Value::from(json));
    } else {
        for (name, diff) in &changes {
            println!("{name}\n{diff}");
        }
        println!("{} of {} differ", changes.len(), after.len());
    }
    Ok(if changes.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(3) })
}

/// Which policy decided what about a container, and with which settings it would today.
pub fn explain(settings: &Settings, key: &str, output: Output) -> Result<ExitCode, String> {
    let daemon = idle_daemon(settings)?;
    let container = daemon.container(key).map_err(|fault| fault.message)?;
    let set = daemon.policies.current();
    let mut rows = Vec::new();
    for (hook, by) in &container.record.decided {
        let name = by.split('@').next().unwrap_or_default();
        let policy = set.policies.iter().find(|policy| policy.info.name == name);
        let now = match policy {
            Some(policy) if policy.id() == *by => "unchanged".to_owned(),
            Some(policy) => format!("now {}", policy.id()),
            None => "not among the policies now".to_owned(),
        };
        let written = policy.map(|policy| policy.settings.clone()).unwrap_or_default();
        rows.push((hook, by, now, written));
    }
    if output == Output::Json {
        let row = |(hook, by, now, written): &(&String, &String, String, Vec<(String, String)>)| {
            let settings: std::collections::BTreeMap<_, _> = written.iter().cloned().collect();
            serde_json::json!({"hook": hook, "decided-by": by, "now": now, "settings": settings})
        };
        println!("{:#}", serde_json::Value::from(rows.iter().map(row).collect::<Vec<_>>()));
        return Ok(ExitCode::SUCCESS);
    }
    println!("{} is the {} {}", container.record.name, container.kind.as_str(), container.record.object);
    if rows.is_empty() {
        println!("no policy decided about it: d2k did not make it, or an older one did");
    }
    for (hook, by, now, written) in rows {
        println!("{hook:9} {by} ({now})");
        for (name, value) in written {
            println!("{:9}   {name}: {value}", "");
        }
    }
    for warning in &container.record.warnings {
        println!("warning   {warning}");
    }
    Ok(ExitCode::SUCCESS)
}

/// The last decisions of a running d2k as fixtures, one YAML document each.
pub fn record(settings: &Settings, last: usize, output: Output) -> Result<ExitCode, String> {
    let (client, url) = api(settings)?;
    let url = format!("{url}/policies/decisions?last={last}");
    let text = runtime()?.block_on(async {
        let answer = client.get(&url).send().await.map_err(|e| format!("no answer from {url}: {e:#}"))?;
        let status = answer.status();
        let text = answer.text().await.map_err(|e| format!("{url}: {e}"))?;
        if status.is_success() { Ok(text) } else { Err(format!("{url}: {status} {text}")) }
    })?;
    let decisions: Vec<serde_json::Value> = serde_json::from_str(&text).map_err(|e| format!("{url}: {e}"))?;
    if output == Output::Json {
        println!("{:#}", serde_json::Value::from(decisions));
        return Ok(ExitCode::SUCCESS);
    }
    let documents = decisions.iter().map(serde_yaml_ng::to_string).collect::<Result<Vec<_>, _>>();
    print!("{}", documents.map_err(|e| e.to_string())?.join("---\n"));
    Ok(ExitCode::SUCCESS)
}

/// A client of the Docker API of these settings, and the API's URL. Behind TLS it shows the certificate in
/// `DOCKER_CERT_PATH`, as Docker's own client does.
fn api(settings: &Settings) -> Result<(reqwest::Client, String), String> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut client = reqwest::Client::builder().timeout(ANSWER_TIME);
    if let Some(path) = &settings.socket {
        client = client.unix_socket(path.as_path());
        let client = client.build().map_err(|e| e.to_string())?;
        return Ok((client, "http://localhost".to_owned()));
    }
    let address = if settings.listen.is_unspecified() { Ipv4Addr::LOCALHOST.into() } else { settings.listen };
    let address = SocketAddr::new(address, settings.port);
    if settings.tls.is_none() {
        return Ok((client.build().map_err(|e| e.to_string())?, format!("http://{address}")));
    }
    let folder = std::env::var_os("DOCKER_CERT_PATH").map(PathBuf::from);
    let folder = folder.ok_or("set DOCKER_CERT_PATH to the folder with ca.pem, cert.pem and key.pem")?;
    let read = |name: &str| {
        let path = folder.join(name);
        std::fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))
    };
    let wrong = |e: reqwest::Error| format!("{}: {e}", folder.display());
    let authority = reqwest::Certificate::from_pem(&read("ca.pem")?).map_err(wrong)?;
    let identity = [read("cert.pem")?, read("key.pem")?].concat();
    let identity = reqwest::Identity::from_pem(&identity).map_err(wrong)?;
    let client = client.tls_certs_only([authority]).identity(identity).build().map_err(wrong)?;
    Ok((client, format!("https://{address}")))
}

pub(super) fn runtime() -> Result<tokio::runtime::Runtime, String> {
    tokio::runtime::Runtime::new().map_err(|e| format!("cannot start: {e}"))
}

/// A daemon that knows the namespace and does nothing.
fn idle_daemon(settings: &Settings) -> Result<Arc<Daemon>, String> {
    let policies = Policies::new(serve::policy_options(settings)).map_err(|e| e.to_string())?;
    let kubeconfig = settings.kubeconfig.as_ref().map(|p| p.display().to_string()).unwrap_or_default();
    let runtime = runtime()?;
    let connection = runtime
        .block_on(connect(&kubeconfig, &settings.namespace, None, &CancellationToken::new()))
        .map_err(|e| e.to_string())?;
    let registry = serve::registry(settings)?;
    let daemon = {
        let _inside = runtime.enter();
        Daemon::new(
            connection.cluster,
            policies,
            registry,
            serve::options(settings),
            CancellationToken::new(),
        )
    };
    // The caches are full; what changes from now on does not matter.
    runtime.shutdown_background();
    Ok(daemon)
}
