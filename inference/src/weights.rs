//! Tensors of a safetensors file, checked against the shape that the configuration implies.

use std::path::Path;

use safetensors::{Dtype, SafeTensors};

use crate::error::LoadError;

/// An open safetensors file.
pub(crate) struct Weights<'a> {
    path: &'a Path,
    tensors: SafeTensors<'a>,
    /// `bert.` in checkpoints that carry a task head besides the encoder, else empty.
    prefix: &'static str,
}

impl<'a> Weights<'a> {
    pub(crate) fn parse(path: &'a Path, bytes: &'a [u8]) -> Result<Self, LoadError> {
        let tensors = SafeTensors::deserialize(bytes).map_err(|error| LoadError::Weights {
            path: path.to_owned(),
            reason: error.to_string(),
        })?;
        let headed = tensors.names().iter().any(|name| name.starts_with("bert.embeddings."));
        Ok(Self { path, tensors, prefix: if headed { "bert." } else { "" } })
    }

    /// The values of the tensor `name`, in row-major order, if it is `f32` of this `shape`.
    pub(crate) fn read(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, LoadError> {
        self.read_whole(format!("{}{name}", self.prefix), shape)
    }

    /// As [`read`](Self::read), of a tensor of the task head, which lies beside the encoder.
    pub(crate) fn read_head(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, LoadError> {
        self.read_whole(name.to_owned(), shape)
    }

    fn read_whole(&self, name: String, shape: &[usize]) -> Result<Vec<f32>, LoadError> {
        let Ok(view) = self.tensors.tensor(&name) else {
            return Err(LoadError::TensorMissing { path: self.path.to_owned(), tensor: name });
        };
        if view.dtype() != Dtype::F32 || view.shape() != shape {
            return Err(LoadError::TensorMismatch {
                path: self.path.to_owned(),
                tensor: name,
                found: format!("{:?} {:?}", view.dtype(), view.shape()),
                expected: format!("{:?} {shape:?}", Dtype::F32),
            });
        }
        // `deserialize` has checked that the data is as long as the shape says.
        let (values, _) = view.data().as_chunks::<4>();
        let values: Vec<f32> = values.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        if let Some(index) = values.iter().position(|value| !value.is_finite()) {
            return Err(LoadError::Weights {
                path: self.path.to_owned(),
                reason: format!("value {index} of tensor {name:?} is {}", values[index]),
            });
        }
        Ok(values)
    }
}

#[cfg(test)]
mod tests {
    use safetensors::tensor::{TensorView, serialize};

    use super::*;

    fn file(name: &str, dtype: Dtype, shape: &[usize], data: &[u8]) -> Vec<u8> {
        let view = TensorView::new(dtype, shape.to_vec(), data).unwrap();
        serialize([(name, view)], None).unwrap()
    }

    #[test]
    fn values_are_read_in_order() {
        let data: Vec<u8> = [1.0_f32, -2.0, 3.5].into_iter().flat_map(f32::to_le_bytes).collect();
        for name in ["embeddings.x", "bert.embeddings.x"] {
            let bytes = file(name, Dtype::F32, &[3], &data);
            let weights = Weights::parse(Path::new("m"), &bytes).unwrap();
            assert_eq!(weights.read("embeddings.x", &[3]).unwrap(), [1.0, -2.0, 3.5]);
        }
    }

    #[test]
    fn errors_name_the_tensor_and_both_shapes() {
        let bytes = file("x", Dtype::F32, &[2, 1], &[0; 8]);
        let weights = Weights::parse(Path::new("model.safetensors"), &bytes).unwrap();
        let error = weights.read("y", &[2]).unwrap_err().to_string();
        assert_eq!(error, "model.safetensors has no tensor \"y\"");
        let error = weights.read("x", &[2]).unwrap_err().to_string();
        assert_eq!(error, "model.safetensors: tensor \"x\" is F32 [2, 1], expected F32 [2]");

        let bytes = file("x", Dtype::F16, &[2], &[0; 4]);
        let weights = Weights::parse(Path::new("m"), &bytes).unwrap();
        let error = weights.read("x", &[2]).unwrap_err().to_string();
        assert_eq!(error, "m: tensor \"x\" is F16 [2], expected F32 [2]");
    }

    #[test]
    fn a_value_that_is_no_number_is_refused() {
        let data: Vec<u8> = [1.0, f32::NAN].into_iter().flat_map(f32::to_le_bytes).collect();
        let bytes = file("x", Dtype::F32, &[2], &data);
        let weights = Weights::parse(Path::new("m"), &bytes).unwrap();
        assert_eq!(
            weights.read("x", &[2]).unwrap_err().to_string(),
            "m: value 1 of tensor \"x\" is NaN"
        );
    }

    #[test]
    fn a_cut_file_is_refused() {
        let bytes = file("x", Dtype::F32, &[2], &[0; 8]);
        for length in 0..bytes.len() {
            assert!(Weights::parse(Path::new("m"), &bytes[..length]).is_err(), "{length}");
        }
    }
}
