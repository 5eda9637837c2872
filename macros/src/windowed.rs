//! `#[windowed(…)]` on a field of `#[features]`: a windowed feature. See that attribute's page.

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::{
    Attribute, Expr, ExprLit, Field, Ident, Lit, LitStr, Meta, MetaNameValue, Token, Type, parenthesized,
    parse::{Parse, ParseStream, Parser},
    punctuated::Punctuated,
    spanned::Spanned,
};

use crate::{
    attr::{Errors, Options, location, type_text},
    expression::Names,
    features::setters,
    names::{did_you_mean, plain},
};

const OPTIONS: &[&str] =
    &["filter", "group_by", "groups_max", "session", "hop", "retention", "default", "name", "description", "owner", "tags"];
const FLAGS: &[&str] = &["exact", "tumbling", "unbounded"];

/// What an aggregation's parentheses hold besides the input.
#[derive(Clone, Copy, PartialEq)]
enum Takes {
    /// Nothing.
    Input,
    /// One constant, called so.
    Constant(&'static str),
    /// `by`, and `n`.
    By,
}

/// What is known of a result's type.
#[derive(Clone, Copy, PartialEq)]
enum Makes {
    Int,
    Float,
    Bool,
    /// What the input is.
    Same,
    /// A list of what the input is.
    List,
}

/// Name, variant of `Aggregation`, what it takes and what it makes.
const AGGREGATIONS: &[(&str, &str, Takes, Makes)] = &[
    ("count", "Count", Takes::Input, Makes::Int),
    ("sum", "Sum", Takes::Input, Makes::Same),
    ("mean", "Mean", Takes::Input, Makes::Float),
    ("min", "Min", Takes::Input, Makes::Same),
    ("max", "Max", Takes::Input, Makes::Same),
    ("var", "Var", Takes::Input, Makes::Float),
    ("var_pop", "VarPop", Takes::Input, Makes::Float),
    ("std", "Std", Takes::Input, Makes::Float),
    ("std_pop", "StdPop", Takes::Input, Makes::Float),
    ("any", "Any", Takes::Input, Makes::Bool),
    ("all", "All", Takes::Input, Makes::Bool),
    ("first", "First", Takes::Input, Makes::Same),
    ("last", "Last", Takes::Input, Makes::Same),
    ("first_n", "FirstN", Takes::Constant("n"), Makes::List),
    ("last_n", "LastN", Takes::Constant("n"), Makes::List),
    ("min_by_n", "MinByN", Takes::By, Makes::List),
    ("max_by_n", "MaxByN", Takes::By, Makes::List),
    ("approx_count_distinct", "ApproxCountDistinct", Takes::Input, Makes::Int),
    ("approx_percentile", "ApproxPercentile", Takes::Constant("quantile"), Makes::Float),
    ("approx_top_k", "ApproxTopK", Takes::Constant("k"), Makes::List),
];

/// One thing in the attribute.
enum Item {
    /// `"10m"`
    Window(LitStr),
    /// `hop = "1m"`
    Option(MetaNameValue),
    /// `count`, `mean(delay)`, `exact`
    Word(Ident, Option<Punctuated<Argument, Token![,]>>),
}

/// `delay`, or `by = amount`.
struct Argument {
    name: Option<Ident>,
    value: Expr,
}

impl Parse for Argument {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let named = input.peek(Ident) && input.peek2(Token![=]) && !input.peek2(Token![==]);
        let name = if named { Some(input.parse()?) } else { None };
        if named {
            input.parse::<Token![=]>()?;
        }
        Ok(Self { name, value: input.parse()? })
    }
}

impl Parse for Item {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        if input.peek(LitStr) {
            return input.parse().map(Self::Window);
        }
        if input.peek2(Token![=]) {
            return input.parse().map(Self::Option);
        }
        let word = input.parse::<Ident>().map_err(|error| {
            syn::Error::new(
                error.span(),
                "expected a window such as \"10m\", an aggregation such as `mean(delay)`, or an option",
            )
        })?;
        if !input.peek(syn::token::Paren) {
            return Ok(Self::Word(word, None));
        }
        let inside;
        parenthesized!(inside in input);
        Ok(Self::Word(word, Some(Punctuated::parse_terminated(&inside)?)))
    }
}

/// A windowed feature, as far as the macro knows it.
pub(crate) struct Windowed {
    pub(crate) ident: Ident,
    pub(crate) name: String,
    pub(crate) ty: Type,
    windows: Vec<LitStr>,
    aggregations: Vec<(Ident, Punctuated<Argument, Token![,]>)>,
    flags: Vec<Ident>,
    options: Options,
    setters: TokenStream,
    /// Something stands there that is no aggregation, and was told.
    unknown: bool,
}

