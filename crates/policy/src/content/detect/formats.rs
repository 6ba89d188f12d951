//! Token formats that begin with letters of their own: what begins them, what may follow, and what makes them real.
//!
//! A format is its literal and the longest run of its alphabet behind it. That a token ends where its alphabet ends is what
//! lets a stream be let go as soon as another byte has come.

use super::checks::{bits, crc62, plausible};

/// One format.
pub struct Format {
    /// The class of what it finds.
    pub class: &'static str,
    /// What it begins with.
    pub literal: &'static str,
    /// What may follow.
    pub alphabet: fn(u8) -> bool,
    /// More of it than this is something else.
    pub max: usize,
    /// How many bytes of the run belong to the token; nothing if it is none.
    pub check: fn(&[u8]) -> Option<usize>,
}

const fn alnum(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
}

const fn url64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

const fn dashed(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-'
}

const fn dotted(byte: u8) -> bool {
    url64(byte) || byte == b'.'
}

const fn base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/' || byte == b'='
}

const fn hook(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'/'
}

/// Exactly so many.
fn exact<const N: usize>(run: &[u8]) -> Option<usize> {
    (run.len() == N && plausible(run)).then_some(N)
}

/// At least so many.
fn least<const N: usize>(run: &[u8]) -> Option<usize> {
    let run = trimmed(run);
    (run.len() >= N && plausible(run)).then_some(run.len())
}

/// Without what ends a sentence.
fn trimmed(run: &[u8]) -> &[u8] {
    let end = run.iter().rposition(|byte| !matches!(byte, b'.' | b'-' | b'_')).map_or(0, |at| at + 1);
    run.get(..end).unwrap_or_default()
}

fn hex<const N: usize>(run: &[u8]) -> Option<usize> {
    (run.len() == N && run.iter().all(u8::is_ascii_hexdigit) && plausible(run)).then_some(N)
}

/// 30 random characters and their checksum in six.
fn checked(run: &[u8]) -> Option<usize> {
    (run.len() == 36 && crc62(run) && bits(run) > 2.0).then_some(36)
}

/// Installation tokens come short with a checksum, and longer with a signature of their own.
fn installation(run: &[u8]) -> Option<usize> {
    if run.len() == 36 { checked(run) } else { least::<60>(run) }
}

fn fine_grained(run: &[u8]) -> Option<usize> {
    let (id, rest) = run.split_at_checked(22)?;
    (run.len() == 82 && id.iter().all(u8::is_ascii_alphanumeric) && rest.first() == Some(&b'_') && plausible(run))
        .then_some(82)
}

fn aws_id(run: &[u8]) -> Option<usize> {
    let letters = run.iter().all(|byte| byte.is_ascii_uppercase() || (b'2'..=b'7').contains(byte));
    (run.len() == 16 && letters && run.iter().any(u8::is_ascii_digit) && plausible(run)).then_some(16)
}

/// `T3BlbkFJ` is `OpenAI` in base 64, in the middle of what it gives out.
fn sk(run: &[u8]) -> Option<usize> {
    let run = trimmed(run);
    let has = |what: &[u8]| run.windows(what.len()).any(|part| part == what);
    let openai = has(b"T3BlbkFJ") || [&b"proj-"[..], b"svcacct-", b"admin-"].iter().any(|head| run.starts_with(head));
    (!run.starts_with(b"ant-") && !run.starts_with(b"or-v1-") && openai && run.len() >= 40 && plausible(run))
        .then_some(run.len())
}

fn sk_ant(run: &[u8]) -> Option<usize> {
    let run = trimmed(run);
    (run.starts_with(b"ant-") && run.len() >= 60 && plausible(run)).then_some(run.len())
}

fn sk_or(run: &[u8]) -> Option<usize> {
    let key = run.strip_prefix(b"or-v1-")?;
    hex::<64>(key).map(|len| len + 6)
}

/// Teams, apps and users in numbers, then something random.
fn slack(run: &[u8]) -> Option<usize> {
    let run = trimmed(run);
    let numbered = run.split(|byte| *byte == b'-').next().is_some_and(|part| part.iter().any(u8::is_ascii_digit));
    (run.len() >= 24 && numbered && run.contains(&b'-') && plausible(run)).then_some(run.len())
}

fn slack_hook(run: &[u8]) -> Option<usize> {
    let mut parts = run.split(|byte| *byte == b'/');
    let fits = parts.next()?.starts_with(b"T") && parts.next()?.starts_with(b"B");
    let secret = parts.next().filter(|secret| secret.len() == 24 && plausible(secret))?;
    let len = run.split(|byte| *byte == b'/').take(2).map(|part| part.len() + 1).sum::<usize>() + secret.len();
    fits.then_some(len)
}

/// Three parts, the first of which names an algorithm. The last may be missing in examples, which are none.
fn jwt(run: &[u8]) -> Option<usize> {
    let run = trimmed(run);
    let parts: Vec<&[u8]> = run.splitn(6, |byte| *byte == b'.').collect();
    let ([head, body, tag] | [head, body, _, _, tag]) = parts.as_slice() else { return None };
    (head.len() >= 12 && body.len() >= 12 && tag.len() >= 20 && plausible(tag)).then_some(run.len())
}

fn sendgrid(run: &[u8]) -> Option<usize> {
    (run.len() == 66 && run.get(22) == Some(&b'.') && plausible(run)).then_some(66)
}

