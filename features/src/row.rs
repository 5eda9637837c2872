//! The values of one update, in the order in which its resolver declared its outputs, and how they become cells.
//!
//! Typed resolvers use tuples: nothing is looked up or boxed per event. Where the types are known only at run time, a row
//! is a [`ValueRow`], which is checked at each write instead of once.

use karst_types::{FeatureValue, Value, ValueType, value::int_key};

/// Type and nullability of one output.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutputType {
    /// The type.
    pub ty: ValueType,
    /// Whether it may be null.
    pub nullable: bool,
}

impl OutputType {
    /// Of a Rust type.
    pub const fn of<V: FeatureValue>() -> Self {
        Self { ty: V::TYPE, nullable: V::NULLABLE }
    }
    /// Whether a value of this type may be written to a feature of type `feature`.
    pub fn fits(self, feature: Self) -> bool {
        self.ty == feature.ty && (feature.nullable || !self.nullable)
    }
}

impl std::fmt::Display for OutputType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", self.ty, if self.nullable { "?" } else { "" })
    }
}

/// The values of one update. Implemented for tuples of up to 32 values, and for [`ValueRow`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a row of feature values",
    note = "a row is a tuple of at most 32 values: bool, integers, f32/f64, String, karst::Str, Vec<u8>, EventTime, or Option of these"
)]
pub trait UpdateRow: Send + 'static {
    /// The types of the values; `None` if they are known only at run time.
    fn types() -> Option<Vec<OutputType>>;

    /// Appends the `nth` value as an entity key; `false` if it cannot be one. `nth` is within the declared outputs.
    fn encode_key(&self, nth: usize, out: &mut Vec<u8>) -> bool;

    /// Appends the `nth` value as a cell. `nth` is within the declared outputs.
    fn encode(&self, nth: usize, out: &mut Vec<u8>);

    /// For rows whose types are known only at run time: whether there is a value for each of the outputs, and whether those at
    /// `places` fit.
    ///
    /// # Errors
    /// Says which output, what was expected and what was found.
    #[inline]
    fn check(&self, outputs: &[OutputType], places: &[usize]) -> Result<(), String> {
        let _ = (outputs, places);
        Ok(())
    }
}

macro_rules! tuple {
    ($($value:ident $nth:tt)*) => {
        impl<$($value: FeatureValue + Send + 'static),*> UpdateRow for ($($value,)*) {
            fn types() -> Option<Vec<OutputType>> {
                Some(vec![$(OutputType::of::<$value>()),*])
            }
            #[inline]
            fn encode_key(&self, nth: usize, out: &mut Vec<u8>) -> bool {
                match nth {
                    $($nth => self.$nth.encode_key(out),)*
                    _ => false,
                }
            }
            #[inline]
            fn encode(&self, nth: usize, out: &mut Vec<u8>) {
                match nth {
                    $($nth => self.$nth.encode(out),)*
                    _ => unreachable!("outputs are as many as the tuple's values: checked by bind"),
                }
            }
        }
    };
}

/// Calls `tuple!` for every prefix of its list.
macro_rules! tuples {
    ([$($done:tt)*]) => { tuple!($($done)*); };
    ([$($done:tt)*] $value:ident $nth:tt $($rest:tt)*) => {
        tuple!($($done)*);
        tuples!([$($done)* $value $nth] $($rest)*);
    };
}
tuples!([A 0] B 1 C 2 D 3 E 4 F 5 G 6 H 7 I 8 J 9 K 10 L 11 M 12 N 13 O 14 P 15 Q 16 R 17 S 18 T 19 U 20 V 21 W 22 X 23
    Y 24 Z 25 A1 26 B1 27 C1 28 D1 29 E1 30 F1 31);

/// A row of values whose types are known only at run time; checked at each write.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct ValueRow(pub Vec<Value>);

impl UpdateRow for ValueRow {
    fn types() -> Option<Vec<OutputType>> {
        None
    }

    fn encode_key(&self, nth: usize, out: &mut Vec<u8>) -> bool {
        match &self.0[nth] {
            Value::Str(text) => out.extend_from_slice(text.as_bytes()),
            Value::Int(number) => out.extend_from_slice(&int_key(*number)),
            _ => return false,
        }
        true
    }

    fn encode(&self, nth: usize, out: &mut Vec<u8>) {
        self.0[nth].encode(out);
    }

    fn check(&self, outputs: &[OutputType], places: &[usize]) -> Result<(), String> {
        if self.0.len() != outputs.len() {
            return Err(format!("expected {} values, got {}", outputs.len(), self.0.len()));
        }
        for nth in places.iter().copied() {
            let (value, output) = (&self.0[nth], outputs[nth]);
            let fits = value.value_type().map_or(output.nullable, |ty| ty == output.ty);
            if !fits {
                let got = value.value_type().map_or_else(|| "null".to_owned(), |ty| ty.to_string());
                return Err(format!("value {} of the update: expected {output}, got {got}", nth + 1));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typed_row_and_a_row_of_values_encode_alike() {
        let typed = ("ada".to_owned(), 7i32, Some(0.5f64), None::<bool>);
        let values = ValueRow(vec![Value::Str("ada".into()), Value::Int(7), Value::Float(0.5), Value::Null]);
        for nth in 0..4 {
            let (mut left, mut right) = (Vec::new(), Vec::new());
            typed.encode(nth, &mut left);
            values.encode(nth, &mut right);
            assert_eq!(left, right);
        }
        for nth in 0..2 {
            let (mut left, mut right) = (Vec::new(), Vec::new());
            assert!(typed.encode_key(nth, &mut left) && values.encode_key(nth, &mut right));
            assert_eq!(left, right);
        }
        assert!(!values.encode_key(2, &mut Vec::new()) && !typed.encode_key(3, &mut Vec::new()));
    }

    #[test]
    fn a_row_of_values_is_checked_against_the_outputs() {
        let outputs = [OutputType::of::<String>(), OutputType::of::<Option<i64>>()];
        let check = |values: &[Value]| ValueRow(values.to_vec()).check(&outputs, &[0, 1]);
        assert_eq!(check(&[Value::Str("a".into()), Value::Null]), Ok(()));
        assert_eq!(check(&[Value::Null, Value::Null]), Err("value 1 of the update: expected str, got null".to_owned()));
        assert_eq!(check(&[Value::Str("a".into())]), Err("expected 2 values, got 1".to_owned()));
        assert_eq!(
            check(&[Value::Str("a".into()), Value::Bool(true)]),
            Err("value 2 of the update: expected int?, got bool".to_owned())
        );
    }

    #[test]
    fn a_nullable_value_does_not_fit_a_feature_that_is_never_null() {
        let (int, maybe) = (OutputType::of::<i64>(), OutputType::of::<Option<i64>>());
        assert!(int.fits(maybe) && int.fits(int) && maybe.fits(maybe));
        assert!(!maybe.fits(int) && !int.fits(OutputType::of::<f64>()));
    }
}
