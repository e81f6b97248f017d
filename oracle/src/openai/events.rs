//! Server-sent events as they arrive: bytes in any pieces go in, the data of whole events comes out. Pure.
//!
//! Nothing is decoded here, so that a character may be split between two pieces.
//!
//! Source: WHATWG HTML, "Server-sent events".

use std::mem;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Takes a stream apart. It holds one unfinished event at most, whose size the caller bounds through [`Events::held`].
#[derive(Debug, Default)]
pub(super) struct Events {
    line: Vec<u8>,
    /// The lines of data of the event that is under way, each with the line feed that joins it to the next.
    data: Vec<u8>,
    /// The last byte was a carriage return, which ended a line; a line feed that follows belongs to it.
    after_return: bool,
    begun: bool,
}

impl Events {
    /// Takes the next bytes and gives the data of the events that they finish. Comments, which servers send to keep a
    /// connection open, and fields other than `data` are passed over.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut finished = Vec::new();
        for byte in bytes {
            let after_return = mem::replace(&mut self.after_return, *byte == b'\r');
            match byte {
                b'\n' if after_return => {}
                b'\n' | b'\r' => finished.extend(self.end_line()),
                _ => self.line.push(*byte),
            }
        }
        finished
    }

    /// Bytes of the event that is under way.
    pub(super) fn held(&self) -> usize {
        self.line.len() + self.data.len()
    }

    /// The data of an event that the stream ended behind, although the empty line that ends it is missing: some servers
    /// leave it out.
    pub(super) fn end(mut self) -> Option<Vec<u8>> {
        if !self.line.is_empty() {
            self.end_line();
        }
        self.end_event()
    }

    fn end_line(&mut self) -> Option<Vec<u8>> {
        let mut line = mem::take(&mut self.line);
        if !mem::replace(&mut self.begun, true) && line.starts_with(BYTE_ORDER_MARK) {
            line.drain(..BYTE_ORDER_MARK.len());
        }
        if line.is_empty() {
            return self.end_event();
        }
        if let Some(value) = line.strip_prefix(b"data:") {
            self.data.extend_from_slice(value.strip_prefix(b" ").unwrap_or(value));
            self.data.push(b'\n');
        }
        None
    }

    fn end_event(&mut self) -> Option<Vec<u8>> {
        let mut data = mem::take(&mut self.data);
        data.pop();
        (!data.is_empty()).then_some(data)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a stream says when it comes in one piece.
    fn whole(stream: &[u8]) -> Vec<String> {
        let mut events = Events::default();
        let mut data = events.push(stream);
        data.extend(events.end());
        data.into_iter().map(|data| String::from_utf8(data).unwrap()).collect()
    }

    #[test]
    fn an_event_is_its_data_and_nothing_else() {
        for (stream, data) in [
            ("data: one\n\ndata:two\n\n", vec!["one", "two"]),
            ("\u{feff}data: one\r\n\r\ndata: two\r\rdata: three\n\n", vec!["one", "two", "three"]),
            (": keep-alive\n\n:\n\nevent: x\nid: 7\nretry: 1\n\n", vec![]),
            ("event: x\ndata: one\nother\nid: 7\n\n", vec!["one"]),
            ("data: one\ndata:  two\n\n", vec!["one\n two"]),
            ("data\n\ndata:\n\ndatax: no\n\n", vec![]),
            ("data: one\n\ndata: [DONE]", vec!["one", "[DONE]"]),
            ("data: one\n", vec!["one"]),
            ("\n\r\n", vec![]),
            ("", vec![]),
        ] {
            assert_eq!(whole(stream.as_bytes()), data, "{stream:?}");
        }
    }

    #[test]
    fn what_is_held_is_one_event() {
        let mut events = Events::default();
        events.push(b": a comment\ndata: abc");
        assert_eq!(events.held(), 9);
        events.push(b"\n\ndata: ");
        assert_eq!(events.held(), 6);
    }

    proptest! {
        #[test]
        fn it_does_not_matter_where_a_stream_is_cut(
            lines in prop::collection::vec(("(data: ?|: |event: )?[aé🦀:]{0,4}", "\n|\r\n|\r"), 0..12),
            cuts in prop::collection::vec(0usize..200, 0..8),
        ) {
            let stream: String = lines.into_iter().map(|(line, end)| line + &end).collect();
            let stream = stream.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(stream.len())).collect();
            cuts.extend([0, stream.len()]);
            cuts.sort_unstable();
            let mut events = Events::default();
            let mut data = Vec::new();
            for cut in cuts.windows(2) {
                data.extend(events.push(&stream[cut[0]..cut[1]]));
            }
            data.extend(events.end());
            let data: Vec<String> =
                data.into_iter().map(|data| String::from_utf8(data).unwrap()).collect();
            prop_assert_eq!(data, whole(stream));
        }
    }
}
