//! Where did the last panic of this thread happen? Only the hook that the process runs at a panic
//! knows; what unwinds carries the message alone.

use std::cell::RefCell;
use std::panic;
use std::sync::Once;

thread_local! {
    static LAST: RefCell<Option<String>> = const { RefCell::new(None) };
}

static INSTALLED: Once = Once::new();

/// Remembers the places of panics from now on. The hook that was there is called as before.
pub(crate) fn remember() {
    INSTALLED.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let place = info.location().map(ToString::to_string);
            LAST.with(|last| *last.borrow_mut() = place);
            before(info);
        }));
    });
}

/// Where this thread panicked last, once.
pub(crate) fn take() -> Option<String> {
    LAST.with(|last| last.borrow_mut().take())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_of_a_panic_is_known_once() {
        remember();
        remember();
        assert!(panic::catch_unwind(|| panic!("as planned")).is_err());
        let place = take().expect("a place");
        assert!(place.contains("panic_place.rs:"), "{place}");
        assert_eq!(take(), None);
    }
}
