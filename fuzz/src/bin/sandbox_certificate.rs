//! Certificates of an environment's own authority: what is read of them is a part of them, a name has one form, and what is taken as an
//! authority is one certificate and no key.
#![no_main]

use stockade_sandbox::hostile::{Authority, canonical_name, element, subject};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut rest = bytes;
    while let Some((found, after)) = element(rest) {
        assert!(found.body.len() + after.len() < rest.len());
        rest = after;
    }
    for name in [Some(bytes), subject(bytes)].into_iter().flatten() {
        assert!(name.len() <= bytes.len());
        if let Some(canonical) = canonical_name(name) {
            assert_eq!(canonical_name(&canonical).as_deref(), Some(canonical.as_slice()));
        }
    }
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(authority) = Authority::read(text)
    {
        assert!(!text.contains("PRIVATE KEY"));
        assert_eq!(Authority::read(&authority.pem()), Ok(authority));
    }
});
