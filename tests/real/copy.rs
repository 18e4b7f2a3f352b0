//! `docker cp`, both ways, into running and into created containers, by CLI and by archive.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::support::World;

fn sleeping() -> Option<World> {
    let world = World::new()?;
    world.docker("run -d --name web busybox sleep 1000").success();
    Some(world)
}

#[d2k_suite::test]
fn a_file_is_copied_in_and_out() {
    let Some(world) = sleeping() else { return };
    world.sh("echo hello > sent && docker cp sent web:/tmp/got").success();
    assert_eq!(world.docker("exec web cat /tmp/got").success(), "hello");
    world.docker("cp web:/tmp/got back").success();
    assert_eq!(world.sh("cat back").success(), "hello");
    world.docker("cp web:/tmp/got .").success();
    assert_eq!(world.sh("cat got").success(), "hello");
}

#[d2k_suite::test]
fn a_folder_is_copied_with_all_that_is_in_it_and_its_permissions() {
    let Some(world) = sleeping() else { return };
    world
        .sh("mkdir -p dir/sub && echo a > dir/one && echo b > dir/sub/two && chmod 750 dir/one && ln -s one dir/link \
             && docker cp dir web:/srv-dir")
        .success();
    let seen =
        world.docker("exec web sh -c 'cd /srv-dir; cat one sub/two; readlink link; stat -c %a one'").lines();
    assert_eq!(seen, ["a", "b", "one", "750"]);
    world.docker("cp web:/srv-dir out").success();
    assert_eq!(world.sh("diff -r dir out && stat -c %a out/one").success(), "750");
    // A trailing `/.` copies what is inside, not the folder itself.
    world.sh("mkdir inner && docker cp web:/srv-dir/. inner && ls inner | sort | tr '\\n' ' '").success();
    assert_eq!(world.sh("ls inner | sort | tr '\\n' ' '").success(), "link one sub");
}

#[d2k_suite::test]
fn large_files_arrive_whole() {
    let Some(world) = sleeping() else { return };
    world.sh("head -c 20000000 /dev/urandom > big && docker cp big web:/tmp/big").success();
    let sums =
        world.sh("sha256sum < big; docker exec web sha256sum < /dev/null /tmp/big | cut -c-64").lines();
    assert_eq!(sums[0][..64], sums[1][..64]);
    world.sh("docker cp web:/tmp/big back && cmp big back").success();
}

#[d2k_suite::test]
fn streams_of_tar_pass_by_the_dash() {
    let Some(world) = sleeping() else { return };
    let list = world.sh("docker cp web:/etc/passwd - | tar -t").success();
    assert_eq!(list, "passwd");
    world.sh("echo x > one && tar -c one | docker cp - web:/tmp").success();
    assert_eq!(world.docker("exec web cat /tmp/one").success(), "x");
}

#[d2k_suite::test]
fn what_is_copied_into_a_created_container_is_there_when_it_starts() {
    let Some(world) = World::new() else { return };
    world.docker("create --name later busybox cat /tmp/conf /etc/more/deep").success();
    world.sh("echo one > conf && docker cp conf later:/tmp/conf").success();
    world.sh("mkdir more && echo two > more/deep && docker cp more later:/etc/more").success();
    let start = world.docker("start -a later");
    assert_eq!(start.success(), "one\ntwo");
}

#[d2k_suite::test]
fn what_was_copied_before_the_start_can_be_read_before_it() {
    let Some(world) = World::new() else { return };
    world.docker("create --name later busybox true").success();
    world.sh("echo one > conf && docker cp conf later:/tmp/conf").success();
    world.docker("cp later:/tmp/conf back").success();
    assert_eq!(world.sh("cat back").success(), "one");
}

#[d2k_suite::test]
fn what_does_not_exist_cannot_be_copied() {
    let Some(world) = sleeping() else { return };
    world.docker("cp web:/nosuch .").failure(1, &["Could not find the file /nosuch in container web"]);
    world.sh("echo x > one").success();
    world.docker("cp one web:/no/such/dir/one").failure(1, &["Could not find the file"]);
    world.docker("cp one nosuch:/tmp").failure(1, &["No such container: nosuch"]);
}

