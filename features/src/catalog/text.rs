//! The catalog as text, as it is stored; the module's page shows one.

use std::fmt::Write as _;

use karst_types::ValueType;

use super::{Catalog, CatalogAggregate, CatalogError, CatalogFeature};

const HEADER: &str = "karst-catalog 1";

impl Catalog {
    /// As text, for the store.
    pub fn to_text(&self) -> String {
        let mut text = format!("{HEADER}\n");
        // Writing to a String cannot fail.
        for (id, source) in self.sources.iter().enumerate() {
            let _ = writeln!(text, "source {id} {source}");
        }
        for (id, class) in self.classes.iter().enumerate() {
            let _ = writeln!(text, "class {id} {} {}", class.name, class.key);
            for (slot, feature) in class.features.iter().enumerate() {
                let null = if feature.nullable { "?" } else { "" };
                let _ = writeln!(text, "feature {id} {slot} {}{null} {}", feature.ty, feature.name);
            }
            for (slot, aggregate) in class.aggregates.iter().enumerate() {
                let _ = writeln!(text, "aggregate {id} {slot} {} {}", aggregate.type_names(), aggregate.text);
            }
        }
        text
    }

    /// Reads what [`Catalog::to_text`] wrote.
    ///
    /// # Errors
    /// The line that cannot be read; a catalog of a newer version is one.
    pub fn from_text(text: &str) -> Result<Self, CatalogError> {
        let mut catalog = Self::new();
        let mut lines = text.lines().enumerate();
        let header = lines.next().map_or("", |(_, line)| line);
        if header != HEADER {
            return Err(CatalogError { line: 1, what: format!("expected \"{HEADER}\", got \"{header}\"") });
        }
        for (index, line) in lines {
            catalog.read_line(line).map_err(|what| CatalogError { line: index + 1, what })?;
        }
        for (index, class) in catalog.classes.iter().enumerate() {
            if class.slot(&class.key).is_none() {
                let what = format!("class {index} \"{}\" has no feature \"{}\", its key", class.name, class.key);
                return Err(CatalogError { line: text.lines().count(), what });
            }
        }
        Ok(catalog)
    }

    fn read_line(&mut self, line: &str) -> Result<(), String> {
        let in_order = |id: &str, expected: usize| match id.parse::<u16>() {
            Ok(id) if usize::from(id) == expected => Ok(()),
            _ => Err(format!("expected id {expected}, got \"{id}\"")),
        };
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["source", id, name] if self.source_id(name).is_none() => {
                in_order(id, self.sources.len())?;
                self.sources.push(name.to_owned());
            }
            ["class", id, name, key] if self.class_id(name).is_none() => {
                in_order(id, self.classes.len())?;
                self.push_class(name.to_owned(), key.to_owned());
            }
            ["feature", class, slot, ty, name] => {
                let last = self.classes.len().checked_sub(1).ok_or("a feature stands before the first class")?;
                in_order(class, last)?;
                let known = &mut self.classes[last];
                in_order(slot, known.features.len())?;
                if known.slot(name).is_some() {
                    return Err(format!("feature \"{name}\" stands twice"));
                }
                let (ty, nullable) = ty.strip_suffix('?').map_or((ty, false), |ty| (ty, true));
                let ty = type_named(ty).ok_or_else(|| format!("\"{ty}\" is not a type"))?;
                known.push(CatalogFeature { name: name.to_owned(), ty, nullable });
            }
            ["aggregate", class, slot, input, by, group, ..] => {
                let last = self.classes.len().checked_sub(1).ok_or("an aggregate stands before the first class")?;
                in_order(class, last)?;
                let known = &mut self.classes[last];
                in_order(slot, known.aggregates.len())?;
                let text = line.splitn(7, ' ').nth(6).unwrap_or_default(); // it has blanks of its own
                if text.is_empty() || known.aggregate_slot(text).is_some() {
                    return Err(format!("aggregate \"{text}\" has no text, or stands twice"));
                }
                let [input, by, group] = [input, by, group].map(|ty| match ty {
                    "-" => Ok(None),
                    ty => type_named(ty).map(Some).ok_or_else(|| format!("\"{ty}\" is not a type")),
                });
                known.push_aggregate(CatalogAggregate { text: text.to_owned(), types: [input?, by?, group?] });
            }
            _ => return Err(format!("expected a new source, class, feature or aggregate, got \"{line}\"")),
        }
        Ok(())
    }
}

fn type_named(name: &str) -> Option<ValueType> {
    [ValueType::Bool, ValueType::Int, ValueType::Float, ValueType::Time, ValueType::Str, ValueType::Bytes]
        .into_iter()
        .find(|ty| ty.to_string() == name)
}
