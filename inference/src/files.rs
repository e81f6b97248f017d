//! The files of a model directory: read once, bounded, and bound into one hash.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use crate::{
    error::LoadError,
    limits::{CONFIG_BYTES_MAX, TOKENIZER_BYTES_MAX, WEIGHTS_BYTES_MAX},
    profile::Profile,
};

/// The three files that decide what a model computes, as read from its directory.
pub(crate) struct ModelFiles {
    pub(crate) config: ModelFile,
    pub(crate) tokenizer: ModelFile,
    pub(crate) weights: ModelFile,
    /// `1_Pooling/config.json`, which only sentence-transformers models carry.
    pub(crate) pooling: Option<ModelFile>,
}

/// One file with its path, which errors name.
pub(crate) struct ModelFile {
    pub(crate) path: PathBuf,
    pub(crate) bytes: Vec<u8>,
}

impl ModelFiles {
    pub(crate) fn read(dir: &Path) -> Result<Self, LoadError> {
        let pooling = dir.join("1_Pooling").join("config.json");
        Ok(Self {
            config: ModelFile::read(dir.join("config.json"), CONFIG_BYTES_MAX)?,
            tokenizer: ModelFile::read(dir.join("tokenizer.json"), TOKENIZER_BYTES_MAX)?,
            weights: ModelFile::read(dir.join("model.safetensors"), WEIGHTS_BYTES_MAX)?,
            pooling: if pooling.exists() {
                Some(ModelFile::read(pooling, CONFIG_BYTES_MAX)?)
            } else {
                None
            },
        })
    }

    /// SHA-256 over the line `auspex-model-1` and then, for `config.json`, `tokenizer.json` and
    /// `model.safetensors` in this order, a line of the file's own SHA-256 in lower-case hex, two
    /// spaces and its name: the output of `sha256sum` on the three files behind one header line. The
    /// profile that computes something else in `f32` than the files say has a last line of its own.
    pub(crate) fn hash(&self, profile: Profile) -> [u8; 32] {
        let mut listing = "auspex-model-1\n".to_owned();
        for (name, file) in [
            ("config.json", &self.config),
            ("tokenizer.json", &self.tokenizer),
            ("model.safetensors", &self.weights),
        ] {
            let digest = hex::encode(Sha256::digest(&file.bytes));
            listing.push_str(&format!("{digest}  {name}\n"));
        }
        match profile {
            Profile::DeterministicCpu | Profile::Fast => {}
            Profile::DeterministicInt8 => listing.push_str(&format!("profile {profile}\n")),
        }
        Sha256::digest(listing).into()
    }
}

impl ModelFile {
    pub(crate) fn read(path: PathBuf, limit: u64) -> Result<Self, LoadError> {
        let read = || -> std::io::Result<(u64, Vec<u8>)> {
            let file = File::open(&path)?;
            let stated = file.metadata()?.len();
            let mut bytes = Vec::new();
            if stated <= limit {
                // The file may grow after its size was taken, so reading is bounded as well.
                file.take(limit + 1).read_to_end(&mut bytes)?;
            }
            Ok((stated.max(bytes.len() as u64), bytes))
        };
        match read() {
            Ok((size, _)) if limit < size => Err(LoadError::TooLarge { path, bytes: size, limit }),
            Ok((_, bytes)) => Ok(Self { path, bytes }),
            Err(source) => Err(LoadError::Read { path, source }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_over_its_limit_is_refused_and_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        std::fs::write(&path, "12345").unwrap();
        assert_eq!(ModelFile::read(path.clone(), 5).unwrap().bytes, b"12345");
        let error = ModelFile::read(path, 4).err().unwrap().to_string();
        assert!(error.contains("config.json has 5 bytes, the limit is 4"), "{error}");
    }

    #[test]
    fn a_missing_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let error = ModelFiles::read(dir.path()).err().unwrap().to_string();
        assert!(error.contains("config.json"), "{error}");
    }

    #[test]
    fn the_hash_changes_with_every_file() {
        let dir = tempfile::tempdir().unwrap();
        let hash = |config: &str, tokenizer: &str, weights: &str| {
            for (name, text) in [
                ("config.json", config),
                ("tokenizer.json", tokenizer),
                ("model.safetensors", weights),
            ] {
                std::fs::write(dir.path().join(name), text).unwrap();
            }
            hex::encode(ModelFiles::read(dir.path()).unwrap().hash(Profile::Fast))
        };
        let hashes =
            [hash("a", "b", "c"), hash("x", "b", "c"), hash("a", "x", "c"), hash("a", "b", "x")];
        for (index, left) in hashes.iter().enumerate() {
            assert!(!hashes[index + 1..].contains(left));
        }
        // printf auspex-model-1, then sha256sum of three files that hold a, b and c.
        assert_eq!(hashes[0], HASH_OF_A_B_C);
    }

    #[test]
    fn only_integers_have_another_hash() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["config.json", "tokenizer.json", "model.safetensors"] {
            std::fs::write(dir.path().join(name), name).unwrap();
        }
        let files = ModelFiles::read(dir.path()).unwrap();
        assert_eq!(files.hash(Profile::DeterministicCpu), files.hash(Profile::Fast));
        assert_ne!(files.hash(Profile::DeterministicInt8), files.hash(Profile::Fast));
    }

    const HASH_OF_A_B_C: &str = "945afe547dcb1b40d0f2bd877d3dbd276897646287aad8049ffbf2f71ff8ac08";
}
