//! A resolver bound to a catalog, run over batches: one dynamic call per batch, static dispatch inside.
//!
//! Invariants:
//! - Slots of an update rise; the permutation from declared to stored order is made once, by [`bind`].
//! - A record on which the resolver fails leaves none of this resolver's updates, and all of the others'.
//! - Panics pass through: the shell that runs the stage catches them. Updates of that record may then be left in the batch;
//!   the shell builds a new batch.

use std::{marker::PhantomData, sync::Arc};

use karst_types::{
    ClassId, FeatureSlot, FeatureValue, Message, Reason, Record, Records, Updates,
    entity::KEY_BYTES_MAX,
    message::{AnyMessages, CopyMessage, Messages},
    update::Cause,
};

use crate::{
    Catalog, MessageSlot, Mistakes, OutputType, ResolverError, StreamDeclaration, StreamResolver, UpdateRow, mistake::Found,
};

/// What became of one record in one resolver.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ran {
    /// It was not to be run.
    NotRun,
    /// It wrote at least one update.
    Wrote,
    /// It wrote nothing.
    Nothing,
    /// It did not run, since its parse function said that the message is none of its.
    Skipped,
    /// The record's slot was empty, since an attempt that failed has taken the message: decode the record again, and call
    /// [`BatchResolver::run_record`].
    NeedsMessage,
    /// It failed; none of its updates of this record are left.
    Failed {
        /// The class of the dead letter.
        reason: Reason,
        /// In words.
        error: String,
    },
}

/// The events of a batch: slot `i` of each field belongs to record `first + i` of `records`.
pub struct EventBatch<'a> {
    /// The messages, decoded.
    pub messages: &'a mut dyn AnyMessages,
    /// The records that they came in.
    pub records: &'a Records,
    /// Which record belongs to slot 0.
    pub first: usize,
    /// `None` for records that are not to be run.
    pub causes: &'a [Option<Cause>],
}

/// A bound resolver whose types the holder does not know.
pub trait BatchResolver: Send {
    /// What it is.
    fn declaration(&self) -> &StreamDeclaration;

    /// From now on the resolver, if it takes messages by value, takes copies: others come after it, and a message is decoded once.
    /// Does nothing to one whose messages cannot be copied; two such on one source are a mistake that
    /// [`RegistryBuilder::freeze`](crate::RegistryBuilder::freeze) reports.
    fn take_copies(&mut self);

    /// Runs the resolver over a batch, record by record. Appends one [`Ran`] per slot to `results`.
    ///
    /// With several resolvers on one source, `updates` would not be in the order of offsets after the second: then call
    /// [`run_record`](Self::run_record) for each record and each resolver in turn.
    ///
    /// # Panics
    /// If `batch` holds other messages than declared, or not one per cause; and when the resolver panics.
    fn run(&mut self, batch: &mut EventBatch<'_>, updates: &mut Updates, results: &mut Vec<Ran>);

    /// Runs the resolver for slot `index` alone.
    ///
    /// # Panics
    /// As [`run`](Self::run), and if there is no such slot.
    fn run_record(&mut self, batch: &mut EventBatch<'_>, index: usize, updates: &mut Updates) -> Ran;
}

/// Where the values of a row go: made once, by [`bind`].
#[derive(Clone, Debug)]
pub(crate) struct Route {
    /// One for each class; most have one.
    parts: Vec<Part>,
    /// The outputs' types, in declared order.
    types: Vec<OutputType>,
}

/// The values of one class.
#[derive(Clone, Debug)]
struct Part {
    class: ClassId,
    key: KeyFrom,
    /// A null key writes nothing for this class.
    optional: bool,
    /// `class.key`, for errors.
    key_name: String,
    /// Slots of the other outputs, rising.
    slots: Vec<FeatureSlot>,
    /// For each of `slots`, the index among the outputs.
    order: Vec<usize>,
    /// The same, and the key's.
    places: Vec<usize>,
}

/// Where an entity's key is found.
#[derive(Clone, Copy, Debug)]
enum KeyFrom {
    /// The output with this index.
    Output(usize),
    /// The declared [`MessageKey`](crate::MessageKey) with this index.
    Message(usize),
}

/// A key that the message gave; kept from one record to the next for its memory.
#[derive(Debug, Default)]
struct KeyBytes {
    bytes: Vec<u8>,
    given: bool,
}

/// Takes a resolver's rows of one record, and writes them as updates.
#[derive(Debug)]
pub struct UpdateWriter<'a, Row> {
    updates: &'a mut Updates,
    route: &'a Route,
    keys: &'a mut [KeyBytes],
    cause: Cause,
    skipped: bool,
    rows: PhantomData<fn(Row)>,
}

impl<Row: UpdateRow> UpdateWriter<'_, Row> {
    /// Says that the message is none of this resolver's, as a parse function does that returns `None`: the record counts as
    /// skipped by it.
    #[inline]
    pub fn skip(&mut self) {
        self.skipped = true;
    }

