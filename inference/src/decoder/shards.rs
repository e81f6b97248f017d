//! Tensors of one or more safetensors files, read one at a time: a model's weights are packed as
//! they are loaded, and both forms at once would not fit everywhere.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use safetensors::{Dtype, tensor::Metadata};

use super::limits::{HEADER_BYTES_MAX, SHARD_BYTES_MAX};
use crate::error::LoadError;

/// Bytes before the header: its length.
const LENGTH_BYTES: u64 = 8;

/// The open files of a model's weights.
#[derive(Debug)]
pub(crate) struct Shards {
    files: Vec<Shard>,
}

#[derive(Debug)]
struct Shard {
    path: PathBuf,
    file: File,
    /// Where the tensors begin.
    start: u64,
    metadata: Metadata,
}

impl Shards {
    pub(crate) fn open(paths: &[PathBuf]) -> Result<Self, LoadError> {
        let files = paths.iter().map(|path| Shard::open(path)).collect::<Result<_, _>>()?;
        Ok(Self { files })
    }

    /// The first file, for errors that concern no single one.
    pub(crate) fn path(&self) -> PathBuf {
        self.files.first().map_or_else(PathBuf::new, |shard| shard.path.clone())
    }

    /// Whether some file has the tensor.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.files.iter().any(|shard| shard.metadata.info(name).is_some())
    }

    /// The values of the tensor `name`, row-major, if it has this `shape` and is of floats.
    pub(crate) fn read(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, LoadError> {
        let first = self.path();
        let Some(shard) = self.files.iter_mut().find(|shard| shard.metadata.info(name).is_some())
        else {
            return Err(LoadError::TensorMissing { path: first, tensor: name.to_owned() });
        };
        shard.read(name, shape)
    }
}

impl Shard {
    fn open(path: &Path) -> Result<Self, LoadError> {
        let failed = |reason: String| LoadError::Weights { path: path.to_owned(), reason };
        let unreadable = |source| LoadError::Read { path: path.to_owned(), source };
        let mut file = File::open(path).map_err(unreadable)?;
        let bytes = file.metadata().map_err(unreadable)?.len();
        if SHARD_BYTES_MAX < bytes {
            let limit = SHARD_BYTES_MAX;
            return Err(LoadError::TooLarge { path: path.to_owned(), bytes, limit });
        }
        let mut length = [0; LENGTH_BYTES as usize];
        file.read_exact(&mut length).map_err(unreadable)?;
        let length = u64::from_le_bytes(length);
        if HEADER_BYTES_MAX.min(bytes - LENGTH_BYTES) < length {
            return Err(failed(format!(
                "its header has {length} bytes, the limit is {HEADER_BYTES_MAX} and the file's size"
            )));
        }
        let mut header = vec![0; length as usize];
        file.read_exact(&mut header).map_err(unreadable)?;
        let metadata: Metadata =
            serde_json::from_slice(&header).map_err(|error| failed(error.to_string()))?;
        let start = LENGTH_BYTES + length;
        if start + metadata.data_len() as u64 != bytes {
            return Err(failed(format!(
                "it has {bytes} bytes, its header speaks of {}; download it again",
                start + metadata.data_len() as u64
            )));
        }
        Ok(Self { path: path.to_owned(), file, start, metadata })
    }

