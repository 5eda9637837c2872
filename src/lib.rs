//! Karst: a streaming feature engine.
