//! What settings mean, and what is said about those that mean nothing.

use super::*;

fn read(given: &[(&str, &str)]) -> Result<Settings, String> {
    let given: BTreeMap<String, String> =
        given.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Settings::read(&|name| given.get(name).cloned())
}

#[test]
fn nothing_given_is_what_the_readme_says() {
    let settings = read(&[]).unwrap();
    assert_eq!((settings.namespace.as_str(), settings.port), ("default", 2375));
    assert_eq!(settings.listen.to_string(), "127.0.0.1");
    assert_eq!((settings.log_level, settings.log_format), (LogLevel::Info, LogFormat::Text));
    assert_eq!((settings.admin_port, settings.low_port_threshold), (Some(9323), 1024));
    assert_eq!(settings.start_timeout, Duration::from_secs(120));
    assert!(settings.publish_service && settings.publish_proxy);
    assert_eq!(settings.docker_host, "tcp://d2k.default.svc.cluster.local:2375");
    assert_eq!((settings.kubeconfig, settings.tls, settings.socket), (None, None, None));
    assert_eq!((settings.foreign, settings.hosts.len(), settings.own_pod), (Foreign::Show, 0, None));
    assert_eq!(settings.admin_listen.to_string(), "127.0.0.1");
}

#[test]
fn in_a_cluster_all_addresses_are_listened_on() {
    let host = ("KUBERNETES_SERVICE_HOST", "10.0.0.1");
    assert_eq!(read(&[host]).unwrap().listen.to_string(), "0.0.0.0");
    assert_eq!(read(&[host, ("D2K_KUBECONFIG", "/k")]).unwrap().listen.to_string(), "127.0.0.1");
    assert_eq!(read(&[host, ("D2K_LISTEN", "::1")]).unwrap().listen.to_string(), "::1");
    let settings = read(&[host, ("D2K_LISTEN", "::1"), ("HOSTNAME", "d2k-1")]).unwrap();
    assert_eq!(
        (settings.admin_listen.to_string().as_str(), settings.own_pod.as_deref()),
        ("0.0.0.0", Some("d2k-1"))
    );
}

#[test]
fn the_admin_port_does_not_follow_the_address_of_the_api() {
    let settings = read(&[("D2K_LISTEN", "0.0.0.0")]).unwrap();
    assert_eq!(settings.admin_listen.to_string(), "127.0.0.1");
    let settings = read(&[
        ("D2K_ADMIN_LISTEN", "10.0.0.1"),
        ("D2K_HOSTS", "a.example, B.example"),
        ("D2K_FOREIGN", "hide"),
    ]);
    let settings = settings.unwrap();
    assert_eq!(settings.admin_listen.to_string(), "10.0.0.1");
    assert_eq!(
        (settings.hosts, settings.foreign),
        (vec!["a.example".to_owned(), "B.example".to_owned()], Foreign::Hide)
    );
    for (name, value) in [
        ("D2K_FOREIGN", "remove"),
        ("D2K_HOSTS", "a b"),
        ("D2K_HOSTS", "*"),
        ("D2K_ADMIN_LISTEN", "localhost"),
    ] {
        let error = read(&[(name, value)]).unwrap_err();
        assert!(error.starts_with(name) && error.contains("it must be"), "{error}");
    }
}

#[test]
fn values_are_read() {
    let settings = read(&[
        ("D2K_NAMESPACE", "team-a"),
        ("D2K_ADMIN_PORT", "0"),
        ("D2K_START_TIMEOUT", "2m"),
        ("D2K_PUBLISH", "proxy"),
        ("D2K_REGISTRY_MIRRORS", "docker.io=https://mirror:5000/, *=http://cache"),
        ("D2K_INSECURE_REGISTRIES", "reg:5000,10.0.0.1"),
        ("D2K_TLS_CERT", "c"),
        ("D2K_TLS_KEY", "k"),
        ("D2K_KUBECONFIG", ""),
    ])
    .unwrap();
    assert_eq!(settings.docker_host, "tcp://d2k.team-a.svc.cluster.local:2375");
    assert_eq!((settings.admin_port, settings.start_timeout), (None, Duration::from_secs(120)));
    assert!(settings.publish_proxy && !settings.publish_service);
    assert_eq!(settings.registry_mirrors["docker.io"], "https://mirror:5000");
    assert_eq!(settings.registry_mirrors["*"], "http://cache");
    assert_eq!(settings.insecure_registries, ["reg:5000", "10.0.0.1"]);
    assert_eq!(settings.tls.unwrap().authority, None);
    assert_eq!(read(&[("D2K_START_TIMEOUT", "45")]).unwrap().start_timeout, Duration::from_secs(45));
}

#[test]
fn what_means_nothing_is_one_line_with_name_value_and_what_is_allowed() {
    let error = read(&[("D2K_LOG_LEVEL", "loud")]).unwrap_err();
    assert_eq!(error, "D2K_LOG_LEVEL (--log-level) is \"loud\": it must be debug, info, warn or error");
    let wrong = [
        ("D2K_NAMESPACE", "My_Space"),
        ("D2K_PORT", "65536"),
        ("D2K_PORT", "-1"),
        ("D2K_LISTEN", "localhost"),
        ("D2K_LOG_FORMAT", "xml"),
        ("D2K_LOW_PORT_THRESHOLD", "low"),
        ("D2K_ADMIN_PORT", "9323/tcp"),
        ("D2K_START_TIMEOUT", "0"),
        ("D2K_START_TIMEOUT", "-5s"),
        ("D2K_START_TIMEOUT", "soon"),
        ("D2K_PUBLISH", "service,host"),
        ("D2K_PUBLISH", ","),
        ("D2K_TLS_CERT", "only"),
        ("D2K_TLS_CA", "only"),
        ("D2K_CLUSTER_DOMAIN", "..a"),
        ("D2K_REGISTRY_MIRRORS", "docker.io"),
        ("D2K_REGISTRY_MIRRORS", "docker.io=ftp://x"),
        ("D2K_INSECURE_REGISTRIES", "a b"),
        ("D2K_VOLUME_SIZE", "5Gigs"),
        ("D2K_VOLUME_SIZE", "0"),
        ("D2K_VOLUME_SIZE", "0.0Gi"),
        ("D2K_VOLUME_SIZE", "500m"),
        ("D2K_VOLUME_SIZE", "5gi"),
        ("D2K_VOLUME_SIZE", "5 Gi"),
        ("D2K_VOLUME_SIZE", "-5Gi"),
        ("D2K_VOLUME_SIZE", "+5Gi"),
        ("D2K_VOLUME_SIZE", "1e9"),
        ("D2K_VOLUME_SIZE", "1E9"),
        ("D2K_STORAGE_CLASS", "No Class"),
        ("D2K_DOCKER_HOST", "d2k:2375"),
    ];
    for (name, value) in wrong {
        let error = read(&[(name, value)]).unwrap_err();
        assert!(
            error.starts_with("D2K_") && error.contains("it must be") && !error.contains('\n'),
            "{error}"
        );
    }
}

#[test]
fn a_flag_is_its_variable_in_small_letters() {
    for setting in SETTINGS {
        let flag = setting.name.trim_start_matches("D2K_").to_lowercase().replace('_', "-");
        assert_eq!(setting.flag, flag);
    }
}
