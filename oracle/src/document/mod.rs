//! Documents: a file's bytes become one normalised text with its title and its sections.
//!
//! The text is what spans and citations point into. It is UTF-8 in normalisation form C; blocks (paragraphs, list items,
//! table rows, headings) are separated by one empty line, and a single line feed is only a line break inside a block.
//! It holds no control characters and nothing that changes how other text is displayed. The same bytes under the same
//! media type always give the same text, so that operators agree on spans.

mod html;
mod inflate;
mod isolation;
mod markdown;
mod pdf;
mod text;

use std::fmt;

use alloy::primitives::B256;
use sha2::{Digest, Sha256};
use unicode_normalization::UnicodeNormalization;

use crate::corpus::limits::{
    DOCUMENT_BYTES_MAX, DOCUMENT_NAME_BYTES_MAX, DOCUMENT_TEXT_BYTES_MAX, EXTRACTION_TIMEOUT,
    PDF_FORM_DEPTH_MAX, PDF_INFLATED_BYTES_MAX, PDF_PAGES_MAX,
};

/// A document, ready to be cut into chunks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Its name in the corpus: a relative path with `/` as separator.
    pub name: String,
    pub media: Media,
    /// The first heading or the declared title; the name when there is neither.
    pub title: String,
    pub text: String,
    /// Headings in their order; empty for media without headings.
    pub sections: Vec<Section>,
    /// SHA-256 of the file.
    pub hash: B256,
}

/// A heading and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// Byte of the text at which the heading begins.
    pub start: usize,
    /// 1 is the outermost.
    pub level: u8,
    pub heading: String,
}

/// What kinds of file are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Media {
    Markdown,
    Plain,
    Html,
    Pdf,
}

/// Why a file is refused. Every message names the file and, where there is one, the limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    #[error(
        "document name {0:?}: must be 1 to {DOCUMENT_NAME_BYTES_MAX} bytes without control characters"
    )]
    Name(String),
    #[error("{name}: has 0 bytes; there is nothing to read")]
    Empty { name: String },
    #[error("{name}: {bytes} bytes, over the limit of {DOCUMENT_BYTES_MAX}; split the file")]
    TooLarge { name: String, bytes: usize },
    #[error(
        "{name}: more than {DOCUMENT_TEXT_BYTES_MAX} bytes of text, which is the limit; split the file"
    )]
    TooMuchText { name: String },
    #[error(
        "{name}: {media} is not read; Markdown, plain text, HTML and PDF are (.md .txt .html .pdf)"
    )]
    UnsupportedMedia { name: String, media: String },
    #[error("{name}: not UTF-8 at byte {position}; convert the file")]
    NotUtf8 { name: String, position: usize },
    #[error("{name}: the PDF is encrypted; remove its password first")]
    Encrypted { name: String },
    #[error("{name}: holds no text{}", if *.media == Media::Pdf { "; a scanned PDF needs text recognition first" } else { "" })]
    NoText { name: String, media: Media },
    #[error("{name}: the PDF has {pages} pages, over the limit of {PDF_PAGES_MAX}; split the file")]
    TooManyPages { name: String, pages: usize },
    #[error("{name}: the PDF's compressed parts grow beyond {} MiB", PDF_INFLATED_BYTES_MAX >> 20)]
    Inflates { name: String },
    #[error("{name}: the PDF nests form objects deeper than {PDF_FORM_DEPTH_MAX} or in a circle")]
    FormsTooDeep { name: String },
    #[error("{name}: damaged: {reason}")]
    Unreadable { name: String, reason: String },
    #[error("{name}: reading took longer than {} seconds, which is the limit", EXTRACTION_TIMEOUT.as_secs())]
    TooSlow { name: String },
    #[error("{name}: too many documents are being read; try again later")]
    Busy { name: String },
}

impl Document {
    /// Reads a file. `media_type` (as in HTTP's `Content-Type`) decides how; without one the name's extension does.
    ///
    /// Blocks the thread for up to [`EXTRACTION_TIMEOUT`]. Never panics, whatever the bytes.
    pub fn read(name: &str, media_type: Option<&str>, bytes: &[u8]) -> Result<Self, DocumentError> {
        let name = normalized_name(name)?;
        if bytes.is_empty() {
            return Err(DocumentError::Empty { name });
        }
        if DOCUMENT_BYTES_MAX < bytes.len() {
            return Err(DocumentError::TooLarge { name, bytes: bytes.len() });
        }
        let media = match media_type {
            Some(media_type) => Media::of_type(media_type).ok_or(media_type),
            None => Media::of_name(&name).ok_or("this kind of file"),
        };
        let media = media.map_err(|media| DocumentError::UnsupportedMedia {
            name: name.clone(),
            media: media.escape_default().to_string(),
        })?;
        let hash = B256::from(<[u8; 32]>::from(Sha256::digest(bytes)));
        let extract = extract(&name, media, bytes)?;
        let Some(text) = text::assemble(&extract.blocks) else {
            return Err(DocumentError::TooMuchText { name });
        };
        if text.text.is_empty() {
            return Err(DocumentError::NoText { name, media });
        }
        let title = extract
            .title
            .map(|title| text::heading(&title))
            .filter(|title| !title.is_empty())
            .or_else(|| text.sections.first().map(|section| section.heading.clone()))
            .unwrap_or_else(|| name.clone());
        Ok(Self { name, media, title, text: text.text, sections: text.sections, hash })
    }

