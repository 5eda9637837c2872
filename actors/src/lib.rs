//! The path itself: topology, stages, engine, online queries.
