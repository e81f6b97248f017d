//! What another server says, read while it comes: a stream of events or, from servers that do not stream although they are
//! asked to, one document. Pure.
//!
//! Which of the two it is shows in the first byte, because not every server names its content rightly.

use std::mem;

use serde::Deserialize;
use serde_json::Value;

use super::events::Events;
use super::wire::{Said, Usage};

/// Largest document, largest event and largest text that are read, in bytes.
pub(super) const REPLY_BYTES_MAX: usize = 1024 * 1024;

/// Largest stream that is read, in bytes: a token's event is some hundred bytes long.
const STREAM_BYTES_MAX: usize = 16 * REPLY_BYTES_MAX;

/// What ends a stream.
const END: &[u8] = b"[DONE]";

/// Why there is no answer in it. The texts hold the server's own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Flaw {
    /// It may be better next time: the stream broke off, or the server says that it failed.
    Passing(String),
    /// The server will not have this request: its status and its complaint.
    Refused(u16, String),
    /// It is no answer at all.
    Nonsense(String),
}

/// An answer, as far as it has come.
#[derive(Debug, Default)]
pub(super) struct Reply {
    form: Form,
    bytes: usize,
    said: Option<String>,
    /// The server has said why the text ends, so that nothing of it is missing.
    finished: bool,
    /// Nothing comes after it.
    ended: bool,
    usage: Option<Usage>,
}

#[derive(Debug, Default)]
enum Form {
    /// Nothing has come, or space.
    #[default]
    Unknown,
    Document(Vec<u8>),
    Stream(Events),
}

/// A document or an event: the fields that are read. The rest differs between servers.
#[derive(Deserialize)]
struct Piece {
    #[serde(default)]
    choices: Vec<PieceChoice>,
    usage: Option<Usage>,
    error: Option<Value>,
    /// `error` in the older of vLLM's two forms, where the complaint is not in a field of its own.
    object: Option<String>,
}

#[derive(Deserialize)]
struct PieceChoice {
    #[serde(default)]
    index: u32,
    message: Option<Said>,
    delta: Option<Said>,
    finish_reason: Option<String>,
}

impl Reply {
    /// Takes what has come. True when the text has grown.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<bool, Flaw> {
        self.bytes = self.bytes.saturating_add(bytes.len());
        let bytes = match self.form {
            Form::Unknown => {
                let bytes = bytes.trim_ascii_start();
                self.form = match bytes.first() {
                    None => Form::Unknown,
                    Some(b'{') => Form::Document(Vec::new()),
                    // A comment, a byte order mark, or one of the fields data, event, id and retry.
                    Some(b':' | 0xef | b'd' | b'e' | b'i' | b'r') => {
                        Form::Stream(Events::default())
                    }
                    Some(_) => {
                        let what = "it is neither a JSON object nor a stream of events";
                        return Err(Flaw::Nonsense(what.into()));
                    }
                };
                bytes
            }
            Form::Document(_) | Form::Stream(_) => bytes,
        };
        let length = self.text().len();
        let (most, held) = match &mut self.form {
            Form::Unknown => (REPLY_BYTES_MAX, 0),
            Form::Document(document) => {
                document.extend_from_slice(bytes);
                (REPLY_BYTES_MAX, 0)
            }
            Form::Stream(events) => {
                let finished = events.push(bytes);
                let held = events.held();
                for event in finished {
                    self.read(&event)?;
                }
                (STREAM_BYTES_MAX, held)
            }
        };
        if most < self.bytes || REPLY_BYTES_MAX < held.max(self.text().len()) {
            return Err(Flaw::Passing(format!("it sends more than {most} bytes")));
        }
        Ok(length < self.text().len())
    }

    /// The text so far.
    pub(super) fn text(&self) -> &str {
        self.said.as_deref().unwrap_or_default()
    }

    /// Nothing of the answer is missing, whatever may still come.
    pub(super) fn is_finished(&self) -> bool {
        self.finished
    }

    /// Nothing more comes.
    pub(super) fn is_ended(&self) -> bool {
        self.ended
    }

    /// The whole text, and what the server counted, after the last byte.
    pub(super) fn end(mut self) -> Result<(String, Option<Usage>), Flaw> {
        match mem::take(&mut self.form) {
            Form::Unknown => return Err(Flaw::Passing("it is empty".into())),
            Form::Document(document) => {
                self.read(&document)?;
                // A document that can be read is whole.
                self.finished = true;
            }
            Form::Stream(events) => {
                if let Some(event) = events.end().filter(|_| !self.finished) {
                    // What cannot be read was cut off, like the stream.
                    match self.read(&event) {
                        Ok(()) | Err(Flaw::Nonsense(_)) => {}
                        Err(flaw) => return Err(flaw),
                    }
                }
            }
        }
        if !self.finished {
            return Err(Flaw::Passing("the stream ended before the answer".into()));
        }
        let text = self.said.ok_or_else(|| Flaw::Nonsense("it has no content".into()))?;
        Ok((text, self.usage))
    }

    fn read(&mut self, data: &[u8]) -> Result<(), Flaw> {
        if self.ended {
            return Ok(());
        }
        if data.trim_ascii() == END {
            (self.finished, self.ended) = (true, true);
            return Ok(());
        }
        let piece: Piece =
            serde_json::from_slice(data).map_err(|error| Flaw::Nonsense(error.to_string()))?;
        if let Some(error) = piece.error.filter(|error| !error.is_null()) {
            return Err(flaw(&error));
        }
        if piece.object.as_deref() == Some("error") {
            return Err(flaw(&serde_json::from_slice(data).unwrap_or(Value::Null)));
        }
        self.usage = piece.usage.or(self.usage);
        for choice in piece.choices.into_iter().filter(|choice| choice.index == 0) {
            self.finished |= choice.finish_reason.is_some();
            let said = choice.delta.or(choice.message).and_then(|said| said.content);
            if let Some(said) = said {
                self.said.get_or_insert_default().push_str(&said);
            }
        }
        Ok(())
    }
}

