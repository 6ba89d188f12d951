//! The first start, sign-in, and how a runner joins.

use stockade_domain::{EnvironmentClass, Role, Timestamp};
use stockade_ledger::sha256;
use stockade_store::{StoreError, bundles, people, sites};

use crate::{
    engines::both,
    fixture::{Fixture, seen, written},
};

both! {
    the_first_start_happens_once(db) {
        let f = Fixture::new(&db.store).await;
        let again = people::Bootstrap {
            organization: f.id(),
            organization_name: "Other".to_owned(),
            admin: f.id(),
            admin_name: "other".to_owned(),
            token: f.id(),
            token_hash: sha256(&[b"other"]),
            bundle: String::new(),
            site: f.id(),
            site_name: "other".to_owned(),
            now: f.now(),
        };
        assert!(!written!(f, |tx| people::bootstrap(&mut tx, &again)).unwrap());
        assert_eq!(seen!(f, |tx| people::installation(&mut tx)).unwrap().name, "Acme");
        assert_eq!(seen!(f, |tx| people::users(&mut tx)).len(), 1);
        assert_eq!(seen!(f, |tx| bundles::current(&mut tx)).text, "bundle one");
        assert_eq!(seen!(f, |tx| people::user_by_token(&mut tx, sha256(&[b"other"]), f.now())), None);
    }

    a_token_works_until_it_is_old_or_revoked(db) {
        let f = Fixture::new(&db.store).await;
        let (_, admin) = seen!(f, |tx| people::user_by_token(&mut tx, sha256(&[b"token"]), f.now())).unwrap();
        assert_eq!((admin.id, admin.roles), (f.admin, vec![Role::Admin]));
        let user = people::User {
            id: f.id(),
            name: "dev".to_owned(),
            roles: vec![Role::Approver, Role::Developer, Role::Approver],
            created_at: f.now(),
        };
        written!(f, |tx| people::add_user(&mut tx, &user)).unwrap();
        let same_name = people::User { id: f.id(), ..user.clone() };
        let error = written!(f, |tx| people::add_user(&mut tx, &same_name)).unwrap_err();
        assert_eq!(error.to_string(), "there is already a user dev");
        let token = people::Token {
            id: f.id(),
            user: user.id,
            name: "laptop".to_owned(),
            created_at: f.now(),
            expires_at: Some(f.now().plus_seconds(10)),
            revoked_at: None,
        };
        written!(f, |tx| people::add_token(&mut tx, &token, sha256(&[b"dev"]))).unwrap();
        let found = |at: Timestamp| {
            let f = &f;
            async move { seen!(f, |tx| people::user_by_token(&mut tx, sha256(&[b"dev"]), at)).map(|(_, user)| user) }
        };
        let known = found(f.now()).await.unwrap();
        assert_eq!(known.roles, [Role::Developer, Role::Approver]);
        assert_eq!(found(f.now().plus_seconds(10)).await, None);
        written!(f, |tx| people::revoke_token(&mut tx, token.id, f.now())).unwrap();
        assert_eq!(found(f.now()).await, None);
        assert_eq!(seen!(f, |tx| people::tokens(&mut tx, user.id))[0].revoked_at, Some(f.now()));
        assert!(matches!(
            written!(f, |tx| people::revoke_token(&mut tx, f.id(), f.now())),
            Err(StoreError::NotFound { .. })
        ));
    }

    a_runner_joins_once_and_only_with_the_sites_key(db) {
        let f = Fixture::new(&db.store).await;
        let token = |hash, f: &Fixture| sites::EnrollToken {
            hash,
            site: f.site,
            by: f.admin,
            created_at: f.now(),
            expires_at: f.now().plus_seconds(60),
        };
        let enrolment = |hash, key: &str, f: &Fixture| sites::Enrolment {
            token_hash: hash,
            runner: f.id(),
            name: "three".to_owned(),
            public_key: "key".to_owned(),
            site_public_key: key.to_owned(),
            listener: String::new(),
            now: f.now(),
        };
        // Unknown, used, too old.
        let used = enrolment(sha256(&[b"one"]), "site key", &f);
        assert_eq!(written!(f, |tx| sites::enroll(&mut tx, &used)).unwrap(), None);
        let unknown = enrolment(sha256(&[b"nobody's"]), "site key", &f);
        assert_eq!(written!(f, |tx| sites::enroll(&mut tx, &unknown)).unwrap(), None);
        let fresh = sha256(&[b"fresh"]);
        written!(f, |tx| sites::add_enroll_token(&mut tx, &token(fresh, &f))).unwrap();
        let late = sites::Enrolment { now: f.now().plus_seconds(60), ..enrolment(fresh, "site key", &f) };
        assert_eq!(written!(f, |tx| sites::enroll(&mut tx, &late)).unwrap(), None);
        // Another key: refused, and the token is still good because nothing happened.
        let other = enrolment(fresh, "other key", &f);
        let error = written!(f, |tx| sites::enroll(&mut tx, &other)).unwrap_err();
        assert!(error.to_string().contains("has another key already"), "{error}");
        let good = enrolment(fresh, "site key", &f);
        let runner = written!(f, |tx| sites::enroll(&mut tx, &good)).unwrap().unwrap();
        assert_eq!((runner.site, runner.revision, runner.name.as_str()), (f.site, 1, "three"));
        assert_eq!(seen!(f, |tx| sites::runners(&mut tx)).len(), 3);
        let classes = EnvironmentClass::shipped();
        written!(f, |tx| sites::polled(&mut tx, runner.id, "http://10.0.0.1:7", 1, &classes, f.now().plus_seconds(1))).unwrap();
        written!(f, |tx| sites::heartbeat(&mut tx, runner.id, 17, Some(f.now()), f.now().plus_seconds(2))).unwrap();
        written!(f, |tx| sites::heartbeat(&mut tx, runner.id, 3, None, f.now().plus_seconds(3))).unwrap();
        let seen = seen!(f, |tx| sites::runner(&mut tx, runner.id));
        assert_eq!(
            (seen.listener.as_str(), seen.bundle, seen.spooled, seen.away_since, seen.seen_at),
            ("http://10.0.0.1:7", 1, 3, Some(f.now()), f.now().plus_seconds(3))
        );
        assert_eq!(seen.classes, classes);
    }

    a_new_bundle_reaches_every_runner(db) {
        let f = Fixture::new(&db.store).await;
        let before = (f.revision(f.runner).await, f.revision(f.other_runner).await);
        assert_eq!(written!(f, |tx| bundles::put(&mut tx, Some(1), "two", Some(f.admin), f.now())).unwrap(), 2);
        let error = written!(f, |tx| bundles::put(&mut tx, Some(1), "lost", Some(f.admin), f.now())).unwrap_err();
        assert!(matches!(error, StoreError::Conflict { .. }), "{error}");
        assert_eq!((f.revision(f.runner).await, f.revision(f.other_runner).await), (before.0 + 1, before.1 + 1));
        assert_eq!(seen!(f, |tx| bundles::current(&mut tx)).text, "two");
        assert_eq!(seen!(f, |tx| bundles::get(&mut tx, 1)).text, "bundle one");
        assert_eq!(seen!(f, |tx| bundles::list(&mut tx, 10)).len(), 2);
    }

    a_server_keeps_its_key(db) {
        let f = Fixture::new(&db.store).await;
        written!(f, |tx| people::register_server(&mut tx, f.server, "server key", f.now())).unwrap();
        let error = written!(f, |tx| people::register_server(&mut tx, f.server, "other", f.now())).unwrap_err();
        assert!(matches!(error, StoreError::Conflict { .. }), "{error}");
        assert_eq!(seen!(f, |tx| people::servers(&mut tx)), [(f.server, "server key".to_owned())]);
    }
}
