//! Authentication by tokens: the administrator's own, and those of ServiceAccounts, which are good for as long as the account and
//! the object that they are bound to are there. The tokens of ServiceAccounts are made here, too, for the kubelet and for
//! the API (`serviceaccounts/token`). Times are seconds since 1970.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;

use super::access::{User, account_name};
use super::kinds::{self, Kind};
use super::meta;
use super::status::{Result, Status};
use super::tokens::{Bound, Claims, ISSUER, Key, LEEWAY, Reference, TokenError};
use super::verbs::Api;

/// Prefix of the further facts from a token (KEP-4193).
const EXTRA: &str = "authentication.kubernetes.io";

/// All that come with a token.
pub struct Identities {
    api: Arc<Api>,
    key: Key,
    administrator: String,
}

/// A token that is asked for.
#[derive(Debug, Clone)]
pub struct Wanted<'a> {
    /// Namespace of the account.
    pub namespace: &'a str,
    /// The account.
    pub account: &'a str,
    /// For whom it is; the API server where nobody is named.
    pub audiences: Vec<String>,
    /// Its lifetime, in seconds.
    pub seconds: i64,
    /// The object that it ends with, besides the account.
    pub bound: Option<Binding<'a>>,
}

/// An object that a token ends with: a Pod, a Secret or a Node.
#[derive(Debug, Clone)]
pub struct Binding<'a> {
    /// Its kind.
    pub kind: &'static Kind,
    /// Its name.
    pub name: &'a str,
    /// Its identifier, if only that one is meant.
    pub uid: &'a str,
}

impl Identities {
    /// Those of a cluster; `administrator` is the token of the only user that is no ServiceAccount, empty for none.
    pub fn new(api: Arc<Api>, key: Key, administrator: String) -> Self {
        Self { api, key, administrator }
    }

    /// Makes a token.
    ///
    /// # Errors
    /// 404 if the account or the object is not there, 400 if the Pod runs as another account, 409 if the object is another one of
    /// its name.
    pub fn issue(&self, wanted: &Wanted<'_>, now: i64) -> Result<String> {
        let account = self.api.get(&kinds::SERVICE_ACCOUNT, wanted.namespace, wanted.account)?;
        let mut bound = Bound {
            namespace: wanted.namespace.to_owned(),
            serviceaccount: reference(&account),
            ..Bound::default()
        };
        if let Some(binding) = &wanted.bound {
            self.bind(wanted, binding, &mut bound)?;
        }
        let aud =
            if wanted.audiences.is_empty() { vec![ISSUER.to_owned()] } else { wanted.audiences.clone() };
        let claims = Claims {
            iss: ISSUER.to_owned(),
            sub: account_name(wanted.namespace, wanted.account),
            aud,
            exp: now.saturating_add(wanted.seconds),
            iat: now,
            nbf: now,
            jti: meta::new_uid(),
            bound,
        };
        let token = self.key.sign(&claims);
        token.map_err(|error| Status::internal(format!("failed to generate token: {error}")))
    }

    fn bind(&self, wanted: &Wanted<'_>, binding: &Binding<'_>, bound: &mut Bound) -> Result<()> {
        let Binding { kind, name, uid } = *binding;
        let namespace = if kind.namespaced { wanted.namespace } else { "" };
        let object = self.api.get(kind, namespace, name)?;
        let is_pod = kind.name == kinds::POD.name;
        if is_pod && meta::string(&object, &["spec", "serviceAccountName"]) != wanted.account {
            return Err(Status::bad_request(format!(
                "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
                wanted.account
            )));
        }
        if !uid.is_empty() && uid != meta::uid(&object) {
            let words = format!(
                "the UID in the bound object reference ({uid}) does not match the UID in record. The object might \
                 have been deleted and then recreated"
            );
            return Err(Status::conflict_of_kind(kind, name, &words));
        }
        let slot = match kind.name {
            "Pod" => &mut bound.pod,
            "Secret" => &mut bound.secret,
            _ => &mut bound.node,
        };
        *slot = Some(reference(&object));
        let node = meta::string(&object, &["spec", "nodeName"]);
        if is_pod && !node.is_empty() {
            let there = self.api.get(&kinds::NODE, "", node).ok();
            let nameless = || Reference { name: node.to_owned(), ..Reference::default() };
            bound.node = Some(there.map_or_else(nameless, |node| reference(&node)));
        }
        Ok(())
    }

