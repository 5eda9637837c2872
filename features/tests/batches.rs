//! A bound resolver, run over batches: what it writes, in which order, and what it leaves when it fails.
#![allow(clippy::unwrap_used)] // in helpers of tests, as in tests

use std::sync::Arc;

use karst_features::{
    BatchResolver, Catalog, Feature, FeatureClass, MessageSlot, Ran, Registry, Resolved, ResolverError, StreamDeclaration,
    StreamResolver, UpdateRow, UpdateWriter, ValueRow, bind,
};
use karst_types::{
    EventTime, FeatureSlot, Message, MessageSchema, Offset, PartitionId, Reason, SourceId, Updates, Value,
    message::Messages,
    update::{Cause, cells},
};

#[derive(Clone, serde::Deserialize)]
struct Click {
    users: Vec<Option<String>>,
    count: i64,
}
impl Message for Click {
    fn schema() -> &'static MessageSchema {
        const SCHEMA: MessageSchema = MessageSchema { name: "Click", fields: &[], event_time: None };
        &SCHEMA
    }
}
fn click(users: &[&str], count: i64) -> Option<Click> {
    Some(Click { users: users.iter().map(|user| (!user.is_empty()).then(|| (*user).to_owned())).collect(), count })
}

/// A resolver made of a function, for the tests.
struct Fn<Row, F> {
    outputs: &'static [&'static str],
    by_value: bool,
    run: F,
    row: std::marker::PhantomData<fn(Row)>,
}
impl<Row: UpdateRow, F> StreamResolver for Fn<Row, F>
where
    F: std::ops::Fn(MessageSlot<'_, Click>, &mut UpdateWriter<'_, Row>) -> Result<(), ResolverError> + Send + Sync + 'static,
{
    type Message = Click;
    type Row = Row;
    fn declaration(&self) -> StreamDeclaration {
        let declaration = StreamDeclaration::of::<Self>("on_click", "clicks", self.outputs.iter().copied());
        if self.by_value { declaration.by_value() } else { declaration }
    }
    fn resolve(&self, message: MessageSlot<'_, Click>, out: &mut UpdateWriter<'_, Row>) -> Result<(), ResolverError> {
        (self.run)(message, out)
    }
}

fn catalog() -> Catalog {
    let user = FeatureClass::new("user", Feature::new::<String>("id"))
        .feature(Feature::new::<i64>("first"))
        .feature(Feature::new::<Option<i64>>("second"))
        .feature(Feature::new::<bool>("third"));
    let mut builder = Registry::builder();
    builder.add_class(user).add_source("clicks");
    let mut catalog = Catalog::new();
    catalog.reconcile(&builder.freeze().unwrap()).unwrap();
    catalog
}

fn bound<Row: UpdateRow>(
    outputs: &'static [&'static str],
    by_value: bool,
    run: impl std::ops::Fn(MessageSlot<'_, Click>, &mut UpdateWriter<'_, Row>) -> Result<(), ResolverError> + Send + Sync + 'static,
) -> Box<dyn BatchResolver> {
    bind(Arc::new(Fn { outputs, by_value, run, row: std::marker::PhantomData }), &catalog()).unwrap()
}

/// Rows of (count, user, count is even) for each user; a negative count fails after the first row.
fn by_reference() -> Box<dyn BatchResolver> {
    bound(&["user.second", "user.id", "user.third"], false, |message, out| {
        let Click { users, count } = message.get();
        for (nth, user) in users.iter().enumerate() {
            if nth > 0 && *count < 0 {
                return Err(ResolverError::new(format_args!("count {count} is negative")));
            }
            out.write(&(*count, user.clone(), count % 2 == 0))?;
        }
        Ok(())
    })
}

