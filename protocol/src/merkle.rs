//! Merkle commitments: what an offer pins as its corpus, and what a result says was retrieved from it.
//!
//! The tree is the one of RFC 6962 (an odd node goes up unpaired) with Keccak-256. A leaf is hashed behind the byte
//! 0x00 and a pair behind 0x01, so that neither can be presented as the other. The root hashes the number of leaves
//! together with the top node behind 0x02: positions can be trusted, so that in a sorted tree two neighbours prove
//! that nothing lies between them, and the empty tree has a root of its own.

use alloy::primitives::{B256, Keccak256, keccak256};
use alloy::sol_types::SolValue;
use serde::{Deserialize, Serialize};

const LEAF: u8 = 0;
const PAIR: u8 = 1;
const ROOT: u8 = 2;

/// Longest list of siblings in a proof: a tree of 2^64 leaves has no longer one.
const SIBLINGS_MAX: usize = 64;

/// Shows that a leaf stands at one position of a tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Proof {
    /// Position of the leaf, from 0.
    pub index: u64,
    /// Leaves of the tree.
    pub count: u64,
    /// From the leaf's sibling upwards; levels on which the node goes up unpaired have none.
    pub siblings: Vec<B256>,
}

/// The root over `leaves` (made by [`leaf`]) in their order.
pub fn root(leaves: &[B256]) -> B256 {
    let mut level = leaves.to_vec();
    while 1 < level.len() {
        level = parents(&level);
    }
    seal(leaves.len() as u64, level.first().copied().unwrap_or(B256::ZERO))
}

/// The proof for the leaf at `index`; none when there is no such leaf.
pub fn prove(leaves: &[B256], index: usize) -> Option<Proof> {
    if leaves.len() <= index {
        return None;
    }
    let mut siblings = Vec::new();
    let mut level = leaves.to_vec();
    let mut position = index;
    while 1 < level.len() {
        siblings.extend(level.get(position ^ 1));
        level = parents(&level);
        position /= 2;
    }
    Some(Proof { index: index as u64, count: leaves.len() as u64, siblings })
}

/// Whether `leaf` stands at the proof's position of the tree with this root.
pub fn verify(root: B256, leaf: B256, proof: &Proof) -> bool {
    if proof.count <= proof.index || SIBLINGS_MAX < proof.siblings.len() {
        return false;
    }
    let mut siblings = proof.siblings.iter();
    let mut node = leaf;
    let mut position = proof.index;
    let mut last = proof.count - 1;
    while 0 < last {
        let unpaired = position == last && position.is_multiple_of(2);
        if !unpaired {
            let Some(sibling) = siblings.next() else { return false };
            node = if position.is_multiple_of(2) {
                pair(node, *sibling)
            } else {
                pair(*sibling, node)
            };
        }
        position /= 2;
        last /= 2;
    }
    siblings.next().is_none() && seal(proof.count, node) == root
}

/// The hash of a leaf's content.
pub fn leaf(content: &[u8]) -> B256 {
    prefixed(LEAF, &[content])
}

/// A chunk's identity: `keccak256(abi.encode(keccak256(name), documentHash, uint64 start, uint64 end))`.
///
/// `name` is the document's name in the corpus, `document_hash` the SHA-256 of its file, and the span is in bytes of
/// its extracted text. The name is part of it because answers cite it: operators that agree on a root agree on names.
pub fn chunk_id(name: &str, document_hash: B256, start: u64, end: u64) -> B256 {
    keccak256((keccak256(name.as_bytes()), document_hash, start, end).abi_encode())
}

/// The leaf of a chunk: the hash of `abi.encode(bytes32 chunkId, bytes32 textHash, bytes embedding)`.
///
/// `text_hash` is the Keccak-256 of the text that was embedded, and each byte of `embedding` one signed component.
pub fn chunk_leaf(chunk_id: B256, text_hash: B256, embedding: &[i8]) -> B256 {
    let bytes: Vec<u8> = embedding.iter().map(|component| component.to_be_bytes()[0]).collect();
    leaf(&(chunk_id, text_hash, bytes.as_slice()).abi_encode_params())
}

/// One chunk in the order in which retrieval found it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetrievedChunk {
    pub chunk_id: B256,
    /// Fused score in millionths.
    pub score: u32,
    /// Inner product of the quantised embeddings of question and chunk.
    pub dense: i32,
    /// BM25 in millionths.
    pub lexical: u64,
}

/// The commitment to retrieved chunks and their scores, best first: the root over the hashes of
/// `abi.encode(bytes32 chunkId, uint32 score, int32 dense, uint64 lexical)`. Zero when nothing was retrieved.
pub fn retrieval_root(chunks: &[RetrievedChunk]) -> B256 {
    if chunks.is_empty() {
        return B256::ZERO;
    }
    let leaves: Vec<B256> = chunks
        .iter()
        .map(|chunk| {
            leaf(&(chunk.chunk_id, chunk.score, chunk.dense, chunk.lexical).abi_encode_params())
        })
        .collect();
    root(&leaves)
}

fn parents(level: &[B256]) -> Vec<B256> {
    level
        .chunks(2)
        .map(|nodes| match nodes {
            [left, right] => pair(*left, *right),
            unpaired => unpaired[0],
        })
        .collect()
}

fn pair(left: B256, right: B256) -> B256 {
    prefixed(PAIR, &[left.as_slice(), right.as_slice()])
}

fn seal(count: u64, top: B256) -> B256 {
    prefixed(ROOT, &[&count.to_be_bytes(), top.as_slice()])
}

