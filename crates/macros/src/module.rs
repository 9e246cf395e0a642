//! `#[derive(Module)]`.

use crate::paths::crate_path;
use proc_macro2::{Span, TokenStream as Tokens};
use quote::quote;
use syn::{Data, DeriveInput, Error, Fields, LitStr};

/// What a field's attribute says.
#[derive(Default)]
struct Options {
    skip: bool,
    option: bool,
    flatten: bool,
    frozen: bool,
    rename: Option<String>,
}

fn options(field: &syn::Field) -> Result<Options, Error> {
    let mut options = Options::default();
    for attribute in field.attrs.iter().filter(|a| a.path().is_ident("module")) {
        attribute.parse_nested_meta(|meta| {
            if meta.path.is_ident("skip") {
                options.skip = true;
            } else if meta.path.is_ident("option") {
                options.option = true;
            } else if meta.path.is_ident("flatten") {
                options.flatten = true;
            } else if meta.path.is_ident("frozen") {
                options.frozen = true;
            } else if meta.path.is_ident("rename") {
                options.rename = Some(meta.value()?.parse::<LitStr>()?.value());
            } else {
                return Err(
                    meta.error("expected skip, option, flatten, frozen or rename = \"...\"")
                );
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
    let mut structure = Vec::new();
    for field in &fields.named {
        let options = options(field)?;
        if options.skip {
            continue;
        }
        let Some(name) = &field.ident else { continue };
        if options.option {
            structure.push(quote!(#nn::__private::option(&self.#name, words);));
            continue;
        }
        structure.push(quote!(#nn::Module::structure(&self.#name, words);));
        let label = options.rename.unwrap_or_else(|| name.to_string());
        let (mut read, mut write) = if options.flatten {
            (
                quote!(#nn::Module::visit(&self.#name, visitor);),
                quote!(#nn::Module::visit_mut(&mut self.#name, visitor);),
            )
        } else {
            (
                quote!(visitor.field(#label, &self.#name);),
                quote!(visitor.field(#label, &mut self.#name);),
            )
        };
        if options.frozen {
            read = quote!(visitor.buffers(|visitor| { #read }););
            write = quote!(visitor.buffers(|visitor| { #write }););
        }
        shared.push(read);
        exclusive.push(write);
    }
    let name = &input.ident;
    let (impls, types, bounds) = input.generics.split_for_impl();
    let core = quote!(#nn::__private::core);
    Ok(quote! {
        #[automatically_derived]
        #[allow(unused_variables)]
        impl #impls #nn::Module for #name #types #bounds {
            fn visit<'visit>(&'visit self, visitor: &mut #nn::Visitor<'_, 'visit>) {
                #(#shared)*
            }
            fn visit_mut(&mut self, visitor: &mut #nn::VisitorMut<'_>) {
                #(#exclusive)*
            }
            fn structure(&self, words: &mut ::std::vec::Vec<u64>) {
                #(#structure)*
            }
        }
        #[automatically_derived]
        impl #impls #core::Tree for #name #types #bounds {
            fn visit<'visit>(&'visit self, f: &mut dyn FnMut(&'visit #core::Array)) {
                #nn::__private::visit(self, f);
            }
            fn visit_mut(&mut self, f: &mut dyn FnMut(&mut #core::Array)) {
                #nn::__private::visit_mut(self, f);
            }
            fn structure(&self, words: &mut ::std::vec::Vec<u64>) {
                #nn::Module::structure(self, words);
            }
        }
    })
}
