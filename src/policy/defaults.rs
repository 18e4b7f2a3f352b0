//! The policies that are built in: the components of `plugins/`, always asked last.

/// The origin of the policies that come with d2k.
pub const BUILT_IN: &str = "built in";

/// Names and bytes of the components.
pub const ALL: [(&str, &[u8]); 6] = [
    ("naming", include_bytes!("../../plugins/naming/naming.wasm")),
    ("ports", include_bytes!("../../plugins/ports/ports.wasm")),
    ("volumes", include_bytes!("../../plugins/volumes/volumes.wasm")),
    ("workload", include_bytes!("../../plugins/workload/workload.wasm")),
    ("images", include_bytes!("../../plugins/images/images.wasm")),
    ("events", include_bytes!("../../plugins/events/events.wasm")),
];