fn prefixed(prefix: u8, parts: &[&[u8]]) -> B256 {
    let mut hasher = Keccak256::new();
    hasher.update([prefix]);
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use alloy::primitives::hex;
    use proptest::prelude::*;

    use super::*;

    fn leaves_of(count: usize) -> Vec<B256> {
        (0..count as u64).map(|n| leaf(&n.to_be_bytes())).collect()
    }

    /// The definition of RFC 6962, section 2.1: split at the largest power of two below the length.
    fn by_definition(leaves: &[B256]) -> B256 {
        match leaves {
            [] => B256::ZERO,
            [one] => *one,
            many => {
                let split = many.len().next_power_of_two() / 2;
                pair(by_definition(&many[..split]), by_definition(&many[split..]))
            }
        }
    }

    #[test]
    fn the_tree_is_the_one_of_rfc_6962() {
        for count in 0..70 {
            let leaves = leaves_of(count);
            assert_eq!(root(&leaves), seal(count as u64, by_definition(&leaves)), "{count} leaves");
        }
    }

    #[test]
    fn every_leaf_is_proven_at_its_own_position_only() {
        for count in 1..34 {
            let leaves = leaves_of(count);
            let top = root(&leaves);
            for index in 0..count {
                let proof = prove(&leaves, index).unwrap();
                assert!(verify(top, leaves[index], &proof), "{index} of {count}");
                for other in (0..count as u64).filter(|other| *other != index as u64) {
                    assert!(!verify(top, leaves[index], &Proof { index: other, ..proof.clone() }));
                }
                for other in (0..40).filter(|other| *other != count as u64) {
                    assert!(!verify(top, leaves[index], &Proof { count: other, ..proof.clone() }));
                }
            }
            assert_eq!(prove(&leaves, count), None);
        }
    }

    #[test]
    fn an_inner_node_cannot_be_presented_as_a_leaf() {
        let leaves = leaves_of(4);
        let inner = pair(leaves[0], leaves[1]);
        let forged = Proof { index: 0, count: 2, siblings: vec![pair(leaves[2], leaves[3])] };
        assert!(!verify(root(&leaves), inner, &forged));
        let content = [leaves[0].as_slice(), leaves[1].as_slice()].concat();
        assert_ne!(leaf(&content), inner);
    }

    #[test]
    fn a_chunk_is_encoded_as_a_contract_would() {
        let id = chunk_id("a.md", B256::repeat_byte(1), 2, 3);
        let mut words = keccak256("a.md").to_vec();
        words.extend(B256::repeat_byte(1));
        words.extend(B256::with_last_byte(2));
        words.extend(B256::with_last_byte(3));
        assert_eq!(id, keccak256(&words));

        // abi.encode(bytes32, bytes32, bytes): two words, the offset 0x60, the length, the padded bytes.
        let mut words = vec![0];
        words.extend([7; 32]);
        words.extend([8; 32]);
        words.extend(B256::with_last_byte(0x60));
        words.extend(B256::with_last_byte(3));
        words.extend(hex!("7fff810000000000000000000000000000000000000000000000000000000000"));
        let leaf = chunk_leaf(B256::repeat_byte(7), B256::repeat_byte(8), &[127, -1, -127]);
        assert_eq!(leaf, keccak256(&words));
    }

    #[test]
    fn a_retrieval_commits_to_every_score_and_to_the_order() {
        let chunk = |n| RetrievedChunk {
            chunk_id: B256::repeat_byte(n),
            score: 1_000_000,
            dense: -5,
            lexical: 7,
        };
        let retrieved = [chunk(1), chunk(2)];
        let committed = retrieval_root(&retrieved);
        let changed = [
            [chunk(2), chunk(1)],
            [RetrievedChunk { score: 1, ..chunk(1) }, chunk(2)],
            [RetrievedChunk { dense: 5, ..chunk(1) }, chunk(2)],
            [chunk(1), RetrievedChunk { lexical: 8, ..chunk(2) }],
        ];
        for other in changed {
            assert_ne!(retrieval_root(&other), committed);
        }
        assert_eq!(retrieval_root(&[]), B256::ZERO);
    }

    proptest! {
        #[test]
        fn a_proof_holds_for_its_leaf_and_no_other(
            contents in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..8), 1..200),
            pick: prop::sample::Index,
            bit in 0usize..256,
        ) {
            let leaves: Vec<B256> = contents.iter().map(|content| leaf(content)).collect();
            let index = pick.index(leaves.len());
            let top = root(&leaves);
            let proof = prove(&leaves, index).unwrap();
            prop_assert!(verify(top, leaves[index], &proof));

            let flip = |hash: B256| {
                let mut bytes = hash.0;
                bytes[bit / 8] ^= 1 << (bit % 8);
                B256::from(bytes)
            };
            prop_assert!(!verify(top, flip(leaves[index]), &proof));
            prop_assert!(!verify(flip(top), leaves[index], &proof));
            for changed in 0..proof.siblings.len() {
                let mut forged = proof.clone();
                forged.siblings[changed] = flip(forged.siblings[changed]);
                prop_assert!(!verify(top, leaves[index], &forged));
            }
            let mut longer = proof.clone();
            longer.siblings.push(B256::ZERO);
            prop_assert!(!verify(top, leaves[index], &longer));
            let mut shorter = proof;
            if shorter.siblings.pop().is_some() {
                prop_assert!(!verify(top, leaves[index], &shorter));
            }
        }

        #[test]
        fn any_proof_is_judged_without_a_panic(
            index: u64, count: u64, siblings in prop::collection::vec(any::<[u8; 32]>(), 0..70),
        ) {
            let siblings = siblings.into_iter().map(B256::from).collect();
            let proof = Proof { index, count, siblings };
            prop_assert!(!verify(B256::ZERO, B256::ZERO, &proof));
        }
    }
}
