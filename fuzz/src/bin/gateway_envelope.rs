//! Bodies in other services' envelopes: whatever way a body came, what goes out to each provider of the dialect reads as the same
//! request. The first line is the address after `/gateway/`, the rest is the body.
#![no_main]

use std::sync::LazyLock;

use bytes::Bytes;
use stockade_gateway::{ModelTable, Target, fuzzing::enveloped};
use stockade_llm::{Dialect, converse::invoke::uncarry};

const MODELS: &str = r#"
[providers.a]
kind = "anthropic"
base_url = "https://a.example"
key = "none"
[providers.o]
kind = "openai"
base_url = "https://o.example/v1"
key = "none"
[providers.z]
kind = "azure"
base_url = "https://z.example"
key = "none"
[providers.b]
kind = "bedrock"
region = "us-east-1"
key = "none"
[providers.v]
kind = "vertex"
project = "p"
location = "global"
key = "none"
"#;

static TARGETS: LazyLock<Vec<Target>> = LazyLock::new(|| {
    let names = [
        ("a", "claude-sonnet-4-6"),
        ("o", "gpt-5"),
        ("z", "gpt-5"),
        ("b", "us.anthropic.claude-sonnet-4-6-v1:0"),
        ("v", "claude-sonnet-4-6"),
    ];
    let models: String = names
        .iter()
        .enumerate()
        .map(|(at, (provider, name))| {
            format!("[models.m{at}]\nprovider = \"{provider}\"\nupstream = \"{name}\"\nprice = \"claude-sonnet-4-6\"\n")
        })
        .collect();
    let table = ModelTable::from_config(&format!("{MODELS}{models}")).unwrap_or_else(|error| panic!("{error}"));
    let target = |at| table.resolve(&format!("m{at}")).expect("it is there").targets.remove(0);
    (0..names.len()).map(target).collect()
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let at = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let (path, body) = bytes.split_at(at);
    let body = Bytes::copy_from_slice(body.strip_prefix(b"\n").unwrap_or_default());
    let path = String::from_utf8_lossy(path);
    let Some((view, dialect, sent)) = enveloped(&path, &body, &TARGETS) else { return };
    if path.contains("count_tokens") {
        return;
    }
    for sent in sent {
        let whole = if sent.carried {
            uncarry(&sent.body, &sent.upstream, sent.stream).expect("it is an object").body
        } else {
            sent.body.clone()
        };
        let again = dialect.view(&whole).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&whole)));
        if matches!(dialect, Dialect::Messages | Dialect::Chat | Dialect::Responses | Dialect::Embeddings) {
            assert_eq!(again.model.as_deref(), Some(sent.upstream.as_str()));
        }
        assert_eq!((again.messages, again.max_output, again.answers), (view.messages, view.max_output, view.answers));
        assert_eq!(again.estimate.output_tokens, view.estimate.output_tokens);
    }
});
