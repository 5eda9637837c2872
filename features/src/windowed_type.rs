//! Windowed features in Rust's type system: the type of a field, `Windowed<i64>`, and the handle `User::failed_logins`.

use std::{fmt, marker::PhantomData};

use karst_types::{EventTime, FeatureValue, Str, ValueType};

use crate::{FeatureSet, ResultType, Shape};

/// The type of a field that is a windowed feature with results of type `T`: one value, `Vec` of values for aggregations that make
/// lists, or [`Groups`] for grouped ones. No value of it exists: results are computed when they are asked for.
///
/// A result may be null where its window is empty (unless the declaration has a default), so `T` is never an `Option`.
pub struct Windowed<T>(PhantomData<fn() -> T>);

/// The result of a grouped aggregate: a `V` for each group, the groups being of type `K`.
pub struct Groups<K, V>(PhantomData<fn() -> (K, V)>);

/// The type of a windowed feature's field: [`Windowed`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not the type of a windowed feature",
    note = "declare the field as `Windowed<…>`, with the type of its results in it"
)]
pub trait WindowedType {
    /// The type of the results.
    const RESULT: ResultType;
}
impl<T: WindowedResult> WindowedType for Windowed<T> {
    const RESULT: ResultType = ResultType { ty: T::TYPE, shape: T::SHAPE };
}

/// A type that results of a windowed feature can have.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the result of a windowed feature",
    note = "results are bool, i64, f64, String, karst::Str, EventTime or Vec<u8>; Vec of these for aggregations that make lists; Groups<K, V> for grouped ones",
    note = "a result may be null where its window is empty: that needs no Option"
)]
pub trait WindowedResult {
    /// Of each of its values.
    const TYPE: ValueType;
    /// How many there are.
    const SHAPE: Shape = Shape::One;
}

/// A type that values of a list and of groups can have.
#[diagnostic::on_unimplemented(message = "lists and groups of windowed features cannot hold `{Self}`")]
pub trait WindowedValue: FeatureValue {}

macro_rules! values {
    ($($ty:ty)*) => {$(
        impl WindowedValue for $ty {}
        impl WindowedResult for $ty {
            const TYPE: ValueType = <$ty as FeatureValue>::TYPE;
        }
    )*};
}
values!(bool i64 i32 i16 u32 u16 f64 f32 String Str EventTime Vec<u8>);

impl<T: WindowedValue> WindowedResult for Vec<T> {
    const TYPE: ValueType = T::TYPE;
    const SHAPE: Shape = Shape::List;
}
impl<K: WindowedValue, V: WindowedValue> WindowedResult for Groups<K, V> {
    const TYPE: ValueType = V::TYPE;
    const SHAPE: Shape = Shape::Groups { by: K::TYPE };
}

/// Whether two types are one; the checks that `#[features]` writes ask it while compiling.
pub const fn same_type(left: ValueType, right: ValueType) -> bool {
    left as u8 == right as u8
}

/// Whether results are grouped by values of this type.
pub const fn grouped_by(result: ResultType, ty: ValueType) -> bool {
    match result.shape {
        Shape::Groups { by } => same_type(by, ty),
        Shape::One | Shape::List => false,
    }
}

/// A windowed feature of class `C` with results of type `T`: what `User::failed_logins` is. It stands for all of its windows.
pub struct WindowedHandle<C, T> {
    name: &'static str,
    of: PhantomData<fn() -> (C, T)>,
}

impl<C, T> WindowedHandle<C, T> {
    /// `#[features]` writes this.
    pub const fn new(name: &'static str) -> Self {
        Self { name, of: PhantomData }
    }
    /// No place among the features that can be written, so that `Updates![User::failed_logins]` does not compile.
    pub const fn index(self) -> usize {
        usize::MAX
    }
    /// The name inside its class.
    pub const fn name(self) -> &'static str {
        self.name
    }
}

impl<C: FeatureSet, T> WindowedHandle<C, T> {
    /// `class.feature`: all windows.
    pub fn fqn(self) -> String {
        C::class().fqn(self.name)
    }
    /// One window, such as `"10m"`, as a query names it.
    pub fn over(self, window: &str) -> String {
        format!("{}[\"{window}\"]", self.fqn())
    }
}

impl<C, T> Clone for WindowedHandle<C, T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<C, T> Copy for WindowedHandle<C, T> {}
impl<C: FeatureSet, T> fmt::Display for WindowedHandle<C, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.fqn())
    }
}
impl<C: FeatureSet, T> fmt::Debug for WindowedHandle<C, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
impl<C: FeatureSet, T> From<WindowedHandle<C, T>> for String {
    fn from(handle: WindowedHandle<C, T>) -> Self {
        handle.fqn()
    }
}
