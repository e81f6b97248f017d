//! Values in PostgreSQL's binary form, as COPY and every type's receive function read them. Source: PostgreSQL documentation,
//! "COPY", binary format; PostgreSQL sources, `numeric_recv`, `array_recv` and `range_recv` in `src/backend/utils/adt`.

/// What a column holds. A domain counts as the type that it is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    Bool,
    Int2,
    Int4,
    Int8,
    Text,
    Bytea,
    Numeric,
    ByteaArray,
    NumericArray,
}

impl Type {
    /// Null for a type that no projection has.
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "bool" => Self::Bool,
            "int2" => Self::Int2,
            "int4" => Self::Int4,
            "int8" => Self::Int8,
            "text" => Self::Text,
            "bytea" => Self::Bytea,
            "numeric" => Self::Numeric,
            "bytea[]" => Self::ByteaArray,
            "numeric[]" => Self::NumericArray,
            _ => return None,
        })
    }

    /// What an array of this type is made of.
    pub(super) fn element(self) -> Option<Self> {
        match self {
            Self::ByteaArray => Some(Self::Bytea),
            Self::NumericArray => Some(Self::Numeric),
            Self::Bool
            | Self::Int2
            | Self::Int4
            | Self::Int8
            | Self::Text
            | Self::Bytea
            | Self::Numeric => None,
        }
    }

    /// The type's number in `pg_type`, of those that arrays are made of; it is the same in every database.
    pub(super) fn oid(self) -> Option<u32> {
        match self {
            Self::Bytea => Some(17),
            Self::Numeric => Some(1_700),
            Self::Bool
            | Self::Int2
            | Self::Int4
            | Self::Int8
            | Self::Text
            | Self::ByteaArray
            | Self::NumericArray => None,
        }
    }
}

pub(super) fn null(out: &mut Vec<u8>) {
    out.extend_from_slice(&(-1i32).to_be_bytes());
}

/// A value of these bytes. None at 2 GiB and more, with nothing written.
pub(super) fn bytes(out: &mut Vec<u8>, value: &[u8]) -> Option<()> {
    let length = i32::try_from(value.len()).ok()?;
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(value);
    Some(())
}

/// A value of whatever `write` appends. None at 2 GiB and more, or when `write` says so.
pub(super) fn sized(
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> Option<()>,
) -> Option<()> {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    write(out)?;
    let length = i32::try_from(out.len() - start - 4).ok()?;
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
    Some(())
}

/// The blocks in which a version holds, as an `int8range`; open without an end.
pub(super) fn range(out: &mut Vec<u8>, from: i64, until: Option<i64>) {
    const LOWER_INCLUSIVE: u8 = 0x02;
    const UPPER_INFINITE: u8 = 0x10;
    let (length, flags) = match until {
        Some(_) => (25i32, LOWER_INCLUSIVE),
        None => (13, LOWER_INCLUSIVE | UPPER_INFINITE),
    };
    out.extend_from_slice(&length.to_be_bytes());
    out.push(flags);
    for bound in [Some(from), until].into_iter().flatten() {
        out.extend_from_slice(&8i32.to_be_bytes());
        out.extend_from_slice(&bound.to_be_bytes());
    }
}

/// An integer as a `numeric`, from its decimal digits. None when the text is anything else.
pub(super) fn numeric(out: &mut Vec<u8>, decimal: &str) -> Option<()> {
    const NEGATIVE: u16 = 0x4000;
    /// Decimal digits in one of PostgreSQL's.
    const GROUP: usize = 4;
    let (sign, digits) = match decimal.strip_prefix('-') {
        Some(digits) => (NEGATIVE, digits),
        None => (0, decimal),
    };
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let digits = digits.trim_start_matches('0').as_bytes();
    let count = digits.len().div_ceil(GROUP);
    sized(out, |out| {
        out.extend_from_slice(&i16::try_from(count).ok()?.to_be_bytes());
        let weight = i16::try_from(count.saturating_sub(1)).ok()?;
        out.extend_from_slice(&weight.to_be_bytes());
        out.extend_from_slice(&sign.to_be_bytes());
        // No digits after the point.
        out.extend_from_slice(&0i16.to_be_bytes());
        let (first, rest) = digits.split_at(digits.len() - count.saturating_sub(1) * GROUP);
        for group in std::iter::once(first).chain(rest.chunks(GROUP)).filter(|g| !g.is_empty()) {
            let group = group.iter().fold(0i16, |sum, digit| sum * 10 + i16::from(digit - b'0'));
            out.extend_from_slice(&group.to_be_bytes());
        }
        Some(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digits(decimal: &str) -> Vec<u8> {
        let mut out = Vec::new();
        numeric(&mut out, decimal).expect("a number");
        out.split_off(4)
    }

    #[test]
    fn a_number_is_written_in_groups_of_four_digits_from_its_end() {
        assert_eq!(digits("0"), [0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(digits("000"), [0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(digits("9999"), [0, 1, 0, 0, 0, 0, 0, 0, 0x27, 0x0f]);
        assert_eq!(digits("10000"), [0, 2, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0]);
        assert_eq!(digits("-12345678"), [0, 2, 0, 1, 0x40, 0, 0, 0, 4, 0xd2, 0x16, 0x2e]);
    }

    #[test]
    fn what_is_no_integer_is_refused() {
        for text in ["", "-", "1.5", "0x1", "1e3", " 1"] {
            assert!(numeric(&mut Vec::new(), text).is_none(), "{text}");
        }
    }
}
