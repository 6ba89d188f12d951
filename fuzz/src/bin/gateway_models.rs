//! The models' configuration: what is listed can be resolved, and never to a provider over plain http elsewhere.
#![no_main]

use stockade_gateway::ModelTable;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let Ok(table) = ModelTable::from_config(text) else { return };
    for name in table.names() {
        table.resolve(&name).unwrap_or_else(|error| panic!("`{name}` is listed and does not resolve: {error}"));
    }
    for provider in table.providers() {
        let url = provider.base_url();
        let host = url.host_str().unwrap_or_default();
        let here = host == "localhost" || host == "[::1]" || host.starts_with("127.");
        assert!(url.scheme() == "https" || url.scheme() == "http" && here, "{url}");
        assert!(url.username().is_empty() && url.password().is_none(), "{url}");
    }
    assert!(table.resolve("rehearsal/x").is_err());
});
