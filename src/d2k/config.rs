//! The settings: one table of names, defaults and explanations, read from flags and environment
//! alike, and what they mean. A value that makes no sense is one line that says what would.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use crate::telemetry::{LogFormat, LogLevel};
use d2k_daemon::foreign::Foreign;
use d2k_docker::tls::Files;

/// A row of the table of settings.
#[derive(Debug)]
pub struct Setting {
    /// Environment variable.
    pub name: &'static str,
    /// Flag, without its dashes.
    pub flag: &'static str,
    /// What holds when it is not given; empty = nothing.
    pub default: &'static str,
    /// What kind of value it takes, for the help.
    pub value: &'static str,
    /// What it does.
    pub help: &'static str,
}

macro_rules! settings {
    ($($name:literal $flag:literal $default:literal $value:literal $help:literal;)*) => {
        /// All settings.
        pub const SETTINGS: &[Setting] = &[
            $(Setting { name: $name, flag: $flag, default: $default, value: $value, help: $help },)*
        ];
    };
}

settings! {
    "D2K_NAMESPACE" "namespace" "default" "NAME" "Kubernetes namespace that d2k works in";
    "D2K_PORT" "port" "2375" "PORT" "Port of the Docker API; 0 = any free port";
    "D2K_LISTEN" "listen" "" "ADDRESS" "Address to listen on [default: 0.0.0.0 in a cluster, else 127.0.0.1]";
    "D2K_SOCKET" "socket" "" "PATH" "Unix socket that also serves the Docker API";
    "D2K_HOSTS" "hosts" "" "LIST" "Additional host names that clients use for d2k, separated by commas";
    "D2K_LOG_LEVEL" "log-level" "info" "LEVEL" "Minimum log level: debug, info, warn or error";
    "D2K_LOG_FORMAT" "log-format" "text" "FORMAT" "Log format: text or json";
    "D2K_KUBECONFIG" "kubeconfig" "" "PATH" "Path of a kubeconfig [default: the ServiceAccount in a Pod, else KUBECONFIG or ~/.kube/config]";
    "D2K_DATA_DIR" "data-dir" "" "PATH" "Folder of the embedded cluster [default: d2k below the user's state directory]";
    "D2K_LOW_PORT_THRESHOLD" "low-port-threshold" "1024" "PORT" "Reserved, not currently used";
    "D2K_ADMIN_LISTEN" "admin-listen" "" "ADDRESS" "Address of the admin port [default: 0.0.0.0 in a cluster, else 127.0.0.1]";
    "D2K_ADMIN_PORT" "admin-port" "9323" "PORT" "Port of /metrics, /healthz and /readyz; 0 = none";
    "D2K_FOREIGN" "foreign" "show" "WORD" "Access of clients to workloads that d2k did not create: hide, show (read only) or manage";
    "D2K_START_TIMEOUT" "start-timeout" "120s" "DURATION" "Maximum wait for a container to run after a start: seconds, or 90s, 2m";
    "D2K_PUBLISH" "publish" "service,proxy" "LIST" "Ways to publish a port, separated by commas: service, proxy";
    "D2K_TLS_CERT" "tls-cert" "" "PATH" "Server certificate (PEM)";
    "D2K_TLS_KEY" "tls-key" "" "PATH" "Private key (PEM) of the server certificate";
    "D2K_TLS_CA" "tls-ca" "" "PATH" "Certificate authority (PEM) of clients; others are refused";
    "D2K_CLUSTER_DOMAIN" "cluster-domain" "cluster.local" "DOMAIN" "DNS domain of the cluster";
    "D2K_REGISTRY_MIRRORS" "registry-mirrors" "" "LIST" "Mirrors of registries: host=url, or *=url for all, separated by commas";
    "D2K_INSECURE_REGISTRIES" "insecure-registries" "" "LIST" "Registries to use over plain HTTP, separated by commas";
    "D2K_VOLUME_SIZE" "volume-size" "1Gi" "SIZE" "Default size of volumes";
    "D2K_STORAGE_CLASS" "storage-class" "" "NAME" "Storage class of volumes [default: the cluster's default]";
    "D2K_POLICY_DIR" "policy-dir" "" "PATH" "Folder with policies (*.wasm) and their settings.yaml; changes take effect at once";
    "D2K_POLICY_SETTINGS" "policy-settings" "" "PATH" "Settings of policies (YAML) [default: settings.yaml of the folder]";
    "D2K_POLICY_CACHE" "policy-cache" "" "PATH" "Folder for compiled policies and the last good set [default: the user's cache]";
    "D2K_DOCKER_HOST" "docker-host" "" "URL" "DOCKER_HOST of containers that bind the Docker socket [default: d2k's Service]";
}

