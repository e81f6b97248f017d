//! The files of a decoder's directory, and the hash that binds those that decide what it computes.

use std::{
    collections::BTreeSet,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::limits::{SHARDS_MAX, TEMPLATE_BYTES_MAX};
use crate::{
    error::LoadError,
    files::ModelFile,
    limits::{CONFIG_BYTES_MAX, TOKENIZER_BYTES_MAX},
};

const INDEX: &str = "model.safetensors.index.json";
const WHOLE: &str = "model.safetensors";

/// What a directory holds, the weights unread.
pub(crate) struct DecoderFiles {
    pub(crate) config: ModelFile,
    pub(crate) tokenizer: ModelFile,
    /// How the publisher samples; not every model has one.
    pub(crate) generation: Option<ModelFile>,
    /// Special tokens and, in most models, the chat template.
    pub(crate) tokenizer_config: Option<ModelFile>,
    /// The chat template of newer models.
    pub(crate) template: Option<ModelFile>,
    /// The `.safetensors` files, in the order of their names.
    pub(crate) shards: Vec<PathBuf>,
}

#[derive(Deserialize)]
struct Index {
    weight_map: std::collections::BTreeMap<String, String>,
}

impl DecoderFiles {
    pub(crate) fn read(dir: &Path) -> Result<Self, LoadError> {
        let optional = |name: &str, limit: u64| {
            let path = dir.join(name);
            if path.exists() { ModelFile::read(path, limit).map(Some) } else { Ok(None) }
        };
        Ok(Self {
            config: ModelFile::read(dir.join("config.json"), CONFIG_BYTES_MAX)?,
            tokenizer: ModelFile::read(dir.join("tokenizer.json"), TOKENIZER_BYTES_MAX)?,
            generation: optional("generation_config.json", CONFIG_BYTES_MAX)?,
            tokenizer_config: optional("tokenizer_config.json", CONFIG_BYTES_MAX)?,
            template: optional("chat_template.jinja", TEMPLATE_BYTES_MAX)?,
            shards: shards(dir)?,
        })
    }

    /// SHA-256 over the line `auspex-model-1` and the output of
    /// `sha256sum config.json tokenizer.json` and of all weight files in the order of their names:
    /// the same as an encoder's hash where the weights are one file.
    pub(crate) fn hash(&self) -> Result<[u8; 32], LoadError> {
        let mut listing = "auspex-model-1\n".to_owned();
        let mut line = |digest: &[u8], name: &str| {
            listing.push_str(&format!("{}  {name}\n", hex::encode(digest)));
        };
        line(&Sha256::digest(&self.config.bytes), "config.json");
        line(&Sha256::digest(&self.tokenizer.bytes), "tokenizer.json");
        for path in &self.shards {
            let digest =
                hash_file(path).map_err(|source| LoadError::Read { path: path.clone(), source })?;
            line(&digest, &path.file_name().unwrap_or_default().to_string_lossy());
        }
        Ok(Sha256::digest(listing).into())
    }

    /// SHA-256 of `tokenizer.json`.
    pub(crate) fn tokenizer_hash(&self) -> [u8; 32] {
        Sha256::digest(&self.tokenizer.bytes).into()
    }
}

/// The weight files that the index names, or the one file of a small model.
fn shards(dir: &Path) -> Result<Vec<PathBuf>, LoadError> {
    let path = dir.join(INDEX);
    if !path.exists() {
        return Ok(vec![dir.join(WHOLE)]);
    }
    let index = ModelFile::read(path.clone(), CONFIG_BYTES_MAX)?;
    let failed = |reason: String| LoadError::Config { path: path.clone(), reason };
    let parsed: Index =
        serde_json::from_slice(&index.bytes).map_err(|error| failed(error.to_string()))?;
    let names: BTreeSet<String> = parsed.weight_map.into_values().collect();
    if names.is_empty() || SHARDS_MAX < names.len() {
        return Err(failed(format!("{} files, allowed are 1 to {SHARDS_MAX}", names.len())));
    }
    // A name from a downloaded file must not lead out of the directory.
    if let Some(name) = names.iter().find(|name| !is_plain(name)) {
        return Err(failed(format!("{name:?} is not the name of a .safetensors file")));
    }
    Ok(names.into_iter().map(|name| dir.join(name)).collect())
}

fn is_plain(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    name.ends_with(".safetensors") && !name.starts_with('.') && name.bytes().all(plain)
}

fn hash_file(path: &Path) -> std::io::Result<[u8; 32]> {
    /// Bytes that are read at once.
    const PIECE: usize = 1 << 20;
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut piece = vec![0; PIECE];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(hash.finalize().into()),
            count => hash.update(&piece[..count]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_decides_which_files_are_read() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(shards(dir.path()).unwrap(), [dir.path().join(WHOLE)]);
        let write = |map: &str| {
            std::fs::write(dir.path().join(INDEX), format!(r#"{{"weight_map": {map}}}"#)).unwrap();
            shards(dir.path())
        };
        let found =
            write(r#"{"a": "m-2.safetensors", "b": "m-1.safetensors", "c": "m-2.safetensors"}"#);
        let expected = ["m-1.safetensors", "m-2.safetensors"].map(|name| dir.path().join(name));
        assert_eq!(found.unwrap(), expected);
        for name in ["../x.safetensors", "/etc/passwd", "x.bin", ".safetensors", ""] {
            let error = write(&format!(r#"{{"a": "{name}"}}"#)).unwrap_err().to_string();
            assert!(error.contains("is not the name of a .safetensors file"), "{error}");
        }
        assert!(write("{}").unwrap_err().to_string().contains("0 files"));
    }
}
