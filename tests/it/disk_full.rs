//! A disk that runs full under the engine, for real: a small file system of its own, in a mount namespace of its own.

use std::{
    fs::{self, File},
    io::Write,
    path::Path,
    process::Command,
};

use karst::{BrokerTime, PartitionId, prelude::*};
use serde_json::json;

use crate::world::{child_under, is_child, outcomes, small, stored, succeeded, until};

#[derive(Message)]
struct Reading {
    id: String,
    text: String,
}

#[features(key = "id")]
#[allow(dead_code)]
struct Meter {
    id: String,
    text: String,
    #[windowed("all", count)]
    readings: Windowed<i64>,
}

#[stream(source = "readings")]
fn on_reading(reading: Reading) -> Updates![Meter::id, Meter::text] {
    updates!(reading.id, reading.text)
}

const METERS: u64 = 50;

/// Records `from..to`, each of a kilobyte.
async fn send(source: &MemorySource, from: u64, to: u64) -> karst::Result<()> {
    for nth in from..to {
        let value = json!({ "id": format!("m{}", nth % METERS), "text": format!("{nth:<1000}") }).to_string();
        source.send_to(PartitionId(0), BrokerTime::from_secs(nth as i64), None, Some(value.as_bytes())).await?;
    }
    Ok(())
}

/// Takes all space that is left.
fn fill(path: &Path) {
    let mut ballast = File::create(path).unwrap();
    for size in [1 << 20, 1 << 12] {
        let block = vec![7; size];
        while ballast.write_all(&block).is_ok() {}
    }
}

fn on_a_small_disk(disk: &Path) {
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=64m", "tmpfs"]).arg(disk).status().unwrap();
    assert!(mounted.success());
    karst::run(async {
        let source = MemorySource::json("readings").batch_records(50).buffer_bytes("64MiB");
        let mut settings = small();
        settings.store.memory = "32MiB".parse().unwrap();
        let builder = Engine::builder(disk.join("state")).settings(settings).source(source.clone());
        let engine = builder.resolver(on_reading).start().await?;
        let handle = engine.handle();
        send(&source, 0, 1_000).await?;
        engine.drain().await?;
        fill(&disk.join("ballast"));
        send(&source, 1_000, 6_000).await?;
        let told = || {
            let health = handle.health();
            health.problems.iter().any(|problem| problem.what.starts_with("shard") || problem.what.contains("source shard"))
        };
        until("the full disk is told", told).await;
        let problem = handle.health().problems.into_iter().find(|problem| problem.what.contains("shard")).unwrap();
        assert!(!problem.hint.is_empty(), "{problem:?}");
        // It stays so for a while; nothing is given up.
        for _ in 0..20 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            assert!(outcomes(&engine).conserved());
        }
        fs::remove_file(disk.join("ballast")).unwrap();
        tokio::time::timeout(std::time::Duration::from_secs(120), engine.drain()).await.expect("it goes on by itself")?;
        until("all is well again", || handle.health().healthy).await;
        assert_eq!((outcomes(&engine).records, outcomes(&engine).applied), (6_000, 6_000));
        for meter in 0..METERS {
            let newest = 6_000 - METERS + meter;
            let row = &stored(&handle, "meter")[&format!("m{meter}")];
            assert_eq!(row["text"], karst::Value::Str(format!("{newest:<1000}").into()));
            let answer =
                engine.query(&karst::QueryRequest::new().input("meter.id", format!("m{meter}")).output("meter.readings"));
            assert_eq!(answer.data[0].value, karst::Value::Int((6_000 / METERS) as i64), "each counts once");
        }
        drop(handle);
        engine.shutdown().await
    })
    .unwrap();
}

#[test]
fn a_full_disk_stops_the_shards_and_says_so_and_they_go_on_once_there_is_room() {
    if let Some(disk) = is_child().then(|| std::env::var_os("KARST_TEST_DISK").unwrap()) {
        return on_a_small_disk(Path::new(&disk));
    }
    let disk = tempfile::tempdir().unwrap();
    // The mount is seen by the child alone, and goes with it. Who is not root becomes it in a namespace.
    const RUNNER: [&str; 3] = ["unshare", "--mount", "--map-root-user"];
    let tried = Command::new(RUNNER[0]).args(&RUNNER[1..]).arg("true").output();
    if !tried.is_ok_and(|tried| tried.status.success()) {
        if let Some(path) = std::env::var_os("KARST_TEST_SKIPPED") {
            let mut skipped = File::options().append(true).create(true).open(path).unwrap();
            writeln!(skipped, "disk full: `{} true` fails, so there is no small disk to fill", RUNNER.join(" ")).unwrap();
        }
        return;
    }
    let name = "disk_full::a_full_disk_stops_the_shards_and_says_so_and_they_go_on_once_there_is_room";
    let small = disk.path().to_string_lossy();
    succeeded(&child_under(&RUNNER, name, &[("KARST_TEST_DISK", &small)]).output().unwrap());
}
