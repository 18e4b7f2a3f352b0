//! Turns errors of the Kubernetes client into faults with the cluster's own words.

use kube::Error;

use d2k_common::fault::{Fault, Kind};

/// What the API server or the way to it said, in one line.
pub(crate) fn words(error: &Error) -> String {
    match error {
        Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        Error::Service(cause) => chain(cause.as_ref()),
        other => chain(other),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let more = inner.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = inner.source();
    }
    text
}

/// The fault for a failed call; `what` names the operation and the object (`create Deployment web`).
pub fn fault(what: &str, error: &Error) -> Fault {
    let text = words(error);
    match error {
        Error::Api(status) => {
            let kind = match status.code {
                404 => Kind::NotFound,
                409 => Kind::Conflict,
                403 => Kind::Forbidden,
                400 | 422 => Kind::Invalid,
                _ => Kind::Internal,
            };
            Fault::new(kind, format!("Kubernetes refused to {what}: {text}"))
        }
        _ => Fault::unavailable(format!("Kubernetes cannot be reached to {what}: {text}")),
    }
}
