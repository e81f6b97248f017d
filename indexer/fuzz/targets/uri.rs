//! libFuzzer's program for [`Target::Uri`]; `make fuzz` builds and runs it.

#![no_main]

use auspex_indexer::fuzz::Target;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    Target::Uri.run(bytes);
});
