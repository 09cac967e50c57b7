//! Layers of a structure, as property tests; and all errors of a structure are reported at once.

use async_graphql::Json;
use entity::definition::{Definition, Layer, Override, OverrideOp, Overrides, PhaseDef, StepDef, TaskDef, Trigger};
use entity::step::Executor;
use proptest::prelude::*;
use serde_json::{Value, json};
use sortie::domain::plan::run_template::layer::{Changes, resolve};
use sortie::domain::plan::run_template::{problems, read};

/// A valid structure with given numbers of phases, tasks and steps.
fn structure() -> impl Strategy<Value = Definition> {
    proptest::collection::vec(proptest::collection::vec(1usize..4, 1..4), 1..4).prop_map(|phases| {
        let phases = phases.into_iter().enumerate().map(|(p, tasks)| PhaseDef {
            key: format!("p{p}"),
            name: format!("Phase {p}"),
            tasks: tasks
                .into_iter()
                .enumerate()
                .map(|(t, steps)| TaskDef {
                    key: format!("p{p}t{t}"),
                    name: format!("Task {t}"),
                    depends_on: if t > 0 { vec![format!("p{p}t{}", t - 1)] } else { vec![] },
                    steps: (0..steps).map(|s| step(&format!("p{p}t{t}s{s}"), s)).collect(),
                    ..TaskDef::default()
                })
                .collect(),
            ..PhaseDef::default()
        });
        Definition { template: "Any".into(), phases: phases.collect() }
    })
}

fn step(key: &str, number: usize) -> StepDef {
    StepDef {
        key: key.into(),
        name: key.to_uppercase(),
        kind: "look".into(),
        assigned_to: Executor::Human,
        trigger: if number.is_multiple_of(2) { Trigger::Immediate } else { Trigger::Manual },
        ..StepDef::default()
    }
}

fn change(op: OverrideOp, path: String, value: Option<Value>, before: Option<String>) -> Overrides {
    Overrides(vec![Override { path, op, value: value.map(Json), before }])
}

fn campaign(base: &Definition, overrides: &Overrides) -> sortie::domain::plan::run_template::layer::Resolved {
    resolve(base, Layer::Platform, &[Changes { layer: Layer::Campaign, overrides }])
}

