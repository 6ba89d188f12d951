//! Projects: compare-and-swap, and pages that do not shift.

use stockade_store::{Page, StoreError, projects};

use crate::{
    engines::both,
    fixture::{Fixture, seen, written},
};

both! {
    of_two_changes_one_is_told(db) {
        let f = Fixture::new(&db.store).await;
        let seen = seen!(f, |tx| projects::get(&mut tx, f.project));
        let mut mine = projects::Project { gates: vec!["make test".to_owned()], ..seen.clone() };
        assert_eq!(written!(f, |tx| projects::update(&mut tx, &mine)).unwrap(), 2);
        let theirs = projects::Project { gates: Vec::new(), ..seen };
        let error = written!(f, |tx| projects::update(&mut tx, &theirs)).unwrap_err();
        assert!(matches!(error, StoreError::Conflict { .. }), "{error}");
        mine.version = 2;
        assert_eq!(seen!(f, |tx| projects::by_name(&mut tx, "sample")), mine);
        let gone = projects::Project { id: f.id(), name: "gone".to_owned(), ..mine };
        assert!(matches!(written!(f, |tx| projects::update(&mut tx, &gone)), Err(StoreError::NotFound { .. })));
    }

    pages_do_not_shift_when_something_is_added(db) {
        let f = Fixture::new(&db.store).await;
        let sample = seen!(f, |tx| projects::get(&mut tx, f.project));
        let add = |n: u32| {
            let project = projects::Project { id: f.id(), name: format!("p{n}"), ..sample.clone() };
            let f = &f;
            async move { written!(f, |tx| projects::add(&mut tx, &project)).unwrap() }
        };
        for n in 0..9 {
            add(n).await;
        }
        let mut seen = Vec::new();
        let mut page = Page { limit: 4, cursor: None };
        let mut added = 100;
        loop {
            let got = seen!(f, |tx| projects::list(&mut tx, &page));
            assert!(got.items.len() <= 4);
            seen.extend(got.items.into_iter().map(|project| project.name));
            // Somebody adds meanwhile.
            add(added).await;
            added += 1;
            match got.next_cursor {
                Some(cursor) => page.cursor = Some(cursor),
                None => break,
            }
        }
        assert_eq!(seen, ["p8", "p7", "p6", "p5", "p4", "p3", "p2", "p1", "p0", "sample"]);
        let exact = seen!(f, |tx| projects::list(&mut tx, &Page { limit: added - 100 + 10, cursor: None }));
        assert_eq!(exact.next_cursor, None);
    }

    a_foreign_cursor_is_refused(db) {
        let f = Fixture::new(&db.store).await;
        for cursor in ["'; --", "\u{1F600}", &"x".repeat(500)] {
            let page = Page { limit: 1, cursor: Some(cursor.to_owned()) };
            let error = projects::list(&mut f.store.read().await.unwrap(), &page).await.unwrap_err();
            assert!(error.to_string().contains("begin again without one"), "{error}");
        }
    }
}
