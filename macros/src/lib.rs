//! Thin macros over the hand-written declarations of karst-features.
