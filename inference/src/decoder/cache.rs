//! Keys and values of the positions that were read.
//!
//! All memory is taken at the start, in blocks of [`BLOCK_TOKENS`] positions. A sequence has a list
//! of blocks; a block that is full can be shared by all sequences that begin with the same
//! tokens, because keys and values depend on nothing else.

use super::{config::DecoderConfig, limits::BLOCK_TOKENS};
use crate::kernels::{LANES, Lane};

/// Keys and values of one layer in the form that attention reads.
#[derive(Debug)]
struct Layer {
    /// For each block and head one lane for each component, with the block's positions side by
    /// side: scores of a block's positions are one sum of lanes.
    keys: Vec<Lane>,
    /// For each block, head and position the components, [`LANES`] in a lane.
    values: Vec<Lane>,
}

/// The memory of all layers.
#[derive(Debug)]
pub(crate) struct Cache {
    layers: Vec<Layer>,
    key_heads: usize,
    head_size: usize,
}

const _: () = assert!(BLOCK_TOKENS == LANES, "a lane of keys holds the positions of one block");

impl Cache {
    pub(crate) fn new(config: &DecoderConfig, blocks: usize) -> Self {
        let lanes = blocks * config.key_heads * config.head_size;
        let layer = || Layer { keys: vec![[0.0; LANES]; lanes], values: vec![[0.0; LANES]; lanes] };
        Self {
            layers: (0..config.layers).map(|_| layer()).collect(),
            key_heads: config.key_heads,
            head_size: config.head_size,
        }
    }

    /// Stores one head's key and value of one position.
    pub(crate) fn write(
        &mut self,
        layer: usize,
        place: Place,
        head: usize,
        key: &[f32],
        value: &[f32],
    ) {
        let start = (place.block as usize * self.key_heads + head) * self.head_size;
        let layer = &mut self.layers[layer];
        for (lane, component) in layer.keys[start..start + self.head_size].iter_mut().zip(key) {
            lane[place.slot] = *component;
        }
        let width = self.head_size / LANES;
        let row = start + place.slot * width;
        let lanes = layer.values[row..row + width].iter_mut();
        for (lane, components) in lanes.zip(value.as_chunks::<LANES>().0) {
            *lane = *components;
        }
    }

    /// One head's keys in a block: a lane for each component.
    pub(crate) fn keys(&self, layer: usize, block: u32, head: usize) -> &[Lane] {
        let start = (block as usize * self.key_heads + head) * self.head_size;
        &self.layers[layer].keys[start..start + self.head_size]
    }

    /// One head's values in a block: `head_size / LANES` lanes for each position.
    pub(crate) fn values(&self, layer: usize, block: u32, head: usize) -> &[Lane] {
        let start = (block as usize * self.key_heads + head) * self.head_size;
        &self.layers[layer].values[start..start + self.head_size]
    }
}

/// Where a position is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) block: u32,
    pub(crate) slot: usize,
}

impl Place {
    /// The place of `position` in a sequence with these blocks.
    pub(crate) fn of(blocks: &[u32], position: usize) -> Self {
        Self { block: blocks[position / BLOCK_TOKENS], slot: position % BLOCK_TOKENS }
    }
}