/// What the settings mean. Fields are explained in [`SETTINGS`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Settings {
    pub namespace: String,
    pub port: u16,
    pub listen: IpAddr,
    pub socket: Option<PathBuf>,
    pub hosts: Vec<String>,
    pub log_level: LogLevel,
    pub log_format: LogFormat,
    pub kubeconfig: Option<PathBuf>,
    pub data_dir: Option<PathBuf>,
    pub low_port_threshold: u16,
    pub foreign: Foreign,
    /// Name of the Pod that d2k runs in: a Pod's host name is its name.
    pub own_pod: Option<String>,
    pub admin_listen: IpAddr,
    /// `None` = no admin port.
    pub admin_port: Option<u16>,
    pub start_timeout: Duration,
    pub publish_service: bool,
    pub publish_proxy: bool,
    pub tls: Option<Files>,
    pub cluster_domain: String,
    /// Registry host (or `*`) to the URL of its mirror.
    pub registry_mirrors: BTreeMap<String, String>,
    pub insecure_registries: Vec<String>,
    pub volume_size: String,
    pub storage_class: String,
    pub docker_host: String,
    pub policy_dir: Option<PathBuf>,
    pub policy_settings: Option<PathBuf>,
    /// `None`: neither given nor a home to have one in.
    pub policy_cache: Option<PathBuf>,
    /// Names of the settings that were given, so that defaults can be told from them.
    pub given: Vec<&'static str>,
}

impl Settings {
    /// Whether a setting was given.
    pub fn is_given(&self, name: &str) -> bool {
        self.given.contains(&name)
    }

    /// Reads the settings; `given` knows what was given, by the name of the variable.
    ///
    /// # Errors
    /// One line that names the setting, the value and what is allowed.
    pub fn read(given: &dyn Fn(&str) -> Option<String>) -> Result<Self, String> {
        let given = Given(given);
        let tls = given.tls()?;
        let kubeconfig = given.path("D2K_KUBECONFIG");
        let in_cluster = kubeconfig.is_none() && given.other("KUBERNETES_SERVICE_HOST").is_some();
        let everywhere = IpAddr::V4(if in_cluster { Ipv4Addr::UNSPECIFIED } else { Ipv4Addr::LOCALHOST });
        let namespace = given.checked("D2K_NAMESPACE", "a DNS label such as team-a", is_label)?;
        let cluster_domain =
            given.checked("D2K_CLUSTER_DOMAIN", "a DNS name such as cluster.local", is_domain)?;
        let port = given.port("D2K_PORT")?;
        let default_host = format!("tcp://d2k.{namespace}.svc.{cluster_domain}:{port}");
        let publish = given.publish()?;
        Ok(Self {
            listen: given.address("D2K_LISTEN", everywhere)?,
            socket: given.path("D2K_SOCKET"),
            hosts: given.checked_list("D2K_HOSTS", "host names such as docker.example.com", |v| {
                is_domain(&v.to_lowercase())
            })?,
            foreign: given.foreign()?,
            own_pod: given.other("HOSTNAME").filter(|_| in_cluster),
            admin_listen: given.address("D2K_ADMIN_LISTEN", everywhere)?,
            log_level: given.log_level()?,
            log_format: given.parsed("D2K_LOG_FORMAT", "text or json", |v| match v {
                "text" => Some(LogFormat::Text),
                "json" => Some(LogFormat::Json),
                _ => None,
            })?,
            low_port_threshold: given.port("D2K_LOW_PORT_THRESHOLD")?,
            admin_port: Some(given.port("D2K_ADMIN_PORT")?).filter(|port| *port != 0),
            start_timeout: given.parsed(
                "D2K_START_TIMEOUT",
                "seconds, or a duration such as 90s or 2m",
                duration,
            )?,
            publish_service: publish.contains(&"service".to_owned()),
            publish_proxy: publish.contains(&"proxy".to_owned()),
            registry_mirrors: given.mirrors()?,
            insecure_registries: given.checked_list(
                "D2K_INSECURE_REGISTRIES",
                "hosts, each with a port or without",
                is_host,
            )?,
            volume_size: given.checked(
                "D2K_VOLUME_SIZE",
                "a Kubernetes quantity such as 500Mi or 1Gi",
                is_size,
            )?,
            storage_class: given.checked("D2K_STORAGE_CLASS", "the name of a storage class", |v| {
                v.is_empty() || is_domain(v)
            })?,
            docker_host: given.parsed("D2K_DOCKER_HOST", "a URL such as tcp://host:2375", |v| match v {
                "" => Some(default_host.clone()),
                _ => is_docker_host(v).then(|| v.to_owned()),
            })?,
            policy_dir: given.path("D2K_POLICY_DIR"),
            policy_settings: given.path("D2K_POLICY_SETTINGS"),
            policy_cache: given.path("D2K_POLICY_CACHE").or_else(|| given.users_cache()),
            given: SETTINGS
                .iter()
                .map(|s| s.name)
                .filter(|name| !given.text_as_given(name).is_empty())
                .collect(),
            namespace,
            port,
            kubeconfig,
            data_dir: given.path("D2K_DATA_DIR"),
            tls,
            cluster_domain,
        })
    }
}

