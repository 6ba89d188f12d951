//! Tokens are kept, renewed in time and by one, and authorities have limits.

use std::{sync::Arc, time::Duration};

use super::{
    super::{MAX_ANSWER, Outside},
    NOW,
    authority::{Answer, Authority, ok},
    authorization, later, made, told, try_made,
};
use crate::credential::{Credential, CredentialConfig, Surroundings};

fn metadata(token: impl std::fmt::Display, life: u64) -> Answer {
    let body = format!("{{\"access_token\":\"{token}\",\"expires_in\":{life},\"token_type\":\"Bearer\"}}");
    (200, vec![("metadata-flavor", "Google".to_owned())], body)
}

fn config(authority: &Authority) -> String {
    format!("kind = \"google-metadata\"\nendpoint = \"{}\"", authority.url(""))
}

#[tokio::test]
async fn a_token_is_renewed_behind_its_users_before_it_ends() {
    let authority = Authority::start(|_, before| metadata(before, 3_600)).await;
    let credential = made(&config(&authority));
    for seconds in [0, 1, 2_999] {
        assert_eq!(authorization(&credential, later(seconds)).await, "Bearer 0");
    }
    assert_eq!(authority.count(), 1);
    // Ten minutes before the end: whoever comes gets the old one at once, while the authority is slow.
    let bell = authority.hold();
    for _ in 0..3 {
        assert_eq!(authorization(&credential, later(3_000)).await, "Bearer 0");
    }
    bell.notify_one();
    credential.settled().await;
    assert_eq!(authorization(&credential, later(3_000)).await, "Bearer 1");
    assert_eq!(authority.count(), 2);
}

#[tokio::test]
async fn many_who_need_a_token_ask_for_one() {
    let authority = Authority::start(|_, before| metadata(before, 3_600)).await;
    let bell = authority.hold();
    let credential = Arc::new(made(&config(&authority)));
    let all: Vec<_> = (0..20)
        .map(|_| {
            let credential = credential.clone();
            tokio::spawn(async move { authorization(&credential, NOW).await })
        })
        .collect();
    bell.notify_one();
    for one in all {
        assert_eq!(one.await.unwrap(), "Bearer 0");
    }
    assert_eq!(authority.count(), 1);
}

#[tokio::test]
async fn a_renewal_goes_on_when_whoever_asked_for_it_has_gone() {
    let authority = Authority::start(|_, before| metadata(before, 3_600)).await;
    let bell = authority.hold();
    let credential = Arc::new(made(&config(&authority)));
    let first = credential.clone();
    let gone = tokio::spawn(async move { first.check(NOW).await });
    while authority.count() == 0 {
        tokio::task::yield_now().await;
    }
    gone.abort();
    let _ = gone.await;
    bell.notify_one();
    credential.settled().await;
    assert_eq!(authorization(&credential, NOW).await, "Bearer 0");
    assert_eq!(authority.count(), 1);
}

#[tokio::test]
async fn a_failed_renewal_is_tried_again_and_the_old_token_used_until_its_end() {
    let authority = Authority::start(|_, before| match before {
        0 => metadata("old", 3_600),
        4 => metadata("new", 3_600),
        _ => (503, Vec::new(), "down".to_owned()),
    })
    .await;
    let credential = made(&config(&authority));
    assert_eq!(authorization(&credential, NOW).await, "Bearer old");
    // Due: it fails, and is left alone for half a minute.
    for (seconds, asked) in [(3_000, 2), (3_001, 2), (3_029, 2), (3_030, 3), (3_059, 3)] {
        assert_eq!(authorization(&credential, later(seconds)).await, "Bearer old");
        credential.settled().await;
        assert_eq!(authority.count(), asked, "{seconds}");
    }
    // Over: nobody gets it any more. A failure of a moment ago is told without asking again.
    for (ms, asked) in [(3_590_000, 4), (3_590_100, 4), (3_591_999, 4)] {
        let error = credential.check(NOW.plus_ms(ms)).await.unwrap_err();
        assert!(told(&error).contains("503"));
        assert_eq!(authority.count(), asked, "{ms}");
    }
    assert_eq!(authorization(&credential, later(3_592)).await, "Bearer new");
}

