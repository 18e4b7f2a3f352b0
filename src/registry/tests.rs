//! The reader of registries against a registry in this process: names to facts, doors, mirrors,
//! silence, and the progress of pulls.

use std::time::{Duration, Instant};

use futures::StreamExt;
use serde_json::Value;

use super::testing::{Door, Fake, nowhere, reader, silence};
use super::{Credentials, PullItem, Reference, Registry, RegistryErrorKind};
use d2k_common::fault::{Fault, Kind};
use d2k_common::image::ImageFacts;

const DENIED: &str = "repository does not exist or may require 'docker login': \
                      denied: requested access to the resource is denied";

fn ann(host: &str, password: &str) -> Credentials {
    Credentials { server: host.to_owned(), ..Credentials::basic("ann", password) }
}

async fn pulled(
    registry: &Registry,
    reference: &Reference,
    known: Option<&str>,
) -> (Vec<Value>, Option<PullItem>) {
    let mut items: Vec<PullItem> = registry.pull(reference, None, known).collect().await;
    let last = items.pop();
    let lines = items.into_iter().filter_map(|item| match item {
        PullItem::Progress(line) => Some(line),
        _ => None,
    });
    (lines.collect(), last)
}

fn statuses(lines: &[Value]) -> Vec<&str> {
    lines.iter().filter_map(|line| line["status"].as_str()).collect()
}

#[tokio::test]
async fn an_image_is_read_through_its_list() {
    let fake = Fake::start(Door::Open).await;
    let reference = fake.reference("library/app:1");
    let facts = reader(&[]).image(&reference, None).await.expect("facts");
    assert_eq!(facts.reference, reference.to_string());
    assert_eq!((&facts.id, &facts.digest), (&fake.config, &fake.list));
    assert_eq!((facts.cmd, facts.exposed_ports), (vec!["sh".to_owned()], vec!["80/tcp".to_owned()]));
    assert_eq!((facts.size, facts.layers.len(), facts.synthesised), (25, 2, false));
    assert_eq!(facts.history.iter().map(|step| step.size).collect::<Vec<_>>(), [9, 0, 16]);
    let by_digest = reference.with_suffix(&fake.list).expect("digest");
    assert_eq!(reader(&[]).image(&by_digest, None).await.expect("by digest").id, fake.config);
    assert_eq!(reader(&[]).layers(&reference, None).await.expect("layers")[1].size, 16);
}

#[tokio::test]
async fn an_image_without_our_platform_is_not_found() {
    let fake = Fake::start(Door::Open).await;
    let other = reader(&[]).for_platform("linux/s390x".parse().expect("platform"));
    let error = other.image(&fake.reference("library/app:1"), None).await.expect_err("no such platform");
    assert_eq!(error.message, "no matching manifest for linux/s390x in the manifest list entries");
    assert_eq!(Fault::from(error).kind, Kind::NotFound);
}

#[tokio::test]
async fn unknown_tags_and_unknown_repositories_are_told_apart() {
    let fake = Fake::start(Door::Open).await;
    let error = reader(&[]).image(&fake.reference("library/app:2"), None).await.expect_err("tag");
    let words =
        format!("manifest for {}/library/app:2 not found: manifest unknown: manifest unknown", fake.host);
    assert_eq!((error.kind, &error.message), (RegistryErrorKind::NotFound, &words));
    let error = reader(&[]).image(&fake.reference("nosuch:1"), None).await.expect_err("repository");
    let words = format!("pull access denied for {}/nosuch, {DENIED}", fake.host);
    assert_eq!((error.kind, &error.message), (RegistryErrorKind::Denied, &words));
    assert_eq!(Fault::from(error).kind, Kind::NotFound);
}

#[tokio::test]
async fn doors_open_for_those_they_should() {
    for (door, anonymous) in
        [(Door::Basic, RegistryErrorKind::Denied), (Door::Bearer, RegistryErrorKind::Denied)]
    {
        let fake = Fake::start(door).await;
        let (reader, private) = (reader(&[]), fake.reference("private/app:1"));
        let nobody = reader.image(&private, None).await.expect_err("anonymous");
        assert_eq!(nobody.kind, anonymous);
        assert!(reader.image(&private, Some(&ann(&fake.host, "pw"))).await.is_ok());
        let wrong = reader.image(&private, Some(&ann(&fake.host, "no"))).await.expect_err("wrong password");
        assert_eq!(wrong.message, "unauthorized: incorrect username or password");
        assert_eq!(Fault::from(wrong).kind, Kind::Unauthorized);
        assert!(
            reader.image(&private, None).await.is_err(),
            "credentials of one call must not serve another"
        );
    }
}

