//! Plain text, and the normal form that every reader's blocks are brought into.

use auspex_protocol::answer::sanitize;
use unicode_normalization::UnicodeNormalization;

use super::{Block, Extract, Section};
use crate::corpus::limits::{DOCUMENT_TEXT_BYTES_MAX, HEADING_BYTES_MAX};

/// A document's text and where its headings stand in it.
#[derive(Debug)]
pub(super) struct Assembled {
    pub(super) text: String,
    pub(super) sections: Vec<Section>,
}

/// The blocks of a plain text: what is separated by empty lines.
pub(super) fn extract(text: &str) -> Extract {
    // Line ends first, because an empty line is what separates blocks.
    let blocks = sanitize(text).split("\n\n").flat_map(paragraphs).collect();
    Extract { title: None, blocks }
}

/// Joins blocks into one text; none when it is over the limit.
pub(super) fn assemble(blocks: &[Block]) -> Option<Assembled> {
    let mut text = String::new();
    let mut sections = Vec::new();
    for block in blocks {
        let body = normalize(&block.text);
        if body.is_empty() {
            continue;
        }
        if !text.is_empty() {
            text.push_str("\n\n");
        }
        if let Some(level) = block.heading {
            sections.push(Section { start: text.len(), level, heading: heading(&body) });
        }
        text.push_str(&body);
        if DOCUMENT_TEXT_BYTES_MAX < text.len() {
            return None;
        }
    }
    Some(Assembled { text, sections })
}

/// One line of at most [`HEADING_BYTES_MAX`] bytes.
pub(super) fn heading(text: &str) -> String {
    let line = normalize(text).replace('\n', " ");
    line[..line.floor_char_boundary(HEADING_BYTES_MAX)].trim_end().to_owned()
}

/// NFC without control characters; one space between words, one line feed between lines, no empty lines.
fn normalize(text: &str) -> String {
    let composed: String = sanitize(text).nfc().collect();
    let mut normal = String::with_capacity(composed.len());
    for line in composed.lines() {
        for (position, word) in line.split_whitespace().enumerate() {
            let separator = if 0 < position { " " } else { "\n" };
            if !normal.is_empty() {
                normal.push_str(separator);
            }
            normal.push_str(word);
        }
    }
    normal
}

/// Splits at lines that hold only white space.
fn paragraphs(text: &str) -> Vec<Block> {
    let mut blocks = vec![Block::default()];
    for line in text.lines() {
        if line.trim().is_empty() {
            blocks.push(Block::default());
        } else if let Some(block) = blocks.last_mut() {
            block.text.push_str(line);
            block.text.push('\n');
        }
    }
    blocks
}
