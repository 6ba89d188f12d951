//! How requests of git's end that do not end by themselves.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use stockade_domain::World;
use stockade_ledger::{Body as Told, SystemWorld};
use stockade_policy::Bundle;
use tokio_util::sync::CancellationToken;

use super::{
    super::{
        Passage,
        way::{Body, Gone, NoAnswer, Way, full},
    },
    forge::Forge,
};
use crate::{git::gate, path::NormalPath, request::Wanted};

/// A server that begins to answer and never ends, or never begins, or is gone.
#[derive(Debug)]
enum Server {
    Endless,
    Silent(Arc<Silence>),
    Gone,
}

/// Whether somebody began to wait for it, and whether nobody does any more.
#[derive(Debug, Default)]
struct Silence {
    begun: AtomicBool,
    over: AtomicBool,
}

struct Waiting(Arc<Silence>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::SeqCst);
    }
}

#[async_trait]
impl Way for Server {
    async fn send(&self, _: Request<Body>) -> Result<Response<Body>, NoAnswer> {
        match self {
            Self::Endless => {
                let first = stream::iter([Ok(Frame::data(Bytes::from_static(b"0008NAK\n")))]);
                Ok(Response::new(StreamBody::new(first.chain(stream::pending())).boxed_unsync()))
            }
            Self::Silent(silence) => {
                let _waiting = Waiting(silence.clone());
                silence.begun.store(true, Ordering::SeqCst);
                std::future::pending().await
            }
            Self::Gone => Err(NoAnswer::Gone),
        }
    }
}

/// An advertisement that is asked for.
fn passage(forge: &Forge, way: Server, cut: CancellationToken) -> Passage {
    let raw_target = "/team/app.git/info/refs?service=git-upload-pack".to_owned();
    let wanted = Wanted {
        host: "forge.example".to_owned(),
        port: 443,
        tls: true,
        method: Method::GET,
        path: NormalPath::read("/team/app.git/info/refs"),
        raw_target,
        upgrade: None,
    };
    let asked = gate::recognise(&wanted, &http::HeaderMap::new()).unwrap().unwrap();
    let connection = (&SystemWorld as &dyn World).id();
    Passage { asked, wanted, connection, way: Arc::new(way), tasks: forge.tasks.clone(), cut }
}

fn head() -> http::request::Parts {
    Request::get("/team/app.git/info/refs?service=git-upload-pack").body(()).unwrap().into_parts().0
}

/// How the one deed that was opened was closed.
async fn closed(forge: &Forge) -> String {
    let codes = forge.records().await.into_iter().filter_map(|body| match body {
        Told::Close { outcome, .. } => Some(outcome.code.unwrap_or_default()),
        _ => None,
    });
    let codes: Vec<String> = codes.collect();
    assert_eq!(codes.len(), 1, "one is closed, once: {codes:?}");
    codes.concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn n27_a_policy_that_changes_cuts_an_answer_that_is_under_way() {
    let forge = Forge::new().await;
    let asked = passage(&forge, Server::Endless, CancellationToken::new());
    let answer = forge.exit.git(asked, head(), full("")).await.unwrap();
    let mut body = answer.into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap().as_ref(), b"0008NAK\n");
    forge.policy.store(Arc::new(Bundle::parse(2, "about = \"nothing\"").unwrap()));
    assert_eq!(forge.exit.reconsider(), 1);
    assert!(body.frame().await.unwrap().is_err(), "it does not end as if it were whole");
    assert_eq!(closed(&forge).await, "policy");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_does_not_wait_for_the_end_ends_it() {
    let forge = Forge::new().await;
    let asked = passage(&forge, Server::Endless, CancellationToken::new());
    drop(forge.exit.git(asked, head(), full("")).await.unwrap());
    assert_eq!(closed(&forge).await, "client_lost");

    let (forge, silence) = (Forge::new().await, Arc::new(Silence::default()));
    let asked = passage(&forge, Server::Silent(silence.clone()), CancellationToken::new());
    let sent = async {
        while !silence.begun.load(Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        _ = forge.exit.git(asked, head(), full("")) => panic!("nobody answers"),
        () = sent => {}
    }
    assert_eq!(closed(&forge).await, "client_lost");
    assert!(silence.over.load(Ordering::SeqCst), "nobody goes on for nobody");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_cut_and_a_server_that_is_gone_end_what_is_on_them() {
    let forge = Forge::new().await;
    let cut = CancellationToken::new();
    cut.cancel();
    let asked = passage(&forge, Server::Endless, cut);
    let answer = forge.exit.git(asked, head(), full("")).await.unwrap();
    assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
    assert_eq!(closed(&forge).await, "policy");

    let forge = Forge::new().await;
    let asked = passage(&forge, Server::Gone, CancellationToken::new());
    assert!(matches!(forge.exit.git(asked, head(), full("")).await, Err(Gone)));
    assert_eq!(closed(&forge).await, "lost");
}
