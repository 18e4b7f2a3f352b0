//! Requests that change something.

use axum::body::Body;
use axum::extract::Request;
use axum::http::{Method, Response};
use serde_json::{Value, json};

use super::{Front, Path, Query, body};
use crate::kinds::Kind;
use crate::meta;
use crate::patch::Format;
use crate::patch::manager::Manager;
use crate::reply::{Form, Reply};
use crate::schema::{self, Validation};
use crate::selectors::Selector;
use crate::status::{Cause, Result, Status};
use crate::verbs::{DeleteOptions, Deleted, Propagation, Target, Written, scale_of};

/// What who deletes a Job and says nothing about its Pods is told.
const PRESERVED: &str = "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress this warning";
/// Namespaces that stay.
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

impl Front {
    pub(super) async fn write(
        &self,
        kind: &'static Kind,
        path: &Path,
        request: Request,
        form: &Form,
    ) -> Result<Response<Body>> {
        let (parts, body) = request.into_parts();
        let query = Query::of(&parts.uri);
        let agent = parts.headers.get("user-agent").and_then(|v| v.to_str().ok()).unwrap_or_default();
        let options = match parts.method {
            Method::POST => "CreateOptions",
            Method::PUT => "UpdateOptions",
            Method::PATCH => "PatchOptions",
            _ => "DeleteOptions",
        };
        let target = target(kind, path, &query, agent, options)?;
        let format =
            if parts.method == Method::PATCH { Some(Format::of(body::media(&parts.headers))?) } else { None };
        check_patch(format, &query)?;
        if kind.namespaced && path.namespace.is_empty() {
            return Err(Status::no_method());
        }
        if !is_served(kind, &path.subresource) {
            return Err(Status::no_resource());
        }
        let sent = match parts.method {
            Method::PATCH => body::patch(&parts.headers, body).await,
            Method::DELETE => body::optional(&parts.headers, body, "DeleteOptions").await,
            _ => body::object(&parts.headers, body, of_body(kind, path)).await,
        };
        let sent = match (sent, format) {
            // The format that a patch has says in which words it is refused.
            (Err(status), Some(Format::Json | Format::Merge)) if status.code == 400 => {
                return Err(Status::bad_request(format!("error decoding patch: {}", status.message)));
            }
            (Err(status), None) if status.code == 400 && parts.method == Method::DELETE => {
                return Err(Status::plain(undecorated(&status.message)));
            }
            (sent, _) => sent?,
        };
        let (target, value) = (Target { twice: sent.twice, ..target }, sent.value);
        let written = match (parts.method, path.name.is_empty(), path.subresource.as_str()) {
            (Method::POST, true, "") => self.api.create(&target, value)?,
            (Method::POST, false, "eviction") if kind.name == "Pod" => {
                return self.evict(&target, &value, form);
            }
            (Method::POST, false, "binding") if kind.name == "Pod" => {
                return self.bind(&target, &value, form);
            }
            (Method::PUT, false, "finalize") if kind.name == "Namespace" => self.finalize(&target, &value)?,
            (Method::PUT, false, sub) if sub.is_empty() || kind.has(sub) => {
                self.api.update(&target, value)?
            }
            (Method::PATCH, false, sub) if sub.is_empty() || kind.has(sub) => {
                self.api.patch(&target, format.unwrap_or(Format::Merge), &value)?
            }
            (Method::DELETE, false, "") => return self.delete(&target, &query, &value, form),
            (Method::DELETE, true, "") => return self.delete_all(&target, &query, &value, form),
            (_, _, "ephemeralcontainers") if kind.name == "Pod" => return Err(Status::no_method()),
            (_, _, sub) if !sub.is_empty() && !kind.has(sub) => return Err(Status::no_resource()),
            _ => return Err(Status::no_method()),
        };
        Ok(answer(&target, &written, form))
    }

