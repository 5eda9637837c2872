//! Thin macros over the hand-written declarations of `karst-features`: they write nothing that cannot be written by hand
//! (see the page of `karst_features`).
//!
//! All of them name things through `::karst::…`, the front door, so that a user needs no other dependency. A mistake is
//! told where it stands, together with all others that a macro can see; the rest is told by `RegistryBuilder::freeze`.
//! The compile errors are pinned in `tests/ui`.
//!
//! Reading order: `attr` (what all of them share), `features`, `expression`, `windowed`, `message`, `updates`, `keys`, `stream`.

use proc_macro::TokenStream;

mod attr;
mod expression;
mod features;
mod keys;
mod message;
mod names;
mod stream;
mod updates;
mod windowed;

/// Makes a struct a feature class. Its fields are the features; each is then named `User::last_page`.
///
/// ```
/// use karst::prelude::*;
///
/// #[features(key = "id", max_staleness = "30d")]
/// struct User {
///     id: String,
///     /// Where they were seen last.
///     #[feature(max_staleness = "1d")]
///     last_page: Str,
///     clicks: Option<i64>,
/// }
///
/// assert_eq!(User::last_page.fqn(), "user.last_page");
/// ```
///
/// Options: `key` (the field that tells one entity from another: text or a whole number), `name` (default: the struct's
/// name in snake case, without `Features` at its end), `max_staleness`, `description` (default: the doc comment), `owner`,
/// `tags = ["…"]`. The same but `key` for one field: `#[feature(…)]`.
///
/// Values are `bool`, whole numbers (not `u64`), `f32`/`f64`, `String`, `Str`, `Vec<u8>`, `EventTime`, or `Option` of these.
///
/// # Windowed features
///
/// A field of type `Windowed<…>` is an aggregate over the updates of its class, over several windows; `#[windowed(…)]` says which:
///
/// ```
/// use karst::prelude::*;
///
/// #[features(key = "id")]
/// struct Card {
///     id: String,
///     status: String,
///     amount: f64,
///     merchant: String,
///     #[windowed("10m", "30m", "1d", count, filter = status == "failed")]
///     failures: Windowed<i64>,
///     #[windowed("1h", "all", sum(amount), default = 0.0)]
///     spent: Windowed<f64>,
///     #[windowed("1d", approx_percentile(amount, 0.95), hop = "5m")]
///     high_amount: Windowed<f64>,
///     #[windowed("7d", max_by_n(merchant, by = amount, n = 3))]
///     dearest: Windowed<Vec<String>>,
///     #[windowed("1d", count, group_by = merchant)]
///     by_merchant: Windowed<Groups<String, i64>>,
///     #[windowed(session = "30m", sum(squared(amount)))]
///     energy: Windowed<f64>,
/// }
///
/// fn squared(amount: f64) -> f64 { amount * amount }
///
/// assert_eq!(Card::failures.fqn(), "card.failures");             // all windows
/// assert_eq!(Card::failures.over("10m"), "card.failures[\"10m\"]");
/// ```
///
/// - Windows are lengths of time, or `"all"`.
/// - Aggregations: `count`; `sum`, `mean`, `min`, `max`, `var`, `var_pop`, `std`, `std_pop`, `any`, `all`, `first`, `last`,
///   `approx_count_distinct` of an input; `first_n(input, 3)`, `last_n(input, 3)`, `approx_percentile(input, 0.95)`,
///   `approx_top_k(input, 5)`; `min_by_n` and `max_by_n(input, by = …, n = 3)`.
/// - Expressions (the input, `by`, `filter`, `group_by`) are of fields of the same struct: an update counts if it writes all that
///   they mention. `+ - * / == != < <= > >= && || !`, `.is_null()`, `null`, constants, and pure Rust functions.
/// - Options: `filter`, `group_by`, `groups_max`, `default`, `hop`, `exact`, `tumbling`, `session`, `retention`, `unbounded`, `name`,
///   `description`, `owner`, `tags`. What they mean: `WindowedFeature`.
#[proc_macro_attribute]
pub fn features(options: TokenStream, item: TokenStream) -> TokenStream {
    features::expand(options.into(), item.into()).into()
}

