//! A cluster without a kubelet, for the tests of controllers.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value, json};

use super::storage::Folders;
use super::{Context, furnish};
use crate::conditions::set_condition;
use crate::kinds::{self, Kind};
use crate::meta;
use crate::store::Store;
use crate::verbs::{Api, Settings, Target};

/// A cluster with the namespace `default` and the Node `node`.
pub fn context() -> Context {
    let api = Arc::new(Api::new(Store::in_memory(), Settings::default()));
    let context = Context {
        api,
        storage: Arc::new(Folders(PathBuf::new())),
        node: "node".to_owned(),
        address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        authority: String::new(),
    };
    let create = |kind, object| context.api.create(&Target::own(kind, "", ""), object).unwrap();
    create(&kinds::NAMESPACE, json!({"metadata": {"name": "default"}}));
    create(&kinds::NODE, json!({"metadata": {"name": "node", "labels": {"disk": "fast"}}}));
    furnish(&context.api, "default", "");
    context
}

/// Makes an object in the namespace `default`.
pub fn make(context: &Context, kind: &'static Kind, object: Value) -> Arc<Value> {
    context.api.create(&Target::own(kind, "default", ""), object).unwrap().object
}

/// The names of all objects of a kind.
pub fn names(context: &Context, kind: &Kind) -> Vec<String> {
    let mut names: Vec<String> =
        context.api.list(kind, "default").items.iter().map(|object| meta::name(object).to_owned()).collect();
    names.sort_unstable();
    names
}

/// What the kubelet says of a Pod that runs and is ready.
pub fn be_ready(context: &Context, pod: &str) {
    let target = Target::own(&kinds::POD, "default", pod).of("status");
    let ready = context.api.modify(&target, |pod| {
        meta::map(meta::child(pod, "status")).insert("phase".into(), "Running".into());
        set_condition(pod, "Ready", true, "", "");
    });
    ready.unwrap();
}
