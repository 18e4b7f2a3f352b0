//! Certificates of clients, names of the server, and who learns whether k2d is well.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair, date_time_ymd};

use crate::device::{Device, soon};
use crate::support::{Output, run, signal_process};

fn curl(words: &[&str]) -> Output {
    let mut curl = Command::new("curl");
    curl.arg("-sS").args(words);
    run(curl, &format!("curl {}", words.join(" ")), b"", Duration::from_secs(10))
}

/// A certificate and a key of the device's own authority, good until a year, as files of the folder.
fn client(device: &Device, name: &str, until: i32) -> (String, String) {
    let authority =
        KeyPair::from_pem(&std::fs::read_to_string(device.data.join("pki/ca.key")).unwrap()).unwrap();
    let mut about = CertificateParams::new(Vec::new()).unwrap();
    about.distinguished_name = rcgen::DistinguishedName::new();
    about.distinguished_name.push(DnType::CommonName, "d2k");
    let issuer = Issuer::new(about, authority);
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "system:masters");
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.not_after = date_time_ymd(until, 1, 1);
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    let write = |ending: &str, text: String| {
        let file = device.data.join(format!("{name}.{ending}"));
        std::fs::write(&file, text).unwrap();
        file.to_str().unwrap().to_owned()
    };
    (write("crt", certificate.pem()), write("key", key.serialize_pem()))
}

#[d2k_suite::test]
fn a_certificate_that_has_expired_opens_no_door() {
    let Some(device) = Device::start() else { return };
    let url = format!("https://127.0.0.1:{}/version", device.port);
    let authority = device.data.join("pki/ca.crt").display().to_string();
    let ask = |(certificate, key): (String, String)| {
        curl(&["--cacert", &authority, "--cert", &certificate, "--key", &key, &url])
    };
    assert!(ask(client(&device, "good", 2100)).success().contains("gitVersion"));
    let refused = ask(client(&device, "old", 2001));
    assert!(
        refused.status != 0 && refused.stdout.is_empty() && refused.stderr.contains("expired"),
        "{refused}"
    );
    device.kubectl("get nodes").success();
}

#[d2k_suite::test]
fn the_api_has_the_names_that_it_was_given() {
    let Some(mut device) = Device::start() else { return };
    let authority = std::fs::read(device.data.join("pki/ca.crt")).unwrap();
    device.kill();
    let mut command = device.serve(device.engine());
    command.args(["--names", "edge.example.com,192.0.2.9"]);
    device.begin_with(command);
    let token = std::fs::read_to_string(device.data.join("pki/token")).unwrap();
    let file = device.data.join("pki/ca.crt").display().to_string();
    let ask = |host: &str| {
        let url = format!("https://{host}:{}/version", device.port);
        let to = format!("{host}:{}:127.0.0.1:{}", device.port, device.port);
        let header = format!("Authorization: Bearer {token}");
        curl(&["--cacert", &file, "--connect-to", &to, "-H", &header, &url])
    };
    for host in ["edge.example.com", "192.0.2.9", "localhost"] {
        assert!(ask(host).success().contains("gitVersion"), "{host}");
    }
    ask("other.example.com").failure(60, &["other.example.com"]);
    assert_eq!(std::fs::read(&file).unwrap(), authority, "clients go on with what they have");
    let mut printed = Command::new(device.program());
    printed
        .args(["kubeconfig", "--data-path"])
        .arg(&device.data)
        .env("K2D_NAMES", "edge.example.com,192.0.2.9");
    let printed = run(printed, "k2d kubeconfig", b"", Duration::from_secs(10)).success();
    let server = format!("server: https://edge.example.com:{}\n", device.port);
    assert!(printed.contains(&server), "{printed}");
}

#[d2k_suite::test]
fn k2d_tells_whether_it_is_well() {
    let Some(mut device) = Device::start() else { return };
    soon("it is asked", || device.health().status == 0);
    assert_eq!(device.health().success(), "k2d serves the Kubernetes API, and the engine answers");
    assert_eq!(mode(&device.data.join("health.sock")), 0o600);
    signal_process(device.process(), "STOP");
    let begin = Instant::now();
    device.health().failure(1, &["k2d: ", "no answer within 5 s"]);
    assert!(begin.elapsed() < Duration::from_secs(9), "{:?}", begin.elapsed());
    signal_process(device.process(), "CONT");
    device.health().success();
    device.kill();
    device.health().failure(1, &["no k2d serves this folder"]);
    device.begin();
    soon("it is asked again", || device.health().status == 0);
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}
