//! Decides whether a request may be served at all, before it is routed: who called, under which name of d2k, and
//! whether a web page sent it. The Docker API gives its callers all rights, and by default it asks for no login, so
//! the way on which a request came has to stand in for one.
//!
//! A web page reaches a server on loopback or in a private network when its own name is made to resolve to that
//! address (DNS rebinding). Its requests then look like those of any client, but their `Host` is a name that
//! others may give an address to. So without client certificates a request over TCP is served only under a name
//! that cannot be rebound.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use futures::future::BoxFuture;

use super::peer::{Peer, Via};
use d2k_common::fault::{Fault, Result};

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// Names that nobody else can give an address to. Docker's ssh helper sends the first one; the other two are
/// what Docker calls its host inside containers.
const FIXED: [&str; 3] = ["docker.example.com", "host.docker.internal", "gateway.docker.internal"];
/// Name of d2k's Service.
const SERVICE: &str = "d2k";

/// Tells whether an address may call; the second value is true for the network of embedded Pods, where only
/// known addresses may.
pub type Callers = Arc<dyn Fn(IpAddr, bool) -> BoxFuture<'static, Result<()>> + Send + Sync>;

/// Decides which requests may be served.
#[derive(Clone)]
pub struct Guard {
    names: Arc<BTreeSet<String>>,
    callers: Callers,
}

impl Guard {
    /// Serves every address that `callers` admits, under d2k's own names and these.
    pub fn new(namespace: &str, domain: &str, docker_host: &str, names: &[String], callers: Callers) -> Self {
        let service =
            ["", ".svc", &format!(".svc.{domain}")].map(|rest| format!("{SERVICE}.{namespace}{rest}"));
        let authority = docker_host.split_once("://").map_or(docker_host, |(_, rest)| rest);
        let authority = authority.split('/').next().unwrap_or_default();
        let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        let own = FIXED.iter().map(|&name| name.to_owned()).chain(service);
        let told = names.iter().map(String::as_str).chain([host_of(authority)]);
        let names = own.chain(told.map(normal)).filter(|name| !name.is_empty()).collect();
        Self { names: Arc::new(names), callers }
    }

    /// Checks a request by its head and the connection that it came on.
    ///
    /// # Errors
    /// 403 with what to do, for the user of the client that was refused.
    pub async fn check(&self, parts: &Parts) -> Result<()> {
        let via = parts.extensions.get::<Peer>().map(|peer| peer.via).unwrap_or_default();
        match via {
            Via::Tcp { verified: true, .. } | Via::Unix => {}
            Via::Tcp { from, .. } => (self.callers)(from, false).await?,
            Via::PodNetwork(from) => (self.callers)(from, true).await?,
        }
        if matches!(via, Via::Tcp { verified: false, .. } | Via::PodNetwork(_)) {
            self.check_host(parts)?;
        }
        check_origin(&parts.headers)
    }

    fn check_host(&self, parts: &Parts) -> Result<()> {
        let headers = parts.headers.get_all(header::HOST).iter();
        let sent = headers.map(|host| String::from_utf8_lossy(host.as_bytes()).into_owned());
        let target = parts.uri.authority().map(|authority| authority.as_str().to_owned());
        match sent.chain(target).find(|host| !self.is_own(host)) {
            None => Ok(()),
            Some(host) => Err(Fault::forbidden(format!(
                "requests for the host {host:?} are refused: a web page can make a name of its own lead here (DNS \
                 rebinding). Use d2k's address or Service name, or add the name to D2K_HOSTS"
            ))),
        }
    }

    /// Whether a `Host` is a name that a web page cannot make lead here. A client without one is no browser.
    fn is_own(&self, host: &str) -> bool {
        let name = normal(host_of(host));
        let last = name.rsplit('.').next().unwrap_or_default();
        let single = !name.contains(['.', ':', '[', ']', '@', '/', '\\', '%']);
        name.parse::<IpAddr>().is_ok()
            // A last label of digits alone is an IPv4 address in a form of its own to every browser.
            || (!last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit()))
            || single
            || name.ends_with(".localhost")
            || self.names.contains(&name)
    }
}

