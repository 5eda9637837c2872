//! Expressions as text: `status == "failed" && amount * 1.5 > 10`. What [`Expr`] prints reads back as an equal expression.
//!
//! The operators are Rust's, and bind as there: `!` and `-`, then `*` and `/`, `+` and `-`, comparisons (which do not chain), `&&`,
//! `||`; `.is_null()` stands behind what it asks about. Names are features; `null`, `true`, `false`, numbers and text in double
//! quotes are constants. Functions are Rust code, and have no text.

use std::str::FromStr;

use super::{Binary, Expr, Unary};
use crate::Value;

/// How deep parentheses and signs may stand inside each other: text from outside must not decide how deep we call.
const DEPTH_MAX: usize = 64;

impl FromStr for Expr<String> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut reader = Reader { text, at: 0, depth: 0 };
        let read = reader
            .any_of_two()
            .and_then(|expr| if reader.rest().is_empty() { Ok(expr) } else { Err(reader.wrong("an operator, or the end")) });
        read.map_err(|why| format!("`{text}` is not an expression: {why}"))
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

type Read = Result<Expr<String>, String>;

impl<'a> Reader<'a> {
    /// What is left, without blanks before it.
    fn rest(&mut self) -> &'a str {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start().len();
        &self.text[self.at..]
    }

    fn wrong(&mut self, expected: &str) -> String {
        match self.rest() {
            "" => format!("expected {expected} at its end"),
            rest => format!("expected {expected} at `{rest}`"),
        }
    }

    fn take(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        self.at += if found { token.len() } else { 0 };
        found
    }

    /// The first of these operators that stands here.
    fn operator(&mut self, operators: &[(&str, Binary)]) -> Option<Binary> {
        operators.iter().find(|(token, _)| self.take(token)).map(|(_, op)| *op)
    }

    /// Operands of the same rank, from left to right.
    fn chain(&mut self, operators: &[(&str, Binary)], operand: fn(&mut Self) -> Read) -> Read {
        let mut left = operand(self)?;
        while let Some(op) = self.operator(operators) {
            left = Expr::Binary(op, Box::new(left), Box::new(operand(self)?));
        }
        Ok(left)
    }

    fn any_of_two(&mut self) -> Read {
        self.chain(&[("||", Binary::Or)], Self::both)
    }
    fn both(&mut self) -> Read {
        self.chain(&[("&&", Binary::And)], Self::comparison)
    }

    fn comparison(&mut self) -> Read {
        const OPERATORS: &[(&str, Binary)] = &[
            ("==", Binary::Eq),
            ("!=", Binary::Ne),
            ("<=", Binary::Le),
            (">=", Binary::Ge),
            ("<", Binary::Lt),
            (">", Binary::Gt),
        ];
        let left = self.sum()?;
        let Some(op) = self.operator(OPERATORS) else { return Ok(left) };
        let compared = Expr::Binary(op, Box::new(left), Box::new(self.sum()?));
        if self.operator(OPERATORS).is_some() {
            return Err("comparisons do not chain: write `a < b && b < c`".to_owned());
        }
        Ok(compared)
    }

    fn sum(&mut self) -> Read {
        self.chain(&[("+", Binary::Add), ("-", Binary::Sub)], Self::product)
    }
    fn product(&mut self) -> Read {
        self.chain(&[("*", Binary::Mul), ("/", Binary::Div)], Self::signed)
    }

    fn signed(&mut self) -> Read {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(format!("it is nested more than {DEPTH_MAX} deep"));
        }
        let read = if self.take("!") {
            self.signed().map(|of| Expr::Unary(Unary::Not, Box::new(of)))
        } else if self.take("-") {
            if self.rest().starts_with(|c: char| c.is_ascii_digit()) {
                self.at -= 1; // a sign of the number itself, so that the least whole number can be written
                self.asked()
            } else {
                self.signed().map(|of| Expr::Unary(Unary::Neg, Box::new(of)))
            }
        } else {
            self.asked()
        };
        self.depth -= 1;
        read
    }

    /// Something, with `.is_null()` behind it or not.
    fn asked(&mut self) -> Read {
        let mut read = self.single()?;
        while self.take(".") {
            if !(self.take("is_null") && self.take("(") && self.take(")")) {
                return Err(self.wrong("`is_null()`"));
            }
            read = Expr::Unary(Unary::IsNull, Box::new(read));
        }
        Ok(read)
    }

    fn single(&mut self) -> Read {
        if self.take("(") {
            let inside = self.any_of_two()?;
            return if self.take(")") { Ok(inside) } else { Err(self.wrong("`)`")) };
        }
        let rest = self.rest();
        match rest.chars().next() {
            Some('"') => self.string().map(Expr::Value),
            Some('0'..='9' | '-') => self.number().map(Expr::Value),
            Some(first) if first.is_alphabetic() || first == '_' => self.name(),
            _ => Err(self.wrong("a feature, a constant or `(`")),
        }
    }

    fn name(&mut self) -> Read {
        let rest = self.rest();
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        self.at += end;
        if self.rest().starts_with("::") || self.rest().starts_with('(') {
            return Err(format!("`{}…` is a function, and functions can be used in Rust alone", &rest[..end]));
        }
        Ok(match &rest[..end] {
            "null" => Expr::Value(Value::Null),
            "true" => Expr::Value(Value::Bool(true)),
            "false" => Expr::Value(Value::Bool(false)),
            name => Expr::Feature(name.to_owned()),
        })
    }

    fn number(&mut self) -> Result<Value, String> {
        let rest = self.rest();
        let mut end = rest.find(|c: char| !matches!(c, '0'..='9' | '-')).unwrap_or(rest.len());
        end = end.min(rest[1..].find('-').map_or(end, |minus| minus + 1));
        let digits = |from: usize| rest[from..].find(|c: char| !c.is_ascii_digit()).map_or(rest.len(), |end| from + end);
        let whole = end;
        if rest[end..].starts_with('.') && rest[end + 1..].starts_with(|c: char| c.is_ascii_digit()) {
            end = digits(end + 1);
        }
        if let Some(exponent) = rest[end..].strip_prefix(['e', 'E']) {
            let sign = usize::from(exponent.starts_with(['-', '+']));
            end = digits(end + 1 + sign);
        }
        self.at += end;
        let number = &rest[..end];
        let read = if end == whole { number.parse().ok().map(Value::Int) } else { number.parse().ok().map(Value::Float) };
        read.filter(|read| !matches!(read, Value::Float(number) if !number.is_finite()))
            .ok_or_else(|| format!("the number {number} is too large, or not written out"))
    }

    /// Text with the escapes of Rust.
    fn string(&mut self) -> Result<Value, String> {
        let rest = self.rest();
        let mut text = String::new();
        let mut chars = rest.char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.at += at + 1;
                    return Ok(Value::Str(text.into()));
                }
                '\\' => text.push(escaped(&mut chars).ok_or("an escape is none of \\\" \\\\ \\' \\n \\r \\t \\0 \\u{…}")?),
                c => text.push(c),
            }
        }
        Err("a text has no end".to_owned())
    }
}

