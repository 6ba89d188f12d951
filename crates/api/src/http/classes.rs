//! Classes of environments, as the runners of a site declare them.

use serde::{Deserialize, Serialize};
use stockade_domain::{
    Nanos, Network,
    ids::{ProjectId, RunnerId, SiteId},
    inside::{System, User},
};
use utoipa::{IntoParams, ToSchema};

/// A class of environments at a site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Class {
    /// Its name, for tasks and projects.
    pub name: String,
    /// At which site.
    #[schema(value_type = String)]
    pub site: SiteId,
    /// Whether it is used there where nobody names one.
    pub default: bool,
    /// The runners that make such environments. Where they do not agree about it, this is how the first of them has it.
    #[schema(value_type = Vec<String>)]
    pub runners: Vec<RunnerId>,
    /// Memory, in bytes.
    pub memory_bytes: u64,
    /// Processor time, in thousandths of one processor.
    pub cpu_millis: u64,
    /// Disk, in bytes.
    pub disk_bytes: u64,
    /// Processes and threads.
    pub processes: u64,
    /// Open files of one process.
    pub open_files: u64,
    /// What becomes of the system's files inside: `read_only`, or `overlay`.
    #[schema(value_type = String)]
    pub system: System,
    /// Who works there: `agent`, or `root`.
    #[schema(value_type = String)]
    pub user: User,
    /// Whether namespaces may be made inside.
    pub nested: bool,
    /// After so long its run ends, and it with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifetime_seconds: Option<u64>,
    /// It is stopped when nothing has happened inside for so long while its run waits for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_seconds: Option<u64>,
    /// Where it may go: `none`, `gateway`, or `policy`.
    #[schema(value_type = String)]
    pub network: Network,
    /// What an hour costs while it runs, in nano-dollars.
    #[schema(value_type = i64)]
    pub price_per_hour: Nanos,
    /// What an hour of processor time costs, in nano-dollars.
    #[schema(value_type = i64)]
    pub price_per_core_hour: Nanos,
}

/// Which classes.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ListClasses {
    /// Only those of the site that does this project's work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub project: Option<ProjectId>,
}
