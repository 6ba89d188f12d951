//! Other gateways, to be measured beside ours: installed from their packages into the cache folder, outside the repository.
//!
//! What cannot be had says why and is left out. The list that this makes is what the bench starts them from: `{port}` is where to
//! listen and `{provider}` where the prepared provider is.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::sh;

const LITELLM: &str = "litellm[proxy]==1.106.0";
const PORTKEY: &str = "@portkey-ai/gateway@1.15.2";
const TENSORZERO: &str = "tensorzero==2026.6.0";
/// It does not start without one.
const LITELLM_KEY: &str = "sk-0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
/// What is asked for.
const MODEL: &str = "claude-sonnet-4-6";

/// Installs what is missing, and gives the file that lists them.
pub fn installed() -> Result<PathBuf> {
    let cache = cache()?;
    let list: Vec<Value> = [litellm as fn(&Path) -> Result<Value>, portkey, tensorzero]
        .into_iter()
        .zip(["litellm", "portkey", "tensorzero"])
        .map(|(install, name)| {
            install(&cache).unwrap_or_else(|error| {
                sh::warn(&format!("{name} cannot be measured: {error:#}"));
                json!({"name": name, "missing": format!("{error:#}")})
            })
        })
        .collect();
    let file = cache.join("peers.json");
    fs::write(&file, serde_json::to_vec_pretty(&list)?)?;
    Ok(file)
}

fn cache() -> Result<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let base = base.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")));
    let folder = base.context("neither XDG_CACHE_HOME nor HOME is set")?.join("stockade-bench");
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    Ok(folder)
}

/// A virtual environment with one package; gives its `bin`.
fn python(cache: &Path, name: &str, package: &str) -> Result<PathBuf> {
    let folder = cache.join(name);
    let (bin, done) = (folder.join("bin"), folder.join(format!(".{}", package.replace(['[', ']', '=', '@'], "-"))));
    if !done.exists() {
        sh::output(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))?;
        sh::output(Command::new(bin.join("pip")).args(["install", "--quiet", "--disable-pip-version-check", package]))?;
        fs::write(&done, "")?;
    }
    Ok(bin)
}

fn litellm(cache: &Path) -> Result<Value> {
    let bin = python(cache, "litellm", LITELLM)?;
    let file = cache.join("litellm.yaml");
    Ok(json!({
        "name": "litellm",
        "command": [bin.join("litellm"), "--config", file, "--host", "127.0.0.1", "--port", "{port}", "--telemetry", "False"],
        "env": {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR", "LITELLM_MASTER_KEY": LITELLM_KEY},
        "config_file": file,
        "config": format!(
            "model_list:\n  - model_name: {MODEL}\n    litellm_params:\n      model: anthropic/{MODEL}\n      api_base: http://{{provider}}\n      api_key: none\n"
        ),
        "path": "/v1/messages",
        "headers": format!("x-api-key: {LITELLM_KEY}\r\nanthropic-version: 2023-06-01\r\n"),
        "model": MODEL,
        "stream": true,
    }))
}

fn portkey(cache: &Path) -> Result<Value> {
    let folder = cache.join("portkey");
    let program = folder.join("node_modules/@portkey-ai/gateway/build/start-server.js");
    if !program.exists() {
        fs::create_dir_all(&folder)?;
        let mut npm = Command::new("npm");
        sh::output(npm.args(["install", "--silent", "--no-audit", "--no-fund", PORTKEY]).current_dir(&folder))?;
    }
    Ok(json!({
        "name": "portkey",
        "command": ["node", program, "--headless", "--port={port}"],
        "path": "/v1/messages",
        "headers": "x-portkey-provider: anthropic\r\nx-portkey-custom-host: http://{provider}/v1\r\nx-api-key: none\r\n\
                    anthropic-version: 2023-06-01\r\n",
        "model": MODEL,
        // Its streams fail on the node that is there.
        "stream": false,
    }))
}

fn tensorzero(cache: &Path) -> Result<Value> {
    let bin = python(cache, "tensorzero", TENSORZERO)?;
    let (file, script) = (cache.join("tensorzero.toml"), cache.join("start-tensorzero.py"));
    // It chooses its port itself, and says it here.
    let address = cache.join("tensorzero.address");
    fs::write(
        &script,
        "import asyncio, inspect, sys\nfrom tensorzero.tensorzero import _start_http_gateway\n\n\
         async def main():\n    gateway = _start_http_gateway(config_file=sys.argv[1], clickhouse_url=None, postgres_url=None,\n        \
         valkey_url=None, async_setup=False)\n    if inspect.isawaitable(gateway):\n        gateway = await gateway\n    \
         open(sys.argv[2], 'w').write(gateway.base_url + '\\n')\n    await asyncio.Event().wait()\n\nasyncio.run(main())\n",
    )?;
    Ok(json!({
        "name": "tensorzero",
        "command": [bin.join("python"), script, file, address],
        "address_file": address,
        "env": {"OPENAI_API_KEY": "none"},
        "config_file": file,
        "config": format!(
            "[models.m]\nrouting = [\"p\"]\n\n[models.m.providers.p]\n\
             type = \"openai\"\nmodel_name = \"{MODEL}\"\napi_base = \"http://{{provider}}/v1/\"\napi_key_location = \"none\"\n"
        ),
        "path": "/openai/v1/chat/completions",
        "headers": "",
        "model": "tensorzero::model_name::m",
        "stream": true,
    }))
}
