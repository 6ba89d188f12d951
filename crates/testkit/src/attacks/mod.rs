//! The attacks on environments: what every driver has to withstand, the same as root and as a user without rights.
//!
//! It owns the list ([`inside`] on the box, [`lists`] on the way out, [`scenes`] for what takes more than a program inside), a hostile world that
//! counts what reaches it ([`world`]), a site with a real exit, a real policy and a real record ([`site`]), and the page of the manual that says what
//! becomes of each ([`page`]). It refuses to know how an environment is made: that is the driver's. *Invariant:* an attack is withstood only if
//! what it sees, what is recorded and what the world has heard are all exactly what the list says.
//!
//! A new driver has a test that makes an environment and calls [`on_the_box`], and one that goes to a namespace by [`world::ENTER`], makes two
//! environments to [`site::Site::spec`] and calls [`all_on_the_way_out`]; both as root and as a user, where the driver can. Then it has its columns on the [`page`].

pub mod choices;
pub mod guest;
pub mod inside;
pub mod lists;
pub mod page;
pub mod scenes;
pub mod site;
pub mod world;

use std::path::Path;

use anyhow::Result;
use stockade_domain::ids::EnvironmentId;
use stockade_sandbox::{Arrival, Driver, Inside};

use self::{
    guest::Guest,
    inside::{ATTACKS, Attack, PRELUDE},
    lists::{LISTS, NET, Reach},
    scenes::Flood,
    site::Site,
};

/// Tries every attack on the box in an environment that runs. Says those that came to another end.
///
/// # Errors
/// If the environment does not do what every one does.
pub async fn on_the_box(driver: &dyn Driver, id: EnvironmentId) -> Result<Vec<String>> {
    on_the_box_of(driver, id, Inside::default(), true).await
}

/// The same where the inside is another by choice, made by root or without ([`choices`]).
///
/// # Errors
/// If the environment does not do what every one does.
pub async fn on_the_box_of(
    driver: &dyn Driver,
    id: EnvironmentId,
    inside: Inside,
    by_root: bool,
) -> Result<Vec<String>> {
    let mut guest = Guest::of(driver, id).await?;
    let doors = driver.doors(id).await?;
    let ending = async {
        loop {
            // A stream is dropped, a question stays without an answer.
            if let Err(error) = doors.arrival().await.map(drop::<Arrival>) {
                return error;
            }
        }
    };
    let trying = async {
        let mut wrong = Vec::new();
        for Attack { row, what, script, outcome } in ATTACKS {
            let ran = guest.python("attack.py", &format!("{PRELUDE}\n{script}\n"), &[]).await?;
            let outcome = choices::outcome(row, inside, by_root).unwrap_or(outcome);
            if ran.stdout != outcome {
                wrong.push(format!("{row} {what}:\n--- expected\n{outcome}\n--- came\n{}\n{}", ran.stdout, ran.stderr));
            }
            clean(&mut guest, row, what, &mut wrong).await?;
        }
        Ok(wrong)
    };
    tokio::select! {
        error = ending => Ok(vec![format!("the doors closed: {error}")]),
        wrong = trying => wrong,
    }
}

/// Tries every attack on the way out in an environment that was made to [`Site::spec`] and runs. Says those that came to another end. `only` is
/// a row, or nothing for all of them.
///
/// # Errors
/// If the environment does not do what every one does.
pub async fn on_the_way_out(
    driver: &dyn Driver,
    id: EnvironmentId,
    site: &Site,
    only: Option<&str>,
) -> Result<Vec<String>> {
    let mut guest = Guest::of(driver, id).await?;
    let standing = site.stand(driver, id).await?;
    let mut wrong = Vec::new();
    for reach in LISTS.iter().copied().flatten().filter(|reach| only.is_none_or(|row| row == reach.row)) {
        let Reach { row, what, script, outcome, records, heard } = reach;
        standing.anew();
        let since = site.mark();
        let ran = guest.python("attack.py", &format!("{PRELUDE}\n{NET}\n{script}\n"), &[]).await?;
        let told = site.settled(since, records, heard).await;
        if (ran.stdout.as_str(), told.records.as_str(), told.heard.as_str()) != (*outcome, *records, *heard) {
            wrong.push(format!(
                "{row} {what}:\n--- expected\n{outcome}\n-- recorded\n{records}\n-- heard\n{heard}\n--- came\n{}\n-- recorded\n{}\n-- heard\n{}\n{}",
                ran.stdout, told.records, told.heard, ran.stderr
            ));
        }
        wrong.extend(told.leaked.map(|leaked| format!("{row} {what}: {leaked}")));
        clean(&mut guest, row, what, &mut wrong).await?;
    }
    standing.leave().await;
    Ok(wrong)
}

/// All of the way out, for the test of a driver: every attack and every scene, with two environments that were made to [`Site::spec`] and run.
/// `folders` are where the driver and the site keep what is theirs. Says those that came to another end, and what ten thousand connections took.
///
/// # Errors
/// If an environment does not do what every one does.
pub async fn all_on_the_way_out(
    driver: &dyn Driver,
    pair: (EnvironmentId, EnvironmentId),
    site: &Site,
    folders: &[&Path],
) -> Result<(Vec<String>, Flood)> {
    let mut wrong = on_the_way_out(driver, pair.0, site, None).await?;
    wrong.extend(scenes::nobody_at_the_doors(driver, pair.0, site).await?);
    wrong.extend(scenes::another_policy(driver, pair.0, site).await?);
    wrong.extend(scenes::a_neighbour(driver, pair, site).await?);
    wrong.extend(scenes::canaries(driver, pair.0, site, folders).await?);
    let mut flood = scenes::ten_thousand(driver, pair, site).await?;
    wrong.append(&mut flood.wrong);
    Ok((wrong, flood))
}

/// The environment is as it was, and so is the guest.
async fn clean(guest: &mut Guest, row: &str, what: &str, wrong: &mut Vec<String>) -> Result<()> {
    let ran = guest.run(&["sh", "-c", "echo alive; rm -rf /tmp/* /workspace/*"], 30_000).await?;
    if ran.stdout != "alive" {
        wrong.push(format!("after {row} {what} the environment is not as it was: {}", ran.stderr));
    }
    Ok(())
}