#[tokio::test]
async fn tokens_serve_one_operation_and_of_every_kind() {
    let fake = Fake::start(Door::Bearer).await;
    let reader = reader(&[]);
    reader.image(&fake.reference("library/app:1"), None).await.expect("anonymous token");
    let asked = fake.asked();
    let tokens: Vec<_> = asked.iter().filter(|line| line.contains("/token")).collect();
    assert_eq!(tokens, ["GET /token?service=test&scope=repository%3Alibrary%2Fapp%3Apull"]);
    assert_eq!(asked.len(), 5, "a refusal, a token, list, manifest, config: {asked:?}");
    let identity = Credentials { identity_token: "ident".into(), ..Credentials::default() };
    let registry = Credentials { registry_token: "for-ann".into(), ..Credentials::default() };
    for credentials in [identity, registry] {
        assert!(reader.image(&fake.reference("private/app:1"), Some(&credentials)).await.is_ok());
    }
}

#[tokio::test]
async fn logins_are_tried_at_the_registry() {
    for door in [Door::Open, Door::Basic, Door::Bearer] {
        let fake = Fake::start(door).await;
        let answer = reader(&[]).login(&ann(&fake.host, "pw")).await.expect("login");
        assert_eq!((answer.status.as_str(), answer.identity_token.as_str()), ("Login Succeeded", ""));
        if door != Door::Open {
            let error = reader(&[]).login(&ann(&fake.host, "no")).await.expect_err("wrong password");
            assert_eq!(error.message, "unauthorized: incorrect username or password");
        }
    }
    let error = reader(&[]).login(&ann(&nowhere().await, "pw")).await.expect_err("nobody there");
    assert!(error.is_unreachable(), "{error}");
}

#[tokio::test]
async fn mirrors_are_asked_first_and_get_no_credentials() {
    let mirror = Fake::start(Door::Open).await;
    let origin = Fake::start(Door::Basic).await;
    let mirrors = [format!("*=http://{}", nowhere().await), format!("*=http://{}", mirror.host)];
    let reader = reader(&mirrors);
    reader
        .image(&origin.reference("library/app:1"), Some(&ann(&origin.host, "pw")))
        .await
        .expect("by mirror");
    assert!(origin.asked().is_empty());
    let asked = mirror.asked();
    assert_eq!(asked[0], format!("GET /v2/library/app/manifests/1?ns={}", origin.host));
    mirror.remove("private/app");
    let private = origin.reference("private/app:1");
    assert!(
        reader.image(&private, Some(&ann(&origin.host, "pw"))).await.is_ok(),
        "the registry itself is last"
    );
}

#[tokio::test]
async fn what_a_mirror_says_stands_where_its_registry_is_out_of_reach() {
    let mirror = Fake::start(Door::Open).await;
    let reference = Reference::parse(&format!("{}/nosuch:1", nowhere().await)).expect("reference");
    let error =
        reader(&[format!("*=http://{}", mirror.host)]).image(&reference, None).await.expect_err("unknown");
    assert_eq!(error.kind, RegistryErrorKind::Denied);
}

#[tokio::test]
async fn silence_ends_in_time_and_is_remembered() {
    let reference = Reference::parse(&format!("{}/x", silence().await)).expect("reference");
    let (reader, start) = (reader(&[]), Instant::now());
    let error = reader.image(&reference, None).await.expect_err("silence");
    assert!(error.is_unreachable() && error.message.contains("no answer in time"), "{error}");
    assert!(start.elapsed() >= Duration::from_millis(500));
    let again = Instant::now();
    assert!(reader.image(&reference, None).await.expect_err("silence").is_unreachable());
    assert!(again.elapsed() < Duration::from_millis(400), "a silent place is not waited for again at once");
}

