//! Classes of environments: what the runners of a site say that they make. The server knows no others.

use stockade_api::http::{Class, ListClasses, Page};
use stockade_domain::{EnvironmentClass, Harness, Network, ids::SiteId};
use stockade_store::{
    Tx,
    projects::{self, Project},
    sites,
};

use super::{tasks, whole};
use crate::{
    answer::{Answer, Failure, Json, Query},
    context::Cx,
};

/// Classes, site by site, the one that is used where nobody names one first.
#[utoipa::path(get, path = "/v1/classes", tag = "environments", params(ListClasses),
    responses((status = 200, body = Page<Class>)))]
pub async fn list(cx: Cx, Query(query): Query<ListClasses>) -> Answer<Page<Class>> {
    let mut tx = cx.may(cx.read().await?, cx.on_organization()?).await?;
    let sites = match query.project {
        Some(project) => {
            let project = projects::get(&mut tx, project).await?;
            vec![tasks::site_of(&mut tx, &project).await?.id]
        }
        None => sites::list(&mut tx).await?.into_iter().map(|site| site.id).collect(),
    };
    let mut found = Vec::new();
    for site in sites {
        found.extend(of_site(&mut tx, site).await?);
    }
    Ok(Json(whole(found)))
}

/// The class of a task's environment.
#[derive(Debug)]
pub(super) struct Chosen {
    /// As somebody named it; nothing if nobody did.
    pub named: Option<String>,
    /// The one that it comes to, as far as is known.
    pub known: Option<String>,
}

/// What a task asks for, or its project. A name that no runner of the site knows is refused with the names that there are.
pub(super) async fn of_task(
    tx: &mut Tx,
    project: &Project,
    asked: Option<&str>,
    harness: Harness,
) -> Result<Chosen, Failure> {
    let named = asked.filter(|name| !name.is_empty()).map(str::to_owned).or_else(|| project.class.clone());
    let site = tasks::site_of(tx, project).await?;
    let classes = of_site(tx, site.id).await?;
    let class = match &named {
        Some(name) => Some(find(&classes, name)?),
        None => classes.iter().find(|class| class.default),
    };
    if class.is_some_and(|class| class.network == Network::None) && harness.is_inside() {
        return Err(Failure::invalid(
            "class_without_gateway",
            format!("{harness} works inside and calls models from there, and environments of that class go nowhere"),
        )
        .hint("Take a class whose network is `gateway` or `policy`: `stockade classes list`."));
    }
    Ok(Chosen { known: class.map(|class| class.name.clone()), named })
}

/// Whether a project's class can be meant. Before a runner has joined nobody knows the names; then each task tells.
pub(super) async fn known(tx: &mut Tx, project: &Project) -> Result<(), Failure> {
    let Some(name) = &project.class else { return Ok(()) };
    let Ok(site) = tasks::site_of(tx, project).await else { return Ok(()) };
    let classes = of_site(tx, site.id).await?;
    if classes.is_empty() { Ok(()) } else { find(&classes, name).map(drop) }
}

fn find<'a>(classes: &'a [Class], name: &str) -> Result<&'a Class, Failure> {
    classes.iter().find(|class| class.name == name).ok_or_else(|| {
        let names: Vec<&str> = classes.iter().map(|class| class.name.as_str()).collect();
        let there = if names.is_empty() { "none yet".to_owned() } else { names.join(", ") };
        let shown: String = name.chars().take(80).collect();
        let shown = shown.escape_debug();
        Failure::invalid("unknown_class", format!("no environment class is called `{shown}`: there are {there}"))
            .hint("`stockade classes list` shows them; the runner's stockade.toml declares them as [[class]].")
    })
}

/// What the runners of a site make, by name.
async fn of_site(tx: &mut Tx, site: SiteId) -> Result<Vec<Class>, Failure> {
    let mut found: Vec<Class> = Vec::new();
    for runner in sites::runners(tx).await?.into_iter().filter(|runner| runner.site == site) {
        for class in runner.classes {
            match found.iter_mut().find(|known| known.name == class.name) {
                Some(known) => known.runners.push(runner.id),
                None => {
                    let default = found.is_empty();
                    found.push(Class { runners: vec![runner.id], default, ..shown(class, site) });
                }
            }
        }
    }
    Ok(found)
}

fn shown(class: EnvironmentClass, site: SiteId) -> Class {
    Class {
        name: class.name,
        site,
        default: false,
        runners: Vec::new(),
        memory_bytes: class.memory_bytes,
        cpu_millis: class.cpu_millis,
        disk_bytes: class.disk_bytes,
        processes: class.processes,
        open_files: class.open_files,
        system: class.inside.system,
        user: class.inside.user,
        nested: class.inside.nested,
        lifetime_seconds: class.lifetime_seconds,
        idle_seconds: class.idle_seconds,
        network: class.network,
        price_per_hour: class.price_per_hour,
        price_per_core_hour: class.price_per_core_hour,
    }
}
