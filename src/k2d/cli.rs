//! The command line and the settings, each also a variable of the environment.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use ipnet::Ipv4Net;

/// The Kubernetes API over a Docker engine.
#[derive(Debug, Parser)]
#[command(name = "k2d", version, about)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What k2d can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the Kubernetes API.
    Serve(Settings),
    /// Print the kubeconfig of the k2d of this machine.
    Kubeconfig(KubeconfigSettings),
    /// Tell whether the k2d of this machine is well, in one line and by the exit code.
    Health(HealthSettings),
    /// Serve names and Services to Pods (k2d starts this itself).
    #[command(hide = true)]
    Net(NetSettings),
    /// Hold the network of a Pod (k2d starts this itself).
    #[command(hide = true)]
    Pause,
    /// Connect standard input and output to a port on loopback (k2d starts this itself).
    #[command(hide = true)]
    Relay {
        /// The port.
        port: u16,
    },
    /// Check a path of the machine for a volume (k2d starts this itself).
    #[command(hide = true)]
    Check {
        /// The type of the volume.
        #[arg(long = "type")]
        kind: String,
        /// The path.
        path: PathBuf,
    },
    /// Make a folder that anybody may write into (k2d starts this itself).
    #[command(hide = true)]
    Open {
        /// The folder.
        folder: PathBuf,
    },
}

/// The settings of `k2d serve`.
#[derive(Debug, Clone, Args)]
pub struct Settings {
    /// The engine, as Docker's own client takes it: unix:///PATH or tcp://HOST:PORT.
    #[arg(long, env = "K2D_ENGINE", value_name = "ADDRESS")]
    pub engine: Option<String>,
    /// Address that clients and Pods use for this machine; the one that leads outside if none is given.
    #[arg(long, env = "K2D_ADVERTISE_ADDR", value_name = "IP")]
    pub advertise_addr: Option<IpAddr>,
    /// Names and addresses besides, for which the certificate of the API is good: edge.example.com,192.0.2.7.
    #[arg(long, env = "K2D_NAMES", value_name = "NAMES", value_delimiter = ',', value_parser = server_name)]
    pub names: Vec<String>,
    /// Address that the Kubernetes API listens on.
    #[arg(long, env = "K2D_LISTEN", value_name = "IP", default_value = "0.0.0.0")]
    pub listen: IpAddr,
    /// Port of the Kubernetes API.
    #[arg(long, env = "K2D_PORT", value_name = "PORT", default_value_t = 6443)]
    pub port: u16,
    /// Folder for all that is kept.
    #[arg(long, env = "K2D_DATA_PATH", value_name = "FOLDER", default_value = "/var/lib/k2d")]
    pub data_path: PathBuf,
    /// Token for clients without a certificate; a random one if none is given.
    #[arg(long, env = "K2D_SECRET", value_name = "TOKEN", hide_env_values = true)]
    pub secret: Option<String>,
    /// Name of the Node; the name of the machine if none is given.
    #[arg(long, env = "K2D_NODE", value_name = "NAME")]
    pub node: Option<String>,
    /// Addresses of Pods and Services, if the network `k2d` is not there yet: a prefix of 24 or less; 10.89.0.0/16, or the
    /// next one that this machine has no route to, if none is given.
    #[arg(long, env = "K2D_POD_CIDR", value_name = "CIDR")]
    pub pod_cidr: Option<Ipv4Net>,
    /// Minimum log level: error, warn, info, debug or trace.
    #[arg(long, env = "K2D_LOG_LEVEL", value_name = "LEVEL", default_value = "info")]
    pub log_level: tracing::Level,
    /// Log format.
    #[arg(long, env = "K2D_LOG_FORMAT", value_name = "FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

/// The settings of `k2d kubeconfig`.
#[derive(Debug, Clone, Args)]
pub struct KubeconfigSettings {
    /// Folder for all that is kept.
    #[arg(long, env = "K2D_DATA_PATH", value_name = "FOLDER", default_value = "/var/lib/k2d")]
    pub data_path: PathBuf,
    /// Address of the API for a client elsewhere, such as https://192.0.2.7:6443; the first of the names if none is given, else the
    /// one in the file.
    #[arg(long, value_name = "URL")]
    pub server: Option<String>,
    /// The names that k2d serve was given.
    #[arg(long, env = "K2D_NAMES", value_name = "NAMES", value_delimiter = ',', value_parser = server_name)]
    pub names: Vec<String>,
}

/// The settings of `k2d health`.
#[derive(Debug, Clone, Args)]
pub struct HealthSettings {
    /// Folder for all that is kept.
    #[arg(long, env = "K2D_DATA_PATH", value_name = "FOLDER", default_value = "/var/lib/k2d")]
    pub data_path: PathBuf,
}

/// The settings of `k2d net`.
#[derive(Debug, Clone, Args)]
pub struct NetSettings {
    /// The whole network of Pods and Services.
    #[arg(long, value_name = "CIDR")]
    pub network: Ipv4Net,
    /// Folder of the table that k2d writes.
    #[arg(long, value_name = "FOLDER")]
    pub folder: PathBuf,
}

/// A log format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub enum LogFormat {
    Text,
    Json,
}

/// A DNS name, whose first label may be `*`, or an IP address.
fn server_name(text: &str) -> Result<String, String> {
    let name = text.trim().to_lowercase();
    let is_label = |label: &str| {
        let inner = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        inner && (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-')
    };
    let is_dns = name.len() <= 253 && name.strip_prefix("*.").unwrap_or(&name).split('.').all(is_label);
    if is_dns || name.parse::<IpAddr>().is_ok() {
        return Ok(name);
    }
    Err("give a DNS name such as edge.example.com, or an IP address, without a scheme and without a port"
        .to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Option<Vec<String>> {
        match Cli::try_parse_from(["k2d", "serve", "--names", text]).ok()?.command {
            Command::Serve(settings) => Some(settings.names),
            _ => None,
        }
    }

    #[test]
    fn names_are_of_dns_or_addresses() {
        let wanted = ["edge.example.com", "*.example.com", "192.0.2.7", "2001:db8::7"];
        assert_eq!(names("Edge.example.com, *.example.com,192.0.2.7,2001:db8::7").unwrap(), wanted);
        for bad in ["", "a,,b", "https://edge", "edge:6443", "a b", "-a", "a..b", "*", "a.*", "[::1]"] {
            assert_eq!(names(bad), None, "{bad:?}");
        }
    }
}
