//! Finds the `use` items of a file and the paths that name a renamed type.
//!
//! The search includes the bodies of functions and macros.

use std::{collections::HashSet, ops::Range};

use proc_macro2::{Delimiter, Span, TokenStream, TokenTree};
use syn::{ItemUse, UseTree};

use super::RENAMES;
use crate::source::SourceFile;

#[derive(Default)]
pub(super) struct Mentions {
    pub(super) uses: Vec<Use>,
    /// Paths outside of `use` whose last segment is the old name of a renamed type.
    pub(super) paths: Vec<PathMention>,
    /// All identifiers in the file.
    pub(super) names: HashSet<String>,
    /// The modules that the file declares.
    pub(super) modules: HashSet<String>,
}

/// A `use` item, in a module, function or macro.
pub(super) struct Use {
    pub(super) item: ItemUse,
    /// The range of the item, from its attributes to the semicolon.
    pub(super) range: Range<usize>,
    /// The offset of the word `use`.
    pub(super) keyword: usize,
}

/// One imported name of a `use`, and the modules before it.
pub(super) struct Leaf {
    pub(super) modules: Vec<String>,
    /// The imported name, or `*` for a glob.
    pub(super) ident: String,
    pub(super) alias: Option<String>,
    pub(super) span: Span,
}

/// A name outside of `use`, and the modules before it.
pub(super) struct PathMention {
    pub(super) modules: Vec<String>,
    pub(super) name: String,
    /// The range of the whole path, including a leading `::`.
    pub(super) range: Range<usize>,
    pub(super) name_range: Range<usize>,
    /// Set if the path begins with `$crate` or another macro variable.
    pub(super) in_macro_variable: bool,
    /// Set if the name follows `::` but no module: `<T as Trait>::Name`.
    pub(super) is_associated: bool,
}

impl Leaf {
    pub(super) fn is_glob(&self) -> bool {
        self.ident == "*"
    }

    /// Returns the full path of the imported item.
    pub(super) fn full(&self) -> Vec<String> {
        let mut full = self.modules.clone();
        if self.ident != "self" {
            full.push(self.ident.clone());
        }
        full
    }

    /// Returns the name that the import introduces.
    pub(super) fn name(&self) -> &str {
        match &self.alias {
            Some(alias) => alias,
            None if self.ident == "self" => self.modules.last().map_or("self", String::as_str),
            None => &self.ident,
        }
    }
}

impl Use {
    pub(super) fn leaves(&self) -> Vec<Leaf> {
        let mut leaves = Vec::new();
        collect(&self.item.tree, &mut Vec::new(), &mut leaves);
        leaves
    }
}

fn collect(tree: &UseTree, modules: &mut Vec<String>, leaves: &mut Vec<Leaf>) {
    let leaf = |modules: &[String], ident: String, alias: Option<String>, span| Leaf {
        modules: modules.to_vec(),
        ident,
        alias,
        span,
    };
    match tree {
        UseTree::Path(path) => {
            modules.push(path.ident.to_string());
            collect(&path.tree, modules, leaves);
            modules.pop();
        }
        UseTree::Group(group) => {
            for tree in &group.items {
                collect(tree, modules, leaves);
            }
        }
        UseTree::Name(name) => {
            leaves.push(leaf(
                modules,
                name.ident.to_string(),
                None,
                name.ident.span(),
            ));
        }
        UseTree::Rename(name) => leaves.push(leaf(
            modules,
            name.ident.to_string(),
            Some(name.rename.to_string()),
            name.ident.span(),
        )),
        UseTree::Glob(glob) => leaves.push(leaf(
            modules,
            "*".to_owned(),
            None,
            glob.star_token.spans[0],
        )),
    }
}

pub(super) fn find(file: &SourceFile) -> Mentions {
    let mut mentions = Mentions::default();
    walk(file, file.tokens(), &mut mentions);
    mentions
}

fn walk(file: &SourceFile, stream: TokenStream, mentions: &mut Mentions) {
    let tokens: Vec<TokenTree> = stream.into_iter().collect();
    let mut index = 0;
    while let Some(token) = tokens.get(index) {
        match token {
            TokenTree::Group(group) => walk(file, group.stream(), mentions),
            TokenTree::Ident(ident) => {
                let name = ident.to_string();
                if name == "use"
                    && let Some((item, end)) = use_item(file, &tokens, index)
                {
                    for leaf in item.leaves() {
                        mentions.names.extend([leaf.name().to_owned(), leaf.ident]);
                    }
                    mentions.uses.push(item);
                    index = end;
                    continue;
                }
                if name == "mod"
                    && let Some(TokenTree::Ident(module)) = tokens.get(index + 1)
                {
                    mentions.modules.insert(module.to_string());
                }
                if RENAMES.iter().any(|rename| rename.old == name) {
                    mentions.paths.push(path(file, &tokens, index, &name));
                }
                mentions.names.insert(name);
            }
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
        index += 1;
    }
}

/// Parses the item whose keyword `use` is at `index`. Returns it with the index after its end.
///
/// Returns `None` if the keyword does not belong to an item, as in `impl Trait + use<'_>`.
fn use_item(file: &SourceFile, tokens: &[TokenTree], index: usize) -> Option<(Use, usize)> {
    let length = tokens[index..]
        .iter()
        .position(|token| is_punct(Some(token), ';'))?;
    let end = index + length + 1;
    let mut start = index;
    // `pub`, `pub(crate)`.
    let restricted = start > 0
        && matches!(
            &tokens[start - 1],
            TokenTree::Group(group) if group.delimiter() == Delimiter::Parenthesis
        );
    let before = start.checked_sub(if restricted { 2 } else { 1 });
    if let Some(before) = before
        && matches!(&tokens[before], TokenTree::Ident(ident) if ident == "pub")
    {
        start = before;
    }
    // `#[cfg(..)]`.
    while start >= 2
        && matches!(
            &tokens[start - 1],
            TokenTree::Group(group) if group.delimiter() == Delimiter::Bracket
        )
        && is_punct(tokens.get(start - 2), '#')
    {
        start -= 2;
    }
    let item: ItemUse = syn::parse2(tokens[start..end].iter().cloned().collect()).ok()?;
    let range = file.range(tokens[start].span()).start..file.range(tokens[end - 1].span()).end;
    let keyword = file.range(tokens[index].span()).start;
    Some((
        Use {
            item,
            range,
            keyword,
        },
        end,
    ))
}

fn path(file: &SourceFile, tokens: &[TokenTree], index: usize, name: &str) -> PathMention {
    let mut first = index;
    let mut modules = Vec::new();
    while first >= 3
        && is_colons(tokens, first)
        && let TokenTree::Ident(module) = &tokens[first - 3]
    {
        modules.insert(0, module.to_string());
        first -= 3;
    }
    let leads = is_colons(tokens, first);
    let in_macro_variable = first > 0 && is_punct(tokens.get(first - 1), '$');
    let start = if leads {
        first - 2
    } else {
        first - usize::from(in_macro_variable)
    };
    let name_range = file.range(tokens[index].span());
    PathMention {
        is_associated: leads && modules.is_empty(),
        modules,
        name: name.to_owned(),
        range: file.range(tokens[start].span()).start..name_range.end,
        name_range,
        in_macro_variable,
    }
}

/// Returns `true` if `::` precedes the token.
fn is_colons(tokens: &[TokenTree], index: usize) -> bool {
    index >= 2 && is_punct(tokens.get(index - 1), ':') && is_punct(tokens.get(index - 2), ':')
}

fn is_punct(token: Option<&TokenTree>, character: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == character)
}
