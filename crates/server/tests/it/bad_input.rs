//! Nonsense of every kind: each gets one clear error, and nothing breaks.

use proptest::prelude::*;
use reqwest::Method;

use crate::harness::App;

#[tokio::test]
async fn each_kind_of_nonsense_has_its_error() {
    let app = App::new().await;
    let token = app.admin_token.clone();
    let admin = Some(token.as_str());
    let huge = format!("\"{}\"", "x".repeat(2 * 1024 * 1024));
    let unknown = "/v1/runs/run_00000000000000000000000001";
    for (method, path, token, body, status, code) in [
        (Method::GET, "/nowhere", admin, "", 404, "no_such_path"),
        (Method::DELETE, "/v1/me", admin, "", 405, "no_such_method"),
        (Method::GET, "/v1/me", None, "", 401, "no_token"),
        (Method::GET, "/v1/me", Some("stk_wrong"), "", 401, "bad_token"),
        (Method::GET, "/v1/me", Some("wrong"), "", 401, "bad_token"),
        (Method::POST, "/v1/projects", admin, "{", 400, "bad_json"),
        (Method::POST, "/v1/projects", admin, "", 400, "bad_json"),
        (Method::POST, "/v1/projects", admin, "[]", 422, "bad_field"),
        (Method::POST, "/v1/projects", admin, "{\"nam\": 1}", 422, "bad_field"),
        (Method::POST, "/v1/projects", admin, huge.as_str(), 413, "body_too_large"),
        (Method::GET, "/v1/runs?limit=many", admin, "", 422, "bad_query"),
        (Method::GET, "/v1/runs?state=asleep", admin, "", 422, "bad_query"),
        (Method::GET, "/v1/runs/prj_00000000000000000000000001", admin, "", 404, "no_such_thing"),
        (Method::GET, unknown, admin, "", 404, "run_not_found"),
        (Method::POST, "/v1/runs/run_00000000000000000000000001/cancel", admin, "", 404, "run_not_found"),
        (Method::GET, "/v1/runs?cursor=%00%00", admin, "", 422, "cursor_invalid"),
        (Method::POST, "/v1/runner/poll", admin, "{}", 401, "unsigned"),
    ] {
        let (got, body) = app.raw(method.clone(), path, token, body).await;
        let error = &body["error"];
        assert_eq!((got, error["code"].as_str()), (status, Some(code)), "{method} {path}: {body}");
        assert!(error["message"].as_str().is_some_and(|text| text.len() > 10), "{body}");
    }
    app.stop().await;
}

#[test]
fn no_body_makes_it_panic() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let app = runtime.block_on(App::new());
    let paths = ["/v1/projects", "/v1/tasks", "/v1/policy/explain", "/v1/policy/check", "/v1/runner/enroll"];
    proptest!(ProptestConfig::with_cases(64), |(path in 0usize..5, body in "\\PC{0,200}|[\\[\\]{}\",:0-9a-z]{0,200}")| {
        let (status, answer) =
            runtime.block_on(app.raw(Method::POST, paths[path], Some(&app.admin_token), &body));
        prop_assert!((400..500).contains(&status) || answer.get("problems").is_some(), "{status} {answer}");
    });
    runtime.block_on(app.stop());
}