/// What a server's own complaint means: a code in the 400s blames the request, if it is not one of the two that pass.
fn flaw(error: &Value) -> Flaw {
    let complaint = match error["message"].as_str().or(error.as_str()) {
        Some(message) => message.to_owned(),
        None => error.to_string(),
    };
    let code = &error["code"];
    let code = code.as_u64().or_else(|| code.as_str()?.parse().ok());
    match code.and_then(|code| u16::try_from(code).ok()) {
        Some(code @ (400..=407 | 409..=428 | 430..=499)) => Flaw::Refused(code, complaint),
        _ => Flaw::Passing(complaint),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8]) -> Result<String, Flaw> {
        let mut reply = Reply::default();
        reply.push(bytes)?;
        Ok(reply.end()?.0)
    }

    fn stream(events: &[&str]) -> String {
        events.iter().map(|event| format!("data: {event}\n\n")).collect()
    }

    const ROLE: &str = r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}"#;
    const ONE: &str =
        r#"{"choices":[{"index":0,"delta":{"content":"Só "},"finish_reason":null}],"usage":null}"#;
    const TWO: &str = r#"{"choices":[{"delta":{"content":"🦀 it is."}}]}"#;
    const STOP: &str = r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
    const USAGE: &str =
        r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}"#;

    #[test]
    fn a_stream_is_whole_when_the_server_says_so() {
        let whole = Ok("Só 🦀 it is.".to_owned());
        for events in [
            &[ROLE, ONE, TWO, STOP, USAGE, "[DONE]"][..],
            &[ONE, TWO, STOP],
            &[ONE, TWO, "[DONE]"],
            &[ONE, TWO, STOP, "[DONE]", "not JSON", ONE],
        ] {
            assert_eq!(read(stream(events).as_bytes()), whole, "{events:?}");
        }
        let mut cut = stream(&[ONE, TWO, STOP]);
        cut.truncate(cut.len() - 2);
        assert_eq!(read(cut.as_bytes()), whole);
        cut.truncate(cut.len() - 1);
        let broken = Flaw::Passing("the stream ended before the answer".to_owned());
        assert_eq!(read(cut.as_bytes()), Err(broken.clone()));
        assert_eq!(read(stream(&[ONE]).as_bytes()), Err(broken.clone()));
        assert_eq!(read(b": waiting\n\n"), Err(broken));
    }

    #[test]
    fn a_document_is_read_as_before() {
        let said = r#" {"id":"x","choices":[{"index":0,"message":{"role":"assistant","content":"Yes."}}]}"#;
        assert_eq!(read(said.as_bytes()), Ok("Yes.".to_owned()));
        for nonsense in ["{", "[]", "<html>", r#"{"choices":[{"message":{}}]}"#, "{}"] {
            let read = read(nonsense.as_bytes());
            assert!(matches!(read, Err(Flaw::Nonsense(_))), "{nonsense:?}: {read:?}");
        }
        for nothing in ["", " \n"] {
            assert_eq!(read(nothing.as_bytes()), Err(Flaw::Passing("it is empty".to_owned())));
        }
    }

    #[test]
    fn a_complaint_in_the_stream_is_no_answer() {
        for (event, flaw) in [
            (r#"{"error":{"message":"busy","code":503}}"#, Flaw::Passing("busy".into())),
            (r#"{"error":{"message":"slowly","code":"429"}}"#, Flaw::Passing("slowly".into())),
            (r#"{"error":{"message":"who?","code":"bad_key"}}"#, Flaw::Passing("who?".into())),
            (r#"{"error":"lost"}"#, Flaw::Passing("lost".into())),
            (r#"{"error":{"message":"long","code":400}}"#, Flaw::Refused(400, "long".into())),
            (r#"{"object":"error","message":"no","code":404}"#, Flaw::Refused(404, "no".into())),
            (r#"{"error":{}}"#, Flaw::Passing("{}".into())),
        ] {
            assert_eq!(
                read(stream(&[ONE, event, STOP, "[DONE]"]).as_bytes()),
                Err(flaw),
                "{event}"
            );
        }
        let nonsense = read(stream(&[ONE, "{\"choices\"", STOP]).as_bytes());
        assert!(matches!(nonsense, Err(Flaw::Nonsense(_))), "{nonsense:?}");
    }

    #[test]
    fn what_is_too_long_is_not_held() {
        let mut reply = Reply::default();
        let event = stream(&[&ONE.replace("Só", &"x".repeat(1000))]);
        let mut pushed = 0;
        let flaw = loop {
            match reply.push(event.as_bytes()) {
                Ok(grown) => assert!(grown),
                Err(flaw) => break flaw,
            }
            pushed += 1;
        };
        assert_eq!(pushed, REPLY_BYTES_MAX / 1001);
        assert!(matches!(flaw, Flaw::Passing(_)), "{flaw:?}");
        for begin in ["{", "data: ", ": "] {
            let mut reply = Reply::default();
            reply.push(begin.as_bytes()).unwrap();
            let most = vec![b'x'; REPLY_BYTES_MAX];
            assert!(reply.push(&most).is_err(), "{begin}");
        }
        let comments = ": keep-alive\n\n".repeat(1 << 16);
        let mut reply = Reply::default();
        let pushed = (0..).take_while(|_| reply.push(comments.as_bytes()).is_ok()).count();
        assert_eq!(pushed, STREAM_BYTES_MAX / comments.len());
    }

    proptest! {
        #[test]
        fn it_does_not_matter_where_a_reply_is_cut(cuts in prop::collection::vec(0usize..700, 0..8)) {
            let stream = stream(&[ROLE, ONE, TWO, STOP, USAGE, "[DONE]"]);
            let stream = stream.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(stream.len())).collect();
            cuts.extend([0, stream.len()]);
            cuts.sort_unstable();
            let mut reply = Reply::default();
            let mut shown = String::new();
            for cut in cuts.windows(2) {
                let grown = reply.push(&stream[cut[0]..cut[1]]).unwrap();
                prop_assert_eq!(grown, shown.len() < reply.text().len());
                prop_assert!(reply.text().starts_with(&shown));
                shown = reply.text().to_owned();
            }
            prop_assert!(reply.is_finished() && reply.is_ended());
            let (text, usage) = reply.end().unwrap();
            prop_assert_eq!(text, "Só 🦀 it is.");
            prop_assert_eq!(usage.unwrap().total_tokens, 7);
        }
    }
}
