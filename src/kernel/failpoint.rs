//! Failpoints, in builds with debug assertions only: named places at which a test has the process end as a kill would
//! end it, with nothing said and nothing tidied up, or has a resolver panic. `SORTIE_FAILPOINT=reserved:3`: when it comes
//! there for the third time.

#[cfg(debug_assertions)]
use std::sync::OnceLock;
#[cfg(debug_assertions)]
use std::sync::atomic::{AtomicU32, Ordering};

/// A place at which a test may have the process end. In a release there is nothing here.
#[inline]
pub fn reach(name: &'static str) {
    #[cfg(debug_assertions)]
    if hit(name) {
        std::process::abort();
    }
    #[cfg(not(debug_assertions))]
    let _ = name;
}

/// A place at which a test may have a panic. In a release there is nothing here.
#[inline]
pub fn stumble(name: &'static str) {
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
