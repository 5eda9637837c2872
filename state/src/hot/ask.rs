//! Asking the memory for a place that will be needed soon. The one module of this crate with `unsafe` in it.
//!
//! A plain read would do the same, but the processor cannot get past it until the answer is there; past a request it can.
#![allow(unsafe_code)]

/// Asks for the cache line of `place`.
#[inline]
pub(crate) fn ask_for<T>(place: &T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the instruction reads nothing that the program could see, and faults on no address; and this one is a reference's.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(place).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}