fn pypi(run: &[u8]) -> Option<usize> {
    let issuer = [&b"IcHlwaS5vcmc"[..], b"NdGVzdC5weXBpLm9yZw"].iter().any(|head| run.starts_with(head));
    if issuer { least::<60>(run) } else { None }
}

fn account_key(run: &[u8]) -> Option<usize> {
    (run.len() == 88 && run.ends_with(b"==") && plausible(run)).then_some(88)
}

fn shared_key(run: &[u8]) -> Option<usize> {
    (run.len() == 44 && run.ends_with(b"=") && plausible(run)).then_some(44)
}

fn glsa(run: &[u8]) -> Option<usize> {
    (run.len() == 41 && run.get(32) == Some(&b'_') && plausible(run)).then_some(41)
}

fn gitlab(run: &[u8]) -> Option<usize> {
    let run = trimmed(run);
    ((20..=64).contains(&run.len()) && run.iter().any(u8::is_ascii_digit) && plausible(run)).then_some(run.len())
}

/// A key has 40 of base 64 and both cases; a word with many letters has not.
pub fn aws_secret(run: &[u8]) -> Option<usize> {
    let run = run.strip_suffix(b"=").unwrap_or(run);
    let mixed = run.iter().any(u8::is_ascii_uppercase)
        && run.iter().any(u8::is_ascii_lowercase)
        && run.iter().any(u8::is_ascii_digit);
    (run.len() == 40 && mixed && bits(run) >= 4.0 && plausible(run)).then_some(40)
}

macro_rules! formats {
    ($($class:literal: $($literal:literal)+, $alphabet:ident up to $max:literal, $check:expr;)+) => {
        &[$($(Format { class: $class, literal: $literal, alphabet: $alphabet, max: $max, check: $check },)+)+]
    };
}

/// All formats that a literal begins.
pub const FORMATS: &[Format] = formats! {
    "secret.github_token": "ghp_" "gho_" "ghu_" "ghr_", alnum up to 36, checked;
    "secret.github_token": "ghs_", dotted up to 2_000, installation;
    "secret.github_token": "github_pat_", url64 up to 82, fine_grained;
    "secret.gitlab_token": "glpat-", dotted up to 300, gitlab;
    "secret.npm_token": "npm_", alnum up to 36, checked;
    "secret.pypi_token": "pypi-AgE", url64 up to 500, pypi;
    "secret.crates_token": "cio", alnum up to 32, exact::<32>;
    "secret.rubygems_token": "rubygems_", alnum up to 48, hex::<48>;
    "secret.docker_token": "dckr_pat_", url64 up to 40, least::<27>;
    "secret.slack_token": "xoxb-" "xoxp-" "xoxa-" "xoxr-" "xoxs-" "xoxe-" "xapp-", dashed up to 300, slack;
    "secret.slack_webhook": "hooks.slack.com/services/", hook up to 80, slack_hook;
    "secret.stripe_key": "sk_live_" "rk_live_", alnum up to 250, least::<20>;
    "secret.stripe_test_key": "sk_test_" "rk_test_", alnum up to 250, least::<20>;
    "secret.stripe_webhook": "whsec_", base64 up to 120, least::<30>;
    "secret.aws_access_key_id": "AKIA" "ASIA", alnum up to 16, aws_id;
    "secret.google_api_key": "AIza", url64 up to 35, exact::<35>;
    "secret.google_api_key": "AQ.Ab", url64 up to 120, least::<40>;
    "secret.google_oauth": "GOCSPX-", url64 up to 28, exact::<28>;
    "secret.google_oauth": "ya29.", dotted up to 2_000, least::<60>;
    "secret.azure_key": "AccountKey=", base64 up to 88, account_key;
    "secret.azure_key": "SharedAccessKey=", base64 up to 44, shared_key;
    "secret.openai_key": "sk-", url64 up to 300, sk;
    "secret.anthropic_key": "sk-", url64 up to 300, sk_ant;
    "secret.openrouter_key": "sk-", url64 up to 80, sk_or;
    "secret.groq_key": "gsk_", alnum up to 60, least::<48>;
    "secret.xai_key": "xai-", alnum up to 100, least::<70>;
    "secret.huggingface_token": "hf_", alnum up to 40, least::<34>;
    "secret.databricks_token": "dapi", alnum up to 32, hex::<32>;
    "secret.digitalocean_token": "dop_v1_", alnum up to 64, hex::<64>;
    "secret.shopify_token": "shpat_" "shpss_", alnum up to 32, hex::<32>;
    "secret.sendgrid_key": "SG.", dotted up to 66, sendgrid;
    "secret.vault_token": "hvs." "hvb.", url64 up to 300, least::<24>;
    "secret.grafana_token": "glsa_", url64 up to 41, glsa;
    "secret.linear_key": "lin_api_", alnum up to 60, least::<32>;
    "secret.sentry_token": "sntrys_", base64 up to 400, least::<60>;
    "secret.atlassian_token": "ATATT3", base64 up to 300, least::<100>;
    "secret.age_key": "AGE-SECRET-KEY-1", alnum up to 58, exact::<58>;
    "secret.stockade_token": "stk_gw_", url64 up to 200, least::<20>;
    "secret.jwt": "eyJh" "eyJ0" "eyJr" "eyJl" "eyJ4" "eyJj", dotted up to 8_000, jwt;
};