    fn delete(&self, target: &Target, query: &Query, body: &Value, form: &Form) -> Result<Response<Body>> {
        let options = delete_options(query, body)?;
        let target = &Target { dry_run: target.dry_run || options.is_dry(), ..target.clone() };
        if target.kind.name == "Namespace" && IMMORTAL.contains(&target.name.as_str()) {
            return Err(Status::forbidden(target.kind, &target.name, "this namespace may not be deleted"));
        }
        let undecided = options.propagation_policy.is_none() && options.orphan_dependents.is_none();
        let preserves = target.kind.name == "Job" && undecided;
        let mut options = options;
        if preserves {
            options.propagation_policy = Some(Propagation::Orphan);
        }
        let warnings = if preserves { vec![PRESERVED.to_owned()] } else { Vec::new() };
        let deleted = self.api.delete(target, &options)?;
        Ok(match deleted {
            Deleted::Going(object) => Reply::object(200, target.kind, &object, form),
            // Kubernetes answers with the object for some kinds, and with a Status for the others.
            Deleted::Gone(object) if answers_with_object(target.kind) => {
                Reply::object(200, target.kind, &object, form)
            }
            Deleted::Gone(object) => Reply::json(200, &success(target.kind, &object)),
        }
        .warned(&warnings)
        .response(form))
    }

    fn delete_all(
        &self,
        target: &Target,
        query: &Query,
        body: &Value,
        form: &Form,
    ) -> Result<Response<Body>> {
        if target.kind.name == "Namespace" {
            return Err(Status::no_method());
        }
        let selector = Selector::parse(query.get("labelSelector"), query.get("fieldSelector"), target.kind)?;
        let options = delete_options(query, body)?;
        let target = &Target { dry_run: target.dry_run || options.is_dry(), ..target.clone() };
        let list = self.api.list(target.kind, &target.namespace);
        let mut items = Vec::new();
        for object in list.items.into_iter().filter(|object| selector.matches(object)) {
            let one = Target { name: meta::name(&object).to_owned(), ..target.clone() };
            match self.api.delete(&one, &options) {
                Ok(Deleted::Gone(object) | Deleted::Going(object)) => items.push(object),
                Err(status) if status.code == 404 => {}
                Err(status) => return Err(status),
            }
        }
        Ok(Reply::list(target.kind, &items, &self.api.store.version().to_string(), None, form).response(form))
    }

    fn evict(&self, target: &Target, body: &Value, form: &Form) -> Result<Response<Body>> {
        let options = body.get("deleteOptions").cloned().unwrap_or(Value::Null);
        self.api.delete(target, &delete_options(&Query::default(), &options)?)?;
        let done =
            json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
        Ok(Reply::json(201, &done).response(form))
    }

    fn bind(&self, target: &Target, body: &Value, form: &Form) -> Result<Response<Body>> {
        let node = meta::string(body, &["target", "name"]).to_owned();
        if node.is_empty() {
            return Err(Status::plain("target.name: Required value"));
        }
        let own = Target { subresource: String::new(), ..target.clone() };
        self.api.change_node(&own, &node)?;
        let done =
            json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
        Ok(Reply::json(201, &done).response(form))
    }

    fn finalize(&self, target: &Target, body: &Value) -> Result<Written> {
        let (body, _) = schema::conform(target.kind, body.clone())?;
        let finalizers = meta::at(&body, &["spec", "finalizers"]).clone();
        let own = Target { subresource: String::new(), ..target.clone() };
        let object = self.api.modify(&own, |object| {
            meta::map(meta::child(object, "spec")).insert("finalizers".into(), finalizers);
        })?;
        let object = object.ok_or_else(|| Status::not_found(target.kind, &target.name))?;
        Ok(Written { object, created: false, warnings: Vec::new() })
    }
}

/// Whether there is such a subresource: what is sent to another one is not even read.
fn is_served(kind: &Kind, subresource: &str) -> bool {
    match (kind.name, subresource) {
        (_, "") | ("Pod", "eviction" | "binding" | "ephemeralcontainers") | ("Namespace", "finalize") => true,
        _ => kind.has(subresource),
    }
}

