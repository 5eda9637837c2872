//! `#[stream]`: a function becomes a stream resolver. See the attribute's page.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::{FnArg, GenericArgument, ItemFn, Macro, PathArguments, ReturnType, Signature, Type, spanned::Spanned};

use crate::{
    attr::{Errors, Options, doc_text, location},
    names::plain,
    updates::Outputs,
};

const OPTIONS: &[&str] = &["source", "name"];

pub(crate) fn expand(options: TokenStream, item: TokenStream) -> TokenStream {
    let function: ItemFn = match syn::parse2(item.clone()) {
        Ok(function) => function,
        Err(_) => {
            let error = syn::Error::new(Span::call_site(), "a stream resolver is a function").to_compile_error();
            return quote!(#error #item);
        }
    };
    let mut errors = Errors::default();
    let options = Options::read(options, "#[stream(…)]", OPTIONS, &mut errors);
    if options.get("source").is_none() {
        errors.add_at(Span::call_site(), "name the source whose messages it takes: `#[stream(source = \"clicks\")]`");
    }
    let source = options.text("source", &mut errors);
    let name = options.text("name", &mut errors).map_or_else(|| plain(&function.sig.ident), |name| name.value());
    check_signature(&function.sig, &mut errors);
    let message = message(&function.sig, &mut errors);
    let updates = updates(&function.sig, &mut errors).map(|updates| Outputs::read(updates.tokens.clone()));
    match (errors.tokens(), source, message, updates) {
        (None, Some(source), Some(message), Some(Ok(outputs))) => {
            resolver(&function, &name, &source.value(), &message, &outputs)
        }
        // Mistakes inside `Updates![…]` are told by that macro, which the function keeps; its body can only add noise.
        (errors, _, _, Some(Err(_))) => {
            let ItemFn { attrs, vis, sig, .. } = &function;
            quote!(#errors #(#attrs)* #[allow(dead_code, unused_variables)] #vis #sig { ::core::unreachable!() })
        }
        (errors, ..) => quote!(#errors #[allow(dead_code)] #function),
    }
}

fn check_signature(signature: &Signature, errors: &mut Errors) {
    if let Some(asyncness) = &signature.asyncness {
        errors.add(asyncness, "a stream resolver is not async: it runs once per message and must not wait");
    }
    if let Some(unsafety) = &signature.unsafety {
        errors.add(unsafety, "a stream resolver is not unsafe: nobody could keep the promises of its caller");
    }
    if !signature.generics.params.is_empty() {
        errors.add(
            &signature.generics,
            "a stream resolver has no parameters of type or lifetime: its message and its features are fixed",
        );
    }
}

/// What the function takes.
struct Taken {
    ty: Type,
    by_value: bool,
}

fn message(signature: &Signature, errors: &mut Errors) -> Option<Taken> {
    const ONE: &str = "a stream resolver takes one argument, its message: `click: &Click` or `click: Click`";
    match signature.inputs.len() {
        0 => errors.add(&signature.ident, ONE),
        1 => {}
        _ => signature.inputs.iter().skip(1).for_each(|more| errors.add(more, ONE)),
    }
    match signature.inputs.first()? {
        FnArg::Receiver(receiver) => {
            errors.add(receiver, ONE);
            None
        }
        FnArg::Typed(argument) => match &*argument.ty {
            Type::Reference(reference) => {
                if let Some(mutability) = &reference.mutability {
                    errors.add(mutability, "other resolvers see the same message: take it by `&`, or by value to change it");
                }
                Some(Taken { ty: (*reference.elem).clone(), by_value: false })
            }
            ty => Some(Taken { ty: ty.clone(), by_value: true }),
        },
    }
}

/// The `Updates![…]` of the return type.
fn updates<'a>(signature: &'a Signature, errors: &mut Errors) -> Option<&'a Macro> {
    let say = |what: &str| {
        format!(
            "{what} in the return type, with the class's key among them: `-> Updates![User::id, User::last_page]`, or Option, Vec or Result of it"
        )
    };
    let ReturnType::Type(_, ty) = &signature.output else {
        errors.add(&signature.ident, say("name the features that it writes"));
        return None;
    };
    let mut found = Vec::new();
    find_updates(ty, &mut found);
    match found[..] {
        [one] => return Some(one),
        [] => errors.add(ty, say("name the features that it writes, by `Updates![…]`,")),
        [_, second, ..] => errors.add(second, "`Updates![…]` stands twice: a resolver writes rows of one kind"),
    }
    None
}

fn find_updates<'a>(ty: &'a Type, found: &mut Vec<&'a Macro>) {
    match ty {
        Type::Macro(ty) if ty.mac.path.segments.last().is_some_and(|last| last.ident == "Updates") => found.push(&ty.mac),
        Type::Group(group) => find_updates(&group.elem, found),
        Type::Paren(paren) => find_updates(&paren.elem, found),
        Type::Tuple(tuple) => tuple.elems.iter().for_each(|ty| find_updates(ty, found)),
        Type::Path(path) => {
            for segment in &path.path.segments {
                let PathArguments::AngleBracketed(arguments) = &segment.arguments else { continue };
                for argument in &arguments.args {
                    if let GenericArgument::Type(ty) = argument {
                        find_updates(ty, found);
                    }
                }
            }
        }
        _ => {}
    }
}

