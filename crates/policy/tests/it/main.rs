//! The crate as its users see it.

use stockade_policy::{check, default_bundle};

#[test]
fn the_default_bundle_is_in_order() {
    let summary = check(default_bundle()).unwrap_or_else(|problems| {
        panic!("{}", problems.iter().map(|problem| format!("{problem}\n")).collect::<String>())
    });
    assert_eq!(summary.warnings, []);
}
