//! `/v1/gateway/tokens`, `/v1/groups`, `/v1/calls`, `/v1/sessions`

use stockade_api::{
    http::{
        ChangeGroup, CreateGatewayToken, CreateGroup, ListBudgets, ListCalls, ListGatewayTokens, ListRuns,
        ListSessions, SetBudget, SumCalls,
    },
    runner::LeaseSlice,
};
use stockade_domain::{BudgetScope, Nanos, Period, Role, RunKind, RunState, World};

use crate::harness::{App, databases, sealed_token};

#[tokio::test]
async fn a_site_knows_a_token_while_it_lives() {
    for database in databases() {
        let app = App::on(database).await;
        let runner = app.runner().await;
        let project = app.project("p").await;
        let before = runner.poll(0, 0, 0).await.unwrap();
        assert!(before.tokens.is_empty());
        let (ada, _) = app.person("ada", &[Role::Developer]).await;
        let body =
            CreateGatewayToken { models: vec!["sonnet".to_owned()], ..sealed_token(&ada, &project).await.unwrap() };
        let made = ada.create_gateway_token(&body).await.unwrap();
        assert!(stockade_api::gateway_token::is_well_formed(&made.token));
        assert_eq!((made.about.state, made.about.limit), (RunState::Working, Some(Nanos(50_000_000_000))));
        assert_eq!(made.listeners, [crate::runner::LISTENER]);
        assert_eq!(app.last_records(2).await, ["close ok", "open token.create"]);

        // The runner's poll returns at once, with the digest and never the token.
        let number = before.bundle.unwrap().number;
        let told = runner.poll(before.revision, number, 20_000).await.unwrap();
        let [known] = told.tokens.as_slice() else { panic!("{told:?}") };
        assert_eq!(known.hash, stockade_ledger::sha256(&[made.token.as_bytes()]));
        assert_eq!((known.run, known.roles.as_slice()), (body.run, &[Role::Developer][..]));
        assert_eq!((&known.models, &known.wrapped_key), (&body.models, &body.wrapped_key));
        assert!(!serde_json::to_string(&told).unwrap().contains(&made.token));

        // Its run is there, apart from those of tasks, and nobody places it.
        assert!(app.admin.runs(&ListRuns::default()).await.unwrap().items.is_empty());
        let runs = app.admin.runs(&ListRuns { personal: true, ..ListRuns::default() }).await.unwrap().items;
        assert_eq!((runs[0].id, runs[0].kind, runs[0].runner), (body.run, RunKind::Personal, None));
        app.world.push_seconds(60 * 86_400);
        assert_eq!(app.admin.run(body.run).await.unwrap().state, RunState::Working);
        assert_eq!(app.admin.resume(body.run).await.unwrap_err().code, "run_invalid");

        // Any runner of its site gets money for it, and none of another site.
        let ask = LeaseSlice {
            slice: (&*app.world as &dyn World).id(),
            run: body.run,
            model: "sonnet".to_owned(),
            need: Nanos(5),
            want: Nanos(9),
        };
        assert_eq!(runner.slice(&ask).await.unwrap().amount, Nanos(9));

        let ended = ada.revoke_gateway_token(made.about.id).await.unwrap();
        assert_eq!(ended.state, RunState::Succeeded);
        let told = runner.poll(told.revision, number, 20_000).await.unwrap();
        assert!(told.tokens.is_empty() && told.erased.is_empty());
        app.admin.erase(body.run).await.unwrap();
        let told = runner.poll(told.revision, number, 20_000).await.unwrap();
        assert_eq!(told.erased, [body.run]);
        app.stop().await;
    }
}

