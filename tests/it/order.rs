//! Of several updates of a value the one with the greatest (event time, partition, offset) stays, in whatever order they are
//! applied (`docs/semantics.md`, Which value is kept).

use std::collections::BTreeMap;

use karst::{BrokerTime, PartitionId, prelude::*};
use serde_json::json;

use crate::world::{Random, outcomes, small, stored};

#[derive(Message)]
struct Reading {
    sensor: String,
    value: Option<i64>,
    #[message(event_time)]
    at: EventTime,
}

#[features(key = "id")]
#[allow(dead_code)]
struct Sensor {
    id: String,
    last_value: Option<i64>,
    last_at: EventTime,
}

#[stream(source = "readings")]
fn on_reading(reading: Reading) -> Updates![Sensor::id, Sensor::last_value, Sensor::last_at] {
    updates!(reading.sensor, reading.value, reading.at)
}

type Kept = ((i64, i32, usize), Option<i64>);

#[test]
fn every_arrival_order_over_three_partitions_ends_with_the_same_values() {
    for seed in 1..=8 {
        let mut random = Random::new(seed);
        let batch = [1, 3, 16, 1024][random.below(4) as usize];
        let dir = tempfile::tempdir().unwrap();
        // Few keys and few instants: ties of event time between and within partitions are common.
        let mut updates: Vec<(String, i64, Option<i64>)> = (0..240)
            .map(|nth| {
                let value = (random.below(5) > 0).then_some(nth);
                (format!("s{}", random.below(4)), 1_000 + random.below(30) as i64, value)
            })
            .collect();
        random.shuffle(&mut updates);
        let mut expected = BTreeMap::<String, Kept>::new();
        let mut offsets = [0; 3];
        karst::run(async {
            let source = MemorySource::json("readings").partitions(3).batch_records(batch);
            let engine =
                Engine::builder(dir.path()).settings(small()).source(source.clone()).resolver(on_reading).start().await?;
            for (sensor, at, value) in &updates {
                let partition = random.below(3) as i32;
                let order = (*at, partition, offsets[partition as usize]);
                offsets[partition as usize] += 1;
                let kept = expected.entry(sensor.clone()).or_insert((order, *value));
                if order > kept.0 {
                    *kept = (order, *value);
                }
                let json = json!({ "sensor": sensor, "value": value, "at": at }).to_string();
                source.send_to(PartitionId(partition), BrokerTime(*at), None, Some(json.as_bytes())).await?;
            }
            engine.drain().await?;
            let values = stored(&engine.handle(), "sensor");
            assert_eq!(values.len(), expected.len());
            for (sensor, ((at, ..), value)) in &expected {
                let value = value.map_or(Value::Null, Value::Int);
                assert_eq!(values[sensor]["last_value"], value, "seed {seed}, batches of {batch}, {sensor}");
                assert_eq!(values[sensor]["last_at"], Value::Time(EventTime(*at)), "seed {seed}, {sensor}");
            }
            assert_eq!(outcomes(&engine).applied, 240);
            engine.shutdown().await
        })
        .unwrap();
    }
}
