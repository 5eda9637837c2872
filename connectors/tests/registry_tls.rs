//! A schema registry behind TLS, with an authority of its own, user and password; and what is told when one of them is wrong.
#![allow(clippy::unwrap_used)]

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use karst_connectors::{
    DecodedRecord, Format, KafkaSource, SchemaRegistry, Source as _, SourceSettings,
    registry::{StubMode, StubRegistry},
};
use karst_types::{BrokerTime, Offset, PartitionId, Records, message::Messages};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{ServerConfig, ServerConnection, StreamOwned, pki_types::PrivateKeyDer};

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// The authority's certificate as a file.
fn ca_file(dir: &Path, name: &str, authority: &Authority) -> String {
    let path: PathBuf = dir.join(name);
    std::fs::write(&path, authority.pem()).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Puts TLS before a registry, as a load balancer does, with a certificate for `host`. Ends with the process. Returns its port.
fn behind_tls(registry: &StubRegistry, authority: &Authority, host: &str) -> u16 {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec![host.to_owned()]).unwrap().signed_by(&key, authority).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = Arc::new(config.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (port, plain) = (listener.local_addr().unwrap().port(), registry.url().replace("http://", ""));
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let tls = StreamOwned::new(ServerConnection::new(Arc::clone(&config)).unwrap(), connection);
            let _ = forward(tls, &plain); // a client that does not like the certificate goes away
        }
    });
    port
}

fn forward(mut tls: StreamOwned<ServerConnection, TcpStream>, to: &str) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        tls.read_exact(&mut byte)?;
        request.push(byte[0]);
    }
    let mut plain = TcpStream::connect(to)?;
    plain.write_all(&request)?;
    let mut answer = Vec::new();
    plain.read_to_end(&mut answer)?;
    tls.write_all(&answer)?;
    tls.conn.send_close_notify();
    tls.flush()
}

fn registry() -> StubRegistry {
    let stub = StubRegistry::start().unwrap();
    stub.put(7, "AVRO", "\"string\"", &[]);
    stub.require("Basic a2Fyc3Q6czNjcmV0"); // karst:s3cret
    stub
}

