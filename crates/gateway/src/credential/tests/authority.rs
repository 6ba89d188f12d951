//! A fake authority: a real server on loopback that keeps what it was asked and answers as the test says.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{Router, body::Body, extract::Request};
use http::{HeaderMap, Method, Response};
use http_body_util::BodyExt;
use tokio::sync::Notify;

/// What was asked.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) query: BTreeMap<String, String>,
    pub(super) headers: HeaderMap,
    pub(super) body: String,
}

impl Asked {
    pub(super) fn form(&self) -> BTreeMap<String, String> {
        assert_eq!(self.headers["content-type"], "application/x-www-form-urlencoded");
        url::form_urlencoded::parse(self.body.as_bytes()).into_owned().collect()
    }

    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }
}

/// An answer: status, headers, body.
pub(super) type Answer = (u16, Vec<(&'static str, String)>, String);

pub(super) fn ok(body: impl Into<String>) -> Answer {
    (200, Vec::new(), body.into())
}

type Answers = dyn Fn(&Asked, usize) -> Answer + Send + Sync;

pub(super) struct Authority {
    pub(super) address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    /// While it is closed, answers wait.
    door: Arc<Mutex<Option<Arc<Notify>>>>,
}

impl Authority {
    /// `answer` is called with the question and how many came before it.
    pub(super) async fn start(answer: impl Fn(&Asked, usize) -> Answer + Send + Sync + 'static) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::<Mutex<Vec<Asked>>>::default();
        let door = Arc::<Mutex<Option<Arc<Notify>>>>::default();
        let (list, closed, answer) =
            (asked.clone(), door.clone(), Arc::<Answers>::from(Box::new(answer) as Box<Answers>));
        let handler = move |request: Request| {
            let (list, closed, answer) = (list.clone(), closed.clone(), answer.clone());
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                let query = url::form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes());
                let question = Asked {
                    method: parts.method,
                    path: parts.uri.path().to_owned(),
                    query: query.into_owned().collect(),
                    headers: parts.headers,
                    body: String::from_utf8(body.to_vec()).unwrap(),
                };
                let before = {
                    let mut list = list.lock().unwrap();
                    list.push(question.clone());
                    list.len() - 1
                };
                let wait = closed.lock().unwrap().clone();
                if let Some(wait) = wait {
                    wait.notified().await;
                }
                let (status, headers, body) = answer(&question, before);
                let mut response = Response::builder().status(status);
                for (name, value) in headers {
                    response = response.header(name, value);
                }
                response.body(Body::from(body)).unwrap()
            }
        };
        let app = Router::new().fallback(handler);
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { address, asked, door }
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    pub(super) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    pub(super) fn count(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    /// From now on questions wait until the returned bell rings, each for one ring.
    pub(super) fn hold(&self) -> Arc<Notify> {
        let bell = Arc::new(Notify::new());
        *self.door.lock().unwrap() = Some(bell.clone());
        bell
    }

    pub(super) fn open(&self) {
        *self.door.lock().unwrap() = None;
    }
}
