//! `/v1/export`, `/v1/records`, `/v1/ledgers`

use futures_util::StreamExt;
use stockade_api::http::{Export, ListRecords};
use stockade_api::runner::Entry;
use stockade_domain::ContentKind;
use stockade_ledger::{Proof, RunKey, SignedNote, SystemWorld, VerifyingKey};
use stockade_server::offline;

use crate::harness::{App, databases, start};

async fn export(app: &App, query: &Export) -> String {
    let mut stream = app.admin.export(query).await.unwrap();
    let mut text = Vec::new();
    while let Some(chunk) = stream.next().await {
        text.extend_from_slice(&chunk.unwrap());
    }
    String::from_utf8(text).unwrap()
}

#[tokio::test]
async fn an_export_verifies_without_us_and_a_change_is_found() {
    for database in databases() {
        let app = App::on(database).await;
        let mut runner = app.runner().await;
        let run = start(&app.admin, &app.project("p").await).await.unwrap();
        let notes = vec![runner.note("a"), runner.note("b"), runner.note("c")];
        runner.ship(notes).await.unwrap();
        runner.checkpoint(&runner.signed(&runner.tree)).await.unwrap();

        let text = export(&app, &Export { content: true, content_of: None }).await;
        let report = offline::verify_export(text.as_bytes()).unwrap();
        assert_eq!(report.ledgers.len(), 2, "{report:?}");
        assert!(report.ledgers.iter().all(|ledger| ledger.records == ledger.signed), "{report:?}");
        let of_runner = report.ledgers.iter().find(|ledger| ledger.producer == runner.id.to_string()).unwrap();
        assert_eq!((of_runner.records, of_runner.signed_by.len()), (3, 2), "signed by the runner and the server");
        assert!(text.contains("\"type\":\"content\"") && !text.contains("fix the failing test"));
        assert!(
            export(&app, &Export { content: false, content_of: Some(run.id) }).await.contains("\"type\":\"content\"")
        );
        assert!(!export(&app, &Export::default()).await.contains("\"type\":\"content\""));

        let changed = text.replacen("\\\"code\\\":\\\"b\\\"", "\\\"code\\\":\\\"x\\\"", 1);
        assert_ne!(changed, text);
        assert_eq!(offline::verify_export(changed.as_bytes()).unwrap_err().code, "not_verified");
        // Who read the ledger is in the ledger.
        assert!(app.last_records(6).await.contains(&"open record.read".to_owned()));
        app.stop().await;
    }
}

#[tokio::test]
async fn a_record_is_found_and_proven() {
    let app = App::new().await;
    for name in ["a", "b", "c"] {
        app.project(name).await;
    }
    let query = ListRecords { action: Some(stockade_domain::Action::ProjectCreate), ..ListRecords::default() };
    let found = app.admin.records(&query).await.unwrap();
    assert_eq!(found.items.len(), 3);
    let record = app.admin.record(found.items[1].id).await.unwrap();
    assert_eq!(record.record["body"]["phase"], "open");

    let proven = app.admin.proof(record.id).await.unwrap();
    let ledgers = app.admin.ledgers().await.unwrap();
    let key: VerifyingKey = ledgers.items[0].public_key.as_ref().unwrap().parse().unwrap();
    let note: SignedNote = proven.checkpoint.parse().unwrap();
    let checkpoint = note.verify(&note.checkpoint().origin, &key).unwrap();
    let proof: Proof = serde_json::from_value(proven.proof).unwrap();
    proof.verify(proven.canonical.as_bytes(), checkpoint).unwrap();
    assert!(proof.verify(b"something else", checkpoint).is_err());
    app.stop().await;
}

/// What no checkpoint signs yet is in no export, and neither is content that only such records cover.
#[tokio::test]
async fn an_export_between_two_checkpoints_verifies_too() {
    let app = App::new().await;
    let mut runner = app.runner().await;
    let run = start(&app.admin, &app.project("p").await).await.unwrap();
    let signed = runner.note("signed");
    runner.ship(vec![signed]).await.unwrap();
    runner.checkpoint(&runner.signed(&runner.tree)).await.unwrap();
    let sealed = RunKey::generate(&SystemWorld, run.id).seal(&SystemWorld, ContentKind::Diff, b"-a\n+b\n").unwrap();
    let content =
        Entry::Content { run: run.id, content: sealed.content, sealed: stockade_api::base64::encode(&sealed.bytes) };
    let unsigned = runner.note("unsigned");
    runner.ship(vec![content, unsigned]).await.unwrap();

    let text = export(&app, &Export { content: true, content_of: None }).await;
    let report = offline::verify_export(text.as_bytes()).unwrap();
    assert_eq!(report.contents, 1, "the task's, which the server's own record covers");
    assert!(!text.contains("unsigned") && !text.contains(&sealed.content.digest.to_string()));
    app.stop().await;
}