/// One step of a structure: its phase, its task, its index in the task.
fn a_step() -> impl Strategy<Value = (Definition, String, StepDef, usize)> {
    (structure(), any::<prop::sample::Index>()).prop_map(|(definition, index)| {
        let mut all = Vec::new();
        for phase in &definition.phases {
            for task in &phase.tasks {
                for (i, step) in task.steps.iter().enumerate() {
                    all.push((format!("phases.{}.tasks.{}.steps", phase.key, task.key), step.clone(), i));
                }
            }
        }
        let (list, step, i) = index.get(&all).clone();
        (definition, list, step, i)
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_and_without_changes_nothing_changes(definition in structure()) {
        prop_assert_eq!(problems(&definition, None), vec![]);
        let (again, wrong) = read::definition(&serde_json::to_value(&definition).unwrap(), "Any", "");
        prop_assert_eq!((&again, wrong), (&definition, vec![]));
        let resolved = campaign(&definition, &Overrides::default());
        prop_assert_eq!(&resolved.definition, &definition);
        prop_assert!(resolved.origins.values().all(|layer| *layer == Layer::Platform));
        let parts: usize = definition.phases.iter().map(|phase| 1 + phase.tasks.iter().map(|task| 1 + task.steps.len()).sum::<usize>()).sum();
        prop_assert_eq!(resolved.origins.len(), parts, "each part has its layer");
    }

    #[test]
    fn one_field_of_one_step_and_nothing_else((definition, list, step, _) in a_step(), attempts in 1i32..90) {
        let path = format!("{list}.{}.maxAttempts", step.key);
        let resolved = campaign(&definition, &change(OverrideOp::Replace, path.clone(), Some(json!(attempts)), None));
        prop_assert_eq!(&resolved.problems, &vec![]);
        let mut wanted = definition.clone();
        for one in wanted.phases.iter_mut().flat_map(|phase| &mut phase.tasks).flat_map(|task| &mut task.steps) {
            if one.key == step.key {
                one.max_attempts = attempts;
            }
        }
        prop_assert_eq!(&resolved.definition, &wanted);
        let changed: Vec<_> = resolved.origins.iter().filter(|(_, layer)| **layer == Layer::Campaign).map(|(path, _)| path.clone()).collect();
        prop_assert_eq!(changed, vec![path]);
    }

    #[test]
    fn what_is_removed_and_added_again_is_as_it_was((definition, list, step, i) in a_step()) {
        let (phases, task) = (&definition.phases, list.split('.').nth(3).unwrap().to_owned());
        let steps = &phases.iter().flat_map(|phase| &phase.tasks).find(|one| one.key == task).unwrap().steps;
        let next = steps.get(i + 1).map(|next| next.key.clone());
        let path = format!("{list}.{}", step.key);
        let mut changes = change(OverrideOp::Remove, path.clone(), None, None);
        let removed = campaign(&definition, &changes);
        prop_assert!(!removed.origins.contains_key(&path));
        changes.0.extend(change(OverrideOp::Add, list, Some(serde_json::to_value(&step).unwrap()), next).0);
        let again = campaign(&definition, &changes);
        prop_assert_eq!(&again.definition, &definition);
        prop_assert_eq!(again.origins.get(&path), Some(&Layer::Campaign));
    }

    #[test]
    fn a_path_that_names_nothing_is_told_and_changes_nothing(definition in structure(), op in prop_oneof![Just(OverrideOp::Replace), Just(OverrideOp::Remove), Just(OverrideOp::Add)]) {
        let value = (op != OverrideOp::Remove).then(|| json!({ "key": "x" }));
        let resolved = campaign(&definition, &change(op, "phases.nowhere.tasks.x".into(), value, None));
        prop_assert_eq!(resolved.problems.len(), 1);
        prop_assert_eq!(resolved.definition, definition);
    }

    #[test]
    fn the_later_layer_has_the_last_word((definition, list, step, _) in a_step(), org in "[a-z]{3,9}", own in "[a-z]{3,9}") {
        let path = format!("{list}.{}.name", step.key);
        let of = |name: &str| change(OverrideOp::Replace, path.clone(), Some(json!(name)), None);
        let (first, second) = (of(&org), of(&own));
        let changes = [Changes { layer: Layer::Org, overrides: &first }, Changes { layer: Layer::Campaign, overrides: &second }];
        let resolved = resolve(&definition, Layer::Platform, &changes);
        prop_assert_eq!(resolved.origins.get(&path), Some(&Layer::Campaign));
        let names: Vec<_> = resolved.definition.phases.iter().flat_map(|phase| &phase.tasks).flat_map(|task| &task.steps).filter(|one| one.key == step.key).map(|one| one.name.clone()).collect();
        prop_assert_eq!(names, vec![own]);
    }
}

#[test]
fn everything_that_is_wrong_is_found_at_once() {
    let yaml = include_str!("../wrong.yaml");
    let read = sortie::domain::content::yaml::read(yaml).unwrap();
    let (definition, mut found) = read::definition(&read.value, "Wrong", "");
    found.extend(problems(&definition, Some(&Default::default())));
    let mut told: Vec<String> = found.iter().map(ToString::to_string).collect();
    told.sort();
    // Each invalid line of the file contains its expected error.
    let mut wanted: Vec<String> =
        yaml.lines().filter_map(|line| line.split_once("#! ")).map(|(_, told)| told.to_owned()).collect();
    wanted.sort();
    assert_eq!(told, wanted, "\n{}", told.join("\n"));
}

#[test]
fn yaml_bombs_and_repeated_names_are_refused() {
    let bomb = "a: &a [x, x]\nb: [*a, *a]\n";
    assert!(sortie::domain::content::yaml::read(bomb).unwrap_err().to_string().contains("line 2: aliases"));
    assert!(
        sortie::domain::content::yaml::read("a: 1\nb: 2\na: 3\n")
            .unwrap_err()
            .to_string()
            .starts_with("line 3: duplicate key `a`")
    );
    assert!(sortie::domain::content::yaml::read("a: [1\nb: 2").unwrap_err().to_string().contains("line"));
    let written = sortie::domain::content::yaml::read(
        "text: '1'\nnumber: 1\nyes: true\nnothing: ~\nlist:\n  - { key: one, name: One }\n",
    )
    .unwrap();
    assert_eq!(
        written.value,
        json!({ "text": "1", "number": 1, "yes": true, "nothing": null, "list": [{ "key": "one", "name": "One" }] })
    );
    assert_eq!(
        (written.line("list.0.name"), written.line("list.one"), written.line("nosuch")),
        (Some(6), Some(6), None)
    );
    // An exported structure parses to the same one.
    assert_eq!(
        sortie::domain::content::yaml::read(&sortie::domain::content::yaml::write(&written.value).unwrap())
            .unwrap()
            .value,
        written.value
    );
}
