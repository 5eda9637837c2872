//! TLS and SASL, as in production.

use std::fs;

use karst::{KafkaSource, TimeSpan};

use crate::world::{check, drain, kafka, rows, run_folder, skip, start, until};

#[test]
fn the_broker_is_read_over_tls_with_user_and_password_and_a_wrong_password_is_told() {
    let Some(kafka) = kafka() else { return };
    let secure =
        run_folder().and_then(|folder| Some((fs::read_to_string(folder.join("secure_address")).ok()?, folder.join("ca.pem"))));
    let Some((address, ca)) = secure else {
        return skip("kafka: the broker has no secure listener (KAFKA_SECURE=1 scripts/kafka.sh start)");
    };
    let topic = kafka.topic("secure");
    kafka.produce(&topic, &rows()[..1_000]);
    let source = |password: &str| {
        let source = KafkaSource::new("flights").bootstrap_server(address.trim()).topic(&topic);
        let source = source.security_protocol("SASL_SSL").sasl_mechanism("PLAIN").ssl_ca_file(ca.to_string_lossy());
        source.sasl_username("karst").sasl_password(password)
    };
    let dir = tempfile::tempdir().unwrap();
    karst::run(async {
        let engine = start(dir.path(), source("wrong")).await?;
        let handle = engine.handle();
        let told = || handle.health().problems.iter().any(|problem| problem.why.to_lowercase().contains("authentication"));
        until("the refusal is told", told).await;
        assert!(!format!("{:?}", handle.health()).contains("\"wrong\""), "passwords are not told");
        drop(handle);
        engine.shutdown().await?;
        let engine = start(dir.path(), source("karst-secret")).await?;
        drain(&engine).await?;
        check(&engine, &rows()[..1_000], TimeSpan::INFINITY);
        engine.shutdown().await
    })
    .unwrap();
}
