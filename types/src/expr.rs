//! Expressions over the features that one update writes: the input, the filter and the group of a windowed aggregate.
//!
//! They are data, so that a declaration can be printed, read, compared and made by any front end; [`Function`] lets Rust code in.
//! Null goes through everything but `is_null`, `and` and `or` (three-valued, as in SQL); a filter takes null for false.

use std::{cmp::Ordering, fmt, sync::Arc};

use crate::{FeatureSlot, Value, ValueType, update::cells};

mod parse;

/// An expression; `F` names a feature: by name where it is declared, by slot where it runs.
#[derive(Clone, PartialEq, Debug)]
pub enum Expr<F = String> {
    /// The value that the update writes for a feature.
    Feature(F),
    /// A constant.
    Value(Value),
    /// Of one value.
    Unary(Unary, Box<Expr<F>>),
    /// Of two values.
    Binary(Binary, Box<Expr<F>>, Box<Expr<F>>),
    /// A function of ours.
    Call(Function, Vec<Expr<F>>),
}

/// Operators of one value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unary {
    /// `!a`
    Not,
    /// `-a`
    Neg,
    /// `a.is_null()`
    IsNull,
}

/// Operators of two values.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Binary {
    Add,
    Sub,
    Mul,
    /// Always a float.
    Div,
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    And,
    Or,
}

/// A pure function from values to a value, with a name for people. Two functions are equal if their names are.
#[derive(Clone)]
pub struct Function {
    /// Its name.
    pub name: Arc<str>,
    /// The type of what it makes.
    pub ty: ValueType,
    /// The types of its arguments, where they are known.
    pub takes: Option<Arc<[ValueType]>>,
    run: Arc<Run>,
}

type Run = dyn Fn(&[Value]) -> Value + Send + Sync;