#[tokio::test]
async fn lies_and_floods_are_refused() {
    let fake = Fake::start(Door::Open).await;
    fake.put(&format!("library/app/blobs/{}", fake.config), "application/octet-stream", b"{}");
    let error = reader(&[]).image(&fake.reference("library/app:1"), None).await.expect_err("wrong bytes");
    assert!(error.message.contains(&format!("where {} was asked for", fake.config)), "{error}");
    fake.put("library/app/manifests/big", "application/json", &vec![b' '; (4 << 20) + 1]);
    let error = reader(&[]).image(&fake.reference("library/app:big"), None).await.expect_err("too big");
    assert!(error.message.contains("more than 4194304 bytes"), "{error}");
    for (body, words) in [("nonsense", "unsupported manifest"), (r#"{"config":1}"#, "malformed")] {
        fake.put("library/app/manifests/bad", "text/plain", body.as_bytes());
        let error = reader(&[]).image(&fake.reference("library/app:bad"), None).await.expect_err("malformed");
        assert!(error.message.contains(words), "{error}");
    }
}

#[tokio::test]
async fn a_pull_tells_what_docker_tells() {
    let fake = Fake::start(Door::Bearer).await;
    let reference = fake.reference("library/app:1");
    let (lines, last) = pulled(&reader(&[]), &reference, None).await;
    let shown = statuses(&lines);
    assert_eq!(shown[..3], ["Pulling from library/app", "Pulling fs layer", "Pulling fs layer"]);
    assert_eq!(shown[3..5], ["Download complete", "Download complete"]);
    assert_eq!(lines[3]["progressDetail"]["total"], 9);
    assert_eq!(lines[0]["id"], "1");
    assert_eq!(lines[1]["id"].as_str().map(str::len), Some(12));
    assert_eq!(shown[6], format!("Digest: {}", fake.list));
    assert_eq!(shown[7], format!("Status: Downloaded newer image for {}", reference.familiar()));
    let Some(PullItem::Done(facts)) = last else { panic!("{last:?}") };
    assert_eq!(facts.digest, fake.list);
    let (lines, _) = pulled(&reader(&[]), &reference, Some(&fake.list)).await;
    let expected = format!("Status: Image is up to date for {}", reference.familiar());
    assert_eq!((lines.len(), statuses(&lines)[2]), (3, expected.as_str()));
}

#[tokio::test]
async fn a_pull_fails_at_once_or_at_the_layer_that_is_missing() {
    let fake = Fake::start(Door::Open).await;
    let (lines, last) = pulled(&reader(&[]), &fake.reference("nosuch:1"), None).await;
    assert!(lines.is_empty() && matches!(last, Some(PullItem::Failed(_))), "{last:?}");
    fake.remove(&super::transport::sha256(b"layer number two"));
    let (lines, last) = pulled(&reader(&[]), &fake.reference("library/app:1"), None).await;
    assert_eq!(statuses(&lines).last(), Some(&"Download complete"));
    let Some(PullItem::Failed(error)) = last else { panic!("{last:?}") };
    assert!(error.message.ends_with("is not at the registry: blob unknown"), "{error}");
    assert_eq!(super::pull::error_line("x")["errorDetail"]["message"], "x");
}

#[tokio::test]
async fn a_pull_without_a_registry_is_acknowledged() {
    let reference = Reference::parse(&format!("{}/x:1", nowhere().await)).expect("reference");
    let (lines, last) = pulled(&reader(&[]), &reference, None).await;
    let shown = statuses(&lines);
    assert!(shown[0].starts_with("d2k: no registry in reach (http://127.0.0.1:"), "{shown:?}");
    assert_eq!(shown[1], format!("Status: Image is up to date for {}", reference.familiar()));
    let Some(PullItem::Done(facts)) = last else { panic!("{last:?}") };
    let expected = ImageFacts {
        reference: reference.to_string(),
        id: super::transport::sha256(reference.to_string().as_bytes()),
        architecture: "amd64".into(),
        os: "linux".into(),
        synthesised: true,
        ..ImageFacts::default()
    };
    assert_eq!(*facts, expected);
}

#[tokio::test]
async fn distribution_describes_the_name() {
    let fake = Fake::start(Door::Open).await;
    let listed = reader(&[]).distribution(&fake.reference("library/app:1"), None).await.expect("list");
    assert_eq!(listed.descriptor.digest.as_deref(), Some(fake.list.as_str()));
    assert_eq!(listed.platforms.len(), 2, "an attestation is no platform");
    let single = reader(&[]).distribution(&fake.reference("library/app:single"), None).await.expect("single");
    assert_eq!(single.platforms[0].architecture.as_deref(), Some("amd64"));
    let kind = "application/vnd.docker.distribution.manifest.v2+json";
    assert_eq!(single.descriptor.media_type.as_deref(), Some(kind));
    assert!(single.descriptor.size > Some(100));
}

#[tokio::test]
async fn whether_a_registry_opens_an_image_is_told_by_one_question() {
    let fake = Fake::start(Door::Basic).await;
    let reference = fake.reference("private/app:1");
    let kind = async |reference: &Reference, known: Option<&Credentials>| {
        reader(&[]).opens(reference, known).await.map_err(|error| error.kind)
    };
    assert_eq!(kind(&reference, None).await, Err(RegistryErrorKind::Denied));
    assert_eq!(
        kind(&reference, Some(&ann(&fake.host, "guessed"))).await,
        Err(RegistryErrorKind::BadCredentials)
    );
    fake.asked();
    assert_eq!(kind(&reference, Some(&ann(&fake.host, "pw"))).await, Ok(()));
    assert!(fake.asked().iter().all(|line| line.starts_with("HEAD ")), "no pull is counted");
    let unknown = fake.reference("private/app:2");
    assert_eq!(kind(&unknown, Some(&ann(&fake.host, "pw"))).await, Err(RegistryErrorKind::NotFound));
    let bearer = Fake::start(Door::Bearer).await;
    assert_eq!(kind(&bearer.reference("library/app:1"), None).await, Ok(()));
    assert!(kind(&bearer.reference("private/app:1"), None).await.is_err());
    assert_eq!(kind(&bearer.reference("private/app:1"), Some(&ann(&bearer.host, "pw"))).await, Ok(()));
    let away = Reference::parse(&format!("{}/library/app:1", nowhere().await)).expect("reference");
    assert_eq!(kind(&away, None).await, Err(RegistryErrorKind::Unreachable));
}
