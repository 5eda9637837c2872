//! Names: the snake case of a struct, serde's ways to rename a field, and which name was probably meant.

use syn::Ident;

/// `UserProfile` → `user_profile`, `HTTPRequest` → `http_request`.
pub(crate) fn snake_case(name: &str) -> String {
    let letters: Vec<char> = name.chars().collect();
    let mut snake = String::new();
    for (index, letter) in letters.iter().enumerate() {
        let before = index.checked_sub(1).map(|before| letters[before]);
        let after_small = before.is_some_and(|before| before.is_lowercase() || before.is_ascii_digit());
        let ends_capitals =
            before.is_some_and(char::is_uppercase) && letters.get(index + 1).is_some_and(|next| next.is_lowercase());
        if letter.is_uppercase() && (after_small || ends_capitals) {
            snake.push('_');
        }
        snake.extend(letter.to_lowercase());
    }
    snake
}

/// The name of the class that a struct declares: snake case, without `Features` at its end.
pub(crate) fn class_name(strukt: &str) -> String {
    let short = strukt.strip_suffix("Features").filter(|short| !short.is_empty()).unwrap_or(strukt);
    snake_case(short)
}

/// A field's name without `r#`.
pub(crate) fn plain(ident: &Ident) -> String {
    let name = ident.to_string();
    name.strip_prefix("r#").map_or(name.clone(), str::to_owned)
}

/// What serde's `rename_all` makes of a field's name; `None` for a rule that serde does not know (serde then tells).
pub(crate) fn renamed(field: &str, rule: &str) -> Option<String> {
    let pascal = || -> String {
        let words = field.split('_').filter(|word| !word.is_empty());
        words.flat_map(|word| word[..1].to_ascii_uppercase().chars().chain(word[1..].chars()).collect::<Vec<_>>()).collect()
    };
    Some(match rule {
        "lowercase" | "snake_case" => field.to_owned(),
        "UPPERCASE" | "SCREAMING_SNAKE_CASE" => field.to_ascii_uppercase(),
        "PascalCase" => pascal(),
        "camelCase" => {
            let pascal = pascal();
            let first = pascal.chars().next()?;
            format!("{}{}", first.to_ascii_lowercase(), &pascal[first.len_utf8()..])
        }
        "kebab-case" => field.replace('_', "-"),
        "SCREAMING-KEBAB-CASE" => field.to_ascii_uppercase().replace('_', "-"),
        _ => return None,
    })
}

/// `; did you mean …?` if one of the names is near.
pub(crate) fn did_you_mean<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let near = known
        .into_iter()
        .map(|known| (distance(name, known), known))
        .filter(|(distance, _)| *distance <= name.len().div_ceil(3))
        .min_by_key(|(distance, _)| *distance);
    near.map(|(_, known)| format!("; did you mean `{known}`?")).unwrap_or_default()
}

/// Insertions, removals and replacements between two names.
fn distance(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in right.bytes().enumerate() {
            let next = (diagonal + usize::from(a != b)).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = std::mem::replace(&mut row[j + 1], next);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_named_like_its_struct_in_snake_case_without_features() {
        for (strukt, class) in [
            ("User", "user"),
            ("UserProfile", "user_profile"),
            ("HTTPRequest", "http_request"),
            ("UserFeatures", "user"),
            ("Features", "features"),
            ("Route66Stop", "route66_stop"),
        ] {
            assert_eq!(class_name(strukt), class);
        }
    }

    #[test]
    fn fields_are_renamed_as_serde_renames_them() {
        for (rule, name) in [
            ("lowercase", "user_id"),
            ("UPPERCASE", "USER_ID"),
            ("PascalCase", "UserId"),
            ("camelCase", "userId"),
            ("snake_case", "user_id"),
            ("SCREAMING_SNAKE_CASE", "USER_ID"),
            ("kebab-case", "user-id"),
            ("SCREAMING-KEBAB-CASE", "USER-ID"),
        ] {
            assert_eq!(renamed("user_id", rule).as_deref(), Some(name));
        }
        assert_eq!(renamed("user_id", "studly"), None);
    }

    #[test]
    fn only_a_near_name_is_suggested() {
        assert_eq!(did_you_mean("sorce", ["source", "name"]), "; did you mean `source`?");
        assert_eq!(did_you_mean("deadline", ["source", "name"]), "");
    }
}
