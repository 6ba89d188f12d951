//! Placeholders where they belong, and elsewhere.

use http::Method;
use proptest::prelude::*;

use super::*;
use crate::path::NormalPath;

const SECRET: &str = "ghp_s3cr3t";

fn placeholder(seed: u8) -> Placeholder {
    Placeholder::from_random(&[seed; 20])
}

fn wanted(host: &str, port: u16, target: &str) -> Wanted {
    let path = NormalPath::read(target.split('?').next().unwrap());
    Wanted { host: host.into(), port, tls: true, method: Method::GET, path, raw_target: target.into(), upgrade: None }
}

fn home() -> Wanted {
    wanted("git.example", 443, "/team/app.git/info/refs?service=git-upload-pack")
}

fn bindings() -> Vec<Binding> {
    let binding = |seed, host: &str, header, path| Binding {
        placeholder: placeholder(seed),
        host: host.into(),
        port: 443,
        in_the_clear: seed == 2,
        header,
        path: PathRule::below(path).unwrap(),
    };
    vec![
        binding(1, "git.example", header::AUTHORIZATION, "/team"),
        binding(2, "npm.example", HeaderName::from_static("x-key"), "/"),
    ]
}

fn headers(lines: &[(&str, String)]) -> HeaderMap {
    let mut all = HeaderMap::new();
    for (name, value) in lines {
        all.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
    }
    all
}

fn seen(wanted: &Wanted, lines: &[(&str, String)]) -> Verdict {
    look(&bindings(), wanted, &headers(lines))
}

/// What goes to the origin.
fn filled(wanted: &Wanted, lines: &[(&str, String)]) -> HeaderMap {
    let mut all = headers(lines);
    let Verdict::Replace(places) = look(&bindings(), wanted, &all) else { panic!("nothing to fill in") };
    let secret = SecretString::from(SECRET);
    fill(&mut all, &places, |_| Some(&secret)).unwrap();
    all
}

fn ph() -> String {
    placeholder(1).0
}

fn encoded(text: &str) -> String {
    STANDARD.encode(text)
}

#[test]
fn a_placeholder_has_one_spelling_and_160_bits() {
    let one =
        Placeholder::from_random(b"\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\xff\xfe\xfd\xfc\xfb\xfa\xf9\xf8\xf7\xf6");
    assert_eq!(one.as_str(), "stk_ph_aaaqeayeaudaocaj777p37h37l47r57w");
    assert_eq!(Placeholder::parse(one.as_str()), Some(one.clone()));
    for wrong in
        [&one.0[1..], &one.0[..LEN - 1], &one.0.to_ascii_uppercase(), &format!("{}a", one.0), &one.0.replace('7', "1")]
    {
        assert_eq!(Placeholder::parse(wrong), None);
    }
}

#[test]
fn a_credential_goes_where_it_is_bound() {
    let bearer = filled(&home(), &[("authorization", format!("Bearer {}", ph())), ("accept", "*/*".into())]);
    assert_eq!(bearer, headers(&[("authorization", format!("Bearer {SECRET}")), ("accept", "*/*".into())]));
    assert!(bearer[header::AUTHORIZATION].is_sensitive());
    let basic = filled(&home(), &[("authorization", format!("basic {}", encoded(&format!("git:{}", ph()))))]);
    assert_eq!(basic[header::AUTHORIZATION], format!("Basic {}", encoded(&format!("git:{SECRET}"))));
    let twice = filled(&home(), &[("authorization", "x".into()), ("authorization", format!("{0}, {0}!", ph()))]);
    let values: Vec<_> = twice.get_all(header::AUTHORIZATION).iter().collect();
    assert_eq!(values, ["x", &format!("{SECRET}, {SECRET}!")]);
    assert_eq!(seen(&home(), &[("authorization", "Bearer stk_ph_short".into())]), Verdict::Nothing);
    assert_eq!(seen(&home(), &[("authorization", format!("Basic {}", encoded("git:word")))]), Verdict::Nothing);
}

