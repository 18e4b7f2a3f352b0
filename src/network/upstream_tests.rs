//! The machine's own files of names, as text.

use super::upstream::parse;

#[test]
fn hosts_and_servers_are_read_past_comments_and_nonsense() {
    let known = parse(
        "127.0.0.1 localhost\n127.0.1.1 machine\n::1 localhost ip6-localhost\n10.0.0.5 Db.Internal db # the database\nnonsense here\n\n",
        "# made by hand\nsearch example.org\nnameserver 192.0.2.53 ; first\nnameserver ::1\nnameserver nowhere\n",
    );
    assert_eq!(known.servers, ["192.0.2.53:53".parse().unwrap(), "[::1]:53".parse().unwrap()]);
    assert_eq!(known.hosts["db.internal"], ["10.0.0.5".parse::<std::net::IpAddr>().unwrap()]);
    assert_eq!(known.hosts["localhost"].len(), 2);
    assert!(!known.hosts.contains_key("machine"), "its loopback is not the Pod's");
    assert_eq!(known.reverse[&"10.0.0.5".parse().unwrap()], ["db.internal", "db"]);
}
