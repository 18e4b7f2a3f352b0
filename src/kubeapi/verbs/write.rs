//! Create, update and patch.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::{Api, CONTROLLERS, Target, Written};
use crate::kinds::{self, Kind};
use crate::patch::{self, Format, apply};
use crate::status::{Cause, Result, Status};
use crate::store::Write;
use crate::{admission, defaults, meta, packed, schema, validate, warnings};

/// Metadata that only the server writes.
const OWN: &[&str] =
    &["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation"];

/// Length of what is put behind a name that is to be made.
const SUFFIX: usize = 5;
/// Length that is taken of its beginning.
const LONGEST_PREFIX: usize = 63 - SUFFIX;

/// A write, which a client's request does not get around the journal.
fn wanted(target: &Target, object: Value) -> Write {
    if target.manager.name == CONTROLLERS { Write::Put(object) } else { Write::Make(object) }
}

impl Api {
    /// Creates an object.
    ///
    /// # Errors
    /// 409 if the name is taken, 422 if it is wrong, and so on.
    pub fn create(&self, target: &Target, object: Value) -> Result<Written> {
        let (mut object, mut warnings) = read(target, object)?;
        if !meta::text(&object, "resourceVersion").is_empty() {
            return Err(Status::plain("resourceVersion should not be set on objects to be created"));
        }
        if meta::name(&object).is_empty() && !meta::text(&object, "generateName").is_empty() {
            let name = generated(meta::text(&object, "generateName"));
            meta::set(&mut object, "name", name);
        }
        let name = meta::name(&object).to_owned();
        self.require_namespace(target, &name)?;
        self.prepare(target, &mut object)?;
        warnings.extend(self.warnings(target, &object, None));
        if meta::items(&object, &["metadata", "managedFields"]).is_empty() {
            apply::track(target.kind, &Value::Null, &mut object, &target.manager);
        }
        if target.dry_run {
            if self.store.get(target.kind, &target.namespace, &name).is_some() {
                return Err(Status::exists(target.kind, &name));
            }
            return Ok(Written { object: Arc::new(object), created: true, warnings });
        }
        let object = self.store.write(target.kind, &target.namespace, &name, |there| match there {
            Some(_) => Err(Status::exists(target.kind, &name)),
            None => Ok(wanted(target, object)),
        })?;
        Ok(Written { object, created: true, warnings })
    }

    /// Everything that a new object gets from the server.
    fn prepare(&self, target: &Target, object: &mut Value) -> Result<()> {
        let kind = target.kind;
        // What stands for something outside keeps its identity.
        let own = target.manager.name == CONTROLLERS && !meta::uid(object).is_empty();
        let uid = own.then(|| meta::uid(object).to_owned());
        // Who has a generation of its own does not take one; the others keep what they were given.
        for field in OWN.iter().filter(|field| kind.generation || **field != "generation") {
            meta::unset(object, field);
        }
        meta::unset(object, "selfLink");
        if kind.namespaced {
            meta::set(object, "namespace", target.namespace.as_str());
        } else {
            meta::unset(object, "namespace");
        }
        meta::set(object, "uid", uid.unwrap_or_else(meta::new_uid));
        meta::set(object, "creationTimestamp", meta::now());
        if kind.generation {
            meta::set(object, "generation", 1);
        }
        // A Node and a volume are made by their own controllers, status and all.
        if kind.status && !matches!(kind.name, "Node" | "PersistentVolume") {
            meta::map(object).remove("status");
        }
        if kind.name == "Pod" {
            admission::admit(&self.store, &target.namespace, object)?;
        }
        defaults::fill(kind, object);
        defaults::daemon_set::count(kind, object, None);
        defaults::disable(kind, object);
        *object = schema::normal(kind, std::mem::take(object));
        // A claim gets its class before it is checked, a Service its addresses after.
        let service = kind.name == "Service";
        if !service {
            self.allocate(target, object, None)?;
        }
        let causes = validate::check(kind, object, None);
        if !causes.is_empty() {
            return Err(Status::invalid(kind, meta::name(object), &causes));
        }
        if service { self.allocate(target, object, None) } else { Ok(()) }
    }