#[test]
fn s3_a_credential_for_one_host_goes_to_no_other_port_header_or_path() {
    use Misplaced::*;
    let line = [("authorization", format!("Bearer {}", ph()))];
    for (place, why) in [
        (wanted("attacker.example", 443, "/team"), Host(header::AUTHORIZATION)),
        (wanted("npm.example", 443, "/team"), Host(header::AUTHORIZATION)),
        (wanted("git.example", 8443, "/team"), Host(header::AUTHORIZATION)),
        (wanted("git.example", 443, "/teammate/app.git"), Path(header::AUTHORIZATION)),
        (wanted("git.example", 443, "/team/../other"), Path(header::AUTHORIZATION)),
        (wanted("git.example", 443, "/team/%2e%2e/other"), Path(header::AUTHORIZATION)),
        (wanted("git.example", 443, "/team%2f..%2fother"), Path(header::AUTHORIZATION)),
    ] {
        assert_eq!(seen(&place, &line), Verdict::Refuse(why), "{}{}", place.host, place.raw_target);
    }
    let cookie = [("cookie", ph())];
    assert_eq!(seen(&home(), &cookie), Verdict::Refuse(Header(header::COOKIE)));
    // A request without TLS to the port of TLS would show it to everybody between.
    let clear = Wanted { tls: false, ..home() };
    assert_eq!(seen(&clear, &line), Verdict::Refuse(InTheClear(header::AUTHORIZATION)));
    let own = Wanted { tls: false, ..wanted("npm.example", 443, "/") };
    assert!(matches!(seen(&own, &[("x-key", placeholder(2).0)]), Verdict::Replace(_)));
    let unknown = [("authorization", placeholder(9).0)];
    assert_eq!(seen(&home(), &unknown), Verdict::Refuse(Unknown(header::AUTHORIZATION)));
    // One that is right does not carry another along.
    let both = [("authorization", ph()), ("x-key", placeholder(2).0)];
    assert_eq!(seen(&home(), &both), Verdict::Refuse(Host(HeaderName::from_static("x-key"))));
}

#[test]
fn s1_a_placeholder_elsewhere_stops_the_request_in_every_spelling() {
    use Misplaced::*;
    let spelt: String = ph().bytes().map(|byte| format!("%{byte:02x}")).collect();
    let twice = spelt.replace('%', "%25");
    for text in [
        ph(),
        ph().to_ascii_uppercase(),
        ph().replace('_', "%5F"),
        spelt.clone(),
        twice.clone(),
        encoded(&ph()),
        encoded(&format!("x{}", ph())),
        encoded(&format!("xy{}", ph())).replace('=', "%3D"),
        encoded(&ph().to_ascii_uppercase()),
    ] {
        let target = format!("/team?q={text}");
        assert_eq!(seen(&wanted("git.example", 443, &target), &[]), Verdict::Refuse(Url), "{target}");
    }
    assert_eq!(seen(&Wanted { host: format!("{}.git.example", ph()), ..home() }, &[]), Verdict::Refuse(Url));
    let method = Wanted { method: ph().parse().unwrap(), ..home() };
    assert_eq!(seen(&method, &[]), Verdict::Refuse(Url));
    assert_eq!(seen(&home(), &[(&ph(), "x".into())]), Verdict::Refuse(Name));
    let own = header::AUTHORIZATION;
    for value in [
        ph().to_ascii_uppercase(),
        format!("Bearer {spelt}"),
        format!("Bearer {twice}"),
        format!("Bearer {}", encoded(&format!("git:{}", ph()))),
        format!("Basic {}", encoded(&format!("{0}:{0}", ph())).trim_end_matches('=')),
        format!("Basic {}", encoded(&format!("git:{spelt}"))),
        format!("Basic {}", encoded(&encoded(&format!("git:{}", ph())))),
        format!("Bearer {} {spelt}", ph()),
    ] {
        let verdict = seen(&home(), &[("authorization", value.clone())]);
        assert_eq!(verdict, Verdict::Refuse(Disguised(own.clone())), "{value}");
    }
    let other = format!("Basic {}", encoded(&format!("git:{}", ph())));
    let proxy = header::PROXY_AUTHORIZATION;
    assert_eq!(seen(&home(), &[("proxy-authorization", other.clone())]), Verdict::Refuse(Header(proxy)));
    assert_eq!(seen(&home(), &[("cookie", other)]), Verdict::Refuse(Disguised(header::COOKIE)));
}

#[test]
fn n29_a_request_has_so_many_placeholders_and_no_more() {
    let line = |count: usize| vec![("authorization", vec![ph(); count].join(" "))];
    assert!(
        matches!(seen(&home(), &line(MAX_PLACES)), Verdict::Replace(places) if places.iter().count() == MAX_PLACES)
    );
    assert_eq!(seen(&home(), &line(MAX_PLACES + 1)), Verdict::Refuse(Misplaced::TooMany));
}

