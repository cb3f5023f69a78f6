//! The phases between the start of the process and its first token, for whoever measures them.
//!
//! A phase is a `tracing` span of the target [`TARGET`] at level INFO. It lasts from its first entry to its end, may
//! overlap others, and has two fields: `bytes`, what it moved, and `detail`, a text.

/// The target of the spans.
pub const TARGET: &str = "startup";

/// A span for a phase: `phase!("weights")`.
macro_rules! phase {
    ($name:literal) => {
        tracing::info_span!(
            target: "startup",
            $name,
            bytes = tracing::field::Empty,
            detail = tracing::field::Empty
        )
    };
}

pub(crate) use phase;
