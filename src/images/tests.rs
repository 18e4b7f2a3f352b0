//! The images as the engine sees them: pulled from a registry in this process, kept, and removed.

use std::fs;
use std::path::Path;
use std::time::Duration;

use tokio::sync::mpsc;

use d2k_common::fault::Kind;
use d2k_engine::{Login, Pull};

use super::testing::{Fake, Folder, Tar, config, digest, gzip, images};
use super::{Images, Import, Loaded, Removed};

/// Two layers: the second replaces a file, removes another and empties a folder.
fn layers() -> Vec<Vec<u8>> {
    let one = Tar::default()
        .folder("etc/", 0o755)
        .file("etc/a", b"one")
        .file("etc/b", b"gone")
        .folder("tmp/", 0o1777)
        .folder("d/", 0o700)
        .file("d/x", b"x");
    let two = Tar::default()
        .file("etc/a", b"two")
        .file("etc/.wh.b", b"")
        .file("tmp/new", b"n")
        .folder("d/", 0o750)
        .file("d/.wh..wh..opq", b"")
        .file("d/y", b"y");
    vec![one.done(), two.done()]
}

/// Whether nothing is left in a folder. The index may still be written once in the background.
fn empty(folder: &Path) -> bool {
    (0..200).any(|_| {
        let empty = fs::read_dir(folder).expect("folder").next().is_none();
        if !empty {
            std::thread::sleep(Duration::from_millis(10));
        }
        empty
    })
}

async fn pull(images: &Images, reference: &str) -> d2k_engine::Result<d2k_engine::Image> {
    images.ensure(reference, Pull::Always, &[], None).await
}

#[tokio::test]
async fn a_pull_ends_with_an_image_and_its_files() {
    let (folder, fake) = (Folder::new(), Fake::start().await);
    fake.image("app", &layers());
    let images = fake.images(&folder.0).without_overlays("the test looks at files");
    let (sender, mut lines) = mpsc::channel(100);
    let reference = format!("{}/app", fake.host);
    let image = images.ensure(&reference, Pull::IfNotPresent, &[], Some(sender)).await.expect("pull");
    assert_eq!((image.entrypoint, image.command), (vec!["/e".to_owned()], vec!["c".to_owned()]));
    assert_eq!((image.user.as_str(), image.working_dir.as_str()), ("1:2", "/"));
    assert_eq!(image.stop_signal.as_deref(), Some("SIGQUIT"));
    assert!(
        image.digest_reference.starts_with(&format!("{reference}@sha256:")),
        "{}",
        image.digest_reference
    );
    let mut said = Vec::new();
    while let Some(line) = lines.recv().await {
        said.push(line.status);
    }
    for words in ["Pulling from app", "Pulling fs layer", "Downloading", "Download complete", "Extracting"] {
        assert!(said.iter().any(|line| line == words), "{words}: {said:?}");
    }
    assert_eq!(said.iter().filter(|line| *line == "Pull complete").count(), 2);
    assert_eq!(said.last().expect("last"), &format!("Status: Downloaded newer image for {reference}:latest"));
    let rootfs = images.rootfs(&reference, &folder.join("c")).await.expect("rootfs");
    assert!(rootfs.overlays.is_empty());
    assert_eq!(fs::read(rootfs.root.join("etc/a")).expect("a"), b"two");
    assert!(!rootfs.root.join("etc/b").exists() && !rootfs.root.join("d/x").exists());
    assert!(rootfs.root.join("d/y").exists() && rootfs.root.join("tmp/new").exists());
    let mode = |name: &str| {
        std::os::unix::fs::MetadataExt::mode(&fs::metadata(rootfs.root.join(name)).expect("mode")) & 0o7777
    };
    assert_eq!((mode("tmp"), mode("d"), mode("etc")), (0o1777, 0o750, 0o755), "tmp has its mode from below");
    assert!(empty(&folder.join("images/tmp")));
}

