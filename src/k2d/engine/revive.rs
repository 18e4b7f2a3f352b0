//! Containers that the engine could not start when it started itself: it may try one that has the network of another one before that runs
//! (moby#50326), and tries each only once. k2d starts them, once each time that it connects.

use serde_json::{Value, json};

use super::client::{Client, Error};
use super::json::{encode, flag, ids, text};
use super::labels::{HOLDER, ROLE, UID};

/// Starts all that have failed. One that fails again is left as it is.
///
/// # Errors
/// The engine does not say which there are.
pub async fn revive(client: &Client) -> Result<(), Error> {
    let filters = encode(&json!({"label": [UID], "status": ["exited"]}).to_string());
    let mut failed = Vec::new();
    for id in ids(&client.get(&format!("/containers/json?all=true&filters={filters}")).await?) {
        match client.get(&format!("/containers/{id}/json")).await {
            Ok(inspected) if has_failed(&inspected) => failed.push(inspected),
            // It may have gone meanwhile.
            _ => {}
        }
    }
    // Those whose network the others have are first.
    failed.sort_by_key(|inspected| text(inspected, &["Config", "Labels", ROLE]) != HOLDER);
    for inspected in failed {
        let (id, name) = (text(&inspected, &["Id"]), text(&inspected, &["Name"]));
        match client.post(&format!("/containers/{id}/start"), None).await {
            Ok(_) => tracing::info!(name, "a container is started that the engine could not start"),
            Err(error) => tracing::warn!(name, %error, "a container cannot be started"),
        }
    }
    Ok(())
}

/// Whether a container should run, and its last start has failed. One that was stopped by a person has no error.
fn has_failed(inspected: &Value) -> bool {
    let policy = text(inspected, &["HostConfig", "RestartPolicy", "Name"]);
    !flag(inspected, &["State", "Running"])
        && !text(inspected, &["State", "Error"]).is_empty()
        && !matches!(policy, "" | "no")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_stopped_or_has_ended_is_not_started() {
        let container = |running: bool, error: &str, policy: &str| json!({"State": {"Running": running, "Error": error}, "HostConfig": {"RestartPolicy": {"Name": policy}}});
        let error = "cannot join network of a non running container";
        assert!(has_failed(&container(false, error, "always")));
        for other in
            [container(false, "", "always"), container(true, error, "always"), container(false, error, "no")]
        {
            assert!(!has_failed(&other), "{other}");
        }
    }
}
