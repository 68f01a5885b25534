//! Telling of a task that panics, for which nobody waits. What it said itself is on stderr already.

/// What an operator can do about it.
pub(crate) const REMEDY: &str = "restart lockstep, and please report what it said";

/// Says its words when a panic drops it; held by a task for as long as it works.
pub(crate) struct Epitaph<F: FnMut()>(pub(crate) F);

impl<F: FnMut()> Drop for Epitaph<F> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            (self.0)();
        }
    }
}
