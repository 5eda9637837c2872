//! `#[stream]`: a function becomes a stream resolver. See the attribute's page.

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::{
    Expr, ExprPath, FnArg, GenericArgument, ItemFn, Macro, Meta, PathArguments, ReturnType, Signature, Type, spanned::Spanned,
};

use crate::{
    attr::{Errors, Options, doc_text, location},
    keys::{self, Key},
    names::plain,
    updates::{Output, Outputs},
};

const OPTIONS: &[&str] = &["source", "name", "parse", "keys"];

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
    let parse = parse(&options, &mut errors);
    check_signature(&function.sig, &mut errors);
    let taken = taken(&function.sig, &mut errors);
    let updates = updates(&function.sig, &mut errors).map(|updates| Outputs::read(updates.tokens.clone()));
    let keys = keys::read(&options, updates.as_ref().and_then(|updates| updates.as_ref().ok()), &mut errors);
    match (errors.tokens(), source, taken, updates) {
        (None, Some(source), Some(taken), Some(Ok(outputs))) => {
            Resolver { function: &function, name, source: source.value(), parse, keys, taken, outputs }.tokens()
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

/// The function of `parse = path`.
fn parse(options: &Options, errors: &mut Errors) -> Option<ExprPath> {
    let meta = options.get("parse")?;
    if let Meta::NameValue(pair) = meta {
        let mut value = &pair.value;
        // Where a macro_rules handed it over.
        while let Expr::Group(group) = value {
            value = &group.expr;
        }
        if let Expr::Path(path) = value {
            return Some(path.clone());
        }
    }
    errors.add(
        meta,
        "expected the path of a function that makes the resolver's message of the source's: `parse = get_click_event`, a `fn(&Parent) -> Option<Child>`",
    );
    None
}

/// What the function takes.
struct Taken {
    ty: Type,
    by_value: bool,
    record: Option<RecordArgument>,
}

/// The second argument.
struct RecordArgument {
    ty: Type,
    by_value: bool,
}

fn taken(signature: &Signature, errors: &mut Errors) -> Option<Taken> {
    const MESSAGE: &str = "a stream resolver takes its message: `click: &Click` or `click: Click`; and, if it asks for the record, `record: &Record` after it";
    if signature.inputs.is_empty() {
        errors.add(&signature.ident, MESSAGE);
    }
    signature.inputs.iter().skip(2).for_each(|more| errors.add(more, MESSAGE));
    let mut types = signature.inputs.iter().filter_map(|argument| match argument {
        FnArg::Receiver(receiver) => {
            errors.add(receiver, MESSAGE);
            None
        }
        FnArg::Typed(argument) => Some(&*argument.ty),
    });
    let (message, record) = (types.next(), types.next());
    drop(types);
    let record = record.map(|ty| RecordArgument { ty: ty.clone(), by_value: !matches!(ty, Type::Reference(_)) });
    match message? {
        Type::Reference(reference) => {
            if let Some(mutability) = &reference.mutability {
                errors.add(mutability, "other resolvers see the same message: take it by `&`, or by value to change it");
            }
            Some(Taken { ty: (*reference.elem).clone(), by_value: false, record })
        }
        ty => Some(Taken { ty: ty.clone(), by_value: true, record }),
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

/// For tokens of ours whose errors are to stand at `span`: they mean what they mean here, also where `span` is in a macro.
fn at(span: Span) -> Span {
    span.resolved_at(Span::call_site())
}

/// All that the attribute and the function say.
struct Resolver<'a> {
    function: &'a ItemFn,
    name: String,
    source: String,
    parse: Option<ExprPath>,
    keys: Vec<Key>,
    taken: Taken,
    outputs: Outputs,
}

impl Resolver<'_> {
    fn tokens(&self) -> TokenStream {
        let ItemFn { attrs, vis, sig, block } = self.function;
        let ident = &sig.ident;
        let mut call = sig.clone();
        call.ident = syn::Ident::new("call", ident.span());
        let is = |name: &'static str| move |attr: &&syn::Attribute| attr.path().is_ident(name);
        let (docs, cfgs): (Vec<_>, Vec<_>) =
            (attrs.iter().filter(is("doc")).collect(), attrs.iter().filter(is("cfg")).collect());
        let others = attrs.iter().filter(|attr| !attr.path().is_ident("doc") && !attr.path().is_ident("cfg"));
        let checks = self.checks().into_iter().map(|check| quote!(#(#cfgs)* #check));
        let implementation = match &self.parse {
            None => self.stream_resolver(),
            Some(parse) => self.with_parse(parse),
        };
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

            #(#checks)*

            #(#cfgs)*
            #[allow(clippy::type_complexity)]
            #implementation
        }
    }

    /// What only the types know: which features are keys.
    fn checks(&self) -> Vec<TokenStream> {
        let mut checks = Vec::new();
        let mut check = |at: Span, holds: TokenStream, what: &str| {
            checks.push(quote_spanned!(at=> const _: () = ::core::assert!(#holds, #what);));
        };
        for class in self.outputs.classes() {
            let handles = || self.outputs.0.iter().filter(|output| output.class == *class).map(Output::handle);
            let (all, others) = (handles(), handles());
            if !self.keys.iter().any(|Key { key, .. }| key.class == *class) {
                check(
                    class.span(),
                    quote!(#(#all.index() == 0)||*),
                    "Updates![…] does not name the key of its class: without it, nobody knows whose values they are",
                );
            }
            check(
                class.span(),
                quote!(#(#others.index() != 0)||*),
                "Updates![…] names only the key of a class: name at least one more feature of it, or leave the class out",
            );
        }
        for Key { key, .. } in &self.keys {
            let handle = key.handle();
            check(
                key.field.span(),
                quote!(#handle.index() == 0),
                "`keys(…)` names keys of classes, and this feature is not one",
            );
        }
        for output in self.outputs.0.iter().filter(|output| output.optional) {
            let handle = output.handle();
            let what = "`?` says of a key that it may be null, and this feature is no key; declare its field as Option";
            check(output.field.span(), quote!(#handle.index() == 0), what);
        }
        checks
    }

    /// The features, as texts.
    fn fqns(&self) -> TokenStream {
        let handles = self.outputs.0.iter().map(Output::handle);
        quote!([#(#handles.fqn()),*])
    }

    fn classes(&self) -> TokenStream {
        let classes = self.outputs.classes();
        quote!(#(<#classes as ::karst::features::FeatureSet>::class()),*)
    }

    /// Setters of the declaration.
    fn setters(&self) -> TokenStream {
        let at = location(self.function.sig.ident.span());
        let description = doc_text(&self.function.attrs).map(|text| quote!(.description(#text)));
        let keys = self.keys.iter().map(|key| key.setter(&self.taken.ty));
        let may_be_null = self.outputs.0.iter().chain(self.keys.iter().map(|key| &key.key)).filter(|key| key.optional);
        let optional = may_be_null.map(|key| {
            let handle = key.handle();
            quote!(.optional_key(#handle.fqn()))
        });
        quote!(.declared_at(#at) #description #(#keys)* #(#optional)*)
    }

    /// Calls the function, and writes what it returned.
    fn call(&self) -> TokenStream {
        let record = self.taken.record.as_ref().map(|RecordArgument { ty, by_value }| {
            let and = (!by_value).then(|| quote_spanned!(at(ty.span())=> &));
            quote_spanned!(at(ty.span())=> , #and record)
        });
        let row = self.outputs.row();
        let returned = match &self.function.sig.output {
            ReturnType::Type(_, ty) => ty.span(),
            ReturnType::Default => Span::call_site(),
        };
        // The error of a wrong return type is to stand at that type.
        let write = quote_spanned!(at(returned)=> ::karst::features::Resolved::<#row>::write(returned, out));
        let keys = self.keys.iter().enumerate().map(|(nth, key)| key.hand_over(nth));
        quote! {
            #(#keys)*
            let returned = Self::call(message #record);
            #write
        }
    }

    fn stream_resolver(&self) -> TokenStream {
        let Self { name, source, taken: Taken { ty, by_value, record }, .. } = self;
        let ident = &self.function.sig.ident;
        let (row, fqns, classes, setters) = (self.outputs.row(), self.fqns(), self.classes(), self.setters());
        let (take, by_value) =
            if *by_value { (quote!(message.take()), quote!(.by_value())) } else { (quote!(message.get()), TokenStream::new()) };
        let record = record.as_ref().map(|_| quote!(let record = message.record();));
        let call = self.call();
        quote! {
            impl ::karst::features::StreamResolver for #ident {
                type Message = #ty;
                type Row = #row;

                fn declaration(&self) -> ::karst::features::StreamDeclaration {
                    ::karst::features::StreamDeclaration::of::<Self>(#name, #source, #fqns) #setters #by_value
                }

                fn classes(&self) -> ::std::vec::Vec<&'static ::karst::features::FeatureClass> {
                    ::std::vec![#classes]
                }

                fn resolve(
                    &self,
                    message: ::karst::features::MessageSlot<'_, Self::Message>,
                    out: &mut ::karst::features::UpdateWriter<'_, Self::Row>,
                ) -> ::core::result::Result<(), ::karst::features::ResolverError> {
                    #record
                    let message = #take;
                    #call
                }
            }
        }
    }

    /// The source's message is known to the compiler alone, from the parse function: so this becomes a resolver by inference.
    fn with_parse(&self, parse: &ExprPath) -> TokenStream {
        let Self { name, source, taken: Taken { ty, by_value, record }, .. } = self;
        let ident = &self.function.sig.ident;
        let (row, fqns, classes, setters) = (self.outputs.row(), self.fqns(), self.classes(), self.setters());
        let (parsed, and) = if *by_value { ("parsed", None) } else { ("parsed_ref", Some(quote!(&))) };
        let parsed = syn::Ident::new(parsed, at(parse.span()));
        let record = if record.is_some() { quote!(record) } else { quote!(_) };
        let call = self.call();
        let made = quote! {
            ::karst::features::#parsed::<_, _, _, #ty, _, _>(
                #name, #source, #fqns, #parse,
                |message: #and #ty,
                 #record: ::karst::types::Record<'_>,
                 out: &mut ::karst::features::UpdateWriter<'_, #row>| { #call },
            )
        };
        quote! {
            impl ::karst::features::IntoStreamResolver for #ident {
                fn into_resolver(self) -> impl ::karst::features::StreamResolver {
                    #made.declare(|declaration| declaration #setters).classes([#classes])
                }
            }
        }
    }
}
