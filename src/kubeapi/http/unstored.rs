//! Requests whose answers are not kept: the reviews of users, and the tokens of ServiceAccounts.

use axum::body::Body;
use axum::extract::Request;
use axum::http::{Method, Response};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Front, Path, Query, body, writes};
use crate::access::User;
use crate::identities::{Binding, Wanted};
use crate::kinds::{self, Kind};
use crate::meta::{self, at, string};
use crate::reply::{Form, Reply};
use crate::reviews;
use crate::schema;
use crate::status::{Cause, Result, Status};
use crate::tokens::{ISSUER, LIFETIME, bad_lifetime};

impl Front {
    /// Answers a question about users.
    pub(super) async fn review(
        &self,
        kind: &'static Kind,
        user: &User,
        request: Request,
        form: &Form,
    ) -> Result<Response<Body>> {
        let (asked, warnings) = posted(kind, request).await?;
        let answered = reviews::answer(&self.identities, user, kind, asked, Timestamp::now())?;
        Ok(Reply::json(201, &answered).warned(&warnings).response(form))
    }

    /// Gives a token of a ServiceAccount.
    pub(super) async fn token(&self, path: &Path, request: Request, form: &Form) -> Result<Response<Body>> {
        let kind = &kinds::TOKEN_REQUEST;
        let (mut asked, warnings) = posted(kind, request).await?;
        let now = Timestamp::now();
        self.complete(path, &mut asked, now)?;
        let spec = at(&asked, &["spec"]);
        let audiences = meta::items(spec, &["audiences"]).iter().filter_map(Value::as_str);
        let wanted = Wanted {
            namespace: &path.namespace,
            account: &path.name,
            audiences: audiences.map(str::to_owned).collect(),
            seconds: meta::number(spec, &["expirationSeconds"]).unwrap_or(LIFETIME),
            bound: binding(at(spec, &["boundObjectRef"]))?,
        };
        let token = self.identities.issue(&wanted, now.as_second())?;
        let end = now.as_second().saturating_add(wanted.seconds);
        let end = Timestamp::from_second(end).map_err(|error| Status::internal(error.to_string()))?;
        let status = json!({"token": token, "expirationTimestamp": meta::seconds(end)});
        meta::map(&mut asked).insert("status".into(), status);
        Ok(Reply::json(201, &schema::normal(kind, asked)).warned(&warnings).response(form))
    }

    /// Checks the request for a token, and fills in what it does not say.
    fn complete(&self, path: &Path, asked: &mut Value, now: Timestamp) -> Result<()> {
        let kind = &kinds::TOKEN_REQUEST;
        let (named, namespace) = (meta::name(asked), meta::namespace(asked));
        if !namespace.is_empty() && namespace != path.namespace {
            let words =
                "the namespace of the provided object does not match the namespace sent on the request";
            return Err(Status::bad_request(words));
        }
        self.api.get(&kinds::NAMESPACE, "", &path.namespace)?;
        if !named.is_empty() && named != path.name {
            let words = "must match the service account name if specified";
            let cause = Cause::invalid("metadata.name", &named.into(), words);
            return Err(Status::invalid(kind, &path.name, &[cause]));
        }
        let account = self.api.get(&kinds::SERVICE_ACCOUNT, &path.namespace, &path.name)?;
        let (given, uid) = (meta::uid(asked), meta::uid(&account));
        if !given.is_empty() && given != uid {
            let words = format!(
                "the UID in the token request ({given}) does not match the UID of the service account ({uid})"
            );
            return Err(Status::conflict_of_kind(kind, &path.name, &words));
        }
        for (field, value) in [("name", path.name.as_str()), ("namespace", &path.namespace), ("uid", uid)] {
            meta::set(asked, field, value);
        }
        meta::set(asked, "creationTimestamp", meta::seconds(now));
        let spec = meta::map(meta::child(asked, "spec"));
        if spec.get("audiences").and_then(Value::as_array).is_none_or(Vec::is_empty) {
            spec.insert("audiences".into(), json!([ISSUER]));
        }
        let seconds = spec.get("expirationSeconds").and_then(Value::as_i64).unwrap_or(LIFETIME);
        spec.insert("expirationSeconds".into(), seconds.into());
        let Some(words) = bad_lifetime(seconds) else { return Ok(()) };
        let cause = Cause::invalid("spec.expirationSeconds", &seconds.into(), words);
        Err(Status::invalid(kind, "", &[cause]))
    }
}

/// The object that a token is to end with.
fn binding(reference: &Value) -> Result<Option<Binding<'_>>> {
    if reference.is_null() {
        return Ok(None);
    }
    let (version, named) = (string(reference, &["apiVersion"]), string(reference, &["kind"]));
    let of = [&kinds::POD, &kinds::SECRET, &kinds::NODE].into_iter().find(|kind| kind.name == named);
    let Some(kind) = of.filter(|_| !version.contains('/')) else {
        let (group, version) = version.split_once('/').unwrap_or(("", version));
        let words = format!("cannot bind token to object of type {group}/{version}, Kind={named}");
        return Err(Status::bad_request(words));
    };
    Ok(Some(Binding { kind, name: string(reference, &["name"]), uid: string(reference, &["uid"]) }))
}

/// The object that was sent, as its kind has it, and the warnings about it.
async fn posted(kind: &'static Kind, request: Request) -> Result<(Value, Vec<String>)> {
    if request.method() != Method::POST {
        return Err(Status::no_method());
    }
    let (parts, body) = request.into_parts();
    let validation = writes::validation(&Query::of(&parts.uri), "CreateOptions")?;
    let sent = body::object(&parts.headers, body, kind.name).await?;
    let mut object = sent.value;
    schema::typed(kind, &mut object)?;
    let (object, unknown) = schema::conform(kind, object)?;
    let warnings = schema::judge(kind, &sent.twice, &unknown, validation)?;
    Ok((object, warnings))
}
