//! Registry logins for the kubelet: credentials that opened an image for a client become a Secret, which
//! only the Pods of containers name that this client creates.
//!
//! Docker's clients send credentials with a pull and none with the create that follows. The two are tied
//! together by the client (its certificate, its user on this machine, else its address) and the
//! repository. There is one Secret for each repository and user, so that a token for one repository does
//! not replace that for another. It is written only if the registry refuses the image without these
//! credentials and gives it with them: a public image names no Secret, and so does not break with a stale
//! login. Where the registry cannot be asked, the credentials are unchecked: they get a Secret of their
//! own for this client alone.
//!
//! Beside each Secret lies a ConfigMap of the same name, which tells what it is for and who presented
//! it: d2k must not list Secrets, and all d2k of a namespace must know. It is there also where no Secret
//! can be made (a token that no kubelet takes, a Role without rights on Secrets): the nodes may have
//! credentials of their own. Both are deleted when the registry refuses the credentials, and when no
//! workload names them ([`super::collect_logins`]).

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, LocalObjectReference, PodSpec, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::Daemon;
use d2k_common::fault::{Kind, Result};
use d2k_common::image::{Access, ImageFacts};
use d2k_registry::{Credentials, Reference, RegistryErrorKind};
use d2k_translate::keys::{self, role};
use d2k_translate::record::Record;

/// How long a login serves the creates of a client that is known by its address only: addresses of Pods
/// are given to others.
const ADDRESS_HOURS: i64 = 12;
/// How long it serves a client that is known by its certificate, or as a user of this machine.
const KNOWN_DAYS: i64 = 30;
/// Most clients that are remembered of one login, the latest; a ConfigMap has 1 MiB.
const MAX_CLIENTS: usize = 512;
/// Prefix of the names of Secrets with logins.
const PREFIX: &str = "d2k-registry-";
/// Hex digits in the names that an earlier version gave; those of today have 32.
const EARLIER_HASH: usize = 16;
/// The key of a Secret of the type `kubernetes.io/dockerconfigjson`.
const CONFIG: &str = ".dockerconfigjson";

/// Keys of the ConfigMap.
const REPOSITORY: &str = "repository";
const IMAGE: &str = "image";
const UNCHECKED: &str = "unchecked";
const SECRET: &str = "secret";
const CLIENT: &str = "client-";

/// The contents of the ConfigMap beside a Secret.
pub(super) struct Login<'a>(&'a ConfigMap);

impl<'a> Login<'a> {
    pub(super) fn of(map: &'a ConfigMap) -> Option<Self> {
        (map.metadata.labels.as_ref()?.get(keys::ROLE)? == role::REGISTRY).then_some(Self(map))
    }

    fn field(&self, key: &str) -> &str {
        self.0.data.as_ref().and_then(|data| data.get(key)).map_or("", String::as_str)
    }

    /// Name of the Secret, and of the ConfigMap.
    pub(super) fn name(&self) -> &str {
        self.0.metadata.name.as_deref().unwrap_or_default()
    }

    /// The repository that it opens, with its registry.
    pub(super) fn repository(&self) -> &str {
        self.field(REPOSITORY)
    }

    /// The image for which it was presented last.
    pub(super) fn image(&self) -> Option<Reference> {
        Reference::parse(self.field(IMAGE)).ok()
    }

    /// The Secret, if one could be made.
    fn secret(&self) -> Option<String> {
        (!self.field(SECRET).is_empty()).then(|| self.name().to_owned())
    }

    /// The clients that presented it.
    fn clients(&self) -> impl Iterator<Item = Client<'_>> {
        let all = self.0.data.iter().flatten().filter(|(key, _)| key.starts_with(CLIENT));
        all.filter_map(|(key, value)| {
            let (time, name) = value.split_once(' ')?;
            Some(Client { key, name, presented: time.parse().ok()? })
        })
    }

    /// When anybody presented it last.
    pub(super) fn presented(&self) -> Option<Timestamp> {
        self.clients().map(|client| client.presented).max()
    }

    /// The keys of clients that need not be remembered any more, before one more is noted.
    fn stale(&self) -> Vec<String> {
        let mut all: Vec<Client<'_>> = self.clients().collect();
        all.sort_by_key(|client| std::cmp::Reverse(client.presented));
        let stale =
            all.iter().enumerate().filter(|(at, client)| *at + 1 >= MAX_CLIENTS || !client.is_served());
        stale.map(|(_, client)| client.key.to_owned()).collect()
    }

    fn serves(&self, client: &str, repository: &str) -> bool {
        let own = client_key(client);
        self.repository() == repository
            && self.clients().any(|client| client.key == own && client.is_served())
    }
}

