//! The schema, and that it speaks of the same things as the rest of Stockade.

use std::collections::BTreeSet;

use cedar_policy::Schema;
use stockade_domain::{Action, ResourceKind};

/// If you are here because this failed, the schema has changed: bundles that people have written may no longer
/// validate. Say so in the changelog, then accept the new snapshot.
#[test]
fn the_schema() {
    insta::assert_snapshot!(stockade_policy::schema());
}

/// If you are here because this failed, an action or a kind of resource was added to `stockade_domain`: say in
/// `stockade.cedarschema` who may do it to what.
#[test]
fn the_schema_has_every_action_and_every_kind_of_resource() {
    let (schema, warnings) = Schema::from_cedarschema_str(stockade_policy::schema()).unwrap();
    assert_eq!(warnings.count(), 0);
    let actions: BTreeSet<String> = schema.actions().map(|uid| uid.id().unescaped().to_owned()).collect();
    let ours: BTreeSet<String> = Action::ALL.iter().map(|action| action.as_str().to_owned()).collect();
    assert_eq!(actions, ours);
    let types: BTreeSet<String> = schema.entity_types().map(ToString::to_string).collect();
    let kinds = ResourceKind::ALL.iter().map(|kind| format!("{kind:?}"));
    let people = ["User", "Agent", "Runner", "Server"].map(str::to_owned);
    assert_eq!(types, kinds.chain(people).collect());
    for action in schema.actions() {
        assert!(schema.principals_for_action(action).is_some_and(|mut of| of.next().is_some()), "{action}");
        assert!(schema.resources_for_action(action).is_some_and(|mut of| of.next().is_some()), "{action}");
    }
}
