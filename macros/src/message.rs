//! `#[derive(Message)]`: `Deserialize` through a private copy of the struct, and `karst::Message`. See the derive's page.
//!
//! The copy (and not `derive(Deserialize)` on the struct itself) is what lets one derive be enough, and lets it add
//! attributes to fields, such as the unit of an event time.

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::{
    Attribute, Data, DeriveInput, Expr, ExprPath, Field, Fields, Ident, LitStr, Meta, Token, Type, parse::Parser,
    punctuated::Punctuated, spanned::Spanned,
};

use crate::{
    attr::{Errors, Options, lit_str, option_inner, type_text},
    names::{plain, renamed},
};

/// Attributes of serde on the struct that mean the same on its copy.
const SERDE_OPTIONS: &[&str] = &["rename", "rename_all", "deny_unknown_fields", "expecting"];

/// May stand there for another derive; the copy has its own.
const SERDE_CRATE: &str = "crate";

/// What the macro knows of one field.
struct MessageField {
    ident: Ident,
    ty: Type,
    /// For the copy.
    attrs: Vec<Attribute>,
    /// For the schema; `None` if it is not on the wire under one name (skipped, flattened).
    wire_name: Option<String>,
    /// Null or absence is allowed.
    nullable: bool,
}

pub(crate) fn expand(item: TokenStream) -> TokenStream {
    let mut input: DeriveInput = match syn::parse2(item) {
        Ok(input) => input,
        Err(error) => return error.to_compile_error(),
    };
    let mut errors = Errors::default();
    let options = Options::take(&mut input.attrs, "message", &["check"], &mut errors);
    let check = check(&options, &mut errors);
    if !input.generics.params.is_empty() {
        errors.add(&input.generics, "a message has no parameters: it is decoded from records alone, and owns what it holds");
    }
    let serde = serde_attrs(&input.attrs, &mut errors);
    let rule = serde_metas(&input.attrs).iter().find_map(|meta| serde_name(meta, "rename_all"));
    let mut event_time: Option<(Ident, Type, Option<String>)> = None;
    let mut fields = Vec::new();
    match &mut input.data {
        Data::Struct(data) if matches!(data.fields, Fields::Named(_)) => {
            for field in &mut data.fields {
                let unit = event_time_unit(field, &mut errors);
                let Some(read) = read_field(field, rule.as_deref(), unit.as_ref().and_then(Option::as_ref)) else { continue };
                if unit.is_some() {
                    match &event_time {
                        Some((first, ..)) => {
                            errors.add(&field.ident, format!("a message has one event time, and `{first}` is marked already"))
                        }
                        None => event_time = Some((read.ident.clone(), read.ty.clone(), read.wire_name.clone())),
                    }
                }
                fields.push(read);
            }
        }
        _ => errors.add(
            &input.ident,
            "a message is a struct with named fields; for other shapes implement `Deserialize` and `karst::Message` by hand",
        ),
    }
    match errors.tokens() {
        Some(errors) if !input.generics.params.is_empty() => errors,
        // An impl all the same, so that the compiler does not go on about its absence wherever the message is used.
        Some(errors) => {
            let ident = &input.ident;
            quote! {
                #errors
                impl ::karst::types::Message for #ident {
                    fn schema() -> &'static ::karst::types::MessageSchema { ::core::unreachable!() }
                }
                impl<'de> ::karst::serde::Deserialize<'de> for #ident {
                    fn deserialize<D: ::karst::serde::Deserializer<'de>>(_: D) -> ::core::result::Result<Self, D::Error> {
                        ::core::unreachable!()
                    }
                }
            }
        }
        None => message(&input.ident, &fields, &serde, event_time.as_ref(), check.as_ref()),
    }
}

/// The function of `#[message(check = "path")]`, also written without quotes.
fn check(options: &Options, errors: &mut Errors) -> Option<ExprPath> {
    let meta = options.get("check")?;
    if let Meta::NameValue(pair) = meta {
        match &pair.value {
            Expr::Path(path) => return Some(path.clone()),
            value => {
                if let Some(path) = lit_str(value).and_then(|text| text.parse().ok()) {
                    return Some(path);
                }
            }
        }
    }
    errors.add(meta, "expected the path of a function: `check = \"check_click\"`, a `fn(&Click) -> Result<(), Invalid>`");
    None
}

