//! The capabilities of a container: Docker's default ones, what is added to and dropped from them, and
//! what no container gets on this machine.

use std::fs;

use d2k_common::capabilities::DEFAULT;
use d2k_engine::Security;

/// All capabilities in the order of their numbers.
const CAPABILITIES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// The names of a container's capabilities. Without device rules, making device nodes is not among them.
pub fn of(security: &Security, no_device_rules: bool) -> Vec<String> {
    named(security, own_capabilities() & !withheld(security, no_device_rules))
}

/// The capabilities of a container: Docker's rule for adding to and dropping from the default.
fn named(security: &Security, own: u64) -> Vec<String> {
    let is = |list: &[String], name: &str| {
        list.iter().any(|word| word.to_uppercase().trim_start_matches("CAP_") == name)
    };
    let (all, none) = (security.privileged || is(&security.add, "ALL"), is(&security.drop, "ALL"));
    CAPABILITIES
        .iter()
        .enumerate()
        .filter(|(number, _)| own & (1 << number) != 0)
        .map(|(_, name)| *name)
        .filter(|name| {
            let base = if all { true } else { !none && DEFAULT.contains(name) };
            security.privileged || is(&security.add, name) || base && !is(&security.drop, name)
        })
        .map(|name| format!("CAP_{name}"))
        .collect()
}

/// Capabilities that no container gets here, by their bits. Where nothing keeps a container from devices,
/// it must not make nodes of them, however it asks; a privileged one has them all anyway.
fn withheld(security: &Security, no_device_rules: bool) -> u64 {
    let make = CAPABILITIES.iter().position(|name| *name == "MKNOD").unwrap_or_default();
    if no_device_rules && !security.privileged { 1 << make } else { 0 }
}

/// The capabilities of this process: nobody can give what he does not have.
fn own_capabilities() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let own = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    own.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(security: &Security) -> Vec<String> {
        named(security, u64::MAX)
    }

    #[test]
    fn capabilities_follow_dockers_rule() {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        assert_eq!(whole(&Security::default()).len(), DEFAULT.len());
        let only = Security { add: words(&["cap_net_admin"]), drop: words(&["ALL"]), ..Security::default() };
        assert_eq!(whole(&only), ["CAP_NET_ADMIN"]);
        let but = Security { add: words(&["ALL"]), drop: words(&["SYS_ADMIN"]), ..Security::default() };
        assert_eq!(whole(&but).len(), CAPABILITIES.len() - 1);
        let all = Security { privileged: true, drop: words(&["ALL"]), ..Security::default() };
        assert_eq!(whole(&all).len(), CAPABILITIES.len());
        assert!(named(&all, 1).eq(&["CAP_CHOWN"]));
    }

    #[test]
    fn without_device_rules_no_container_makes_nodes_but_a_privileged_one() {
        let has = |security: &Security, no_device_rules: bool| {
            let kept = !withheld(security, no_device_rules);
            named(security, kept).iter().any(|name| name == "CAP_MKNOD")
        };
        let plain = Security::default();
        let asks = Security { add: vec!["MKNOD".into()], ..Security::default() };
        let all = Security { add: vec!["ALL".into()], ..Security::default() };
        let privileged = Security { privileged: true, ..Security::default() };
        for security in [&plain, &asks, &all] {
            assert!(has(security, false) && !has(security, true), "{security:?}");
        }
        assert!(has(&privileged, true));
        assert_eq!(named(&plain, !withheld(&plain, true)).len(), DEFAULT.len() - 1);
    }
}
