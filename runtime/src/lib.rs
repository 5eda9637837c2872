//! Actors that fail well: supervised, bounded mailboxes on actix; clocks; restart policy; health.