/// Reads single settings and knows how to complain.
struct Given<'a>(&'a dyn Fn(&str) -> Option<String>);

impl Given<'_> {
    fn other(&self, name: &str) -> Option<String> {
        (self.0)(name).filter(|value| !value.is_empty())
    }

    fn users_cache(&self) -> Option<PathBuf> {
        let home = || Some(PathBuf::from(self.other("HOME")?).join(".cache"));
        Some(self.other("XDG_CACHE_HOME").map(PathBuf::from).or_else(home)?.join("d2k/policies"))
    }

    /// The value, or the default; an empty variable counts as not given.
    fn text(&self, name: &str) -> String {
        let default = || SETTINGS.iter().find(|s| s.name == name).map_or("", |s| s.default).to_owned();
        self.other(name).map_or_else(default, |value| value.trim().to_owned())
    }

    fn parsed<T>(&self, name: &str, allowed: &str, parse: impl Fn(&str) -> Option<T>) -> Result<T, String> {
        let value = self.text(name);
        parse(&value).ok_or_else(|| wrong(name, &value, allowed))
    }

    fn checked(&self, name: &str, allowed: &str, good: impl Fn(&str) -> bool) -> Result<String, String> {
        self.parsed(name, allowed, |value| good(value).then(|| value.to_owned()))
    }

    fn checked_list(
        &self,
        name: &str,
        allowed: &str,
        good: impl Fn(&str) -> bool,
    ) -> Result<Vec<String>, String> {
        let value = self.text(name);
        let parts = value.split(',').map(str::trim).filter(|part| !part.is_empty());
        parts
            .map(|part| if good(part) { Ok(part.to_owned()) } else { Err(wrong(name, part, allowed)) })
            .collect()
    }

    fn text_as_given(&self, name: &str) -> String {
        (self.0)(name).unwrap_or_default()
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        Some(self.text(name)).filter(|value| !value.is_empty()).map(PathBuf::from)
    }

    fn address(&self, name: &str, default: IpAddr) -> Result<IpAddr, String> {
        self.parsed(name, "an IP address", |v| if v.is_empty() { Some(default) } else { v.parse().ok() })
    }

    fn port(&self, name: &str) -> Result<u16, String> {
        self.parsed(name, "a port, 0 to 65535", |value| value.parse().ok())
    }

    fn foreign(&self) -> Result<Foreign, String> {
        self.parsed("D2K_FOREIGN", "hide, show or manage", |value| match value {
            "hide" => Some(Foreign::Hide),
            "show" => Some(Foreign::Show),
            "manage" => Some(Foreign::Manage),
            _ => None,
        })
    }

    fn log_level(&self) -> Result<LogLevel, String> {
        self.parsed("D2K_LOG_LEVEL", "debug, info, warn or error", |value| {
            let levels = [LogLevel::Debug, LogLevel::Info, LogLevel::Warn, LogLevel::Error];
            levels.into_iter().find(|level| level.as_str() == value)
        })
    }

    fn publish(&self) -> Result<Vec<String>, String> {
        let allowed = "service, proxy, or service,proxy";
        let ways = self.checked_list("D2K_PUBLISH", allowed, |way| matches!(way, "service" | "proxy"))?;
        if ways.is_empty() { Err(wrong("D2K_PUBLISH", &self.text("D2K_PUBLISH"), allowed)) } else { Ok(ways) }
    }

    fn tls(&self) -> Result<Option<Files>, String> {
        let [certificate, key, authority] =
            ["D2K_TLS_CERT", "D2K_TLS_KEY", "D2K_TLS_CA"].map(|name| self.path(name));
        match (certificate, key) {
            (Some(certificate), Some(key)) => Ok(Some(Files { certificate, key, authority })),
            (None, None) if authority.is_none() => Ok(None),
            (None, _) => Err(wrong("D2K_TLS_CERT", "", "a path, because another TLS setting is given")),
            (_, None) => Err(wrong("D2K_TLS_KEY", "", "a path, because D2K_TLS_CERT is given")),
        }
    }

    fn mirrors(&self) -> Result<BTreeMap<String, String>, String> {
        let (name, allowed) = ("D2K_REGISTRY_MIRRORS", "host=url or *=url, the url with http:// or https://");
        let pair = |part: &str| {
            let (host, url) = part.split_once('=')?;
            let address = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"))?;
            let good = (host == "*" || is_host(host)) && !address.is_empty();
            good.then(|| (host.to_owned(), url.trim_end_matches('/').to_owned()))
        };
        let parts = self.checked_list(name, allowed, |part| pair(part).is_some())?;
        Ok(parts.iter().filter_map(|part| pair(part)).collect())
    }
}

