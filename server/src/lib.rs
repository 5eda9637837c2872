//! HTTP: online query, health, metrics, topology.