    /// Hands over the key that was declared as number `nth` by [`StreamDeclaration::key`]; it holds for all rows of this record
    /// that are written after it.
    ///
    /// # Panics
    /// If there is no such key.
    #[inline]
    pub fn key(&mut self, nth: usize, value: &impl FeatureValue) {
        let KeyBytes { bytes, given } = &mut self.keys[nth];
        bytes.clear();
        *given = value.encode_key(bytes);
    }

    /// Writes one row: new values of one entity of each class that the row has features of.
    ///
    /// # Errors
    /// [`Reason::MissingKey`] if a key is too long, or null and not declared optional; [`Reason::ResolverError`] if a row that
    /// is not statically typed does not fit. Return it (`?`): the record is then put aside.
    #[inline]
    pub fn write(&mut self, row: &Row) -> Result<(), ResolverError> {
        let Self { updates, route, keys, cause, .. } = self;
        row.check(&route.types, &[]).map_err(ResolverError::new)?;
        for part in &route.parts {
            let mut keyed = false;
            let written = updates.push(
                part.class,
                *cause,
                &part.slots,
                |out| {
                    keyed = match part.key {
                        KeyFrom::Output(nth) => row.encode_key(nth, out),
                        KeyFrom::Message(nth) => {
                            out.extend_from_slice(&keys[nth].bytes);
                            keys[nth].given
                        }
                    };
                    keyed
                },
                |out| part.order.iter().for_each(|nth| row.encode(*nth, out)),
            );
            if written {
                row.check(&route.types, &part.places).map_err(ResolverError::new)?;
            } else if keyed || !part.optional {
                row.check(&route.types, &part.places).map_err(ResolverError::new)?;
                return Err(no_key(&part.key_name));
            }
        }
        Ok(())
    }
}

#[cold]
fn no_key(name: &str) -> ResolverError {
    ResolverError {
        reason: Reason::MissingKey,
        message: format!("key \"{name}\": expected a value of at most {KEY_BYTES_MAX} bytes, got null or a longer one"),
    }
}

/// Binds a resolver to the ids of a catalog that has been reconciled with the registry.
///
/// # Errors
/// Outputs that the catalog does not know, or knows with other types. Cannot happen after
/// [`RegistryBuilder::freeze`](crate::RegistryBuilder::freeze) and [`Catalog::reconcile`] with this resolver in it.
pub fn bind<R: StreamResolver>(resolver: Arc<R>, catalog: &Catalog) -> Result<Box<dyn BatchResolver>, Mistakes> {
    let declaration = resolver.declaration();
    let route = route(&declaration, catalog)?;
    let keys = declaration.keys.iter().map(|_| KeyBytes::default()).collect();
    Ok(Box::new(Bound { resolver, declaration, route, keys, copied: None }))
}

fn route(declaration: &StreamDeclaration, catalog: &Catalog) -> Result<Route, Mistakes> {
    let mut found = Found::default();
    let at = &declaration.declared_at;
    let resolver = &declaration.name;
    let optional = |key: &str| declaration.optional_keys.iter().any(|optional| optional == key);
    let mut places: Vec<Places> = Vec::new();
    let mut types = Vec::new();
    for (nth, output) in declaration.outputs.iter().enumerate() {
        let Some((id, feature)) = catalog.feature_id(output).and_then(|id| Some((id, catalog.feature(id)?))) else {
            found.add(at, format!("resolver \"{resolver}\" writes \"{output}\", which is not in the catalog"));
            continue;
        };
        let declared = declaration.output_types.as_ref().and_then(|types| types.get(nth)).copied();
        if declared.is_some_and(|declared| declared.ty != feature.ty) {
            found.add(
                at,
                format!("resolver \"{resolver}\" writes \"{output}\" with another type than the catalog's {}", feature.ty),
            );
        }
        // Statically typed rows were checked by `freeze`; what the catalog does not know, whether null is allowed, is
        // taken from there.
        types.push(declared.unwrap_or(OutputType { ty: feature.ty, nullable: feature.nullable }));
        let is_key = catalog.class(id.class).is_some_and(|class| class.key == feature.name);
        let part = of_class(&mut places, id.class);
        if is_key {
            part.key = Some((KeyFrom::Output(nth), output.clone()));
        } else {
            part.values.push((id.slot, nth));
        }
    }
    for (nth, key) in declaration.keys.iter().enumerate() {
        match catalog.feature_id(&key.feature) {
            Some(id) => of_class(&mut places, id.class).key = Some((KeyFrom::Message(nth), key.feature.clone())),
            None => {
                found.add(at, format!("resolver \"{resolver}\" takes key \"{}\", which is not in the catalog", key.feature))
            }
        }
    }
    let expected = declaration.output_types.as_ref().map_or(declaration.outputs.len(), Vec::len);
    if expected != declaration.outputs.len() {
        found.add(
            at,
            format!(
                "resolver \"{resolver}\" declares {} outputs, but its rows have {expected} values",
                declaration.outputs.len()
            ),
        );
    }
    let mut parts = Vec::new();
    for Places { class, key, mut values } in places {
        values.sort_unstable();
        if !values.is_sorted_by(|left, right| left.0 < right.0) {
            found.add(at, format!("resolver \"{resolver}\" writes a feature twice"));
        }
        let Some((key, key_name)) = key else {
            let name = catalog.class(class).map_or("", |class| class.name.as_str());
            found.add(at, format!("resolver \"{resolver}\" does not write the key of class \"{name}\""));
            continue;
        };
        let (slots, order): (Vec<_>, Vec<_>) = values.into_iter().unzip();
        let mut places = order.clone();
        if let KeyFrom::Output(nth) = key {
            places.push(nth);
        }
        places.sort_unstable();
        parts.push(Part { class, key, optional: optional(&key_name), key_name, slots, order, places });
    }
    found.into_result()?;
    Ok(Route { parts, types })
}