#[tokio::test]
async fn the_policy_decides_whether_the_registry_is_asked() {
    let (folder, fake) = (Folder::new(), Fake::start().await);
    fake.image("app", &layers());
    let (images, reference) = (fake.images(&folder.0), format!("{}/app", fake.host));
    let never = images.ensure(&reference, Pull::Never, &[], None).await.expect_err("never");
    assert_eq!(never.reason, "ErrImageNeverPull");
    assert_eq!(fake.asked("manifests"), 0);
    let first = pull(&images, &reference).await.expect("pull");
    let asked = fake.asked("");
    for (name, policy) in [
        (reference.as_str(), Pull::IfNotPresent),
        (reference.as_str(), Pull::Never),
        (first.id.as_str(), Pull::Always),
        (&first.id[7..20], Pull::IfNotPresent),
        (first.digest_reference.as_str(), Pull::Never),
    ] {
        assert_eq!(images.ensure(name, policy, &[], None).await.expect(name).id, first.id, "{name}");
    }
    assert_eq!(fake.asked(""), asked, "nobody asked the registry");
    // Opened again it is still there, and an update of the name leaves the old one without.
    drop(images);
    let images = fake.images(&folder.0);
    fake.image("app", &layers()[..1]);
    let second = pull(&images, &reference).await.expect("pull");
    assert_ne!(second.id, first.id);
    assert_eq!(images.list().iter().map(|entry| entry.references.len()).sum::<usize>(), 1);
    let bad = images.ensure("Bad", Pull::Never, &[], None).await.expect_err("bad");
    assert_eq!(bad.reason, "InvalidImageName");
    let login = Login { registry: "elsewhere".into(), username: "u".into(), password: "p".into() };
    let missing = format!("{}/none", fake.host);
    let denied = images.ensure(&missing, Pull::Always, &[login], None).await.expect_err("none");
    assert_eq!(denied.reason, "ErrImagePull");
    assert!(denied.message.contains("pull access denied for"), "{denied}");
    let nobody = pull(&images, "127.0.0.1:1/x").await.expect_err("nobody");
    assert!(nobody.reason == "ErrImagePull" && nobody.message.contains("does not answer"), "{nobody}");
}

#[tokio::test]
async fn damaged_blobs_and_lies_leave_nothing_behind() {
    let (folder, fake) = (Folder::new(), Fake::start().await);
    let blobs = fake.image("app", &layers());
    let path = format!("app/blobs/{}", blobs[1]);
    let (images, reference) = (fake.images(&folder.0), format!("{}/app", fake.host));
    fake.change(&path, |answer| answer.bytes[20] ^= 1);
    let error = pull(&images, &reference).await.expect_err("damaged");
    assert!(error.message.contains(&blobs[1]) && error.message.contains("damaged"), "{error}");
    assert!(!folder.join("images/blobs").join(blobs[1].replace(':', "/")).exists());
    // More bytes than the manifest says are not even read.
    fake.change(&path, |answer| answer.bytes.extend_from_slice(&[0; 1000]));
    assert!(pull(&images, &reference).await.expect_err("long").message.contains("more than"));
    // A layer that is not the one of the config.
    let lie = Fake::start().await;
    lie.image("app", &layers()[..1]);
    let wrong = config(&layers()[1..]);
    let blob = gzip(&layers()[0]);
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest(&wrong), "size": wrong.len() },
        "layers": [{ "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": digest(&blob), "size": blob.len() }],
    });
    lie.put("app/manifests/latest", manifest.to_string().into_bytes());
    lie.put(&format!("app/blobs/{}", digest(&wrong)), wrong);
    let error = pull(&images, &format!("{}/app", lie.host)).await.expect_err("lie");
    assert!(error.message.contains("is not the one of the image"), "{error}");
    assert!(images.list().is_empty() && empty(&folder.join("images/tmp")));
    drop(images);
    let images = fake.images(&folder.0);
    assert!(empty(&folder.join("images/layers")), "a layer without an image is not kept");
    fake.image("app", &layers());
    pull(&images, &reference).await.expect("whole again");
}

#[tokio::test]
async fn a_lost_connection_is_continued_and_a_dead_one_is_an_error() {
    let (folder, fake) = (Folder::new(), Fake::start().await);
    let noise: Vec<u8> = (0..200_000).map(|_| rand::random()).collect();
    let blobs = fake.image("app", &[Tar::default().file("noise", &noise).done()]);
    let path = format!("app/blobs/{}", blobs[0]);
    let (images, reference) = (fake.images(&folder.0), format!("{}/app", fake.host));
    fake.change(&path, |answer| answer.cut = Some((30_000, 2)));
    pull(&images, &reference).await.expect("continued");
    assert_eq!(fake.asked(&path), 3);
    images.remove(&reference, false, &[]).await.expect("remove");
    fake.change(&path, |answer| answer.cut = Some((0, 1000)));
    let error = pull(&images, &reference).await.expect_err("dead");
    assert!(error.message.contains("does not answer"), "{error}");
    assert!(empty(&folder.join("images/tmp")) && empty(&folder.join("images/blobs/sha256")));
}