#[d2k_suite::test]
fn the_head_of_an_archive_tells_what_the_path_is() {
    let Some(world) = sleeping() else { return };
    let stat = |path: &str| -> Value {
        let reply = world.http("HEAD", &format!("/containers/web/archive?path={path}"), &[], b"");
        assert_eq!(reply.status, 200);
        let header = reply.header("x-docker-container-path-stat").unwrap();
        let bytes = base64::engine::general_purpose::STANDARD.decode(header).unwrap();
        serde_json::from_slice(&bytes).unwrap()
    };
    let file = stat("/etc/passwd");
    assert_eq!(file["name"], "passwd");
    assert_eq!(file["mode"], 0o644);
    assert!(file["size"].as_u64().unwrap() > 10);
    // Go's bit for a folder, not the one of stat(2).
    assert_eq!(stat("/etc")["mode"].as_u64().unwrap(), (1 << 31) | 0o755);
    world.docker("exec web ln -s /etc/passwd /tmp/link").success();
    let link = stat("/tmp/link");
    assert_eq!(link["mode"].as_u64().unwrap() & (1 << 27), 1 << 27);
    assert_eq!(link["linkTarget"], "/etc/passwd");
    let reply = world.http("HEAD", "/containers/web/archive?path=/nosuch", &[], b"");
    assert_eq!(reply.status, 404);
}

#[d2k_suite::test]
fn an_archive_is_unpacked_only_into_a_folder_and_only_if_it_is_one() {
    let Some(world) = sleeping() else { return };
    let put = |path: &str, body: &[u8]| {
        let kind = [("Content-Type", "application/x-tar")];
        world.http("PUT", &format!("/containers/web/archive?path={path}"), &kind, body)
    };
    let error = put("/etc/passwd", b"").error(400);
    assert!(error.contains("not a directory"), "{error}");
    put("/nosuch", b"").error(404);
    put("/tmp", b"this is no tar archive at all, but it is long enough").error(400);
    world.http("PUT", "/containers/web/archive", &[], b"").error(400);
}

/// An archive with the file `hello`, written by the program of each name.
const COMPRESSED: [(&str, &str); 4] = [
    (
        "gzip",
        "H4sIAAAAAAACA8tIzcnJZ6AtMAACMxMTMA0E6DRIFokNFDc0MDU2Z1AwYKADKC0uSSxSUGAoys8vwaeOkPwQBRmg+OdiGAWjYBSMglEwwgAAYUYWAgAIAAA=",
    ),
    (
        "bzip2",
        "QlpoOTFBWSZTWRKZ8UEAAC77hMmQAEBAAG+AAAhiRJ4AAACACCAAVDSjCGBPUY0aDKn6UDT1B6mg0yU8ksrEYEERvmIeWI2uJQDpqJXkmbEQ030aH/cA8A1QZA9BjPiK0KriLYu5IpwoSAlM+KCA",
    ),
    (
        "xz",
        "/Td6WFoAAATm1rRGAgAhARwAAAAQz1jM4Af/AERdADQZSe6N1/i4P8k3Mt7I1YCE//IZ90G1wny6qtj+Uw2SLrdOtbDVDHkBNd8gMzG1RKmGhZUOPfcIaBirvBk3E+UxeAwAAAZlBP8a1HKpAAFggBAAAACKPF4qscRn+wIAAAAABFla",
    ),
    (
        "zstd",
        "KLUv/QRoNQIAkkIJEMC3AXIRD/PfnYSS4PDTUlIG3kx1lZZFyS8TMR7u+26zuxPRnAwggBmZB/bBxwGFeJ7CGAD2B8mDIww8YFAA20nBAWw/ECU=",
    ),
];

#[d2k_suite::test]
fn compressed_archives_are_unpacked_before_and_after_the_start() {
    let Some(world) = sleeping() else { return };
    world.docker("create --name later busybox true").success();
    let put = |container: &str, path: &str, archive: &[u8]| {
        let path = format!("/containers/{container}/archive?path={path}");
        world.http("PUT", &path, &[("Content-Type", "application/x-tar")], archive)
    };
    for (program, archive) in COMPRESSED {
        let archive = STANDARD.decode(archive).unwrap();
        world.docker(format!("exec web mkdir /tmp/{program}")).success();
        assert_eq!(put("web", &format!("/tmp/{program}"), &archive).status, 200, "{program}");
        assert_eq!(world.docker(format!("exec web cat /tmp/{program}/hello")).success(), "hello");
        world.docker(format!("exec web rm /tmp/{program}/hello")).success();
        put("web", &format!("/tmp/{program}"), &archive[..archive.len() / 2]).error(400);
    }
    assert_eq!(put("later", "/tmp", &STANDARD.decode(COMPRESSED[2].1).unwrap()).status, 200);
    world.docker("cp later:/tmp/hello .").success();
    assert_eq!(std::fs::read_to_string(world.directory().join("hello")).unwrap(), "hello\n");
}

#[d2k_suite::test]
fn files_are_copied_out_of_a_stopped_container_or_the_reason_is_told() {
    let Some(world) = World::new() else { return };
    world.docker("run --name done busybox sh -c 'echo x > /tmp/made'").success();
    let copy = world.docker("cp done:/tmp/made back");
    assert!(copy.status == 0 || copy.stderr.contains("running"), "{copy}");
}