/// Makes a struct a message: what a record of a source says.
///
/// ```
/// use karst::prelude::*;
///
/// #[derive(Message)]
/// #[message(check = "Click::check_page")]
/// struct Click {
///     user_id: String,
///     page: Str,
///     referrer: Option<String>,                    // null or absent: None
///     #[message(event_time = "ms")] at: EventTime, // RFC 3339, or a number of milliseconds
/// }
///
/// impl Click {
///     fn check_page(&self) -> Result<(), Invalid> {
///         if self.page.starts_with('/') { Ok(()) } else { Err(Invalid::new("page", "a path", &self.page)) }
///     }
/// }
///
/// let click: Click = serde_json::from_str(r#"{"user_id": "ada", "page": "/", "at": 1500}"#)?;
/// assert_eq!(click.event_time(), Some(EventTime::from_millis(1500)));
/// assert!(click.check().is_ok());
/// # Ok::<(), serde_json::Error>(())
/// ```
///
/// On one field: `#[message(event_time)]` (an `EventTime`, or `Option` of it where the broker's time may stand in), with
/// `= "s" | "ms" | "us" | "ns"` for numbers of another unit than microseconds. On the struct: `#[message(check = "path")]`, a
/// `fn(&Self) -> Result<(), Invalid>`. `#[serde(…)]` attributes of fields, and `rename_all`, `rename`, `deny_unknown_fields`,
/// `expecting` of the struct, mean what they always mean.
///
/// This writes `Deserialize` too, so do not derive it as well: the compiler would find two.
#[proc_macro_derive(Message, attributes(message, serde))]
pub fn message(item: TokenStream) -> TokenStream {
    message::expand(item.into()).into()
}

/// The type of new values of one entity: `Updates![User::id, User::last_page]` is the tuple of these features' types. Values
/// are made by `updates!`.
///
/// Features of several classes may stand in one row: it then writes one entity of each. The key of each class is among them,
/// or among the `keys(…)` of `#[stream]`. `Shop::id?` is a key that may be null (`Option`): then nothing is written for that
/// class.
#[allow(non_snake_case)]
#[proc_macro]
pub fn Updates(features: TokenStream) -> TokenStream {
    updates::expand(features.into()).into()
}

/// Makes a function a stream resolver: it is called once for each message of a source.
///
/// ```
/// use karst::prelude::*;
///
/// #[derive(Message)]
/// struct Click { user_id: String, page: Str }
///
/// #[features(key = "id")]
/// struct User { id: String, last_page: Str }
///
/// #[stream(source = "clicks")]
/// fn on_click(click: &Click) -> Updates![User::id, User::last_page] {
///     updates!(click.user_id.clone(), click.page.clone())
/// }
///
/// let click = Click { user_id: "ada".into(), page: "/".into() };
/// assert_eq!(on_click::call(&click), ("ada".to_owned(), "/".into()));
/// ```
///
/// Takes the message by reference or by value (then nothing need be cloned; of several such on one source, all but the last
/// get a copy, so the message must be `Clone`). Returns `Updates![…]`; `Option` of it (`None` writes nothing: the record counts as skipped); `Vec` of it (several
/// entities); or `Result` of any of these (`Err` makes the record a dead letter). Options: `source`, `name` (default: the
/// function's name), `parse`, `keys`.
///
/// A second argument `record: &Record` gives it the record: key, headers, position, broker time.
///
/// `parse = path` names a function that runs before it, and makes its message of the source's, which then is another type:
///
/// ```
/// # use karst::prelude::*;
/// # #[features(key = "id")] struct User { id: String, last_page: Str }
/// #[derive(Message)]
/// struct UserEvent { login: Option<Login>, click: Option<Click> }
/// #[derive(Message)]
/// struct Login { user_id: String }
/// #[derive(Message)]
/// struct Click { user_id: String, page: Str }
///
/// fn get_click(event: &UserEvent) -> Option<&Click> { event.click.as_ref() }
///
/// #[stream(source = "events", parse = get_click)]
/// fn on_click(click: &Click) -> Updates![User::id, User::last_page] {
///     updates!(click.user_id.clone(), click.page.clone())
/// }
/// ```
///
/// It takes the source's message by reference or by value, and `&Record` as a second argument if it asks; it returns the
/// resolver's message, `Option` of it (`None`: the resolver is skipped), or `Result` of either (`Err`: a dead letter). For a
/// resolver that takes its message by reference, `Option<&Child>` does, so that nothing is cloned.
///
/// `keys(field = Class::key)` takes a key from a field of the message (the child, if there is a parse function), so that the
/// function need not return it; `?` behind the key skips its class where the field is `None`. A null key without `?` makes the
/// record a dead letter.
///
/// ```
/// # use karst::prelude::*;
/// # #[features(key = "id")] struct User { id: String, last_price: i64 }
/// # #[features(key = "id")] struct Shop { id: String, last_price: i64 }
/// #[derive(Message)]
/// struct Sale { user_id: String, shop_id: Option<String>, price: i64 }
///
/// #[stream(source = "sales", keys(user_id = User::id, shop_id = Shop::id?))]
/// fn on_sale(sale: &Sale) -> Updates![User::last_price, Shop::last_price] {
///     updates!(sale.price, sale.price)
/// }
/// ```
///
/// `on_click` becomes a unit struct that implements `StreamResolver` (`IntoStreamResolver` with `parse`); the function itself is `on_click::call`.
#[proc_macro_attribute]
pub fn stream(options: TokenStream, item: TokenStream) -> TokenStream {
    stream::expand(options.into(), item.into()).into()
}