    /// The headings that enclose the byte at `position`, outermost first, without one that begins there.
    pub fn section_path(&self, position: usize) -> Vec<&str> {
        let mut path: Vec<&Section> = Vec::new();
        for section in self.sections.iter().take_while(|section| section.start <= position) {
            path.retain(|outer| outer.level < section.level);
            if section.start < position {
                path.push(section);
            }
        }
        path.iter().map(|section| section.heading.as_str()).collect()
    }
}

impl Media {
    /// The medium that a file name's extension stands for.
    pub fn of_name(name: &str) -> Option<Self> {
        let (_, extension) = name.rsplit_once('.')?;
        match extension.to_ascii_lowercase().as_str() {
            "md" | "markdown" => Some(Self::Markdown),
            "txt" | "text" => Some(Self::Plain),
            "html" | "htm" | "xhtml" => Some(Self::Html),
            "pdf" => Some(Self::Pdf),
            _ => None,
        }
    }

    /// The medium that a media type stands for; its parameters are ignored.
    pub fn of_type(media_type: &str) -> Option<Self> {
        let essence = media_type.split(';').next().unwrap_or_default().trim();
        match essence.to_ascii_lowercase().as_str() {
            "text/markdown" | "text/x-markdown" => Some(Self::Markdown),
            "text/plain" => Some(Self::Plain),
            "text/html" | "application/xhtml+xml" => Some(Self::Html),
            "application/pdf" => Some(Self::Pdf),
            _ => None,
        }
    }

    /// Its media type.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Markdown => "text/markdown",
            Self::Plain => "text/plain",
            Self::Html => "text/html",
            Self::Pdf => "application/pdf",
        }
    }
}

impl fmt::Display for Media {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// A document's name as it is stored and cited: NFC, `/` between parts, nothing that cannot be printed.
pub fn normalized_name(name: &str) -> Result<String, DocumentError> {
    let normalized: String = name.replace('\\', "/").nfc().collect();
    let printable = normalized
        .chars()
        .all(|character| character != '\n' && auspex_protocol::answer::is_visible(character));
    let fits = !normalized.trim().is_empty() && normalized.len() <= DOCUMENT_NAME_BYTES_MAX;
    if fits && printable {
        Ok(normalized)
    } else {
        let shown: String = name.chars().take(64).collect();
        Err(DocumentError::Name(shown))
    }
}

/// What a reader found in a file, not yet normalised.
#[derive(Debug, Default)]
struct Extract {
    title: Option<String>,
    blocks: Vec<Block>,
}

#[derive(Debug, Default)]
struct Block {
    /// The heading's level, when it is one.
    heading: Option<u8>,
    text: String,
}

fn extract(name: &str, media: Media, bytes: &[u8]) -> Result<Extract, DocumentError> {
    let owned = bytes.to_vec();
    let file = name.to_owned();
    let work = move |deadline| match media {
        Media::Pdf => pdf::extract(&file, &owned, deadline),
        Media::Markdown => Ok(markdown::extract(utf8(&file, &owned)?)),
        Media::Html => {
            let source = utf8(&file, &owned)?;
            html::extract(source).map_err(|reason| DocumentError::Unreadable { name: file, reason })
        }
        Media::Plain => Ok(text::extract(utf8(&file, &owned)?)),
    };
    isolation::run(work).map_err(|failure| {
        let name = name.to_owned();
        match failure {
            isolation::Failure::Panicked => {
                DocumentError::Unreadable { name, reason: "its reader gave up on it".to_owned() }
            }
            isolation::Failure::TimedOut => DocumentError::TooSlow { name },
            isolation::Failure::Busy => DocumentError::Busy { name },
        }
    })?
}

fn utf8<'a>(name: &str, bytes: &'a [u8]) -> Result<&'a str, DocumentError> {
    std::str::from_utf8(bytes).map_err(|error| DocumentError::NotUtf8 {
        name: name.to_owned(),
        position: error.valid_up_to(),
    })
}