/// `Some` if the field is the event time; inside, the name of the function that reads another unit.
fn event_time_unit(field: &mut Field, errors: &mut Errors) -> Option<Option<String>> {
    let options = Options::take(&mut field.attrs, "message", &["event_time"], errors);
    let meta = options.get("event_time")?;
    if let Meta::Path(_) = meta {
        return Some(None);
    }
    let unit = match meta {
        Meta::NameValue(pair) => lit_str(&pair.value).map(LitStr::value),
        _ => None,
    };
    let reader = match unit.as_deref() {
        Some("s") => "secs",
        Some("ms") => "millis",
        Some("us") => "micros",
        Some("ns") => "nanos",
        _ => {
            errors
                .add(meta, "expected the unit of times that are numbers: `event_time = \"s\"`, `\"ms\"`, `\"us\"` or `\"ns\"`");
            return Some(None);
        }
    };
    Some(Some(format!("::karst::types::time::de_unit::{reader}")))
}

fn read_field(field: &Field, rule: Option<&str>, reader: Option<&String>) -> Option<MessageField> {
    let ident = field.ident.clone()?;
    let metas = serde_metas(&field.attrs);
    let has = |name: &str| metas.iter().any(|meta| meta.path().is_ident(name));
    let mut attrs: Vec<Attribute> = field.attrs.iter().filter(|attr| attr.path().is_ident("serde")).cloned().collect();
    let optional = option_inner(&field.ty);
    if let Some(reader) = reader {
        attrs.push(syn::parse_quote!(#[serde(deserialize_with = #reader)]));
    }
    // serde takes an absent Option for None by itself, but not where a function reads the field.
    let read_by_function = reader.is_some() || has("deserialize_with") || has("with");
    if optional.is_some() && read_by_function && !has("default") {
        attrs.push(syn::parse_quote!(#[serde(default)]));
    }
    let own_name = metas.iter().find_map(|meta| serde_name(meta, "rename"));
    let name = own_name.unwrap_or_else(|| {
        let name = plain(&ident);
        rule.and_then(|rule| renamed(&name, rule)).unwrap_or(name)
    });
    let on_the_wire = !has("skip") && !has("skip_deserializing") && !has("flatten");
    Some(MessageField {
        nullable: optional.is_some() || has("default"),
        wire_name: on_the_wire.then_some(name),
        ty: field.ty.clone(),
        attrs,
        ident,
    })
}

/// The serde attributes of the struct, if its copy can have them too.
fn serde_attrs(attrs: &[Attribute], errors: &mut Errors) -> Vec<Meta> {
    let mut metas = serde_metas(attrs);
    metas.retain(|meta| !meta.path().is_ident(SERDE_CRATE));
    for meta in &metas {
        if !SERDE_OPTIONS.iter().any(|known| meta.path().is_ident(known)) {
            let list = SERDE_OPTIONS.iter().map(|known| format!("`{known}`")).collect::<Vec<_>>().join(", ");
            errors.add(
                meta,
                format!("serde attributes of a whole message are {list}; for others implement `Deserialize` and `karst::Message` by hand"),
            );
        }
    }
    metas
}

/// The contents of all `#[serde(…)]`; what cannot be read is left for serde to tell.
fn serde_metas(attrs: &[Attribute]) -> Vec<Meta> {
    let parser = Punctuated::<Meta, Token![,]>::parse_terminated;
    let lists = attrs.iter().filter(|attr| attr.path().is_ident("serde")).filter_map(|attr| attr.meta.require_list().ok());
    lists.filter_map(|list| parser.parse2(list.tokens.clone()).ok()).flatten().collect()
}

/// The text of `rename = "…"` or `rename(deserialize = "…")`.
fn serde_name(meta: &Meta, name: &str) -> Option<String> {
    if !meta.path().is_ident(name) {
        return None;
    }
    match meta {
        Meta::NameValue(pair) => lit_str(&pair.value).map(LitStr::value),
        Meta::List(list) => {
            let parser = Punctuated::<Meta, Token![,]>::parse_terminated;
            parser.parse2(list.tokens.clone()).ok()?.iter().find_map(|meta| serde_name(meta, "deserialize"))
        }
        Meta::Path(_) => None,
    }
}

fn message(
    ident: &Ident,
    fields: &[MessageField],
    serde: &[Meta],
    event_time: Option<&(Ident, Type, Option<String>)>,
    check: Option<&ExprPath>,
) -> TokenStream {
    let name = plain(ident);
    // Errors are to name the message, not its copy.
    let given = |option: &str| serde.iter().any(|meta| meta.path().is_ident(option));
    let expected = format!("struct {name}");
    let rename = (!given("rename")).then(|| quote!(rename = #name,));
    let expecting = (!given("expecting")).then(|| quote!(expecting = #expected,));
    let idents: Vec<_> = fields.iter().map(|field| &field.ident).collect();
    let copied = fields.iter().map(|MessageField { ident, ty, attrs, .. }| quote!(#(#attrs)* #ident: #ty));
    let schemas = fields.iter().filter_map(|MessageField { ty, wire_name, nullable, .. }| {
        let rust = type_text(option_inner(ty).unwrap_or(ty));
        let wire_name = wire_name.as_ref()?;
        Some(if *nullable {
            quote!(::karst::types::FieldSchema::nullable(#wire_name, #rust))
        } else {
            quote!(::karst::types::FieldSchema::required(#wire_name, #rust))
        })
    });
    let time_name = match event_time.and_then(|(.., wire_name)| wire_name.as_ref()) {
        Some(name) => quote!(::core::option::Option::Some(#name)),
        None => quote!(::core::option::Option::None),
    };
    let time = event_time.map(|(field, ty, _)| {
        let read = quote_spanned!(ty.span()=> <#ty as ::karst::features::EventTimeField>::event_time);
        quote! {
            fn event_time(&self) -> ::core::option::Option<::karst::types::EventTime> {
                #read(&self.#field)
            }
        }
    });
    let check = check.map(|path| {
        quote! {
            fn check(&self) -> ::core::result::Result<(), ::karst::types::Invalid> {
                #path(self)
            }
        }
    });
    let copy = Ident::new("__Wire", Span::call_site());
    quote! {
        #[automatically_derived]
        impl<'de> ::karst::serde::Deserialize<'de> for #ident {
            fn deserialize<D: ::karst::serde::Deserializer<'de>>(deserializer: D) -> ::core::result::Result<Self, D::Error> {
                #[derive(::karst::serde::Deserialize)]
                #[serde(crate = "::karst::serde", #rename #expecting #(#serde),*)]
                #[allow(non_camel_case_types)]
                struct #copy { #(#copied,)* }

                // By name, not by a pattern: a field may be called as a resolver is, which is a unit struct.
                let __wire = <#copy as ::karst::serde::Deserialize<'de>>::deserialize(deserializer)?;
                ::core::result::Result::Ok(Self { #(#idents: __wire.#idents),* })
            }
        }

        #[automatically_derived]
        impl ::karst::types::Message for #ident {
            fn schema() -> &'static ::karst::types::MessageSchema {
                const SCHEMA: ::karst::types::MessageSchema = ::karst::types::MessageSchema {
                    name: #name,
                    fields: &[#(#schemas),*],
                    event_time: #time_name,
                };
                &SCHEMA
            }
            fn copied() -> ::core::option::Option<fn(&Self) -> Self> {
                #[allow(unused_imports)] // one of the two, depending on whether the message is `Clone`
                use ::karst::types::message::copying::{Asked, IsClone as _, IsNotClone as _};
                (&Asked::<Self>(::core::marker::PhantomData)).copied()
            }
            #time
            #check
        }
    }
}