    /// The warnings about what a client has written; the parts of the cluster itself need none.
    fn warnings(&self, target: &Target, object: &Value, old: Option<&Value>) -> Vec<String> {
        let own = target.manager.name == CONTROLLERS;
        if own || !matches!(target.subresource.as_str(), "" | "scale") {
            return Vec::new();
        }
        warnings::of(target.kind, object, old, &self.lacks)
    }

    /// Replaces an object.
    ///
    /// # Errors
    /// 404, 409 if it was changed meanwhile, 422 if it is wrong.
    pub fn update(&self, target: &Target, object: Value) -> Result<Written> {
        if target.subresource == "scale" {
            return self.change(target, |old| scaled(old, &object));
        }
        let (object, warnings) = read(target, object)?;
        if meta::name(&object).is_empty() {
            let words = "was undeterminable: name must be provided";
            return Err(Status::bad_request(format!(
                "the name of the object ({} based on URL) {words}",
                target.name
            )));
        }
        let (kind, name) = (target.kind, target.name.as_str());
        let written = self.change(target, |old| {
            let uid = meta::uid(&object);
            if !uid.is_empty() && uid != meta::uid(old) {
                let place = if kind.name == "Service" { "services/specs" } else { kind.plural };
                let words = format!(
                    "StorageError: invalid object, Code: 4, Key: /registry/{place}/{}/{name}, ResourceVersion: 0, \
                     AdditionalErrorMsg: Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
                    target.namespace,
                    meta::uid(old)
                );
                return Err(Status::conflict(kind, name, &words));
            }
            Ok(object)
        })?;
        Ok(written.after(warnings))
    }

    /// Changes an object by a patch; an apply makes it if it is not there.
    ///
    /// # Errors
    /// 404, 409, 415, 422.
    pub fn patch(&self, target: &Target, format: Format, patch: &Value) -> Result<Written> {
        let kind = target.kind;
        if format == Format::Apply {
            return self.apply(target, patch);
        }
        if target.subresource == "scale" {
            return self.change(target, |old| {
                let scale = patch::patched(format, "Scale", &scale_of(old), patch)?;
                scaled(old, &scale)
            });
        }
        let mut warnings = Vec::new();
        let written = self.change(target, |old| {
            let patched = patch::patched(format, kind.name, old, patch)?;
            let strategic = format == Format::Strategic;
            let text = if strategic { patch::go(patch) } else { patched.to_string() };
            let other = ["kind", "apiVersion"].iter().find(|field| patched.get(**field) != old.get(**field));
            if let Some(field) = other {
                let words = format!("{field} cannot be changed");
                return Err(Status::bad_patch(&text, &words));
            }
            let (object, found) =
                schema::patched(kind, patched, strategic, &target.twice, target.validation, || text)?;
            warnings = found;
            belongs(target, &object)?;
            Ok(object)
        })?;
        Ok(written.after(warnings))
    }

    fn apply(&self, target: &Target, patch: &Value) -> Result<Written> {
        let (kind, name) = (target.kind, target.name.as_str());
        let named = |field: &str| patch.get(field).and_then(Value::as_str).unwrap_or_default();
        let of = if target.subresource == "scale" { &kinds::SCALE } else { kind };
        if named("kind") != of.name || named("apiVersion") != of.api_version() {
            let (group, version) = named("apiVersion").split_once('/').unwrap_or(("", named("apiVersion")));
            let words = format!("invalid object type: {group}/{version}, Kind={}", named("kind"));
            return Err(Status::bad_request(words));
        }
        if !meta::items(patch, &["metadata", "managedFields"]).is_empty() {
            return Err(Status::bad_request("metadata.managedFields must be nil"));
        }
        declared(target, of, patch)?;
        if of.name == "Scale" {
            return self.change_with(target, false, |old| {
                let scale = scaled(old, patch)?;
                let replicas =
                    serde_json::json!({"spec": {"replicas": meta::at(&scale, &["spec", "replicas"])}});
                apply::apply_scale(kind, old, &replicas, &target.manager)
            });
        }
        if self.store.get(kind, &target.namespace, name).is_none() {
            if !target.subresource.is_empty() {
                return Err(Status::not_found(kind, name));
            }
            let mut object = apply::apply(kind, &Value::Null, patch, &target.manager)?;
            meta::set(&mut object, "name", name);
            match self.create(target, object) {
                Err(status) if status.code == 409 => {}
                made => return made,
            }
        }
        let mut warnings = Vec::new();
        let written = self.change_with(target, false, |old| {
            let applied = apply::apply(kind, old, patch, &target.manager)?;
            let (object, found) = read(target, applied)?;
            warnings = found;
            Ok(object)
        })?;
        Ok(written.after(warnings))
    }

