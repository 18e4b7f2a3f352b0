//! The environment of a container: the image's, the Services', what the Pod says and refers to.

use jiff::Timestamp;
use serde_json::Value;

use super::Kubelet;
use super::running::Running;
use crate::kinds::{self, Kind};
use crate::meta::{self, at, items, string};
use d2k_engine::{Engine, Image, Login, NodeFacts, Trouble};

/// Variables in order; later ones win.
pub type Variables = Vec<(String, String)>;

fn put(all: &mut Variables, name: &str, value: String) {
    all.retain(|(other, _)| other != name);
    all.push((name.to_owned(), value));
}

/// Replaces `$(NAME)` by variables that are there; `$$` is one dollar sign.
pub fn expand(text: &str, variables: &Variables) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = after.strip_prefix('(').and_then(|a| a.split_once(')')) {
            match variables.iter().find(|(known, _)| known == name) {
                Some((_, value)) => out.push_str(value),
                None => out.push_str(&format!("$({name})")),
            }
            rest = after;
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

impl<E: Engine> Kubelet<E> {
    /// All variables of a container.
    pub(super) fn environment(
        &self,
        running: &Running,
        pod: &Value,
        container: &Value,
        image: &Image,
    ) -> Result<Variables, Trouble> {
        let mut all = Variables::new();
        for pair in &image.env {
            if let Some((name, value)) = pair.split_once('=') {
                put(&mut all, name, value.to_owned());
            }
        }
        let hostname = match string(pod, &["spec", "hostname"]) {
            "" => meta::name(pod),
            own => own,
        };
        put(&mut all, "HOSTNAME", hostname.to_owned());
        for (name, value) in &self.options.variables {
            put(&mut all, name, value.clone());
        }
        if at(pod, &["spec", "enableServiceLinks"]).as_bool() != Some(false) {
            self.service_links(meta::namespace(pod), &mut all);
        }
        for source in items(container, &["envFrom"]) {
            self.all_of(pod, source, &mut all)?;
        }
        for variable in items(container, &["env"]) {
            let name = string(variable, &["name"]);
            let value = match variable.get("valueFrom") {
                Some(source) => self.value_from(running, pod, container, source)?,
                None => Some(expand(string(variable, &["value"]), &all)),
            };
            if let Some(value) = value {
                put(&mut all, name, value);
            }
        }
        Ok(all)
    }

    fn service_links(&self, namespace: &str, all: &mut Variables) {
        for service in self.api.list(&kinds::SERVICE, namespace).items {
            let address = string(&service, &["spec", "clusterIP"]);
            let ports = items(&service, &["spec", "ports"]);
            let Some(first) = ports.first().filter(|_| !address.is_empty() && address != "None") else {
                continue;
            };
            let name = meta::name(&service).to_uppercase().replace('-', "_");
            let number = |port: &Value| meta::number(port, &["port"]).unwrap_or(0);
            put(all, &format!("{name}_SERVICE_HOST"), address.to_owned());
            put(all, &format!("{name}_SERVICE_PORT"), number(first).to_string());
            for port in ports {
                let label = string(port, &["name"]).to_uppercase().replace('-', "_");
                if !label.is_empty() {
                    put(all, &format!("{name}_SERVICE_PORT_{label}"), number(port).to_string());
                }
                let protocol = string(port, &["protocol"]);
                let url = format!("{}://{address}:{}", protocol.to_lowercase(), number(port));
                let base = format!("{name}_PORT_{}_{protocol}", number(port));
                put(all, &base, url.clone());
                put(all, &format!("{base}_PROTO"), protocol.to_lowercase());
                put(all, &format!("{base}_PORT"), number(port).to_string());
                put(all, &format!("{base}_ADDR"), address.to_owned());
            }
            put(all, &format!("{name}_PORT"), format!("tcp://{address}:{}", number(first)));
        }
    }

    fn all_of(&self, pod: &Value, source: &Value, all: &mut Variables) -> Result<(), Trouble> {
        let prefix = string(source, &["prefix"]);
        for (field, of) in [("configMapRef", &kinds::CONFIG_MAP), ("secretRef", &kinds::SECRET)] {
            let Some(reference) = source.get(field) else { continue };
            let optional = at(reference, &["optional"]).as_bool() == Some(true);
            match self.data(pod, of, string(reference, &["name"])) {
                Some(data) => {
                    for (key, bytes) in data {
                        put(all, &format!("{prefix}{key}"), String::from_utf8_lossy(&bytes).into_owned());
                    }
                }
                None if optional => {}
                None => return Err(missing(of, string(reference, &["name"]))),
            }
        }
        Ok(())
    }

    fn value_from(
        &self,
        running: &Running,
        pod: &Value,
        container: &Value,
        source: &Value,
    ) -> Result<Option<String>, Trouble> {
        for (field, of) in [("configMapKeyRef", &kinds::CONFIG_MAP), ("secretKeyRef", &kinds::SECRET)] {
            let Some(reference) = source.get(field) else { continue };
            let (name, key) = (string(reference, &["name"]), string(reference, &["key"]));
            let optional = at(reference, &["optional"]).as_bool() == Some(true);
            let found = self.data(pod, of, name).map(|data| data.into_iter().find(|(k, _)| k == key));
            return match found {
                Some(Some((_, bytes))) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
                _ if optional => Ok(None),
                Some(None) => Err(Trouble::new(
                    "CreateContainerConfigError",
                    format!("couldn't find key {key} in {} {}/{name}", of.name, meta::namespace(pod)),
                )),
                None => Err(missing(of, name)),
            };
        }
        if let Some(reference) = source.get("fieldRef") {
            return Ok(Some(self.field(running, pod, string(reference, &["fieldPath"]))));
        }
        let reference = at(source, &["resourceFieldRef"]);
        Ok(Some(resource(pod, container, reference, &self.engine.node())))
    }

    /// A field of the Pod, as the downward API gives it.
    pub(super) fn field(&self, running: &Running, pod: &Value, path: &str) -> String {
        if let Some((map, key)) = path.strip_suffix("']").and_then(|p| p.split_once("['")) {
            return string(pod, &["metadata", map.trim_start_matches("metadata."), key]).to_owned();
        }
        let lines = |field: &str| {
            let map = at(pod, &["metadata", field]).as_object().cloned().unwrap_or_default();
            let lines: Vec<String> = map.iter().map(|(key, value)| format!("{key}={value}")).collect();
            lines.join("\n")
        };
        match path {
            "metadata.labels" => lines("labels"),
            "metadata.annotations" => lines("annotations"),
            "status.podIP" | "status.podIPs" => running.ip(),
            "status.hostIP" | "status.hostIPs" => "127.0.0.1".to_owned(),
            other => {
                let path: Vec<&str> = other.split('.').collect();
                string(pod, &path).to_owned()
            }
        }
    }

    /// What a ConfigMap or a Secret of the Pod's namespace holds.
    pub(super) fn data(&self, pod: &Value, of: &Kind, name: &str) -> Option<Vec<(String, Vec<u8>)>> {
        let object = self.api.get(of, meta::namespace(pod), name).ok()?;
        let decode = |text: &str| {
            base64::Engine::decode(&base64::engine::general_purpose::STANDARD, text).unwrap_or_default()
        };
        let mut all = Vec::new();
        for field in ["data", "binaryData"] {
            for (key, value) in at(&object, &[field]).as_object().into_iter().flatten() {
                let text = value.as_str().unwrap_or_default();
                let plain = of.name == kinds::CONFIG_MAP.name && field == "data";
                all.push((key.clone(), if plain { text.as_bytes().to_vec() } else { decode(text) }));
            }
        }
        Some(all)
    }

    /// Credentials for registries from the Pod's pull secrets.
    pub(super) fn logins(&self, pod: &Value) -> Vec<Login> {
        let mut all = Vec::new();
        for reference in items(pod, &["spec", "imagePullSecrets"]) {
            let data = self.data(pod, &kinds::SECRET, string(reference, &["name"])).unwrap_or_default();
            let config =
                data.iter().find(|(key, _)| key == ".dockerconfigjson").map(|(_, bytes)| bytes.as_slice());
            let Ok(config) = serde_json::from_slice::<Value>(config.unwrap_or_default()) else { continue };
            for (registry, entry) in at(&config, &["auths"]).as_object().into_iter().flatten() {
                let bytes = base64::Engine::decode(
                    &base64::engine::general_purpose::STANDARD,
                    string(entry, &["auth"]),
                );
                let pair = String::from_utf8(bytes.unwrap_or_default()).unwrap_or_default();
                let (name, password) = pair.split_once(':').unwrap_or_default();
                let or =
                    |own: &str, other: &str| if own.is_empty() { other.to_owned() } else { own.to_owned() };
                all.push(Login {
                    registry: registry
                        .trim_start_matches("https://")
                        .split('/')
                        .next()
                        .unwrap_or_default()
                        .to_owned(),
                    username: or(string(entry, &["username"]), name),
                    password: or(string(entry, &["password"]), password),
                });
            }
        }
        all
    }
}

fn missing(of: &Kind, name: &str) -> Trouble {
    Trouble::new("CreateContainerConfigError", format!("{} {name:?} not found", of.singular))
}

/// A limit or request of a container, in the divisor's unit.
pub(super) fn resource(pod: &Value, container: &Value, reference: &Value, node: &NodeFacts) -> String {
    let (wanted, divisor) = (string(reference, &["resource"]), string(reference, &["divisor"]));
    let named = string(reference, &["containerName"]);
    let container = items(pod, &["spec", "containers"])
        .iter()
        .find(|c| string(c, &["name"]) == named)
        .unwrap_or(container);
    let (list, name) = wanted.split_once('.').unwrap_or(("limits", wanted));
    let said = d2k_quantity::thousandths(string(container, &["resources", list, name]));
    // Without a limit, what the node has is the limit.
    let value = said.unwrap_or_else(|| match (list, name) {
        ("limits", "cpu") => i128::from(node.cpus) * 1000,
        ("limits", "memory") => i128::from(node.memory) * 1000,
        ("limits", "ephemeral-storage") => i128::from(node.storage) * 1000,
        _ => 0,
    });
    let divisor = d2k_quantity::thousandths(divisor).filter(|d| *d > 0).unwrap_or(1000);
    (value.saturating_add(divisor - 1) / divisor).to_string()
}

/// Now, for names of folders that are exchanged.
pub(super) fn stamp() -> String {
    Timestamp::now().strftime("%Y_%m_%d_%H_%M_%S%.9f").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_replaced_and_doubled_dollars_are_one() {
        let all = vec![("A".to_owned(), "1".to_owned())];
        assert_eq!(expand("$(A) $$(A) $A $(B) 5$", &all), "1 $(A) $A $(B) 5$");
    }
}