/// A `Host` without its port, and an IPv6 address without its brackets.
fn host_of(authority: &str) -> &str {
    let without_port = |text: &str| {
        let port = text.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
        port.map_or(text.len(), |(host, _)| host.len())
    };
    let host = authority.get(..without_port(authority)).unwrap_or(authority);
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

fn normal(name: &str) -> String {
    name.trim().trim_end_matches('.').to_ascii_lowercase()
}

/// Refuses a request that a browser sent for a page that is not d2k's.
fn check_origin(headers: &HeaderMap) -> Result<()> {
    let site = headers.get(FETCH_SITE).map(HeaderValue::as_bytes);
    let cross = site.is_some_and(|site| !matches!(site, b"same-origin" | b"none"));
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let ours = |origin: &HeaderValue| {
        let authority = origin.to_str().ok().and_then(|origin| Some(origin.split_once("://")?.1));
        authority.is_some_and(|authority| !host.is_empty() && authority.eq_ignore_ascii_case(host))
    };
    if !cross && headers.get_all(header::ORIGIN).iter().all(ours) {
        return Ok(());
    }
    Err(Fault::forbidden("requests of web pages are refused: the Docker API gives its callers all rights"))
}

#[cfg(test)]
pub(super) mod tests {
    use axum::http::Request;

    use super::*;

    /// A guard that admits every address.
    pub(crate) fn open() -> Guard {
        let callers: Callers = Arc::new(|_, _| Box::pin(async { Ok(()) }));
        let names = ["builds.corp.example".to_owned()];
        Guard::new("team-a", "cluster.local", "tcp://docker.team-a.example:2375", &names, callers)
    }

    fn parts(via: Via, headers: &[(&str, &str)]) -> Parts {
        let peer = Peer::by(via);
        let mut request = Request::builder().uri("/info").extension(peer);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    const TCP: Via = Via::Tcp { from: IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), verified: false };

    async fn served(via: Via, headers: &[(&str, &str)]) -> bool {
        open().check(&parts(via, headers)).await.is_ok()
    }

    #[tokio::test]
    async fn only_names_that_cannot_be_rebound_are_served_over_tcp() {
        for host in [
            "",
            "127.0.0.1:2375",
            "192.168.1.7",
            "[::1]:2375",
            "[fd00::1]",
            "127.1:2375",
            "localhost:2375",
            "LOCALHOST.",
            "a.localhost",
            "docker",
            "docker:2375",
            "docker.example.com",
            "host.docker.internal:2375",
            "d2k.team-a",
            "d2k.team-a.svc",
            "d2k.team-a.svc.cluster.local.:2375",
            "docker.team-a.example:2375",
            "Builds.Corp.Example",
        ] {
            assert!(served(TCP, &[("host", host)]).await, "{host}");
        }
        assert!(served(TCP, &[]).await);
        for host in [
            "evil.example:2375",
            "evil.example",
            "docker.example.com.evil.example",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "evil-localhost.example",
            "d2k.team-b.svc.evil.example",
            "a:b.example",
            "user@evil.example",
            "[::1].evil.example",
            "1.2.3.4.5x",
        ] {
            assert!(!served(TCP, &[("host", host)]).await, "{host}");
        }
        assert!(!served(TCP, &[("host", "d2k"), ("host", "evil.example")]).await);
    }

    #[tokio::test]
    async fn any_name_is_served_where_the_client_is_known() {
        let verified = Via::Tcp { from: IpAddr::from([192, 0, 2, 1]), verified: true };
        for via in [Via::Unix, verified] {
            assert!(served(via, &[("host", "any.example")]).await, "{via:?}");
        }
        assert!(!served(Via::PodNetwork(IpAddr::from([10, 88, 0, 5])), &[("host", "any.example")]).await);
    }

    #[tokio::test]
    async fn pages_of_others_are_refused_on_every_way() {
        for via in [Via::Unix, TCP] {
            assert!(served(via, &[("host", "d2k:2375"), ("origin", "http://D2K:2375")]).await);
            assert!(served(via, &[("host", ""), ("sec-fetch-site", "none")]).await);
            let refused: [&[(&str, &str)]; 5] = [
                &[("host", "d2k:2375"), ("origin", "http://evil.example")],
                &[("host", "d2k:2375"), ("origin", "null")],
                &[("origin", "http://")],
                &[("host", "d2k:2375"), ("origin", "http://d2k:2375"), ("origin", "http://evil.example")],
                &[("host", "d2k:2375"), ("sec-fetch-site", "cross-site")],
            ];
            for headers in refused {
                assert!(!served(via, headers).await, "{headers:?}");
            }
        }
    }

    #[tokio::test]
    async fn an_address_that_may_not_call_is_refused_unless_its_client_has_a_certificate() {
        let callers: Callers = Arc::new(|_, _| Box::pin(async { Err(Fault::forbidden("not you")) }));
        let guard = Guard::new("a", "cluster.local", "", &[], callers);
        let from = IpAddr::from([10, 0, 0, 1]);
        let check = async |via| guard.check(&parts(via, &[("host", "10.0.0.9")])).await.is_ok();
        assert!(!check(Via::Tcp { from, verified: false }).await);
        assert!(!check(Via::PodNetwork(from)).await);
        assert!(check(Via::Tcp { from, verified: true }).await);
        assert!(check(Via::Unix).await);
    }
}
