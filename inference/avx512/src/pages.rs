//! Memory on large pages. A processor remembers where some thousand pages are: on pages of 4 KiB, weights that are read once
//! for each token make it look that up all the time.

/// Size of a large page on the processors that have them, in bytes.
const LARGE: usize = 2 << 20;

/// Asks the system to put `values`, which are written already, on large pages, as far as they fill whole ones. Says whether it
/// did; where it does not, reading is slower and nothing else is different.
///
/// Source: `madvise(2)`, `MADV_HUGEPAGE`, and `MADV_COLLAPSE` of Linux 6.1 and later.
pub fn on_large<T>(values: &[T]) -> bool {
    let address = values.as_ptr().addr();
    let first = address.next_multiple_of(LARGE) - address;
    let length = size_of_val(values).saturating_sub(first) / LARGE * LARGE;
    if length == 0 {
        return false;
    }
    #[cfg(target_os = "linux")]
    {
        let start = values.as_ptr().cast::<libc::c_void>().cast_mut().wrapping_byte_add(first);
        // SAFETY: `length` bytes from `start` lie within `values`. Both pieces of advice leave every byte as it is and the
        // memory readable and writable as it was; only the pages behind the addresses change.
        #[expect(unsafe_code, reason = "a call of the system that changes no value")]
        unsafe {
            libc::madvise(start, length, libc::MADV_HUGEPAGE) == 0
                && libc::madvise(start, length, libc::MADV_COLLAPSE) == 0
        }
    }
    #[cfg(not(target_os = "linux"))]
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_changes() {
        for count in [0, 1, LARGE / 8 - 1, LARGE / 8, 3 * LARGE / 8 + 5] {
            let values: Vec<u64> = (0..count as u64).map(|value| value * 0x9e37_79b9).collect();
            let before = values.clone();
            let moved = on_large(&values);
            assert!(!moved || LARGE <= count * 8, "{count} values fill no page");
            assert_eq!(values, before);
        }
        assert!(!on_large::<u8>(&[]));
        assert!(!on_large(&[(); 9]));
    }
}
