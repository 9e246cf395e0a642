//! `#[derive(Tree)]`.

use crate::paths::crate_path;
use proc_macro2::{Span, TokenStream as Tokens};
use quote::{format_ident, quote};
use syn::{Data, DeriveInput, Error, Fields, Ident};

/// A struct, or a variant of an enum: a pattern that binds its fields, and the bindings that are trees.
struct Part {
    pattern: Tokens,
    trees: Vec<Ident>,
}

fn skipped(field: &syn::Field) -> Result<bool, Error> {
    let mut skip = false;
    for attribute in field.attrs.iter().filter(|a| a.path().is_ident("tree")) {
        attribute.parse_nested_meta(|meta| {
            if meta.path.is_ident("skip") {
                skip = true;
                return Ok(());
            }
            Err(meta.error("expected skip"))
        })?;
    }
    Ok(skip)
}

fn part(path: &Tokens, fields: &Fields) -> Result<Part, Error> {
    let mut trees = Vec::new();
    let mut bound = Vec::new();
    for (i, field) in fields.iter().enumerate() {
        let name = format_ident!("field_{i}");
        let skip = skipped(field)?;
        bound.push(match (&field.ident, skip) {
            (Some(own), false) => quote!(#own: #name),
            (Some(own), true) => quote!(#own: _),
            (None, false) => quote!(#name),
            (None, true) => quote!(_),
        });
        if !skip {
            trees.push(name);
        }
    }
    let pattern = match fields {
        Fields::Named(_) => quote!(#path { #(#bound),* }),
        Fields::Unnamed(_) => quote!(#path(#(#bound),*)),
        Fields::Unit => path.clone(),
    };
    Ok(Part { pattern, trees })
}

pub(crate) fn expand(input: &DeriveInput) -> Result<Tokens, Error> {
    let core = crate_path("lazul-core", Tokens::new())?;
    let parts: Vec<Part> = match &input.data {
        Data::Struct(data) => vec![part(&quote!(Self), &data.fields)?],
        Data::Enum(data) => data
            .variants
            .iter()
            .map(|v| {
                let name = &v.ident;
                part(&quote!(Self::#name), &v.fields)
            })
            .collect::<Result<_, _>>()?,
        Data::Union(_) => {
            return Err(Error::new(Span::call_site(), "Tree cannot be derived for unions"));
        }
    };
    let is_enum = matches!(input.data, Data::Enum(_));
    let patterns: Vec<&Tokens> = parts.iter().map(|p| &p.pattern).collect();
    let each = |call: &dyn Fn(&Ident) -> Tokens| -> Vec<Tokens> {
        parts.iter().map(|p| p.trees.iter().map(call).collect()).collect()
    };
    let visits = each(&|t| quote!(#core::Tree::visit(#t, f);));
    let visits_mut = each(&|t| quote!(#core::Tree::visit_mut(#t, f);));
    let structures = each(&|t| quote!(#core::Tree::structure(#t, words);));
    let tags: Vec<Tokens> = (0..parts.len() as u64)
        .map(|i| if is_enum { quote!(words.push(#i);) } else { Tokens::new() })
        .collect();
    let name = &input.ident;
    let mut generics = input.generics.clone();
    for parameter in generics.type_params_mut() {
        parameter.bounds.push(syn::parse_quote!(#core::Tree));
    }
    let (impls, types, bounds) = generics.split_for_impl();
    Ok(quote! {
        #[automatically_derived]
        #[allow(unused_variables)]
        impl #impls #core::Tree for #name #types #bounds {
            fn visit<'visit>(&'visit self, f: &mut dyn FnMut(&'visit #core::Array)) {
                match self {
                    #(#patterns => { #visits })*
                }
            }
            fn visit_mut(&mut self, f: &mut dyn FnMut(&mut #core::Array)) {
                match self {
                    #(#patterns => { #visits_mut })*
                }
            }
            fn structure(&self, words: &mut ::std::vec::Vec<u64>) {
                match self {
                    #(#patterns => { #tags #structures })*
                }
            }
        }
    })
}
