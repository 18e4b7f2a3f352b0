//! Archives of layers, honest and hostile, and what they may leave on the disk: nothing outside of
//! their folder, and inside what overlayfs and copies need.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use d2k_common::fault::Result;

use super::host;
use super::marks::{self, Marks};
use super::merge::{self, By};
use super::plan::How;
use super::testing::{Folder, Tar, digest, gzip, images};
use super::unpack::unpack;

/// Unpacks over the layers in `below` (topmost first) into a new folder of `folder`.
fn layer(folder: &Folder, name: &str, archive: Tar, below: &[&PathBuf]) -> Result<PathBuf> {
    let marks = Marks::probe(&folder.0).expect("probe");
    marked(folder, name, archive, below, marks)
}

fn marked(folder: &Folder, name: &str, archive: Tar, below: &[&PathBuf], marks: Marks) -> Result<PathBuf> {
    let root = folder.join(name);
    fs::create_dir(&root).expect("root");
    let below: Vec<PathBuf> = below.iter().map(|path| (*path).clone()).collect();
    let archive = archive.done();
    unpack(gzip(&archive).as_slice(), &digest(&archive), &root, &below, marks).map(|_| root)
}

fn status(path: &Path) -> fs::Metadata {
    fs::symlink_metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn names_that_lead_out_are_refused() {
    let folder = Folder::new();
    let attacks = [
        Tar::default().file("../out", b"x"),
        Tar::default().file("a/../../out", b"x"),
        Tar::default().folder("../out/", 0o755),
        Tar::default().symlink("../out", "x"),
        Tar::default().hard_link("in", "../out"),
        Tar::default().hard_link("../out", "in"),
        Tar::default().file("a/.wh...", b""),
        Tar::default().file("a/.wh..", b""),
        Tar::default().file("a", b"").file("a/b", b""),
        Tar::default().symlink("l", "l").file("l/x", b""),
        Tar::default().folder("d/", 0o755).hard_link("d2", "d"),
        Tar::default().file("./", b"x"),
        Tar::default().raw("null", b'3', 0o666, "", b""),
        Tar::default().hard_link("in", "nothing"),
    ];
    for (number, attack) in attacks.into_iter().enumerate() {
        let error = layer(&folder, &number.to_string(), attack, &[]).expect_err("attack").message;
        assert!(error.contains("cannot unpack layer sha256:"), "{number}: {error}");
        assert!(!folder.join("out").exists(), "{number}");
    }
}

#[test]
fn links_end_at_the_root_of_the_layer() {
    let folder = Folder::new();
    let outside = folder.join("outside");
    fs::create_dir(&outside).expect("outside");
    fs::write(outside.join("secret"), b"s").expect("secret");
    let away = outside.to_str().expect("path").to_owned();
    let inside = |root: &Path, rest: &str| root.join(away.trim_start_matches('/')).join(rest);
    // Through an absolute link, a relative one, one that took the place of a folder, and a chain.
    let root =
        layer(&folder, "a", Tar::default().symlink("l", &away).file("l/x", b"x"), &[]).expect("absolute");
    assert!(inside(&root, "x").is_file());
    let up = format!("../../../../../../../..{away}");
    let root =
        layer(&folder, "b", Tar::default().symlink("l", &up).file("l/x", b"x"), &[]).expect("relative");
    assert!(inside(&root, "x").is_file());
    let swapped =
        Tar::default().folder("d/", 0o755).file("d/first", b"").symlink("d", &away).file("d/x", b"x");
    let root = layer(&folder, "c", swapped, &[]).expect("swapped");
    assert!(inside(&root, "x").is_file() && status(&root.join("d")).is_symlink());
    let chain = Tar::default().symlink("one", "two/three").symlink("two", "/").symlink("three", &away);
    let chain = chain.file("one/x", b"x").folder("one/y/", 0o777).file("one/.wh.secret", b"");
    let root = layer(&folder, "d", chain, &[]).expect("chain");
    assert!(inside(&root, "x").is_file() && inside(&root, "y").is_dir());
    // A file takes the place of a link instead of following it; a hard link does not follow either.
    let file = format!("{away}/secret");
    let over = Tar::default().symlink("s", &file).file("s", b"mine").symlink("t", &file).hard_link("u", "t");
    let root = layer(&folder, "e", over, &[]).expect("over");
    assert_eq!(fs::read(root.join("s")).expect("s"), b"mine");
    assert!(status(&root.join("u")).is_symlink());
    let hard = Tar::default().symlink("l", &away).hard_link("stolen", "l/secret");
    assert!(layer(&folder, "f", hard, &[]).is_err());
    // A link in a layer below, of which this one only knows the name.
    let below = folder.join("below");
    fs::create_dir(&below).expect("below");
    symlink(&away, below.join("l")).expect("link");
    let root = layer(&folder, "g", Tar::default().file("l/x", b"x"), &[&below]).expect("below");
    assert!(inside(&root, "x").is_file() && !root.join("l").exists());
    // Names from the root are names in the layer.
    let root =
        layer(&folder, "h", Tar::default().file("/etc/x", b"x").file("a/./b/../c", b""), &[]).expect("names");
    assert!(root.join("etc/x").is_file() && root.join("a/c").is_file());
    let names: Vec<_> =
        fs::read_dir(&outside).expect("outside").flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(names, ["secret"]);
    assert_eq!(fs::read(outside.join("secret")).expect("secret"), b"s");
}

#[test]
fn folders_without_end_are_refused() {
    let folder = Folder::new();
    let mut deep = Tar::default().folder("a/", 0o755).symlink("s", "/a");
    for _ in 0..200 {
        deep = deep.folder("s/b/b/b/b/", 0o755).raw("s", b'2', 0o777, "s/b/b/b/b", b"");
    }
    assert!(layer(&folder, "x", deep, &[]).is_err());
    let mut nested = Tar::default();
    for depth in (1..=40).map(|n| n * 40) {
        nested = nested.extension("path", &format!("{}x", "d/".repeat(depth))).file("x", b"");
    }
    let error = layer(&folder, "y", nested, &[]).expect_err("nested").message;
    assert!(error.contains("too deep") && error.len() < 1000, "{error}");
}

#[test]
fn what_an_archive_says_of_a_file_is_kept() {
    let folder = Folder::new();
    let archive = Tar::default()
        .extension("SCHILY.xattr.user.colour", "red")
        .raw("a", b'0', 0o4751, "", b"content")
        .hard_link("b", "a")
        .raw("p", b'6', 0o640, "", b"")
        .folder("d/", 0o1500)
        .extension("mtime", "1700000001.25")
        .file("d/f", b"")
        .extension("SCHILY.xattr.trusted.overlay.redirect", "/etc")
        .folder("e/", 0o755);
    let root = layer(&folder, "a", archive, &[]).expect("unpack");
    let a = status(&root.join("a"));
    assert_eq!((a.mode() & 0o7777, a.nlink(), a.mtime()), (0o4751, 2, 1_700_000_000));
    let mut value = [0; 8];
    let length =
        rustix::fs::lgetxattr(root.join("a"), "user.colour", value.as_mut_slice()).expect("attribute");
    assert_eq!(&value[..length], b"red");
    assert!(rustix::fs::lgetxattr(root.join("e"), "trusted.overlay.redirect", value.as_mut_slice()).is_err());
    assert_eq!(status(&root.join("p")).mode(), 0o010_640);
    let d = status(&root.join("d"));
    assert_eq!((d.mode() & 0o7777, d.mtime()), (0o1500, 1_700_000_000), "although a file came into it later");
    let f = status(&root.join("d/f"));
    assert_eq!((f.mtime(), f.mtime_nsec()), (1_700_000_001, 250_000_000));
}

#[test]
fn what_a_layer_removes_is_marked_and_gone_in_copies() {
    for marks in [Marks::Files, Marks::probe(&Folder::new().0).expect("probe")] {
        removing(&Folder::new(), marks);
    }
}

fn removing(folder: &Folder, marks: Marks) {
    let base = Tar::default()
        .folder("d/", 0o711)
        .file("d/old", b"old")
        .file("gone", b"")
        .file("kept", b"k")
        .folder("was/", 0o755)
        .file("was/old", b"");
    let base = marked(folder, "base", base, &[], marks).expect("base");
    let middle = Tar::default().file("x/y", b"").file(".wh.nothing", b"");
    let middle = marked(folder, "middle", middle, &[&base], marks).expect("middle");
    let top = Tar::default()
        .file("d/new", b"n")
        .file("d/.wh..wh..opq", b"")
        .file(".wh.gone", b"")
        .file(".wh.never", b"")
        .file("d/.wh..wh.plnk", b"")
        .file(".wh.was", b"")
        .folder("was/", 0o755)
        .file("was/new", b"")
        .hard_link("again", "kept");
    let top = marked(folder, "top", top, &[&middle, &base], marks).expect("top");
    if marks != Marks::Files {
        assert!(marks::is_gone_entry(&status(&top.join("gone"))));
        assert!(marks::is_opaque(fs::File::open(top.join("was")).expect("was")), "removed and made again");
    }
    assert!(marks::is_opaque(fs::File::open(top.join("d")).expect("d")));
    assert_eq!(status(&top.join("d")).mode() & 0o7777, 0o711, "the mode comes from below");
    assert_eq!(fs::read(top.join("again")).expect("again"), b"k", "a link into a layer below");
    let gone = Tar::default().hard_link("again", "gone");
    assert!(marked(folder, "gone", gone, &[&top, &middle, &base], marks).is_err(), "a link to what is gone");
    for (name, by) in [("copy", By::Copy), ("link", By::Link)] {
        let all = folder.join(name);
        for layer in [&base, &middle, &top] {
            merge::apply(layer, &all, by).expect("merge");
        }
        let mut names: Vec<_> = walk(&all, &all);
        names.sort();
        assert_eq!(names, ["again", "d", "d/new", "kept", "was", "was/new", "x", "x/y"], "{name} {marks:?}");
    }
}

fn walk(folder: &Path, root: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).expect("folder").flatten() {
        names.push(entry.path().strip_prefix(root).expect("below").display().to_string());
        if entry.file_type().expect("kind").is_dir() {
            names.extend(walk(&entry.path(), root));
        }
    }
    names
}

