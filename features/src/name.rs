//! Names of classes, features, resolvers and sources: which are allowed, and which one was probably meant.
//!
//! A feature is written `class.feature` everywhere outside its class ("fully qualified name"). The characters `.`, `@`,
//! `[` and the double underscore are kept for paths, versions, projections and windows.

/// Names that begin with this are ours.
const RESERVED: &str = "karst";

/// Longest name, in bytes: names travel in metric labels and in every answer.
pub const NAME_BYTES_MAX: usize = 64;

/// Why `name` cannot be a name of a class, feature, or resolver; `None` if it can.
pub(crate) fn wrong_name(name: &str) -> Option<String> {
    let mut bytes = name.bytes();
    let shaped = bytes.next().is_some_and(|first| first.is_ascii_lowercase())
        && bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    if !shaped || name.len() > NAME_BYTES_MAX {
        return Some(format!(
            "names begin with a lower-case letter and go on with lower-case letters, digits and \"_\", at most {NAME_BYTES_MAX} in all"
        ));
    }
    if name.contains("__") {
        return Some("a double underscore is reserved for windows".to_owned());
    }
    if name == RESERVED || name.starts_with("karst_") {
        return Some(format!("names that begin with \"{RESERVED}\" are reserved"));
    }
    None
}

/// Why `name` cannot be the name of a source; `None` if it can. Topics are often called `card-events.v2`, so sources may
/// contain `-` and `.` too; they never stand inside a feature's name.
pub(crate) fn wrong_source_name(name: &str) -> Option<String> {
    let shaped = !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
        && name.bytes().any(|byte| byte.is_ascii_alphanumeric());
    (!shaped).then(|| {
        format!("names of sources consist of letters, digits, \"_\", \"-\" and \".\", at most {NAME_BYTES_MAX} in all")
    })
}

/// The candidate that `name` is probably a slip of; `None` if none is near. Of equally near ones, the first.
pub(crate) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = name.chars().count().div_ceil(3);
    candidates
        .into_iter()
        .map(|candidate| (distance(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `did you mean "…"?`, or else a list of what there is (shortened), or `None` if there is nothing.
pub(crate) fn suggest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    const LISTED_MAX: usize = 8; // more than one glance can take in
    let candidates: Vec<&str> = candidates.into_iter().collect();
    if let Some(near) = nearest(name, candidates.iter().copied()) {
        return Some(format!("did you mean \"{near}\"?"));
    }
    let listed: Vec<String> = candidates.iter().take(LISTED_MAX).map(|name| format!("\"{name}\"")).collect();
    let more = if candidates.len() > LISTED_MAX { ", …" } else { "" };
    (!listed.is_empty()).then(|| format!("there is {}{more}", listed.join(", ")))
}

/// Edits between two names: insert, remove, replace, or swap two neighbours (optimal string alignment).
fn distance(left: &str, right: &str) -> usize {
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().collect(), right.chars().collect());
    let mut rows = [vec![0; right.len() + 1], (0..=right.len()).collect(), vec![0; right.len() + 1]];
    for i in 1..=left.len() {
        let [before_last, last, row] = &mut rows;
        row[0] = i;
        for j in 1..=right.len() {
            let replaced = last[j - 1] + usize::from(left[i - 1] != right[j - 1]);
            row[j] = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && left[i - 1] == right[j - 2] && left[i - 2] == right[j - 1] {
                row[j] = row[j].min(before_last[j - 2] + 1);
            }
        }
        rows.rotate_left(1);
    }
    rows[1][right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_the_name_that_was_meant() {
        let names = ["user.last_page", "user.clicks", "route.last_page"];
        assert_eq!(nearest("user.lastpage", names), Some("user.last_page"));
        assert_eq!(nearest("user.clikcs", names), Some("user.clicks"));
        assert_eq!(nearest("merchant.category", names), None);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("ca", "ac"), 1);
        assert_eq!(distance("same", "same"), 0);
    }

    #[test]
    fn only_plain_lower_case_names_are_taken() {
        for good in ["a", "last_page", "x9", &"a".repeat(64)] {
            assert_eq!(wrong_name(good), None, "{good}");
        }
        for wrong in ["", "Last", "9x", "_x", "a-b", "a.b", "ünder", "a__b", "karst", "karst_x", &"a".repeat(65)] {
            assert!(wrong_name(wrong).is_some(), "{wrong} was taken");
        }
        assert_eq!(wrong_source_name("card-events.v2"), None);
        for wrong in ["", "a b", "..", "a[0]", &"a".repeat(65)] {
            assert!(wrong_source_name(wrong).is_some(), "{wrong} was taken");
        }
    }
}
