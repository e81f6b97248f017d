//! Limits on a query's text and shape, checked before anything walks it recursively or writes its fragments out.

use std::collections::HashMap;

use async_graphql::Name;
use async_graphql::Positioned;
use async_graphql::parser::types::{
    ExecutableDocument, FragmentDefinition, Selection, SelectionSet,
};

use super::error::Refusal;
use crate::serve::limits::{
    INTROSPECTION_DEPTH_MAX, QUERY_ALIASES_MAX, QUERY_DEPTH_MAX, QUERY_DIRECTIVES_MAX,
    QUERY_FIELDS_MAX, QUERY_ROOT_FIELDS_MAX,
};

/// Parses a query.
pub(super) fn parse(query: &str) -> Result<ExecutableDocument, Refusal> {
    // The parser's stack grows with nesting; nothing that we serve needs more than this.
    const NESTING_MAX: usize = 64;
    let deepest = nesting(query);
    if NESTING_MAX < deepest {
        return Err(Refusal::Depth(deepest));
    }
    async_graphql::parser::parse_query(query).map_err(|error| Refusal::Document {
        message: error.to_string(),
        position: error.positions().next().map(|position| (position.line, position.column)),
    })
}

/// Refuses a document that is over a limit, in time linear in its text: each fragment is measured once, so that fragments
/// which multiply each other are seen without being written out.
pub(super) fn check(document: &ExecutableDocument) -> Result<(), Refusal> {
    let mut measure =
        Measure { fragments: &document.fragments, known: HashMap::new(), open: Vec::new() };
    let mut aliases = 0;
    let mut directives = 0;
    for fragment in document.fragments.values() {
        count(&fragment.node.selection_set.node, &mut aliases, &mut directives);
        directives += fragment.node.directives.len();
    }
    for (_, operation) in document.operations.iter() {
        count(&operation.node.selection_set.node, &mut aliases, &mut directives);
        directives += operation.node.directives.len();
    }
    if QUERY_ALIASES_MAX < aliases {
        return Err(Refusal::Aliases(aliases));
    }
    if QUERY_DIRECTIVES_MAX < directives {
        return Err(Refusal::Directives(directives));
    }
    for (_, operation) in document.operations.iter() {
        let size = measure.set(&operation.node.selection_set.node)?;
        if QUERY_ROOT_FIELDS_MAX < size.width {
            return Err(Refusal::RootFields(size.width));
        }
        if QUERY_FIELDS_MAX < size.fields {
            return Err(Refusal::Fields);
        }
        if QUERY_DEPTH_MAX < size.depth {
            return Err(Refusal::Depth(size.depth));
        }
        if INTROSPECTION_DEPTH_MAX < size.introspection_depth {
            return Err(Refusal::IntrospectionDepth(size.introspection_depth));
        }
    }
    Ok(())
}

/// How large a selection is after its fragments are written out.
#[derive(Debug, Clone, Copy, Default)]
struct Size {
    /// Fields on this level, and on all levels.
    width: usize,
    fields: usize,
    depth: usize,
    introspection_depth: usize,
}

struct Measure<'a> {
    fragments: &'a HashMap<Name, Positioned<FragmentDefinition>>,
    known: HashMap<&'a Name, Size>,
    /// The fragments that are being measured, to notice cycles.
    open: Vec<&'a Name>,
}

impl<'a> Measure<'a> {
    fn set(&mut self, set: &'a SelectionSet) -> Result<Size, Refusal> {
        let mut size = Size::default();
        for selection in &set.items {
            let part = match &selection.node {
                Selection::Field(field) => {
                    let inner = self.set(&field.node.selection_set.node)?;
                    let introspects = field.node.name.node.starts_with("__");
                    let depth = inner.depth.max(inner.introspection_depth) + 1;
                    Size {
                        width: 1,
                        fields: inner.fields + 1,
                        depth: if introspects { 1 } else { inner.depth + 1 },
                        introspection_depth: if introspects {
                            depth
                        } else {
                            inner.introspection_depth
                        },
                    }
                }
                Selection::InlineFragment(fragment) => {
                    self.set(&fragment.node.selection_set.node)?
                }
                Selection::FragmentSpread(spread) => {
                    self.fragment(&spread.node.fragment_name.node)?
                }
            };
            size.width += part.width;
            size.fields = size.fields.saturating_add(part.fields);
            size.depth = size.depth.max(part.depth);
            size.introspection_depth = size.introspection_depth.max(part.introspection_depth);
            if QUERY_FIELDS_MAX < size.fields {
                return Err(Refusal::Fields);
            }
        }
        Ok(size)
    }

