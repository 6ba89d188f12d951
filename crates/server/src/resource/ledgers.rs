//! The ledgers: one for each runner and server.

use std::collections::HashMap;

use stockade_api::http::{Ledger, Page};
use stockade_store::{Tx, people, records, sites};

use super::whole;
use crate::{
    answer::{Answer, Failure, Json},
    context::Cx,
    ledger,
};

/// All ledgers with their sizes, roots and last checkpoints. This server's own is signed as it is now.
#[utoipa::path(get, path = "/v1/ledgers", tag = "ledger", responses((status = 200, body = Page<Ledger>)))]
pub async fn list(cx: Cx) -> Answer<Page<Ledger>> {
    let mut tx = cx.may(cx.read().await?, cx.on_organization()?).await?;
    let keys = keys(&mut tx).await?;
    let own = cx.app.server.to_string();
    let mut items = Vec::new();
    for state in records::ledgers(&mut tx).await? {
        let checkpoint = if state.producer == own {
            Some(ledger::checkpoint(&cx.app, &mut tx).await?.to_string())
        } else {
            Some(state.note).filter(|note| !note.is_empty())
        };
        items.push(Ledger {
            public_key: keys.get(&state.producer).cloned(),
            producer: state.producer,
            size: state.size,
            root: state.root.to_string(),
            checkpoint,
        });
    }
    Ok(Json(whole(items)))
}

/// The public keys of all producers, by their identifiers.
pub async fn keys(tx: &mut Tx) -> Result<HashMap<String, String>, Failure> {
    let servers = people::servers(tx).await?.into_iter().map(|(server, key)| (server.to_string(), key));
    let mut keys: HashMap<_, _> = servers.collect();
    keys.extend(sites::runners(tx).await?.into_iter().map(|runner| (runner.id.to_string(), runner.public_key)));
    Ok(keys)
}
