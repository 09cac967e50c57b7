//! Failpoints, in builds with debug assertions only: named places where a test makes the process
//! abort as a kill would, without output or cleanup, or makes a resolver panic.
//! `SORTIE_FAILPOINT=reserved:3` triggers on the third pass.

#[cfg(debug_assertions)]
use std::sync::OnceLock;
#[cfg(debug_assertions)]
use std::sync::atomic::{AtomicU32, Ordering};

/// A place where a test may abort the process. Does nothing in a release.
#[inline]
pub fn reach(name: &'static str) {
    #[cfg(debug_assertions)]
    if hit(name) {
        std::process::abort();
    }
    #[cfg(not(debug_assertions))]
    let _ = name;
}

/// A place where a test may cause a panic. Does nothing in a release.
#[inline]
pub fn panic_at(name: &'static str) {
    #[cfg(debug_assertions)]
    assert!(!hit(name), "stumbled at {name}");
    #[cfg(not(debug_assertions))]
    let _ = name;
}

#[cfg(debug_assertions)]
fn hit(name: &'static str) -> bool {
    static CHOSEN: OnceLock<Option<(String, AtomicU32)>> = OnceLock::new();
    let chosen =
        CHOSEN.get_or_init(|| crate::kernel::config::failpoint().map(|(name, times)| (name, AtomicU32::new(times))));
    chosen.as_ref().is_some_and(|(chosen, left)| chosen == name && left.fetch_sub(1, Ordering::SeqCst) == 1)
}
