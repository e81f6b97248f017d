//! What a core dump of a process would show: every page that it can write, read while it runs.

use std::fs::File;
use std::os::unix::fs::FileExt;

/// True when a process's memory holds some bytes.
pub(super) fn holds(process: u32, needle: &[u8]) -> bool {
    let maps = std::fs::read_to_string(format!("/proc/{process}/maps")).expect("the maps");
    let memory = File::open(format!("/proc/{process}/mem")).expect("the memory");
    let mut page = vec![0u8; 1 << 20];
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let range = line.split_whitespace().next().and_then(|range| range.split_once('-'));
        let (start, end) = range.expect("a range");
        let parse = |text| u64::from_str_radix(text, 16).expect("an address");
        let (mut at, end) = (parse(start), parse(end));
        while at < end {
            let length = page.len().min(usize::try_from(end - at).expect("short"));
            // A page that goes while it is read was given back to the kernel.
            let Ok(read) = memory.read_at(&mut page[..length], at) else { break };
            if read == 0 {
                break;
            }
            if page[..read].windows(needle.len()).any(|bytes| bytes == needle) {
                return true;
            }
            // The needle may lie across two reads.
            at += if read == length && at + (read as u64) < end {
                (read - needle.len()) as u64
            } else {
                read as u64
            };
        }
    }
    false
}
