//! Who may call what. Every operation of people is called by everybody: without a token, with a wrong one,
//! and by a person of each role; what the shipped policy answers is written down in `authorization.txt`.

use std::{fmt::Write as _, sync::Arc};

use reqwest::Method;
use serde_json::{Value, json};
use stockade_api::http::CreateGroup;
use stockade_domain::{Digest, Role, World};
use stockade_server::{
    OPERATIONS,
    operation::{Caller, Operation, Rule},
};

use crate::harness::{App, TestWorld, sealed_task, sealed_token, start};

const SNAPSHOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/authorization.txt");

/// Things to call operations on.
struct Scene {
    app: App,
    values: Vec<(&'static str, String)>,
    task: Value,
    token: Value,
}

impl Scene {
    async fn new() -> Self {
        let app = App::new().await;
        let mut runner = app.runner().await;
        let project = app.project("scene").await;
        let run = start(&app.admin, &project).await.unwrap();
        let approval = runner.work_until_asked(run.id).await;
        let record = app.admin.records(&Default::default()).await.unwrap().items.remove(0).id;
        let digest = app.admin.run(run.id).await.unwrap();
        assert!(digest.environment.is_some(), "the run was placed");
        let mut values = vec![
            ("{project}", project.id.to_string()),
            ("{run}", run.id.to_string()),
            ("{digest}", Digest([0; 32]).to_string()),
            ("{approval}", approval.to_string()),
            ("{environment}", digest.environment.unwrap().to_string()),
            ("{record}", record.to_string()),
        ];
        let token = sealed_token(&app.admin, &project).await.unwrap();
        let made = app.admin.create_gateway_token(&token).await.unwrap();
        values.push(("{token}", made.about.id.to_string()));
        values.push((
            "{group}",
            app.admin.create_group(&CreateGroup { name: "scene".to_owned() }).await.unwrap().id.to_string(),
        ));
        values.push(("{call}", runner.call_model(run.id, project.id, run.owner).await.to_string()));
        values.push(("{connection}", runner.connect(&run).await.0.to_string()));
        let token = serde_json::to_value(sealed_token(&app.admin, &project).await.unwrap()).unwrap();
        let task = serde_json::to_value(sealed_task(&app.admin, &project).await.unwrap()).unwrap();
        Self { app, values, task, token }
    }

    fn path(&self, operation: &Operation) -> String {
        let path = operation.path.replace("/v1/calls/sums", "/v1/calls/sums?by=day");
        let path = path.replace("/v1/connections/sums", "/v1/connections/sums?run={run}");
        self.values.iter().fold(path, |path, (name, value)| path.replace(name, value))
    }

    /// A body that the operation understands.
    fn body(&self, operation: &Operation) -> Option<Value> {
        let world: Arc<dyn World> = Arc::new(TestWorld::default());
        let fresh = (*world).id::<stockade_domain::kinds::Token>().to_string();
        let sealed = stockade_ledger::sha256(&[b"x"]);
        Some(match (operation.method.as_str(), operation.path) {
            ("GET", _) => Value::Null,
            ("POST", "/v1/tokens") => json!({"user": format!("user {fresh}"), "label": "l"}),
            ("POST", "/v1/gateway/tokens/prepare") => json!({"project": self.values[0].1}),
            ("POST", "/v1/gateway/tokens") => self.token.clone(),
            ("POST", "/v1/gateway/tokens/{token}/revoke") => Value::Null,
            ("POST", "/v1/groups") => json!({"name": fresh.replace('_', "-")}),
            ("POST", "/v1/groups/{group}/members") => json!({"user": "admin", "member": true}),
            ("POST", "/v1/projects") => json!({"name": fresh.replace('_', "-"), "repository": "/r"}),
            ("PATCH", "/v1/projects/{project}") => json!({"gates": []}),
            ("POST", "/v1/tasks/prepare") => json!({"project": self.values[0].1}),
            ("POST", "/v1/tasks") => self.task.clone(),
            ("POST", "/v1/runs/{run}/replies") => {
                json!({"content": {"kind": "reply", "digest": sealed, "len": 1}, "sealed": "eA=="})
            }
            ("POST", "/v1/runs/{run}/ticket") => json!({}),
            ("PUT", "/v1/policy") => json!({"text": "nonsense"}),
            ("POST", "/v1/policy/check" | "/v1/policy/test") => json!({}),
            ("POST", "/v1/policy/explain") => json!({"deed": {
                "principal": {"kind": "server", "id": "srv_00000000000000000000000001"},
                "action": "policy.read", "resource": {"kind": "policy", "id": "x"}}}),
            ("PUT", "/v1/budgets") => json!({"scope": "organization", "period": "day", "limit": 1_000_000_000}),
            ("POST", "/v1/runners/enroll-token") => json!({}),
            ("POST", "/v1/runs/{run}/cancel" | "/v1/runs/{run}/resume" | "/v1/runs/{run}/erase") => Value::Null,
            ("POST", "/v1/approvals/{approval}/grant" | "/v1/approvals/{approval}/deny") => Value::Null,
            ("DELETE", "/v1/environments/{environment}") => Value::Null,
            _ => return None,
        })
    }

