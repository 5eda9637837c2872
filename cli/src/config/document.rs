//! A TOML document that is read with its places, so that every problem in it can be told, and where it stands.
//!
//! Readers take what they know by name; what nobody took is reported by [`Section::finish`] as unknown.

use std::{cell::RefCell, fmt, str::FromStr};

use karst::features::Location;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// `karst.toml:3:8`, `the environment, KARST_SERVER_BIND`, `--set server.bind`.
    pub place: String,
    /// What is wrong.
    pub what: String,
    /// What would help.
    pub hint: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)?;
        self.hint.as_ref().map_or(Ok(()), |hint| write!(f, "\n  {hint}"))
    }
}

/// A document under reading, and all problems found so far.
pub struct Document<'t> {
    name: String,
    text: &'t str,
    problems: RefCell<Vec<Problem>>,
}

impl<'t> Document<'t> {
    /// Of a file with this name.
    pub fn new(name: impl Into<String>, text: &'t str) -> Self {
        Self { name: name.into(), text, problems: RefCell::default() }
    }

    /// Parses it; syntax errors become problems, and what could be read goes on.
    pub fn parse(&self) -> DeTable<'t> {
        let (table, errors) = DeTable::parse_recoverable(self.text);
        for error in errors {
            self.problem(error.span().map_or(0, |span| span.start), error.message().to_owned(), None);
        }
        table.into_inner()
    }

    /// Adds a problem at a byte of the text.
    pub fn problem(&self, at: usize, what: String, hint: Option<String>) {
        let place = self.location(at).to_string();
        self.problems.borrow_mut().push(Problem { place, what, hint });
    }

    /// Adds a problem at a place that is not in the text.
    pub fn problem_elsewhere(&self, place: String, what: String, hint: Option<String>) {
        self.problems.borrow_mut().push(Problem { place, what, hint });
    }

    /// Line and column of a byte of the text.
    pub fn location(&self, at: usize) -> Location {
        let before = self.text.get(..at.min(self.text.len())).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |line| line.chars().count()) + 1;
        Location { file: self.name.clone().into(), line: line as u32, column: column as u32 }
    }

    /// All problems found, and none left.
    pub fn into_problems(self) -> Vec<Problem> {
        self.problems.into_inner()
    }
}

/// A table of the document under reading.
pub struct Section<'d, 't> {
    document: &'d Document<'t>,
    table: &'d DeTable<'t>,
    at: usize,
    /// As it is called in messages: `[server]`, `[[source]]`.
    name: String,
    taken: RefCell<Vec<&'static str>>,
}

impl<'d, 't> Section<'d, 't> {
    /// The whole document.
    pub fn root(document: &'d Document<'t>, table: &'d DeTable<'t>) -> Self {
        Self { document, table, at: 0, name: "the file".to_owned(), taken: RefCell::default() }
    }

    /// Where it starts.
    pub fn location(&self) -> Location {
        self.document.location(self.at)
    }

    /// Adds a problem at its start.
    pub fn problem(&self, what: impl Into<String>, hint: Option<String>) {
        self.document.problem(self.at, format!("{} {}", self.name, what.into()), hint);
    }

    fn take(&self, key: &'static str) -> Option<&'d Spanned<DeValue<'t>>> {
        self.taken.borrow_mut().push(key);
        self.table.get(key)
    }

    fn wrong(&self, value: &Spanned<DeValue<'t>>, key: &str, expected: &str) {
        let got = value.get_ref().type_str();
        self.document.problem(value.span().start, format!("{key}: expected {expected}, got {got}"), None);
    }

    /// Whether it says anything of `key`.
    pub fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Any value that may be missing.
    pub fn value(&self, key: &'static str) -> Option<Entry<'d, 't>> {
        self.take(key).map(|value| Entry { document: self.document, key, at: value.span().start, value })
    }

    /// Text that may be missing.
    pub fn text(&self, key: &'static str) -> Option<Text> {
        let value = self.take(key)?;
        let text = value.get_ref().as_str();
        if text.is_none() {
            self.wrong(value, key, "text");
        }
        text.map(|text| Text { text: text.to_owned(), at: value.span().start })
    }

    /// Text that must be there.
    pub fn required(&self, key: &'static str, example: &str) -> Option<Text> {
        if !self.table.contains_key(key) {
            self.take(key);
            self.problem(format!("lacks \"{key}\""), Some(format!("write for example: {key} = \"{example}\"")));
            return None;
        }
        self.text(key)
    }

    /// Text of a certain form, such as a duration.
    pub fn parsed<T: FromStr<Err = String>>(&self, key: &'static str) -> Option<T> {
        let text = self.text(key)?;
        let parsed = text.text.parse();
        parsed.map_err(|why| self.document.problem(text.at, format!("{key}: {why}"), None)).ok()
    }

    /// A whole number.
    pub fn count(&self, key: &'static str) -> Option<usize> {
        let value = self.take(key)?;
        let number = scalar(value.get_ref()).filter(|_| value.get_ref().is_integer()).and_then(|text| text.parse().ok());
        if number.is_none() {
            self.wrong(value, key, "a whole number from 0 on");
        }
        number
    }

    /// Yes or no.
    pub fn flag(&self, key: &'static str) -> Option<bool> {
        let value = self.take(key)?;
        let flag = value.get_ref().as_bool();
        if flag.is_none() {
            self.wrong(value, key, "true or false");
        }
        flag
    }