/// Fetches the schema of a record and decodes it with it. `Err`: what the partition waits for.
fn decode(format: &Format) -> Result<String, String> {
    assert_eq!(format.problems(), Vec::<String>::new());
    let mut records = Records::new("words".into(), PartitionId(0));
    records.push(Offset(0), BrokerTime(0), None, Some(b"\0\0\0\0\x07\x06ada"));
    let mut decoder = format.decoder::<String>(&SourceSettings::new("words"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    while let Some(step) = decoder.prepare(&records, Duration::ZERO) {
        runtime.block_on(step).map_err(|unavailable| unavailable.to_string())?;
    }
    let mut decoded = decoder.decode(&records);
    assert!(matches!(decoded.events[0], DecodedRecord::Message { .. }), "{:?}", decoded.events);
    Ok(decoded.messages.as_any_mut().downcast_mut::<Messages<String>>().unwrap().slots.remove(0).unwrap())
}

fn asking(registry: SchemaRegistry) -> Result<String, String> {
    decode(&Format::avro().registry(registry).into())
}

#[test]
fn a_registry_with_an_authority_of_its_own_and_a_password_is_read() {
    let (dir, stub, authority) = (tempfile::tempdir().unwrap(), registry(), authority());
    let (ca, port) = (ca_file(dir.path(), "ca.pem", &authority), behind_tls(&stub, &authority, "localhost"));
    let by_builder = SchemaRegistry::new(format!("https://localhost:{port}")).basic_auth("karst", "s3cret").ca_file(&ca);
    assert_eq!(asking(by_builder).unwrap(), "ada");
    let in_the_url = SchemaRegistry::new(format!("https://karst:s3cret@localhost:{port}/")).ca_file(&ca);
    assert_eq!(asking(in_the_url).unwrap(), "ada");
    // Several authorities in one file: the right one counts, wherever it stands.
    let both = [self::authority().pem(), authority.pem()].concat();
    std::fs::write(dir.path().join("both.pem"), both).unwrap();
    let both = dir.path().join("both.pem").to_str().unwrap().to_owned();
    assert_eq!(asking(SchemaRegistry::new(format!("https://karst:s3cret@localhost:{port}")).ca_file(both)).unwrap(), "ada");
}

#[test]
fn the_environment_of_a_kafka_source_names_the_registry_its_authority_and_the_password() {
    let (dir, stub, authority) = (tempfile::tempdir().unwrap(), registry(), authority());
    let (ca, port) = (ca_file(dir.path(), "ca.pem", &authority), behind_tls(&stub, &authority, "localhost"));
    let source = |prefix: &'static str, password: &'static str| {
        let ca = ca.clone();
        KafkaSource::new("words").bootstrap_server("localhost:1").format(Format::avro()).environment(move |name| {
            Some(match name.strip_prefix(prefix)? {
                "SCHEMA_REGISTRY_URL" => format!("https://localhost:{port}"),
                "SCHEMA_REGISTRY_USERNAME" => "karst".to_owned(),
                "SCHEMA_REGISTRY_PASSWORD" => password.to_owned(),
                "SCHEMA_REGISTRY_CA_FILE" => ca.clone(),
                _ => return None,
            })
        })
    };
    for prefix in ["WORDS_KAFKA_", "KAFKA_"] {
        let source = source(prefix, "s3cret");
        source.resolve().unwrap();
        assert_eq!(decode(&source.resolved_format()).unwrap(), "ada", "{prefix}");
    }
    let refused = decode(&source("KAFKA_", "wr0ng").resolved_format()).unwrap_err();
    assert!(refused.contains("refuses user and password (401") && !refused.contains("wr0ng"), "{refused}");
    // What the builder says wins, also over a whole registry of the environment.
    let other = StubRegistry::start().unwrap();
    other.set_mode(StubMode::Status(503));
    let given = Format::avro().registry(SchemaRegistry::new(other.url()));
    let source = source("KAFKA_", "s3cret").format(given);
    assert!(decode(&source.resolved_format()).unwrap_err().contains(&other.url()));
    // A source without one says so before it starts.
    let lacks = KafkaSource::new("words").bootstrap_server("localhost:1").format(Format::avro()).environment(|_| None);
    assert!(lacks.resolve().unwrap_err().to_string().contains("schema registry"));
}

#[test]
fn a_certificate_that_is_not_to_be_trusted_is_waited_for_and_says_which_registry_and_why() {
    let (dir, stub, right, wrong) = (tempfile::tempdir().unwrap(), registry(), authority(), authority());
    let (right_file, wrong_file) = (ca_file(dir.path(), "right.pem", &right), ca_file(dir.path(), "wrong.pem", &wrong));
    let port = behind_tls(&stub, &right, "localhost");
    let url = format!("https://localhost:{port}");
    let secret = || SchemaRegistry::new(&url).basic_auth("karst", "s3cret").timeout("5s");
    let told = |registry: SchemaRegistry| {
        let why = asking(registry).unwrap_err();
        assert!(why.contains("cannot be reached") && !why.contains("s3cret"), "{why}");
        why
    };
    // Another authority; those of Mozilla, which are the default; a certificate for another host.
    for registry in [secret().ca_file(&wrong_file), secret()] {
        let why = told(registry);
        assert!(why.contains(&url) && why.contains("invalid peer certificate"), "{why}");
    }
    let elsewhere = behind_tls(&stub, &right, "registry.example.com");
    let registry = SchemaRegistry::new(format!("https://localhost:{elsewhere}")).ca_file(&right_file);
    assert!(told(registry).contains("registry.example.com"));
    assert_eq!(stub.requests(), 0, "whoever is not trusted hears no password");
    // Neither of the two protocols is taken for the other.
    told(SchemaRegistry::new(stub.url().replace("http://", "https://")).ca_file(&right_file).timeout("2s"));
    told(SchemaRegistry::new(url.replace("https://", "http://")).timeout("2s"));
}

#[test]
fn a_ca_file_that_holds_no_certificate_is_a_problem_before_anything_starts() {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in
        [("empty.pem", ""), ("text.pem", "no certificate"), ("key.pem", &*KeyPair::generate().unwrap().serialize_pem())]
    {
        let path = dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        let path = path.to_str().unwrap();
        let format = Format::from(Format::avro().registry(SchemaRegistry::new("https://localhost:1").ca_file(path)));
        let problems = format.problems();
        assert!(problems.len() == 1 && problems[0].contains(path) && problems[0].contains("no certificate"), "{problems:?}");
    }
}