impl Windowed {
    /// Reads a field with `#[windowed(…)]`; `None` for others.
    pub(crate) fn take(field: &mut Field, errors: &mut Errors) -> Option<Self> {
        let attributes: Vec<Attribute>;
        (attributes, field.attrs) = field.attrs.drain(..).partition(|attr| attr.path().is_ident("windowed"));
        let ident = field.ident.clone()?;
        let is_windowed = type_text(&field.ty).split('<').next().is_some_and(|ty| ty.rsplit("::").next() == Some("Windowed"));
        if attributes.is_empty() {
            if is_windowed {
                let example = "`#[windowed(\"10m\", \"1d\", count)]`";
                errors.add(&field.ty, format!("say what is aggregated, and over which windows: {example}"));
            }
            return None;
        }
        let mut read = Self {
            name: plain(&ident),
            ident,
            ty: field.ty.clone(),
            windows: Vec::new(),
            aggregations: Vec::new(),
            flags: Vec::new(),
            options: Options::default(),
            setters: TokenStream::new(),
            unknown: false,
        };
        let mut metas = Vec::new();
        for attribute in &attributes {
            let Meta::List(list) = &attribute.meta else {
                errors.add(attribute, "expected windows and an aggregation: `#[windowed(\"10m\", \"1d\", mean(delay))]`");
                continue;
            };
            match Punctuated::<Item, Token![,]>::parse_terminated.parse2(list.tokens.clone()) {
                Ok(items) => items.into_iter().for_each(|item| read.item(item, &mut metas, errors)),
                Err(error) => errors.push(error),
            }
        }
        read.options = Options::of(metas, "#[windowed(…)]", OPTIONS, errors);
        if let Some(name) = read.options.text("name", errors) {
            read.name = name.value();
        }
        read.setters = setters(&read.options, &field.attrs, errors);
        if !is_windowed {
            errors.add(&field.ty, "the type of a windowed feature is `Windowed<…>`, with the type of its results in it");
        }
        match &read.aggregations[..] {
            [] if read.unknown => {}
            [] => errors.add_at(
                attributes[0].span(),
                "name the aggregation: `count`, `sum(amount)`, `mean(delay)`, `last_n(destination, 3)`, …",
            ),
            [_] => {}
            [_, second, ..] => errors.add(&second.0, "one aggregation for each feature: declare another field for this one"),
        }
        Some(read)
    }

    fn item(&mut self, item: Item, metas: &mut Vec<Meta>, errors: &mut Errors) {
        match item {
            Item::Window(text) => self.windows.push(text),
            Item::Option(pair) => metas.push(Meta::NameValue(pair)),
            Item::Word(word, None) if FLAGS.iter().any(|flag| word == flag) => self.flags.push(word),
            Item::Word(word, arguments) if AGGREGATIONS.iter().any(|(name, ..)| word == name) => {
                self.aggregations.push((word, arguments.unwrap_or_default()));
            }
            Item::Word(word, _) => {
                self.unknown = true;
                let known = AGGREGATIONS.iter().map(|(name, ..)| *name).chain(FLAGS.iter().copied());
                let name = plain(&word);
                let near = did_you_mean(&name, known.chain(OPTIONS.iter().copied()));
                errors.add(&word, format!("there is no aggregation `{name}`{near}"));
            }
        }
    }

