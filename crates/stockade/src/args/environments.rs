//! The words about environments and their classes.

use clap::Subcommand;

use super::Page;

#[derive(Debug, Subcommand)]
pub enum Environments {
    /// All environments.
    List {
        /// The deleted ones as well.
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        page: Page,
    },
    /// One environment.
    Show {
        /// Its id.
        environment: String,
    },
    /// Delete an environment with everything in it.
    Delete {
        /// Its id.
        environment: String,
        /// Do not ask back.
        #[arg(long)]
        yes: bool,
    },
    /// What would have let through what was refused on the way out: the least that a policy needs, as tables to read and to
    /// apply. Nothing is changed.
    Learn {
        /// An environment's or a run's id.
        of: String,
        /// For all projects, not for the run's alone.
        #[arg(long)]
        all_projects: bool,
    },
    /// What programs were started in an environment, or in all of a run's, and how often.
    Executions {
        /// An environment's or a run's id.
        of: String,
    },
    /// Run a command in an environment.
    Exec {
        /// Its id.
        environment: String,
        /// End it after so many seconds.
        #[arg(long, default_value_t = 600, value_name = "SECONDS")]
        timeout: u64,
        /// The command.
        #[arg(last = true, required = true, value_name = "COMMAND")]
        command: Vec<String>,
    },
}

#[derive(Debug, Subcommand)]
pub enum Classes {
    /// All classes, site by site; the one that is used where nobody names one has a star.
    List {
        /// Only those of the site that does this project's work.
        #[arg(long, value_name = "PROJECT")]
        project: Option<String>,
    },
}