impl Function {
    /// A function, which must be pure: it runs again when events are replayed.
    pub fn new(name: &str, ty: ValueType, run: impl Fn(&[Value]) -> Value + Send + Sync + 'static) -> Self {
        Self { name: name.into(), ty, takes: None, run: Arc::new(run) }
    }
    /// Says of which types its arguments are, so that expressions are checked.
    #[must_use]
    pub fn taking(mut self, types: impl Into<Arc<[ValueType]>>) -> Self {
        self.takes = Some(types.into());
        self
    }
    /// Whether it can be called with arguments of these types; a float takes a whole number, and everything null.
    fn check(&self, args: &[Option<ValueType>]) -> Result<(), String> {
        let Some(takes) = &self.takes else { return Ok(()) };
        if takes.len() != args.len() {
            return Err(format!("{} with {} arguments, where it takes {},", self.name, args.len(), takes.len()));
        }
        let fits = |takes: ValueType, got: ValueType| takes == got || (takes, got) == (ValueType::Float, ValueType::Int);
        let mut pairs = takes.iter().zip(args).filter_map(|(takes, got)| Some((*takes, (*got)?)));
        match pairs.find(|(takes, got)| !fits(*takes, *got)) {
            Some((takes, got)) => Err(format!("{} with {got}, where it takes {takes},", self.name)),
            None => Ok(()),
        }
    }
}
impl PartialEq for Function {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.ty == other.ty
    }
}
impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl<F> Expr<F> {
    /// Every feature that it mentions, each time it does.
    pub fn features(&self) -> Vec<&F> {
        match self {
            Self::Feature(feature) => vec![feature],
            Self::Value(_) => Vec::new(),
            Self::Unary(_, of) => of.features(),
            Self::Binary(_, a, b) => [a.features(), b.features()].concat(),
            Self::Call(_, of) => of.iter().flat_map(Self::features).collect(),
        }
    }

    /// The same with other names.
    ///
    /// # Errors
    /// The first that `name` gives.
    pub fn map<G, E>(&self, name: &mut impl FnMut(&F) -> Result<G, E>) -> Result<Expr<G>, E> {
        Ok(match self {
            Self::Feature(feature) => Expr::Feature(name(feature)?),
            Self::Value(value) => Expr::Value(value.clone()),
            Self::Unary(op, of) => Expr::Unary(*op, Box::new(of.map(name)?)),
            Self::Binary(op, a, b) => Expr::Binary(*op, Box::new(a.map(name)?), Box::new(b.map(name)?)),
            Self::Call(function, of) => {
                Expr::Call(function.clone(), of.iter().map(|of| of.map(name)).collect::<Result<_, E>>()?)
            }
        })
    }

    /// The type of its values, `None` for the constant null.
    ///
    /// # Errors
    /// Says which operator cannot be applied to which types.
    pub fn ty(&self, of: &impl Fn(&F) -> ValueType) -> Result<Option<ValueType>, String> {
        use ValueType::{Bool, Float, Int};
        Ok(match self {
            Self::Feature(feature) => Some(of(feature)),
            Self::Value(value) => value.value_type(),
            Self::Call(function, args) => {
                let args = args.iter().map(|arg| arg.ty(of)).collect::<Result<Vec<_>, _>>()?;
                function.check(&args)?;
                Some(function.ty)
            }
            Self::Unary(op, a) => match (op, a.ty(of)?) {
                (Unary::IsNull, _) | (Unary::Not, Some(Bool) | None) => Some(Bool),
                (Unary::Neg, ty @ (Some(Int | Float) | None)) => ty,
                (op, Some(ty)) => return Err(format!("{op:?} of {ty}")),
            },
            Self::Binary(op, a, b) => {
                let (left, right) = (a.ty(of)?, b.ty(of)?);
                let fail = || {
                    let name = |ty: Option<ValueType>| ty.map_or_else(|| "null".to_owned(), |ty| ty.to_string());
                    Err(format!("{} {op} {}", name(left), name(right)))
                };
                let numbers = [left, right].iter().all(|ty| matches!(ty, None | Some(Int | Float)));
                match op {
                    Binary::And | Binary::Or if [left, right].iter().all(|ty| matches!(ty, None | Some(Bool))) => Some(Bool),
                    Binary::Div if numbers => Some(Float),
                    Binary::Add | Binary::Sub | Binary::Mul if numbers => {
                        Some(if left == Some(Float) || right == Some(Float) { Float } else { Int })
                    }
                    Binary::And | Binary::Or | Binary::Add | Binary::Sub | Binary::Mul | Binary::Div => return fail(),
                    _ if numbers || left == right || left.is_none() || right.is_none() => Some(Bool),
                    _ => return fail(),
                }
            }
        })
    }
}

impl Expr<FeatureSlot> {
    /// Its value for one update; null where the update does not write a feature.
    pub fn evaluate(&self, block: &[u8]) -> Value {
        match self {
            Self::Feature(slot) => {
                let cell = cells(block).and_then(|mut cells| cells.find(|(at, _)| at == slot));
                cell.and_then(|(_, cell)| Value::decode(cell)).map(|(value, _)| value).unwrap_or_default()
            }
            Self::Value(value) => value.clone(),
            Self::Unary(op, of) => unary(*op, of.evaluate(block)),
            Self::Binary(op, a, b) => binary(*op, a.evaluate(block), || b.evaluate(block)),
            Self::Call(function, args) => {
                let args: Vec<Value> = args.iter().map(|arg| arg.evaluate(block)).collect();
                (function.run)(&args)
            }
        }
    }
}

fn unary(op: Unary, value: Value) -> Value {
    match (op, value) {
        (Unary::IsNull, value) => Value::Bool(value == Value::Null),
        (Unary::Not, Value::Bool(value)) => Value::Bool(!value),
        (Unary::Neg, Value::Int(value)) => value.checked_neg().map_or(Value::Null, Value::Int),
        (Unary::Neg, Value::Float(value)) => Value::Float(-value),
        _ => Value::Null,
    }
}

