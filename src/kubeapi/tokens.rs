//! Tokens of ServiceAccounts: JSON Web Tokens (RFC 7519), signed with ECDSA over P-256 and SHA-256 (ES256, RFC 7518,
//! section 3.4), with the claims of Kubernetes' bound tokens (KEP-1205, KEP-4193).
//!
//! This file knows signatures, claims and times; `identities` knows whether the account and the Pod of a token are still there.
//! The time is an argument, in seconds since 1970 and below 0 on a machine whose clock is further behind, so that nothing here
//! reads a clock. All tokens of a key have the same header, and a token with any other one is refused before it is read: a
//! token has no say in how it is checked.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::error::KeyRejected;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::{self, PemObject};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};

/// The issuer of tokens, and the audience of those that are for the API server.
pub const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
/// Length of the longest token that is read, in bytes. One of a Pod has about 1,200.
const LONGEST: usize = 16 << 10;
/// How far the clocks of two readers may differ, in seconds (as Kubernetes allows).
pub const LEEWAY: i64 = 60;
/// Lifetime of a token for which none is asked, in seconds.
pub const LIFETIME: i64 = 3600;
/// The shortest lifetime that may be asked for, in seconds.
const SHORTEST_LIFETIME: i64 = 600;
/// The longest, in seconds.
const LONGEST_LIFETIME: i64 = 1 << 32;

/// Why a text is no key for signatures.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// It is no key in PEM.
    #[error(transparent)]
    Pem(#[from] pem::Error),
    /// It is a key for something else, or damaged.
    #[error("no key for ES256: {0}")]
    Rejected(KeyRejected),
}

/// A token was not signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// Its claims have no text.
    #[error(transparent)]
    Claims(#[from] serde_json::Error),
    /// The system has no random numbers.
    #[error("the system gives no random numbers")]
    Random,
}

/// Why a token is not accepted, in Kubernetes' words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is no token, or one that was not signed here.
    #[error("invalid bearer token")]
    Unknown,
    /// Its time is over.
    #[error("service account token has expired")]
    Expired,
    /// Its time has not come: the clock was set back since it was made.
    #[error("service account token is not valid yet")]
    Early,
    /// It was made for others.
    #[error("token audiences {has:?} is invalid for the target audiences {wanted:?}")]
    Audience {
        /// Those that it was made for.
        has: Vec<String>,
        /// Those that it is shown to.
        wanted: Vec<String>,
    },
    /// The account, or the object that it was bound to, is not there any more.
    #[error("service account token has been invalidated")]
    Invalidated,
}

/// The mistake in a requested lifetime, in seconds, if there is one.
pub fn bad_lifetime(seconds: i64) -> Option<&'static str> {
    match seconds {
        ..SHORTEST_LIFETIME => Some("may not specify a duration less than 10 minutes"),
        SHORTEST_LIFETIME..=LONGEST_LIFETIME => None,
        _ => Some("may not specify a duration larger than 2^32 seconds"),
    }
}

/// The claims of a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// The issuer.
    pub iss: String,
    /// The name of the user.
    pub sub: String,
    /// For whom it is.
    pub aud: Vec<String>,
    /// When it ends.
    pub exp: i64,
    /// When it was made.
    pub iat: i64,
    /// When it begins.
    pub nbf: i64,
    /// Its own identifier.
    pub jti: String,
    /// The objects that it is bound to.
    #[serde(rename = "kubernetes.io")]
    pub bound: Bound,
}

/// The objects that a token is bound to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bound {
    /// Namespace of the account, and of the Pod or the Secret.
    pub namespace: String,
    /// The account.
    pub serviceaccount: Reference,
    /// The Pod that has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<Reference>,
    /// The Secret that it ends with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<Reference>,
    /// The Node of the Pod; without a Pod, the Node that it ends with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<Reference>,
}

/// An object, which another one of the same name is not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    /// Its name.
    pub name: String,
    /// Its identifier; empty for a Node that is not there.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
}

