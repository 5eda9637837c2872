//! Rust functions in the expressions of windowed features: typed ones, made into functions of values.
//!
//! Null goes through: a function is not called if an argument is null (or not of the type it takes), unless that argument is an
//! `Option`. Its name is a part of what the aggregate is: under another name it is another aggregate, which begins anew.

use karst_types::{EventTime, Expr, FeatureValue, Str, Value, ValueType, expr::Function};

/// A type that a function can take.
#[diagnostic::on_unimplemented(
    message = "a function in a windowed feature cannot take `{Self}`",
    note = "it can take bool, whole numbers, f64, String, karst::Str, Vec<u8>, EventTime, and Option of these"
)]
pub trait FromValue: Sized {
    /// The type of its values.
    const TYPE: ValueType;

    /// The value, unless it is of another type, or null where that is not expected.
    fn from_value(value: &Value) -> Option<Self>;
}

macro_rules! from_value {
    ($($ty:ty = $name:ident: $pattern:pat => $read:expr,)*) => {$(
        impl FromValue for $ty {
            const TYPE: ValueType = ValueType::$name;
            fn from_value(value: &Value) -> Option<Self> {
                match value {
                    $pattern => $read,
                    _ => None,
                }
            }
        }
    )*};
}
from_value! {
    bool = Bool: Value::Bool(value) => Some(*value),
    i64 = Int: Value::Int(value) => Some(*value),
    i32 = Int: Value::Int(value) => i32::try_from(*value).ok(),
    u32 = Int: Value::Int(value) => u32::try_from(*value).ok(),
    String = Str: Value::Str(value) => Some(value.to_string()),
    Str = Str: Value::Str(value) => Some(value.clone()),
    Vec<u8> = Bytes: Value::Bytes(value) => Some(value.clone()),
    EventTime = Time: Value::Time(value) => Some(*value),
}
impl FromValue for f64 {
    const TYPE: ValueType = ValueType::Float;
    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Float(value) => Some(*value),
            Value::Int(value) => Some(*value as f64),
            _ => None,
        }
    }
}
impl<T: FromValue> FromValue for Option<T> {
    const TYPE: ValueType = T::TYPE;
    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Null => Some(None),
            value => T::from_value(value).map(Some),
        }
    }
}

/// A Rust function that expressions can call, with `N` arguments of the types `A`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be called so in a windowed feature",
    note = "give it as many arguments as it has: one to four of bool, whole numbers, f64, String, karst::Str, Vec<u8>, EventTime, or Option of these",
    note = "it returns the value of a feature, and must be pure: events may be replayed"
)]
pub trait TypedFunction<A, const N: usize>: Send + Sync + 'static {
    /// The type of what it makes.
    const MAKES: ValueType;
    /// The types that it takes.
    const TAKES: [ValueType; N];

    /// Its value; null if an argument does not fit.
    fn value(&self, args: &[Value]) -> Value;
}

macro_rules! typed_function {
    ($count:literal $($arg:ident $name:ident)*) => {
        impl<F, R, $($arg),*> TypedFunction<($($arg,)*), $count> for F
        where
            F: Fn($($arg),*) -> R + Send + Sync + 'static,
            R: FeatureValue,
            $($arg: FromValue,)*
        {
            const MAKES: ValueType = R::TYPE;
            const TAKES: [ValueType; $count] = [$($arg::TYPE),*];

            fn value(&self, args: &[Value]) -> Value {
                let [$($name),*] = args else { return Value::Null };
                let ($(Some($name),)*) = ($($arg::from_value($name),)*) else { return Value::Null };
                let mut cell = Vec::with_capacity(16);
                self($($name),*).encode(&mut cell);
                Value::decode(&cell).map_or(Value::Null, |(value, _)| value)
            }
        }
    };
}
typed_function!(1 A a);
typed_function!(2 A a B b);
typed_function!(3 A a B b C c);
typed_function!(4 A a B b C c D d);

/// A call of a Rust function, as an expression; its name is its path as the declaration writes it.
///
/// ```
/// use karst_features::function::call;
/// use karst_types::Expr;
///
/// fn squared(amount: f64) -> f64 { amount * amount }
/// assert_eq!(call("squared", squared, ["amount".parse::<Expr>()?]).to_string(), "squared(amount)");
/// # Ok::<(), String>(())
/// ```
pub fn call<A, F: TypedFunction<A, N>, const N: usize>(name: &str, function: F, args: [Expr; N]) -> Expr {
    let function = Function::new(name, F::MAKES, move |args| function.value(args)).taking(F::TAKES);
    Expr::Call(function, args.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn risk(amount: i64, status: Option<Str>) -> Option<f64> {
        (amount > 0).then(|| amount as f64 * if status.is_some() { 1.0 } else { 0.5 })
    }

    #[test]
    fn null_goes_through_unless_it_is_taken() {
        let value = |args: &[Value]| TypedFunction::value(&risk, args);
        let status = Value::Str("ok".into());
        assert_eq!(value(&[Value::Int(3), status.clone()]), Value::Float(3.0));
        assert_eq!(value(&[Value::Int(3), Value::Null]), Value::Float(1.5));
        assert_eq!(value(&[Value::Null, status.clone()]), Value::Null);
        assert_eq!(value(&[Value::Int(0), status.clone()]), Value::Null);
        assert_eq!(value(&[status.clone(), status]), Value::Null);
    }

    #[test]
    fn the_types_of_a_function_are_checked_like_those_of_operators() {
        let call = |args: [&str; 2]| call("risk", risk, args.map(|arg| arg.parse::<Expr>().unwrap()));
        let ty = |expr: &Expr| expr.ty(&|name| if name == "amount" { ValueType::Int } else { ValueType::Str });
        assert_eq!(ty(&call(["amount * 2", "status"])), Ok(Some(ValueType::Float)));
        assert_eq!(ty(&call(["amount", "null"])), Ok(Some(ValueType::Float)));
        assert_eq!(ty(&call(["status", "status"])), Err("risk with str, where it takes int,".to_owned()));
    }
}
