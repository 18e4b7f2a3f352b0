//! The records of `wit/` as Rust types, and one world a hook. Generated: the records here are the
//! words in which the daemon asks for decisions.
#![allow(missing_docs)]

/// What every policy says of itself.
pub mod about {
    wasmtime::component::bindgen!({
        inline: "package d2k:host; world about { export d2k:policy/about@1.0.0; }",
        path: "../../wit",
        world: "d2k:host/about",
    });
}

/// The first hook: the shared types and the log are generated with it.
pub mod naming {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "naming-policy",
        additional_derives: [PartialEq, serde::Serialize],
    });
}

macro_rules! hook {
    ($(#[$doc:meta])* $name:ident, $world:literal) => {
        $(#[$doc])*
        pub mod $name {
            wasmtime::component::bindgen!({
                path: "../../wit",
                world: $world,
                additional_derives: [PartialEq, serde::Serialize],
                with: {
                    "d2k:policy/types": crate::bindings::naming::d2k::policy::types,
                    "d2k:policy/log": crate::bindings::naming::d2k::policy::log,
                },
            });
        }
    };
}

hook!(
    /// Which Service a container's ports become.
    ports, "ports-policy");
hook!(
    /// How large a volume is.
    volumes, "volumes-policy");
hook!(
    /// Which workload a container becomes.
    workload, "workload-policy");
hook!(
    /// Which image is meant.
    images, "images-policy");
hook!(
    /// Which of Docker's events a change is.
    events, "events-policy");
hook!(
    /// The last say on each object.
    manifest, "manifest-policy");

pub use naming::d2k::policy::{log, types};
