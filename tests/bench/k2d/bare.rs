//! The engine's own API, called directly: at the address that k2d uses, over a connection that stays open.

use reqwest::{Client, Method, Response};
use serde_json::{Value, json};

use crate::device::IMAGE;

pub struct Engine {
    http: Client,
    base: String,
}

impl Engine {
    /// An engine at an address as `DOCKER_HOST` has it.
    pub fn at(address: &str) -> Self {
        let (http, base) = match address.strip_prefix("unix://") {
            Some(path) => (Client::builder().unix_socket(path), "http://docker".to_owned()),
            None => (Client::builder(), address.replacen("tcp://", "http://", 1)),
        };
        Self { http: http.build().unwrap(), base }
    }

    async fn send(&self, method: Method, path: &str, body: &Value) -> Response {
        let text = if body.is_null() { String::new() } else { body.to_string() };
        let request = self.http.request(method, format!("{}{path}", self.base)).body(text);
        request.header("Content-Type", "application/json").send().await.unwrap().error_for_status().unwrap()
    }

    pub async fn get(&self, path: &str) -> Value {
        let text = self.send(Method::GET, path, &Value::Null).await.text().await.unwrap();
        serde_json::from_str(&text).unwrap()
    }

    /// Creates and starts a container of the tests' image; its ID.
    pub async fn run(&self, name: &str, network: &str, labels: Value) -> String {
        let body = json!({
            "Image": IMAGE, "Cmd": ["sleep", "1000"], "Labels": labels, "HostConfig": {"NetworkMode": network},
        });
        let path = format!("/containers/create?name={name}");
        let made = self.send(Method::POST, &path, &body).await.text().await.unwrap();
        let made: Value = serde_json::from_str(&made).unwrap();
        let id = made["Id"].as_str().unwrap().to_owned();
        self.send(Method::POST, &format!("/containers/{id}/start"), &Value::Null).await;
        id
    }

    pub async fn remove(&self, id: &str) {
        self.send(Method::DELETE, &format!("/containers/{id}?force=true"), &Value::Null).await;
    }
}
