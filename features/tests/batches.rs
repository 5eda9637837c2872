//! A bound resolver, run over batches: what it writes, in which order, and what it leaves when it fails.
#![allow(clippy::unwrap_used)] // in helpers of tests, as in tests

use std::sync::Arc;

use karst_features::{
    BatchResolver, Catalog, EventBatch, Feature, FeatureClass, MessageSlot, OutputType, Ran, Registry, Resolved, ResolverError,
    StreamDeclaration, StreamResolver, UpdateRow, UpdateWriter, ValueRow, bind, parsed, parsed_ref,
};
use karst_types::{
    BrokerTime, EventTime, FeatureSlot, Message, MessageSchema, Offset, PartitionId, Reason, Record, Records, SourceId,
    Updates, Value,
    message::{AnyMessages, Messages},
    update::{Cause, cells},
};

#[derive(Clone, serde::Deserialize)]
struct Click {
    users: Vec<Option<String>>,
    count: i64,
}
impl Message for Click {
    fn copied() -> Option<fn(&Self) -> Self> {
        Some(Self::clone)
    }
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
    declare: fn(StreamDeclaration) -> StreamDeclaration,
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
        (self.declare)(if self.by_value { declaration.by_value() } else { declaration })
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
    let page = FeatureClass::new("page", Feature::new::<i64>("id")).feature(Feature::new::<String>("last_user"));
    let mut builder = Registry::builder();
    builder.add_class(user).add_class(page).add_source("clicks");
    let mut catalog = Catalog::new();
    catalog.reconcile(&builder.freeze().unwrap()).unwrap();
    catalog
}

fn bound<Row: UpdateRow>(
    outputs: &'static [&'static str],
    by_value: bool,
    run: impl std::ops::Fn(MessageSlot<'_, Click>, &mut UpdateWriter<'_, Row>) -> Result<(), ResolverError> + Send + Sync + 'static,
) -> Box<dyn BatchResolver> {
    declared(outputs, |declaration| declaration, by_value, run)
}

