//! The capabilities that Docker gives to every container (moby, `oci/caps`). The embedded engine gives these, and a
//! request that adds another one counts as privileged: one list, so that the two cannot differ.

/// Names in upper case without `CAP_`, in order.
pub const DEFAULT: [&str; 14] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];
