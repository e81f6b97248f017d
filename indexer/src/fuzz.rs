//! What strangers may send us, as functions of bytes: a fuzzer looks for bytes for which one of them panics.
//!
//! `make fuzz` builds them into `indexer/fuzz`, where libFuzzer is led by the branches of our code that an input reaches.
//! The tests run what is kept in `indexer/fuzz/corpus`, and small changes of it. Each function stands beside what it tries.

use std::path::PathBuf;

/// One thing to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Logs of the watched contracts, through decoding and projection.
    Logs,
    /// What an endpoint answers: headers, receipts, logs, errors.
    Rpc,
    /// A GraphQL query, through validation, planning and SQL.
    Query,
    /// An agent's registration file.
    File,
    /// An agent's URI, and what it redirects to.
    Uri,
}

impl Target {
    pub const ALL: [Self; 5] = [Self::Logs, Self::Rpc, Self::Query, Self::File, Self::Uri];

    /// Its name as a program and as a folder of the corpus.
    pub fn name(self) -> &'static str {
        match self {
            Self::Logs => "logs",
            Self::Rpc => "rpc",
            Self::Query => "query",
            Self::File => "file",
            Self::Uri => "uri",
        }
    }

    /// Tries one input; says whether it was good enough to be accepted. Panics when a promise is broken.
    pub fn run(self, bytes: &[u8]) -> bool {
        match self {
            Self::Logs => crate::project::fuzz::logs(bytes),
            Self::Rpc => crate::source::fuzz::rpc(bytes),
            Self::Query => crate::serve::graphql::fuzz::query(bytes),
            Self::File => crate::registration::fuzz::file(bytes),
            Self::Uri => crate::registration::fuzz::uri(bytes),
        }
    }

    /// Where its kept inputs are.
    pub fn corpus(self) -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(self.name())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::{Index, select};

    use super::*;

    fn kept(target: Target) -> Vec<Vec<u8>> {
        let mut files: Vec<PathBuf> = std::fs::read_dir(target.corpus())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        files.sort();
        let inputs: Vec<Vec<u8>> = files.iter().map(|file| std::fs::read(file).unwrap()).collect();
        assert!(4 <= inputs.len(), "the corpus of {target:?} is empty");
        inputs
    }

    /// One change of an input, as fuzzers make them.
    #[derive(Debug, Clone)]
    enum Change {
        Set(Index, u8),
        Insert(Index, Vec<u8>),
        Remove(Index, Index),
        /// A part of another kept input.
        Splice(Index, Vec<u8>, Index, Index),
    }

    impl Change {
        fn apply(&self, bytes: &mut Vec<u8>) {
            let place = |index: &Index, bytes: &[u8]| index.index(bytes.len() + 1);
            match self {
                Self::Set(at, byte) => {
                    let at = place(at, bytes);
                    if let Some(found) = bytes.get_mut(at) {
                        *found = *byte;
                    }
                }
                Self::Insert(at, more) => {
                    let at = place(at, bytes);
                    drop(bytes.splice(at..at, more.iter().copied()));
                }
                Self::Remove(from, length) => {
                    let from = place(from, bytes);
                    let until = from + length.index(bytes.len() - from + 1).min(16);
                    drop(bytes.drain(from..until));
                }
                Self::Splice(at, other, from, length) => {
                    let at = place(at, bytes);
                    let from = place(from, other);
                    let part = &other[from..from + length.index(other.len() - from + 1)];
                    drop(bytes.splice(at..at, part.iter().copied()));
                }
            }
        }
    }

    /// What breaks readers of numbers, texts and brackets.
    const PIECES: &[&[u8]] = &[
        b"\0",
        b"\xff",
        b"\xf0\x9f\x92\xa9",
        b"\\u0000",
        b"\"",
        b"'",
        b"--",
        b"{",
        b"}",
        b"[",
        b"]",
        b"$v",
        b"null",
        b"-1",
        b"0x",
        b"1e999",
        b"18446744073709551616",
        b"..",
        b"//",
        b"@",
        b"%00",
        b"%2e%2e",
        b"#",
        b"\r\n",
        b"_not_in",
        b"__id",
    ];

    fn change(kept: Vec<Vec<u8>>) -> impl Strategy<Value = Change> {
        let index = || any::<Index>();
        let pieces: Vec<Vec<u8>> = PIECES.iter().map(|piece| piece.to_vec()).collect();
        prop_oneof![
            3 => (index(), any::<u8>()).prop_map(|(at, byte)| Change::Set(at, byte)),
            3 => (index(), select(pieces)).prop_map(|(at, more)| Change::Insert(at, more)),
            2 => (index(), index()).prop_map(|(from, length)| Change::Remove(from, length)),
            2 => (index(), select(kept), index(), index())
                .prop_map(|(at, other, from, length)| Change::Splice(at, other, from, length)),
        ]
    }

    /// Runs what is kept, and changes of it; proptest prints the seed of a failure and makes it small.
    fn replay(target: Target, cases: u32) {
        let kept = kept(target);
        let accepted = kept.iter().filter(|input| target.run(input)).count();
        assert!(kept.len() < 2 * accepted, "most of what is kept is refused before it matters");
        let is_long = std::env::var("AUSPEX_TEST_PROFILE").as_deref() == Ok("long");
        let cases = if is_long { cases * 200 } else { cases };
        let changed = (select(kept.clone()), prop::collection::vec(change(kept), 1..6));
        let config =
            ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases) };
        proptest!(config, |((mut input, changes) in changed)| {
            for change in &changes {
                change.apply(&mut input);
            }
            target.run(&input);
        });
    }

    #[test]
    fn logs_keep_their_promises() {
        replay(Target::Logs, 2_000);
    }

    #[test]
    fn answers_of_endpoints_keep_their_promises() {
        replay(Target::Rpc, 2_000);
    }

    #[test]
    fn queries_keep_their_promises() {
        replay(Target::Query, 1_000);
    }

    #[test]
    fn registration_files_keep_their_promises() {
        replay(Target::File, 2_000);
    }

    #[test]
    fn uris_keep_their_promises() {
        replay(Target::Uri, 2_000);
    }
}