    async fn call(&self, operation: &Operation, token: Option<&str>) -> (u16, Value) {
        let body = self.body(operation).unwrap();
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let method: Method = operation.method.as_str().parse().unwrap();
        self.app.raw(method, &self.path(operation), token, &body).await
    }
}

fn of_people() -> impl Iterator<Item = &'static Operation> {
    OPERATIONS.iter().filter(|operation| operation.caller == Caller::User)
}

/// If you are here because this failed: you added an operation without saying in `Scene::body` how it is
/// called. Do so, and everything below covers it. There is no list of exceptions.
#[tokio::test]
async fn every_operation_is_refused_without_a_good_token() {
    let scene = Scene::new().await;
    for operation in of_people() {
        assert!(scene.body(operation).is_some(), "{operation:?} has no authorization test");
        for token in [None, Some("stk_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")] {
            let (status, body) = scene.call(operation, token).await;
            assert_eq!(status, 401, "{operation:?}: {body}");
        }
    }
    scene.app.stop().await;
}

/// A person without any role is refused everything that policy decides, told by which policy and no more,
/// and each refusal is on record.
#[tokio::test]
async fn every_refusal_is_recorded() {
    let scene = Scene::new().await;
    let (_, nobody) = scene.app.person("nobody", &[]).await;
    for operation in of_people() {
        let Rule::Action(action) = operation.rule else { continue };
        let (status, body) = scene.call(operation, Some(&nobody)).await;
        assert_eq!((status, body["error"]["code"].as_str()), (403, Some("refused")), "{operation:?}: {body}");
        assert_eq!(scene.app.last_records(1).await, [format!("refused {action}")], "{operation:?}");
    }
    scene.app.stop().await;
}

/// If you are here because this failed: who may do what has changed. Is that meant?
/// `UPDATE_SNAPSHOTS=1 cargo test -p stockade-server authorization` writes it down.
#[tokio::test]
async fn roles_may_do_what_is_written_down() {
    let scene = Scene::new().await;
    let mut people = Vec::new();
    for role in Role::ALL {
        people.push((role.as_str(), scene.app.person(role.as_str(), &[role]).await.1));
    }
    let mut text = String::from("# operation: who may (others are refused), by the policy that ships\n");
    for operation in of_people() {
        let mut may = Vec::new();
        for (role, token) in &people {
            let (status, body) = scene.call(operation, Some(token)).await;
            assert!(status < 500 && status != 401, "{operation:?} as {role}: {status} {body}");
            if status != 403 {
                may.push(*role);
            }
        }
        writeln!(text, "{} {}: {}", operation.method.as_str(), operation.path, may.join(" ")).unwrap();
    }
    scene.app.stop().await;
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(SNAPSHOT, &text).unwrap();
    }
    let agreed = std::fs::read_to_string(SNAPSHOT).unwrap_or_default();
    assert!(text == agreed, "differs from authorization.txt:\n{text}");
}
