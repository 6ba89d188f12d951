//! Real work inside, through the way out only: each tool under the preset that the manual names for it, looked into, with every other host refused, and
//! nothing of the tool's own configuration touched. The servers are outside, in a network namespace that the test makes.

mod clients;
mod debian;
mod git;
mod languages;
mod npm;
mod proxied;
mod world;

use stockade_testkit::{Form, Installation, Options};

use super::{
    asked::add_to_policy,
    spine::{records_of, sample_in},
};
use world::{World, can_work_with};

/// An environment before the world.
struct Scene {
    world: World,
    installation: Installation,
    environment: String,
    run: String,
    _repository: stockade_testkit::Repository,
}

impl Scene {
    /// These rules beside the policy that ships, and no others.
    fn new(rules: &str) -> Self {
        Self::with_config(rules, "")
    }

    fn with_config(rules: &str, before: &str) -> Self {
        let world = World::new();
        let config = format!("{before}{}", world.config());
        let installation = Installation::start(Form::OneProcess, Options { config, ..Options::default() }).unwrap();
        let repository = sample_in(&installation, "1");
        add_to_policy(&installation, rules, "server");
        // It waits for a person before its first command, and its environment is there.
        let run = installation.run("word-count", "rehearsal/fix-the-bug", "The tests fail.", &[]).unwrap();
        installation.approval(&run).unwrap();
        let listed = installation.json(&["environments", "list"]).unwrap();
        let environment = listed["items"][0]["id"].as_str().unwrap().to_owned();
        Self { world, installation, environment, run, _repository: repository }
    }

    /// Under one preset alone.
    fn preset(name: &str) -> Self {
        Self::new(&preset(name))
    }

    /// How a script ends inside, and what it says.
    fn inside(&self, script: &str) -> (i32, String) {
        let args = ["environments", "exec", &self.environment, "--", "sh", "-ec", script];
        let (status, stdout, stderr) = self.installation.stockade(&args).unwrap();
        (status, stdout + &stderr)
    }

    /// What a script says that must end well.
    fn works(&self, script: &str) -> String {
        let (status, said) = self.inside(script);
        assert_eq!(status, 0, "{script}\n{said}\n{:#?}\n{}", self.world.seen(), self.refused());
        said
    }

    /// What was refused on the way out.
    fn refused(&self) -> String {
        self.installation.stockade(&["connections", "list", "--run", &self.run]).unwrap().1
    }

    /// Everything was looked into, what is elsewhere was not reached, and nobody but these hosts heard of it.
    fn kept_to(&self, hosts: &[&str]) {
        let (status, said) = self.inside("curl -sS --max-time 30 https://elsewhere.example/");
        assert_ne!(status, 0, "{said}");
        for (seen, _) in self.world.seen() {
            assert!(hosts.iter().any(|host| seen.contains(&format!(" {host}/"))), "{seen}");
        }
        let records = records_of(&self.installation, &self.run);
        let bodies = || records.iter().map(|record| &record["record"]["body"]).filter(|body| body["phase"] == "open");
        let opened = || bodies().filter(|body| body["deed"]["action"] == "connection.open");
        assert!(opened().count() > 0, "{records:?}");
        assert!(opened().all(|body| body["deed"]["context"]["inspected"] == true), "{records:?}");
        let of_requests = ["request.send", "git.fetch"];
        assert!(bodies().any(|body| of_requests.iter().any(|action| body["deed"]["action"] == *action)), "{records:?}");
    }
}

fn preset(name: &str) -> String {
    format!("\n[[preset]]\nuse = \"{name}\"\n")
}
