//! The host of policies: good ones take effect at once and lose no request, bad ones never do, and
//! whatever a guest does, the request is answered and the daemon is unhurt.

mod policies {
    mod activation;
    mod desk;
    mod hostile;
    mod support;
    mod swap;
}
