//! What the user declares, as data: feature classes, stream resolvers, sources; checked, given ids, and planned over.
//!
//! No I/O, no async, no clock, and no actors: everything here is a value or a pure function. It must not assume that a
//! schema is known at compile time; typed Rust is a fast path, and the macros of `karst-macros` write nothing that cannot
//! be written by hand.
//!
//! Reading order: [`feature`], [`windowed`], [`windowed_type`], [`function`], [`resolver`], [`parse`], [`row`], [`registry`], [`catalog`], [`batch`], [`staleness`], [`plan`], [`budget`].
//! The two types to start from are [`FeatureClass`] and [`Registry`].
//!
//! # By hand
//!
//! All that the macros do, without them:
//!
//! ```
//! use std::sync::Arc;
//! use karst_features::*;
//! use karst_types::{
//!     BrokerTime, EventTime, FieldSchema, Message, MessageSchema, Offset, PartitionId, Records, SourceId, Updates,
//!     message::Messages, update::Cause,
//! };
//!
//! #[derive(serde::Deserialize)]
//! struct Click { user_id: String, page: String, at: EventTime }
//!
//! impl Message for Click {
//!     fn schema() -> &'static MessageSchema {
//!         const SCHEMA: MessageSchema = MessageSchema {
//!             name: "Click",
//!             fields: &[
//!                 FieldSchema::required("user_id", "String"),
//!                 FieldSchema::required("page", "String"),
//!                 FieldSchema::required("at", "EventTime"),
//!             ],
//!             event_time: Some("at"),
//!         };
//!         &SCHEMA
//!     }
//!     fn event_time(&self) -> Option<EventTime> { Some(self.at) }
//! }
//!
//! struct OnClick;
//!
//! impl StreamResolver for OnClick {
//!     type Message = Click;
//!     type Row = (String, String);
//!     fn declaration(&self) -> StreamDeclaration {
//!         StreamDeclaration::of::<Self>("on_click", "clicks", ["user.id", "user.last_page"]).by_value()
//!     }
//!     fn resolve(&self, message: MessageSlot<'_, Click>, out: &mut UpdateWriter<'_, Self::Row>) -> Result<(), ResolverError> {
//!         let Click { user_id, page, .. } = message.take();
//!         out.write(&(user_id, page))
//!     }
//! }
//!
//! let mut declared = Registry::builder();
//! declared
//!     .add_class(
//!         FeatureClass::new("user", Feature::new::<String>("id"))
//!             .feature(Feature::new::<String>("last_page").max_staleness_text("1d").description("where they are")),
//!     )
//!     .add_source("clicks")
//!     .add_resolver(&OnClick);
//! let registry = declared.freeze()?;               // or all mistakes, each with where it was made
//!
//! let mut catalog = Catalog::new();                // in life: Catalog::from_text(stored)?
//! catalog.reconcile(&registry)?;                   // names get ids, for good
//!
//! let mut on_click = bind(Arc::new(OnClick), &catalog)?;
//! let click = Click { user_id: "ada".into(), page: "/".into(), at: EventTime(7) };
//! let cause = Cause { offset: Offset(0), event_time: click.at };
//! let mut updates = Updates::new(SourceId(0), PartitionId(0));
//! let mut ran = Vec::new();
//! let mut records = Records::new("clicks".into(), PartitionId(0));
//! records.push(Offset(0), BrokerTime(7), None, Some(b"{}"));
//! let mut messages = Messages { slots: vec![Some(click)] };
//! let mut batch = EventBatch { messages: &mut messages, records: &records, first: 0, causes: &[Some(cause)] };
//! on_click.run(&mut batch, &mut updates, &mut ran);
//! assert_eq!((ran, updates.len()), (vec![Ran::Wrote], 1));
//! # Ok::<(), Mistakes>(())
//! ```

pub mod location;
pub use location::Location;

pub mod name;

pub mod feature;
pub use feature::{Feature, FeatureClass, FeatureHandle, FeatureSet, Field, KeyValue};

pub mod windowed;
pub use windowed::{ResultType, Shape, WindowedFeature};

mod aggregation;

pub mod windowed_type;
pub use windowed_type::{Groups, Windowed, WindowedHandle, WindowedResult, WindowedType};

pub mod function;

pub mod resolver;
pub use resolver::{
    EventTimeField, IntoStreamResolver, MessageKey, MessageSlot, Resolved, ResolverError, StreamDeclaration, StreamResolver,
    field_type,
};

pub mod parse;
pub use parse::{ParseStep, parsed, parsed_ref};

pub mod row;
pub use row::{OutputType, UpdateRow, ValueRow};

pub mod mistake;
pub use mistake::{Mistake, Mistakes};

pub mod registry;
pub use registry::{NamedWindows, Registry, RegistryBuilder};
mod validate;
pub use validate::FEATURES_MAX;

pub mod catalog;
pub use catalog::{Catalog, CatalogAggregate, CatalogChanges, CatalogClass, CatalogError, CatalogFeature};

pub mod batch;
pub use batch::{BatchResolver, EventBatch, Ran, UpdateWriter, bind};

pub mod staleness;
pub use staleness::{Freshness, StalenessLimit};

pub mod budget;

pub mod plan;
pub use plan::{Plan, PlanError, PlanErrorKind, PlanRequest, PlannedEntity, PlannedOutput, Read};

/// New values of one entity, in the order of the `Updates![…]` that the resolver returns.
///
/// It is a tuple, so a value of the wrong type is an error where it stands.
///
/// ```
/// let row = karst_features::updates!("ada".to_owned(), 7i64);
/// assert_eq!(row, ("ada".to_owned(), 7));
/// ```
#[macro_export]
macro_rules! updates {
    ($($value:expr),+ $(,)?) => { ($($value,)+) };
}
