//! Memory on large pages. A processor remembers where some thousand pages are: on pages of 4 KiB, weights that are read once
//! for each token make it look that up all the time.

use std::{
    alloc::{Layout, alloc, dealloc, handle_alloc_error},
    fmt,
    ops::{Deref, DerefMut},
    ptr::NonNull,
    sync::Arc,
};

/// Size of a large page on the processors that have them, in bytes.
const LARGE: usize = 2 << 20;

/// Least size of a chunk, in bytes. What of a chunk is never written takes no memory, so this only decides how many large pages
/// are filled in part.
const CHUNK: usize = 64 << 20;

/// Where a piece begins within its chunk, in bytes: at a line of the cache.
const LINE: usize = 64;

/// Memory that is taken piece by piece and lies in a few chunks, which consist of whole large pages.
///
/// Where the system has no large pages, or none left, reading is slower and nothing else is different.
#[derive(Debug, Default)]
pub struct Pages {
    /// All chunks with what is used of them, in bytes; the last one is being filled.
    chunks: Vec<(Arc<Chunk>, usize)>,
}

/// Memory that lives as long as one of the pieces in it.
#[derive(Debug)]
struct Chunk {
    start: NonNull<u8>,
    layout: Layout,
}

/// Values that nothing else shares, in a chunk of [`Pages`].
pub struct Piece<T> {
    start: NonNull<T>,
    count: usize,
    /// Keeps the memory.
    _chunk: Arc<Chunk>,
}

impl Pages {
    /// Memory for `count` values, all of which are `value`.
    pub fn take<T: Copy>(&mut self, count: usize, value: T) -> Piece<T> {
        const { assert!(align_of::<T>() <= LINE, "a piece begins at a line of the cache") };
        let bytes = size_of::<T>().checked_mul(count).expect("a piece fits the memory");
        let (chunk, used) = match self.chunks.last_mut() {
            Some((chunk, used)) if bytes <= chunk.layout.size() - *used => (chunk, used),
            _ => {
                self.chunks.push((Arc::new(Chunk::new(bytes.max(CHUNK))), 0));
                let (chunk, used) = self.chunks.last_mut().expect("one was pushed");
                (chunk, used)
            }
        };
        // SAFETY: the chunk has `bytes` bytes from `used` on, which belong to no piece, because `used` only grows. They are at
        // the alignment of a `T`, and every value in them is written before anything reads it.
        #[expect(unsafe_code, reason = "a part of memory that was asked for by its size")]
        let start = unsafe {
            let start = chunk.start.add(*used).cast::<T>();
            for index in 0..count {
                start.add(index).write(value);
            }
            start
        };
        *used = (*used + bytes).next_multiple_of(LINE);
        Piece { start, count, _chunk: Arc::clone(chunk) }
    }

    /// Asks the system once more for large pages, wherever it had none when the pieces were written. Says whether everything
    /// lies on such pages.
    ///
    /// Source: `madvise(2)`, `MADV_COLLAPSE` of Linux 6.1 and later.
    pub fn settle(&self) -> bool {
        self.chunks.iter().fold(true, |all, (chunk, used)| chunk.collapse(*used) && all)
    }
}

impl Chunk {
    fn new(bytes: usize) -> Self {
        let layout = Layout::from_size_align(bytes, LARGE).expect("a chunk fits the memory");
        let layout = layout.pad_to_align();
        // SAFETY: the size is not zero, because it is at least that of a chunk.
        #[expect(unsafe_code, reason = "memory at the alignment of large pages")]
        let start = unsafe { alloc(layout) };
        let Some(start) = NonNull::new(start) else { handle_alloc_error(layout) };
        let chunk = Self { start, layout };
        // The system chooses the pages when they are written first, so it has to know before.
        #[cfg(target_os = "linux")]
        chunk.advise(layout.size(), libc::MADV_HUGEPAGE);
        chunk
    }

    fn collapse(&self, used: usize) -> bool {
        #[cfg(target_os = "linux")]
        return self.advise(used.next_multiple_of(LARGE), libc::MADV_COLLAPSE);
        #[cfg(not(target_os = "linux"))]
        return used == 0;
    }