fn causes(count: i64) -> Vec<Option<Cause>> {
    (0..count).map(|offset| Some(Cause { offset: Offset(offset), event_time: EventTime(offset) })).collect()
}
fn updates() -> Updates {
    Updates::new(SourceId(0), PartitionId(0))
}
/// `offset.index key slot=value …`
fn written(updates: &Updates) -> Vec<String> {
    let line = |update: karst_types::UpdateRef<'_>| {
        let cells: Vec<String> = cells(update.cells)
            .unwrap()
            .map(|(FeatureSlot(slot), cell)| format!("{slot}={:?}", Value::decode(cell).unwrap().0))
            .collect();
        let key = String::from_utf8(update.key.to_vec()).unwrap();
        format!("{}.{} {key} {}", update.version.offset, update.version.index, cells.join(" "))
    };
    updates.iter().map(line).collect()
}
fn failed(reason: Reason, error: &str) -> Ran {
    Ran::Failed { reason, error: error.to_owned() }
}

const NO_KEY: &str = "key \"user.id\": expected a value of at most 4096 bytes, got null or a longer one";

#[test]
fn cells_stand_in_the_order_of_slots_whatever_the_order_of_the_outputs() {
    let (mut updates, mut ran) = (updates(), Vec::new());
    let mut batch = Messages { slots: vec![click(&["ada", "bob"], 4)] };
    let mut swapped = bound(&["user.third", "user.second", "user.id", "user.first"], false, |message, out| {
        let Click { users, count } = message.get();
        users.iter().try_for_each(|user| out.write(&(true, Some(count + 1), user.clone(), *count)))
    });
    swapped.run(&mut batch, &causes(1), &mut updates, &mut ran);
    assert_eq!(ran, [Ran::Wrote]);
    assert_eq!(written(&updates), ["0.0 ada 1=Int(4) 2=Int(5) 3=Bool(true)", "0.1 bob 1=Int(4) 2=Int(5) 3=Bool(true)"]);
}

#[test]
fn every_record_has_a_result_and_a_failed_one_leaves_nothing() {
    let (mut updates, mut ran) = (updates(), Vec::new());
    let long = "k".repeat(5000);
    let slots = vec![
        click(&["ada"], 1),
        click(&[], 2),
        click(&["ada", "bob"], -3),
        click(&["cyd", ""], 4),
        None,
        click(&["late"], 5),
        click(&[&long], 6),
        click(&["ada"], 7),
    ];
    let mut causes = causes(8);
    causes[5] = None;
    by_reference().run(&mut Messages { slots }, &causes, &mut updates, &mut ran);
    assert_eq!(
        ran,
        [
            Ran::Wrote,
            Ran::Nothing,
            failed(Reason::ResolverError, "count -3 is negative"),
            failed(Reason::MissingKey, NO_KEY),
            Ran::NeedsMessage,
            Ran::NotRun,
            failed(Reason::MissingKey, NO_KEY),
            Ran::Wrote,
        ]
    );
    assert_eq!(written(&updates), ["0.0 ada 2=Int(1) 3=Bool(false)", "7.0 ada 2=Int(7) 3=Bool(false)"]);
}

#[test]
fn of_two_resolvers_of_a_record_the_failing_one_does_not_drop_the_updates_of_the_other() {
    let (mut updates, mut one, mut two) = (updates(), by_reference(), by_reference());
    let mut batch = Messages { slots: vec![click(&["ada", "bob"], 2)] };
    let cause = causes(1)[0].unwrap();
    assert_eq!(one.run_record(&mut batch, 0, cause, &mut updates), Ran::Wrote);
    batch.slots[0].as_mut().unwrap().count = -1;
    assert_eq!(two.run_record(&mut batch, 0, cause, &mut updates), failed(Reason::ResolverError, "count -1 is negative"));
    assert_eq!(written(&updates).len(), 2);
    batch.slots[0].as_mut().unwrap().count = 8;
    assert_eq!(two.run_record(&mut batch, 0, cause, &mut updates), Ran::Wrote);
    let indices: Vec<u32> = updates.iter().map(|update| update.version.index).collect();
    assert_eq!(indices, [0, 1, 2, 3]);
}

