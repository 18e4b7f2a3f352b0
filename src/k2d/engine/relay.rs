//! Connections to ports of a Pod, as port-forward needs them: to its address, and where only its own loopback has the port,
//! through a container of k2d's own in its network.

use std::io::ErrorKind;

use d2k_engine::{Result, Stream, Trouble};
use serde_json::json;
use tokio::net::TcpStream;

use super::Docker;
use super::client::Error;
use super::json::{ids, text};
use super::labels::{ITSELF, ROLE, UID, filter};
use super::streams::streams;

fn failed(port: u16, why: &dyn std::fmt::Display) -> Trouble {
    Trouble::new("PortForward", format!("cannot connect to port {port} of the Pod: {why}"))
}

impl Docker {
    /// Connects to a port of a Pod's address.
    pub(super) async fn dial_to(&self, uid: &str, port: u16) -> Result<Box<dyn Stream>> {
        let address = (self.placed(uid)?.ip(self.inner.host), port);
        let stream = TcpStream::connect(address).await.map_err(|error| failed(port, &error))?;
        Ok(Box::new(stream))
    }

    /// Connects to a port of a Pod, on its address or its loopback.
    pub(super) async fn connect_to(&self, uid: &str, port: u16) -> Result<Box<dyn Stream>> {
        let placed = self.placed(uid)?;
        match TcpStream::connect((placed.ip(self.inner.host), port)).await {
            Ok(stream) => Ok(Box::new(stream)),
            // On the machine's own network there is no other loopback.
            Err(error) if error.kind() == ErrorKind::ConnectionRefused && !placed.host_network => {
                self.through(uid, port).await
            }
            Err(error) => Err(failed(port, &error)),
        }
    }

    async fn through(&self, uid: &str, port: u16) -> Result<Box<dyn Stream>> {
        let wrong = |error: Error| failed(port, &error);
        let foreign = self.inner.foreign.lock().get(uid).cloned();
        let member = match foreign {
            Some(id) => id,
            None => {
                let path = format!("/containers/json?filters={}", filter(&format!("{UID}={uid}")));
                let running = ids(&self.inner.client.get(&path).await.map_err(wrong)?);
                running.into_iter().next().ok_or_else(|| failed(port, &"nothing of it runs"))?
            }
        };
        let body = json!({
            "Image": self.own_image().await?, "Entrypoint": ["/k2d", "relay", port.to_string()],
            "OpenStdin": true, "StdinOnce": true, "Labels": {(ROLE): ITSELF},
            "HostConfig": {"NetworkMode": format!("container:{member}"), "AutoRemove": true, "CapDrop": ["ALL"]},
        });
        let made = self.inner.client.post("/containers/create", Some(&body)).await.map_err(wrong)?;
        let id = text(&made, &["Id"]);
        let path = format!("/containers/{id}/attach?stream=1&stdin=1&stdout=1");
        let begun = async {
            let connection = self.inner.client.hijack(&path, None).await?;
            self.inner.client.post(&format!("/containers/{id}/start"), None).await?;
            Ok::<_, Error>(connection)
        };
        let connection = match begun.await {
            Ok(connection) => connection,
            Err(error) => {
                let _ = self.remove_container(id).await;
                return Err(wrong(error));
            }
        };
        let streams = streams(connection, false, true);
        let input = streams.stdin.ok_or_else(|| failed(port, &"it has no input"))?;
        Ok(Box::new(tokio::io::join(streams.stdout, input)))
    }
}
