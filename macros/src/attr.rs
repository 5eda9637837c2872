//! What all macros share: reading options, gathering errors, and telling where a declaration stands.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote};
use syn::{
    Attribute, Expr, ExprLit, GenericArgument, Lit, LitStr, Meta, PathArguments, Token, Type, parse::Parser,
    punctuated::Punctuated,
};

use crate::names::did_you_mean;

/// Errors, told together.
#[derive(Default)]
pub(crate) struct Errors(Option<syn::Error>);

impl Errors {
    pub(crate) fn add(&mut self, at: impl ToTokens, what: impl std::fmt::Display) {
        self.push(syn::Error::new_spanned(at, what));
    }
    pub(crate) fn add_at(&mut self, at: Span, what: impl std::fmt::Display) {
        self.push(syn::Error::new(at, what));
    }
    pub(crate) fn push(&mut self, error: syn::Error) {
        match &mut self.0 {
            Some(first) => first.combine(error),
            None => self.0 = Some(error),
        }
    }
    /// As tokens that make the compiler tell them; `None` if there are none.
    pub(crate) fn tokens(&self) -> Option<TokenStream> {
        self.0.as_ref().map(syn::Error::to_compile_error)
    }
}

/// `key = value` and bare `key` options of one attribute, each known and at most once.
#[derive(Default)]
pub(crate) struct Options {
    metas: Vec<Meta>,
}

impl Options {
    /// Reads `tokens`, the inside of an attribute that is written `attribute` (such as `#[stream(…)]`).
    pub(crate) fn read(tokens: TokenStream, attribute: &str, known: &[&str], errors: &mut Errors) -> Self {
        let metas = match Punctuated::<Meta, Token![,]>::parse_terminated.parse2(tokens) {
            Ok(metas) => metas,
            Err(error) => {
                errors.push(error);
                Punctuated::new()
            }
        };
        Self::of(metas, attribute, known, errors)
    }

    /// Those of `metas` that are known, each once.
    pub(crate) fn of(metas: impl IntoIterator<Item = Meta>, attribute: &str, known: &[&str], errors: &mut Errors) -> Self {
        let mut options = Self { metas: Vec::new() };
        for meta in metas {
            let name = meta.path().to_token_stream().to_string();
            if !known.contains(&name.as_str()) {
                let near = did_you_mean(&name, known.iter().copied());
                let list = known.iter().map(|known| format!("`{known}`")).collect::<Vec<_>>().join(", ");
                errors.add(meta.path(), format!("`{attribute}` has no option `{name}`{near} (options: {list})"));
            } else if options.get(&name).is_some() {
                errors.add(meta.path(), format!("option `{name}` is given twice"));
            } else {
                options.metas.push(meta);
            }
        }
        options
    }

    /// The options of all attributes with this name, taken out of `attrs`.
    pub(crate) fn take(attrs: &mut Vec<Attribute>, name: &str, known: &[&str], errors: &mut Errors) -> Self {
        let mut tokens = TokenStream::new();
        attrs.retain(|attr| {
            if !attr.path().is_ident(name) {
                return true;
            }
            match &attr.meta {
                Meta::List(list) => {
                    let inside = &list.tokens;
                    tokens.extend(quote!(#inside ,));
                }
                other => errors.add(other, format!("expected options: `#[{name}(…)]`")),
            }
            false
        });
        Self::read(tokens, &format!("#[{name}(…)]"), known, errors)
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Meta> {
        self.metas.iter().find(|meta| meta.path().is_ident(name))
    }

    /// A text option.
    pub(crate) fn text(&self, name: &str, errors: &mut Errors) -> Option<LitStr> {
        let meta = self.get(name)?;
        if let Meta::NameValue(pair) = meta
            && let Some(text) = lit_str(&pair.value)
        {
            return Some(text.clone());
        }
        errors.add(meta, format!("expected text: `{name} = \"…\"`"));
        None
    }

    /// An option that is a list of texts.
    pub(crate) fn texts(&self, name: &str, errors: &mut Errors) -> Vec<LitStr> {
        let Some(meta) = self.get(name) else { return Vec::new() };
        if let Meta::NameValue(pair) = meta
            && let Expr::Array(array) = &pair.value
            && let Some(texts) = array.elems.iter().map(|text| lit_str(text).cloned()).collect()
        {
            return texts;
        }
        errors.add(meta, format!("expected a list of texts: `{name} = [\"…\", \"…\"]`"));
        Vec::new()
    }
}

pub(crate) fn lit_str(expr: &Expr) -> Option<&LitStr> {
    match expr {
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text),
        _ => None,
    }
}

/// The doc comment as one text; `None` if there is none.
pub(crate) fn doc_text(attrs: &[Attribute]) -> Option<String> {
    let lines: Vec<String> = attrs
        .iter()
        .filter(|attr| attr.path().is_ident("doc"))
        .filter_map(|attr| match &attr.meta {
            Meta::NameValue(pair) => lit_str(&pair.value).map(|line| line.value().trim().to_owned()),
            _ => None,
        })
        .collect();
    let text = lines.join("\n").trim().to_owned();
    (!text.is_empty()).then_some(text)
}

/// `::karst::features::Location` of a span, as a constant expression.
pub(crate) fn location(span: Span) -> TokenStream {
    let (file, line, column) = if proc_macro::is_available() {
        let span = span.unwrap();
        (span.file(), span.line(), span.column())
    } else {
        (String::new(), 0, 0) // in the unit tests of this crate, where there is no compiler
    };
    let [line, column] = [line, column].map(|number| u32::try_from(number).unwrap_or(u32::MAX));
    quote!(::karst::features::Location::at(#file, #line, #column))
}

/// `T` of `Option<T>`.
pub(crate) fn option_inner(ty: &Type) -> Option<&Type> {
    let Type::Path(path) = ty else { return None };
    let last = path.path.segments.last().filter(|last| last.ident == "Option")?;
    let PathArguments::AngleBracketed(arguments) = &last.arguments else { return None };
    match arguments.args.first() {
        Some(GenericArgument::Type(inner)) => Some(inner),
        _ => None,
    }
}

/// A type as text, without the blanks that tokens are printed with.
pub(crate) fn type_text(ty: &Type) -> String {
    ty.to_token_stream().to_string().replace(' ', "")
}