#[test]
fn s1_what_cannot_be_filled_in_leaves_the_headers_as_they_were() {
    let own = header::AUTHORIZATION;
    let before = headers(&[("authorization", format!("Bearer {}", ph()))]);
    let Verdict::Replace(places) = look(&bindings(), &home(), &before) else { panic!() };
    let mut after = before.clone();
    assert_eq!(fill(&mut after, &places, |_| None), Err(FillError::Missing(own.clone())));
    for bad in ["", "a\r\nHost: b", "a\n"] {
        let secret = SecretString::from(bad);
        assert_eq!(fill(&mut after, &places, |_| Some(&secret)), Err(FillError::Secret(own.clone())));
    }
    assert_eq!(after, before);
    let secret = SecretString::from(SECRET);
    let mut other = headers(&[("authorization", "Bearer x".into())]);
    assert_eq!(fill(&mut other, &places, |_| Some(&secret)), Err(FillError::Moved(own.clone())));
    assert_eq!(fill(&mut HeaderMap::new(), &places, |_| Some(&secret)), Err(FillError::Moved(own)));
    assert!(!format!("{:?}", filled(&home(), &[("authorization", ph())])).contains(SECRET));
}

#[test]
fn s1_a_body_is_watched_across_its_pieces() {
    let body = format!("a={}&b={}stk_ph_stk_ph_{}", ph(), placeholder(2).0, encoded(&format!("x{}", ph())));
    for size in 1..body.len() {
        let (mut scanner, mut found, mut encoded) = (Scanner::new(), Vec::new(), 0);
        for piece in body.as_bytes().chunks(size) {
            let seen = scanner.push(piece);
            found.extend(seen.placeholders);
            encoded += u32::from(seen.encoded);
        }
        assert_eq!(found, [placeholder(1), placeholder(2)], "{size}");
        assert_eq!(encoded, 1);
    }
    assert_eq!(Scanner::new().push(b"stk_ph_ and nothing else"), Seen::default());
}

proptest! {
    /// Whatever goes out has no placeholder left, and the secret stands nowhere but where it is bound.
    #[test]
    fn what_is_filled_has_no_placeholder_left(
        target in "/(team|other)(/[a-z%.]{0,6})?(\\?[a-z]{0,3})?", host in "(git|npm)\\.example",
        lines in prop::collection::vec(("(authorization|x-key|cookie)", "[a-zA-Z0-9 :%=]{0,8}", 0_u8..5, "[a-zA-Z0-9 :%=]{0,8}"), 0..4),
        basic in any::<bool>(),
    ) {
        let wanted = wanted(&host, 443, &target);
        let lines: Vec<(String, String)> = lines.into_iter().map(|(name, before, seed, after)| {
            let inner = if seed == 0 { String::new() } else { placeholder(seed).0 };
            let value = format!("{before}{inner}{after}");
            (name, if basic { format!("Basic {}", encoded(&value)) } else { value.trim().to_owned() })
        }).collect();
        let lines: Vec<(&str, String)> = lines.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
        let mut all = headers(&lines);
        if let Verdict::Replace(places) = look(&bindings(), &wanted, &all) {
            let secret = SecretString::from(SECRET);
            fill(&mut all, &places, |_| Some(&secret)).unwrap();
            prop_assert_eq!(look(&bindings(), &wanted, &all), Verdict::Nothing);
            for (name, value) in &all {
                if value.is_sensitive() {
                    let own = if *name == header::AUTHORIZATION { "git.example" } else { "npm.example" };
                    prop_assert_eq!(&wanted.host, own);
                    prop_assert_ne!(name, header::COOKIE);
                }
            }
        }
    }

    #[test]
    fn any_split_of_a_body_shows_the_same(
        body in "(stk_ph_|[a-z2-7]{31,33}|stk_ph_[a-z2-7]{32}|.){0,8}", cuts in prop::collection::vec(0_usize..60, 0..6),
    ) {
        let whole = Scanner::new().push(body.as_bytes());
        let (mut rest, mut scanner, mut found) = (body.as_bytes(), Scanner::new(), Vec::new());
        for cut in cuts {
            let (piece, after) = rest.split_at(cut.min(rest.len()));
            found.extend(scanner.push(piece).placeholders);
            rest = after;
        }
        found.extend(scanner.push(rest).placeholders);
        prop_assert_eq!(found, whole.placeholders);
    }
}
