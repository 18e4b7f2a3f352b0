//! Credentials of a registry: as clients send them (`X-Registry-Auth`, `POST /auth`) and as
//! Kubernetes wants them (`.dockerconfigjson`). Pure; secrets never show in debug output.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;
use serde_json::json;

use super::reference::Reference;

/// What Docker writes in its configuration for Docker Hub, and the kubelet looks up.
const HUB_KEY: &str = "https://index.docker.io/v1/";

const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(base64::engine::DecodePaddingMode::Indifferent),
);

/// Credentials for one registry; empty fields are not set.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// User name.
    pub username: String,
    /// Password or access token used as one.
    pub password: String,
    /// A refresh token that an earlier login gave instead of the password.
    pub identity_token: String,
    /// A bearer token to be sent as it is.
    pub registry_token: String,
    /// The registry these are for, as the client wrote it; may be empty.
    pub server: String,
}

/// The form in which clients send them.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Wire {
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
    serveraddress: Option<String>,
    /// `base64(username:password)`, the form of configuration files.
    auth: Option<String>,
}

impl Credentials {
    /// Credentials of a user with a password.
    pub fn basic(username: &str, password: &str) -> Self {
        Self { username: username.to_owned(), password: password.to_owned(), ..Self::default() }
    }

    /// Reads the header `X-Registry-Auth`. Nothing, `{}` and what cannot be decoded are no
    /// credentials: Docker pulls anonymously then.
    pub fn from_header(header: &str) -> Option<Self> {
        let plain: String = header.trim().chars().map(url_safe).collect();
        Self::from_json(&LENIENT.decode(plain).ok()?)
    }

    /// Reads the JSON form, as in the body of `POST /auth`.
    pub fn from_json(bytes: &[u8]) -> Option<Self> {
        let wire: Wire = serde_json::from_slice(bytes).ok()?;
        let mut read = Self {
            username: wire.username.unwrap_or_default(),
            password: wire.password.unwrap_or_default(),
            identity_token: wire.identitytoken.unwrap_or_default(),
            registry_token: wire.registrytoken.unwrap_or_default(),
            server: wire.serveraddress.unwrap_or_default(),
        };
        if let (true, Some((username, password))) = (read.username.is_empty(), decoded(wire.auth.as_deref()))
        {
            (read.username, read.password) = (username, password);
        }
        let set = [&read.username, &read.identity_token, &read.registry_token];
        set.iter().any(|field| !field.is_empty()).then_some(read)
    }

    /// The `.dockerconfigjson` of an image pull secret for the registry of `reference`, or `None`
    /// without user and password: a kubelet can use nothing else.
    pub fn docker_config_json(&self, reference: &Reference) -> Option<String> {
        if self.username.is_empty() || self.password.is_empty() {
            return None;
        }
        let server = match reference.registry() {
            "docker.io" => HUB_KEY,
            host => host,
        };
        let auth = STANDARD.encode(format!("{}:{}", self.username, self.password));
        let entry = json!({ "username": self.username, "password": self.password, "auth": auth });
        Some(json!({ "auths": { server: entry } }).to_string())
    }

    /// The credentials in a text that [`Self::docker_config_json`] has made.
    pub fn from_docker_config_json(text: &str) -> Option<Self> {
        let config: serde_json::Value = serde_json::from_str(text).ok()?;
        let (server, entry) = config.get("auths")?.as_object()?.iter().next()?;
        let field = |key: &str| Some(entry.get(key)?.as_str()?.to_owned());
        let server = if server == HUB_KEY { String::new() } else { server.clone() };
        Some(Self { server, ..Self::basic(&field("username")?, &field("password")?) })
    }

    /// User name and password as a registry takes them; a refresh token goes by the name `<token>`, as
    /// Docker sends it.
    pub fn pair(&self) -> (String, String) {
        if self.identity_token.is_empty() {
            return (self.username.clone(), self.password.clone());
        }
        ("<token>".to_owned(), self.identity_token.clone())
    }

    /// The registry host these credentials are for, `docker.io` for Docker Hub in all its spellings.
    pub fn host(&self) -> String {
        let bare = self.server.trim_start_matches("https://").trim_start_matches("http://");
        match bare.split('/').next().unwrap_or_default() {
            "" | "docker.io" | "index.docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
            host => host.to_owned(),
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hidden = |secret: &str| if secret.is_empty() { "" } else { "***" };
        f.debug_struct("Credentials")
            .field("username", &self.username)
            .field("password", &hidden(&self.password))
            .field("identity_token", &hidden(&self.identity_token))
            .field("registry_token", &hidden(&self.registry_token))
            .field("server", &self.server)
            .finish()
    }
}

fn url_safe(c: char) -> char {
    match c {
        '+' => '-',
        '/' => '_',
        other => other,
    }
}

fn decoded(auth: Option<&str>) -> Option<(String, String)> {
    let plain: String = auth?.trim().chars().map(url_safe).collect();
    let text = String::from_utf8(LENIENT.decode(plain).ok()?).ok()?;
    let (username, password) = text.split_once(':')?;
    Some((username.to_owned(), password.trim_end_matches('\0').to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};

    const JSON: &str =
        r#"{"username":"ann","password":"p>?~ü","serveraddress":"https://index.docker.io/v1/"}"#;

    #[test]
    fn the_header_is_read_in_every_alphabet_and_padding() {
        for header in [URL_SAFE.encode(JSON), URL_SAFE_NO_PAD.encode(JSON), STANDARD.encode(JSON)] {
            let read = Credentials::from_header(&header).expect(&header);
            assert_eq!((read.username.as_str(), read.password.as_str()), ("ann", "p>?~ü"));
            assert_eq!(read.host(), "docker.io");
        }
    }

    #[test]
    fn nothing_and_nonsense_are_no_credentials() {
        let null = STANDARD.encode(r#"{"username":null,"password":"x"}"#);
        for header in ["", "e30=", "e30", "bnVsbA==", "!!!", "eyJ1", null.as_str()] {
            assert_eq!(Credentials::from_header(header), None, "{header}");
        }
    }

    #[test]
    fn the_auth_field_of_configuration_files_is_read() {
        let json = format!(r#"{{"auth":"{}","serveraddress":"ghcr.io"}}"#, STANDARD.encode("bob:s:t"));
        let read = Credentials::from_json(json.as_bytes()).expect("credentials");
        assert_eq!((read.username.as_str(), read.password.as_str()), ("bob", "s:t"));
        assert_eq!(read.host(), "ghcr.io");
    }

    #[test]
    fn pull_secrets_name_the_registry_as_the_kubelet_does() {
        let credentials = Credentials::basic("ann", "pw");
        for (image, key) in [("busybox", HUB_KEY), ("r:5000/x", "r:5000")] {
            let reference = Reference::parse(image).expect(image);
            let text = credentials.docker_config_json(&reference).expect("secret");
            let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            assert_eq!(value["auths"][key]["auth"], STANDARD.encode("ann:pw"));
            let read = Credentials::from_docker_config_json(&text).expect("credentials");
            assert_eq!(read.pair(), credentials.pair());
            assert_eq!(read.host(), reference.registry());
        }
        let token = Credentials { registry_token: "t".into(), ..Credentials::default() };
        assert_eq!(token.docker_config_json(&Reference::parse("x").expect("x")), None);
    }

    #[test]
    fn debug_output_has_no_secrets() {
        let shown = format!("{:?}", Credentials::basic("ann", "hunter2"));
        assert!(shown.contains("ann") && !shown.contains("hunter2"), "{shown}");
    }
}