    /// One step: what `change` makes of the object, with what every update has in common.
    ///
    /// # Errors
    /// 404 and those of `change`.
    pub(super) fn change(
        &self,
        target: &Target,
        change: impl FnOnce(&Value) -> Result<Value>,
    ) -> Result<Written> {
        self.change_with(target, true, change)
    }

    fn change_with(
        &self,
        target: &Target,
        track: bool,
        change: impl FnOnce(&Value) -> Result<Value>,
    ) -> Result<Written> {
        let (kind, name) = (target.kind, target.name.as_str());
        // Addresses are given out by what all Services have; that must not be asked with the store locked.
        let allocated = std::cell::OnceCell::new();
        if kind.name == "Service" && target.subresource.is_empty() {
            let old = self.get(kind, &target.namespace, name)?;
            let before = packed::unpacked(&old);
            let mut object = change(&before)?;
            let warnings = self.finish(target, &before, &mut object, track)?;
            let _ = allocated.set((old, object));
            return Ok(self.store_if_same(target, allocated)?.after(warnings));
        }
        let (mut seen, mut warnings) = (None, Vec::new());
        let result = self.store.write(kind, &target.namespace, name, |old| {
            let Some(old) = old else { return Err(Status::not_found(kind, name)) };
            let old = &packed::unpacked(old);
            let mut object = change(old)?;
            warnings = self.finish(target, old, &mut object, track)?;
            if target.dry_run {
                seen = Some(Arc::new(object));
                return Ok(Write::Keep);
            }
            Ok(if is_over(kind, &object) { Write::Remove(object) } else { wanted(target, object) })
        })?;
        Ok(Written { object: seen.unwrap_or(result), created: false, warnings })
    }

    /// Writes what was made of an object outside of the lock, if it is still the same.
    fn store_if_same(
        &self,
        target: &Target,
        made: std::cell::OnceCell<(Arc<Value>, Value)>,
    ) -> Result<Written> {
        let (kind, name) = (target.kind, target.name.as_str());
        let Some((old, object)) = made.into_inner() else { return Err(Status::not_found(kind, name)) };
        if target.dry_run {
            return Ok(Written { object: Arc::new(object), created: false, warnings: Vec::new() });
        }
        let object = self.store.write(kind, &target.namespace, name, |now| match now {
            None => Err(Status::not_found(kind, name)),
            Some(now) if !Arc::ptr_eq(now, &old) => Err(Status::modified(kind, name)),
            Some(_) if is_over(kind, &object) => Ok(Write::Remove(object)),
            Some(_) => Ok(wanted(target, object)),
        })?;
        Ok(Written { object, created: false, warnings: Vec::new() })
    }

