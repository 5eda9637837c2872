//! Windowed aggregates: partial states in tiles, packed by entity.
//!
//! ```text
//! update → apply: inputs of the aggregates → the finest tile of the entity's row      (hot set, committed as every row)
//!                 watermark has passed a coarser tile → rolled up; nobody reaches a tile → dropped, or archived
//! read:           row and archive → the tiles from tail to head, merged → value
//! ```
//! Sessions are kept beside them, in a like way ([`session`]). A tile holds mergeable partial states ([`aggregate`]), never results. What there is of levels, and where each state is in a tile, is
//! the layout of a class ([`layout`]).

pub(crate) mod aggregate;
pub(crate) mod apply;
pub(crate) mod archive;
pub mod closing;
mod convert;
pub(crate) mod expire;
pub mod layout;
pub(crate) mod raw;
pub mod read;
pub(crate) mod row;
pub mod session;

use std::sync::Arc;

use karst_types::{ClassId, EventTime};

pub use closing::{Closed, Closing};
pub use layout::{AggregateDeclaration, CLASSES_MAX, ClassWindows, WindowDeclaration};
pub use read::{WindowRead, WindowValue};
pub use session::{ClassSessions, SessionDeclaration};

/// The windows of all classes of a store.
#[derive(Default)]
pub struct Windows {
    classes: Vec<Option<Arc<ClassWindows>>>,
    sessions: Vec<Option<Arc<ClassSessions>>>,
    /// Layouts that rows on disk may still have.
    earlier: Vec<ClassWindows>,
}

impl Windows {
    pub(crate) const fn none() -> Self {
        Self { classes: Vec::new(), sessions: Vec::new(), earlier: Vec::new() }
    }
    /// Of these classes.
    pub fn new(classes: impl IntoIterator<Item = Arc<ClassWindows>>) -> Self {
        Self { classes: by_class(classes, |class| class.class()), ..Self::none() }
    }
    /// The same with the sessions of these classes.
    #[must_use]
    pub fn with_sessions(self, classes: impl IntoIterator<Item = Arc<ClassSessions>>) -> Self {
        Self { sessions: by_class(classes, |class| class.class()), ..self }
    }

    /// Takes in the layouts that were declared before, one on each line of `text`, and returns the text with the new ones.
    ///
    /// # Errors
    /// The line that is none.
    pub(crate) fn remember(&mut self, text: &str) -> Result<String, String> {
        let known = text.lines().map(|line| ClassWindows::remembered(line).ok_or_else(|| line.to_owned()));
        self.earlier = known.collect::<Result<_, _>>()?;
        let new = self.iter().map(|class| class.describe()).filter(|line| !text.lines().any(|known| known == line));
        Ok(new.fold(text.to_owned(), |text, line| text + &line + "\n"))
    }

    /// A stored row under a class of tiles, in today's layout; `None` if the bytes are no such row.
    pub(crate) fn read(&self, class: ClassId, stored: &[u8]) -> Option<Vec<u8>> {
        if ClassSessions::is_stored(class) {
            return session::row::adopt(stored, self.sessions_of(class)?);
        }
        let layout = self.of(class)?;
        let (of_archive, of_live) = (class == layout.archive(), class == ClassWindows::live_of(layout.class()));
        if of_archive && archive::is_of(stored, layout) {
            return archive::check(stored, layout).then(|| stored.to_vec());
        }
        if of_live && row::is_of(stored, layout) {
            return row::check(stored, layout).then(|| stored.to_vec());
        }
        let fingerprint = row::fingerprint_of(stored)?;
        let was = self.earlier.iter().find(|was| was.class() == layout.class() && was.fingerprint() == fingerprint)?;
        if of_archive {
            // Of other levels nothing can be kept: as if it had expired.
            Some(convert::chunk(stored, was, layout).unwrap_or_else(|| archive::build(layout)))
        } else {
            convert::live(stored, was, layout)
        }
    }
    /// Whether there are none but sessions.
    pub fn is_empty(&self) -> bool {
        self.classes.is_empty()
    }
    pub(crate) fn has_sessions(&self) -> bool {
        !self.sessions.is_empty()
    }
    /// Those of a class, or of the class under which its tiles are stored.
    pub fn of(&self, class: ClassId) -> Option<&Arc<ClassWindows>> {
        self.classes.get(usize::from(class.0 % CLASSES_MAX))?.as_ref()
    }
    /// The sessions of a class, or of the class under which they are stored.
    pub fn sessions_of(&self, class: ClassId) -> Option<&Arc<ClassSessions>> {
        self.sessions.get(usize::from(class.0 % CLASSES_MAX))?.as_ref()
    }
    /// The classes that have any, by rising number.
    pub fn class_ids(&self) -> Vec<ClassId> {
        let mut all: Vec<_> = self.iter().map(|class| class.class()).collect();
        all.extend(self.sessions.iter().flatten().map(|class| class.class()));
        all.sort_unstable();
        all.dedup();
        all
    }
    /// Up to where nothing more is to come of a class, but late events; `EventTime(i64::MIN)`: not known.
    pub fn watermark(&self, class: ClassId) -> EventTime {
        let of_tiles = self.of(class).map(|class| class.watermark());
        of_tiles.or_else(|| Some(self.sessions_of(class)?.watermark())).unwrap_or(EventTime(i64::MIN))
    }
    /// Moves the windows of a class on; they never go back.
    pub fn advance(&self, class: ClassId, watermark: EventTime) {
        self.of(class).into_iter().for_each(|class| class.advance(watermark));
        self.sessions_of(class).into_iter().for_each(|class| class.advance(watermark));
    }
    /// All but sessions.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<ClassWindows>> {
        self.classes.iter().flatten()
    }
}

fn by_class<T: Clone>(classes: impl IntoIterator<Item = T>, number: impl Fn(&T) -> ClassId) -> Vec<Option<T>> {
    let mut all = Vec::new();
    for class in classes {
        let index = usize::from(number(&class).0);
        if all.len() <= index {
            all.resize(index + 1, None);
        }
        all[index] = Some(class);
    }
    all
}
