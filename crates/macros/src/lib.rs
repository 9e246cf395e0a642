//! Derive macros of Lazul.
//!
//! `#[derive(Module)]` implements `lazul_nn::Module` for a struct: its fields are visited in order
//! under their names, so a parameter's path is the path of field names that leads to it, and matches
//! the names in published checkpoints.

use proc_macro::TokenStream;
use proc_macro2::{Span, TokenStream as Tokens};
use quote::quote;
use syn::{Data, DeriveInput, Error, Fields, LitStr, parse_macro_input};

/// Implements `Module`.
///
/// Fields are parameters and modules by default. `#[module(skip)]` leaves a field out (options,
/// numbers), `#[module(rename = "q_proj")]` gives it another name in paths, and
/// `#[module(flatten)]` visits it without a name of its own.
#[proc_macro_derive(Module, attributes(module))]
pub fn derive_module(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    expand(&input).unwrap_or_else(Error::into_compile_error).into()
}

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

/// The path of the crate that has `Module`: `lazul_nn`, or the façade's `lazul::nn` where a user
/// depends on that alone.
fn module_crate() -> Tokens {
    let depends_on = |name: &str| {
        let manifest = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
        let text = std::fs::read_to_string(format!("{manifest}/Cargo.toml")).unwrap_or_default();
        let own = std::env::var("CARGO_PKG_NAME").unwrap_or_default();
        own == name
            || text.lines().any(|line| {
                let key = line.split(['=', '.', ']']).next().unwrap_or_default();
                key.trim().trim_start_matches('[') == name
            })
    };
    if depends_on("lazul-nn") { quote!(::lazul_nn) } else { quote!(::lazul::nn) }
}

fn expand(input: &DeriveInput) -> Result<Tokens, Error> {
    let Data::Struct(data) = &input.data else {
        return Err(Error::new(Span::call_site(), "Module can be derived for structs only"));
    };
    let Fields::Named(fields) = &data.fields else {
        return Err(Error::new(
            Span::call_site(),
            "Module needs named fields: they name parameters",
        ));
    };
    let nn = module_crate();
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