impl Claims {
    /// Whether it is the time of a token.
    ///
    /// # Errors
    /// It has ended, or has not begun.
    pub fn check_time(&self, now: i64) -> Result<(), TokenError> {
        if now.saturating_add(LEEWAY) < self.nbf {
            return Err(TokenError::Early);
        }
        if now.saturating_sub(LEEWAY) > self.exp {
            return Err(TokenError::Expired);
        }
        Ok(())
    }
}

/// The key that signs tokens.
pub struct Key {
    pair: EcdsaKeyPair,
    /// The first part of each token.
    header: String,
    random: SystemRandom,
}

impl Key {
    /// Reads a key of PKCS#8 in PEM.
    ///
    /// # Errors
    /// The text is none, or the key is not one for ES256.
    pub fn of_pem(text: &[u8]) -> Result<Self, KeyError> {
        let (der, random) = (PrivateKeyDer::from_pem_slice(text)?, SystemRandom::new());
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.secret_der(), &random);
        let pair = pair.map_err(KeyError::Rejected)?;
        let name = URL_SAFE_NO_PAD.encode(Sha256::digest(pair.public_key()));
        let header = URL_SAFE_NO_PAD.encode(json!({"alg": "ES256", "kid": name}).to_string());
        Ok(Self { pair, header, random })
    }

    /// Makes the token of these claims.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn sign(&self, claims: &Claims) -> Result<String, SignError> {
        let body = URL_SAFE_NO_PAD.encode(serde_json::to_vec(claims)?);
        let signed = format!("{}.{body}", self.header);
        let signature = self.pair.sign(&self.random, signed.as_bytes()).map_err(|_| SignError::Random)?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    /// The claims of a token that was signed with this key, whether its time is now or not.
    ///
    /// # Errors
    /// It was not signed with this key.
    pub fn read(&self, token: &str) -> Result<Claims, TokenError> {
        if token.len() > LONGEST {
            return Err(TokenError::Unknown);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Unknown)?;
        let (header, body) = signed.split_once('.').ok_or(TokenError::Unknown)?;
        if header != self.header {
            return Err(TokenError::Unknown);
        }
        let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| TokenError::Unknown);
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.pair.public_key())
            .verify(signed.as_bytes(), &decode(signature)?)
            .map_err(|_| TokenError::Unknown)?;
        serde_json::from_slice(&decode(body)?).map_err(|_| TokenError::Unknown)
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! A key for tests.

    use super::Key;

    /// A new key.
    pub(crate) fn key() -> Key {
        let pem = rcgen::KeyPair::generate().unwrap().serialize_pem();
        Key::of_pem(pem.as_bytes()).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::testing::key;
    use super::*;

    fn claims(now: i64) -> Claims {
        let reference = |name: &str| Reference { name: name.into(), uid: format!("uid of {name}") };
        Claims {
            iss: ISSUER.into(),
            sub: "system:serviceaccount:default:default".into(),
            aud: vec![ISSUER.into()],
            exp: now + LIFETIME,
            iat: now,
            nbf: now,
            jti: "1".into(),
            bound: Bound {
                namespace: "default".into(),
                serviceaccount: reference("default"),
                pod: Some(reference("pod")),
                ..Bound::default()
            },
        }
    }

    /// A text as a part of a token.
    fn part(text: &str) -> String {
        URL_SAFE_NO_PAD.encode(text)
    }

    #[test]
    fn a_token_says_what_was_signed_in_the_form_of_kubernetes() {
        let (key, claims) = (key(), claims(1_000_000_000));
        let token = key.sign(&claims).unwrap();
        assert_eq!(key.read(&token), Ok(claims));
        let body = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let wanted = json!({
            "iss": "https://kubernetes.default.svc.cluster.local",
            "sub": "system:serviceaccount:default:default",
            "aud": ["https://kubernetes.default.svc.cluster.local"],
            "exp": 1_000_003_600, "iat": 1_000_000_000, "nbf": 1_000_000_000, "jti": "1",
            "kubernetes.io": {
                "namespace": "default",
                "serviceaccount": {"name": "default", "uid": "uid of default"},
                "pod": {"name": "pod", "uid": "uid of pod"},
            },
        });
        assert_eq!(body, wanted);
    }

    #[test]
    fn a_token_that_was_changed_anywhere_is_refused() {
        let key = key();
        let token = key.sign(&claims(0)).unwrap();
        for at in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert_eq!(key.read(&changed), Err(TokenError::Unknown), "at {at}");
            assert_eq!(key.read(&token[..at]), Err(TokenError::Unknown), "cut at {at}");
        }
        for longer in [format!("{token}."), format!(".{token}"), format!("{token}A"), format!(" {token}")] {
            assert_eq!(key.read(&longer), Err(TokenError::Unknown), "{longer}");
        }
    }

    #[test]
    fn a_token_of_another_key_is_refused_also_under_our_header() {
        let (ours, theirs) = (key(), key());
        let token = theirs.sign(&claims(0)).unwrap();
        assert_eq!(ours.read(&token), Err(TokenError::Unknown));
        let (_, rest) = token.split_once('.').unwrap();
        assert_eq!(ours.read(&format!("{}.{rest}", ours.header)), Err(TokenError::Unknown));
    }

    #[test]
    fn a_token_does_not_say_how_it_is_checked() {
        let key = key();
        let token = key.sign(&claims(0)).unwrap();
        let [_, body, signature] = token.split('.').collect::<Vec<_>>()[..] else { panic!("{token}") };
        for header in [
            r#"{"alg":"none"}"#,
            r#"{"alg":"None","typ":"JWT"}"#,
            r#"{"alg":"HS256"}"#,
            r#"{"alg":"ES256"}"#,
            r#"{"alg":"ES256","kid":"","crit":["x"]}"#,
            "{}",
            "",
        ] {
            for signature in ["", signature] {
                let token = format!("{}.{body}.{signature}", part(header));
                assert_eq!(key.read(&token), Err(TokenError::Unknown), "{header}");
            }
        }
        assert_eq!(key.read(&format!("{}.{body}.", key.header)), Err(TokenError::Unknown));
    }

    #[test]
    fn texts_that_are_no_tokens_are_refused() {
        let key = key();
        let huge = "A".repeat(8 << 20);
        let dots = ".".repeat(1000);
        for text in ["", ".", "..", "...", "a.b.c", "é.é.é", "\0", &dots, &huge] {
            assert_eq!(key.read(text), Err(TokenError::Unknown));
        }
        let mut long = claims(0);
        long.aud = vec!["a".repeat(LONGEST)];
        let long = key.sign(&long).unwrap();
        assert_eq!(key.read(&long), Err(TokenError::Unknown), "longer than any that is read");
    }

    #[test]
    fn a_token_has_its_time_on_every_clock() {
        // Before 1970, as a board without a battery may begin, at its start, and long after.
        for begin in [-5_000_000, 0, 1_700_000_000] {
            let claims = claims(begin);
            let end = begin + LIFETIME;
            assert_eq!(key().sign(&claims).map(|_| ()).ok(), Some(()));
            for (now, wanted) in [
                (begin - LEEWAY - 1, Err(TokenError::Early)),
                (begin - LEEWAY, Ok(())),
                (begin, Ok(())),
                (end + LEEWAY, Ok(())),
                (end + LEEWAY + 1, Err(TokenError::Expired)),
                (i64::MIN, Err(TokenError::Early)),
                (i64::MAX, Err(TokenError::Expired)),
            ] {
                assert_eq!(claims.check_time(now), wanted, "{now} of {begin}");
            }
        }
    }

    #[test]
    fn other_texts_and_keys_are_no_keys() {
        let other = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap().serialize_pem();
        let words = |text: &str| Key::of_pem(text.as_bytes()).err().unwrap().to_string();
        assert_eq!(words(""), "no items found");
        assert_eq!(words(&other), "no key for ES256: WrongAlgorithm");
    }
}
