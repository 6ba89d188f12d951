//! Checkpoints are counter-signed only if they say what was received.

use stockade_ledger::{Checkpoint, SignedNote, Tree, VerifyingKey};

use crate::harness::{App, databases};

#[tokio::test]
async fn the_server_signs_what_it_has_seen_and_nothing_else() {
    for database in databases() {
        let app = App::on(database).await;
        let mut runner = app.runner().await;
        let (a, b, c) = (runner.note("a"), runner.note("b"), runner.note("c"));
        let two = {
            let mut tree = Tree::new();
            for entry in [&a, &b] {
                let stockade_api::runner::Entry::Record { canonical } = entry else { panic!() };
                tree.append(stockade_ledger::leaf_hash(canonical.as_bytes()));
            }
            tree
        };
        // Not shipped yet.
        let early = runner.checkpoint(&runner.signed(&two)).await.unwrap_err();
        assert_eq!(early.code, "not_shipped");
        runner.ship(vec![a, b, c]).await.unwrap();

        // Of all, and of a part: both are consistent with what was received.
        for tree in [&runner.tree, &two] {
            let countersigned = runner.checkpoint(&runner.signed(tree)).await.unwrap();
            let note: SignedNote = countersigned.note.parse().unwrap();
            let server = app.admin.ledgers().await.unwrap().items;
            let server = server.iter().find(|ledger| ledger.producer.starts_with("srv_")).unwrap();
            let key: VerifyingKey = runner.server_key.parse().unwrap();
            note.verify(&format!("stockade/{}", server.producer), &key).unwrap();
        }

        // Another history of the same length.
        let mut other = Tree::new();
        (0..3).for_each(|n: u8| other.append(stockade_ledger::leaf_hash(&[n])));
        assert_eq!(runner.checkpoint(&runner.signed(&other)).await.unwrap_err().code, "other_history");

        // Somebody else's log, signed by this runner.
        let strange = Checkpoint { origin: "stockade/other".to_owned(), size: 3, root: runner.tree.root() };
        let strange = strange.sign("stockade/other", &runner.key).to_string();
        assert_eq!(runner.checkpoint(&strange).await.unwrap_err().code, "bad_checkpoint");
        assert_eq!(runner.checkpoint("nonsense").await.unwrap_err().code, "bad_checkpoint");
        app.stop().await;
    }
}