/// What [`route`] finds of one class.
struct Places {
    class: ClassId,
    key: Option<(KeyFrom, String)>,
    values: Vec<(FeatureSlot, usize)>,
}

fn of_class(places: &mut Vec<Places>, class: ClassId) -> &mut Places {
    let index = places.iter().position(|known| known.class == class).unwrap_or(places.len());
    if index == places.len() {
        places.push(Places { class, key: None, values: Vec::new() });
    }
    &mut places[index]
}

struct Bound<R: StreamResolver> {
    resolver: Arc<R>,
    declaration: StreamDeclaration,
    route: Route,
    keys: Vec<KeyBytes>,
    /// How a message is copied, where others need it as well.
    copied: Option<CopyMessage<R::Message>>,
}

impl<R: StreamResolver> Bound<R> {
    #[inline]
    fn resolve(&mut self, slot: &mut Option<R::Message>, record: Record<'_>, cause: Cause, updates: &mut Updates) -> Ran {
        let Some(message) = MessageSlot::new(slot, record) else { return Ran::NeedsMessage };
        let before = updates.len();
        self.keys.iter_mut().for_each(|key| key.given = false);
        let (route, keys) = (&self.route, &mut self.keys[..]);
        let mut writer = UpdateWriter { updates, route, keys, cause, skipped: false, rows: PhantomData };
        let resolved = self.resolver.resolve(message.copying(self.copied), &mut writer);
        let skipped = writer.skipped;
        match resolved {
            Ok(()) if updates.len() > before => Ran::Wrote,
            Ok(()) if skipped => Ran::Skipped,
            Ok(()) => Ran::Nothing,
            Err(ResolverError { reason, message }) => {
                updates.truncate(before);
                Ran::Failed { reason, error: message }
            }
        }
    }

    fn typed<'a>(&self, batch: &'a mut dyn AnyMessages) -> &'a mut Messages<R::Message> {
        match batch.as_any_mut().downcast_mut() {
            Some(messages) => messages,
            None => panic!(
                "resolver \"{}\" was given messages that are not {}",
                self.declaration.name, self.declaration.message.name
            ),
        }
    }
}

impl<R: StreamResolver> BatchResolver for Bound<R> {
    fn declaration(&self) -> &StreamDeclaration {
        &self.declaration
    }

    fn take_copies(&mut self) {
        self.copied = R::Message::copied();
    }

    fn run(&mut self, batch: &mut EventBatch<'_>, updates: &mut Updates, results: &mut Vec<Ran>) {
        let EventBatch { ref mut messages, records, first, causes } = *batch;
        let messages = self.typed(&mut **messages);
        assert_eq!(messages.slots.len(), causes.len(), "one cause per slot");
        results.reserve(causes.len());
        for (index, (slot, cause)) in messages.slots.iter_mut().zip(causes).enumerate() {
            results.push(match cause {
                Some(cause) => self.resolve(slot, Record::new(records, first + index), *cause, updates),
                None => Ran::NotRun,
            });
        }
    }

    fn run_record(&mut self, batch: &mut EventBatch<'_>, index: usize, updates: &mut Updates) -> Ran {
        let EventBatch { ref mut messages, records, first, causes } = *batch;
        let Some(cause) = causes[index] else { return Ran::NotRun };
        let messages = self.typed(&mut **messages);
        self.resolve(&mut messages.slots[index], Record::new(records, first + index), cause, updates)
    }
}