fn declared<Row: UpdateRow>(
    outputs: &'static [&'static str],
    declare: fn(StreamDeclaration) -> StreamDeclaration,
    by_value: bool,
    run: impl std::ops::Fn(MessageSlot<'_, Click>, &mut UpdateWriter<'_, Row>) -> Result<(), ResolverError> + Send + Sync + 'static,
) -> Box<dyn BatchResolver> {
    bind(Arc::new(Fn { outputs, by_value, declare, run, row: std::marker::PhantomData }), &catalog()).unwrap()
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
/// A record for each slot.
fn records(count: i64) -> Records {
    let mut records = Records::new("clicks".into(), PartitionId(0));
    for offset in 0..count {
        let key = format!("key {offset}");
        let headers = [("trace", Some(&b"abc"[..])), ("none", None)];
        records.push_with_headers(Offset(offset), BrokerTime(offset), Some(key.as_bytes()), Some(b"{}"), headers.into_iter());
    }
    records
}
fn run(
    resolver: &mut dyn BatchResolver,
    messages: &mut dyn AnyMessages,
    causes: &[Option<Cause>],
    updates: &mut Updates,
    ran: &mut Vec<Ran>,
) {
    let records = records(causes.len() as i64);
    resolver.run(&mut EventBatch { messages, records: &records, first: 0, causes }, updates, ran);
}
fn run_first(resolver: &mut dyn BatchResolver, messages: &mut dyn AnyMessages, updates: &mut Updates) -> Ran {
    resolver.run_record(&mut EventBatch { messages, records: &records(1), first: 0, causes: &causes(1) }, 0, updates)
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
        let key = match update.key {
            [0x80, .., low] if update.key.len() == 8 => low.to_string(), // a small whole number
            text => String::from_utf8(text.to_vec()).unwrap(),
        };
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
    run(&mut *swapped, &mut batch, &causes(1), &mut updates, &mut ran);
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
    run(&mut *by_reference(), &mut Messages { slots }, &causes, &mut updates, &mut ran);
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
    assert_eq!(run_first(&mut *one, &mut batch, &mut updates), Ran::Wrote);
    batch.slots[0].as_mut().unwrap().count = -1;
    assert_eq!(run_first(&mut *two, &mut batch, &mut updates), failed(Reason::ResolverError, "count -1 is negative"));
    assert_eq!(written(&updates).len(), 2);
    batch.slots[0].as_mut().unwrap().count = 8;
    assert_eq!(run_first(&mut *two, &mut batch, &mut updates), Ran::Wrote);
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
    run(&mut *by_reference(), &mut batch, &causes(1), &mut updates, &mut ran);
    run(&mut *by_value, &mut batch, &causes(1), &mut updates, &mut ran);
    run(&mut *by_value, &mut batch, &causes(1), &mut updates, &mut ran);
    assert_eq!(ran, [Ran::Wrote, Ran::Wrote, Ran::NeedsMessage]);
    assert!(batch.slots[0].is_none());
}

#[test]
fn a_resolver_that_takes_copies_leaves_the_message_to_those_after_it() {
    let (mut updates, mut ran) = (updates(), Vec::new());
    let mut takers = [0, 1].map(|_| {
        bound(&["user.id", "user.first"], true, |message, out| {
            let Click { mut users, count } = message.take();
            out.write(&(users.remove(0), count))
        })
    });
    takers[0].take_copies();
    let mut batch = Messages { slots: vec![click(&["ada"], 1)] };
    takers.iter_mut().for_each(|taker| run(&mut **taker, &mut batch, &causes(1), &mut updates, &mut ran));
    assert_eq!(ran, [Ran::Wrote, Ran::Wrote]);
    assert!(batch.slots[0].is_none(), "the last one takes the message itself");
}

#[test]
fn what_a_function_returns_is_written_whatever_its_shape() {
    type Row = (String, i64);
    fn check(returned: impl Resolved<Row> + Clone + Send + Sync + 'static) -> (Ran, usize) {
        let (mut updates, mut ran) = (updates(), Vec::new());
        let mut resolver = bound(&["user.id", "user.first"], false, move |_, out| returned.clone().write(out));
        run(&mut *resolver, &mut Messages { slots: vec![click(&[], 0)] }, &causes(1), &mut updates, &mut ran);
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
    run(&mut *resolver, &mut Messages { slots }, &causes(3), &mut updates, &mut ran);
    assert_eq!(ran, [Ran::Wrote, Ran::Wrote, failed(Reason::ResolverError, "value 2 of the update: expected int?, got bool")]);
    assert_eq!(written(&updates), ["0.0 ada 2=Null", "1.0 ada 2=Int(1)"]);
}

#[test]
fn binding_to_a_catalog_that_does_not_fit_tells_everything() {
    let resolver = Fn {
        outputs: &["user.first", "user.nope", "user.third"],
        by_value: false,
        declare: |declaration| declaration,
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
            "resolver \"on_click\" does not write the key of class \"user\"",
        ]
    );
}

/// One of the users of a click, which is no message of its own: it cannot be decoded.
#[derive(Debug)]
struct User(String);

fn first_user(click: &Click) -> Option<&Option<String>> {
    click.users.first()
}
fn only_user(click: Click) -> Result<Option<User>, String> {
    match click.users.as_slice() {
        [] => Ok(None),
        [Some(user)] => Ok(Some(User(user.clone()))),
        users => Err(format!("{} users", users.len())),
    }
}

#[test]
fn what_parse_says_none_to_is_skipped_and_what_it_fails_on_has_a_reason() {
    let (mut updates, mut ran) = (updates(), Vec::new());
    let write = |user: User, _: Record<'_>, out: &mut UpdateWriter<'_, (String, i64)>| out.write(&(user.0, 1));
    let mut resolver =
        bind(Arc::new(parsed("only", "clicks", ["user.id", "user.first"], only_user, write)), &catalog()).unwrap();
    let mut batch = Messages { slots: vec![click(&["ada"], 1), click(&[], 2), click(&["ada", "bob"], 3)] };
    run(&mut *resolver, &mut batch, &causes(3), &mut updates, &mut ran);
    let error = "parse function only_user: 2 users";
    assert_eq!(ran, [Ran::Wrote, Ran::Skipped, failed(Reason::ParseFailed, error)]);
    assert_eq!(written(&updates), ["0.0 ada 1=Int(1)"]);
    let declaration = resolver.declaration();
    assert_eq!(declaration.parse.as_ref().unwrap().to_string(), "only_user, which makes User");
    assert_eq!((declaration.message.name, declaration.by_value), ("Click", true), "the source's message, and it is taken");
}

#[test]
fn a_parse_function_may_find_a_part_of_the_message_which_then_stays() {
    let (mut updates, mut ran) = (updates(), Vec::new());
    let resolver = parsed_ref(
        "first",
        "clicks",
        ["user.id", "user.first"],
        first_user,
        |user: &Option<String>, record, out: &mut UpdateWriter<'_, (Option<String>, i64)>| {
            out.write(&(user.clone(), record.offset().0))
        },
    );
    let mut resolver = bind(Arc::new(resolver), &catalog()).unwrap();
    let mut batch = Messages { slots: vec![click(&["ada"], 1), click(&[], 2), click(&["bob"], 3)] };
    run(&mut *resolver, &mut batch, &causes(3), &mut updates, &mut ran);
    assert_eq!(ran, [Ran::Wrote, Ran::Skipped, Ran::Wrote]);
    assert_eq!(written(&updates), ["0.0 ada 1=Int(0)", "2.0 bob 1=Int(2)"]);
    assert!(batch.slots.iter().all(Option::is_some) && !resolver.declaration().by_value);
}

