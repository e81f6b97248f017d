//! Who has which block of the cache.
//!
//! A full block has a key, a hash of all tokens up to its end. A block that nobody has any more
//! keeps its key and its content until its memory is needed, so that the next prompt with the same
//! beginning (a system prompt, the passages of a corpus) is not read again.

use std::collections::{BTreeMap, VecDeque};

use sha2::{Digest, Sha256};

/// A hash of all tokens of a sequence up to the end of a block.
pub(super) type Key = [u8; 32];

/// The key of a block behind the one with the key `before`.
pub(super) fn key(before: Option<&Key>, tokens: &[u32]) -> Key {
    let mut hash = Sha256::new();
    hash.update(before.unwrap_or(&[0; 32]));
    for token in tokens {
        hash.update(token.to_le_bytes());
    }
    hash.finalize().into()
}

/// The blocks of one cache.
#[derive(Debug)]
pub(super) struct Pool {
    /// How many sequences have each block.
    users: Vec<u32>,
    keys: Vec<Option<Key>>,
    by_key: BTreeMap<Key, u32>,
    /// Blocks that nobody has, the one that was given back first in front.
    free: VecDeque<u32>,
}

impl Pool {
    pub(super) fn new(blocks: usize) -> Self {
        Self {
            users: vec![0; blocks],
            keys: vec![None; blocks],
            by_key: BTreeMap::new(),
            free: (0..blocks as u32).collect(),
        }
    }

    /// Blocks that nobody has.
    pub(super) fn free(&self) -> usize {
        self.free.len()
    }

    /// Blocks in all.
    pub(super) fn size(&self) -> usize {
        self.users.len()
    }

    /// A sequence's blocks: those of the longest known beginning that is made of the blocks with
    /// these `keys`, then empty ones, `count` together. `None` if there are not enough.
    pub(super) fn take(&mut self, keys: &[Key], count: usize) -> Option<(Vec<u32>, usize)> {
        let known = keys.iter().map_while(|key| self.by_key.get(key).copied());
        let mut blocks: Vec<u32> = known.take(count).collect();
        let shared = blocks.len();
        let idle = blocks.iter().filter(|block| self.users[**block as usize] == 0).count();
        if self.free.len() < idle + count - shared {
            return None;
        }
        for block in &blocks {
            self.users[*block as usize] += 1;
        }
        self.free.retain(|block| !blocks.contains(block));
        while blocks.len() < count {
            let block = self.free.pop_front()?;
            if let Some(key) = self.keys[block as usize].take() {
                self.by_key.remove(&key);
            }
            self.users[block as usize] = 1;
            blocks.push(block);
        }
        Some((blocks, shared))
    }

    /// Lets others find a block that is full. The first of two with the same content stays.
    pub(super) fn publish(&mut self, block: u32, key: Key) {
        if self.keys[block as usize].is_none() && !self.by_key.contains_key(&key) {
            self.by_key.insert(key, block);
            self.keys[block as usize] = Some(key);
        }
    }

    /// Takes a sequence's blocks back. Later ones are used up first, because a beginning is
    /// worth more than what follows it.
    pub(super) fn give_back(&mut self, blocks: &[u32]) {
        for block in blocks.iter().rev() {
            let users = &mut self.users[*block as usize];
            *users -= 1;
            if *users == 0 {
                self.free.push_back(*block);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(tokens: &[u32]) -> Vec<Key> {
        let mut keys: Vec<Key> = Vec::new();
        for token in tokens {
            keys.push(key(keys.last(), &[*token]));
        }
        keys
    }

    #[test]
    fn a_known_beginning_is_shared_while_it_is_in_use_and_afterwards() {
        let mut pool = Pool::new(6);
        let known = keys(&[1, 2, 3]);
        let (first, shared) = pool.take(&known, 4).unwrap();
        assert_eq!((first.len(), shared), (4, 0));
        for (block, key) in first.iter().zip(&known) {
            pool.publish(*block, *key);
        }
        let (second, shared) = pool.take(&keys(&[1, 2, 9]), 3).unwrap();
        assert_eq!((&second[..2], shared), (&first[..2], 2));
        pool.give_back(&first);
        pool.give_back(&second);
        assert_eq!(pool.free(), 6);
        let (third, shared) = pool.take(&known, 3).unwrap();
        assert_eq!((third.as_slice(), shared), (&first[..3], 3));
    }

    #[test]
    fn memory_that_is_needed_is_taken_from_the_end_of_what_is_known() {
        let mut pool = Pool::new(4);
        let known = keys(&[1, 2, 3]);
        let (blocks, _) = pool.take(&known, 3).unwrap();
        for (block, key) in blocks.iter().zip(&known) {
            pool.publish(*block, *key);
        }
        pool.give_back(&blocks);
        let (other, shared) = pool.take(&keys(&[7]), 2).unwrap();
        assert_eq!(shared, 0);
        assert!(pool.take(&known, 3).is_none(), "two are in use");
        pool.give_back(&other);
        let (_, shared) = pool.take(&known, 3).unwrap();
        assert_eq!(shared, 2, "the last block was overwritten");
    }

    #[test]
    fn nothing_is_taken_when_there_is_too_little() {
        let mut pool = Pool::new(2);
        assert!(pool.take(&[], 3).is_none());
        assert_eq!(pool.free(), 2);
        let (blocks, _) = pool.take(&[], 2).unwrap();
        assert!(pool.take(&[], 1).is_none());
        pool.give_back(&blocks);
        assert_eq!((pool.free(), pool.size()), (2, 2));
    }
}