    /// What every update has in common; the warnings about it.
    fn finish(&self, target: &Target, old: &Value, object: &mut Value, track: bool) -> Result<Vec<String>> {
        let (kind, name) = (target.kind, target.name.as_str());
        let given = meta::text(object, "resourceVersion");
        if !given.is_empty() && given.parse::<u64>().is_err() {
            return Err(Status::plain(format!("strconv.ParseUint: parsing {given:?}: invalid syntax")));
        }
        if !given.is_empty() && given != meta::text(old, "resourceVersion") {
            return Err(Status::modified(kind, name));
        }
        if !meta::name(object).is_empty() && meta::name(object) != name {
            return Err(Status::bad_request(format!(
                "the name of the object ({}) does not match the name on the URL ({name})",
                meta::name(object)
            )));
        }
        let mut causes = validate::metadata_changes(object, old);
        keep(target, old, object, track);
        defaults::fill(kind, object);
        if target.subresource.is_empty() {
            defaults::disable(kind, object);
        }
        *object = schema::normal(kind, std::mem::take(object));
        defaults::daemon_set::count(kind, object, Some(old));
        if target.subresource.is_empty() {
            self.allocate(target, object, Some(old))?;
        }
        match target.subresource.as_str() {
            "" => causes.extend(validate::check(kind, object, Some(old))),
            "ephemeralcontainers" => causes.extend(validate::pod::ephemeral(object, old)),
            _ => {}
        }
        if !causes.is_empty() {
            return Err(Status::invalid(kind, name, &causes));
        }
        if kind.generation && changes_generation(kind, old, object) {
            let generation = meta::number(old, &["metadata", "generation"]).unwrap_or(0);
            meta::set(object, "generation", generation + 1);
        }
        let warnings = self.warnings(target, object, Some(old));
        if track {
            apply::track(kind, old, object, &target.manager);
        }
        Ok(warnings)
    }
}

/// A name that begins as it is asked to, and is no longer than a label.
fn generated(prefix: &str) -> String {
    let short: String = prefix.chars().take(LONGEST_PREFIX).collect();
    format!("{short}{}", meta::suffix(SUFFIX))
}

/// Whether an object that is being deleted has nothing left to wait for.
pub(super) fn is_over(kind: &Kind, object: &Value) -> bool {
    meta::deleting(object)
        && meta::list(object, "finalizers").is_empty()
        && meta::number(object, &["metadata", "deletionGracePeriodSeconds"]).unwrap_or(0) == 0
        && (kind.name != "Namespace" || meta::items(object, &["spec", "finalizers"]).is_empty())
}

fn changes_generation(kind: &Kind, old: &Value, new: &Value) -> bool {
    if kind.name == "Pod" {
        // Its Node is no change of what was asked for.
        let without_node = |pod: &Value| {
            let mut spec = meta::at(pod, &["spec"]).clone();
            meta::map(&mut spec).remove("nodeName");
            spec
        };
        return without_node(old) != without_node(new);
    }
    if kind.name != "EndpointSlice" {
        return meta::at(old, &["spec"]) != meta::at(new, &["spec"]);
    }
    ["endpoints", "ports", "addressType"].iter().any(|field| old.get(field) != new.get(field))
}

/// What a request cannot change is what it was.
fn keep(target: &Target, old: &Value, object: &mut Value, track: bool) {
    let kind = target.kind;
    match target.subresource.as_str() {
        "status" => {
            if let Some(spec) = old.get("spec") {
                meta::map(object).insert("spec".into(), spec.clone());
            }
            let others: &[&str] = match kind.name {
                "Deployment" => &["labels"],
                "Pod" => &["ownerReferences"],
                _ => &[],
            };
            for field in others {
                match meta::at(old, &["metadata", field]) {
                    Value::Null => meta::unset(object, field),
                    value => meta::set(object, field, value.clone()),
                }
            }
        }
        "resize" => {
            let wanted = meta::items(object, &["spec", "containers"]).to_vec();
            *object = old.clone();
            let spec = meta::child(object, "spec");
            for (container, wanted) in defaults::list(spec, "containers").zip(wanted) {
                if let Some(resources) = wanted.get("resources") {
                    meta::map(container).insert("resources".into(), resources.clone());
                }
            }
            return;
        }
        "ephemeralcontainers" => {
            let wanted = meta::at(object, &["spec", "ephemeralContainers"]).clone();
            *object = old.clone();
            if !wanted.is_null() {
                meta::map(meta::child(object, "spec")).insert("ephemeralContainers".into(), wanted);
            }
            return;
        }
        _ => {}
    }
    let kept: &[&str] = if track { &["managedFields"] } else { &[] };
    for field in OWN.iter().chain(&["namespace", "name", "resourceVersion"]).chain(kept) {
        match meta::at(old, &["metadata", field]) {
            Value::Null => meta::unset(object, field),
            value => meta::set(object, field, value.clone()),
        }
    }
    if kind.status && target.subresource.is_empty() {
        match old.get("status") {
            Some(status) => meta::map(object).insert("status".into(), status.clone()),
            None => meta::map(object).remove("status"),
        };
    }
}