    /// The user of a token, and those of these audiences that it was made for.
    ///
    /// # Errors
    /// It is nobody's, none for these audiences, not now, or what it was bound to has gone.
    pub fn of_token(
        &self,
        token: &str,
        audiences: &[String],
        now: i64,
    ) -> std::result::Result<(User, Vec<String>), TokenError> {
        let for_api: Vec<String> = audiences.iter().filter(|one| *one == ISSUER).cloned().collect();
        if is_same(token, &self.administrator) && !for_api.is_empty() {
            return Ok((User::administrator(), for_api));
        }
        let claims = self.key.read(token)?;
        let shared: Vec<String> = claims.aud.iter().filter(|one| audiences.contains(one)).cloned().collect();
        if shared.is_empty() {
            return Err(TokenError::Audience { has: claims.aud, wanted: audiences.to_vec() });
        }
        claims.check_time(now)?;
        self.require_bound(&claims.bound, now)?;
        Ok((user(&claims), shared))
    }

    /// All that a token is bound to is there.
    fn require_bound(&self, bound: &Bound, now: i64) -> std::result::Result<(), TokenError> {
        let namespace = bound.namespace.as_str();
        // The Node of a Pod is only told; the token ends with the Pod.
        let node = bound.node.as_ref().filter(|_| bound.pod.is_none());
        let all = [
            (&kinds::SERVICE_ACCOUNT, namespace, Some(&bound.serviceaccount)),
            (&kinds::POD, namespace, bound.pod.as_ref()),
            (&kinds::SECRET, namespace, bound.secret.as_ref()),
            (&kinds::NODE, "", node),
        ];
        for (kind, namespace, reference) in all {
            let Some(reference) = reference else { continue };
            let object = self.api.store.get(kind, namespace, &reference.name);
            let object = object.filter(|object| meta::uid(object) == reference.uid);
            if object.is_none_or(|object| is_over(&object, now)) {
                return Err(TokenError::Invalidated);
            }
        }
        Ok(())
    }
}

/// Whether an object should have been gone for a while: one that ends may use its token until then.
fn is_over(object: &Value, now: i64) -> bool {
    let end: Option<Timestamp> = meta::text(object, "deletionTimestamp").parse().ok();
    end.is_some_and(|end| end.as_second() < now.saturating_sub(LEEWAY))
}

fn reference(object: &Value) -> Reference {
    Reference { name: meta::name(object).to_owned(), uid: meta::uid(object).to_owned() }
}

fn user(claims: &Claims) -> User {
    let (bound, account) = (&claims.bound, &claims.bound.serviceaccount);
    let mut user = User::account(&bound.namespace, &account.name, &account.uid);
    let mut tell = |field: &str, value: &str| {
        if !value.is_empty() {
            user.extra.insert(format!("{EXTRA}/{field}"), vec![value.to_owned()]);
        }
    };
    tell("credential-id", &format!("JTI={}", claims.jti));
    for (what, reference) in [("pod", &bound.pod), ("node", &bound.node)] {
        if let Some(reference) = reference {
            tell(&format!("{what}-name"), &reference.name);
            tell(&format!("{what}-uid"), &reference.uid);
        }
    }
    user
}

