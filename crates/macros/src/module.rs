//! `#[derive(Module)]`.

use crate::paths::crate_path;
use proc_macro2::{Span, TokenStream as Tokens};
use quote::quote;
use syn::{Data, DeriveInput, Error, Fields, LitStr};

/// What a field's attribute says.
#[derive(Default)]
struct Options {
    skip: bool,
    flatten: bool,
    rename: Option<String>,
}

fn options(field: &syn::Field) -> Result<Options, Error> {
    let mut options = Options::default();
    for attribute in field.attrs.iter().filter(|a| a.path().is_ident("module")) {
        attribute.parse_nested_meta(|meta| {
            if meta.path.is_ident("skip") {
                options.skip = true;
            } else if meta.path.is_ident("flatten") {
                options.flatten = true;
            } else if meta.path.is_ident("rename") {
                options.rename = Some(meta.value()?.parse::<LitStr>()?.value());
            } else {
                return Err(meta.error("expected skip, flatten or rename = \"...\""));
            }
            Ok(())
        })?;
    }
    Ok(options)
}

pub(crate) fn expand(input: &DeriveInput) -> Result<Tokens, Error> {
    let Data::Struct(data) = &input.data else {
        return Err(Error::new(Span::call_site(), "Module can be derived for structs only"));
    };
    let Fields::Named(fields) = &data.fields else {
        return Err(Error::new(
            Span::call_site(),
            "Module needs named fields: they name parameters",
        ));
    };
    let nn = crate_path("lazul-nn", quote!(nn))?;
    let mut shared = Vec::new();
    let mut exclusive = Vec::new();
    for field in &fields.named {
        let options = options(field)?;
        if options.skip {
            continue;
        }
        let Some(name) = &field.ident else { continue };
        let label = options.rename.unwrap_or_else(|| name.to_string());
        if options.flatten {
            shared.push(quote!(#nn::Module::visit(&self.#name, visitor);));
            exclusive.push(quote!(#nn::Module::visit_mut(&mut self.#name, visitor);));
        } else {
            shared.push(quote!(visitor.field(#label, &self.#name);));
            exclusive.push(quote!(visitor.field(#label, &mut self.#name);));
        }
    }
    let name = &input.ident;
    let (impls, types, bounds) = input.generics.split_for_impl();
    Ok(quote! {
        #[automatically_derived]
        impl #impls #nn::Module for #name #types #bounds {
            fn visit<'visit>(&'visit self, visitor: &mut #nn::Visitor<'_, 'visit>) {
                #(#shared)*
            }
            fn visit_mut(&mut self, visitor: &mut #nn::VisitorMut<'_>) {
                #(#exclusive)*
            }
        }
    })
}