/// The kind of a body, as an error names it.
fn of_body(kind: &'static Kind, path: &Path) -> &'static str {
    match path.subresource.as_str() {
        "scale" => "Scale",
        "eviction" => "Eviction",
        "binding" => "Binding",
        _ => kind.name,
    }
}

/// An error of a body without the words about its kind and what it was.
fn undecorated(words: &str) -> String {
    let words = words.split_once("): ").map_or(words, |(_, rest)| rest);
    words.rsplit_once(" (").map_or(words, |(words, _)| words).to_owned()
}

fn target(kind: &'static Kind, path: &Path, query: &Query, agent: &str, options: &str) -> Result<Target> {
    let named = query.get("fieldManager");
    // Without a name, a client is known by its program.
    let name = if named.is_empty() { agent.split('/').next().unwrap_or_default() } else { named };
    let name = if name.is_empty() { "unknown" } else { name };
    let dry_run = match query.get("dryRun") {
        "" => false,
        "All" => true,
        other => {
            let cause = Cause::unsupported("dryRun", &json!([other]), &["All"]);
            return Err(Status::options(options, &[cause]));
        }
    };
    let validation = validation(query, options)?;
    let subresource = if kind.has(&path.subresource) { path.subresource.clone() } else { String::new() };
    Ok(Target {
        kind,
        namespace: path.namespace.clone(),
        name: path.name.clone(),
        manager: Manager {
            name: name.to_owned(),
            force: query.is("force"),
            subresource: subresource.clone(),
        },
        subresource,
        dry_run,
        validation,
        twice: Vec::new(),
    })
}

/// What a query wants done about unknown fields; `options` is `CreateOptions` and the like.
pub(super) fn validation(query: &Query, options: &str) -> Result<Validation> {
    match query.get("fieldValidation") {
        "Ignore" => Ok(Validation::Ignore),
        "Strict" => Ok(Validation::Strict),
        "" | "Warn" => Ok(Validation::Warn),
        other => {
            let cause =
                Cause::unsupported("fieldValidation", &other.into(), &["", "Ignore", "Strict", "Warn"]);
            Err(Status::options(options, &[cause]))
        }
    }
}

/// An apply needs a name; nothing else may be forced.
fn check_patch(format: Option<Format>, query: &Query) -> Result<()> {
    let cause = match format {
        Some(Format::Apply) if query.get("fieldManager").is_empty() => {
            Cause::required("fieldManager", "is required for apply patch")
        }
        Some(Format::Json | Format::Merge | Format::Strategic) if !query.get("force").is_empty() => {
            Cause::forbidden("force", "may not be specified for non-apply patch")
        }
        _ => return Ok(()),
    };
    Err(Status::options("PatchOptions", &[cause]))
}

fn delete_options(query: &Query, body: &Value) -> Result<DeleteOptions> {
    let named = meta::string(body, &["kind"]);
    if !matches!(named, "" | "DeleteOptions") {
        let version = meta::string(body, &["apiVersion"]);
        return Err(Status::plain(format!(
            "no kind {named:?} is registered for version {version:?} in scheme \"pkg/runtime/scheme.go:110\""
        )));
    }
    let mut options: DeleteOptions = match body {
        Value::Null => DeleteOptions::default(),
        body => serde_json::from_value(body.clone())
            .map_err(|e| Status::bad_request(format!("cannot read the DeleteOptions: {e}")))?,
    };
    if let Some(grace) = query.number("gracePeriodSeconds") {
        options.grace_period_seconds = Some(grace);
    }
    let policy = query.get("propagationPolicy");
    if !policy.is_empty() {
        let known: std::result::Result<Propagation, _> = serde_json::from_value(policy.into());
        let known = known.map_err(|_| {
            let known = ["Foreground", "Background", "Orphan", "nil"];
            Status::options(
                "DeleteOptions",
                &[Cause::unsupported("propagationPolicy", &policy.into(), &known)],
            )
        });
        options.propagation_policy = Some(known?);
    }
    if let (Some(policy), Some(_)) = (options.propagation_policy, options.orphan_dependents) {
        let words = "orphanDependents and deletionPropagation cannot be both set";
        let cause = Cause::invalid("propagationPolicy", &format!("{policy:?}").into(), words);
        return Err(Status::options("DeleteOptions", &[cause]));
    }
    Ok(options)
}

fn answers_with_object(kind: &Kind) -> bool {
    let of = [
        "Pod",
        "Service",
        "ServiceAccount",
        "Namespace",
        "PersistentVolume",
        "PersistentVolumeClaim",
        "StorageClass",
    ];
    of.contains(&kind.name)
}

fn success(kind: &Kind, object: &Value) -> Value {
    let mut details = json!({"name": meta::name(object), "kind": kind.plural, "uid": meta::uid(object)});
    if !kind.group.is_empty() {
        meta::map(&mut details).insert("group".into(), kind.group.into());
    }
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
}

fn answer(target: &Target, written: &Written, form: &Form) -> Response<Body> {
    let code = if written.created { 201 } else { 200 };
    let reply = if target.subresource == "scale" {
        Reply::json(code, &scale_of(&written.object))
    } else {
        Reply::object(code, target.kind, &written.object, form)
    };
    reply.warned(&written.warnings).response(form)
}
