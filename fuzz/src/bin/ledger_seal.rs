//! Sealed content and keys: a blob opens only if sealing its content again gives the same bytes.
#![no_main]

use std::sync::LazyLock;

use stockade_domain::{ContentKind, Timestamp, World, ids::RunId};
use stockade_fuzz::Still;
use stockade_ledger::{RunKey, SiteKey, SitePublicKey, WrappedKey, sealed_run};

static KEY: LazyLock<RunKey> = LazyLock::new(|| RunKey::generate(&Still, RunId::from_bytes([7; 16])));
static SITE: LazyLock<SiteKey> = LazyLock::new(|| SiteKey::generate().expect("a key"));

/// Gives the nonce that stands in a blob.
#[derive(Debug)]
struct Nonce<'a>(&'a [u8]);

impl World for Nonce<'_> {
    fn now(&self) -> Timestamp {
        Timestamp(0)
    }
    fn random(&self, out: &mut [u8]) {
        out.copy_from_slice(self.0);
    }
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = sealed_run(bytes);
    for kind in [ContentKind::Task, ContentKind::ToolOutput] {
        if let Ok(plain) = KEY.open(kind, bytes) {
            let again = KEY.seal(&Nonce(&bytes[24..36]), kind, &plain).expect("what was sealed can be sealed");
            assert_eq!(again.bytes, bytes);
        }
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(wrapped) = text.parse::<WrappedKey>() {
        assert_eq!(wrapped.to_string(), text);
        assert!(SITE.unwrap_key(&wrapped).is_err());
    }
    if let Ok(site) = text.parse::<SitePublicKey>() {
        assert_eq!(site.to_string(), text);
        let _ = site.fingerprint();
        if let Ok(wrapped) = KEY.wrap(&site) {
            assert_eq!(wrapped.run(), KEY.run());
        }
    }
});
