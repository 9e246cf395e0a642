//! How generated code names Lazul's crates in the crate that it is generated for.

use proc_macro_crate::{FoundCrate, crate_name};
use proc_macro2::{Span, TokenStream as Tokens};
use quote::quote;
use syn::{Error, Ident};

/// The path of `package`: itself where the user depends on it (under whatever name), else the module
/// `inside` of the façade.
pub(crate) fn crate_path(package: &str, inside: Tokens) -> Result<Tokens, Error> {
    let named = |found: FoundCrate, package: &str| {
        let name = match found {
            // The crate itself has `extern crate self` under its own name; examples and tests do too.
            FoundCrate::Itself => package.replace('-', "_"),
            FoundCrate::Name(name) => name,
        };
        let name = Ident::new(&name, Span::call_site());
        quote!(::#name)
    };
    if let Ok(found) = crate_name(package) {
        return Ok(named(found, package));
    }
    match crate_name("lazul") {
        Ok(found) => {
            let facade = named(found, "lazul");
            Ok(if inside.is_empty() { facade } else { quote!(#facade::#inside) })
        }
        Err(_) => Err(Error::new(
            Span::call_site(),
            format!("this derive needs `lazul` or `{package}` among the dependencies"),
        )),
    }
}