#[tokio::test]
async fn authorities_have_limits() {
    let big = format!("{{\"access_token\":\"{}\",\"expires_in\":1}}", "x".repeat(MAX_ANSWER));
    let fits = format!("{{\"access_token\":\"{}\",\"expires_in\":3600}}", "x".repeat(MAX_ANSWER - 40));
    let flavor = || vec![("metadata-flavor", "Google".to_owned())];
    for (answer, word) in [
        ((200, flavor(), fits), ""),
        ((200, flavor(), big), "limit"),
        ((302, vec![("location", "http://127.0.0.1:1/".to_owned())], String::new()), "302"),
        ((200, flavor(), "{\"access_token\":\"a\\nb\",\"expires_in\":1}".to_owned()), "strange characters"),
        ((200, flavor(), "{\"access_token\":\"SECRET\"}".to_owned()), "when its token ends"),
        ((200, flavor(), "{\"access_token\":\"SECRET\",\"expires_in\":0}".to_owned()), "over already"),
        ((200, flavor(), "SECRET".to_owned()), "expected JSON"),
    ] {
        let authority = Authority::start(move |_, _| answer.clone()).await;
        match made(&config(&authority)).check(NOW).await {
            Ok(_) => assert_eq!(word, ""),
            Err(error) => {
                let told = told(&error);
                assert!(!word.is_empty() && told.contains(word) && !told.contains("SECRET"), "{told}");
            }
        }
    }
    let silent = Authority::start(|_, _| ok("")).await;
    let _bell = silent.hold();
    let mut around = Surroundings::with(|_| None);
    around.outside = Outside::with_time(Duration::from_millis(50));
    let config: CredentialConfig = toml::from_str(&config(&silent)).unwrap();
    let credential = Credential::new(&config, &around).unwrap();
    assert!(told(&credential.check(NOW).await.unwrap_err()).contains("longer than"));
    silent.open();
    let nobody = try_made("kind = \"google-metadata\"\nendpoint = \"http://127.0.0.1:1/\"", &[]).unwrap();
    assert!(told(&nobody.check(NOW).await.unwrap_err()).contains("does not answer"));
}

#[tokio::test]
async fn what_is_not_taken_is_used_again_only_where_there_is_no_other() {
    let authority = Authority::start(|_, before| match before {
        0 | 2 => metadata(before, 3_600),
        _ => (500, vec![], String::new()),
    })
    .await;
    let credential = made(&config(&authority));
    let shown = |seconds| {
        let credential = &credential;
        async move {
            let (mut parts, ()) = http::Request::get("http://127.0.0.1/").body(()).unwrap().into_parts();
            let proof = credential.sign(&mut parts, &bytes::Bytes::new(), later(seconds)).await.unwrap();
            (parts.headers["authorization"].to_str().unwrap().to_owned(), proof)
        }
    };
    let (said, proof) = shown(0).await;
    assert_eq!(said, "Bearer 0");
    for (status, error) in [(403, None), (500, None), (403, Some("ExpiredTokenException"))] {
        assert!(!credential.refused(&proof, status, error, later(0)), "{status}");
    }
    assert!(credential.refused(&proof, 401, None, later(0)));
    // The authority has no other: the old one may still be good for something.
    assert_eq!((shown(0).await.0.as_str(), authority.count()), ("Bearer 0", 2));
    assert_eq!((shown(31).await.0.as_str(), authority.count()), ("Bearer 2", 3));
    // Whoever was refused with the old one tries the new one.
    assert!(credential.refused(&proof, 401, None, later(31)));
    let (_, proof) = shown(31).await;
    assert_eq!(authority.count(), 3);
    // That one may be given up too, half a minute after the last; and where no other comes, nothing is tried again.
    assert!(credential.refused(&proof, 401, None, later(31)));
    assert_eq!((shown(32).await.0.as_str(), authority.count()), ("Bearer 2", 4));
    assert!(!credential.refused(&proof, 401, None, later(32)));
}
