//! `Updates![User::id, User::last_page]`: the type of a row, and the list of features that `#[stream]` reads from it.

use std::collections::HashSet;

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote};
use syn::{Ident, Path, PathArguments, Token, parse::Parser, punctuated::Punctuated};

use crate::{attr::Errors, names::plain};

/// Most values of one row: `UpdateRow` is implemented for tuples up to this length.
const VALUES_MAX: usize = 32;

/// The features of one `Updates![…]`.
pub(crate) struct Outputs {
    /// The type of the class, as it is written there.
    pub(crate) class: Path,
    pub(crate) fields: Vec<Ident>,
}

impl Outputs {
    /// Reads the inside of `Updates![…]`; all mistakes as tokens.
    pub(crate) fn read(tokens: TokenStream) -> Result<Self, TokenStream> {
        let paths = Punctuated::<Path, Token![,]>::parse_terminated.parse2(tokens).map_err(|error| error.to_compile_error())?;
        let mut errors = Errors::default();
        let mut class: Option<Path> = None;
        let mut fields = Vec::new();
        let mut seen = HashSet::new();
        for path in &paths {
            let Some((of, field)) = split(path) else {
                errors.add(path, "expected a feature of a class, such as `User::last_page`");
                continue;
            };
            let first = class.get_or_insert_with(|| of.clone());
            if *first != of {
                let [first, of] = [&*first, &of].map(text);
                errors.add(path, format!("expected a feature of `{first}`, like the first: a row belongs to one class; write `{of}` from another resolver"));
            } else if !seen.insert(plain(&field)) {
                errors.add(path, format!("`{}` stands twice", text(path)));
            }
            fields.push(field);
        }
        if fields.len() > VALUES_MAX {
            errors.add(&paths, format!("{} features; {VALUES_MAX} are allowed: use two resolvers", fields.len()));
        }
        let fewer = match fields.len() {
            0 => Some("name the key of a class, and at least one more feature: `Updates![User::id, User::last_page]`"),
            1 => Some("name at least two features: the key, which says whose values they are, and one more"),
            _ => None,
        };
        if let Some(fewer) = fewer.filter(|_| errors.tokens().is_none()) {
            if paths.is_empty() { errors.add_at(Span::call_site(), fewer) } else { errors.add(&paths, fewer) }
        }
        match (errors.tokens(), class) {
            (None, Some(class)) => Ok(Self { class, fields }),
            (errors, _) => Err(errors.unwrap_or_default()),
        }
    }

    /// The type of a row.
    pub(crate) fn row(&self) -> TokenStream {
        let Self { class, fields } = self;
        quote!((#(<#class as ::karst::features::Field<{ #class::#fields.index() }>>::Value,)*))
    }
}

/// The class and the feature of `path::to::Class::feature`.
fn split(path: &Path) -> Option<(Path, Ident)> {
    if path.segments.len() < 2 || path.segments.iter().any(|segment| segment.arguments != PathArguments::None) {
        return None;
    }
    let mut class = path.clone();
    let field = class.segments.pop()?.into_value().ident;
    class.segments.pop_punct();
    Some((class, field))
}

fn text(path: &Path) -> String {
    path.to_token_stream().to_string().replace(' ', "")
}

pub(crate) fn expand(features: TokenStream) -> TokenStream {
    Outputs::read(features).map_or_else(|errors| errors, |outputs| outputs.row())
}