    fn fragment(&mut self, name: &'a Name) -> Result<Size, Refusal> {
        if let Some(size) = self.known.get(name) {
            return Ok(*size);
        }
        if self.open.contains(&name) {
            return Err(Refusal::Document {
                message: format!("Fragment `{name}` contains itself"),
                position: None,
            });
        }
        // Validation names unknown fragments.
        let Some(fragment) = self.fragments.get(name) else { return Ok(Size::default()) };
        self.open.push(name);
        let size = self.set(&fragment.node.selection_set.node)?;
        self.open.pop();
        self.known.insert(name, size);
        Ok(size)
    }
}

/// Counts what stands in the text, without following fragments.
fn count(set: &SelectionSet, aliases: &mut usize, directives: &mut usize) {
    for selection in &set.items {
        *directives += selection.node.directives().len();
        match &selection.node {
            Selection::Field(field) => {
                *aliases += usize::from(field.node.alias.is_some());
                count(&field.node.selection_set.node, aliases, directives);
            }
            Selection::InlineFragment(fragment) => {
                count(&fragment.node.selection_set.node, aliases, directives);
            }
            Selection::FragmentSpread(_) => {}
        }
    }
}

/// The deepest nesting of brackets outside of strings and comments, with these read exactly as the parser's grammar reads them:
/// what looks like a string here and not there would hide brackets from this count.
fn nesting(query: &str) -> usize {
    let bytes = query.as_bytes();
    let (mut depth, mut deepest, mut at) = (0_usize, 0, 0);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'{' | b'[' | b'(' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' | b')' => depth = depth.saturating_sub(1),
            b'#' => at += bytes[at..].iter().take_while(|byte| !is_line_end(**byte)).count(),
            b'"' => at += string_length(&bytes[at..]) - 1,
            _ => {}
        }
        at += 1;
    }
    deepest
}

/// How many bytes the string has that begins here, with its quotes.
fn string_length(text: &[u8]) -> usize {
    if text.starts_with(BLOCK_QUOTES)
        && let Some(length) = block_string_length(text)
    {
        return length;
    }
    // Quotes that open a block string which does not end are an empty string, and the beginning of another one.
    let mut end = 1;
    loop {
        match text.get(end) {
            Some(b'"') => return end + 1,
            Some(b'\\') => end += 2,
            Some(byte) if !is_line_end(*byte) => end += 1,
            // The parser goes no further than this.
            Some(_) | None => return end.min(text.len()),
        }
    }
}

const BLOCK_QUOTES: &[u8] = br#"""""#;
const ESCAPED_BLOCK_QUOTES: &[u8] = br#"\""""#;

/// The same of a block string; `None` when it does not end.
fn block_string_length(text: &[u8]) -> Option<usize> {
    let mut end = BLOCK_QUOTES.len();
    loop {
        let rest = text.get(end..).filter(|rest| !rest.is_empty())?;
        if rest.starts_with(ESCAPED_BLOCK_QUOTES) {
            end += ESCAPED_BLOCK_QUOTES.len();
        } else if rest.starts_with(BLOCK_QUOTES) {
            return Some(end + BLOCK_QUOTES.len());
        } else {
            end += 1;
        }
    }
}

