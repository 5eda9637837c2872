//! Expressions of windowed features: Rust tokens become `Expr` data over the features of the struct.
//!
//! Names are fields of the struct, `null` is null, and a call is of a Rust function, which must be pure.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote, quote_spanned};
use syn::{
    BinOp, Expr, ExprCall, ExprLit, ExprMethodCall, ExprPath, ExprUnary, Ident, Lit, LitFloat, LitInt, UnOp, spanned::Spanned,
};

use crate::{
    attr::Errors,
    names::{did_you_mean, plain},
};

/// A field of the struct, and the name of its feature.
pub(crate) struct Name {
    pub(crate) field: String,
    pub(crate) feature: String,
}

/// The fields that an expression may name.
pub(crate) struct Names<'a> {
    pub(crate) strukt: &'a Ident,
    pub(crate) names: &'a [Name],
}

const WHAT: &str =
    "expected fields of this struct, constants, + - * / == != < <= > >= && || !, `.is_null()`, or a call of a function";

impl Names<'_> {
    /// `Expr` data, as tokens; nothing of use if there are errors.
    pub(crate) fn expr(&self, expr: &Expr, errors: &mut Errors) -> TokenStream {
        match expr {
            Expr::Paren(inner) => self.expr(&inner.expr, errors),
            Expr::Group(inner) => self.expr(&inner.expr, errors),
            Expr::Path(path) => self.name(path, errors),
            Expr::Lit(ExprLit { lit, .. }) => constant(lit, false, errors),
            Expr::Unary(ExprUnary { op: UnOp::Neg(_), expr: of, .. }) if matches!(**of, Expr::Lit(_)) => match &**of {
                Expr::Lit(ExprLit { lit, .. }) => constant(lit, true, errors),
                _ => TokenStream::new(),
            },
            Expr::Unary(ExprUnary { op, expr: of, .. }) => {
                let name = match op {
                    UnOp::Not(_) => quote!(Not),
                    UnOp::Neg(_) => quote!(Neg),
                    other => return wrong(other, errors),
                };
                self.unary(&name, of, errors)
            }
            Expr::Binary(binary) => {
                let Some(op) = binary_op(&binary.op) else { return wrong(binary.op, errors) };
                let (left, right) = (self.expr(&binary.left, errors), self.expr(&binary.right, errors));
                quote! {
                    ::karst::types::Expr::Binary(
                        ::karst::types::expr::Binary::#op,
                        ::std::boxed::Box::new(#left),
                        ::std::boxed::Box::new(#right),
                    )
                }
            }
            Expr::MethodCall(ExprMethodCall { receiver, method, args, turbofish: None, .. }) => {
                if method != "is_null" || !args.is_empty() {
                    errors.add(method, "expected `.is_null()`: other methods go into a function, which can be called here");
                }
                self.unary(&quote!(IsNull), receiver, errors)
            }
            Expr::Call(call) => self.call(call, errors),
            other => wrong(other, errors),
        }
    }

    fn name(&self, path: &ExprPath, errors: &mut Errors) -> TokenStream {
        let Some(ident) = path.path.get_ident() else {
            errors.add(path, "expected a field of this struct; constants are written out, and functions are called");
            return TokenStream::new();
        };
        let name = plain(ident);
        match self.names.iter().find(|known| known.field == name) {
            Some(Name { feature, .. }) => quote!(::karst::types::Expr::Feature(::std::string::String::from(#feature))),
            None if name == "null" => quote!(::karst::types::Expr::Value(::karst::types::Value::Null)),
            None => {
                let near = did_you_mean(&name, self.names.iter().map(|known| known.field.as_str()));
                errors.add(ident, format!("`{}` has no field `{name}` that resolvers write{near}", self.strukt));
                TokenStream::new()
            }
        }
    }

    fn unary(&self, op: &TokenStream, of: &Expr, errors: &mut Errors) -> TokenStream {
        let of = self.expr(of, errors);
        quote!(::karst::types::Expr::Unary(::karst::types::expr::Unary::#op, ::std::boxed::Box::new(#of)))
    }

    fn call(&self, call: &ExprCall, errors: &mut Errors) -> TokenStream {
        let Expr::Path(path) = &*call.func else { return wrong(&call.func, errors) };
        let name = crate::updates::text(&path.path);
        let args: Vec<TokenStream> = call.args.iter().map(|arg| self.expr(arg, errors)).collect();
        // The error of a function that does not fit is to stand at its name.
        quote_spanned!(path.span()=> ::karst::features::function::call(#name, #path, [#(#args),*]))
    }

    /// The field that the expression is, if it is nothing more.
    pub(crate) fn field<'e>(&self, expr: &'e Expr) -> Option<&'e syn::Ident> {
        match expr {
            Expr::Paren(inner) => self.field(&inner.expr),
            Expr::Path(path) => {
                path.path.get_ident().filter(|ident| self.names.iter().any(|known| known.field == plain(ident)))
            }
            _ => None,
        }
    }
}

fn binary_op(op: &BinOp) -> Option<TokenStream> {
    Some(match op {
        BinOp::Add(_) => quote!(Add),
        BinOp::Sub(_) => quote!(Sub),
        BinOp::Mul(_) => quote!(Mul),
        BinOp::Div(_) => quote!(Div),
        BinOp::Eq(_) => quote!(Eq),
        BinOp::Ne(_) => quote!(Ne),
        BinOp::Lt(_) => quote!(Lt),
        BinOp::Le(_) => quote!(Le),
        BinOp::Gt(_) => quote!(Gt),
        BinOp::Ge(_) => quote!(Ge),
        BinOp::And(_) => quote!(And),
        BinOp::Or(_) => quote!(Or),
        _ => return None,
    })
}

fn wrong(what: impl ToTokens, errors: &mut Errors) -> TokenStream {
    errors.add(what, WHAT);
    TokenStream::new()
}

/// A constant as `Expr` data.
fn constant(lit: &Lit, negative: bool, errors: &mut Errors) -> TokenStream {
    let value = match lit {
        Lit::Str(text) if !negative => quote!(Str(::karst::types::Str::from(#text))),
        Lit::Bool(value) if !negative => quote!(Bool(#value)),
        Lit::Int(number) => match signed(number, negative) {
            Ok(number) => quote!(Int(#number)),
            Err(error) => {
                errors.push(error);
                return TokenStream::new();
            }
        },
        Lit::Float(number) => {
            let number = LitFloat::new(number.base10_digits(), number.span());
            let minus = negative.then(|| quote!(-));
            quote!(Float(#minus #number))
        }
        other => return wrong(other, errors),
    };
    quote!(::karst::types::Expr::Value(::karst::types::Value::#value))
}

/// The number with its sign, so that the least one can be written.
fn signed(number: &LitInt, negative: bool) -> syn::Result<i64> {
    let digits = number.base10_digits();
    let text = if negative { format!("-{digits}") } else { digits.to_owned() };
    text.parse().map_err(|_| syn::Error::new(number.span(), "whole numbers have 64 bits, with a sign"))
}
