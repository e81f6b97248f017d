//! PDF, through pdf-extract. What it would recurse into without end is refused before it starts; what makes it panic or
//! run on is the business of `isolation`.

use std::{collections::BTreeMap, fmt, io, time::Instant};

use pdf_extract::{Dictionary, Object, ObjectId, PlainTextOutput, Stream};

use super::{DocumentError, Extract, inflate, text};
use crate::corpus::limits::{
    DOCUMENT_TEXT_BYTES_MAX, PDF_FORM_DEPTH_MAX, PDF_INFLATED_BYTES_MAX, PDF_LZW_BYTES_MAX,
    PDF_PAGES_MAX,
};

/// Most steps from a page to the root of the page tree, over which pdf-extract recurses.
const PAGE_TREE_DEPTH_MAX: usize = 64;

pub(super) fn extract(
    name: &str,
    bytes: &[u8],
    deadline: Instant,
) -> Result<Extract, DocumentError> {
    let unreadable = |reason: &dyn fmt::Display| DocumentError::Unreadable {
        name: name.to_owned(),
        reason: reason.to_string(),
    };
    // Before the reader sees the file: it inflates object streams while it loads.
    if !inflate::is_bounded(bytes, PDF_INFLATED_BYTES_MAX, deadline) {
        return Err(DocumentError::Inflates { name: name.to_owned() });
    }
    let mut document =
        pdf_extract::Document::load_mem(bytes).map_err(|error| unreadable(&error))?;
    // An empty user password opens the file to every reader; any other one is a secret that we do not have.
    if document.is_encrypted() && document.decrypt("").is_err() {
        return Err(DocumentError::Encrypted { name: name.to_owned() });
    }
    if PDF_LZW_BYTES_MAX < lzw_bytes(&document) {
        return Err(DocumentError::Inflates { name: name.to_owned() });
    }
    check_pages(name, &document)?;
    if !forms_end(&document) {
        return Err(DocumentError::FormsTooDeep { name: name.to_owned() });
    }

    let mut written = Written { text: Vec::new(), deadline, stopped: None };
    let outcome = {
        let mut output = PlainTextOutput::new(&mut written as &mut dyn io::Write);
        pdf_extract::output_doc(&document, &mut output)
    };
    match (written.stopped, outcome) {
        (Some(Stop::TooMuch), _) => Err(DocumentError::TooMuchText { name: name.to_owned() }),
        (Some(Stop::TooSlow), _) => Err(DocumentError::TooSlow { name: name.to_owned() }),
        (None, Err(error)) => Err(unreadable(&error)),
        (None, Ok(())) => {
            let title = title(&document).filter(|title| !title.trim().is_empty());
            Ok(Extract { title, ..text::extract(&String::from_utf8_lossy(&written.text)) })
        }
    }
}

/// Bytes of all streams that name LZW among their filters.
fn lzw_bytes(document: &pdf_extract::Document) -> usize {
    let streams = document.objects.values().filter_map(|object| object.as_stream().ok());
    streams
        .filter(|stream| {
            stream.filters().is_ok_and(|names| names.iter().any(|name| *name == b"LZWDecode"))
        })
        .map(|stream| stream.content.len())
        .sum()
}

fn check_pages(name: &str, document: &pdf_extract::Document) -> Result<(), DocumentError> {
    let pages = document.get_pages();
    if PDF_PAGES_MAX < pages.len() {
        return Err(DocumentError::TooManyPages { name: name.to_owned(), pages: pages.len() });
    }
    let parent =
        |id: ObjectId| document.get_dictionary(id).ok()?.get(b"Parent").ok()?.as_reference().ok();
    for page in pages.into_values() {
        let mut node = page;
        let mut depth = 0;
        while let Some(next) = parent(node) {
            node = next;
            depth += 1;
            if PAGE_TREE_DEPTH_MAX < depth {
                let reason = format!("its page tree is deeper than {PAGE_TREE_DEPTH_MAX}");
                return Err(DocumentError::Unreadable { name: name.to_owned(), reason });
            }
        }
    }
    Ok(())
}

/// Whether form objects, which pdf-extract enters recursively, nest within the limit and in no circle.
///
/// Every circle passes through a form that draws a form, so it is enough to look at forms. One that draws something
/// without resources of its own draws from those of whoever draws it; it could draw itself and is refused.
fn forms_end(document: &pdf_extract::Document) -> bool {
    let mut draws: BTreeMap<ObjectId, Vec<ObjectId>> = BTreeMap::new();
    for (id, object) in &document.objects {
        let Object::Stream(stream) = object else { continue };
        let subtype = stream.dict.get(b"Subtype").and_then(Object::as_name);
        if !subtype.is_ok_and(|name| name == b"Form") {
            continue;
        }
        match stream.dict.get(b"Resources") {
            Ok(resources) => match dictionary(document, resources) {
                Some(resources) => draws.insert(*id, drawn(document, resources)),
                None => return false,
            },
            Err(_) if mentions_drawing(stream) => return false,
            Err(_) => draws.insert(*id, Vec::new()),
        };
    }
    // Peels off the forms that draw only what is peeled off already, one level per round.
    for _ in 0..PDF_FORM_DEPTH_MAX {
        let inner: Vec<ObjectId> = draws
            .iter()
            .filter(|(_, drawn)| !drawn.iter().any(|form| draws.contains_key(form)))
            .map(|(form, _)| *form)
            .collect();
        for form in inner {
            draws.remove(&form);
        }
    }
    draws.is_empty()
}

fn drawn(document: &pdf_extract::Document, resources: &Dictionary) -> Vec<ObjectId> {
    let objects = resources.get(b"XObject").ok().and_then(|found| dictionary(document, found));
    let Some(objects) = objects else { return Vec::new() };
    objects.iter().filter_map(|(_, object)| resolved(document, object)).collect()
}

/// The last reference of a chain of references.
fn resolved(document: &pdf_extract::Document, object: &Object) -> Option<ObjectId> {
    let (last, _) = document.dereference(object).ok()?;
    last.or_else(|| object.as_reference().ok())
}

fn dictionary<'a>(
    document: &'a pdf_extract::Document,
    object: &'a Object,
) -> Option<&'a Dictionary> {
    document.dereference(object).ok()?.1.as_dict().ok()
}

fn mentions_drawing(stream: &Stream) -> bool {
    stream.get_plain_content().map_or(true, |content| content.windows(2).any(|two| two == b"Do"))
}

fn title(document: &pdf_extract::Document) -> Option<String> {
    let information = dictionary(document, document.trailer.get(b"Info").ok()?)?;
    let title = document.dereference(information.get(b"Title").ok()?).ok()?.1;
    pdf_extract::decode_text_string(title).ok()
}

#[derive(Debug, Clone, Copy)]
enum Stop {
    TooMuch,
    TooSlow,
}

/// Takes text until a limit is reached; the error then ends pdf-extract's loops.
#[derive(Debug)]
struct Written {
    text: Vec<u8>,
    deadline: Instant,
    stopped: Option<Stop>,
}

impl io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if DOCUMENT_TEXT_BYTES_MAX < self.text.len() + bytes.len() {
            self.stopped = Some(Stop::TooMuch);
        } else if self.deadline <= Instant::now() {
            self.stopped = Some(Stop::TooSlow);
        }
        if self.stopped.is_some() {
            return Err(io::Error::other("a limit is reached"));
        }
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
