//! HTML: what a reader of the page would see, without scripts, styles and navigation.

use scraper::{Html, Node, node::Element};

use super::{Block, Extract};
use crate::corpus::limits::HTML_DEPTH_MAX;

pub(super) fn extract(source: &str) -> Result<Extract, String> {
    if HTML_DEPTH_MAX < depth(source) {
        return Err(format!("more than {HTML_DEPTH_MAX} elements are open at one place"));
    }
    let page = Html::parse_document(source);
    let mut reader = Reader::default();
    // A walk without recursion: hostile pages nest a million elements.
    let mut node = page.tree.root();
    'walk: loop {
        reader.open(node.value());
        if let Some(child) = node.first_child() {
            node = child;
            continue;
        }
        loop {
            reader.close(node.value());
            if let Some(next) = node.next_sibling() {
                node = next;
                continue 'walk;
            }
            let Some(parent) = node.parent() else { break 'walk };
            node = parent;
        }
    }
    reader.end_block();
    Ok(reader.extract)
}

/// About how many elements are open at most, by a scan that is linear whatever the page. Elements without an end tag of
/// their own do not count.
fn depth(source: &str) -> usize {
    let mut open = 0_usize;
    let mut deepest = 0;
    let mut foreign = 0_usize;
    let mut rest = source;
    while let Some(position) = rest.find('<') {
        rest = &rest[position + 1..];
        let (closing, tag) = rest.strip_prefix('/').map_or((false, rest), |tag| (true, tag));
        let length =
            tag.find(|c: char| !c.is_ascii_alphanumeric() && c != '-').unwrap_or(tag.len());
        let name = tag[..length.min(16)].to_ascii_lowercase();
        if name.is_empty() || ends_itself(&name) {
            continue;
        }
        if closing {
            open = open.saturating_sub(1);
            foreign = foreign.saturating_sub(usize::from(is_foreign(&name)));
            continue;
        }
        if name == "script" || name == "style" {
            // What looks like a tag in there is none.
            let end = tag.find("</").unwrap_or(tag.len());
            rest = &tag[end..];
        }
        if 0 < foreign && is_empty_element(tag) {
            continue;
        }
        foreign += usize::from(is_foreign(&name));
        open += 1;
        deepest = deepest.max(open);
        if HTML_DEPTH_MAX < deepest {
            break;
        }
    }
    deepest
}

/// Whether a tag ends with `/>`; one of more than a kilobyte counts as if it did not, to keep the scan linear.
fn is_empty_element(tag: &str) -> bool {
    let start = &tag.as_bytes()[..tag.len().min(1024)];
    let end = start.iter().position(|byte| *byte == b'>');
    end.is_some_and(|end| start[..end].ends_with(b"/"))
}

/// Elements in which `/>` ends an element.
fn is_foreign(name: &str) -> bool {
    matches!(name, "svg" | "math")
}

/// Elements that have no end tag or may leave it out.
fn ends_itself(name: &str) -> bool {
    matches!(
        name,
        "area"
            | "base"
            | "body"
            | "br"
            | "caption"
            | "col"
            | "colgroup"
            | "dd"
            | "dt"
            | "embed"
            | "head"
            | "hr"
            | "html"
            | "img"
            | "input"
            | "li"
            | "link"
            | "meta"
            | "option"
            | "optgroup"
            | "p"
            | "param"
            | "rp"
            | "rt"
            | "source"
            | "tbody"
            | "td"
            | "tfoot"
            | "th"
            | "thead"
            | "tr"
            | "track"
            | "wbr"
    )
}

#[derive(Debug, Default)]
struct Reader {
    extract: Extract,
    block: Block,
    /// Open elements whose content nobody sees.
    hidden: usize,
    in_title: bool,
    /// Open `pre` elements, in which line ends mean something.
    preformatted: usize,
}

impl Reader {
    fn open(&mut self, node: &Node) {
        match node {
            Node::Element(element) => {
                if is_hidden(element) {
                    self.hidden += 1;
                    self.in_title = element.name() == "title" && self.extract.title.is_none();
                } else if self.hidden == 0 {
                    self.open_visible(element.name());
                }
            }
            Node::Text(text) => self.text(text),
            Node::Document
            | Node::Fragment
            | Node::Doctype(_)
            | Node::Comment(_)
            | Node::ProcessingInstruction(_) => {}
        }
    }

    fn open_visible(&mut self, name: &str) {
        match name {
            "br" => self.block.text.push('\n'),
            "td" | "th" if !self.block.text.trim().is_empty() => self.block.text.push_str(" | "),
            "h1" | "h2" | "h3" | "h4" | "h5" | "h6" => {
                self.end_block();
                self.block.heading = Some(name.as_bytes()[1] - b'0');
            }
            "pre" => {
                self.end_block();
                self.preformatted += 1;
            }
            _ if is_block(name) => self.end_block(),
            _ => {}
        }
    }

    fn close(&mut self, node: &Node) {
        let Node::Element(element) = node else { return };
        if is_hidden(element) {
            self.hidden = self.hidden.saturating_sub(1);
            self.in_title = false;
        } else if self.hidden == 0 && is_block(element.name()) {
            self.end_block();
            if element.name() == "pre" {
                self.preformatted = self.preformatted.saturating_sub(1);
            }
        }
    }

    fn text(&mut self, text: &str) {
        if self.in_title {
            self.extract.title.get_or_insert_default().push_str(text);
        } else if self.hidden == 0 && 0 < self.preformatted {
            self.block.text.push_str(text);
        } else if self.hidden == 0 {
            // Outside `pre` a line end is only a space.
            self.block.text.push_str(&text.replace(['\n', '\r'], " "));
        }
    }

    fn end_block(&mut self) {
        let block = std::mem::take(&mut self.block);
        if !block.text.trim().is_empty() {
            self.extract.blocks.push(block);
        }
    }
}

/// Whether a reader of the page does not see the element. Text that only machines see must not be quoted to people.
fn is_hidden(element: &Element) -> bool {
    let by_name = matches!(
        element.name(),
        "head"
            | "title"
            | "script"
            | "style"
            | "noscript"
            | "template"
            | "nav"
            | "svg"
            | "iframe"
            | "object"
            | "canvas"
            | "select"
            | "button"
            | "textarea"
            | "dialog"
    );
    let style = || {
        let style: String = element.attr("style")?.split_whitespace().collect();
        let style = style.to_ascii_lowercase();
        Some(style.contains("display:none") || style.contains("visibility:hidden"))
    };
    by_name
        || element.attr("hidden").is_some()
        || element.attr("aria-hidden") == Some("true")
        || style().unwrap_or(false)
}

fn is_block(name: &str) -> bool {
    matches!(
        name,
        "address"
            | "article"
            | "aside"
            | "blockquote"
            | "body"
            | "caption"
            | "dd"
            | "details"
            | "div"
            | "dl"
            | "dt"
            | "fieldset"
            | "figcaption"
            | "figure"
            | "footer"
            | "form"
            | "h1"
            | "h2"
            | "h3"
            | "h4"
            | "h5"
            | "h6"
            | "header"
            | "hr"
            | "html"
            | "legend"
            | "li"
            | "main"
            | "ol"
            | "p"
            | "pre"
            | "section"
            | "summary"
            | "table"
            | "tbody"
            | "tfoot"
            | "thead"
            | "tr"
            | "ul"
    )
}