/// What is applied has only fields that its kind has, with values of their types.
fn declared(target: &Target, kind: &Kind, patch: &Value) -> Result<()> {
    let wrong = apply::check(kind.name, patch);
    let words = match wrong.as_slice() {
        [] => return Ok(()),
        [one] => one.clone(),
        all => format!("errors:\n  {}", all.join("\n  ")),
    };
    let version = if kind.group.is_empty() { format!("/{}", kind.version) } else { kind.api_version() };
    Err(Status::plain(format!(
        "failed to create typed patch object ({}/{}; {version}, Kind={}): {words}",
        meta::namespace(patch),
        target.name,
        kind.name
    )))
}

/// The object of a body, as its kind has it.
fn read(target: &Target, mut object: Value) -> Result<(Value, Vec<String>)> {
    let kind = target.kind;
    schema::typed(kind, &mut object)?;
    let (typed, unknown) = schema::conform(kind, object)?;
    let warnings = schema::judge(kind, &target.twice, &unknown, target.validation)?;
    belongs(target, &typed)?;
    Ok((typed, warnings))
}

/// The object is of the namespace of the request.
fn belongs(target: &Target, object: &Value) -> Result<()> {
    let namespace = meta::namespace(object);
    if target.kind.namespaced && !namespace.is_empty() && namespace != target.namespace {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    Ok(())
}

/// The scale of a workload (`autoscaling/v1`).
pub fn scale_of(object: &Value) -> Value {
    let labels =
        meta::at(object, &["spec", "selector", "matchLabels"]).as_object().cloned().unwrap_or_default();
    let selector: Vec<String> =
        labels.iter().map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
    let metadata: Map<String, Value> = ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"]
        .iter()
        .map(|field| ((*field).to_owned(), meta::at(object, &["metadata", field]).clone()))
        .collect();
    let scale = serde_json::json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata,
        "spec": {"replicas": meta::number(object, &["spec", "replicas"]).unwrap_or(0)},
        "status": {
            "replicas": meta::number(object, &["status", "replicas"]).unwrap_or(0),
            "selector": selector.join(","),
        },
    });
    let keep = scale.clone();
    schema::decode::decode(schema::types::of("Scale"), scale, &mut Vec::new()).unwrap_or(keep)
}

fn scaled(old: &Value, scale: &Value) -> Result<Value> {
    let scale = schema::decode::decode(schema::types::of("Scale"), scale.clone(), &mut Vec::new()).map_err(
        |words| Status::bad_request(format!("Scale in version \"v1\" cannot be handled as a Scale: {words}")),
    )?;
    let mut object = old.clone();
    let given = meta::text(&scale, "resourceVersion");
    if !given.is_empty() {
        meta::set(&mut object, "resourceVersion", given);
    }
    let replicas = meta::number(&scale, &["spec", "replicas"]).unwrap_or(0);
    if replicas < 0 {
        let words = "must be greater than or equal to 0";
        let cause = Cause::invalid("spec.replicas", &replicas.into(), words);
        return Err(Status::invalid(&kinds::SCALE, meta::name(old), &[cause]));
    }
    meta::map(meta::child(&mut object, "spec")).insert("replicas".into(), replicas.into());
    Ok(object)
}