    /// Says whether the system took the advice about the first `bytes`.
    #[cfg(target_os = "linux")]
    fn advise(&self, bytes: usize, advice: libc::c_int) -> bool {
        debug_assert!(bytes <= self.layout.size());
        let start = self.start.as_ptr().cast::<libc::c_void>();
        // SAFETY: the chunk has so many bytes. Both pieces of advice that are given leave every byte as it is and the memory
        // readable and writable as it was; only the pages behind the addresses change.
        #[expect(unsafe_code, reason = "a call of the system that changes no value")]
        unsafe {
            libc::madvise(start, bytes, advice) == 0
        }
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        // SAFETY: it was allocated with this layout, and every piece in it is gone.
        #[expect(unsafe_code, reason = "memory that was asked for by its size")]
        unsafe {
            dealloc(self.start.as_ptr(), self.layout);
        }
    }
}

// SAFETY: a chunk is memory and nothing else; only its pieces reach into it, each into its own part.
#[expect(unsafe_code, reason = "a pointer stands for memory that is owned")]
unsafe impl Send for Chunk {}
// SAFETY: as above; a shared chunk gives access to no byte.
#[expect(unsafe_code, reason = "a pointer stands for memory that is owned")]
unsafe impl Sync for Chunk {}
// SAFETY: a piece owns its values, as a vector does.
#[expect(unsafe_code, reason = "a pointer stands for values that are owned")]
unsafe impl<T: Send> Send for Piece<T> {}
// SAFETY: as above.
#[expect(unsafe_code, reason = "a pointer stands for values that are owned")]
unsafe impl<T: Sync> Sync for Piece<T> {}

impl<T> Deref for Piece<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: `count` values from `start` on are initialised and belong to this piece alone.
        #[expect(unsafe_code, reason = "values that are owned through a pointer")]
        unsafe {
            std::slice::from_raw_parts(self.start.as_ptr(), self.count)
        }
    }
}

impl<T> DerefMut for Piece<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`, and the piece itself is borrowed for writing.
        #[expect(unsafe_code, reason = "values that are owned through a pointer")]
        unsafe {
            std::slice::from_raw_parts_mut(self.start.as_ptr(), self.count)
        }
    }
}

impl<T> fmt::Debug for Piece<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Piece({} values)", self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_keep_their_values_whatever_is_taken_and_dropped_beside_them() {
        let mut pages = Pages::default();
        // The last ones do not fit the first chunk, and one fills more than a whole one.
        let counts = [0, 1, 7, LARGE / 8 + 3, CHUNK / 16, CHUNK / 16, CHUNK / 8 + 1, 5];
        let mut pieces: Vec<Piece<u64>> =
            counts.iter().map(|count| pages.take(*count, u64::MAX)).collect();
        for (seed, piece) in pieces.iter_mut().enumerate() {
            assert!(piece.iter().all(|value| *value == u64::MAX));
            for (index, value) in piece.iter_mut().enumerate() {
                *value = (index * 31 + seed) as u64;
            }
        }
        assert_eq!(pages.chunks.len(), 3);
        pages.settle();
        drop(pages);
        drop(pieces.remove(4));
        for (piece, (seed, count)) in
            pieces.iter().zip(counts.iter().enumerate().filter(|(seed, _)| *seed != 4))
        {
            assert_eq!(piece.len(), *count);
            let mut values = piece.iter().enumerate();
            assert!(values.all(|(index, value)| *value == (index * 31 + seed) as u64));
        }
    }

    #[test]
    fn pieces_of_any_type_begin_at_a_line() {
        let mut pages = Pages::default();
        let bytes = pages.take(3, 1_u8);
        let nothing = pages.take(9, ());
        let lanes = pages.take(2, [0.5_f32; 16]);
        assert_eq!((&*bytes, nothing.len(), &*lanes), (&[1; 3][..], 9, &[[0.5; 16]; 2][..]));
        assert!(lanes.as_ptr().addr().is_multiple_of(LINE));
        assert!(bytes.as_ptr().addr().is_multiple_of(LARGE));
    }
}