#[tokio::test]
async fn what_a_token_was_used_for_is_not_for_other_developers() {
    let app = App::new().await;
    let _runner = app.runner().await;
    let project = app.project("p").await;
    let (ada, _) = app.person("ada", &[Role::Developer]).await;
    let (bob, _) = app.person("bob", &[Role::Developer]).await;
    let body = sealed_token(&ada, &project).await.unwrap();
    ada.create_gateway_token(&body).await.unwrap();
    let of = |user: Option<&str>| ListRuns { personal: true, user: user.map(str::to_owned), ..ListRuns::default() };
    assert_eq!(ada.runs(&of(Some("me"))).await.unwrap().items.len(), 1);
    assert!(bob.runs(&of(Some("me"))).await.unwrap().items.is_empty());
    for user in [None, Some("ada"), Some("nobody")] {
        assert_eq!(bob.runs(&of(user)).await.unwrap_err().code, "refused", "{user:?}");
    }
    assert_eq!(bob.run(body.run).await.unwrap_err().code, "refused");
    assert_eq!(bob.cancel(body.run).await.unwrap_err().code, "refused");
    assert_eq!(bob.ticket(body.run).await.unwrap_err().code, "refused");
    let tasks = ListRuns { user: Some("ada".to_owned()), ..ListRuns::default() };
    assert!(bob.runs(&tasks).await.unwrap().items.is_empty());
    assert_eq!(app.admin.runs(&of(Some("ada"))).await.unwrap().items.len(), 1);
    assert_eq!(app.admin.runs(&of(None)).await.unwrap().items.len(), 1);
    assert_eq!(app.admin.runs(&of(Some("nobody"))).await.unwrap_err().code, "user_not_found");
    assert_eq!(ada.run(body.run).await.unwrap().owner, ada.me().await.unwrap().user);
    app.stop().await;
}

#[tokio::test]
async fn a_token_ends_by_itself_and_nobody_else_s_is_ended() {
    let app = App::new().await;
    let runner = app.runner().await;
    let project = app.project("p").await;
    let body = CreateGatewayToken { expires_in_s: Some(60), ..sealed_token(&app.admin, &project).await.unwrap() };
    let made = app.admin.create_gateway_token(&body).await.unwrap();
    let (ada, _) = app.person("ada", &[Role::Developer]).await;
    assert_eq!(ada.revoke_gateway_token(made.about.id).await.unwrap_err().code, "refused");
    assert!(ada.gateway_tokens(&ListGatewayTokens::default()).await.unwrap().items.is_empty());
    let all = ListGatewayTokens { all: true, ..ListGatewayTokens::default() };
    assert_eq!(ada.gateway_tokens(&all).await.unwrap_err().code, "refused");
    assert_eq!(app.admin.gateway_tokens(&all).await.unwrap().items.len(), 1);

    app.world.push_seconds(61);
    assert!(runner.poll(0, 0, 0).await.unwrap().tokens.is_empty(), "it is over before a reconciler has said so");
    while app.admin.run(body.run).await.unwrap().state != RunState::Succeeded {
        tokio::task::yield_now().await;
    }
    for wrong in [
        CreateGatewayToken { name: "a\nb".to_owned(), ..sealed_token(&ada, &project).await.unwrap() },
        CreateGatewayToken { budget: Some(Nanos(0)), ..sealed_token(&ada, &project).await.unwrap() },
        CreateGatewayToken { expires_in_s: Some(u64::MAX), ..sealed_token(&ada, &project).await.unwrap() },
        CreateGatewayToken { models: vec![String::new()], ..sealed_token(&ada, &project).await.unwrap() },
        CreateGatewayToken { wrapped_key: String::new(), ..sealed_token(&ada, &project).await.unwrap() },
    ] {
        assert!(ada.create_gateway_token(&wrong).await.unwrap_err().code.starts_with("bad_"));
    }
    app.stop().await;
}

