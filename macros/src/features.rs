//! `#[features]`: a struct becomes a feature class. See the attribute's page.

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::{Field, Fields, Ident, ItemStruct, Type, spanned::Spanned};

use crate::{
    attr::{Errors, Options, doc_text, location},
    expression::{Name, Names},
    names::{class_name, did_you_mean, plain},
    windowed::Windowed,
};

const CLASS_OPTIONS: &[&str] = &["key", "name", "max_staleness", "description", "owner", "tags"];
const FEATURE_OPTIONS: &[&str] = &["name", "max_staleness", "description", "owner", "tags"];

/// One feature, as far as the macro knows it.
struct Feature {
    ident: Ident,
    name: String,
    ty: Type,
    /// `.max_staleness_text("1d").owner("…")…`
    setters: TokenStream,
}

pub(crate) fn expand(options: TokenStream, item: TokenStream) -> TokenStream {
    let mut strukt: ItemStruct = match syn::parse2(item.clone()) {
        Ok(strukt) => strukt,
        Err(_) => {
            let error = syn::Error::new(Span::call_site(), "a feature class is a struct with named fields").to_compile_error();
            return quote!(#error #item);
        }
    };
    let mut errors = Errors::default();
    let options = Options::read(options, "#[features(…)]", CLASS_OPTIONS, &mut errors);
    if !strukt.generics.params.is_empty() {
        errors.add(&strukt.generics, "a feature class has no type parameters: each of its features has one type");
    }
    if !matches!(strukt.fields, Fields::Named(_)) {
        errors.add(&strukt.ident, "a feature class is a struct with named fields");
        strukt.fields = Fields::Unit;
    }
    let (mut features, mut windowed) = (Vec::new(), Vec::new());
    for field in &mut strukt.fields {
        match Windowed::take(field, &mut errors) {
            Some(field) => windowed.push(field),
            None => features.extend(read_feature(field, &mut errors)),
        }
    }
    if strukt.fields != Fields::Unit {
        move_key_first(&mut features, &strukt.ident, &options, &mut errors);
    }
    let class = class(&strukt, &options, &features, &windowed, &mut errors);
    match errors.tokens() {
        Some(errors) => quote!(#errors #[allow(dead_code)] #strukt),
        None => quote!(#[allow(dead_code)] #strukt #class),
    }
}

fn read_feature(field: &mut Field, errors: &mut Errors) -> Option<Feature> {
    let options = Options::take(&mut field.attrs, "feature", FEATURE_OPTIONS, errors);
    let ident = field.ident.clone()?;
    let name = options.text("name", errors).map_or_else(|| plain(&ident), |name| name.value());
    let setters = setters(&options, &field.attrs, errors);
    Some(Feature { ident, name, ty: field.ty.clone(), setters })
}

/// The setters that the options of a class and of a feature have in common.
pub(crate) fn setters(options: &Options, attrs: &[syn::Attribute], errors: &mut Errors) -> TokenStream {
    let mut setters = TokenStream::new();
    if let Some(span) = options.text("max_staleness", errors) {
        setters.extend(quote!(.max_staleness_text(#span)));
    }
    let described = options.text("description", errors).map(|text| text.value());
    if let Some(text) = described.or_else(|| doc_text(attrs)) {
        setters.extend(quote!(.description(#text)));
    }
    if let Some(owner) = options.text("owner", errors) {
        setters.extend(quote!(.owner(#owner)));
    }
    let tags = options.texts("tags", errors);
    if !tags.is_empty() {
        setters.extend(quote!(.tags([#(#tags),*])));
    }
    setters
}

fn move_key_first(features: &mut [Feature], strukt: &Ident, options: &Options, errors: &mut Errors) {
    if options.get("key").is_none() {
        let example = features.first().map_or_else(|| "id".to_owned(), |first| plain(&first.ident));
        errors.add_at(
            Span::call_site(),
            format!("name the key of `{strukt}`, the field that tells one from another: `#[features(key = \"{example}\")]`"),
        );
        return;
    }
    let Some(key) = options.text("key", errors) else { return };
    let fields: Vec<String> = features.iter().map(|feature| plain(&feature.ident)).collect();
    match fields.iter().position(|field| *field == key.value()) {
        Some(index) => features[..=index].rotate_right(1),
        None => {
            let near = did_you_mean(&key.value(), fields.iter().map(String::as_str));
            errors.add(&key, format!("`{strukt}` has no field `{}`{near}", key.value()));
        }
    }
}

fn class(
    strukt: &ItemStruct,
    options: &Options,
    features: &[Feature],
    windowed: &[Windowed],
    errors: &mut Errors,
) -> TokenStream {
    let ItemStruct { ident, vis, attrs, .. } = strukt;
    let name = options.text("name", errors).map_or_else(|| class_name(&plain(ident)), |name| name.value());
    let class_setters = setters(options, attrs, errors);
    let class_at = location(ident.span());
    let indices = 0..features.len();
    let idents: Vec<_> = features.iter().map(|feature| &feature.ident).collect();
    let names: Vec<_> = features.iter().map(|feature| &feature.name).collect();
    let types: Vec<_> = features.iter().map(|feature| &feature.ty).collect();
    let docs = names.iter().map(|feature| format!("The feature `{name}.{feature}`."));
    let fields = features.iter().enumerate().map(|(index, Feature { ty, .. })| {
        quote_spanned! {ty.span()=>
            impl ::karst::features::Field<#index> for #ident {
                type Value = #ty;
            }
        }
    });
    let mut declared = features.iter().enumerate().map(|(index, Feature { ident: field, name, setters, .. })| {
        let at = location(field.span());
        quote! {
            ::karst::features::Feature::of_field::<#ident, #index>(#name)
                .declared_at(#at)
                #setters
        }
    });
    let Some(key) = declared.next() else { return TokenStream::new() };
    let written: Vec<Name> =
        features[1..].iter().map(|feature| Name { field: plain(&feature.ident), feature: feature.name.clone() }).collect();
    let written = Names { strukt: ident, names: &written };
    let (windows, checks): (Vec<_>, Vec<_>) = windowed.iter().map(|feature| feature.expand(&written, errors)).unzip();
    let window_docs = windowed.iter().map(|feature| format!("The windowed feature `{name}.{}`.", feature.name));
    let window_idents = windowed.iter().map(|feature| &feature.ident);
    let window_names = windowed.iter().map(|feature| &feature.name);
    let window_types = windowed.iter().map(|feature| &feature.ty);
    let key_type = types[0];
    quote! {
        #[allow(non_upper_case_globals, dead_code)]
        impl #ident {
            #(
                #[doc = #docs]
                #vis const #idents: ::karst::features::FeatureHandle<#ident, #types> =
                    ::karst::features::FeatureHandle::new(#indices, #names);
            )*
            #(
                #[doc = #window_docs]
                #vis const #window_idents: ::karst::features::WindowedHandle<#ident, #window_types> =
                    ::karst::features::WindowedHandle::new(#window_names);
            )*
        }
        #(#checks)*
        #(#fields)*
        impl ::karst::features::FeatureSet for #ident {
            type Key = #key_type;

            fn class() -> &'static ::karst::features::FeatureClass {
                static CLASS: ::std::sync::LazyLock<::karst::features::FeatureClass> = ::std::sync::LazyLock::new(|| {
                    ::karst::features::FeatureClass::new(#name, #key)
                        .declared_at(#class_at)
                        #class_setters
                        #(.feature(#declared))*
                        #(#windows)*
                });
                &CLASS
            }
        }
    }
}