/// A client that has presented a login.
struct Client<'a> {
    /// Its key in the ConfigMap.
    key: &'a str,
    /// Its identity (`peer.rs` of the HTTP front).
    name: &'a str,
    presented: Timestamp,
}

impl Client<'_> {
    /// Whether the login serves it still.
    fn is_served(&self) -> bool {
        let is_address = self.name.is_empty() || self.name.starts_with("address ");
        let hours = if is_address { ADDRESS_HOURS } else { KNOWN_DAYS * 24 };
        Timestamp::now().duration_since(self.presented) < SignedDuration::from_hours(hours)
    }
}

fn hash(text: &str) -> String {
    let hash = hex::encode(Sha256::digest(text));
    hash.get(..32).unwrap_or(&hash).to_owned()
}

fn client_key(client: &str) -> String {
    format!("{CLIENT}{}", hash(client))
}

/// The result of checking credentials.
enum Verdict {
    /// The image is given without them.
    NotNeeded,
    /// They open the image, and nothing else does.
    Needed,
    /// The registry could not be asked.
    Unchecked,
}

impl Daemon {
    /// Finds out how an image was opened that a registry has just described, and keeps the credentials
    /// that this took. The name of their Secret, which the containers of this client need.
    pub(crate) async fn opened(
        &self,
        facts: &mut ImageFacts,
        credentials: Option<&Credentials>,
        client: &str,
    ) -> Option<String> {
        let reference = Reference::parse(&facts.reference).ok()?;
        let Some(credentials) = credentials else {
            if !facts.synthesised {
                facts.access = Access::Public;
            }
            return None;
        };
        let verdict = match facts.synthesised {
            true => Verdict::Unchecked,
            false => match self.registry.opens(&reference, None).await.map_err(|error| error.kind) {
                Ok(()) => Verdict::NotNeeded,
                Err(RegistryErrorKind::Unreachable | RegistryErrorKind::Other) => Verdict::Unchecked,
                Err(_) => Verdict::Needed,
            },
        };
        facts.access = match verdict {
            Verdict::NotNeeded => Access::Public,
            Verdict::Needed => Access::Private,
            Verdict::Unchecked => Access::Unknown,
        };
        match verdict {
            Verdict::NotNeeded => None,
            Verdict::Needed => self.keep_login(&reference, credentials, client, true).await,
            Verdict::Unchecked => self.keep_login(&reference, credentials, client, false).await,
        }
    }

    /// Notes a login and writes its Secret.
    async fn keep_login(
        &self,
        reference: &Reference,
        credentials: &Credentials,
        client: &str,
        checked: bool,
    ) -> Option<String> {
        let name = login_name(reference, credentials, (!checked).then_some(client));
        let config = credentials.docker_config_json(reference);
        let mut data = Map::from_iter([
            (REPOSITORY.to_owned(), json!(reference.name())),
            (IMAGE.to_owned(), json!(reference.to_string())),
            (client_key(client), json!(format!("{} {client}", Timestamp::now()))),
            (SECRET.to_owned(), config.as_ref().map_or(Value::Null, |_| json!(name))),
            (UNCHECKED.to_owned(), if checked { Value::Null } else { json!("true") }),
        ]);
        if let Some(known) = self.cluster.cache::<ConfigMap>().get(&name)
            && let Some(login) = Login::of(&known.object)
        {
            let stale = login.stale().into_iter().filter(|key| *key != client_key(client));
            data.extend(stale.map(|key| (key, Value::Null)));
        }
        if let Err(error) = self.note_login(&name, &data).await {
            tracing::warn!(image = %reference, %error, "a login was not noted; the client must pull again to use it");
            return None;
        }
        // A kubelet takes a user with a password, and nothing else.
        let secret = secret(&name, config?);
        let Err(error) = self.cluster.apply(&secret).await else { return Some(name) };
        tracing::warn!(image = %reference, %error, "the credentials were not kept for the nodes");
        data.insert(SECRET.to_owned(), Value::Null);
        if let Err(error) = self.note_login(&name, &data).await {
            tracing::warn!(image = %reference, %error, "that a login has no Secret was not noted");
        }
        None
    }

