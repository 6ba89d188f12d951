//! What rules name is spelled as the way out spells it: the policy's reading of hosts, paths and repositories, and ours, agree.
//! A text that one of them took and the other did not would be a rule that never matches.

use proptest::prelude::*;
use stockade_egress::{git::path::Repository, name::Host, path::NormalPath};
use stockade_policy::tables::{HostPattern, PathPattern, RepositoryPattern};

fn hosts() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "([a-cA-C0-9_-]{0,4}\\.){0,4}[a-cx0-9_-]{0,5}\\.?",
        1 => "[0-9]{1,3}(\\.[0-9]{1,3}){3}",
        1 => "\\[?[0-9a-f:]{2,12}\\]?",
        1 => "\\PC{0,12}",
        1 => prop::sample::select(vec![
            "0x7f.1", "0x", "a.0x", "1.2.3.4", "01.2.3.4", "[::1]", "[2001:db8::1]", "[2001:DB8::1]", "[::1%eth0]", "xn--bcher-kva.example",
            "a.example:443", "user@a.example", "a.example/x", "localhost", "3com.com", "[1.2.3.4]", "a%2eb", "a b",
        ]).prop_map(str::to_owned),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_host_in_a_rule_is_one_that_a_connection_can_be_for(text in hosts()) {
        let ours = Host::parse(&text).is_ok_and(|host| host.to_string() == text);
        // The exit writes an IPv4 address in IPv6's clothes as the IPv4 address that it is.
        prop_assume!(!text.starts_with("[::ffff:"));
        let theirs = HostPattern::parse(&text);
        prop_assert_eq!(matches!(&theirs, Ok(HostPattern::Exact(name)) if *name == text), ours, "{:?}", theirs);
        if ours {
            prop_assert!(theirs.is_ok_and(|pattern| pattern.matches(&text)));
        }
    }

    #[test]
    fn a_path_in_a_rule_is_one_that_is_judged(text in "/?([a-c./;~!$&'(),:@=+-]|%2[eEfF5]|%61|%C3%BC|%c3|%|\\\\|\\?|#| |\u{fc}){0,16}") {
        let ours = NormalPath::read(&text).is_ok_and(|path| path.as_str() == text);
        let theirs = PathPattern::parse(&text);
        prop_assert_eq!(matches!(&theirs, Ok(PathPattern::Exact(path)) if *path == text), ours, "{:?}", theirs);
        // What is below a folder is so for both.
        if let (Ok(path), Ok(below)) = (NormalPath::read(&text), PathPattern::parse("/a/*")) {
            prop_assert_eq!(below.matches(path.as_str()), path.as_str().starts_with("/a/"));
        }
    }

    #[test]
    fn a_repository_that_is_asked_for_can_be_named(text in "/?([a-c.@~+-]{0,4}/){0,3}[a-c.-]{1,4}(\\.git)?/?") {
        if let Ok(repository) = Repository::parse(&text) {
            let id = format!("forge.example/{}", repository.name());
            let named = RepositoryPattern::parse(&id);
            // `x.git.git`, and what is a dot segment once `.git` is off, is a repository that no rule names, and so none that is reached.
            let odd = repository.name().ends_with(".git") || matches!(repository.name().rsplit('/').next(), Some("." | ".."));
            prop_assert_eq!(named.is_ok_and(|pattern| pattern.matches(&id)), !odd, "{}", id);
        }
    }
}