#[tokio::test]
async fn who_used_which_model_and_what_it_cost() {
    for database in databases() {
        let app = App::on(database).await;
        let mut runner = app.runner().await;
        let project = app.project("p").await;
        let (ada, _) = app.person("ada", &[Role::Developer]).await;
        let me = ada.me().await.unwrap().user;
        let body = sealed_token(&ada, &project).await.unwrap();
        ada.create_gateway_token(&body).await.unwrap();
        let first = runner.call_model(body.run, project.id, me).await;
        let second = runner.call_model(body.run, project.id, me).await;

        let mine = ListCalls { user: Some("me".to_owned()), ..ListCalls::default() };
        let calls = ada.calls(&mine).await.unwrap().items;
        assert_eq!(calls.iter().map(|call| call.id).collect::<Vec<_>>(), [second, first]);
        let call = &calls[0];
        assert_eq!((call.model.as_str(), call.client.as_str()), ("sonnet", "claude-code/2.1.197"));
        assert_eq!((call.repository.as_str(), call.person), ("/srv/repository", Some(me)));
        assert_eq!((call.status.as_str(), call.cost, call.input_tokens), ("ok", Nanos(700), 100));
        assert_eq!(ada.call(first).await.unwrap().call.id, first);
        assert_eq!(app.admin.call(first).await.unwrap().call.id, first);
        assert_eq!(ada.calls(&ListCalls::default()).await.unwrap_err().code, "refused");

        let page = ListCalls { limit: Some(1), ..mine.clone() };
        let page = ada.calls(&page).await.unwrap();
        let next = ListCalls { limit: Some(1), cursor: page.next_cursor, ..mine.clone() };
        assert_eq!(ada.calls(&next).await.unwrap().items[0].id, first);
        for (filter, found) in [
            (ListCalls { model: Some("opus".to_owned()), ..mine.clone() }, 0),
            (ListCalls { provider: Some("anthropic".to_owned()), ..mine.clone() }, 2),
            (ListCalls { session: Some("00112233aabbccdd".to_owned()), ..mine.clone() }, 2),
            (ListCalls { run: Some(body.run), status: Some("ok".to_owned()), ..mine.clone() }, 2),
            (ListCalls { since: Some(app.world.now().plus_seconds(5)), ..mine.clone() }, 0),
            (ListCalls { until: Some(app.world.now().plus_seconds(5)), ..mine.clone() }, 2),
        ] {
            assert_eq!(ada.calls(&filter).await.unwrap().items.len(), found, "{filter:?}");
        }
        for by in ["user", "project", "model", "provider", "client", "day"] {
            let query = SumCalls { by: by.to_owned(), ..SumCalls::default() };
            let [sum] = &app.admin.sum_calls(&query).await.unwrap().items[..] else { panic!("{by}") };
            assert_eq!((sum.calls, sum.input_tokens, sum.output_tokens, sum.cost), (2, 200, 40, Nanos(1_400)), "{by}");
        }
        let sessions = app.admin.sessions(&ListSessions::default()).await.unwrap().items;
        assert_eq!((sessions.len(), sessions[0].calls, sessions[0].turns), (1, 2, 3));
        assert_eq!((sessions[0].cost, sessions[0].tokens), (Nanos(1_400), 240));
        assert_eq!(app.admin.run(body.run).await.unwrap().cost, Nanos(1_400));
        app.stop().await;
    }
}

#[tokio::test]
async fn a_budget_may_be_a_group_s_a_model_s_and_a_key_s() {
    let app = App::new().await;
    let runner = app.runner().await;
    let project = app.project("p").await;
    let body = sealed_token(&app.admin, &project).await.unwrap();
    let made = app.admin.create_gateway_token(&body).await.unwrap();
    let group = app.admin.create_group(&CreateGroup { name: "team".to_owned() }).await.unwrap();
    let change = ChangeGroup { user: "admin".to_owned(), member: true };
    assert_eq!(app.admin.change_group(group.id, &change).await.unwrap().members.len(), 1);
    let world: &dyn World = &*app.world;
    let mut room = 1_000;
    for (scope, subject) in [
        (BudgetScope::Group, "team".to_owned()),
        (BudgetScope::Model, "sonnet".to_owned()),
        (BudgetScope::Key, made.about.id.to_string()),
    ] {
        room -= 100;
        let set = SetBudget { scope, subject: Some(subject), period: Period::Day, limit: Nanos(room) };
        app.admin.set_budget(&set).await.unwrap();
        let (slice, model) = (world.id(), "sonnet".to_owned());
        let ask = LeaseSlice { slice, run: body.run, model, need: Nanos(room + 1), want: Nanos(room + 1) };
        let none = runner.slice(&ask).await.unwrap();
        assert_eq!((none.amount, none.exhausted), (Nanos(0), Some(scope)));
    }
    let other =
        LeaseSlice { slice: world.id(), run: body.run, model: "opus".to_owned(), need: Nanos(room), want: Nanos(room) };
    assert_eq!(runner.slice(&other).await.unwrap().amount, Nanos(room));
    let budgets = app.admin.budgets(&ListBudgets { run: Some(body.run) }).await.unwrap().items;
    assert!(budgets.iter().any(|budget| budget.scope == BudgetScope::Key));
    let shown = app.admin.budgets(&ListBudgets::default()).await.unwrap().items;
    assert!(!shown.iter().any(|budget| budget.scope == BudgetScope::Key), "{shown:?}");
    let set = SetBudget {
        scope: BudgetScope::Run,
        subject: Some(body.run.to_string()),
        period: Period::Total,
        limit: Nanos(1),
    };
    assert_eq!(app.admin.set_budget(&set).await.unwrap_err().code, "bad_subject");
    app.stop().await;
}
