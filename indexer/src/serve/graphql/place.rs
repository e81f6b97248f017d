//! Ids of events: `0x`, the block's number in 16 hex digits, the log's index in it in 8. Their order as text is the order of
//! block and index, in which events have an index; what is asked of an id is asked of these two.

use super::filter::{Operand, Scalar};
use super::sql::{Alias, Writer};
use crate::entity::Operation;

/// Where an event is: its block, and its log's place in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    block: i64,
    log: i64,
}

/// Writes `id operation operand`.
pub(super) fn compare(writer: &mut Writer, table: Alias, operation: Operation, operand: &Operand) {
    match (operation, operand) {
        (Operation::Not, Operand::Null) => writer.push("true"),
        (Operation::Equal, Operand::One(Scalar::Text(id))) => equal(writer, table, id),
        (Operation::Not, Operand::One(Scalar::Text(id))) => {
            writer.push("not ");
            equal(writer, table, id);
        }
        (Operation::Greater, Operand::One(Scalar::Text(id))) => ordered(writer, table, ">", id),
        (Operation::Less, Operand::One(Scalar::Text(id))) => ordered(writer, table, "<", id),
        (Operation::GreaterOrEqual, Operand::One(Scalar::Text(id))) => {
            ordered(writer, table, ">=", id);
        }
        (Operation::LessOrEqual, Operand::One(Scalar::Text(id))) => {
            ordered(writer, table, "<=", id);
        }
        (Operation::In, Operand::Many(ids)) => member(writer, table, ids),
        (Operation::NotIn, Operand::Many(ids)) => {
            writer.push("not ");
            member(writer, table, ids);
        }
        // The parser of filters makes no other ones of an id.
        (
            Operation::Equal
            | Operation::Not
            | Operation::Greater
            | Operation::Less
            | Operation::GreaterOrEqual
            | Operation::LessOrEqual
            | Operation::In
            | Operation::NotIn
            | Operation::Contains(..)
            | Operation::StartsWith(..)
            | Operation::EndsWith(..)
            | Operation::Child,
            _,
        ) => writer.push("false"),
    }
}

fn equal(writer: &mut Writer, table: Alias, id: &str) {
    let Some((place, true)) = first_not_below(id) else {
        writer.push("false");
        return;
    };
    writer.push(format_args!("({table}.block_number = "));
    writer.bind(&Scalar::Integer(place.block));
    writer.push(format_args!(" and {table}.log_index = "));
    writer.bind(&Scalar::Integer(place.log));
    writer.push(")");
}

/// `id word <any text>`, by the first id that is not below the text.
pub(super) fn ordered(writer: &mut Writer, table: Alias, word: &str, text: &str) {
    let is_less = word.starts_with('<');
    let Some((place, is_exact)) = first_not_below(text) else {
        writer.push(if is_less { "true" } else { "false" });
        return;
    };
    let word = match (word, is_exact) {
        (word, true) => word,
        (_, false) if is_less => "<",
        (_, false) => ">=",
    };
    writer.push(format_args!("({table}.block_number, {table}.log_index) {word} ("));
    writer.bind(&Scalar::Integer(place.block));
    writer.push(", ");
    writer.bind(&Scalar::Integer(place.log));
    writer.push(")");
}

fn member(writer: &mut Writer, table: Alias, ids: &[Scalar]) {
    let places = ids.iter().filter_map(|id| match id {
        Scalar::Text(id) => first_not_below(id).filter(|(_, is_exact)| *is_exact),
        Scalar::Bytes(_) | Scalar::Integer(_) | Scalar::Wide(_) | Scalar::Boolean(_) => None,
    });
    let (blocks, logs): (Vec<_>, Vec<_>) =
        places.map(|(place, _)| (place.block, place.log)).unzip();
    writer.push(format_args!(
        "(({table}.block_number, {table}.log_index) in (select b, l from unnest("
    ));
    writer.query.push_bind(blocks).push("::bigint[], ");
    writer.query.push_bind(logs).push("::bigint[]) as u (b, l)))");
}

/// The smallest id that is equal to or above a text, and whether it is equal; `None` when all are below it.
fn first_not_below(text: &str) -> Option<(Place, bool)> {
    const DIGITS: u32 = 24;
    const PREFIX: &[u8] = b"0x";
    let text = text.as_bytes();
    for (index, expected) in PREFIX.iter().enumerate() {
        match text.get(index) {
            Some(given) if given == expected => {}
            Some(given) if expected < given => return None,
            Some(_) | None => return place(0, false),
        }
    }
    let digits = &text[PREFIX.len()..];
    let mut value = 0_u128;
    let mut left = DIGITS;
    for digit in digits.iter().take(DIGITS as usize) {
        left -= 1;
        let next = match digit {
            b'0'..=b'9' => u128::from(digit - b'0'),
            b'a'..=b'f' => u128::from(digit - b'a') + 10,
            // No id goes on like this: which of the digits is the first one above?
            0..b'0' => return place(value << (4 * (left + 1)), false),
            b':'..b'a' => return place(((value << 4) | 10) << (4 * left), false),
            b'g'.. => return place((value + 1) << (4 * (left + 1)), false),
        };
        value = (value << 4) | next;
    }
    if (DIGITS as usize) < digits.len() {
        return place(value + 1, false);
    }
    place(value << (4 * left), left == 0)
}

/// `None` beyond the last block number that there can be.
fn place(value: u128, is_exact: bool) -> Option<(Place, bool)> {
    let block = i64::try_from(value >> 32).ok()?;
    let log = (value & u128::from(u32::MAX)) as i64;
    Some((Place { block, log }, is_exact))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(block: i64, log: i64) -> String {
        format!("0x{block:016x}{log:08x}")
    }

    #[test]
    fn a_text_is_placed_among_the_ids() {
        let at = |block, log, is_exact| Some((Place { block, log }, is_exact));
        assert_eq!(first_not_below(&id(41_000_000, 7)), at(41_000_000, 7, true));
        assert_eq!(first_not_below(""), at(0, 0, false));
        assert_eq!(first_not_below("0"), at(0, 0, false));
        assert_eq!(first_not_below("0x"), at(0, 0, false));
        assert_eq!(first_not_below("0x0000000000000005"), at(5, 0, false));
        assert_eq!(first_not_below("0x0000000000000005g"), at(6, 0, false));
        assert_eq!(first_not_below(&(id(5, 7) + "0")), at(5, 8, false));
        assert_eq!(first_not_below("0x00000000000000A"), at(160, 0, false));
        assert_eq!(first_not_below("1"), None);
        assert_eq!(first_not_below("0y"), None);
        assert_eq!(first_not_below("0xf"), None);
        assert_eq!(first_not_below(&"0xfffffffffffffffffffffffff".repeat(9)), None);
    }

    proptest! {
        #[test]
        fn the_order_of_texts_is_the_order_of_places(
            text in prop_oneof!["0?x?[0-9a-fA-Fg:/]{0,30}", "0x0{12,16}[0-9a-f]{0,12}", "\\PC{0,4}"],
            block in prop_oneof![0..300_i64, any::<u32>().prop_map(i64::from)],
            log in 0..300_i64,
        ) {
            let stands = id(block, log);
            let found = first_not_below(&text);
            let is_below = match found {
                None => true,
                Some((first, _)) => (block, log) < (first.block, first.log),
            };
            prop_assert_eq!(is_below, stands < text);
            let is_equal = found == Some((Place { block, log }, true));
            prop_assert_eq!(is_equal, stands == text);
        }
    }
}
