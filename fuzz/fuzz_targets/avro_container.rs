//! Avro object container files of any bytes: reading them ends, with records or a fault of the file.
#![no_main]

use std::sync::OnceLock;

use karst_connectors::{Fetched, FileSource, Source, testing::ManualClock};
use karst_types::PartitionId;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    static PATH: OnceLock<std::path::PathBuf> = OnceLock::new();
    let path = PATH.get_or_init(|| std::env::temp_dir().join(format!("karst-fuzz-{}.avro", std::process::id())));
    std::fs::write(path, input).expect("a file can be written");
    let source = FileSource::avro("fuzz", path);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let running = source.start(ManualClock::new()).expect("it starts");
        let mut reader = running.reader(PartitionId(0)).expect("a reader");
        if reader.seek(None).await.is_err() {
            return;
        }
        while let Ok(Fetched::Records(_)) = reader.next().await {}
    });
});
