//! Amounts as people write them. Parsing refuses what the token cannot represent, and printing never rounds.

use alloy::primitives::{
    U256,
    utils::{ParseUnits, format_units, parse_units},
};
use anyhow::{Context, bail};
use chrono::DateTime;

/// Reads `1.5` as an amount of a token with `decimals` decimals.
pub(crate) fn parse(field: &str, text: &str, decimals: u8) -> anyhow::Result<u128> {
    let fraction = text.split_once('.').map_or("", |(_, fraction)| fraction);
    if usize::from(decimals) < fraction.trim_end_matches('0').len() {
        bail!("{field}: {text} has more decimals than the token's {decimals}");
    }
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    let dots = text.bytes().filter(|byte| *byte == b'.').count();
    if digits == 0 || 1 < dots || digits + dots != text.len() {
        bail!("{field}: {text:?} is not an amount; write digits with at most one dot, such as 1.5");
    }
    let parsed = parse_units(text, decimals).with_context(|| {
        format!("{field}: {text:?} is not an amount of a token with {decimals} decimals")
    })?;
    let amount = match parsed {
        ParseUnits::U256(amount) => amount,
        ParseUnits::I256(_) => bail!("{field}: an amount cannot be negative"),
    };
    u128::try_from(amount)
        .ok()
        .with_context(|| format!("{field}: {text} is over the limit of 2^128 - 1 units"))
}

/// Prints a moment of the chain's clock, given in Unix seconds.
pub(crate) fn show_moment(unix_seconds: u64) -> String {
    let moment =
        i64::try_from(unix_seconds).ok().and_then(|seconds| DateTime::from_timestamp(seconds, 0));
    match moment {
        Some(moment) => moment.format("%Y-%m-%d %H:%M:%S UTC").to_string(),
        // A contract's timestamp can lie beyond every calendar.
        None => format!("{unix_seconds} (Unix time)"),
    }
}

/// Prints every digit of an amount, without trailing zeros.
pub(crate) fn show(amount: U256, decimals: u8, symbol: &str) -> String {
    let text = match format_units(amount, decimals) {
        Ok(text) => text,
        // Only a token with over 77 decimals gets here; its raw units are still exact.
        Err(_) => return format!("{amount} units of {symbol}"),
    };
    let trimmed =
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{trimmed} {symbol}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_shown_as_a_date_where_a_calendar_has_one() {
        assert_eq!(show_moment(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(show_moment(1_795_402_245), "2026-11-23 02:50:45 UTC");
        assert_eq!(show_moment(u64::MAX), "18446744073709551615 (Unix time)");
    }

    #[test]
    fn amounts_are_exact_both_ways() {
        for (text, decimals, units) in [
            ("1.5", 18, 1_500_000_000_000_000_000u128),
            ("0.000001", 6, 1),
            ("7", 0, 7),
            ("1.10", 1, 11),
        ] {
            assert_eq!(parse("price", text, decimals).unwrap(), units);
        }
        assert_eq!(show(U256::from(1u64), 18, "ETH"), "0.000000000000000001 ETH");
        assert_eq!(show(U256::from(1_500_000u64), 6, "USDC"), "1.5 USDC");
        assert_eq!(show(U256::from(120u64), 0, "X"), "120 X");
    }

    #[test]
    fn what_a_token_cannot_represent_is_refused_with_the_field() {
        for (text, decimals) in
            [("0.0000001", 6), ("-1", 6), ("", 6), (".", 6), ("1e3", 6), ("1.2.3", 6), ("1_0", 6)]
        {
            let error = parse("price", text, decimals).unwrap_err().to_string();
            assert!(error.starts_with("price: "), "{text:?}: {error}");
        }
        let too_much = U256::MAX.to_string();
        assert!(parse("price", &too_much, 0).is_err());
    }
}
