//! The host of policies: good ones take effect at once and lose no request, bad ones never do, and
//! whatever a guest does, the request is answered and the daemon is unhurt.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod policies {
    mod activation;
    mod blame;
    mod desk;
    mod files;
    mod hostile;
    mod recorded;
    mod required;
    mod support;
    mod swap;
}
