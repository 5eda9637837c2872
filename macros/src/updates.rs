//! `Updates![User::id, User::last_page]`: the type of a row, and the list of features that `#[stream]` reads from it.

use std::collections::HashSet;

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote};
use syn::{
    Ident, Path, PathArguments, Token,
    parse::{Parse, ParseStream, Parser},
    punctuated::Punctuated,
};

use crate::attr::Errors;

/// Most values of one row: `UpdateRow` is implemented for tuples up to this length.
const VALUES_MAX: usize = 32;

/// The features of one `Updates![…]`, in their order.
pub(crate) struct Outputs(pub(crate) Vec<Output>);

/// `User::last_page`, or `User::id?`: a key that may be null, so that nothing is written for its class.
pub(crate) struct Output {
    /// The type of the class, as it is written there.
    pub(crate) class: Path,
    pub(crate) field: Ident,
    pub(crate) optional: bool,
}

/// `User::id?`, before it is split.
struct Written {
    path: Path,
    optional: bool,
}

impl Parse for Written {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let path = input.parse()?;
        let optional = input.parse::<Option<Token![?]>>()?.is_some();
        Ok(Self { path, optional })
    }
}

impl Output {
    /// `self.class`'s feature, as an expression.
    pub(crate) fn handle(&self) -> TokenStream {
        let Self { class, field, .. } = self;
        quote!(#class::#field)
    }
}

impl Parse for Output {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let Written { path, optional } = input.parse()?;
        let (class, field) = split(&path).ok_or_else(|| syn::Error::new_spanned(&path, NO_FEATURE))?;
        Ok(Self { class, field, optional })
    }
}

const NO_FEATURE: &str = "expected a feature of a class, such as `User::last_page`";

impl Outputs {
    /// Reads the inside of `Updates![…]`; all mistakes as tokens.
    pub(crate) fn read(tokens: TokenStream) -> Result<Self, TokenStream> {
        let all =
            Punctuated::<Written, Token![,]>::parse_terminated.parse2(tokens).map_err(|error| error.to_compile_error())?;
        let mut errors = Errors::default();
        let mut outputs = Vec::new();
        let mut seen = HashSet::new();
        for Written { path, optional } in all {
            let Some((class, field)) = split(&path) else {
                errors.add(&path, NO_FEATURE);
                continue;
            };
            if !seen.insert(text(&path)) {
                errors.add(&path, format!("`{}` stands twice", text(&path)));
            }
            outputs.push(Output { class, field, optional });
        }
        if let Some(Output { class, .. }) = outputs.get(VALUES_MAX) {
            errors.add(class, format!("{} features; {VALUES_MAX} are allowed: use two resolvers", outputs.len()));
        }
        if outputs.is_empty() && errors.tokens().is_none() {
            errors.add_at(
                Span::call_site(),
                "name the key of a class, and at least one more feature: `Updates![User::id, User::last_page]`",
            );
        }
        errors.tokens().map_or(Ok(Self(outputs)), Err)
    }

    /// The type of a row.
    pub(crate) fn row(&self) -> TokenStream {
        let values = self.0.iter().map(|Output { class, field, optional }| {
            let value = quote!(<#class as ::karst::features::Field<{ #class::#field.index() }>>::Value);
            if *optional { quote!(::core::option::Option<#value>) } else { value }
        });
        quote!((#(#values,)*))
    }

    /// The classes, as they are written, each once.
    pub(crate) fn classes(&self) -> Vec<&Path> {
        let mut classes: Vec<&Path> = Vec::new();
        for Output { class, .. } in &self.0 {
            if !classes.contains(&class) {
                classes.push(class);
            }
        }
        classes
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

pub(crate) fn text(path: &Path) -> String {
    path.to_token_stream().to_string().replace(' ', "")
}

pub(crate) fn expand(features: TokenStream) -> TokenStream {
    Outputs::read(features).map_or_else(|errors| errors, |outputs| outputs.row())
}
