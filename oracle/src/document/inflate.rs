//! Whether a file's compressed parts stay within bounds, found out before anything keeps them in memory. A few kilobytes
//! can inflate to gigabytes, and the PDF reader inflates whatever it meets.
//!
//! Every place where a stream could begin is inflated and only counted, so that no spelling of a filter's name escapes,
//! and neither does a stream inside a stream.

use std::io::Read;
use std::time::Instant;

use flate2::read::ZlibDecoder;

use crate::corpus::limits::PDF_FILTERS_MAX;

/// What comes before a stream's bytes.
const KEYWORD: &[u8] = b"stream";

/// True when all streams of a file together inflate to at most `most` bytes, layer by layer.
pub(super) fn is_bounded(bytes: &[u8], most: u64, deadline: Instant) -> bool {
    let mut left = most;
    let mut rest = bytes;
    while let Some(place) = rest.windows(KEYWORD.len()).position(|part| part == KEYWORD) {
        rest = &rest[place + KEYWORD.len()..];
        let Some(content) = content_of(rest) else { continue };
        for layers in 1..=PDF_FILTERS_MAX + 1 {
            if deadline <= Instant::now() {
                return false;
            }
            let Some(inflated) = count(content, layers, left) else { return false };
            if inflated == 0 {
                break;
            }
            // A file has no use for that many filters on top of each other.
            if layers == PDF_FILTERS_MAX + 1 {
                return false;
            }
            left -= inflated;
        }
    }
    true
}

/// The bytes after the end of the keyword's line.
fn content_of(rest: &[u8]) -> Option<&[u8]> {
    rest.strip_prefix(b"\r\n")
        .or_else(|| rest.strip_prefix(b"\n"))
        .or_else(|| rest.strip_prefix(b"\r"))
}

/// How many bytes come out of so many layers; `None` when there are more than `most`.
fn count(content: &[u8], layers: usize, most: u64) -> Option<u64> {
    let mut reader: Box<dyn Read + '_> = Box::new(content);
    for _ in 0..layers {
        reader = Box::new(ZlibDecoder::new(reader));
    }
    let mut buffer = [0; 16 * 1024];
    let mut total = 0;
    loop {
        match reader.read(&mut buffer) {
            // What is not compressed, or is cut off, ends here.
            Ok(0) | Err(_) => return Some(total),
            Ok(length) => total += length as u64,
        }
        if most < total {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::time::Duration;

    use flate2::{Compression, write::ZlibEncoder};

    use super::*;

    const MOST: u64 = 1024 * 1024;

    fn compressed(content: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn bomb(bytes: u64) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
        std::io::copy(&mut std::io::repeat(0).take(bytes), &mut encoder).unwrap();
        encoder.finish().unwrap()
    }

    fn file(streams: &[&[u8]]) -> Vec<u8> {
        let mut file = b"%PDF-1.5\n1 0 obj <</Filter/Fl#61teDecode>>\n".to_vec();
        for stream in streams {
            file.extend_from_slice(b"stream\r\n");
            file.extend_from_slice(stream);
            file.extend_from_slice(b"\nendstream\n");
        }
        file
    }

    fn accepted(streams: &[&[u8]]) -> bool {
        is_bounded(&file(streams), MOST, Instant::now() + Duration::from_secs(600))
    }

    #[test]
    fn honest_streams_pass_and_bombs_do_not() {
        let page = compressed(b"BT (Hello) Tj ET");
        assert!(accepted(&[&page, b"not compressed", b"", &page]));
        let whole = bomb(MOST + 1);
        assert!(whole.len() < 16 * 1024, "a bomb is small");
        assert!(!accepted(&[&page, &whole]));
    }

    #[test]
    fn two_halves_or_a_bomb_in_a_bomb_do_not_pass() {
        let half = bomb(MOST / 2 + 1);
        assert!(accepted(&[&half]));
        assert!(!accepted(&[&half, &half]));
        let nested = compressed(&bomb(MOST + 1));
        assert!(nested.len() < 1024);
        assert!(!accepted(&[&nested]));
        let mut deep = b"x".to_vec();
        for _ in 0..=PDF_FILTERS_MAX {
            deep = compressed(&deep);
        }
        assert!(!accepted(&[&deep]));
    }
}