#[test]
fn damaged_and_foreign_archives_are_named() {
    let folder = Folder::new();
    let marks = Marks::Files;
    let archive = Tar::default().file("a", &[7; 5000]).done();
    let cases: [(&str, Vec<u8>); 4] = [
        ("short", gzip(&archive)[..40].to_vec()),
        ("xz", b"\xfd7zXZ\0rest".to_vec()),
        ("bzip2", b"BZh91AY&SY".to_vec()),
        ("zstd", b"\x28\xb5\x2f\xfdrest".to_vec()),
    ];
    for (name, bytes) in cases {
        let root = folder.join(name);
        fs::create_dir(&root).expect("root");
        let error = unpack(bytes.as_slice(), &digest(&archive), &root, &[], marks).expect_err(name).message;
        assert!(error.contains("cannot unpack layer"), "{error}");
    }
    let root = folder.join("other");
    fs::create_dir(&root).expect("root");
    let error = unpack(archive.as_slice(), &digest(b"other"), &root, &[], marks).expect_err("other").message;
    assert!(error.contains("is not the one of the image"), "{error}");
}

#[test]
fn the_host_is_planned_around_the_data() {
    let folder = Folder::new();
    let system = folder.join("system");
    for name in
        ["usr/bin", "etc", "proc/1", "tmp/x", "var/lib/d2k/containers", "var/lib/apt", "var/log", "dev"]
    {
        fs::create_dir_all(system.join(name)).expect(name);
    }
    symlink("usr/bin", system.join("bin")).expect("link");
    fs::write(system.join("note"), b"n").expect("note");
    fs::write(system.join("var/lib/file"), b"f").expect("file");
    let data = system.join("var/lib/d2k");
    let root = data.join("containers/1");
    fs::create_dir(&root).expect("container");
    let rootfs = host::rootfs(&system, &root, &data).expect("plan");
    let mut places: Vec<_> = rootfs.overlays.iter().map(|overlay| overlay.at.display().to_string()).collect();
    places.sort();
    assert_eq!(places, ["etc", "usr", "var/lib/apt", "var/log"]);
    let at = |name: &str| rootfs.root.join(name);
    assert_eq!(fs::read_link(at("bin")).expect("bin"), Path::new("usr/bin"));
    assert!(at("note").is_file() && at("var/lib/file").is_file());
    assert!(!at("var/lib/d2k").exists() && !at("proc/1").exists() && !at("tmp/x").exists());
    assert_eq!(status(&at("tmp")).mode() & 0o7777, 0o1777);
    for overlay in &rootfs.overlays {
        assert!(
            at(&overlay.at.display().to_string()).is_dir() && overlay.upper.is_dir() && overlay.work.is_dir()
        );
    }
}

#[tokio::test]
async fn too_many_layers_for_a_mount_become_one() {
    let folder = Folder::new();
    let store = images(&folder.0);
    if !matches!(store.how(), How::Overlay { .. }) {
        return;
    }
    let layers: Vec<Vec<u8>> = (0..60).map(|n| Tar::default().file(&format!("f{n}"), b"x").done()).collect();
    let mut archive = Tar::default().file("c", &super::testing::config(&layers));
    let names: Vec<String> = (0..60).map(|n| format!("l{n}")).collect();
    for (name, layer) in names.iter().zip(&layers) {
        archive = archive.file(name, layer);
    }
    let manifest = serde_json::json!([{ "Config": "c", "RepoTags": ["many"], "Layers": names }]).to_string();
    store.load(archive.file("manifest.json", manifest.as_bytes()).done().as_slice()).await.expect("load");
    for container in ["c1", "c2"] {
        let rootfs = store.rootfs("many", &folder.join(container)).await.expect("rootfs");
        assert_eq!(rootfs.overlays[0].lower.len(), 1);
        assert_eq!(walk(&rootfs.overlays[0].lower[0], &rootfs.overlays[0].lower[0]).len(), 60);
    }
    store.remove("many", false, &[]).await.expect("remove");
}
