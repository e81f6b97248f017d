//! How matrices lie in memory: in panels of [`LANES`] columns, each row by row.
//!
//! A product reads its left side and writes its result panel by panel, so the result of one is
//! the left side of the next without a copy, and each panel is a slice that one thread can own.

use super::{LANES, Lane};

/// A matrix of activations; the number of columns is a multiple of [`LANES`].
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Panels {
    /// Panel after panel, `rows` lanes each.
    pub(crate) lanes: Vec<Lane>,
    pub(crate) rows: usize,
}

impl Panels {
    pub(crate) fn zeros(rows: usize, columns: usize) -> Self {
        Self { lanes: vec![[0.0; LANES]; rows * columns.div_ceil(LANES)], rows }
    }

    /// Copies row-major rows of `columns` values each.
    pub(crate) fn from_rows<'a>(
        rows: impl ExactSizeIterator<Item = &'a [f32]>,
        columns: usize,
    ) -> Self {
        let mut panels = Self::zeros(rows.len(), columns);
        let count = panels.rows;
        for (row, values) in rows.enumerate() {
            for (panel, values) in values.as_chunks::<LANES>().0.iter().enumerate() {
                panels.lanes[panel * count + row] = *values;
            }
        }
        panels
    }

    /// The number of panels.
    pub(crate) fn count(&self) -> usize {
        self.lanes.len() / self.rows
    }

    /// All rows one after the other, each left to right.
    pub(crate) fn row_major(&self) -> Vec<f32> {
        let columns = self.count() * LANES;
        let mut values = vec![0.0; self.rows * columns];
        for (row, values) in values.chunks_exact_mut(columns).enumerate() {
            let lanes = self.lanes.iter().skip(row).step_by(self.rows);
            for (values, lanes) in values.as_chunks_mut().0.iter_mut().zip(lanes) {
                *values = *lanes;
            }
        }
        values
    }

    /// All rows of `columns`, in units of panels.
    pub(crate) fn columns(&self, panels: std::ops::Range<usize>) -> &[Lane] {
        &self.lanes[panels.start * self.rows..panels.end * self.rows]
    }
}

/// A linear layer's weights, `inputs` lanes for each panel of outputs, and its bias.
#[derive(Debug)]
pub(crate) struct Packed {
    pub(crate) weight: Vec<Lane>,
    pub(crate) bias: Vec<Lane>,
    pub(crate) inputs: usize,
}

impl Packed {
    /// Packs PyTorch's layout, `weight[output][input]`; both widths are multiples of [`LANES`].
    pub(crate) fn new(weight: &[f32], bias: &[f32], inputs: usize) -> Self {
        let outputs = bias.len();
        let mut packed = vec![[0.0; LANES]; outputs / LANES * inputs];
        for (output, row) in weight.chunks_exact(inputs).enumerate() {
            for (input, value) in row.iter().enumerate() {
                packed[output / LANES * inputs + input][output % LANES] = *value;
            }
        }
        Self { weight: packed, bias: bias.as_chunks::<LANES>().0.to_vec(), inputs }
    }

    pub(crate) fn outputs(&self) -> usize {
        self.bias.len() * LANES
    }
}
