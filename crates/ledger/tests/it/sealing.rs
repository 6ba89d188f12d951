//! Sealing: what is sealed opens for the site, for its run, as its kind, and for nobody and nothing else.

use std::os::unix::fs::PermissionsExt;

use proptest::prelude::*;
use stockade_domain::{ContentKind, World, ids::RunId};
use stockade_ledger::{
    Exporter, KeyFileError, MAX_CONTENT_BYTES, RunKey, SealError, SiteKey, SitePublicKey, SystemWorld, WrappedKey,
    content_ref, sealed_run, verify,
};

use crate::common::{decision, deed, open_ledger, producer, run};

const PLAIN: &[u8] = b"the quick brown fox";

#[test]
fn content_opens_with_the_site_key_alone() {
    let (site, other) = (SiteKey::generate().unwrap(), SiteKey::generate().unwrap());
    let key = RunKey::generate(&SystemWorld, run());
    let sealed = key.seal(&SystemWorld, ContentKind::Task, PLAIN).unwrap();
    assert_eq!(sealed.content, content_ref(ContentKind::Task, &sealed.bytes));
    assert_eq!(sealed_run(&sealed.bytes).unwrap(), run());
    assert!(!sealed.bytes.windows(5).any(|part| part == b"quick"));

    let wrapped: WrappedKey = key.wrap(&site.public()).unwrap().to_string().parse().unwrap();
    drop(key);
    assert_eq!(wrapped.run(), run());
    let again = site.unwrap_key(&wrapped).unwrap();
    assert_eq!(again.open(ContentKind::Task, &sealed.bytes).unwrap(), PLAIN);
    assert!(matches!(other.unwrap_key(&wrapped), Err(SealError::DoesNotOpen { .. })));
}

#[test]
fn content_opens_only_as_what_it_was_sealed_as() {
    let key = RunKey::generate(&SystemWorld, run());
    let sealed = key.seal(&SystemWorld, ContentKind::Task, PLAIN).unwrap();
    assert!(matches!(key.open(ContentKind::Reply, &sealed.bytes), Err(SealError::DoesNotOpen { .. })));
    let another = RunKey::generate(&SystemWorld, run());
    assert!(matches!(another.open(ContentKind::Task, &sealed.bytes), Err(SealError::DoesNotOpen { .. })));
    let other_run = RunKey::generate(&SystemWorld, RunId::from_bytes([5; 16]));
    assert!(matches!(other_run.open(ContentKind::Task, &sealed.bytes), Err(SealError::OtherRun { .. })));
    for at in 0..sealed.bytes.len() {
        let mut bytes = sealed.bytes.to_vec();
        bytes[at] ^= 1;
        assert!(key.open(ContentKind::Task, &bytes).is_err(), "byte {at}");
    }
}

#[test]
fn a_wrapped_key_is_bound_to_its_run() {
    let site = SiteKey::generate().unwrap();
    let text = RunKey::generate(&SystemWorld, run()).wrap(&site.public()).unwrap().to_string();
    use base64::{Engine, engine::general_purpose::STANDARD};
    let whole = STANDARD.decode(&text).unwrap();
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        let opened = STANDARD.encode(bytes).parse::<WrappedKey>().and_then(|wrapped| site.unwrap_key(&wrapped));
        assert!(opened.is_err(), "byte {at}");
    }
}

#[test]
fn a_site_key_rests_in_a_private_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("site.key");
    let site = SiteKey::generate().unwrap();
    site.save(&path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    assert_eq!(SiteKey::load(&path).unwrap().public(), site.public());
    assert!(matches!(site.save(&path), Err(SealError::File(KeyFileError::Exists { .. }))));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(SiteKey::load(&path), Err(SealError::File(KeyFileError::Open { .. }))));
}

#[test]
fn keys_show_themselves_as_text_and_never_their_secrets() {
    let site = SiteKey::generate().unwrap();
    let text = site.public().to_string();
    assert!(text.starts_with("stockade-site-1:"), "{text}");
    assert_eq!(text.parse::<SitePublicKey>().unwrap(), site.public());
    assert_eq!(site.public().fingerprint().len(), 39);
    assert_eq!(format!("{site:?}"), "SiteKey(..)");
    assert_eq!(format!("{:?}", RunKey::generate(&SystemWorld, run())), "RunKey(..)");
    for wrong in ["", "stockade-site-1:", "stockade-site-1:AAAA", &text[1..]] {
        assert!(wrong.parse::<SitePublicKey>().is_err(), "{wrong}");
    }
}

#[test]
fn content_at_the_limit_seals_and_above_it_does_not() {
    let key = RunKey::generate(&SystemWorld, run());
    let mut plain = vec![0; MAX_CONTENT_BYTES];
    assert!(key.seal(&SystemWorld, ContentKind::Diff, &plain).is_ok());
    plain.push(0);
    assert!(matches!(key.seal(&SystemWorld, ContentKind::Diff, &plain), Err(SealError::TooLong { .. })));
}

fn fresh_wrap(site: &SiteKey) -> WrappedKey {
    RunKey::generate(&SystemWorld, run()).wrap(&site.public()).unwrap()
}

#[tokio::test]
async fn after_erasure_the_content_is_gone_and_the_ledger_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let site = SiteKey::generate().unwrap();
    let key = RunKey::generate(&SystemWorld, run());
    let wrapped = key.wrap(&site.public()).unwrap();
    let ledger = open_ledger(dir.path());
    let sealed = key.seal(&SystemWorld, ContentKind::ModelRequest, PLAIN).unwrap();
    drop(key);
    let _opened = ledger.open(&deed(), &decision(), vec![sealed.clone()], ()).await.unwrap();
    let mut only_copy = Some(wrapped);
    let open = |wrapped: &WrappedKey| site.unwrap_key(wrapped).unwrap().open(ContentKind::ModelRequest, &sealed.bytes);
    assert_eq!(only_copy.as_ref().map(|wrapped| open(wrapped).unwrap()).as_deref(), Some(PLAIN));

    // Erasure. Neither the site's key nor a new key of the same run opens anything any more.
    only_copy.take();
    assert!(only_copy.is_none());
    let of_site = fresh_wrap(&site);
    assert!(site.unwrap_key(&of_site).unwrap().open(ContentKind::ModelRequest, &sealed.bytes).is_err());

    let mut export = Exporter::new(Vec::new(), SystemWorld.now()).unwrap();
    crate::export::write(&ledger, &mut export);
    export.content(&sealed).unwrap();
    let report = verify(export.finish().unwrap().as_slice()).unwrap();
    assert_eq!((report.producers[0].producer, report.producers[0].records, report.contents), (producer(), 1, 1));
}

proptest! {
    #[test]
    fn whatever_is_sealed_opens(plain in prop::collection::vec(any::<u8>(), 0..2000), which in 0..ContentKind::ALL.len()) {
        let (key, kind) = (RunKey::generate(&SystemWorld, run()), ContentKind::ALL[which]);
        let sealed = key.seal(&SystemWorld, kind, &plain).unwrap();
        prop_assert_eq!(key.open(kind, &sealed.bytes).unwrap(), plain);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), text in ".{0,200}") {
        let key = RunKey::generate(&SystemWorld, run());
        prop_assert!(key.open(ContentKind::Task, &bytes).is_err());
        let magic = [b"STKSEAL1", bytes.as_slice()].concat();
        prop_assert!(key.open(ContentKind::Task, &magic).is_err());
        prop_assert!(text.parse::<WrappedKey>().is_err());
        prop_assert!(text.parse::<SitePublicKey>().is_err());
    }
}