    /// Writes the ConfigMap of a login; a null takes a key away. Each client has a key of its own, so that
    /// two of them do not undo one another's note.
    async fn note_login(&self, name: &str, data: &Map<String, Value>) -> Result<()> {
        match self.cluster.patch::<ConfigMap>(name, &json!({"data": data})).await {
            Err(fault) if fault.kind == Kind::NotFound => {}
            written => return written.map(|_| ()),
        }
        let text = |(key, value): (&String, &Value)| Some((key.clone(), value.as_str()?.to_owned()));
        let map = ConfigMap {
            metadata: metadata(name),
            data: Some(data.iter().filter_map(text).collect()),
            ..ConfigMap::default()
        };
        match self.cluster.create(&map).await {
            Err(fault) if fault.kind == Kind::Conflict => {
                self.cluster.patch::<ConfigMap>(name, &json!({"data": data})).await.map(|_| ())
            }
            made => made.map(|_| ()),
        }
    }

    /// Whether a client has presented a login for a repository, and the Secret with it. A login that a
    /// registry took goes before one that is unchecked.
    pub(crate) fn login_of(&self, reference: &Reference, client: &str) -> Option<Option<String>> {
        let maps = self.cluster.cache::<ConfigMap>().all();
        let repository = reference.name();
        let logins = maps.iter().filter_map(|entry| Login::of(&entry.object));
        let serving = logins.filter(|login| login.serves(client, &repository));
        let best = serving.max_by_key(|login| (login.field(UNCHECKED).is_empty(), login.presented()));
        best.map(|login| login.secret())
    }

    /// A registry has refused credentials: the Secret goes if it has these. Another password of the same
    /// user is somebody's mistake, and harms nobody.
    pub(crate) async fn refused(&self, reference: &Reference, credentials: &Credentials, client: &str) {
        let Some(config) = credentials.docker_config_json(reference) else { return };
        for own in [None, Some(client)] {
            let name = login_name(reference, credentials, own);
            if self.cluster.cache::<ConfigMap>().get(&name).is_none() {
                continue;
            }
            if self.kept_config(&name).await.as_deref() == Some(&config) {
                self.forget_login(&name).await;
            }
        }
    }

    /// The text of the Secret with a login.
    async fn kept_config(&self, name: &str) -> Option<String> {
        let secret = self.cluster.read::<Secret>(name).await.ok()??;
        String::from_utf8(secret.data?.remove(CONFIG)?.0).ok()
    }

    /// Whether the registry refuses the credentials of a login that was good once.
    pub(super) async fn is_refused_now(&self, login: &Login<'_>) -> bool {
        let Some(reference) = login.image() else { return false };
        let Some(config) = self.kept_config(login.name()).await else { return false };
        let Some(credentials) = Credentials::from_docker_config_json(&config) else { return true };
        let opened = self.registry.opens(&reference, Some(&credentials)).await;
        opened.is_err_and(|error| {
            matches!(error.kind, RegistryErrorKind::Denied | RegistryErrorKind::BadCredentials)
        })
    }

    /// Deletes a Secret and, after it, the ConfigMap that tells of it.
    pub(super) async fn forget_login(&self, name: &str) {
        let deleted = async {
            self.cluster.delete_uncached::<Secret>(name).await?;
            self.cluster.delete::<ConfigMap>(name, None).await
        };
        if let Err(error) = deleted.await {
            tracing::warn!(secret = name, %error, "a login that serves nobody was not deleted");
        }
    }

    /// The Secrets that a container's Pods need to pull its image: the one that its own create noted; of a
    /// container of an earlier version those that its workload names.
    pub(crate) fn pull_secrets(&self, record: &Record) -> Vec<String> {
        if let Some(secret) = &record.pull_secret {
            return vec![secret.clone()];
        }
        let deployment = self.cluster.cache::<Deployment>().get(&record.object);
        let job = self.cluster.cache::<Job>().get(&record.object);
        let of_deployment = deployment.as_ref().and_then(|d| d.object.spec.as_ref()?.template.spec.as_ref());
        let of_job = job.as_ref().and_then(|j| j.object.spec.as_ref()?.template.spec.as_ref());
        of_deployment.into_iter().chain(of_job).flat_map(named_by).collect()
    }
}