#[tokio::test]
async fn who_comes_second_shares_the_work() {
    let (folder, fake) = (Folder::new(), Fake::start().await);
    let blobs = fake.image("app", &layers());
    fake.image("other", &layers());
    for blob in &blobs {
        fake.change(&format!("app/blobs/{blob}"), |answer| answer.wait = Duration::from_millis(100));
        fake.change(&format!("other/blobs/{blob}"), |answer| answer.wait = Duration::from_millis(100));
    }
    let images = fake.images(&folder.0);
    let names = [format!("{}/app", fake.host), format!("{}/other", fake.host), format!("{}/app", fake.host)];
    let pulls = futures::future::join_all(names.iter().map(|name| pull(&images, name))).await;
    for pulled in pulls {
        pulled.expect("pull");
    }
    for blob in &blobs {
        assert_eq!(fake.asked(blob), 1, "each layer is fetched once");
    }
    assert_eq!(images.list()[0].references.len(), 2);
    // One who gives up leaves the work to the others.
    images.prune(true, &[]).await.expect("prune");
    let given_up = tokio::time::timeout(Duration::from_millis(50), pull(&images, &names[0]));
    let (given_up, pulled) = futures::join!(given_up, pull(&images, &names[1]));
    assert!(given_up.is_err());
    pulled.expect("pull");
    // A prune does not take what is on its way.
    images.prune(true, &[]).await.expect("prune");
    let pruning = async {
        for _ in 0..30 {
            images.prune(false, &[]).await.expect("prune");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let (pulled, ()) = futures::join!(pull(&images, &names[0]), pruning);
    let rootfs = images.rootfs(&pulled.expect("pull").id, &folder.join("c")).await.expect("rootfs");
    assert!(rootfs.overlays.iter().flat_map(|overlay| &overlay.lower).all(|layer| layer.is_dir()));
}

#[tokio::test]
async fn removing_follows_the_rules_of_docker() {
    let (folder, fake) = (Folder::new(), Fake::start().await);
    fake.image("app", &layers());
    let (images, reference) = (fake.images(&folder.0), format!("{}/app", fake.host));
    let id = pull(&images, &reference).await.expect("pull").id;
    images.tag(&reference, "mine:1").await.expect("tag");
    images.tag("mine:1", "mine:2").await.expect("tag");
    assert_eq!(images.tag("mine:1", "host").await.expect_err("host").kind, Kind::Conflict);
    assert_eq!(images.tag("none", "x").await.expect_err("none").kind, Kind::NotFound);
    let error = images.remove(&id, false, &[]).await.expect_err("two repositories");
    assert!(error.message.contains("(must be forced)"), "{error}");
    let removed = images.remove(&reference, false, std::slice::from_ref(&id)).await.expect("untag");
    assert_eq!(removed, [Removed::Untagged(format!("{reference}:latest"))]);
    images.remove("mine:2", false, &[]).await.expect("untag");
    let error = images.remove("mine:1", false, std::slice::from_ref(&id)).await.expect_err("in use");
    assert!(error.kind == Kind::Conflict && error.message.contains("a container is using"), "{error}");
    assert_eq!(
        images.remove(&id, true, std::slice::from_ref(&id)).await.expect_err("in use").kind,
        Kind::Conflict
    );
    let removed = images.remove("mine:1", true, std::slice::from_ref(&id)).await.expect("forced");
    assert_eq!(removed, [Removed::Untagged("docker.io/library/mine:1".into())]);
    assert_eq!(images.list().len(), 1, "a container still has it");
    let pruned = images.prune(false, &[id]).await.expect("prune");
    assert!(pruned.removed.is_empty());
    let pruned = images.prune(false, &[]).await.expect("prune");
    assert!(pruned.reclaimed > 0 && matches!(pruned.removed.last(), Some(Removed::Deleted(_))));
    assert!(empty(&folder.join("images/layers")) && empty(&folder.join("images/blobs/sha256")));
    assert_eq!(images.remove("host", true, &[]).await.expect_err("host").kind, Kind::Conflict);
}

#[tokio::test]
async fn archives_of_images_go_in_and_out() {
    let folder = Folder::new();
    let store = images(&folder.0);
    let (layers, config) = (layers(), config(&layers()));
    let manifest =
        r#"[{"Config":"c.json","RepoTags":["a:1","b/c:2"],"Layers":["1/layer.tar","2/layer.tar"]}]"#;
    // As old versions of Docker write it, with a layer that two images share as a link.
    let archive = Tar::default()
        .file("manifest.json", manifest.as_bytes())
        .file("c.json", &config)
        .file("0/layer.tar", &layers[0])
        .folder("1/", 0o755)
        .symlink("1/layer.tar", "../0/layer.tar")
        .file("2/layer.tar", &gzip(&layers[1]))
        .done();
    let loaded = store.load(gzip(&archive).as_slice()).await.expect("load");
    assert_eq!(loaded, [Loaded::Name("a:1".into()), Loaded::Name("b/c:2".into())]);
    let facts = store.inspect("a:1").expect("inspect");
    assert_eq!((facts.id, facts.history.len(), facts.size), (digest(&config), 2, 3 + 4 + 1 + 3 + 1 + 1));
    let out = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let stream = store.save(&names).expect("save");
        async { futures::TryStreamExt::try_collect::<Vec<_>>(stream).await.expect("archive").concat() }
    };
    let (named, bare) = (out(&["a:1", "b/c:2"]).await, out(&[&digest(&config)]).await);
    for (archive, wanted) in [(&named, loaded), (&bare, vec![Loaded::Id(digest(&config))])] {
        let elsewhere = Folder::new();
        let store = images(&elsewhere.0);
        assert_eq!(store.load(archive.as_slice()).await.expect("load"), wanted);
        assert_eq!(store.list()[0].id, digest(&config));
    }
    // The same as an OCI layout only.
    let mut layout = Tar::default();
    for entry in tar::Archive::new(named.as_slice()).entries().expect("entries") {
        let mut entry = entry.expect("entry");
        let name = entry.path().expect("path").display().to_string();
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut bytes).expect("bytes");
        if name != "manifest.json" && !name.ends_with('/') {
            layout = layout.file(&name, &bytes);
        }
    }
    let elsewhere = Folder::new();
    let other = images(&elsewhere.0);
    let loaded = other.load(layout.done().as_slice()).await.expect("layout");
    assert_eq!(loaded, [Loaded::Name("a:1".into()), Loaded::Name("b/c:2".into())]);
    for (bad, words) in [
        (Tar::default().done(), "neither"),
        (b"nonsense".to_vec(), "cannot load"),
        (named[..5000].to_vec(), "cannot load"),
    ] {
        let error = other.load(bad.as_slice()).await.expect_err(words);
        assert!(error.kind == Kind::Invalid && error.message.contains(words), "{error}");
    }
    assert!(empty(&elsewhere.join("images/tmp")));
}