/// A kubeconfig that is named must be there.
///
/// # Errors
/// One line like that of any other bad value.
pub fn readable(settings: &Settings) -> Result<(), String> {
    match settings.kubeconfig.as_ref().filter(|path| !path.is_file()) {
        Some(path) => {
            Err(wrong("D2K_KUBECONFIG", &path.display().to_string(), "the path of a file that exists"))
        }
        None => Ok(()),
    }
}

fn wrong(name: &str, value: &str, allowed: &str) -> String {
    let flag = SETTINGS.iter().find(|s| s.name == name).map_or("", |s| s.flag);
    format!("{name} (--{flag}) is {value:?}: it must be {allowed}")
}

/// Seconds, or a duration with units, above nothing and up to a day.
fn duration(text: &str) -> Option<Duration> {
    let seconds = || text.parse().ok().map(Duration::from_secs);
    let units = || text.parse::<jiff::SignedDuration>().ok().and_then(|d| Duration::try_from(d).ok());
    seconds().or_else(units).filter(|d| !d.is_zero() && *d <= Duration::from_secs(86_400))
}

fn is_label(text: &str) -> bool {
    let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !text.is_empty()
        && text.len() <= 63
        && text.bytes().all(legal)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn is_domain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_label)
}

fn is_host(text: &str) -> bool {
    let host =
        text.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok()).map_or(text, |(host, _)| host);
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok();
    address || is_domain(&host.to_lowercase())
}

fn is_docker_host(text: &str) -> bool {
    let known = ["tcp://", "unix://", "http://", "https://", "ssh://"];
    known.iter().any(|scheme| text.strip_prefix(scheme).is_some_and(|rest| !rest.is_empty()))
}

/// A positive Kubernetes quantity of at least whole units: `500m` is half a byte, and who writes it means Docker's
/// mebibytes. Without a sign or an exponent, which nobody gives a size and `translate` does not read in one.
fn is_size(text: &str) -> bool {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let is_of_units = !unit.contains(|c: char| "+-num".contains(c) || c.is_ascii_digit());
    is_of_units && d2k_quantity::billionths(text).is_some_and(|size| size > 0)
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
