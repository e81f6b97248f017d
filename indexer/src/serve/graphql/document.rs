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

/// The deepest nesting of brackets outside of strings and comments.
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
            b'#' => at += bytes[at..].iter().take_while(|byte| **byte != b'\n').count(),
            b'"' if bytes[at..].starts_with(br#"""""#) => {
                let rest = &bytes[at + 3..];
                let end = rest.windows(3).position(|window| window == br#"""""#);
                at += 3 + end.map_or(rest.len(), |end| end + 2);
            }
            b'"' => {
                let mut end = at + 1;
                while !matches!(bytes.get(end), None | Some(b'"' | b'\n')) {
                    end += if bytes[end] == b'\\' { 2 } else { 1 };
                }
                at = end;
            }
            _ => {}
        }
        at += 1;
    }
    deepest
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
