//! Answers of those who give out credentials, and of providers that are asked whether they know us: what goes into headers is
//! good for it, and nothing that was sent in confidence is shown. The first byte says which answer the rest is.
#![no_main]

use std::sync::LazyLock;

use stockade_gateway::{
    ModelTable, Question, Said,
    credential::SecretRef,
    fuzzing::{Credential, read, shown},
};

const SECRET: &str = "confidential-0123456789";

static TABLE: LazyLock<ModelTable> = LazyLock::new(|| {
    let kinds = ["anthropic", "openai", "gemini", "azure", "openai-compatible"];
    let one = |kind: &&str| {
        format!("[providers.{kind}]\nkind = \"{kind}\"\nbase_url = \"https://x.example/v1\"\nkey = \"none\"\n")
    };
    let text: String = kinds.iter().map(one).collect();
    let more = "[providers.b]\nkind = \"bedrock\"\nregion = \"us-east-1\"\nkey = \"none\"\n";
    ModelTable::from_config(&format!("{text}{more}")).unwrap_or_else(|error| panic!("{error}"))
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((first, body)) = bytes.split_first() else { return };
    let forms = [Credential::Bearer, Credential::Instance, Credential::Role, Credential::Profile];
    let form = match *first {
        8 => Some(&Credential::Impersonated),
        9 => Some(&Credential::GoogleFile),
        other => forms.get(usize::from(other % 8)),
    };
    match form {
        Some(form) => {
            if let Ok(given) = read(*form, body) {
                // Addresses are as good: nothing in them may break out of a request's line.
                let good = |text: &String| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
                assert!(*form == Credential::Profile || given.texts.iter().all(good), "{given:?}");
            }
        }
        None if *first % 8 == 4 => {
            let text = String::from_utf8_lossy(body);
            let told = shown(&text, SECRET);
            assert!(!told.contains(SECRET) && told.chars().count() <= 301 && !told.contains(char::is_control));
        }
        None if *first % 8 == 5 => {
            let text = String::from_utf8_lossy(body).into_owned();
            if let Err(why) = SecretRef::try_from(text.clone()) {
                assert!(text.len() < 12 || !why.contains(&text));
            }
        }
        None => {
            let Some((status, body)) = body.split_first() else { return };
            for provider in TABLE.providers() {
                for question in [Question::Models, Question::Model("m")] {
                    match provider.understood(question, 200 + u16::from(*status) * 2, body) {
                        Said::Unwelcome(text) | Said::Busy(text) | Said::Failing(text) | Said::Strange(text) => {
                            assert!(text.chars().count() < 1_000 && !text.contains('\n'));
                        }
                        _ => {}
                    }
                }
            }
        }
    }
});
