//! What every policy of d2k that is written in Rust needs: the macro that makes a component of a
//! function, and access to settings. A policy is plain Rust, tested natively; this is its glue.

#[cfg(all(feature = "arena", target_arch = "wasm32"))]
mod arena;
// The parser of the daemon, compiled from its file. As a dependency it would lie outside of this workspace; Cargo
// then hashes its absolute path into the names of symbols, and plugins/build gives other bytes in each folder.
#[path = "../../../src/quantity/lib.rs"]
pub mod quantity;
mod rules;
mod settings;

#[cfg(all(feature = "arena", target_arch = "wasm32"))]
#[global_allocator]
static MEMORY: arena::Arena = arena::Arena;

pub use rules::{Rule, label_fits, name_fits};
pub use settings::Settings;
#[doc(hidden)]
pub use wit_bindgen;

/// Makes a policy of a crate: generates the types of `wit/`, the metadata, and the export of one
/// hook. The types are in the module `api`: `api::Input`, `api::Plan`, and `api::types`.
///
/// ```ignore
/// d2k_guest::policy! {
///     wit: "../../wit",
///     world: "volumes-policy",
///     hook: volumes,
///     name: "quota",
///     summary: "Refuses volumes above a size.",
///     settings: [("max-size", "10Gi", "The largest volume.")],
///     check: check,    // fn(&Settings) -> Vec<(String, String)>: name of a setting, what is wrong
///     decide: decide,  // fn(&api::Input, &Settings) -> Result<Option<api::Plan>, api::Refusal>
/// }
/// ```
#[macro_export]
macro_rules! policy {
    (
        wit: $wit:literal,
        world: $world:literal,
        hook: $hook:ident,
        name: $name:literal,
        summary: $summary:literal,
        settings: [$(($setting:literal, $default:literal, $help:literal)),* $(,)?],
        check: $check:path,
        decide: $decide:path $(,)?
    ) => {
        mod generated {
            #![allow(clippy::all, unused)]
            $crate::wit_bindgen::generate!({
                path: $wit,
                world: $world,
                runtime_path: "d2k_guest::wit_bindgen::rt",
                additional_derives: [PartialEq],
            });
        }

        /// The types of the hook.
        #[allow(unused_imports)]
        pub mod api {
            pub use super::generated::d2k::policy::log;
            pub use super::generated::d2k::policy::types::{self, Refusal, RefusalKind};
            pub use super::generated::exports::d2k::policy::$hook::*;
        }

        struct Exported;

        impl generated::exports::d2k::policy::about::Guest for Exported {
            fn describe() -> generated::exports::d2k::policy::about::Info {
                use generated::exports::d2k::policy::about::{Info, Setting};
                tell_panics();
                let settings: &[(&str, &str, &str)] = &[$(($setting, $default, $help)),*];
                Info {
                    name: $name.to_owned(),
                    version: env!("CARGO_PKG_VERSION").to_owned(),
                    summary: $summary.to_owned(),
                    settings: settings
                        .iter()
                        .map(|(name, default, help)| Setting {
                            name: (*name).to_owned(),
                            default: (*default).to_owned(),
                            help: (*help).to_owned(),
                        })
                        .collect(),
                    extra: Vec::new(),
                }
            }

            fn check(
                settings: Vec<(String, String)>,
            ) -> Vec<generated::exports::d2k::policy::about::Problem> {
                tell_panics();
                let problems: Vec<(String, String)> = $check(&$crate::Settings::new(settings));
                problems
                    .into_iter()
                    .map(|(setting, message)| generated::exports::d2k::policy::about::Problem { setting, message })
                    .collect()
            }
        }

        impl generated::exports::d2k::policy::$hook::Guest for Exported {
            fn decide(
                input: api::Input,
                settings: Vec<(String, String)>,
            ) -> Result<Option<api::Plan>, api::Refusal> {
                tell_panics();
                $decide(&input, &$crate::Settings::new(settings))
            }
        }

        /// A trap has no words: the log has them.
        fn tell_panics() {
            std::panic::set_hook(Box::new(|info| {
                api::log::write(api::log::Level::Error, &info.to_string());
            }));
        }

        /// A refusal of what is wrong as it stands.
        #[allow(dead_code)]
        fn invalid(message: String) -> api::Refusal {
            api::Refusal { message, kind: api::RefusalKind::Invalid, extra: Vec::new() }
        }

        /// A refusal of what may not be done.
        #[allow(dead_code)]
        fn forbid(message: String) -> api::Refusal {
            api::Refusal { message, kind: api::RefusalKind::Forbidden, extra: Vec::new() }
        }

        generated::export!(Exported with_types_in generated);
    };
}