#[tokio::test]
async fn a_file_system_becomes_an_image() {
    let folder = Folder::new();
    let store = images(&folder.0);
    for archive in [layers()[0].clone(), gzip(&layers()[0])] {
        let import = Import {
            reference: Some("made:1".into()),
            changes: vec!["CMD [\"x\"]".into(), "WORKDIR /w".into()],
            message: "by hand".into(),
            created: "2026-01-02T03:04:05Z".into(),
        };
        let id = store.import(archive.as_slice(), import).await.expect("import");
        let image = store.ensure("made:1", Pull::Never, &[], None).await.expect("image");
        assert_eq!((image.id, image.command, image.working_dir.as_str()), (id, vec!["x".to_owned()], "/w"));
    }
    assert_eq!(store.history("made:1").expect("history")[0].comment, "by hand");
    for bad in [b"nonsense".to_vec(), gzip(&layers()[0])[..100].to_vec()] {
        assert!(store.import(bad.as_slice(), Import::default()).await.is_err());
    }
    assert_eq!(store.list().len(), 1);
    assert!(empty(&folder.join("images/tmp")));
}

#[tokio::test]
async fn layers_that_a_power_cut_has_damaged_are_made_again() {
    let (folder, fake) = (Folder::new(), Fake::start().await);
    fake.image("app", &layers());
    let reference = format!("{}/app", fake.host);
    let index = folder.join("images/index.json");
    let read = || fs::read_to_string(&index).expect("index");
    let image = pull(&fake.images(&folder.0), &reference).await.expect("pull");
    while read().contains("unsynced") {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let files = || {
        let layers = fs::read_dir(folder.join("images/layers")).expect("layers").flatten();
        layers.map(|layer| layer.path().join("fs/etc/a")).collect::<Vec<_>>()
    };
    let now = fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("boot");
    let now = now.trim();
    let damage = || files().iter().for_each(|file| fs::write(file, b"").expect("damage"));
    let whole = || files().iter().all(|file| fs::metadata(file).expect("a").len() == 3);
    damage();
    let marked = format!("\"unsynced\": \"{now}\", \"created\"");
    fs::write(&index, read().replace("\"created\"", &marked)).expect("index");
    drop(fake.images(&folder.0));
    assert!(!whole(), "a process that was killed in this boot has lost nothing");
    fs::write(&index, read().replace(now, "another")).expect("index");
    let images = fake.images(&folder.0);
    assert!(whole() && files().len() == 2 && !read().contains("unsynced"));
    assert_eq!(images.ensure(&reference, Pull::Never, &[], None).await.expect("image"), image);
    drop(images);
    fs::remove_dir_all(folder.join("images/layers")).expect("lost");
    drop(fake.images(&folder.0));
    assert!(whole() && files().len() == 2);
    fs::remove_dir_all(folder.join("images/layers")).expect("lost");
    fs::remove_dir_all(folder.join("images/blobs/sha256")).expect("lost");
    let images = fake.images(&folder.0);
    assert!(images.list().is_empty());
    pull(&images, &reference).await.expect("once more");
}