fn binary(op: Binary, a: Value, b: impl FnOnce() -> Value) -> Value {
    let decisive = Value::Bool(op == Binary::Or);
    match op {
        Binary::And | Binary::Or if a == decisive => decisive,
        Binary::And | Binary::Or => match (a, b()) {
            (_, b) if b == decisive => decisive,
            (Value::Null, _) | (_, Value::Null) => Value::Null,
            (_, b) => b,
        },
        Binary::Add | Binary::Sub | Binary::Mul | Binary::Div => arithmetic(op, &a, &b()),
        _ => compare(&a, &b()).map_or(Value::Null, |order| {
            Value::Bool(match op {
                Binary::Eq => order == Some(Ordering::Equal),
                Binary::Ne => order != Some(Ordering::Equal),
                Binary::Lt => order == Some(Ordering::Less),
                Binary::Le => matches!(order, Some(Ordering::Less | Ordering::Equal)),
                Binary::Gt => order == Some(Ordering::Greater),
                _ => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
            })
        }),
    }
}

/// Whole numbers that overflow give null, as does a division by zero.
fn arithmetic(op: Binary, a: &Value, b: &Value) -> Value {
    if let (Value::Int(a), Value::Int(b), true) = (a, b, op != Binary::Div) {
        let result = match op {
            Binary::Add => a.checked_add(*b),
            Binary::Sub => a.checked_sub(*b),
            _ => a.checked_mul(*b),
        };
        return result.map_or(Value::Null, Value::Int);
    }
    let (Some(a), Some(b)) = (float(a), float(b)) else { return Value::Null };
    match op {
        Binary::Add => Value::Float(a + b),
        Binary::Sub => Value::Float(a - b),
        Binary::Mul => Value::Float(a * b),
        _ if b == 0.0 => Value::Null,
        _ => Value::Float(a / b),
    }
}

fn float(value: &Value) -> Option<f64> {
    match value {
        Value::Int(value) => Some(*value as f64),
        Value::Float(value) => Some(*value),
        _ => None,
    }
}

/// `None` where one is null or the types cannot be compared; `Some(None)` where they have no order (NaN).
fn compare(a: &Value, b: &Value) -> Option<Option<Ordering>> {
    Some(match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        (Value::Int(a), Value::Int(b)) => Some(a.cmp(b)),
        (Value::Time(a), Value::Time(b)) => Some(a.cmp(b)),
        (Value::Str(a), Value::Str(b)) => Some(a.cmp(b)),
        (Value::Bytes(a), Value::Bytes(b)) => Some(a.cmp(b)),
        _ => float(a)?.partial_cmp(&float(b)?),
    })
}

impl fmt::Display for Binary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Add => "+",
            Self::Sub => "-",
            Self::Mul => "*",
            Self::Div => "/",
            Self::Eq => "==",
            Self::Ne => "!=",
            Self::Lt => "<",
            Self::Le => "<=",
            Self::Gt => ">",
            Self::Ge => ">=",
            Self::And => "&&",
            Self::Or => "||",
        })
    }
}

