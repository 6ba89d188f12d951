//! Content tickets: by them the site's listener knows who asks.
//!
//! The deed that is decided here is seeing the run; reading its content, or running a command in its
//! environment, is decided and recorded where the plain text is: by the runner.

use stockade_api::{
    http::{IssueTicket, IssuedTicket},
    ticket::{TTL_MS, Ticket},
};
use stockade_domain::{
    RunKind,
    ids::{RunId, RunnerId},
};
use stockade_store::{Tx, runs, sites};

use crate::{
    answer::{Answer, Failure, Json, Path},
    context::Cx,
};

/// Makes a content ticket for the caller and one run, minutes long.
#[utoipa::path(post, path = "/v1/runs/{run}/ticket", tag = "runs", params(("run" = String, Path)),
    request_body = IssueTicket, responses((status = 200, body = IssuedTicket)))]
pub async fn issue(cx: Cx, Path(run): Path<RunId>, Json(body): Json<IssueTicket>) -> Answer<IssuedTicket> {
    let mut tx = cx.write().await?;
    let run = runs::get(&mut tx, run).await?;
    let mut work = cx.open(tx, cx.on_run(&run)?).await?;
    let result = make(&cx, &mut work.tx, &run, body.runner).await;
    work.end(result).await.map(Json)
}

async fn make(cx: &Cx, tx: &mut Tx, run: &runs::Run, wanted: Option<RunnerId>) -> Result<IssuedTicket, Failure> {
    let (runner, wrapped_key) = match run.kind {
        RunKind::Task => (run.runner, None),
        RunKind::Personal => (runner_of(tx, run, wanted).await?, runs::wrapped_key(tx, run.id).await?),
    };
    let runner = runner.ok_or_else(|| {
        Failure::conflict("not_placed", format!("{} has not been given to a runner yet", run.id))
            .hint("Try again when a runner is there; `stockade doctor` tells.")
    })?;
    let runner = sites::runner(tx, runner).await?;
    let expires_at = cx.app.now().plus_ms(TTL_MS);
    let ticket = Ticket {
        user: cx.user.id,
        roles: cx.user.roles.clone(),
        run: run.id,
        project: run.project,
        owner: run.owner,
        runner: runner.id,
        expires_at,
        wrapped_key,
    };
    let signature = cx.app.key.sign(&ticket.signed_bytes());
    Ok(IssuedTicket {
        ticket: ticket.encode(&signature),
        listener: runner.listener,
        expires_at,
        environment: run.environment,
    })
}

/// The runner of the run's site that is wanted, or the one that was heard of last.
async fn runner_of(tx: &mut Tx, run: &runs::Run, wanted: Option<RunnerId>) -> Result<Option<RunnerId>, Failure> {
    let runners = sites::runners(tx).await?;
    let of_site = runners.iter().filter(|runner| runner.site == run.site);
    Ok(match wanted {
        Some(wanted) => of_site.map(|runner| runner.id).find(|id| *id == wanted),
        None => of_site.max_by_key(|runner| runner.seen_at).map(|runner| runner.id),
    })
}
