//! The files that every container has from the cluster: names of hosts, how names are resolved.

use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::Value;

use crate::meta::{self, at, items, string};

/// `/etc/hostname` of a Pod.
pub fn hostname(pod: &Value) -> String {
    format!("{}\n", name_of(pod))
}

fn name_of(pod: &Value) -> &str {
    match string(pod, &["spec", "hostname"]) {
        "" => meta::name(pod),
        own => own,
    }
}

/// `/etc/hosts` of a Pod in a cluster of this domain.
pub fn hosts(pod: &Value, ip: &str, domain: &str) -> String {
    let hostname = name_of(pod);
    let names = match string(pod, &["spec", "subdomain"]) {
        "" => hostname.to_owned(),
        subdomain => format!("{hostname}.{subdomain}.{}.svc.{domain}\t{hostname}", meta::namespace(pod)),
    };
    let mut text = String::from(
        "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n",
    );
    text.push_str(&format!("{ip}\t{names}\n"));
    let aliases = items(pod, &["spec", "hostAliases"]);
    if !aliases.is_empty() {
        text.push_str("\n# Entries added by HostAliases.\n");
    }
    for alias in aliases {
        let names: Vec<&str> = items(alias, &["hostnames"]).iter().filter_map(Value::as_str).collect();
        text.push_str(&format!("{}\t{}\n", string(alias, &["ip"]), names.join("\t")));
    }
    text
}

/// `/etc/resolv.conf` of a Pod.
pub fn resolv_conf(pod: &Value, dns: IpAddr, domain: &str) -> String {
    let policy = string(pod, &["spec", "dnsPolicy"]);
    let host_network = at(pod, &["spec", "hostNetwork"]).as_bool() == Some(true);
    let (mut servers, mut searches, mut options) = (Vec::new(), Vec::new(), Vec::new());
    let cluster = policy == "ClusterFirstWithHostNet" || (policy == "ClusterFirst" && !host_network);
    if cluster {
        servers.push(dns.to_string());
        let namespace = meta::namespace(pod);
        searches.extend([format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.to_owned()]);
        options.push("ndots:5".to_owned());
    } else if policy != "None" {
        let own = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        for line in own.lines() {
            let mut words = line.split_whitespace().map(str::to_owned);
            match words.next().as_deref() {
                Some("nameserver") => servers.extend(words.next()),
                Some("search") => searches.extend(words),
                Some("options") => options.extend(words),
                _ => {}
            }
        }
    }
    let config = at(pod, &["spec", "dnsConfig"]);
    let texts = |field| items(config, &[field]).iter().filter_map(Value::as_str).map(str::to_owned);
    servers.extend(texts("nameservers"));
    searches.extend(texts("searches"));
    for option in items(config, &["options"]) {
        let (name, value) = (string(option, &["name"]), string(option, &["value"]));
        options.retain(|known| known.split(':').next() != Some(name));
        options.push(if value.is_empty() { name.to_owned() } else { format!("{name}:{value}") });
    }
    servers.dedup();
    let mut text: String = servers.iter().take(3).map(|server| format!("nameserver {server}\n")).collect();
    if !searches.is_empty() {
        text.push_str(&format!("search {}\n", searches.join(" ")));
    }
    if !options.is_empty() {
        text.push_str(&format!("options {}\n", options.join(" ")));
    }
    text
}

/// Writes a file that every user of a container reads, whatever the umask of d2k is, and the folders
/// above it.
///
/// # Errors
/// Those of the file system.
pub fn write(path: &Path, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(path, bytes)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_are_resolved_by_the_cluster_first() {
        let pod = json!({
            "metadata": {"name": "p", "namespace": "n"},
            "spec": {"dnsPolicy": "ClusterFirst", "dnsConfig": {"searches": ["x.y"], "options": [{"name": "ndots", "value": "2"}]}},
        });
        let text = resolv_conf(&pod, "10.88.0.1".parse().unwrap(), "cluster.local");
        let wanted = "nameserver 10.88.0.1\nsearch n.svc.cluster.local svc.cluster.local cluster.local x.y\noptions ndots:2\n";
        assert_eq!(text, wanted);
    }

    #[test]
    fn a_pod_with_a_subdomain_knows_its_full_name() {
        let mut pod = json!({"metadata": {"name": "p", "namespace": "n"}, "spec": {}});
        assert!(hosts(&pod, "10.88.0.9", "cluster.local").ends_with("\n10.88.0.9\tp\n"));
        pod["spec"] = json!({"hostname": "h", "subdomain": "s"});
        let line = "\n10.88.0.9\th.s.n.svc.cluster.local\th\n";
        assert!(hosts(&pod, "10.88.0.9", "cluster.local").ends_with(line));
    }
}