/// Whether a secret is the one that is given; as long for a wrong one as for the right one. An empty one is none.
fn is_same(given: &str, secret: &str) -> bool {
    let differs = given.len() ^ secret.len()
        | given.bytes().zip(secret.bytes()).fold(0, |sum, (a, b)| sum | usize::from(a ^ b));
    differs == 0 && !secret.is_empty()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::store::Store;
    use crate::tokens::testing::key;
    use crate::verbs::{DeleteOptions, Settings, Target};

    const NOW: i64 = 1_800_000_000;

    fn make(api: &Api, kind: &'static Kind, object: Value) -> Arc<Value> {
        let namespace = if kind.namespaced { "default" } else { "" };
        api.create(&Target::own(kind, namespace, ""), object).unwrap().object
    }

    fn remove(api: &Api, kind: &'static Kind, name: &str) {
        let options = DeleteOptions { grace_period_seconds: Some(0), ..DeleteOptions::default() };
        api.delete(&Target::own(kind, "default", name), &options).unwrap();
    }

    fn pod(name: &str) -> Value {
        json!({
            "metadata": {"name": name},
            "spec": {"nodeName": "node", "containers": [{"name": "c", "image": "i"}]},
        })
    }

    /// A cluster with the account `default`, and the Pod `pod` on the Node `node`.
    fn cluster() -> Identities {
        let api = Arc::new(Api::new(Store::in_memory(), Settings::default()));
        make(&api, &kinds::NAMESPACE, json!({"metadata": {"name": "default"}}));
        make(&api, &kinds::NODE, json!({"metadata": {"name": "node"}}));
        make(&api, &kinds::SERVICE_ACCOUNT, json!({"metadata": {"name": "default"}}));
        make(&api, &kinds::POD, pod("pod"));
        Identities::new(api, key(), "secret".into())
    }

    fn of(kind: &'static Kind, name: &'static str) -> Wanted<'static> {
        let bound = Some(Binding { kind, name, uid: "" });
        Wanted { namespace: "default", account: "default", audiences: Vec::new(), seconds: 600, bound }
    }

    fn api_server() -> Vec<String> {
        vec![ISSUER.to_owned()]
    }

    #[test]
    fn the_token_of_a_pod_is_its_accounts_and_tells_of_the_pod() {
        let cluster = cluster();
        let token = cluster.issue(&of(&kinds::POD, "pod"), NOW).unwrap();
        let (user, audiences) = cluster.of_token(&token, &api_server(), NOW).unwrap();
        assert_eq!(audiences, api_server());
        assert_eq!(user.name, "system:serviceaccount:default:default");
        let groups = ["system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"];
        assert_eq!(user.groups, groups);
        let uid_of =
            |kind, namespace, name| meta::uid(&cluster.api.get(kind, namespace, name).unwrap()).to_owned();
        assert_eq!(user.uid, uid_of(&kinds::SERVICE_ACCOUNT, "default", "default"));
        let told = |field: &str| user.extra[&format!("{EXTRA}/{field}")][0].clone();
        assert_eq!(["pod-name", "node-name"].map(told), ["pod", "node"]);
        assert_eq!(told("pod-uid"), uid_of(&kinds::POD, "default", "pod"));
        assert_eq!(told("node-uid"), uid_of(&kinds::NODE, "", "node"));
        assert!(told("credential-id").starts_with("JTI="));
    }

    #[test]
    fn a_token_ends_in_time_and_with_the_clock_that_goes_back() {
        let cluster = cluster();
        let token = cluster.issue(&of(&kinds::POD, "pod"), NOW).unwrap();
        let at = |now| cluster.of_token(&token, &api_server(), now).map(|_| ());
        assert_eq!(at(NOW + 600), Ok(()));
        assert_eq!(at(NOW + 600 + LEEWAY + 1), Err(TokenError::Expired));
        assert_eq!(at(0), Err(TokenError::Early));
    }

    #[test]
    fn a_token_for_others_is_none_for_the_api_server() {
        let cluster = cluster();
        let audiences = vec!["vault".to_owned(), "other".to_owned()];
        let wanted = Wanted { audiences: audiences.clone(), ..of(&kinds::POD, "pod") };
        let token = cluster.issue(&wanted, NOW).unwrap();
        let words = cluster.of_token(&token, &api_server(), NOW).unwrap_err().to_string();
        let wanted = "token audiences [\"vault\", \"other\"] is invalid for the target audiences \
                      [\"https://kubernetes.default.svc.cluster.local\"]";
        assert_eq!(words, wanted);
        let (_, shared) = cluster.of_token(&token, &["other".to_owned(), "x".to_owned()], NOW).unwrap();
        assert_eq!(shared, ["other"]);
    }

    #[test]
    fn a_token_goes_with_its_pod_and_is_not_that_of_the_next_one_of_the_name() {
        let cluster = cluster();
        let token = cluster.issue(&of(&kinds::POD, "pod"), NOW).unwrap();
        let now = || cluster.of_token(&token, &api_server(), NOW).map(|_| ());
        assert_eq!(now(), Ok(()));
        remove(&cluster.api, &kinds::POD, "pod");
        assert_eq!(now(), Err(TokenError::Invalidated));
        make(&cluster.api, &kinds::POD, pod("pod"));
        assert_eq!(now(), Err(TokenError::Invalidated));
    }

    #[test]
    fn a_pod_that_ends_has_its_token_until_it_should_be_gone() {
        let cluster = cluster();
        let begin = Timestamp::now().as_second();
        let token = cluster.issue(&of(&kinds::POD, "pod"), begin).unwrap();
        let options = DeleteOptions { grace_period_seconds: Some(30), ..DeleteOptions::default() };
        cluster.api.delete(&Target::own(&kinds::POD, "default", "pod"), &options).unwrap();
        let at = |later| cluster.of_token(&token, &api_server(), begin + later).map(|_| ());
        assert_eq!(at(30), Ok(()));
        // The delete may have been a few seconds later.
        assert_eq!(at(30 + LEEWAY + 10), Err(TokenError::Invalidated));
    }

    #[test]
    fn a_token_goes_with_its_account_and_is_not_that_of_the_next_one_of_the_name() {
        let cluster = cluster();
        let token = cluster.issue(&Wanted { bound: None, ..of(&kinds::POD, "") }, NOW).unwrap();
        let now = || cluster.of_token(&token, &api_server(), NOW).map(|_| ());
        assert_eq!(now(), Ok(()));
        remove(&cluster.api, &kinds::SERVICE_ACCOUNT, "default");
        assert_eq!(now(), Err(TokenError::Invalidated));
        make(&cluster.api, &kinds::SERVICE_ACCOUNT, json!({"metadata": {"name": "default"}}));
        assert_eq!(now(), Err(TokenError::Invalidated));
    }

    #[test]
    fn a_token_can_be_bound_to_a_secret_and_to_a_node() {
        let cluster = cluster();
        make(&cluster.api, &kinds::SECRET, json!({"metadata": {"name": "s"}}));
        let secret = cluster.issue(&of(&kinds::SECRET, "s"), NOW).unwrap();
        let node = cluster.issue(&of(&kinds::NODE, "node"), NOW).unwrap();
        let is_good = |token: &str| cluster.of_token(token, &api_server(), NOW).is_ok();
        assert!(is_good(&secret) && is_good(&node));
        remove(&cluster.api, &kinds::SECRET, "s");
        assert!(!is_good(&secret));
        let of_pod = cluster.issue(&of(&kinds::POD, "pod"), NOW).unwrap();
        cluster.api.delete(&Target::own(&kinds::NODE, "", "node"), &DeleteOptions::default()).unwrap();
        assert!(!is_good(&node));
        assert!(is_good(&of_pod), "it ends with the Pod, not with the Node");
        cluster.issue(&of(&kinds::POD, "pod"), NOW).unwrap();
    }

    #[test]
    fn tokens_are_refused_for_what_is_not_there_or_another_one() {
        let cluster = cluster();
        make(&cluster.api, &kinds::SERVICE_ACCOUNT, json!({"metadata": {"name": "other"}}));
        let refused = |wanted: Wanted<'_>| {
            let status = cluster.issue(&wanted, NOW).unwrap_err();
            (status.code, status.message)
        };
        let no_account = Wanted { account: "none", ..of(&kinds::POD, "pod") };
        assert_eq!(refused(no_account), (404, "serviceaccounts \"none\" not found".to_owned()));
        assert_eq!(refused(of(&kinds::POD, "none")), (404, "pods \"none\" not found".to_owned()));
        let words = "cannot bind token for serviceaccount \"other\" to pod running with different serviceaccount name.";
        let other = Wanted { account: "other", ..of(&kinds::POD, "pod") };
        assert_eq!(refused(other), (400, words.to_owned()));
        let bound = Some(Binding { kind: &kinds::POD, name: "pod", uid: "x" });
        let words = "Operation cannot be fulfilled on Pod \"pod\": the UID in the bound object reference (x) does not \
                     match the UID in record. The object might have been deleted and then recreated";
        assert_eq!(refused(Wanted { bound, ..of(&kinds::POD, "pod") }), (409, words.to_owned()));
    }

    #[test]
    fn the_token_of_the_administrator_is_known_by_all_of_it() {
        let cluster = cluster();
        let user = |token: &str| cluster.of_token(token, &api_server(), NOW).map(|(user, _)| user);
        assert_eq!(user("secret"), Ok(User::administrator()));
        for wrong in ["", "secre", "secret ", "secrets", "Secret"] {
            assert_eq!(user(wrong), Err(TokenError::Unknown), "{wrong:?}");
        }
        assert_eq!(cluster.of_token("secret", &["other".to_owned()], NOW), Err(TokenError::Unknown));
        let none = Identities { administrator: String::new(), ..self::cluster() };
        assert_eq!(none.of_token("", &api_server(), NOW), Err(TokenError::Unknown));
    }
}