    fn read(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, LoadError> {
        let Some(info) = self.metadata.info(name) else {
            return Err(LoadError::TensorMissing {
                path: self.path.clone(),
                tensor: name.to_owned(),
            });
        };
        let size = match info.dtype {
            Dtype::F32 => 4,
            Dtype::F16 | Dtype::BF16 => 2,
            _ => 0,
        };
        let (start, end) = info.data_offsets;
        let expected = shape.iter().product::<usize>() * size;
        if size == 0 || info.shape != shape || end.checked_sub(start) != Some(expected) {
            return Err(LoadError::TensorMismatch {
                path: self.path.clone(),
                tensor: name.to_owned(),
                found: format!("{:?} {:?}", info.dtype, info.shape),
                expected: format!("F32, F16 or BF16 {shape:?}"),
            });
        }
        let mut bytes = vec![0; expected];
        let position = SeekFrom::Start(self.start + start as u64);
        self.file
            .seek(position)
            .and_then(|_| self.file.read_exact(&mut bytes))
            .map_err(|source| LoadError::Read { path: self.path.clone(), source })?;
        let values = floats(info.dtype, &bytes);
        if let Some(index) = values.iter().position(|value| !value.is_finite()) {
            return Err(LoadError::Weights {
                path: self.path.clone(),
                reason: format!("value {index} of tensor {name:?} is {}", values[index]),
            });
        }
        Ok(values)
    }
}

fn floats(dtype: Dtype, bytes: &[u8]) -> Vec<f32> {
    let halves = || bytes.as_chunks::<2>().0.iter().map(|bytes| u16::from_le_bytes(*bytes));
    match dtype {
        Dtype::BF16 => halves().map(|half| f32::from_bits(u32::from(half) << 16)).collect(),
        Dtype::F16 => halves().map(f16).collect(),
        _ => bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect(),
    }
}

/// An `f16` from its bits, infinities and what is no number included.
fn f16(bits: u16) -> f32 {
    if bits & 0x7c00 == 0x7c00 {
        return if bits & 0x3ff == 0 { f32::INFINITY } else { f32::NAN };
    }
    super::matrix::from_f16(bits)
}

#[cfg(test)]
mod tests {
    use safetensors::tensor::{TensorView, serialize};

    use super::*;

    /// A file's name, and the one tensor in it: its name, type, shape and bytes.
    type OneTensor<'a> = (&'a str, &'a str, Dtype, &'a [usize], &'a [u8]);

    fn open(files: &[OneTensor<'_>]) -> Result<Shards, LoadError> {
        let dir = tempfile::tempdir().unwrap();
        let mut paths = Vec::new();
        for (file, name, dtype, shape, data) in files {
            let view = TensorView::new(*dtype, shape.to_vec(), data).unwrap();
            let path = dir.path().join(file);
            std::fs::write(&path, serialize([(*name, view)], None).unwrap()).unwrap();
            paths.push(path);
        }
        Shards::open(&paths)
    }

    #[test]
    fn tensors_of_every_float_type_are_found_in_every_file() {
        let wide: Vec<u8> = [1.0_f32, -2.5].into_iter().flat_map(f32::to_le_bytes).collect();
        let half: Vec<u8> = [0x3c00_u16, 0xc100].into_iter().flat_map(u16::to_le_bytes).collect();
        let brain: Vec<u8> = [0x3f80_u16, 0xc020].into_iter().flat_map(u16::to_le_bytes).collect();
        let mut shards = open(&[
            ("1", "a", Dtype::F32, &[2], &wide),
            ("2", "b", Dtype::F16, &[1, 2], &half),
            ("3", "c", Dtype::BF16, &[2], &brain),
        ])
        .unwrap();
        for (name, shape) in [("a", &[2][..]), ("b", &[1, 2]), ("c", &[2])] {
            assert_eq!(shards.read(name, shape).unwrap(), [1.0, -2.5], "{name}");
        }
        assert!(shards.has("c") && !shards.has("d"));
        let error = shards.read("d", &[2]).unwrap_err().to_string();
        assert!(error.contains("no tensor \"d\""), "{error}");
        let error = shards.read("a", &[1]).unwrap_err().to_string();
        assert!(error.contains("is F32 [2], expected F32, F16 or BF16 [1]"), "{error}");
    }

    #[test]
    fn what_is_no_number_is_refused() {
        let half = 0x7e00_u16.to_le_bytes();
        let mut shards = open(&[("1", "a", Dtype::F16, &[1], &half)]).unwrap();
        let error = shards.read("a", &[1]).unwrap_err().to_string();
        assert!(error.contains("value 0 of tensor \"a\" is NaN"), "{error}");
    }

    #[test]
    fn a_cut_file_is_refused() {
        let view = TensorView::new(Dtype::F32, vec![2], &[0; 8]).unwrap();
        let bytes = serialize([("x", view)], None).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.safetensors");
        for length in 0..bytes.len() {
            std::fs::write(&path, &bytes[..length]).unwrap();
            assert!(Shards::open(std::slice::from_ref(&path)).is_err(), "{length}");
        }
        std::fs::write(&path, &bytes).unwrap();
        Shards::open(&[path]).unwrap();
    }
}