/// The Secrets with logins that a Pod names.
pub(super) fn named_by(spec: &PodSpec) -> impl Iterator<Item = String> {
    let all: &[LocalObjectReference] = spec.image_pull_secrets.as_deref().unwrap_or_default();
    all.iter().map(|secret| secret.name.clone()).filter(|name| name.starts_with(PREFIX))
}

/// The name that an earlier version gave to the one Secret of a registry.
pub(super) fn earlier_name(registry: &str) -> String {
    let hash = hex::encode(Sha256::digest(registry));
    format!("{PREFIX}{}", hash.get(..EARLIER_HASH).unwrap_or(&hash))
}

/// Whether a Secret is called as an earlier version did.
pub(super) fn is_earlier(name: &str) -> bool {
    name.strip_prefix(PREFIX).is_some_and(|hash| hash.len() == EARLIER_HASH)
}

/// The name of a login's Secret and ConfigMap. Unchecked credentials have their own for each client.
fn login_name(reference: &Reference, credentials: &Credentials, only: Option<&str>) -> String {
    let (user, _) = credentials.pair();
    let whose = only.map_or(String::new(), |client| format!("\nunchecked, of {client}"));
    format!("{PREFIX}{}", hash(&format!("{}\n{user}{whose}", reference.name())))
}

fn metadata(name: &str) -> ObjectMeta {
    let labels = [
        (keys::ROLE.to_owned(), role::REGISTRY.to_owned()),
        ("app.kubernetes.io/managed-by".to_owned(), "d2k".to_owned()),
    ];
    ObjectMeta { name: Some(name.to_owned()), labels: Some(labels.into()), ..ObjectMeta::default() }
}

fn secret(name: &str, config: String) -> Secret {
    Secret {
        metadata: metadata(name),
        type_: Some("kubernetes.io/dockerconfigjson".into()),
        data: Some(BTreeMap::from([(CONFIG.to_owned(), ByteString(config.into_bytes()))])),
        ..Secret::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(clients: &[(String, i64)]) -> ConfigMap {
        let line = |(name, hours): &(String, i64)| {
            let presented = Timestamp::now() - SignedDuration::from_hours(*hours);
            (client_key(name), format!("{presented} {name}"))
        };
        let mut data: BTreeMap<String, String> = clients.iter().map(line).collect();
        data.insert(REPOSITORY.to_owned(), "r:5000/app".to_owned());
        ConfigMap { metadata: metadata("d2k-registry-x"), data: Some(data), ..ConfigMap::default() }
    }

    fn clients(all: &[(&str, i64)]) -> Vec<(String, i64)> {
        all.iter().map(|(name, hours)| ((*name).to_owned(), *hours)).collect()
    }

    #[test]
    fn a_login_serves_an_address_for_hours_and_a_known_client_for_days() {
        let map = login(&clients(&[
            ("address 10.0.0.1", 1),
            ("address 10.0.0.2", 13),
            ("user 1000", 200),
            ("certificate ab", 24 * 31),
        ]));
        let login = Login::of(&map).expect("a login");
        let serves = |client: &str| login.serves(client, "r:5000/app");
        assert!(serves("address 10.0.0.1") && serves("user 1000"));
        assert!(!serves("address 10.0.0.2") && !serves("certificate ab") && !serves("address 10.0.0.3"));
        assert!(!login.serves("user 1000", "r:5000/other"));
        let mut stale = login.stale();
        stale.sort();
        let mut expected = ["address 10.0.0.2", "certificate ab"].map(client_key);
        expected.sort();
        assert_eq!(stale, expected);
    }

    #[test]
    fn the_clients_of_a_login_are_bounded() {
        let many: Vec<(String, i64)> = (0..600).map(|number| (format!("user {number}"), number)).collect();
        let map = login(&many);
        let stale = Login::of(&map).expect("a login").stale();
        assert_eq!(many.len() - stale.len(), MAX_CLIENTS - 1, "one more has room");
        assert!(stale.contains(&client_key("user 599")) && !stale.contains(&client_key("user 0")));
    }
}