fn is_line_end(byte: u8) -> bool {
    matches!(byte, b'\n' | b'\r')
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;

    fn refusal(query: &str) -> Option<Refusal> {
        match parse(query) {
            Ok(document) => check(&document).err(),
            Err(refusal) => Some(refusal),
        }
    }

    #[test]
    fn fragments_that_multiply_each_other_are_refused_at_once() {
        let mut query = "{ ...f0 }".to_owned();
        for n in 0..40 {
            write!(query, " fragment f{n} on Query {{ ...f{} ...f{} }}", n + 1, n + 1).unwrap();
        }
        query.push_str(" fragment f40 on Query { agents { id } }");
        assert_eq!(refusal(&query), Some(Refusal::Fields));
    }

    #[test]
    fn a_fragment_that_contains_itself_is_refused() {
        let cycle = "{ ...a } fragment a on Query { ...b } fragment b on Query { ...a }";
        assert!(matches!(refusal(cycle), Some(Refusal::Document { .. })));
    }

    #[test]
    fn brackets_in_strings_and_comments_do_not_nest() {
        assert_eq!(nesting("{ a(b: \"[[[[\\\"{{\") } # {{{{\n { }"), 2);
        assert_eq!(nesting("\"\"\" {{{ \"\"\" { a }"), 1);
        assert_eq!(nesting("\"\\"), 0);
        assert_eq!(nesting("]]}"), 0);
        assert_eq!(nesting("# \"\r{ a(b: \"\\\\\") # [[\r\n }"), 2);
        assert_eq!(nesting(r#"{ a(b: """ [[ \""" [[ """) }"#), 2);
        assert_eq!(nesting(r#"{ a(b: ["", ""]) }"#), 3);
    }

    #[test]
    fn brackets_cannot_be_hidden_behind_what_only_looks_like_a_string_or_a_comment() {
        let brackets = "[".repeat(30_000);
        for hidden in [
            // A comment ends with a carriage return too.
            format!("#\r{{ a(b: {brackets}"),
            // Escaped quotes do not end a block string, so that the next ones do not begin another.
            format!(r#"{{ a(b: """ \""" """, c: {brackets} """ """"#),
            // Quotes that open a block string which never ends are an empty string.
            format!(r#"{{ a(b: ["""x" {brackets}"#),
            format!("{{ a(b: \"\\\\\", c: {brackets} \""),
        ] {
            let refused = refusal(&hidden);
            let start: String = hidden.chars().take(24).collect();
            assert!(matches!(refused, Some(Refusal::Depth(_))), "{start}: {refused:?}");
        }
    }

    #[test]
    fn every_limit_on_the_shape_is_held_to_the_last_one() {
        let aliases = |n: usize| {
            let fields: String = (0..n).map(|i| format!("a{i}: id ")).collect();
            format!("{{ agents {{ {fields} }} }}")
        };
        assert_eq!(refusal(&aliases(QUERY_ALIASES_MAX)), None);
        assert_eq!(
            refusal(&aliases(QUERY_ALIASES_MAX + 1)),
            Some(Refusal::Aliases(QUERY_ALIASES_MAX + 1))
        );
        let roots = |n: usize| format!("{{ {} }}", "_meta { deployment } ".repeat(n));
        assert_eq!(refusal(&roots(QUERY_ROOT_FIELDS_MAX)), None);
        assert_eq!(
            refusal(&roots(QUERY_ROOT_FIELDS_MAX + 1)),
            Some(Refusal::RootFields(QUERY_ROOT_FIELDS_MAX + 1))
        );
        let deep = |n: usize| format!("{}id{}", "{ agents ".repeat(n - 1) + "{ ", " }".repeat(n));
        assert_eq!(refusal(&deep(QUERY_DEPTH_MAX)), None);
        assert_eq!(refusal(&deep(QUERY_DEPTH_MAX + 1)), Some(Refusal::Depth(QUERY_DEPTH_MAX + 1)));
        let directives =
            |n: usize| format!("{{ agents {{ id {} }} }}", "@include(if: true) ".repeat(n));
        assert_eq!(refusal(&directives(QUERY_DIRECTIVES_MAX)), None);
        assert_eq!(
            refusal(&directives(QUERY_DIRECTIVES_MAX + 1)),
            Some(Refusal::Directives(QUERY_DIRECTIVES_MAX + 1))
        );
        assert!(matches!(refusal(&deep(10_000)), Some(Refusal::Depth(_))));
    }
}
