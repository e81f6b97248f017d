//! Outputs that follow a JSON schema.
//!
//! A schema without recursion describes a regular language over bytes. It is compiled into an
//! automaton; before each token is chosen, all tokens whose bytes lead nowhere are ruled out.

mod automaton;
mod schema;

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;

use automaton::{Lazy, StateId};

/// The tokens of a vocabulary by their bytes.
#[derive(Debug)]
pub(crate) struct Vocabulary {
    /// Bytes and id of every token that has bytes, in the order of the bytes.
    sorted: Vec<(Vec<u8>, u32)>,
    size: usize,
}

impl Vocabulary {
    /// `bytes` of every id, empty for those that are no text.
    pub(crate) fn new(bytes: &[Vec<u8>]) -> Self {
        let mut sorted: Vec<(Vec<u8>, u32)> = bytes
            .iter()
            .zip(0..)
            .filter(|(bytes, _)| !bytes.is_empty())
            .map(|(bytes, id)| (bytes.clone(), id))
            .collect();
        sorted.sort_unstable();
        Self { sorted, size: bytes.len() }
    }
}

/// What one output has to follow, and how far it is.
#[derive(Debug)]
pub(crate) struct Constraint {
    vocabulary: Arc<Vocabulary>,
    bytes_of: BTreeMap<u32, usize>,
    lazy: Lazy,
    state: StateId,
    /// For each state that was asked for, which ids may follow.
    masks: BTreeMap<StateId, Vec<bool>>,
}

impl Constraint {
    /// `Err` names the part of the schema that is not supported, and what is.
    pub(crate) fn new(schema: &Value, vocabulary: Arc<Vocabulary>) -> Result<Self, String> {
        let lazy = Lazy::new(schema::compile(schema)?);
        let bytes_of =
            vocabulary.sorted.iter().enumerate().map(|(place, (_, id))| (*id, place)).collect();
        let state = lazy.start();
        Ok(Self { vocabulary, bytes_of, lazy, state, masks: BTreeMap::new() })
    }

    /// Rules out every token that cannot follow; `ends` may follow where the output is complete.
    pub(crate) fn mask(&mut self, logits: &mut [f32], ends: &[u32]) {
        if !self.masks.contains_key(&self.state) {
            let mask = self.allowed();
            self.masks.insert(self.state, mask);
        }
        let complete = self.lazy.accepts(self.state);
        let Some(mask) = self.masks.get(&self.state) else { return };
        for (id, logit) in logits.iter_mut().enumerate() {
            let ends_here = complete && ends.contains(&(id as u32));
            if !ends_here && !mask.get(id).copied().unwrap_or(false) {
                *logit = f32::NEG_INFINITY;
            }
        }
    }

    /// The output goes on with `token`.
    pub(crate) fn push(&mut self, token: u32) {
        let Some(place) = self.bytes_of.get(&token) else { return };
        for byte in &self.vocabulary.sorted[*place].0 {
            self.state = self.lazy.step(self.state, *byte);
        }
    }

