//! What this machine gives an environment: each thing tried, each failure in words that help.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use stockade_domain::ids::EnvironmentId;

use super::{
    NamespaceConfig,
    groups::{Controller, Groups, LIMITS},
    image,
    life::{Held, Might, Note},
};
use crate::{Capability, Class, EnvironmentSpec, Inside, launch::Tried};

/// Tries everything.
pub fn probe(config: &NamespaceConfig) -> Vec<Capability> {
    let might = Might::detect();
    let mut found = Vec::new();
    let mut add = |name: &str, outcome: Result<String, String>, required: bool| {
        let available = outcome.is_ok();
        let why = outcome.unwrap_or_else(|why| why);
        found.push(Capability { name: name.to_owned(), available, why, required });
    };
    match launcher(config) {
        Ok(tried) => {
            add("helpers", Ok(format!("in {}", config.helpers.display())), true);
            for Tried { name, error, found } in tried {
                let outcome = match error {
                    None => Ok(found),
                    Some(error) => Err(advice(&name, &error)),
                };
                // What is only for the record, and what has another way, holds nobody up.
                add(&name, outcome, !matches!(name.as_str(), "executions" | "redirection" | "overlay"));
            }
        }
        Err(why) => add("helpers", Err(why), true),
    }
    let id = fresh_id();
    for (controller, outcome) in try_groups(config, id) {
        match (controller, outcome) {
            (Controller::Processes, Err(why)) => {
                add("processes", Ok(format!("by RLIMIT_NPROC within the workload's own user namespace ({why})")), true)
            }
            (controller, outcome) => add(controller.name(), outcome, controller != Controller::Kill),
        }
    }
    let disk = image::available(might.root);
    add("disk", disk.map(|maker| format!("by an ext4 image of the class's size ({})", maker.display())), true);
    add("environment", try_environment(config, id), true);
    found
}

fn fresh_id() -> EnvironmentId {
    let mut bytes = [0; 16];
    if let Ok(mut file) = fs::File::open("/dev/urandom") {
        let _ = std::io::Read::read_exact(&mut file, &mut bytes);
    }
    EnvironmentId::from_bytes(bytes)
}

fn launcher(config: &NamespaceConfig) -> Result<Vec<Tried>, String> {
    let path = config.helpers.join("stockade-launch");
    let output = Command::new(&path).arg("probe").env_clear().current_dir("/").output().map_err(|error| {
        format!("{}: {error}; build the helpers, or name their folder in STOCKADE_HELPERS", path.display())
    })?;
    serde_json::from_slice(&output.stdout).map_err(|_| format!("{} does not answer as a launcher", path.display()))
}

/// What the kernel's refusal most likely means here.
fn advice(name: &str, error: &str) -> String {
    let is = |path: &str, value: &str| fs::read_to_string(path).is_ok_and(|text| text.trim() == value);
    if name.ends_with("_namespace") {
        if is("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1") {
            return format!(
                "{error}: AppArmor keeps unprivileged user namespaces from programs without a profile. Install the \
                 AppArmor profile for stockade-launch, or set kernel.apparmor_restrict_unprivileged_userns=0"
            );
        }
        if is("/proc/sys/kernel/unprivileged_userns_clone", "0") {
            return format!("{error}: set kernel.unprivileged_userns_clone=1");
        }
        if is("/proc/sys/user/max_user_namespaces", "0") {
            return format!("{error}: set user.max_user_namespaces to a few thousand");
        }
        if Path::new("/.dockerenv").exists() || Path::new("/run/.containerenv").exists() {
            return format!("{error}: this is a container, whose own fences forbid it; run on the machine itself");
        }
    }
    match name {
        "landlock" => format!("{error}: the kernel needs CONFIG_SECURITY_LANDLOCK and `landlock` in its `lsm=` list"),
        "landlock_scopes" => format!("{error}: Linux 6.12 or newer is needed (Landlock ABI 6)"),
        "executions" => {
            format!("{error}: Linux 5.5 or newer is needed; without, the programs that a workload starts are not noted")
        }
        "redirection" => format!(
            "{error}: the kernel needs nf_tables with nat and connlimit (modprobe nft_chain_nat nft_connlimit); without, streams to some ports \
             only have a way out"
        ),
        "overlay" => format!(
            "{error}: Linux 5.11 or newer with overlayfs is needed; without, `system = \"overlay\"` is refused, and everything else works"
        ),
        "openat2" => format!("{error}: Linux 5.12 or newer is needed"),
        "seccomp" => format!("{error}: the kernel needs CONFIG_SECCOMP_FILTER"),
        _ => error.to_owned(),
    }
}

/// Tries each controller. What is made is noted as an environment's, so that it is found and removed should this process be killed.
fn try_groups(config: &NamespaceConfig, id: EnvironmentId) -> Vec<(Controller, Result<String, String>)> {
    let groups = Groups::detect();
    let all = || LIMITS.into_iter().chain([Controller::Kill]);
    let places = all().filter_map(|controller| groups.place(controller, id).ok()).map(|(path, _)| path).collect();
    let noted = Held::new(config, id).and_then(|held| {
        held.note_down(&Note { spec: tried_spec(id), groups: places, image: false, template: None }).map(|()| held)
    });
    let tried = all().map(|controller| (controller, try_group(&groups, controller, id))).collect();
    if let Ok(held) = noted {
        let _ = held.delete();
    }
    tried
}

fn tried_spec(id: EnvironmentId) -> EnvironmentSpec {
    EnvironmentSpec {
        id,
        class: Class { disk_bytes: 32 << 20, ..Class::default() },
        inside: Inside::default(),
        certificate: None,
        variables: BTreeMap::new(),
        gitconfig: None,
    }
}

fn try_group(groups: &Groups, controller: Controller, id: EnvironmentId) -> Result<String, String> {
    let place = groups.place(controller, id)?;
    let made = groups.make(controller, &place, &Class::default());
    let had_kill = place.0.join("cgroup.kill").exists();
    let removed = super::groups::remove(&place.0).map_err(|error| format!("{}: {error}", place.0.display()));
    made.and(removed)?;
    if controller == Controller::Kill && !had_kill {
        return Err("there is no cgroup.kill: Linux 5.14 or newer has it; killing goes by the guest's end alone".into());
    }
    Ok(format!("by control group version {} below the caller's", if place.1 { 2 } else { 1 }))
}

fn try_environment(config: &NamespaceConfig, id: EnvironmentId) -> Result<String, String> {
    let chain = |error: crate::SandboxError| match std::error::Error::source(&error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    };
    let held = Held::new(config, id).map_err(chain)?;
    let made = held.create(&tried_spec(id)).map_err(chain);
    let removed = held.delete().map_err(chain);
    made.and(removed)?;
    Ok("one was made, started and removed".into())
}
