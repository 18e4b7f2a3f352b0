//! Where registries are reached and for which platform images are read: the settings and what
//! they mean for one registry, its mirrors in order and then itself, as dockerd and containerd do.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use reqwest::Url;

use d2k_common::fault::{Fault, Result};

const HUB: &str = "docker.io";
const HUB_URL: &str = "https://registry-1.docker.io";

/// The settings of a [`super::Registry`].
#[derive(Debug, Clone)]
pub struct RegistrySettings {
    /// `HOST=URL` or `*=URL`: where requests for that registry (or every one) go first.
    pub mirrors: Vec<String>,
    /// Hosts (with port) that are asked by plain HTTP; loopback addresses are anyway.
    pub insecure: Vec<String>,
    /// How long one request may take, from connecting to the last byte of its answer.
    pub timeout: Duration,
    /// Which image is taken from a list of several.
    pub platform: Platform,
}

impl Default for RegistrySettings {
    fn default() -> Self {
        Self {
            mirrors: Vec::new(),
            insecure: Vec::new(),
            timeout: Duration::from_secs(10),
            platform: Platform::default(),
        }
    }
}

/// An operating system and processor, `linux/arm64` or `linux/arm/v7`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// `amd64`, as Go names it.
    pub architecture: String,
    /// `v7`; empty if any will do.
    pub variant: String,
}

impl Default for Platform {
    /// Linux on the processor of this process: the nodes have it in all but mixed clusters.
    fn default() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            "powerpc64" => "ppc64le",
            other => other,
        };
        Self { os: "linux".to_owned(), architecture: architecture.to_owned(), variant: String::new() }
    }
}

impl FromStr for Platform {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self> {
        let part = |text: &str| text.to_ascii_lowercase();
        let character = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        let legal = |text: &str| !text.is_empty() && text.bytes().all(character);
        let parts: Vec<&str> = text.split('/').collect();
        if !parts.iter().all(|part| legal(part)) {
            return Err(Fault::invalid(format!(
                "\"{text}\" is an invalid component of a platform: use OS/ARCH"
            )));
        }
        let make = |os: &str, architecture: &str, variant: &str| Self {
            os: part(os),
            architecture: goarch(architecture),
            variant: part(variant),
        };
        match parts.as_slice() {
            [os] if matches!(part(os).as_str(), "linux" | "windows") => {
                Ok(Self { os: part(os), ..Self::default() })
            }
            [architecture] => Ok(make("linux", architecture, "")),
            [os, architecture] => Ok(make(os, architecture, "")),
            [os, architecture, variant] => Ok(make(os, architecture, variant)),
            _ => Err(Fault::invalid(format!("\"{text}\" is no platform: use OS/ARCH or OS/ARCH/VARIANT"))),
        }
    }
}

fn goarch(text: &str) -> String {
    match text.to_ascii_lowercase().as_str() {
        "x86_64" | "x86-64" => "amd64".to_owned(),
        "aarch64" => "arm64".to_owned(),
        "i386" | "i686" => "386".to_owned(),
        other => other.to_owned(),
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if !self.variant.is_empty() {
            write!(f, "/{}", self.variant)?;
        }
        Ok(())
    }
}

/// One place to ask for the images of a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// Base address without the `/v2/`, without a slash at its end.
    pub(super) url: String,
    /// Set on a mirror: the registry it stands for.
    pub(super) mirror_of: Option<String>,
}

/// The settings about places, checked.
#[derive(Debug, Clone)]
pub(super) struct Places {
    mirrors: Vec<(String, String)>,
    insecure: Vec<String>,
}

impl Places {
    pub(super) fn new(settings: &RegistrySettings) -> Result<Self> {
        let mirrors = settings.mirrors.iter().map(|text| mirror(text)).collect::<Result<Vec<_>>>()?;
        let insecure = settings.insecure.iter().map(|host| bare(host)).collect();
        Ok(Self { mirrors, insecure })
    }

    /// Where the images of `registry` are asked for: its mirrors, then itself.
    pub(super) fn endpoints(&self, registry: &str) -> Vec<Endpoint> {
        let own = self.mirrors.iter().filter(|(host, _)| host == registry);
        let all = self.mirrors.iter().filter(|(host, _)| host == "*");
        let mirrors = own
            .chain(all)
            .map(|(_, url)| Endpoint { url: url.clone(), mirror_of: Some(registry.to_owned()) });
        mirrors.chain([self.itself(registry)]).collect()
    }

