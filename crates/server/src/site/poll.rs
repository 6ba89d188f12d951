//! What is new? Held until something is. The answer is the runner's whole desired state.

use std::{sync::Arc, time::Duration};

use axum::extract::State;
use stockade_api::runner::{
    AgentSpec, ApprovalAnswer, Assignment, BundleText, Order, Poll, Polled, ProjectSpec, Reply, SiteToken,
};
use stockade_domain::{EnvironmentClass, MAX_CLASSES};
use stockade_store::{approvals, bundles, placement, runs, sites, tokens};

use super::{MAX_POLL_MS, MAX_TEXT, proven::Proven};
use crate::{
    answer::{Answer, Failure, Json, parse},
    app::App,
    resource::run_events::REREAD_MS,
};

pub async fn poll(State(app): State<Arc<App>>, proven: Proven) -> Answer<Polled> {
    let body: Poll = parse(&proven.body)?;
    if body.listener.is_empty() || body.listener.len() > MAX_TEXT {
        return Err(Failure::invalid("bad_poll", "`listener` must be the address of the runner's listener"));
    }
    if body.classes.len() > MAX_CLASSES {
        return Err(Failure::invalid("bad_poll", format!("`classes` may have {MAX_CLASSES} items at most")));
    }
    if let Some(why) = body.classes.iter().find_map(EnvironmentClass::wrong) {
        return Err(Failure::invalid("bad_poll", format!("one of `classes` cannot be meant: {why}")));
    }
    let mut news = app.news.subscribe();
    let runner = proven.runner.id;
    let mut tx = app.store.write().await?;
    sites::polled(&mut tx, runner, &body.listener, body.bundle, &body.classes, app.now()).await?;
    tx.commit().await?;
    // A runner that was away may be given work now.
    app.work.notify_one();

    let deadline = tokio::time::Instant::now() + Duration::from_millis(body.wait_ms.min(MAX_POLL_MS));
    loop {
        news.mark_unchanged();
        let mut tx = app.store.read().await?;
        let revision = sites::revision(&mut tx, runner).await?;
        let bundle = bundles::current(&mut tx).await?;
        let now = tokio::time::Instant::now();
        let new = revision != body.revision || bundle.number != body.bundle;
        if new || now >= deadline || app.stopping.is_cancelled() {
            let assignments = placement::assignments(&mut tx, runner).await?;
            let (site, at) = (proven.runner.site, app.now());
            let tokens = tokens::of_site(&mut tx, site, at).await?;
            let erased = tokens::erased_of_site(&mut tx, site, at).await?;
            let answers = approvals::of_site(&mut tx, site, at).await?;
            let other = bundle.number != body.bundle;
            return Ok(Json(Polled {
                revision,
                bundle: other.then_some(BundleText { number: bundle.number, text: bundle.text }),
                assignments: assignments.into_iter().map(told).collect(),
                tokens: tokens.into_iter().map(known).collect(),
                erased,
                answers: answers.into_iter().filter_map(answered).collect(),
            }));
        }
        drop(tx);
        let reread = (now + Duration::from_millis(REREAD_MS)).min(deadline);
        tokio::select! {
            _ = news.changed() => {}
            () = tokio::time::sleep_until(reread) => {}
            () = app.stopping.cancelled() => {}
        }
    }
}

fn answered(from: approvals::Approval) -> Option<ApprovalAnswer> {
    let granted = from.state == approvals::ApprovalState::Granted;
    Some(ApprovalAnswer { approval: from.id, granted, by: from.by, at: from.answered_at? })
}

fn known(from: tokens::SiteToken) -> SiteToken {
    SiteToken {
        token: from.id,
        hash: from.hash,
        run: from.run,
        owner: from.owner,
        roles: from.roles,
        project: from.project,
        level: from.level,
        models: from.models,
        expires_at: from.expires_at,
        wrapped_key: from.wrapped_key,
    }
}

fn told(from: placement::Assignment) -> Assignment {
    let (project, spec) = (from.project_spec, from.spec);
    let answers = from.approvals.into_iter().map(|answer| ApprovalAnswer {
        approval: answer.approval,
        granted: answer.granted,
        by: answer.by,
        at: answer.at,
    });
    let replies = from.replies.into_iter().map(|reply| Reply {
        number: reply.number,
        content: reply.content,
        sealed: stockade_api::base64::encode(&reply.sealed),
        by: reply.by,
    });
    Assignment {
        run: from.run,
        task: from.task,
        owner: from.owner,
        state: from.state,
        order: from.order.map(|order| match order {
            runs::Order::Cancel => Order::Cancel,
            runs::Order::Erase => Order::Erase,
            runs::Order::Resume => Order::Resume,
        }),
        environment: from.environment,
        desired: from.desired,
        generation: from.generation,
        class: spec.class,
        project: ProjectSpec {
            id: from.project,
            name: project.name,
            repository: project.repository,
            base_branch: project.base_branch,
            gates: project.gates,
            gate_attempts: project.gate_attempts,
            level: spec.level,
        },
        agent: AgentSpec {
            harness: spec.harness,
            model: spec.model,
            max_turns: spec.max_turns,
            max_time_ms: spec.max_time_ms,
            max_tokens: spec.max_tokens,
            max_cost: spec.max_cost,
            approval_timeout_ms: spec.approval_timeout_ms,
        },
        wrapped_key: from.wrapped_key,
        task_content: from.content,
        task_sealed: stockade_api::base64::encode(&from.sealed),
        approvals: answers.collect(),
        replies: replies.collect(),
    }
}
