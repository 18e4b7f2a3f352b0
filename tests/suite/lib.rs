//! The attribute `#[d2k_suite::test]` of the suites that need a cluster. Rust's own `#[test]` knows only at compile time
//! whether a test is ignored; these suites learn it from the machine, so `tests/support/suite.rs` runs them itself and
//! needs a list of them, which this attribute makes.

use proc_macro::{TokenStream, TokenTree};

/// Adds a function to the tests of its suite. `#[d2k_suite::test(ignored)]` runs it only with `--ignored`.
#[proc_macro_attribute]
pub fn test(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let mut tokens = item.clone().into_iter();
    let is_fn = |token: &TokenTree| token.to_string() == "fn";
    let name = tokens.find(is_fn).and_then(|_| tokens.next());
    let Some(TokenTree::Ident(name)) = name else {
        return "compile_error!(\"#[d2k_suite::test] belongs to a function\");".parse().unwrap_or_default();
    };
    let ignored = arguments.to_string() == "ignored";
    let case = format!(
        "inventory::submit! {{ crate::support::suite::Case {{ \
         path: concat!(module_path!(), \"::{name}\"), run: {name}, ignored: {ignored} }} }}"
    );
    let mut all = item;
    all.extend(case.parse::<TokenStream>().unwrap_or_default());
    all
}
