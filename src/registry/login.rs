//! `docker login`: whether a registry takes these credentials, asked at its `/v2/`.

use http::{StatusCode, header};

use super::Registry;
use super::auth::Credentials;
use super::error::RegistryError;
use super::tokens::{authorize, login_refusal};
use super::transport::{CONFIG_LIMIT, words};

/// The answer of `POST /auth`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginAnswer {
    /// `Login Succeeded`.
    pub status: String,
    /// A token that the client keeps instead of the password; empty if the registry gave none.
    pub identity_token: String,
}

impl Registry {
    /// Tries the credentials at the registry that they name (Docker Hub if they name none).
    pub async fn login(&self, credentials: &Credentials) -> Result<LoginAnswer, RegistryError> {
        let url = format!("{}/v2/", self.transport.places.itself(&credentials.host()).url);
        let request = self.transport.http.get(&url);
        let answer = self.transport.send(request, &url, CONFIG_LIMIT).await?;
        if answer.status.is_success() {
            return Ok(succeeded(String::new()));
        }
        if answer.status != StatusCode::UNAUTHORIZED {
            return Err(not_there(&url, answer.status, &answer.body));
        }
        let authorization = authorize(&self.transport, &url, &answer.headers, None, Some(credentials))
            .await
            .map_err(login_refusal)?;
        let Some(value) = authorization.header else {
            return Err(RegistryError::bad_credentials());
        };
        let request = self.transport.http.get(&url).header(header::AUTHORIZATION, value);
        let answer = self.transport.send(request, &url, CONFIG_LIMIT).await?;
        match answer.status {
            status if status.is_success() => Ok(succeeded(authorization.identity_token)),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(RegistryError::bad_credentials()),
            status => Err(not_there(&url, status, &answer.body)),
        }
    }
}

fn succeeded(identity_token: String) -> LoginAnswer {
    LoginAnswer { status: "Login Succeeded".to_owned(), identity_token }
}

fn not_there(url: &str, status: StatusCode, body: &[u8]) -> RegistryError {
    RegistryError::other(format!("login attempt to {url} failed: {}", words(status, body)))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{gateway, reader};
    use super::*;

    #[tokio::test]
    async fn a_gateway_with_no_registry_behind_it_is_silence() {
        for (status, unreachable) in [(503, true), (504, true), (500, false), (404, false)] {
            let credentials =
                Credentials { server: gateway(status).await, ..Credentials::basic("ann", "pw") };
            let error = reader(&[]).login(&credentials).await.expect_err("no registry");
            assert_eq!(error.is_unreachable(), unreachable, "{error}");
            assert!(error.message.contains(&status.to_string()), "{error}");
        }
    }
}