fn resolver(function: &ItemFn, name: &str, source: &str, message: &Taken, outputs: &Outputs) -> TokenStream {
    let ItemFn { attrs, vis, sig, block } = function;
    let ident = &sig.ident;
    let mut call = sig.clone();
    call.ident = syn::Ident::new("call", ident.span());
    let is = |name: &'static str| move |attr: &&syn::Attribute| attr.path().is_ident(name);
    let (docs, cfgs): (Vec<_>, Vec<_>) = (attrs.iter().filter(is("doc")).collect(), attrs.iter().filter(is("cfg")).collect());
    let others = attrs.iter().filter(|attr| !attr.path().is_ident("doc") && !attr.path().is_ident("cfg"));
    let Outputs { class, fields } = outputs;
    let row = outputs.row();
    let message_type = &message.ty;
    let (taken, by_value) =
        if message.by_value { (quote!(take), quote!(.by_value())) } else { (quote!(get), TokenStream::new()) };
    let description = doc_text(attrs).map(|text| quote!(.description(#text)));
    let at = location(ident.span());
    let returned = match &sig.output {
        ReturnType::Type(_, ty) => ty.to_token_stream(),
        ReturnType::Default => TokenStream::new(),
    };
    let key_named = quote_spanned! {class.span()=>
        const _: () = ::core::assert!(
            #(#class::#fields.index() == 0)||*,
            "Updates![…] does not name the key of its class: without it, nobody knows whose values they are"
        );
    };
    // The error of a wrong return type is to stand at that type.
    let write = quote_spanned!(returned.span()=> ::karst::features::Resolved::<Self::Row>::write(returned, out));
    quote! {
        #(#docs)*
        #(#cfgs)*
        #[allow(non_camel_case_types)]
        #[derive(Clone, Copy, Debug)]
        #vis struct #ident;

        #(#cfgs)*
        #[allow(clippy::type_complexity)]
        impl #ident {
            /// The function itself.
            #(#others)*
            #vis #call #block
        }

        #(#cfgs)*
        #key_named

        #(#cfgs)*
        #[allow(clippy::type_complexity)]
        impl ::karst::features::StreamResolver for #ident {
            type Message = #message_type;
            type Row = #row;

            fn declaration(&self) -> ::karst::features::StreamDeclaration {
                ::karst::features::StreamDeclaration::of::<Self>(#name, #source, [#(#class::#fields.fqn()),*])
                    .declared_at(#at)
                    #by_value
                    #description
            }

            fn class(&self) -> ::core::option::Option<&'static ::karst::features::FeatureClass> {
                ::core::option::Option::Some(<#class as ::karst::features::FeatureSet>::class())
            }

            fn resolve(
                &self,
                message: ::karst::features::MessageSlot<'_, Self::Message>,
                out: &mut ::karst::features::UpdateWriter<'_, Self::Row>,
            ) -> ::core::result::Result<(), ::karst::features::ResolverError> {
                let returned = Self::call(message.#taken());
                #write
            }
        }
    }
}
