//! The deadline of the rendering on this thread. minijinja knows no clock, so it is read where
//! a rendering calls back: at lookups of values, at output, and in filters that read whole texts.

use std::cell::Cell;
use std::time::Instant;

thread_local! {
    static UNTIL: Cell<Option<Instant>> = const { Cell::new(None) };
    static PASSED: Cell<bool> = const { Cell::new(false) };
}

/// Renders with a deadline. The second part is true if the deadline stopped the rendering.
pub(super) fn within<T>(until: Instant, render: impl FnOnce() -> T) -> (T, bool) {
    UNTIL.set(Some(until));
    PASSED.set(false);
    let done = render();
    UNTIL.set(None);
    (done, PASSED.replace(false))
}

/// True once the deadline has passed.
pub(super) fn has_passed() -> bool {
    if !PASSED.get() && UNTIL.get().is_some_and(|until| Instant::now() > until) {
        PASSED.set(true);
    }
    PASSED.get()
}