#[test]
fn a_resolver_by_value_empties_the_slot_and_one_by_reference_does_not() {
    let (mut updates, mut ran) = (updates(), Vec::new());
    let mut by_value = bound(&["user.id", "user.first"], true, |message, out| {
        let Click { mut users, count } = message.take();
        out.write(&(users.remove(0), count))
    });
    assert!(by_value.declaration().by_value);
    let mut batch = Messages { slots: vec![click(&["ada"], 1)] };
    by_reference().run(&mut batch, &causes(1), &mut updates, &mut ran);
    by_value.run(&mut batch, &causes(1), &mut updates, &mut ran);
    by_value.run(&mut batch, &causes(1), &mut updates, &mut ran);
    assert_eq!(ran, [Ran::Wrote, Ran::Wrote, Ran::NeedsMessage]);
    assert!(batch.slots[0].is_none());
}

#[test]
fn what_a_function_returns_is_written_whatever_its_shape() {
    type Row = (String, i64);
    fn check(returned: impl Resolved<Row> + Clone + Send + Sync + 'static) -> (Ran, usize) {
        let (mut updates, mut ran) = (updates(), Vec::new());
        let mut resolver = bound(&["user.id", "user.first"], false, move |_, out| returned.clone().write(out));
        resolver.run(&mut Messages { slots: vec![click(&[], 0)] }, &causes(1), &mut updates, &mut ran);
        (ran.remove(0), updates.len())
    }
    let row = |key: &str| (key.to_owned(), 1);
    assert_eq!(check(row("a")), (Ran::Wrote, 1));
    assert_eq!(check(None::<Row>), (Ran::Nothing, 0));
    assert_eq!(check(vec![row("a"), row("b")]), (Ran::Wrote, 2));
    assert_eq!(check(Vec::<Row>::new()), (Ran::Nothing, 0));
    assert_eq!(check(Ok::<_, String>(Some(row("a")))), (Ran::Wrote, 1));
    assert_eq!(check(Err::<Option<Row>, _>("no such page")), (failed(Reason::ResolverError, "no such page"), 0));
}

#[test]
fn rows_that_are_typed_only_at_run_time_are_checked_at_each_write() {
    let (mut updates, mut ran) = (updates(), Vec::new());
    let mut resolver = bound(&["user.id", "user.second"], false, |message, out| {
        let second = match message.get().count {
            0 => Value::Null,
            1 => Value::Int(1),
            _ => Value::Bool(true),
        };
        out.write(&ValueRow(vec![Value::Str("ada".into()), second]))
    });
    let slots = (0..3).map(|count| click(&[], count)).collect();
    resolver.run(&mut Messages { slots }, &causes(3), &mut updates, &mut ran);
    assert_eq!(ran, [Ran::Wrote, Ran::Wrote, failed(Reason::ResolverError, "value 2 of the update: expected int?, got bool")]);
    assert_eq!(written(&updates), ["0.0 ada 2=Null", "1.0 ada 2=Int(1)"]);
}

#[test]
fn binding_to_a_catalog_that_does_not_fit_tells_everything() {
    let resolver = Fn {
        outputs: &["user.first", "user.nope", "user.third"],
        by_value: false,
        run: |_: MessageSlot<'_, Click>, _: &mut UpdateWriter<'_, (String, i64)>| Ok(()),
        row: std::marker::PhantomData,
    };
    let Err(mistakes) = bind(Arc::new(resolver), &catalog()) else { panic!("it was bound") };
    let whats: Vec<_> = mistakes.iter().map(|mistake| mistake.what.as_str()).collect();
    assert_eq!(
        whats,
        [
            "resolver \"on_click\" writes \"user.first\" with another type than the catalog's int",
            "resolver \"on_click\" writes \"user.nope\", which is not in the catalog",
            "resolver \"on_click\" declares 3 outputs, but its rows have 2 values",
            "resolver \"on_click\" does not write the key of its class",
        ]
    );
}
