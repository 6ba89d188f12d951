//! What the command line does without a server: verifying exports and checking policies.
//!
//! It owns reports that can be shown and serialized. It refuses the network and the database.

use std::io::BufRead;

use serde::Serialize;
use stockade_api::{
    error::{ApiError, Fault},
    http::{ContentExample, ExampleResult, ExplainedPolicy, Explanation, PolicyProblem, PolicyReport, Proof, Question},
};
use stockade_domain::Deed;
use stockade_ledger as ledger;
use stockade_policy::{self as engine, Bundle, Problem, tables};
pub use stockade_policy::{
    learn::{LeftOut, Proposal, Refused, Wanted, learn, rails},
    tables::{Preset, PresetUse, presets},
};

/// What the verification of an export found.
#[derive(Debug, Clone, Serialize)]
pub struct ExportReport {
    /// The ledgers in it.
    pub ledgers: Vec<LedgerReport>,
    /// How many sealed pieces of content came along and are what the records say.
    pub contents: u64,
}

/// What was verified of one ledger.
#[derive(Debug, Clone, Serialize)]
pub struct LedgerReport {
    /// The runner or server.
    pub producer: String,
    /// How many records.
    pub records: u64,
    /// How many of them the last checkpoint signs.
    pub signed: u64,
    /// The root of the tree that it signs.
    pub root: String,
    /// Who has signed it: names of keys.
    pub signed_by: Vec<String>,
    /// Deeds that were opened and not closed, by their records.
    pub unclosed: Vec<String>,
}

/// Verifies an export (`stockade-export-1`) with nothing but what is in it. The error names the producer
/// and the record where something was changed, removed, inserted, reordered or cut off.
pub fn verify_export(reader: impl BufRead) -> Result<ExportReport, ApiError> {
    let report = ledger::verify(reader).map_err(|error| {
        ApiError::new(Fault::User, "not_verified", error.to_string())
            .hint("Keep the file: it is evidence. Compare it with an export that somebody else keeps.")
    })?;
    let ledgers = report.producers.into_iter().map(|producer| LedgerReport {
        producer: producer.producer.to_string(),
        records: producer.records,
        signed: producer.size,
        root: producer.root.to_string(),
        signed_by: producer.signatures.into_iter().map(|signature| signature.name).collect(),
        unclosed: producer.unclosed.iter().map(ToString::to_string).collect(),
    });
    Ok(ExportReport { ledgers: ledgers.collect(), contents: report.contents })
}

/// The bundle that ships with Stockade.
pub const fn default_policy() -> &'static str {
    stockade_policy::default_bundle()
}

/// Whether a bundle would load, with everything that is wrong with it.
pub fn check_policy(text: &str) -> PolicyReport {
    match stockade_policy::check(text) {
        Ok(summary) => PolicyReport {
            ok: true,
            problems: Vec::new(),
            warnings: summary.warnings.into_iter().map(problem).collect(),
            policies: summary.policies as u64,
            examples: Vec::new(),
            content_rules: summary.content_rules as u64,
            content_examples: Vec::new(),
        },
        Err(problems) => unfit(problems),
    }
}

/// The same, with each example and what came of it.
pub fn test_policy(text: &str) -> PolicyReport {
    match Bundle::parse(0, text) {
        Ok(engine) => PolicyReport {
            ok: true,
            problems: Vec::new(),
            warnings: engine.summary().warnings.iter().cloned().map(problem).collect(),
            policies: engine.summary().policies as u64,
            examples: engine
                .test()
                .into_iter()
                .map(|example| ExampleResult {
                    name: example.name,
                    line: example.line as u64,
                    expected: example.expect,
                    actual: example.decision.answer,
                    ok: example.holds,
                })
                .collect(),
            content_rules: engine.summary().content_rules as u64,
            content_examples: engine.test_content().into_iter().map(content_example).collect(),
        },
        Err(error) => unfit(error.problems),
    }
}

fn content_example(example: engine::content::ContentExampleResult) -> ContentExample {
    let word = |action: Option<engine::content::ContentAction>| action.map_or("nothing", |action| action.as_str());
    ContentExample {
        line: example.line as u64,
        expected: word(example.expect).to_owned(),
        actual: word(example.action).to_owned(),
        name: example.name,
        ok: example.holds,
    }
}

fn unfit(problems: Vec<Problem>) -> PolicyReport {
    PolicyReport {
        ok: false,
        problems: problems.into_iter().map(problem).collect(),
        warnings: Vec::new(),
        policies: 0,
        examples: Vec::new(),
        content_rules: 0,
        content_examples: Vec::new(),
    }
}

