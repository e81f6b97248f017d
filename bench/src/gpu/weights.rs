//! Model directories with random weights: how fast a model runs does not depend on what it has learned.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::Context;
use serde_json::{Map, Value, json};

/// How tensors are stored.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    F32,
    F16,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
        }
    }

    fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
        }
    }
}

/// Writes `config.json`, `tokenizer.json` and `model.safetensors` into `directory`.
pub(crate) fn write(
    directory: &Path,
    config: &Value,
    tensors: &[(String, Vec<usize>)],
    kind: Kind,
) -> anyhow::Result<()> {
    std::fs::create_dir_all(directory)?;
    std::fs::write(directory.join("config.json"), config.to_string())?;
    std::fs::write(directory.join("tokenizer.json"), tokenizer().to_string())?;
    let path = directory.join("model.safetensors");
    write_tensors(&path, tensors, kind).with_context(|| format!("write {}", path.display()))
}

/// Three special tokens, of which two stand around every text, and nothing else: the bench works with ids.
fn tokenizer() -> Value {
    let special = |id: usize, content: &str| {
        json!({
            "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true,
        })
    };
    let around =
        |id: usize, content: &str| json!({"id": content, "ids": [id], "tokens": [content]});
    let of = |content: &str| json!({"SpecialToken": {"id": content, "type_id": 0}});
    let text = |id: &str| json!({"Sequence": {"id": id, "type_id": 0}});
    json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "decoder": null,
        "added_tokens": [special(0, "[UNK]"), special(1, "[CLS]"), special(2, "[SEP]")],
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [of("[CLS]"), text("A"), of("[SEP]")],
            "pair": [of("[CLS]"), text("A"), of("[SEP]"), text("B"), of("[SEP]")],
            "special_tokens": {"[CLS]": around(1, "[CLS]"), "[SEP]": around(2, "[SEP]")},
        },
        "model": {"type": "WordLevel", "unk_token": "[UNK]", "vocab": {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2}},
    })
}

fn write_tensors(path: &Path, tensors: &[(String, Vec<usize>)], kind: Kind) -> anyhow::Result<()> {
    let mut header = Map::new();
    let mut end = 0;
    for (name, shape) in tensors {
        let start = end;
        end += shape.iter().product::<usize>() * kind.bytes();
        let entry = json!({"dtype": kind.name(), "shape": shape, "data_offsets": [start, end]});
        header.insert(name.clone(), entry);
    }
    let mut header = Value::Object(header).to_string();
    // The format wants the data to begin at a multiple of eight.
    while !header.len().is_multiple_of(8) {
        header.push(' ');
    }
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(header.as_bytes())?;
    let random = random(kind);
    let ones = one(kind).repeat(1 << 14);
    for (index, (name, shape)) in tensors.iter().enumerate() {
        let is_scale = name.ends_with("norm.weight") || name.ends_with("LayerNorm.weight");
        let source = if is_scale { &ones } else { &random };
        let mut left = shape.iter().product::<usize>() * kind.bytes();
        // Each tensor begins elsewhere among the random values.
        let mut at = index * 4096 % source.len();
        while left != 0 {
            let count = left.min(source.len() - at);
            file.write_all(&source[at..at + count])?;
            left -= count;
            at = 0;
        }
    }
    Ok(file.flush()?)
}

fn one(kind: Kind) -> Vec<u8> {
    match kind {
        Kind::F32 => 1.0_f32.to_le_bytes().to_vec(),
        Kind::F16 => 0x3c00_u16.to_le_bytes().to_vec(),
    }
}

/// A megabyte of values between 2^-7 and 2^-4 of both signs.
fn random(kind: Kind) -> Vec<u8> {
    let mut state = 0x2545_f491_u32;
    let mut bits = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let exponent = 8 + (state >> 26) % 3;
        (state >> 31, exponent, state >> 10 & 0x3ff)
    };
    let mut bytes = Vec::with_capacity(1 << 20);
    while bytes.len() < 1 << 20 {
        // Exponents of the two formats have biases of 15 and 127, fractions 10 and 23 bits.
        let (sign, exponent, fraction) = bits();
        match kind {
            Kind::F16 => {
                let half = (sign << 15 | exponent << 10 | fraction) as u16;
                bytes.extend(half.to_le_bytes());
            }
            Kind::F32 => {
                let single = sign << 31 | (exponent + 112) << 23 | fraction << 13;
                bytes.extend(single.to_le_bytes());
            }
        }
    }
    bytes
}
