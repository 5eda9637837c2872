//! Aggregations as text, for declarations in files: `count`, `mean(delay)`, `last_n(destination, 3)`,
//! `max_by_n(merchant, by = amount, n = 3)`. What [`WindowedFeature`] says of itself reads back.

use karst_types::Aggregation;

use crate::{WindowedFeature, name::suggest};

/// What stands in parentheses behind the input.
#[derive(Clone, Copy)]
enum Form {
    Input(Aggregation),
    /// A number, and what it is called.
    Number(&'static str, fn(u16) -> Aggregation),
    /// A share from 0 to 1.
    Share,
    /// `by`, and `n`.
    By(fn(u16) -> Aggregation),
}

const FORMS: [(&str, Form); 20] = [
    ("count", Form::Input(Aggregation::Count)),
    ("sum", Form::Input(Aggregation::Sum)),
    ("mean", Form::Input(Aggregation::Mean)),
    ("min", Form::Input(Aggregation::Min)),
    ("max", Form::Input(Aggregation::Max)),
    ("var", Form::Input(Aggregation::Var)),
    ("var_pop", Form::Input(Aggregation::VarPop)),
    ("std", Form::Input(Aggregation::Std)),
    ("std_pop", Form::Input(Aggregation::StdPop)),
    ("any", Form::Input(Aggregation::Any)),
    ("all", Form::Input(Aggregation::All)),
    ("first", Form::Input(Aggregation::First)),
    ("last", Form::Input(Aggregation::Last)),
    ("first_n", Form::Number("n", Aggregation::FirstN)),
    ("last_n", Form::Number("n", Aggregation::LastN)),
    ("min_by_n", Form::By(Aggregation::MinByN)),
    ("max_by_n", Form::By(Aggregation::MaxByN)),
    ("approx_count_distinct", Form::Input(Aggregation::ApproxCountDistinct)),
    ("approx_percentile", Form::Share),
    ("approx_top_k", Form::Number("k", Aggregation::ApproxTopK)),
];

impl Form {
    /// As it is written, for errors.
    fn text(self, name: &str) -> String {
        match self {
            Self::Input(Aggregation::Count) => name.to_owned(),
            Self::Input(_) => format!("{name}(input)"),
            Self::Number(number, _) => format!("{name}(input, {number})"),
            Self::Share => format!("{name}(input, quantile)"),
            Self::By(_) => format!("{name}(input, by = …, n = …)"),
        }
    }
}

/// The feature's aggregation with its input and its `by`.
///
/// # Errors
/// Says what is expected instead.
pub(crate) fn read(feature: WindowedFeature, text: &str) -> Result<WindowedFeature, String> {
    let text = text.trim();
    let (name, inside) = match text.split_once('(') {
        Some((name, inside)) => {
            (name.trim_end(), inside.strip_suffix(')').ok_or(format!("`{text}`: expected `)` at its end"))?)
        }
        None => (text, ""),
    };
    let Some((_, form)) = FORMS.iter().find(|(known, _)| *known == name) else {
        let near = suggest(name, FORMS.iter().map(|(name, _)| *name)).unwrap_or_default();
        return Err(format!("there is no aggregation \"{name}\"; {near}"));
    };
    let wrong = || format!("`{text}`: expected `{}`", form.text(name));
    let (mut input, mut by, mut last) = (None, None, None);
    for argument in arguments(inside) {
        let (called, value) = named(argument);
        let place = match (called, form) {
            (Some("by"), Form::By(_)) => &mut by,
            (Some("n"), Form::By(_)) | (Some("quantile"), Form::Share) => &mut last,
            (Some(called), Form::Number(number, _)) if called == *number => &mut last,
            (None, _) if input.is_none() => &mut input,
            (None, Form::Number(..) | Form::Share) => &mut last,
            _ => return Err(wrong()),
        };
        if place.replace(value).is_some() {
            return Err(wrong());
        }
    }
    let number = |make: fn(u16) -> Aggregation| last.and_then(|text| text.parse().ok()).map(make);
    let aggregation = match form {
        Form::Input(aggregation) => Some(*aggregation),
        Form::Number(_, make) | Form::By(make) => number(*make),
        Form::Share => last.and_then(|text| text.parse().ok()).map(Aggregation::ApproxPercentile),
    };
    let by_is_there = by.is_some() || !matches!(form, Form::By(_));
    let aggregation = aggregation.filter(|_| by_is_there && (input.is_some() || name == "count")).ok_or_else(wrong)?;
    let feature = WindowedFeature { aggregation, ..feature };
    let feature = input.into_iter().fold(feature, WindowedFeature::input);
    Ok(by.into_iter().fold(feature, WindowedFeature::by))
}

/// `by` and `amount` of `by = amount`; `a == b` has no name.
fn named(argument: &str) -> (Option<&str>, &str) {
    match argument.split_once('=') {
        Some((name, value)) if !value.starts_with('=') && name.trim().bytes().all(|byte| byte.is_ascii_lowercase()) => {
            (Some(name.trim()), value.trim())
        }
        _ => (None, argument.trim()),
    }
}

/// The parts between commas that stand in no parentheses and no text.
fn arguments(inside: &str) -> Vec<&str> {
    let (mut parts, mut start, mut depth, mut quoted, mut escaped) = (Vec::new(), 0, 0_usize, false, false);
    for (at, c) in inside.char_indices() {
        match c {
            _ if std::mem::take(&mut escaped) => {}
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if quoted => {}
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(&inside[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&inside[start..]);
    parts.retain(|part| !part.trim().is_empty());
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> String {
        match read(WindowedFeature::new("x", Aggregation::Count), text) {
            Ok(feature) if feature.wrong.is_empty() => feature.aggregate(),
            Ok(feature) => feature.wrong.join("; "),
            Err(error) => error,
        }
    }

    #[test]
    fn every_aggregation_reads_back_from_what_it_says_of_itself() {
        for (name, form) in FORMS {
            let text = match form {
                Form::Input(Aggregation::Count) => name.to_owned(),
                Form::Input(_) => format!("{name}((a + b))"),
                Form::Number(..) => format!("{name}(a, 3)"),
                Form::Share => format!("{name}(a, 0.95)"),
                Form::By(_) => format!("{name}(a, by = (b == \",)\\\"(\"), n = 3)"),
            };
            assert_eq!(told(&text), text);
        }
        assert_eq!(told(" approx_top_k ( a , k = 5 ) "), "approx_top_k(a, 5)");
        assert_eq!(told("count(a)"), "count(a)");
    }

    #[test]
    fn what_is_none_is_told_with_what_was_expected() {
        for (text, expected) in [
            ("cuont", "there is no aggregation \"cuont\"; did you mean \"count\"?"),
            ("mean", "`mean`: expected `mean(input)`"),
            ("mean(a", "`mean(a`: expected `)` at its end"),
            ("mean(a, b)", "`mean(a, b)`: expected `mean(input)`"),
            ("last_n(a)", "`last_n(a)`: expected `last_n(input, n)`"),
            ("last_n(a, three)", "`last_n(a, three)`: expected `last_n(input, n)`"),
            ("last_n(a, k = 3)", "`last_n(a, k = 3)`: expected `last_n(input, n)`"),
            ("max_by_n(a, n = 3)", "`max_by_n(a, n = 3)`: expected `max_by_n(input, by = …, n = …)`"),
            (
                "approx_percentile(a, 0.5, 0.9)",
                "`approx_percentile(a, 0.5, 0.9)`: expected `approx_percentile(input, quantile)`",
            ),
            ("sum(a b)", "input: `a b` is not an expression: expected an operator, or the end at `b`"),
        ] {
            assert_eq!(told(text), expected);
        }
    }
}