impl<F: fmt::Display> fmt::Display for Expr<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Feature(feature) => feature.fmt(f),
            Self::Value(Value::Null) => f.write_str("null"),
            Self::Value(Value::Bool(value)) => value.fmt(f),
            Self::Value(Value::Int(value)) => value.fmt(f),
            Self::Value(Value::Float(value)) => write!(f, "{value:?}"),
            Self::Value(Value::Str(value)) => write!(f, "{value:?}"),
            Self::Value(value) => write!(f, "{value:?}"),
            Self::Unary(Unary::Not, of) => write!(f, "!{of}"),
            Self::Unary(Unary::Neg, of) => match **of {
                // `-1.is_null()` would be `(-1).is_null()`.
                Self::Unary(Unary::IsNull, _) => write!(f, "-({of})"),
                _ => write!(f, "-{of}"),
            },
            Self::Unary(Unary::IsNull, of) => match **of {
                // `!a.is_null()` would be `!(a.is_null())`.
                Self::Unary(Unary::Not | Unary::Neg, _) => write!(f, "({of}).is_null()"),
                _ => write!(f, "{of}.is_null()"),
            },
            Self::Binary(op, a, b) => write!(f, "({a} {op} {b})"),
            Self::Call(function, args) => {
                write!(f, "{}(", function.name)?;
                for (nth, arg) in args.iter().enumerate() {
                    write!(f, "{}{arg}", if nth > 0 { ", " } else { "" })?;
                }
                f.write_str(")")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FeatureValue;

    fn feature(slot: u16) -> Box<Expr<FeatureSlot>> {
        Box::new(Expr::Feature(FeatureSlot(slot)))
    }
    fn value(value: Value) -> Box<Expr<FeatureSlot>> {
        Box::new(Expr::Value(value))
    }
    fn int(number: i64) -> Value {
        Value::Int(number)
    }

    /// slot 1: 40, slot 3: "failed", slot 4: null
    fn block() -> Vec<u8> {
        let mut block = vec![3, 0, 1, 0, 3, 0, 4, 0];
        40i64.encode(&mut block);
        "failed".encode(&mut block);
        Value::Null.encode(&mut block);
        block
    }

    #[test]
    fn an_expression_reads_what_the_update_writes() {
        let failed = Expr::Binary(Binary::Eq, feature(3), value(Value::Str("failed".into())));
        let large = Expr::Binary(Binary::Gt, feature(1), value(Value::Float(39.5)));
        let both = Expr::Binary(Binary::And, Box::new(failed), Box::new(large));
        assert_eq!(both.evaluate(&block()), Value::Bool(true));
        assert_eq!(feature(2).evaluate(&block()), Value::Null, "not written");
        let named = both.map(&mut |slot| Ok::<_, ()>(["id", "amount", "", "status"][usize::from(slot.0)])).unwrap();
        assert_eq!(named.to_string(), "((status == \"failed\") && (amount > 39.5))");
    }

    #[test]
    fn null_goes_through_all_but_what_decides_without_it() {
        let null = || feature(4);
        let evaluate = |op, a, b| Expr::Binary(op, a, b).evaluate(&block());
        assert_eq!(evaluate(Binary::Add, null(), feature(1)), Value::Null);
        assert_eq!(evaluate(Binary::Eq, null(), null()), Value::Null);
        assert_eq!(evaluate(Binary::Or, null(), value(Value::Bool(true))), Value::Bool(true));
        assert_eq!(evaluate(Binary::And, value(Value::Bool(false)), null()), Value::Bool(false));
        assert_eq!(evaluate(Binary::And, value(Value::Bool(true)), null()), Value::Null);
        assert_eq!(Expr::Unary(Unary::IsNull, null()).evaluate(&block()), Value::Bool(true));
    }

    #[test]
    fn what_cannot_be_computed_is_null_and_never_a_panic() {
        let evaluate = |op, a, b| Expr::Binary(op, value(a), value(b)).evaluate(&[]);
        assert_eq!(evaluate(Binary::Add, int(i64::MAX), int(1)), Value::Null);
        assert_eq!(evaluate(Binary::Div, int(1), int(0)), Value::Null);
        assert_eq!(evaluate(Binary::Lt, Value::Float(f64::NAN), int(0)), Value::Bool(false));
        assert_eq!(Expr::Unary(Unary::Neg, value(int(i64::MIN))).evaluate(&[1]), Value::Null);
        assert_eq!(evaluate(Binary::Div, int(3), int(2)), Value::Float(1.5));
    }

    #[test]
    fn types_are_found_and_nonsense_is_told() {
        let of = |slot: &FeatureSlot| if slot.0 == 1 { ValueType::Int } else { ValueType::Str };
        let ty = |op, a, b| Expr::Binary(op, a, b).ty(&of);
        assert_eq!(ty(Binary::Mul, feature(1), value(Value::Float(0.5))), Ok(Some(ValueType::Float)));
        assert_eq!(ty(Binary::Add, feature(1), feature(1)), Ok(Some(ValueType::Int)));
        assert_eq!(ty(Binary::Add, feature(1), feature(3)), Err("int + str".to_owned()));
        assert_eq!(ty(Binary::Eq, feature(3), value(Value::Null)), Ok(Some(ValueType::Bool)));
    }

    #[test]
    fn functions_join_in() {
        let length = Function::new("length", ValueType::Int, |args| match args {
            [Value::Str(text)] => Value::Int(text.len() as i64),
            _ => Value::Null,
        });
        assert_eq!(Expr::Call(length, vec![*feature(3)]).evaluate(&block()), int(6));
    }
}
