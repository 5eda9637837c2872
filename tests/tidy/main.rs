//! The rules of the house that rustfmt and clippy cannot see. A check that fails prints the sentence that says why it is there,
//! and all places where it is broken.

#![allow(unreachable_pub)] // modules of a test binary: pub is as far as it goes

mod code;
mod crates;
mod docs;
mod http;

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The checkout.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A file of the checkout.
pub struct Source {
    /// From the root, with `/`.
    pub path: String,
    /// All of it.
    pub text: String,
}

/// All files with this extension, but for what is generated.
pub fn files(extension: &str) -> Vec<Source> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root().join(&folder)).expect("the checkout can be read").flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = folder.join(&name);
            let generated = name.starts_with('.') || ["target", "data", "__pycache__"].contains(&name.as_str());
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && !generated => folders.push(path),
                Ok(kind) if kind.is_file() && path.extension().is_some_and(|found| found == extension) => {
                    let text = fs::read_to_string(root().join(&path)).unwrap_or_default();
                    found.push(Source { path: path.to_string_lossy().replace('\\', "/"), text });
                }
                _ => {}
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(!found.is_empty(), "no file with the extension {extension} was found: the walk is broken");
    found
}

/// One file of the checkout.
pub fn file(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("could not read {path}: {error}"))
}

/// Fails with the reason and all places, if there are any.
#[track_caller]
pub fn none(why: &str, places: Vec<String>) {
    assert!(places.is_empty(), "\n\n{why}\n  - {}\n", places.join("\n  - "));
}
