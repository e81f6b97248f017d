//! The filters of The Graph's dialect: which suffixes a field of each kind has.
//!
//! The table is that of graph-node's `graph/src/schema/api.rs`, `field_filter_ops`.

use super::{Element, Kind};

/// A comparison that a filter makes. The suffix in a filter's name says which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    Equal,
    Not,
    Greater,
    Less,
    GreaterOrEqual,
    LessOrEqual,
    In,
    NotIn,
    /// A part of a text, of bytes or, on lists, all of the given elements. The flags of this and the next two:
    /// negated, without regard to case.
    Contains(Negated, Nocase),
    StartsWith(Negated, Nocase),
    EndsWith(Negated, Nocase),
    /// Conditions on the row at the other end of a relation.
    Child,
}

/// Whether an operation asks for the contrary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Negated {
    No,
    Yes,
}

/// Whether an operation disregards case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Nocase {
    No,
    Yes,
}

use Operation::{
    Child, Contains, EndsWith, Equal, Greater, GreaterOrEqual, In, Less, LessOrEqual, Not, NotIn,
    StartsWith,
};

const BOOLEAN: &[Operation] = &[Equal, Not, In, NotIn];

const ORDERED: &[Operation] = &[Equal, Not, Greater, Less, GreaterOrEqual, LessOrEqual, In, NotIn];

const BYTES: &[Operation] = &[
    Equal,
    Not,
    Greater,
    Less,
    GreaterOrEqual,
    LessOrEqual,
    In,
    NotIn,
    Contains(Negated::No, Nocase::No),
    Contains(Negated::Yes, Nocase::No),
];

const TEXT: &[Operation] = &[
    Equal,
    Not,
    Greater,
    Less,
    GreaterOrEqual,
    LessOrEqual,
    In,
    NotIn,
    Contains(Negated::No, Nocase::No),
    Contains(Negated::No, Nocase::Yes),
    Contains(Negated::Yes, Nocase::No),
    Contains(Negated::Yes, Nocase::Yes),
    StartsWith(Negated::No, Nocase::No),
    StartsWith(Negated::No, Nocase::Yes),
    StartsWith(Negated::Yes, Nocase::No),
    StartsWith(Negated::Yes, Nocase::Yes),
    EndsWith(Negated::No, Nocase::No),
    EndsWith(Negated::No, Nocase::Yes),
    EndsWith(Negated::Yes, Nocase::No),
    EndsWith(Negated::Yes, Nocase::Yes),
];

const REFERENCE: &[Operation] = &[
    Equal,
    Not,
    Greater,
    Less,
    GreaterOrEqual,
    LessOrEqual,
    In,
    NotIn,
    Contains(Negated::No, Nocase::No),
    Contains(Negated::No, Nocase::Yes),
    Contains(Negated::Yes, Nocase::No),
    Contains(Negated::Yes, Nocase::Yes),
    StartsWith(Negated::No, Nocase::No),
    StartsWith(Negated::No, Nocase::Yes),
    StartsWith(Negated::Yes, Nocase::No),
    StartsWith(Negated::Yes, Nocase::Yes),
    EndsWith(Negated::No, Nocase::No),
    EndsWith(Negated::No, Nocase::Yes),
    EndsWith(Negated::Yes, Nocase::No),
    EndsWith(Negated::Yes, Nocase::Yes),
    Child,
];

const LIST: &[Operation] =
    &[Equal, Not, Contains(Negated::No, Nocase::No), Contains(Negated::Yes, Nocase::No)];

const TEXT_LIST: &[Operation] = &[
    Equal,
    Not,
    Contains(Negated::No, Nocase::No),
    Contains(Negated::No, Nocase::Yes),
    Contains(Negated::Yes, Nocase::No),
    Contains(Negated::Yes, Nocase::Yes),
];

/// The operations of a field.
pub fn of(kind: &Kind) -> &'static [Operation] {
    match kind {
        Kind::Boolean | Kind::Enum(_) => BOOLEAN,
        Kind::Id | Kind::LogId | Kind::Int | Kind::BigInt => ORDERED,
        Kind::Bytes => BYTES,
        Kind::String => TEXT,
        Kind::List(Element::String) => TEXT_LIST,
        Kind::List(Element::Bytes | Element::BigInt) => LIST,
        Kind::One(..) => REFERENCE,
        Kind::Many(_) => &[Child],
    }
}

impl Operation {
    pub fn suffix(self) -> &'static str {
        use Negated as N;
        use Nocase as C;
        match self {
            Equal => "",
            Not => "_not",
            Greater => "_gt",
            Less => "_lt",
            GreaterOrEqual => "_gte",
            LessOrEqual => "_lte",
            In => "_in",
            NotIn => "_not_in",
            Contains(N::No, C::No) => "_contains",
            Contains(N::No, C::Yes) => "_contains_nocase",
            Contains(N::Yes, C::No) => "_not_contains",
            Contains(N::Yes, C::Yes) => "_not_contains_nocase",
            StartsWith(N::No, C::No) => "_starts_with",
            StartsWith(N::No, C::Yes) => "_starts_with_nocase",
            StartsWith(N::Yes, C::No) => "_not_starts_with",
            StartsWith(N::Yes, C::Yes) => "_not_starts_with_nocase",
            EndsWith(N::No, C::No) => "_ends_with",
            EndsWith(N::No, C::Yes) => "_ends_with_nocase",
            EndsWith(N::Yes, C::No) => "_not_ends_with",
            EndsWith(N::Yes, C::Yes) => "_not_ends_with_nocase",
            Child => "_",
        }
    }

    /// True when the filter takes a list of values.
    pub fn takes_list(self) -> bool {
        matches!(self, In | NotIn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_has_every_suffix_of_the_dialect() {
        let suffixes: Vec<_> = of(&Kind::String).iter().map(|o| o.suffix()).collect();
        assert_eq!(
            suffixes,
            [
                "",
                "_not",
                "_gt",
                "_lt",
                "_gte",
                "_lte",
                "_in",
                "_not_in",
                "_contains",
                "_contains_nocase",
                "_not_contains",
                "_not_contains_nocase",
                "_starts_with",
                "_starts_with_nocase",
                "_not_starts_with",
                "_not_starts_with_nocase",
                "_ends_with",
                "_ends_with_nocase",
                "_not_ends_with",
                "_not_ends_with_nocase",
            ]
        );
    }

    #[test]
    fn an_id_has_no_text_suffix_and_a_boolean_no_order() {
        assert!(!of(&Kind::Id).contains(&Contains(Negated::No, Nocase::No)));
        assert!(!of(&Kind::Boolean).contains(&Greater));
        assert!(of(&Kind::Bytes).contains(&Contains(Negated::Yes, Nocase::No)));
    }
}