    /// Which ids may follow. Tokens with a common beginning stand together, so each beginning is
    /// followed once.
    fn allowed(&mut self) -> Vec<bool> {
        let mut mask = vec![false; self.vocabulary.size];
        // The states behind each byte of the last token, as far as they lead somewhere.
        let mut path = vec![self.state];
        let mut last: &[u8] = &[];
        for (bytes, id) in &self.vocabulary.sorted {
            let common = last.iter().zip(bytes).take_while(|(a, b)| a == b).count();
            path.truncate(common + 1);
            while path.len() <= bytes.len() {
                let Some(state) = path.last() else { break };
                let next = self.lazy.step(*state, bytes[path.len() - 1]);
                if self.lazy.is_dead(next) {
                    break;
                }
                path.push(next);
            }
            mask[*id as usize] = path.len() == bytes.len() + 1;
            last = &bytes[..path.len() - 1];
        }
        mask
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts(schema: &Value, text: &str) -> bool {
        let mut lazy = Lazy::new(schema::compile(schema).unwrap());
        let end = text.bytes().fold(lazy.start(), |state, byte| lazy.step(state, byte));
        lazy.accepts(end)
    }

    #[test]
    fn outputs_are_what_the_schema_says() {
        let schema = serde_json::json!({
            "type": "object",
            "properties": {
                "answer": {"enum": ["yes", "no"]},
                "note": {"type": "string", "maxLength": 4},
                "score": {"type": "integer"},
                "ratio": {"type": "number"},
                "tags": {"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 2},
                "nothing": {"type": ["null", "string"]},
            },
            "required": ["answer", "score"],
            "additionalProperties": false,
        });
        for text in [
            r#"{"answer":"yes","score":12}"#,
            r#"{"answer": "no", "note": "añ🦀\n", "score": -3, "ratio": 0.25}"#,
            r#"{"answer":"no","score":0,"tags":[true, false],"nothing":null}"#,
            r#"{"answer":"no","score":0,"nothing":"x"}"#,
        ] {
            serde_json::from_str::<Value>(text).unwrap();
            assert!(accepts(&schema, text), "{text}");
        }
        for text in [
            "",
            "{}",
            r#"{"answer":"maybe","score":1}"#,
            r#"{"score":1,"answer":"yes"}"#,
            r#"{"answer":"yes"}"#,
            r#"{"answer":"yes","score":01}"#,
            r#"{"answer":"yes","score":1.5}"#,
            r#"{"answer":"yes","note":"12345","score":1}"#,
            r#"{"answer":"yes","score":1,"tags":[]}"#,
            r#"{"answer":"yes","score":1,"tags":[true,true,true]}"#,
            r#"{"answer":"yes","score":1} "#,
            r#"{"answer":"yes","score":1,}"#,
        ] {
            assert!(!accepts(&schema, text), "{text}");
        }
    }

    #[test]
    fn strings_are_utf_8_without_control_characters() {
        let schema = serde_json::json!({"type": "string"});
        let mut lazy = Lazy::new(schema::compile(&schema).unwrap());
        let mut accepts = |bytes: &[u8]| {
            let end = bytes.iter().fold(lazy.start(), |state, byte| lazy.step(state, *byte));
            lazy.accepts(end)
        };
        assert!(accepts(
            "\"\u{7f}\u{80}\u{7ff}\u{800}\u{d7ff}\u{e000}\u{ffff}\u{10000}\u{10ffff}\"".as_bytes()
        ));
        for bad in [
            &b"\"\n\""[..],
            b"\"\xc0\x80\"",
            b"\"\xed\xa0\x80\"",
            b"\"\xf4\x90\x80\x80\"",
            b"\"\\x\"",
            b"\"\x80\"",
        ] {
            assert!(!accepts(bad), "{bad:?}");
        }
    }

    #[test]
    fn only_tokens_that_lead_somewhere_are_allowed() {
        let words = ["", "{", "{\"", "ok", "\":", "tr", "true", "false", "}", "x", "{\"ok\":true}"];
        let bytes: Vec<Vec<u8>> = words.iter().map(|word| word.as_bytes().to_vec()).collect();
        let schema = serde_json::json!({
            "type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"],
        });
        let mut constraint = Constraint::new(&schema, Arc::new(Vocabulary::new(&bytes))).unwrap();
        let end = 0;
        let mut follow = |token: Option<u32>| {
            if let Some(token) = token {
                constraint.push(token);
            }
            let mut logits = vec![0.0; words.len()];
            constraint.mask(&mut logits, &[end]);
            (0..words.len()).filter(|id| logits[*id] == 0.0).map(|id| words[id]).collect::<Vec<_>>()
        };
        assert_eq!(follow(None), ["{", "{\"", "{\"ok\":true}"]);
        assert_eq!(follow(Some(2)), ["ok"]);
        assert_eq!(follow(Some(3)), ["\":"]);
        assert_eq!(follow(Some(4)), ["tr", "true", "false"]);
        assert_eq!(follow(Some(6)), ["}"]);
        assert_eq!(follow(Some(8)), [""], "only the end is left");
    }

    #[test]
    fn what_is_not_supported_is_named() {
        for (schema, expected) in [
            (serde_json::json!({"type": "string", "pattern": "a"}), "\"pattern\""),
            (serde_json::json!({"$ref": "#"}), "\"$ref\""),
            (serde_json::json!({"type": "object"}), "properties"),
            (serde_json::json!({"type": "array"}), "items"),
            (serde_json::json!({"type": "date"}), "\"date\""),
            (serde_json::json!({}), "type"),
            (serde_json::json!([]), "an object"),
            (serde_json::json!({"type": "string", "maxLength": 100_000}), "maxLength"),
        ] {
            let error = schema::compile(&schema).map(|_| ()).unwrap_err();
            assert!(error.contains(expected), "{schema}: {error}");
        }
        let mut deep = serde_json::json!({"type": "null"});
        for _ in 0..40 {
            deep = serde_json::json!({"type": "array", "items": deep});
        }
        assert!(schema::compile(&deep).map(|_| ()).unwrap_err().contains("deeper than 32"));
    }

    #[test]
    fn an_automaton_that_grows_too_large_is_refused() {
        let mut schema = serde_json::json!({"type": "string", "maxLength": 256});
        for _ in 0..3 {
            schema = serde_json::json!({"type": "array", "items": schema, "maxItems": 64});
        }
        let error = schema::compile(&schema).map(|_| ()).unwrap_err();
        assert!(error.contains("states"), "{error}");
    }
}
