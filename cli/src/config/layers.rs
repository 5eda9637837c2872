//! Single settings of `[engine]` and `[server]`: from the file, over it the environment, over that the flags.

use super::document::{Document, Section, suggest};

/// A setting's text, and where it came from.
struct Found {
    key: String,
    text: String,
    place: Place,
}

enum Place {
    File(usize),
    Elsewhere(String),
}

/// The settings of one section, from all layers.
pub struct Layers<'d, 't> {
    document: &'d Document<'t>,
    section: &'static str,
    /// Lowest precedence first.
    found: Vec<Found>,
    known: Vec<String>,
}

impl<'d, 't> Layers<'d, 't> {
    /// Gathers everything that any layer says about `section`.
    ///
    /// `environment` are all variables of the process, `overrides` are `section.key=value`.
    pub fn gather(
        document: &'d Document<'t>,
        section: &'static str,
        file: Option<Section<'d, 't>>,
        environment: &[(String, String)],
        overrides: &[String],
    ) -> Self {
        let mut found = Vec::new();
        for entry in file.iter().flat_map(Section::entries) {
            match entry.scalar() {
                Some(text) => found.push(Found { key: entry.key.to_owned(), text, place: Place::File(entry.at) }),
                None => entry.problem(format!(
                    "{}: expected a text, a whole number, true or false, got {}",
                    entry.key,
                    entry.kind()
                )),
            }
        }
        let prefix = format!("KARST_{}_", section.to_uppercase());
        for (name, text) in environment {
            if let Some(key) = name.strip_prefix(&prefix) {
                let place = Place::Elsewhere(format!("the environment, {name}"));
                found.push(Found { key: key.to_lowercase(), text: text.clone(), place });
            }
        }
        for setting in overrides {
            let Some((name, text)) = setting.split_once('=') else { continue }; // reported once, by `check_overrides`
            if let Some((of, key)) = name.trim().split_once('.')
                && of == section
            {
                let place = Place::Elsewhere(format!("the command line, {}", name.trim()));
                found.push(Found { key: key.to_owned(), text: text.trim().to_owned(), place });
            }
        }
        Self { document, section, found, known: Vec::new() }
    }

    /// Hands the setting's text to `set`, if any layer has it; what `set` says is wrong is reported where the text came from.
    pub fn read(&mut self, key: &str, set: impl FnOnce(&str) -> Result<(), String>) {
        self.known.push(key.to_owned());
        let Some(found) = self.found.iter().rev().find(|found| found.key == key) else { return };
        if let Err(why) = set(&found.text) {
            self.report(found, format!("{}.{key}: {why}", self.section), None);
        }
    }

    /// Reports a problem with a setting where it came from, or at the section if nobody set it.
    pub fn problem(&self, key: &str, why: &str) {
        let what = format!("{}.{key}: {why}", self.section);
        match self.found.iter().rev().find(|found| found.key == key) {
            Some(found) => self.report(found, what, None),
            None => self.document.problem_elsewhere("the defaults".to_owned(), what, None),
        }
    }

    fn report(&self, found: &Found, what: String, hint: Option<String>) {
        match &found.place {
            Place::File(at) => self.document.problem(*at, what, hint),
            Place::Elsewhere(place) => self.document.problem_elsewhere(place.clone(), what, hint),
        }
    }

    /// Reports settings that do not exist, whichever layer they are in.
    pub fn finish(self) {
        let known: Vec<&str> = self.known.iter().map(String::as_str).collect();
        for found in self.found.iter().filter(|found| !known.contains(&found.key.as_str())) {
            let what = format!("[{}] has no setting \"{}\"", self.section, found.key);
            self.report(found, what, Some(suggest(&found.key, &known)));
        }
    }
}

/// Reports `--set` that is not `section.key=value`.
pub fn check_overrides(document: &Document<'_>, overrides: &[String]) {
    for setting in overrides {
        let section = setting.split_once('=').and_then(|(name, _)| name.trim().split_once('.')).map(|(section, _)| section);
        if !matches!(section, Some("engine" | "server")) {
            let what = format!("\"{setting}\" is not a setting: expected engine.KEY=VALUE or server.KEY=VALUE");
            document.problem_elsewhere("the command line, --set".to_owned(), what, None);
        }
    }
}
