//! Raw events of an aggregate that is to be exact: kept in the finest tiles, so that the tile that a window's edge cuts is counted event by
//! event.
//!
//! ```text
//! (version (26 bytes) | value (sized) | by (optional, sized) | group (optional, sized)) × events
//! ```

use karst_types::{EventTime, Version};

use super::aggregate::Input;
use crate::bytes;

/// Appends one event.
pub(crate) fn push(state: &mut Vec<u8>, input: &Input<'_>) {
    input.version.encode(state);
    bytes::put_sized(state, input.value);
    bytes::put_optional(state, input.by);
    bytes::put_optional(state, input.group);
}

fn next(rest: &mut &[u8], each: impl FnOnce(&Input<'_>)) -> Option<()> {
    let (version, after) = Version::decode(rest)?;
    *rest = after;
    let value = bytes::sized(rest)?;
    let mut optional = || match bytes::u8(rest)? {
        0 => Some(None),
        1 => bytes::sized(rest).map(Some),
        _ => None,
    };
    let (by, group) = (optional()?, optional()?);
    each(&Input { value, by, group, version: &version });
    Some(())
}

/// The events after `from` and up to `to`.
pub(crate) fn within(mut state: &[u8], from: EventTime, to: EventTime, mut each: impl FnMut(&Input<'_>)) {
    while !state.is_empty() {
        let one = |input: &Input<'_>| {
            if input.version.event_time > from && input.version.event_time <= to {
                each(input);
            }
        };
        if next(&mut state, one).is_none() {
            return; // not of our making; `check` is for bytes from disk
        }
    }
}

/// Whether bytes from disk are events.
pub(crate) fn check(mut state: &[u8]) -> bool {
    while !state.is_empty() {
        if next(&mut state, |_| ()).is_none() {
            return false;
        }
    }
    true
}