    /// The registry itself, without mirrors: where one logs in.
    pub(super) fn itself(&self, registry: &str) -> Endpoint {
        let url = match registry {
            HUB => HUB_URL.to_owned(),
            host if is_loopback(host) || self.insecure.iter().any(|known| known == host) => {
                format!("http://{host}")
            }
            host => format!("https://{host}"),
        };
        Endpoint { url, mirror_of: None }
    }
}

fn mirror(text: &str) -> Result<(String, String)> {
    let wrong = |why: &str| {
        Fault::invalid(format!("mirror \"{text}\": {why}; write HOST=URL, as in *=http://127.0.0.1:5000"))
    };
    let (host, url) = text.split_once('=').ok_or_else(|| wrong("there is no ="))?;
    let parsed = Url::parse(url.trim()).map_err(|error| wrong(&error.to_string()))?;
    if !matches!(parsed.scheme(), "http" | "https") || parsed.host_str().is_none() {
        return Err(wrong("the address is neither http:// nor https://"));
    }
    if parsed.query().is_some() || parsed.fragment().is_some() {
        return Err(wrong("the address has more than a path"));
    }
    let host = match host.trim() {
        "" => return Err(wrong("the host is missing")),
        "index.docker.io" | "registry-1.docker.io" => HUB.to_owned(),
        host => host.to_owned(),
    };
    let base = parsed.as_str().trim_end_matches('/').trim_end_matches("/v2");
    Ok((host, base.to_owned()))
}

fn bare(host: &str) -> String {
    let host = host.trim().trim_start_matches("http://").trim_start_matches("https://");
    host.trim_end_matches('/').to_owned()
}

fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.split(':').next().unwrap_or_default(),
    };
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(mirrors: &[&str], insecure: &[&str]) -> Result<Places> {
        let owned = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        Places::new(&RegistrySettings {
            mirrors: owned(mirrors),
            insecure: owned(insecure),
            ..RegistrySettings::default()
        })
    }

    fn urls(places: &Places, registry: &str) -> Vec<String> {
        places.endpoints(registry).into_iter().map(|endpoint| endpoint.url).collect()
    }

    #[test]
    fn mirrors_come_first_and_the_registry_last() {
        let all = ["*=http://127.0.0.1:5000/", "docker.io=https://m.example/hub/v2", "ghcr.io=http://g"];
        let places = places(&all, &["reg:80"]).expect("settings");
        let hub = ["https://m.example/hub", "http://127.0.0.1:5000", HUB_URL];
        assert_eq!(urls(&places, "docker.io"), hub);
        assert_eq!(urls(&places, "reg:80"), ["http://127.0.0.1:5000", "http://reg:80"]);
        assert_eq!(urls(&places, "quay.io"), ["http://127.0.0.1:5000", "https://quay.io"]);
    }

    #[test]
    fn loopback_is_plain_http_as_with_docker() {
        let places = places(&[], &[]).expect("settings");
        for host in ["localhost", "localhost:5000", "127.0.0.1:5000", "127.3.2.1", "[::1]:5000"] {
            assert_eq!(urls(&places, host), [format!("http://{host}")]);
        }
        assert_eq!(urls(&places, "128.0.0.1:5000"), ["https://128.0.0.1:5000"]);
    }

    #[test]
    fn malformed_mirrors_are_named() {
        for bad in ["x", "=http://a", "a=b", "a=ftp://b", "a=http://b?c"] {
            let words = places(&[bad], &[]).expect_err(bad).message;
            assert!(words.contains(bad) && words.contains("HOST=URL"), "{words}");
        }
    }

    #[test]
    fn platforms_are_read_as_the_flag_writes_them() {
        for (text, shown) in [
            ("linux/arm64", "linux/arm64"),
            ("linux/arm/v7", "linux/arm/v7"),
            ("Linux/x86_64", "linux/amd64"),
            ("arm64", "linux/arm64"),
            ("windows", &format!("windows/{}", Platform::default().architecture)),
        ] {
            assert_eq!(text.parse::<Platform>().expect(text).to_string(), shown);
        }
        for bad in ["", "a/", "a/b/c/d", "linux/a b"] {
            assert!(bad.parse::<Platform>().is_err(), "{bad}");
        }
    }
}