/// What stands behind a `\`.
fn escaped(chars: &mut impl Iterator<Item = (usize, char)>) -> Option<char> {
    Some(match chars.next()?.1 {
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        '0' => '\0',
        c @ ('"' | '\\' | '\'') => c,
        'u' => {
            let opens = chars.next()?.1 == '{';
            let digits: String = chars.take_while(|(_, c)| *c != '}').map(|(_, c)| c).collect();
            char::from_u32(u32::from_str_radix(&digits, 16).ok()?).filter(|_| opens)?
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> String {
        text.parse::<Expr>().map_or_else(|error| error, |expr| expr.to_string())
    }

    #[test]
    fn operators_bind_as_in_rust() {
        for (text, expected) in [
            ("status == \"failed\" && amount > 10", "((status == \"failed\") && (amount > 10))"),
            ("a || b && !c", "(a || (b && !c))"),
            ("a - b - c * -2", "((a - b) - (c * -2))"),
            ("a-1", "(a - 1)"),
            ("-a / 2.5e-3 <= 1", "((-a / 0.0025) <= 1)"),
            ("!(a == null)", "!(a == null)"),
            ("!a.is_null()", "!a.is_null()"),
            ("(!a).is_null ( )", "(!a).is_null()"),
            ("(a + b).is_null()", "(a + b).is_null()"),
            ("-(0.is_null())", "-(0.is_null())"),
            (r#""a\"\\\n\u{e9}" != x"#, r#"("a\"\\\né" != x)"#),
            ("-9223372036854775808", "-9223372036854775808"),
            ("1.0", "1.0"),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_expression_is_told_with_its_place() {
        for (text, expected) in [
            ("", "`` is not an expression: expected a feature, a constant or `(` at its end"),
            ("a b", "`a b` is not an expression: expected an operator, or the end at `b`"),
            ("(a", "`(a` is not an expression: expected `)` at its end"),
            ("a = 1", "`a = 1` is not an expression: expected an operator, or the end at `= 1`"),
            ("a.len()", "`a.len()` is not an expression: expected `is_null()` at `len()`"),
            ("a < b < c", "`a < b < c` is not an expression: comparisons do not chain: write `a < b && b < c`"),
            ("\"a", "`\"a` is not an expression: a text has no end"),
            ("f(a)", "`f(a)` is not an expression: `f…` is a function, and functions can be used in Rust alone"),
            ("1e999", "`1e999` is not an expression: the number 1e999 is too large, or not written out"),
            (
                "99999999999999999999",
                "`99999999999999999999` is not an expression: the number 99999999999999999999 is too large, or not written out",
            ),
        ] {
            assert_eq!(read(text), expected);
        }
        assert!(read(&"(".repeat(100_000)).contains("64 deep"));
        assert!(read(&"!".repeat(100_000)).contains("64 deep"));
    }

    fn expressions() -> impl Strategy<Value = Expr> {
        let constant = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::Int),
            any::<f64>().prop_filter("text has no other", |number| number.is_finite()).prop_map(Value::Float),
            any::<String>().prop_map(|text| Value::Str(text.into())),
        ];
        let name = "[a-z][a-z0-9_]{0,8}".prop_filter("a constant", |name| !matches!(&**name, "null" | "true" | "false"));
        let leaf = prop_oneof![name.prop_map(Expr::Feature), constant.prop_map(Expr::Value)];
        let binary = prop::sample::select(vec![
            Binary::Add,
            Binary::Sub,
            Binary::Mul,
            Binary::Div,
            Binary::Eq,
            Binary::Ne,
            Binary::Lt,
            Binary::Le,
            Binary::Gt,
            Binary::Ge,
            Binary::And,
            Binary::Or,
        ]);
        leaf.prop_recursive(5, 40, 2, move |inner| {
            prop_oneof![
                inner.clone().prop_map(|of| Expr::Unary(Unary::Not, Box::new(of))),
                // The sign of a constant is the constant's own.
                inner
                    .clone()
                    .prop_filter("a sign", |of| !matches!(of, Expr::Value(_)))
                    .prop_map(|of| Expr::Unary(Unary::Neg, Box::new(of))),
                inner.clone().prop_map(|of| Expr::Unary(Unary::IsNull, Box::new(of))),
                (binary.clone(), inner.clone(), inner).prop_map(|(op, a, b)| Expr::Binary(op, Box::new(a), Box::new(b))),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(expr in expressions()) {
            prop_assert_eq!(expr.to_string().parse::<Expr>(), Ok(expr));
        }
        #[test]
        fn no_text_makes_it_panic(text in "[a-z0-9 .()!\"\\\\+*/<>=&|e{}ü-]{0,24}") {
            let _ = text.parse::<Expr>();
        }
    }
}
