//! The tokens in the files of a Pod: each is one of the Pod's own ServiceAccount, bound to the Pod, and is made anew before
//! it ends. A Pod waits for one moment, the first at which one of its tokens is due, and for the clock to be set.

use std::ops::ControlFlow;

use serde_json::Value;

use super::Kubelet;
use super::renewal::{self, Renewal, lifetime, seconds, sources};
use super::running::Running;
use super::volumes::{MountError, VolumeError};
use crate::events::{self, About};
use crate::identities::{Binding, Wanted};
use crate::kinds;
use crate::meta::{self, items, string};
use d2k_engine::Engine;

/// Pause before tokens that could not be made are tried again, in seconds.
const AGAIN: i64 = 60;

impl<E: Engine> Kubelet<E> {
    /// A token as a volume asks for it.
    pub(super) fn token(&self, pod: &Value, source: &Value) -> Result<String, VolumeError> {
        let audience = string(source, &["audience"]);
        let wanted = Wanted {
            namespace: meta::namespace(pod),
            account: string(pod, &["spec", "serviceAccountName"]),
            audiences: if audience.is_empty() { Vec::new() } else { vec![audience.to_owned()] },
            seconds: lifetime(source),
            bound: Some(Binding { kind: &kinds::POD, name: meta::name(pod), uid: meta::uid(pod) }),
        };
        let token = self.identities.issue(&wanted, seconds());
        token.map_err(|status| VolumeError::Token(status.message))
    }

    /// Keeps the tokens of a Pod good, for as long as it has containers to use them.
    pub(super) async fn renew_tokens(&self, running: &Running) {
        renewal::follow(&running.renewal, self.clock.subscribe(), |now| {
            let pod = running.now();
            if matches!(string(&pod, &["status", "phase"]), "Succeeded" | "Failed") {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(self.write_tokens(&pod, now))
        })
        .await;
        std::future::pending::<()>().await;
    }

    /// Writes the volumes with tokens anew; when to do so the next time.
    fn write_tokens(&self, pod: &Value, now: i64) -> Option<Renewal> {
        let volumes = items(pod, &["spec", "volumes"]).iter();
        let written = volumes.filter(|volume| sources(volume).next().is_some()).try_for_each(|volume| {
            let name = string(volume, &["name"]);
            self.volume(pod, volume, name).map(|_| ()).map_err(|reason| MountError::new(name, reason))
        });
        let Err(error) = written else { return Renewal::of(pod, now) };
        // As with a kubelet, what is there stays.
        let about = About::new(pod, "kubelet");
        events::record(&self.api, &about, "Warning", "FailedMount", &error.to_string());
        Some(Renewal::after(now, AGAIN))
    }
}