fn problem(problem: Problem) -> PolicyProblem {
    PolicyProblem {
        line: problem.line.map(|line| line as u64),
        policy: problem.policy,
        example: problem.example,
        message: problem.message,
    }
}

/// A preset by its name.
pub fn preset(name: &str) -> Result<Preset, ApiError> {
    Preset::find(name).map_err(|why| {
        ApiError::new(Fault::User, "preset_not_found", why).hint("`stockade policy preset list` says what each is for")
    })
}

/// A bundle with a preset put to use at its end, or what would be wrong with it.
pub fn with_preset(text: &str, preset: &PresetUse) -> Result<String, PolicyReport> {
    tables::with_preset(text, preset).map_err(unfit)
}

/// Every policy of a bundle in Cedar, those that its tables were written out as too, sorted by id.
pub fn written_out(text: &str) -> Result<Vec<ExplainedPolicy>, ApiError> {
    let engine = Bundle::parse(0, text).map_err(|error| {
        ApiError::new(Fault::User, "bundle_unfit", error.to_string()).hint("`stockade policy check` lists all problems")
    })?;
    Ok(engine.policies().into_iter().cloned().map(reason).collect())
}

/// Verifies that a record stands in the log that a checkpoint of its producer signs. `public_key` is the producer's.
pub fn verify_proof(proof: &Proof, public_key: &str) -> Result<String, ApiError> {
    let wrong = |why: String| {
        ApiError::new(Fault::Refused, "not_proven", format!("record {} of {}: {why}", proof.seq, proof.producer))
            .hint("Export the whole ledger with `stockade audit export` and verify that.")
    };
    let producer: ledger::Producer = proof.producer.parse().map_err(|error| wrong(format!("{error}")))?;
    let note: ledger::SignedNote = proof.checkpoint.parse().map_err(|error| wrong(format!("{error}")))?;
    let key: ledger::VerifyingKey = public_key.parse().map_err(|error| wrong(format!("{error}")))?;
    let origin = ledger::Checkpoint::origin_of(&producer);
    let checkpoint = note.verify(&origin, &key).map_err(|error| wrong(error.to_string()))?;
    let path: ledger::Proof = serde_json::from_value(proof.proof.clone())
        .map_err(|error| wrong(format!("the proof cannot be read: {error}")))?;
    if path.seq != proof.seq {
        return Err(wrong("the proof speaks about another record".to_owned()));
    }
    path.verify(proof.canonical.as_bytes(), checkpoint).map_err(|error| wrong(error.to_string()))?;
    Ok(format!("it is in the tree of {} records with root {}", checkpoint.size, checkpoint.root))
}

/// What this bundle would decide about a deed, and by which policies.
pub fn explain_policy(text: &str, deed: &Deed) -> Result<Explanation, ApiError> {
    let engine = Bundle::parse(0, text).map_err(|error| {
        ApiError::new(Fault::User, "policy_invalid", error.to_string())
            .hint("`stockade policy check FILE` lists everything that is wrong with it.")
    })?;
    Ok(explanation(engine.explain(deed)))
}

/// The engine's explanation as it travels.
pub(crate) fn explanation(explained: engine::Explanation) -> Explanation {
    Explanation {
        bundle: explained.decision.bundle,
        answer: explained.decision.answer,
        misfit: explained.misfit,
        may: question(explained.may),
        unattended: question(explained.unattended),
        passed_over: explained.passed_over.into_iter().map(reason).collect(),
    }
}

fn question(answered: engine::Answered) -> Question {
    Question {
        yes: answered.yes,
        policies: answered.policies.into_iter().map(reason).collect(),
        errors: answered.errors.into_iter().map(|error| format!("{}: {}", error.id, error.error)).collect(),
    }
}

fn reason(reason: engine::Reason) -> ExplainedPolicy {
    ExplainedPolicy { id: reason.id, title: reason.title, pack: reason.pack, effect: reason.effect, text: reason.text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_policy_is_in_order_and_its_examples_hold() {
        let report = test_policy(default_policy());
        assert!(report.ok && report.problems.is_empty(), "{report:#?}");
        assert!(!report.examples.is_empty() && report.examples.iter().all(|example| example.ok));
        assert!(check_policy(default_policy()).ok);
    }

    #[test]
    fn a_policy_that_does_not_load_says_where() {
        let report = check_policy("[[policy]]\nid = \"a\"\ntext = \"permit(principal, action, resource);\"\n");
        assert!(!report.ok);
        assert!(report.problems.iter().any(|problem| problem.policy.is_some()), "{report:#?}");
    }

    #[test]
    fn what_is_no_export_is_refused() {
        let error = verify_export(&b"nonsense\n"[..]).unwrap_err();
        assert_eq!((error.code.as_str(), error.fault), ("not_verified", Fault::User));
    }
}
