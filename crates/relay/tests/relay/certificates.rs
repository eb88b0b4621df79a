//! The certificate, while the relay runs and while it does not.

use std::path::Path;
use std::process::{Output, Stdio};

use mildam_relay::{Config, Rate};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::client::tls;
use crate::program::{PROGRAM, Program, data};
use crate::relay::{TestRelay, loopback};

async fn shown(address: std::net::SocketAddr) -> CertificateDer<'static> {
    tls(address, &[b"mildam/1"]).await.unwrap().2.remove(0)
}

/// Asks until another certificate is shown than this one.
async fn other_than(address: std::net::SocketAddr, known: &CertificateDer<'_>) -> CertificateDer<'static> {
    loop {
        let now = shown(address).await;
        if now != *known {
            return now;
        }
    }
}

/// A relay that can be asked without end.
fn patient(config: &mut Config) {
    config.limits.new_connections = Rate::new(u32::MAX, u32::MAX, 1);
}

fn foreign(name: &str) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().self_signed(&key).unwrap();
    (certificate.pem(), key.serialize_pem())
}

async fn cert(data: &Path, arguments: &[&str]) -> Output {
    Command::new(PROGRAM).arg("cert").args(arguments).arg("--data").arg(data).output().await.unwrap()
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

// REQ T7
#[tokio::test]
async fn a_certificate_that_is_put_there_is_shown_without_a_restart() {
    let relay = TestRelay::start_with(patient).await;
    let first = shown(relay.tls).await;
    let file = relay.data().join("tls.pem");
    // What cannot be used is not: the one before stays.
    std::fs::write(&file, "no certificate").unwrap();
    let (certificate, key) = foreign("relay.example.org");
    let (_, other_key) = foreign("relay.example.org");
    std::fs::write(&file, format!("{certificate}{other_key}")).unwrap();
    assert_eq!(shown(relay.tls).await, first);
    std::fs::write(&file, format!("{certificate}{key}")).unwrap();
    let second = other_than(relay.tls, &first).await;
    assert_eq!(rustls_pem(&certificate), second);
    // It is not the relay's own: it stays over a restart.
    let relay = relay.restart().await;
    assert_eq!(shown(relay.tls).await, second);
    relay.stop().await;
}

fn rustls_pem(pem: &str) -> CertificateDer<'static> {
    use rustls::pki_types::pem::PemObject;
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

// REQ T7
#[tokio::test]
async fn the_own_certificate_stays_until_it_lacks_a_name() {
    let relay = TestRelay::start().await;
    let first = shown(relay.tls).await;
    let relay = relay.restart().await;
    assert_eq!(shown(relay.tls).await, first);
    let data = relay.stop().await;
    let relay =
        TestRelay::start_in(data, |config| config.tls_names = vec!["Relay.Example.ORG".to_owned()]).await;
    let named = shown(relay.tls).await;
    assert_ne!(named, first);
    assert!(named.windows(17).any(|window| window == b"relay.example.org"));
    relay.stop().await;
}

// REQ T7
#[tokio::test]
async fn a_certificate_of_a_lost_server_key_is_not_shown_any_more() {
    let relay = TestRelay::start().await;
    let (old, first) = (*relay.link.fingerprint(), shown(relay.tls).await);
    let data = relay.stop().await;
    std::fs::remove_file(data.path().join("server-key.der")).unwrap();
    let relay = TestRelay::start_in(data, |_| ()).await;
    assert_ne!(*relay.link.fingerprint(), old);
    assert_ne!(shown(relay.tls).await, first);
    relay.stop().await;
}

// REQ T7
#[tokio::test]
async fn the_command_renews_it_under_a_running_relay_and_the_link_stays() {
    let data = data();
    let mut program = Program::start_logging(data.path(), Stdio::piped()).await;
    let mut log = BufReader::new(program.child.stderr.take().unwrap()).lines();
    let before = text(&cert(data.path(), &["show"]).await);
    let first = shown(program.tls).await;
    let after = text(&cert(data.path(), &["new", "--tls-name", "192.0.2.7"]).await);
    let fingerprint = program.link.fingerprint().to_string();
    assert!(before.contains(&fingerprint) && after.contains(&fingerprint), "{before}{after}");
    assert!(before.contains("this relay's server key") && after.contains("192.0.2.7"), "{after}");
    while !log.next_line().await.unwrap().expect("more in its log").contains("was reloaded") {}
    assert_ne!(shown(program.tls).await, first);
    // The server key itself cannot be taken away from a relay that runs.
    let refused = cert(data.path(), &["replace-server-key"]).await;
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8(refused.stderr).unwrap().contains("another relay is using"));
}

