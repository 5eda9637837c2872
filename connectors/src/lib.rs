//! Bytes in: Kafka, files, memory; codecs. No actors, no features.
