//! Images: what the engine has, and what it pulls.

use base64::Engine as _;
use d2k_engine::{Image, Login, Pull, Result, Trouble};
use futures::StreamExt;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::Docker;
use super::client::{Error, values};
use super::json::{encode, text, texts};

impl Docker {
    /// Sees to it that an image is there.
    pub(super) async fn ensure_image(&self, reference: &str, pull: Pull, logins: &[Login]) -> Result<Image> {
        let name = Name::of(reference);
        if pull != Pull::Always {
            match self.inspect_image(reference, &name).await {
                Err(trouble) if trouble.reason == "NotFound" && pull == Pull::IfNotPresent => {}
                Err(trouble) if trouble.reason == "NotFound" => {
                    let words =
                        format!("Container image {reference:?} is not present with pull policy of Never");
                    return Err(Trouble::new("ErrImageNeverPull", words));
                }
                answer => return answer,
            }
        }
        self.pull(&name, logins).await?;
        self.inspect_image(reference, &name).await
    }

    async fn inspect_image(&self, reference: &str, name: &Name) -> Result<Image> {
        let path = format!("/images/{}/json", encode(&name.whole()));
        let found = self.inner.client.get(&path).await.map_err(|error| match error {
            Error::Refused { status: StatusCode::NOT_FOUND, message } => Trouble::new("NotFound", message),
            Error::Refused { status: StatusCode::BAD_REQUEST, message } => invalid(reference, &message),
            other => Trouble::new("ImageInspectError", other.to_string()),
        })?;
        let image = image_of(&found);
        self.inner.names.lock().insert(image.id.clone(), reference.to_owned());
        Ok(image)
    }

    async fn pull(&self, name: &Name, logins: &[Login]) -> Result<()> {
        let failed = |error: Error| match error {
            Error::Refused { status: StatusCode::BAD_REQUEST, message } => invalid(&name.whole(), &message),
            other => Trouble::new("ErrImagePull", other.to_string()),
        };
        let login = logins.iter().find(|login| login.registry == name.registry());
        let headers: Vec<(&str, String)> =
            login.map(|login| ("x-registry-auth", header(login))).into_iter().collect();
        let path = format!("/images/create?fromImage={}&tag={}", encode(&name.repository), encode(&name.tag));
        let _permit = self.inner.pulls.acquire().await;
        let mut progress =
            values(self.inner.client.stream(Method::POST, &path, &headers).await.map_err(failed)?);
        while let Some(step) = progress.next().await {
            let step = step.map_err(failed)?;
            let error = text(&step, &["error"]);
            if !error.is_empty() {
                return Err(Trouble::new("ErrImagePull", error));
            }
        }
        Ok(())
    }
}

fn invalid(reference: &str, message: &str) -> Trouble {
    Trouble::new("InvalidImageName", format!("Failed to apply default image tag {reference:?}: {message}"))
}

/// The header that logs in to a registry for one pull.
fn header(login: &Login) -> String {
    let login =
        json!({"username": login.username, "password": login.password, "serveraddress": login.registry});
    base64::engine::general_purpose::URL_SAFE.encode(login.to_string())
}

fn image_of(found: &Value) -> Image {
    let id = text(found, &["Id"]).to_owned();
    let config = |field: &str| texts(found, &["Config", field]);
    let word = |field: &str| text(found, &["Config", field]).to_owned();
    let digests = texts(found, &["RepoDigests"]);
    Image {
        digest_reference: digests.into_iter().next().unwrap_or_else(|| id.clone()),
        entrypoint: config("Entrypoint"),
        command: config("Cmd"),
        env: config("Env"),
        working_dir: word("WorkingDir"),
        user: word("User"),
        stop_signal: Some(word("StopSignal")).filter(|signal| !signal.is_empty()),
        id,
    }
}

/// The name of an image: a repository, and a tag or a digest.
#[derive(Debug, PartialEq, Eq)]
struct Name {
    repository: String,
    tag: String,
}

impl Name {
    /// The tag is `latest` where none is given: without one, an engine pulls them all.
    fn of(reference: &str) -> Self {
        let parts = match reference.split_once('@') {
            Some((name, digest)) => (untagged(name).0, digest),
            None => untagged(reference),
        };
        Self { repository: parts.0.to_owned(), tag: parts.1.to_owned() }
    }

    fn whole(&self) -> String {
        let between = if self.tag.contains(':') { '@' } else { ':' };
        format!("{}{between}{}", self.repository, self.tag)
    }

    /// The registry that it is pulled from, as logins have it.
    fn registry(&self) -> &str {
        let first = self.repository.split_once('/').map_or("", |(first, _)| first);
        let is_host = first.contains(['.', ':']) || first == "localhost";
        if is_host { first } else { "docker.io" }
    }
}

fn untagged(name: &str) -> (&str, &str) {
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, tag),
        _ => (name, "latest"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_a_repository_and_a_tag_or_digest() {
        for (reference, repository, tag, registry) in [
            ("nginx", "nginx", "latest", "docker.io"),
            ("nginx:1", "nginx", "1", "docker.io"),
            ("a/b:1", "a/b", "1", "docker.io"),
            ("localhost:5000/a", "localhost:5000/a", "latest", "localhost:5000"),
            ("r.io/a/b:2", "r.io/a/b", "2", "r.io"),
            ("r.io/a:2@sha256:ab", "r.io/a", "sha256:ab", "r.io"),
        ] {
            let name = Name::of(reference);
            assert_eq!((name.repository.as_str(), name.tag.as_str()), (repository, tag), "{reference}");
            assert_eq!(name.registry(), registry, "{reference}");
        }
        assert_eq!(Name::of("a@sha256:ab").whole(), "a@sha256:ab");
        assert_eq!(Name::of("a").whole(), "a:latest");
    }
}