// REQ T7
#[tokio::test]
async fn an_authority_answers_a_request() {
    let data = data();
    let missing = cert(data.path(), &["install", "nowhere.pem"]).await;
    assert_eq!(missing.status.code(), Some(1));
    assert!(String::from_utf8(missing.stderr).unwrap().contains("nowhere.pem"));
    let nameless = cert(data.path(), &["request"]).await;
    assert!(String::from_utf8(nameless.stderr).unwrap().contains("--public-host"));

    let asked = text(&cert(data.path(), &["request", "--public-host", "relay.example.org"]).await);
    assert!(asked.contains("relay.example.org") && !asked.contains("localhost"), "{asked}");
    let key = std::fs::read_to_string(data.path().join("tls-request-key.pem")).unwrap();
    let key = KeyPair::from_pem(&key).unwrap();
    let params = CertificateParams::new(vec!["relay.example.org".to_owned()]).unwrap();
    let answer = data.path().join("answer.pem");
    std::fs::write(&answer, params.self_signed(&key).unwrap().pem()).unwrap();
    // Not with another key.
    let stolen = data.path().join("key.pem");
    std::fs::write(&stolen, foreign("relay.example.org").1).unwrap();
    let [answer, stolen] = [&answer, &stolen].map(|path| path.to_str().unwrap());
    let refused = cert(data.path(), &["install", answer, "--key", stolen]).await;
    assert!(String::from_utf8(refused.stderr).unwrap().contains("do not belong together"));

    let installed = text(&cert(data.path(), &["install", answer]).await);
    assert!(installed.contains("relay.example.org"), "{installed}");
    let program = Program::start(data.path()).await;
    let chain = tls(program.tls, &[b"mildam/1"]).await.unwrap().2;
    assert_eq!(chain.len(), 1);
}

// REQ T7
#[tokio::test]
async fn a_server_key_that_was_stolen_is_replaced_and_the_old_one_kept() {
    let data = data();
    let program = Program::start(data.path()).await;
    let old = *program.link.fingerprint();
    program.stop().await;
    let said = text(&cert(data.path(), &["replace-server-key"]).await);
    assert!(!said.contains(&old.to_string()), "{said}");
    assert!(data.path().join("server-key.old.der").exists());
    let program = Program::start(data.path()).await;
    assert_ne!(*program.link.fingerprint(), old);
    assert!(said.contains(&program.link.fingerprint().to_string()));
}

// REQ T7
#[tokio::test]
async fn a_certificate_from_elsewhere_is_named_in_the_settings() {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = foreign("relay.example.org");
    let [chain_file, key_file] = ["fullchain.pem", "privkey.pem"].map(|name| folder.path().join(name));
    std::fs::write(&chain_file, &certificate).unwrap();
    let data = data();
    let mut config = Config::new(data.path().to_owned());
    config.listen = Some(loopback());
    config.tls_files = Some(mildam_relay::PemFiles { chain: chain_file.clone(), key: key_file.clone() });
    let error = mildam_relay::Relay::bind(config.clone()).await.unwrap_err().to_string();
    assert!(error.contains("privkey.pem"), "{error}");
    std::fs::write(&key_file, key).unwrap();
    let relay = TestRelay::start_in(data, |given| {
        patient(given);
        given.tls_files = config.tls_files;
    })
    .await;
    assert_eq!(shown(relay.tls).await, rustls_pem(&certificate));
    let (next, next_key) = foreign("relay.example.org");
    // One after the other, as those do it who renew them.
    std::fs::write(&chain_file, &next).unwrap();
    std::fs::write(&key_file, next_key).unwrap();
    assert_eq!(other_than(relay.tls, &rustls_pem(&certificate)).await, rustls_pem(&next));
    relay.stop().await;
}