    /// A list of texts, or one text.
    pub fn texts(&self, key: &'static str) -> Vec<Text> {
        let Some(value) = self.take(key) else { return Vec::new() };
        let of = |value: &Spanned<DeValue<'t>>| {
            value.get_ref().as_str().map(|text| Text { text: text.to_owned(), at: value.span().start })
        };
        let texts = match value.get_ref() {
            DeValue::Array(items) => items.iter().map(of).collect(),
            _ => of(value).map(|text| vec![text]),
        };
        if texts.is_none() {
            self.wrong(value, key, "a list of texts");
        }
        texts.unwrap_or_default()
    }

    /// A table inside this one.
    pub fn section(&self, key: &'static str) -> Option<Section<'d, 't>> {
        let value = self.take(key)?;
        let table = value.get_ref().as_table();
        if table.is_none() {
            self.wrong(value, key, "a table");
        }
        table.map(|table| self.inner(table, value.span().start, format!("[{key}]")))
    }

    /// All tables written as `[[key]]`.
    pub fn sections(&self, key: &'static str) -> Vec<Section<'d, 't>> {
        let Some(value) = self.take(key) else { return Vec::new() };
        let Some(items) = value.get_ref().as_array() else {
            self.document.problem(
                value.span().start,
                format!("expected [[{key}]] with two brackets, since there can be several"),
                None,
            );
            return Vec::new();
        };
        let tables = items.iter().filter_map(|item| {
            let table = item.get_ref().as_table();
            if table.is_none() {
                self.wrong(item, key, "a table");
            }
            table.map(|table| self.inner(table, item.span().start, format!("[[{key}]]")))
        });
        tables.collect()
    }

    fn inner(&self, table: &'d DeTable<'t>, at: usize, name: String) -> Section<'d, 't> {
        Section { document: self.document, table, at, name, taken: RefCell::default() }
    }

    /// Everything in it, by names that only the user knows, in the order of the file.
    pub fn entries(&self) -> Vec<Entry<'d, 't>> {
        let mut entries: Vec<_> = self
            .table
            .iter()
            .map(|(key, value)| Entry { document: self.document, key: key.get_ref(), at: key.span().start, value })
            .collect();
        entries.sort_by_key(|entry| entry.at);
        entries
    }

    /// Reports what nobody took.
    pub fn finish(self) {
        let taken = self.taken.into_inner();
        for key in self.table.keys().filter(|key| !taken.contains(&key.get_ref().as_ref())) {
            let what = format!("{} has no setting \"{}\"", self.name, key.get_ref());
            self.document.problem(key.span().start, what, Some(suggest(key.get_ref(), &taken)));
        }
    }
}

/// A text of the document, and where it stands.
#[derive(Clone, Debug)]
pub struct Text {
    /// The text.
    pub text: String,
    /// Byte of the document.
    pub at: usize,
}

/// One `key = value` with a key that only the user knows.
pub struct Entry<'d, 't> {
    document: &'d Document<'t>,
    /// The key.
    pub key: &'d str,
    /// Byte of the document.
    pub at: usize,
    value: &'d Spanned<DeValue<'t>>,
}

impl<'d, 't> Entry<'d, 't> {
    /// Where it stands.
    pub fn location(&self) -> Location {
        self.document.location(self.at)
    }
    /// Its value as text.
    pub fn text(&self) -> Option<&'d str> {
        self.value.get_ref().as_str()
    }
    /// Its value as text, whatever scalar it is.
    pub fn scalar(&self) -> Option<String> {
        scalar(self.value.get_ref())
    }
    /// Its value as JSON, if it is a text, a whole number or a bool.
    pub fn json(&self) -> Option<serde_json::Value> {
        match self.value.get_ref() {
            DeValue::String(text) => Some(text.as_ref().into()),
            DeValue::Boolean(flag) => Some((*flag).into()),
            DeValue::Integer(_) => self.scalar()?.parse::<i64>().ok().map(Into::into),
            _ => None,
        }
    }
    /// Its value as a table.
    pub fn section(&self) -> Option<Section<'d, 't>> {
        let table = self.value.get_ref().as_table()?;
        let name = format!("\"{}\"", self.key);
        Some(Section { document: self.document, table, at: self.value.span().start, name, taken: RefCell::default() })
    }
    /// Adds a problem at its value.
    pub fn problem(&self, what: impl Into<String>) {
        self.document.problem(self.value.span().start, what.into(), None);
    }
    /// What its value is.
    pub fn kind(&self) -> &'static str {
        self.value.get_ref().type_str()
    }
}

/// A scalar as the text that a flag would have; lists of texts joined by commas.
pub(super) fn scalar(value: &DeValue<'_>) -> Option<String> {
    Some(match value {
        DeValue::String(text) => text.to_string(),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Integer(number) => i64::from_str_radix(&number.as_str().replace('_', ""), number.radix()).ok()?.to_string(),
        DeValue::Array(items) => items.iter().map(|item| scalar(item.get_ref())).collect::<Option<Vec<_>>>()?.join(","),
        DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Table(_) => return None,
    })
}

/// The known name that was probably meant, or all of them.
pub(super) fn suggest(name: &str, known: &[&str]) -> String {
    let like = |known: &&&str| {
        let common = known.chars().filter(|c| name.contains(*c)).count();
        known.starts_with(name)
            || name.starts_with(**known)
            || (common * 4 >= known.len() * 3 && known.len().abs_diff(name.len()) <= 3)
    };
    match known.iter().find(like) {
        Some(meant) => format!("did you mean \"{meant}\"?"),
        None => format!("it has {}", known.join(", ")),
    }
}
