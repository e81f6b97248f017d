//! libFuzzer's program for [`Target::Query`]; `make fuzz` builds and runs it.

#![no_main]

use auspex_indexer::fuzz::Target;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    Target::Query.run(bytes);
});
