//! `keys(user_id = User::id, shop.id = Shop::id?)` of `#[stream]`: keys that are taken from fields of the message.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::{
    Ident, Meta, Token,
    parse::{Parse, ParseStream, Parser},
    punctuated::Punctuated,
    spanned::Spanned,
};

use crate::{
    attr::{Errors, Options},
    updates::{Output, Outputs},
};

/// `user.id = User::id?`
pub(crate) struct Key {
    /// The field, by its path from the message.
    path: Punctuated<Ident, Token![.]>,
    /// The key.
    pub(crate) key: Output,
}

impl Parse for Key {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let path = Punctuated::parse_separated_nonempty(input)?;
        input.parse::<Token![=]>()?;
        Ok(Self { path, key: input.parse()? })
    }
}

/// The keys that the options name, and whose classes are among the outputs.
pub(crate) fn read(options: &Options, outputs: Option<&Outputs>, errors: &mut Errors) -> Vec<Key> {
    let Some(meta) = options.get("keys") else { return Vec::new() };
    let read = match meta {
        Meta::List(list) => Punctuated::<Key, Token![,]>::parse_terminated.parse2(list.tokens.clone()).ok(),
        _ => None,
    };
    let Some(keys) = read.filter(|keys| !keys.is_empty()) else {
        errors.add(
            meta,
            "expected fields of the message, and the keys that they are: `keys(user_id = User::id, shop.id = Shop::id)`",
        );
        return Vec::new();
    };
    let classes = outputs.map(Outputs::classes);
    for Key { key, .. } in &keys {
        let Output { class, field, .. } = key;
        if classes.as_ref().is_some_and(|classes| !classes.contains(&class)) {
            let class = class.to_token_stream().to_string().replace(' ', "");
            errors.add(
                field,
                format!("`{class}` is not among the classes that the resolver writes: name a feature of it in `Updates![…]`"),
            );
        }
    }
    keys.into_iter().collect()
}

impl Key {
    /// `message.user.id`, where an error is to stand at the field.
    fn field(&self) -> TokenStream {
        let path = &self.path;
        let message = Ident::new("message", Span::call_site());
        quote_spanned!(path.span()=> #message.#path)
    }

    /// Hands the key over: number `nth` of the declared ones.
    pub(crate) fn hand_over(&self, nth: usize) -> TokenStream {
        let field = self.field();
        quote!(out.key(#nth, &#field);)
    }

    /// Declares it, for messages of type `ty`.
    pub(crate) fn setter(&self, ty: &syn::Type) -> TokenStream {
        let (handle, field) = (self.key.handle(), self.field());
        let path = self.path.iter().map(crate::names::plain).collect::<Vec<_>>().join(".");
        quote!(.key(#handle.fqn(), #path, ::karst::features::field_type(|message: &#ty| &#field)))
    }
}