    /// `.windowed(WindowedFeature::new(…)…)`, and checks of its type.
    pub(crate) fn expand(&self, names: &Names<'_>, errors: &mut Errors) -> (TokenStream, TokenStream) {
        let Some((word, arguments)) = self.aggregations.first() else { return Default::default() };
        let Some((_, variant, takes, makes)) = AGGREGATIONS.iter().find(|(name, ..)| word == name) else {
            return Default::default();
        };
        let Arguments { input, by, constant } = Arguments::of(word, arguments, *takes, errors);
        let variant = Ident::new(variant, Span::call_site());
        let constant = constant.map(|constant| quote!((#constant)));
        let mut setters = TokenStream::new();
        let expressions =
            [("input", input), ("by", by), ("filter", self.value("filter")), ("group_by", self.value("group_by"))];
        for (setter, expr) in expressions {
            let Some(expr) = expr else { continue };
            let (setter, expr) = (Ident::new(setter, Span::call_site()), names.expr(expr, errors));
            setters.extend(quote!(.#setter(#expr)));
        }
        for name in ["hop", "retention", "session"] {
            if let Some(text) = self.options.text(name, errors) {
                let setter = Ident::new(name, Span::call_site());
                setters.extend(quote!(.#setter(#text)));
            }
        }
        if let Some(groups) = self.value("groups_max") {
            setters.extend(quote!(.groups_max(#groups)));
        }
        if let Some(value) = self.value("default") {
            let literal = match value {
                Expr::Unary(unary) => &*unary.expr,
                other => other,
            };
            match literal {
                Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => setters.extend(quote!(.default::<&str>(#text))),
                Expr::Lit(ExprLit { lit: Lit::Int(_), .. }) => setters.extend(quote!(.default::<i64>(#value))),
                Expr::Lit(ExprLit { lit: Lit::Float(_), .. }) => setters.extend(quote!(.default::<f64>(#value))),
                Expr::Lit(ExprLit { lit: Lit::Bool(_), .. }) => setters.extend(quote!(.default::<bool>(#value))),
                other => errors.add(other, "expected a constant: `default = 0`"),
            }
        }
        let (flags, windows, name, ty) = (&self.flags, &self.windows, &self.name, &self.ty);
        let (at, common) = (location(self.ident.span()), &self.setters);
        let declared = quote! {
            .windowed(
                ::karst::features::WindowedFeature::new(#name, ::karst::types::Aggregation::#variant #constant)
                    .declared_at(#at)
                    .windows([#(#windows),*])
                    #setters
                    #(.#flags())*
                    .result(<#ty as ::karst::features::WindowedType>::RESULT)
                    #common
            )
        };
        (declared, self.checks(word, *makes, input, names))
    }

    fn value(&self, name: &str) -> Option<&Expr> {
        match self.options.get(name)? {
            Meta::NameValue(pair) => Some(&pair.value),
            _ => None,
        }
    }

    /// What can be told of the type before anything runs; the rest is told by `freeze`.
    fn checks(&self, word: &Ident, makes: Makes, input: Option<&Expr>, names: &Names<'_>) -> TokenStream {
        let ty = &self.ty;
        let ident = &names.strukt;
        let group = self.value("group_by");
        let field_type = |expr: Option<&Expr>| {
            let index = names.field(expr?)?;
            Some(
                quote!(<<#ident as ::karst::features::Field<{ #ident::#index.index() }>>::Value as ::karst::types::FeatureValue>::TYPE),
            )
        };
        let same = input.and_then(|input| names.field(input)).map(|input| format!("`{input}`"));
        let (wanted, example) = match makes {
            Makes::Int => (Some(quote!(::karst::types::ValueType::Int)), "i64"),
            Makes::Float => (Some(quote!(::karst::types::ValueType::Float)), "f64"),
            Makes::Bool => (Some(quote!(::karst::types::ValueType::Bool)), "bool"),
            Makes::Same | Makes::List => (field_type(input), "_"),
        };
        let (shape, example) = match (group, makes) {
            (Some(_), _) => ("Groups", format!("Windowed<Groups<_, {example}>>")),
            (None, Makes::List) => ("List", format!("Windowed<Vec<{example}>>")),
            (None, _) => ("One", format!("Windowed<{example}>")),
        };
        let shape = Ident::new(shape, Span::call_site());
        let of = match (&same, makes) {
            (Some(input), Makes::Same | Makes::List) => format!(", where `_` is the type of {input}"),
            _ => String::new(),
        };
        let what = format!("`{word}` gives `{example}`{of}");
        // One name for all: where the struct is written by a macro_rules, names of other places are others.
        let result = Ident::new("result", Span::call_site());
        let value = wanted.map(|wanted| quote!(&& ::karst::features::windowed_type::same_type(#result.ty, #wanted)));
        let by = field_type(group).map(|by| {
            let what =
                format!("the groups of `{}` have another type than it says: `Windowed<Groups<group, result>>`", self.name);
            quote!(::core::assert!(::karst::features::windowed_type::grouped_by(#result, #by), #what);)
        });
        quote_spanned! {ty.span()=>
            const _: () = {
                let #result = <#ty as ::karst::features::WindowedType>::RESULT;
                ::core::assert!(::core::matches!(#result.shape, ::karst::features::Shape::#shape { .. }) #value, #what);
                #by
            };
        }
    }
}

/// What stands in an aggregation's parentheses.
struct Arguments<'a> {
    input: Option<&'a Expr>,
    by: Option<&'a Expr>,
    constant: Option<&'a Expr>,
}

impl<'a> Arguments<'a> {
    fn of(word: &Ident, arguments: &'a Punctuated<Argument, Token![,]>, takes: Takes, errors: &mut Errors) -> Self {
        let mut read = Self { input: None, by: None, constant: None };
        let (constant, form) = match takes {
            Takes::Input if word == "count" => ("", "`count`".to_owned()),
            Takes::Input => ("", format!("`{word}(input)`")),
            Takes::Constant(constant) => (constant, format!("`{word}(input, {constant})`")),
            Takes::By => ("n", format!("`{word}(input, by = …, n = …)`")),
        };
        let mut wrong = None;
        for Argument { name, value } in arguments {
            let place = match name.as_ref().map(ToString::to_string).as_deref() {
                Some("by") if takes == Takes::By => &mut read.by,
                Some(name) if name == constant => &mut read.constant,
                None if read.input.is_none() => &mut read.input,
                None if matches!(takes, Takes::Constant(_)) => &mut read.constant,
                _ => {
                    wrong = wrong.or(Some(value));
                    continue;
                }
            };
            if place.replace(value).is_some() {
                wrong = wrong.or(Some(value));
            }
        }
        let complete = (read.input.is_some() || word == "count")
            && (read.constant.is_some() || takes == Takes::Input)
            && (read.by.is_some() || takes != Takes::By);
        match wrong {
            Some(argument) => errors.add(argument, format!("expected {form}")),
            None if !complete => errors.add(word, format!("expected {form}")),
            None => {}
        }
        read
    }
}
