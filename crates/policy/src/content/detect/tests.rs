//! What is found and what is not, and that it does not matter how a text comes.

use proptest::prelude::*;

use super::*;

/// Something random that is the same every time.
fn noise(len: usize, seed: u64, alphabet: &[u8]) -> String {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            char::from(alphabet[(state >> 33) as usize % alphabet.len()])
        })
        .collect()
}

const ALNUM: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

fn with_crc(prefix: &str, seed: u64) -> String {
    let body = noise(30, seed, ALNUM);
    let mut crc = crc32fast::hash(body.as_bytes());
    let mut check = [b'0'; 6];
    for place in check.iter_mut().rev() {
        *place = ALNUM[(crc % 62) as usize];
        crc /= 62;
    }
    format!("{prefix}{body}{}", String::from_utf8_lossy(&check))
}

/// One of each class that a literal or a keyword announces: what stands before it, itself, and what it is. They are put
/// together here, so that this file is not full of what it is about.
fn planted(seed: u64) -> Vec<(String, String, &'static str)> {
    let an = |len| noise(len, seed, ALNUM);
    let hex = |len| noise(len, seed, b"0123456789abcdef");
    let key = format!("{}\n{}\n{}", an(64), an(64), an(40));
    let pem =
        |kind: &str, body: &str| format!("-----BEGIN {kind}PRIVATE KEY-----\n{body}\n-----END {kind}PRIVATE KEY-----");
    let plain = |token: String, class| (String::new(), token, class);
    vec![
        plain(with_crc("ghp_", seed), "secret.github_token"),
        plain(with_crc("ghs_", seed), "secret.github_token"),
        plain(format!("github_pat_{}_{}", an(22), an(59)), "secret.github_token"),
        plain(with_crc("npm_", seed), "secret.npm_token"),
        plain(format!("glpat-{}", an(20)), "secret.gitlab_token"),
        plain(format!("xoxb-{}-{}-{}", noise(12, seed, b"0123456789"), "2847561903", an(24)), "secret.slack_token"),
        plain(format!("sk_live_{}", an(24)), "secret.stripe_key"),
        plain(format!("AKIA{}7Q", noise(14, seed, b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")), "secret.aws_access_key_id"),
        ("aws_secret_access_key = ".into(), format!("{}aZ9/", an(36)), "secret.aws_secret_key"),
        ("{\"SecretAccessKey\": \"".into(), format!("{}aZ9/", an(36)), "secret.aws_secret_key"),
        plain(format!("AIza{}", an(35)), "secret.google_api_key"),
        plain(format!("AccountKey={}==", an(86)), "secret.azure_key"),
        plain(format!("sk-proj-{}T3BlbkFJ{}", an(40), an(40)), "secret.openai_key"),
        plain(format!("sk-{}T3BlbkFJ{}", an(20), an(20)), "secret.openai_key"),
        plain(format!("sk-ant-api03-{}AA", an(93)), "secret.anthropic_key"),
        plain(format!("pypi-AgEIcHlwaS5vcmc{}", an(90)), "secret.pypi_token"),
        plain(format!("cio{}", an(32)), "secret.crates_token"),
        plain(format!("stk_gw_{}", an(32)), "secret.stockade_token"),
        plain(format!("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIx{}.{}", an(10), an(43)), "secret.jwt"),
        plain(format!("SG.{}.{}", an(22), an(43)), "secret.sendgrid_key"),
        plain(format!("hf_{}", an(34)), "secret.huggingface_token"),
        plain(format!("dop_v1_{}", hex(64)), "secret.digitalocean_token"),
        plain(pem("", &key), "secret.private_key"),
        plain(pem("OPENSSH ", &key), "secret.private_key"),
        plain(pem("RSA ", &key).replace('\n', "\\n"), "secret.private_key"),
        (
            "\"private_key_id\": \"0\", \"private_key\": \"".into(),
            pem("", &key).replace('\n', "\\n"),
            "secret.gcp_service_account",
        ),
        ("postgres://app:".into(), an(16), "secret.database_url"),
        ("https://bot:".into(), an(16), "secret.url_password"),
    ]
}

fn all() -> (Detectors, ClassSet) {
    let pattern = PatternSource {
        name: "ticket".into(),
        regex: "ACME-[0-9]{4,8}".into(),
        keyword: None,
        whole_word: true,
        unicode: false,
    };
    let lists = vec![("code".to_owned(), vec!["Falcon".to_owned(), "blue falcon nine".to_owned()])];
    let detectors = Detectors::new(&[pattern], &lists).unwrap();
    let mut classes = ClassSet::default();
    for n in 0..detectors.classes().count() {
        classes.insert(n.try_into().unwrap());
    }
    (detectors, classes)
}

fn found(text: &str) -> Vec<(String, String)> {
    let (detectors, mut classes) = all();
    // It finds again what others find.
    classes.0[usize::from(class(BESIDE_KEYWORD)) / 64] &= !(1 << (class(BESIDE_KEYWORD) % 64));
    let mut hits = Vec::new();
    detectors.scan(text.as_bytes(), &classes, &mut hits);
    detectors.scan_patterns(text.as_bytes(), &classes, &mut hits);
    hits.sort_unstable();
    hits.iter().map(|hit| (detectors.name(hit.class).to_owned(), text[hit.start..hit.end].to_owned())).collect()
}

#[test]
fn the_tables_are_in_order() {
    assert!(LITERALS.is_some());
    assert!(BUILT_IN.iter().all(|name| class(name) != ClassId::MAX));
    assert!(BUILT_IN.len() < 100);
}

#[test]
fn each_kind_of_secret_is_found_and_all_of_it() {
    for seed in 1..6 {
        for (before, secret, class) in planted(seed) {
            let end = if class.ends_with("url") || class.ends_with("password") { "@db.acme.io/x" } else { "" };
            let text = format!("see {before}{secret}{end} \nand go on");
            assert_eq!(found(&text), [(class.to_owned(), secret.clone())], "{text}");
        }
    }
}

#[test]
fn what_agents_really_send_is_not_a_finding() {
    for text in [
        "AKIAIOSFODNN7EXAMPLE and wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        "export GITHUB_TOKEN=ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
        "sk-your-key-here, sk-..., risk-assessment-of-a-very-long-name-that-goes-on-and-on-for-ever",
        "-----BEGIN CERTIFICATE-----\nMIIDazCCAlOgAwIBAgIUQm9ndXM\n-----END CERTIFICATE-----",
        "-----BEGIN PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA<your key>\n-----END RSA PRIVATE KEY-----",
        "postgres://postgres:postgres@localhost:5432/app",
        "mysql://user:password@db.example.com/app",
        "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "commit 2fd4e1c67a2d28fced849ee1bb76e7391b93eb12",
        "uuid 123e4567-e89b-12d3-a456-426614174000 at 1732147200000",
        "git clone git@github.com:acme/x.git; Co-Authored-By: Bot <noreply@acme.io>; react@18.2.0; a@2x.png",
        "0.4111111111111111 and id-4111-1111-1111-1111-22 and 41111111111111110000",
        "     1→use std::fmt;\n     2→\n    10→    let x = 1234567;",
        "phone +49 30 1234567, order 20240611-123, 10.0.0.1:8080, v1.2.3-rc.4",
        "eyJhbGciOiJIUzI1NiJ9.e30.",
    ] {
        assert_eq!(found(text), [], "{text}");
    }
}

#[test]
fn personal_data_is_found() {
    let of = |text: &str| found(text).into_iter().map(|(class, value)| format!("{class} {value}")).collect::<Vec<_>>();
    assert_eq!(of("pay with 4111 1111 1111 1111, please"), ["personal.card 4111 1111 1111 1111"]);
    assert_eq!(of("{\"n\":5555555555554444}"), ["personal.card 5555555555554444"]);
    assert_eq!(of("to DE89 3704 0044 0532 0130 00 now"), ["personal.iban DE89 3704 0044 0532 0130 00"]);
    assert_eq!(of("write\\nalice.b+c@acme.co.uk."), ["personal.email alice.b+c@acme.co.uk"]);
    assert_eq!(of("IdNr 86 095 742 719"), ["personal.national_id.DE 86 095 742 719"]);
    assert_eq!(of("NINO AB 12 34 56 C"), ["personal.national_id.GB AB 12 34 56 C"]);
    assert_eq!(of("SSN 536-90-4399"), ["personal.national_id.US 536-90-4399"]);
    assert_eq!(of("BSN: 111222333"), ["personal.national_id.NL 111222333"]);
    assert_eq!(of("number 111222333"), Vec::<String>::new());
    assert_eq!(of("CF RSSMRA85T10A562S"), ["personal.national_id.IT RSSMRA85T10A562S"]);
}

#[test]
fn own_patterns_and_words() {
    let of = |text: &str| found(text).into_iter().map(|(class, value)| format!("{class} {value}")).collect::<Vec<_>>();
    assert_eq!(of("see ACME-12345 and xACME-12345"), ["pattern.ticket ACME-12345"]);
    assert_eq!(of("FALCON, falcons"), ["words.code FALCON"]);
    assert_eq!(of("blue falcon nine"), ["words.code blue falcon nine", "words.code falcon"]);
}

#[test]
fn patterns_that_do_not_work_are_refused() {
    let why = |regex: &str| {
        let source =
            PatternSource { name: "p".into(), regex: regex.into(), keyword: None, whole_word: false, unicode: true };
        Detectors::new(&[source], &[]).map(|_| ()).unwrap_err().remove(0).1
    };
    assert!(why("(").contains("unclosed group"), "{}", why("("));
    assert!(why("(?:[a-z]{1000}){1000}").contains("memory"));
    assert!(why("a*").contains("nothing at all"));
    assert!(why("^a").contains("whole_word"));
    assert!(why("\\bfoo\\b").contains("whole_word"));
}

#[test]
fn a_keyword_makes_entropy_count() {
    let (detectors, _) = all();
    let mut classes = ClassSet::default();
    classes.insert(class(BESIDE_KEYWORD));
    let of = |text: &str| {
        let mut hits = Vec::new();
        detectors.scan(text.as_bytes(), &classes, &mut hits);
        hits.dedup();
        hits.iter().map(|hit| text[hit.start..hit.end].to_owned()).collect::<Vec<_>>()
    };
    let value = noise(24, 3, ALNUM);
    assert_eq!(of(&format!("password: \"{value}\"")), std::slice::from_ref(&value));
    assert_eq!(of(&format!("\\\"DB_PASSWORD\\\": \\\"{value}\\\"")), std::slice::from_ref(&value));
    assert_eq!(of(&format!("just {value}")), Vec::<String>::new());
    assert_eq!(of("token = getTokenFromCache(a1)"), Vec::<String>::new());
    assert_eq!(of("password = hunter2"), Vec::<String>::new());
}

/// All that a tracker finds if a text comes in these pieces.
fn tracked(detectors: &Detectors, classes: ClassSet, pieces: &[&[u8]]) -> Vec<Hit> {
    let mut tracker = Tracker::new(detectors, classes);
    let mut hits = Vec::new();
    let mut upto = 0;
    for piece in pieces {
        tracker.push(piece);
        let settled = tracker.settle(detectors, false);
        assert!(settled.hits.iter().all(|hit| hit.start >= upto && hit.end <= settled.upto), "{settled:?}");
        upto = settled.upto;
        hits.extend(settled.hits);
    }
    let settled = tracker.settle(detectors, true);
    assert_eq!(settled.upto, tracker.end());
    hits.extend(settled.hits);
    hits.sort_unstable();
    hits
}

#[test]
fn ordinary_text_is_let_go_at_once() {
    let (detectors, mut classes) = all();
    // Every word could be the beginning of an address.
    let mail = class("personal.email");
    classes.0[usize::from(mail) / 64] &= !(1 << (mail % 64));
    let mut tracker = Tracker::new(&detectors, classes);
    let mut held = 0;
    let text =
        "Let me look at the file. It has a function that reads the configuration:\n\n```rust\nfn main() {}\n```\n";
    let words: Vec<&str> = text.split_inclusive(' ').collect();
    for word in &words {
        tracker.push(word.as_bytes());
        tracker.settle(&detectors, false);
        held += usize::from(tracker.held() > 0);
    }
    assert!(held <= 1, "{held} of {}", words.len());
}

#[test]
fn what_was_let_go_too_early_is_found_as_it_goes_on() {
    let (detectors, classes) = all();
    for secret in [with_crc("ghp_", 3), "4111 1111 1111 1111".to_owned(), "alice@acme.io".to_owned()] {
        let text = format!("see {secret} there");
        let mut tracker = Tracker::new(&detectors, classes);
        tracker.push(&text.as_bytes()[..8]);
        tracker.settle(&detectors, false);
        assert!(tracker.held() > 0, "{secret}");
        tracker.let_go();
        tracker.push(&text.as_bytes()[8..]);
        let hits = tracker.settle(&detectors, true).hits;
        assert_eq!(
            hits.iter().map(|hit| (hit.start, hit.end)).collect::<Vec<_>>(),
            [(8, 4 + secret.len())],
            "{secret}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn the_pieces_make_no_difference(
        parts in prop::collection::vec((0_usize..60, "[ a-z\\-_@\\\\\\n]{0,12}", 1_u64..20), 1..6),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let (detectors, classes) = all();
        let mut text = String::new();
        for (which, filler, seed) in &parts {
            let secrets = planted(*seed);
            text.push_str(filler);
            match secrets.get(*which) {
                Some((before, secret, _)) => { text.push_str(before); text.push_str(secret); text.push_str(" @"); }
                None => text.push_str(["4111 1111 1111 1111", "a.b@acme.io", "GB82 WEST 1234 5698 7654 32", "ACME-123456",
                    "blue falcon", " nine", "-----BEGIN ", "gh", "sk-", "86095742719-", "bsn 111222333"][which % 11]),
            }
        }
        let bytes = text.as_bytes();
        let whole = tracked(&detectors, classes, &[bytes]);
        let one_by_one: Vec<&[u8]> = bytes.chunks(1).collect();
        prop_assert_eq!(&tracked(&detectors, classes, &one_by_one), &whole, "{}", text);
        let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        at.sort_unstable();
        let (mut pieces, mut from) = (Vec::new(), 0);
        for cut in at {
            pieces.push(&bytes[from..cut]);
            from = cut;
        }
        pieces.push(&bytes[from..]);
        prop_assert_eq!(&tracked(&detectors, classes, &pieces), &whole);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let (detectors, classes) = all();
        let mut hits = Vec::new();
        detectors.scan(&bytes, &classes, &mut hits);
        detectors.scan_patterns(&bytes, &classes, &mut hits);
        prop_assert!(hits.iter().all(|hit| hit.start < hit.end && hit.end <= bytes.len()));
        let pieces: Vec<&[u8]> = bytes.chunks(7).collect();
        tracked(&detectors, classes, &pieces);
    }
}
