//! What the user declares, as data: feature classes, resolvers, the registry, validation, query plans.