#[test]
fn whoever_asks_is_told_of_the_record_also_where_the_batch_is_cut() {
    let mut updates = updates();
    let mut resolver = bound(&["user.id", "user.first"], false, |message, out| {
        let record = message.record();
        let key = String::from_utf8_lossy(record.key().unwrap_or_default()).into_owned();
        let headers: Vec<_> = record.headers().collect();
        assert_eq!(headers, [("trace", Some(&b"abc"[..])), ("none", None)]);
        out.write(&(format!("{} {key}", record.position()), record.broker_time().0))
    });
    let mut messages = Messages { slots: vec![click(&[], 0)] };
    let records = records(5);
    let causes = [Some(Cause { offset: Offset(3), event_time: EventTime(0) })];
    let mut batch = EventBatch { messages: &mut messages, records: &records, first: 3, causes: &causes };
    assert_eq!(resolver.run_record(&mut batch, 0, &mut updates), Ran::Wrote);
    assert_eq!(written(&updates), ["3.0 clicks[0]@3 key 3 1=Int(3)"]);
}

/// (user, first) and (page, last user) of one click; the page is the count, none below 0.
type TwoClasses = (Option<String>, i64, Option<i64>, String);

fn two_classes(click: &Click) -> TwoClasses {
    let Click { users, count } = click;
    (users[0].clone(), *count, (*count >= 0).then_some(*count), "ada".to_owned())
}

#[test]
fn one_row_writes_an_entity_of_each_class_and_only_a_key_that_may_be_null_leaves_its_class_out() {
    let outputs = &["user.id", "user.first", "page.id", "page.last_user"];
    let slots = || vec![click(&["ada"], 7), click(&["bob"], -1), click(&[""], 8)];
    let run_with = |declare| {
        let mut resolver = declared(outputs, declare, false, |message, out| out.write(&two_classes(message.get())));
        let (mut updates, mut ran) = (updates(), Vec::new());
        run(&mut *resolver, &mut Messages { slots: slots() }, &causes(3), &mut updates, &mut ran);
        (ran, written(&updates))
    };
    let no_key = |name: &str| failed(Reason::MissingKey, &NO_KEY.replace("user.id", name));

    let (ran, wrote) = run_with(|declaration| declaration);
    assert_eq!(ran, [Ran::Wrote, no_key("page.id"), no_key("user.id")]);
    assert_eq!(wrote, ["0.0 ada 1=Int(7)", "0.1 7 1=Str(\"ada\")"], "nothing of a record that failed half-way");

    let (ran, wrote) = run_with(|declaration| declaration.optional_key("page.id").optional_key("user.id"));
    assert_eq!(ran, [Ran::Wrote, Ran::Wrote, Ran::Wrote]);
    assert_eq!(wrote, ["0.0 ada 1=Int(7)", "0.1 7 1=Str(\"ada\")", "1.0 bob 1=Int(-1)", "2.0 8 1=Str(\"ada\")"]);
}

#[test]
fn a_row_of_values_is_checked_only_where_its_class_is_written() {
    let declare = |declaration: StreamDeclaration| declaration.optional_key("page.id");
    let mut resolver = declared(&["user.id", "user.first", "page.id", "page.last_user"], declare, false, |message, out| {
        let (page, last) = if message.get().count == 0 { (Value::Null, Value::Null) } else { (Value::Int(1), Value::Null) };
        out.write(&ValueRow(vec![Value::Str("ada".into()), Value::Int(5), page, last]))
    });
    let (mut updates, mut ran) = (updates(), Vec::new());
    let slots = vec![click(&[], 0), click(&[], 1)];
    run(&mut *resolver, &mut Messages { slots }, &causes(2), &mut updates, &mut ran);
    assert_eq!(ran, [Ran::Wrote, failed(Reason::ResolverError, "value 4 of the update: expected str, got null")]);
    assert_eq!(written(&updates), ["0.0 ada 1=Int(5)"]);
}

#[test]
fn a_key_of_the_message_holds_for_all_rows_of_its_record_and_for_no_other() {
    let declare = |declaration: StreamDeclaration| declaration.key("user.id", "users", OutputType::of::<String>());
    let mut resolver = declared(&["user.first"], declare, false, |message, out| {
        let Click { users, count } = message.get();
        if let Some(user) = users.first() {
            out.key(0, user);
        }
        (0..*count).try_for_each(|nth| out.write(&(nth,)))
    });
    let (mut updates, mut ran) = (updates(), Vec::new());
    let slots = vec![click(&["ada"], 2), click(&["bob"], 0), click(&[], 1), click(&["a longer one"], 1), click(&["cy"], 1)];
    run(&mut *resolver, &mut Messages { slots }, &causes(5), &mut updates, &mut ran);
    assert_eq!(ran, [Ran::Wrote, Ran::Nothing, failed(Reason::MissingKey, NO_KEY), Ran::Wrote, Ran::Wrote]);
    assert_eq!(written(&updates), ["0.0 ada 1=Int(0)", "0.1 ada 1=Int(1)", "3.0 a longer one 1=Int(0)", "4.0 cy 1=Int(0)"]);
}
