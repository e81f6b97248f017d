//! What a failed statement means to whoever asked. SQLSTATE codes: PostgreSQL's manual, appendix A.

use sqlx::Error;

/// Why the database gave no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The statement reached its time limit.
    TookTooLong,
    /// It would have written, and this database only reads.
    ReadOnly,
    /// The database is away, stopping, full, or gave the statement up for others' sake: the same question may be answered in
    /// a moment.
    Away,
    /// The statement is wrong, which is our fault.
    Ours,
}

impl Trouble {
    pub(super) fn of(error: &Error) -> Self {
        match error {
            Error::Database(database) => {
                database.code().map_or(Self::Ours, |code| Self::of_code(&code))
            }
            Error::PoolTimedOut | Error::PoolClosed | Error::Io(_) => Self::Away,
            _ => Self::Ours,
        }
    }

    fn of_code(code: &str) -> Self {
        match code {
            // `query_canceled`
            "57014" => Self::TookTooLong,
            // `read_only_sql_transaction`
            "25006" => Self::ReadOnly,
            // `too_many_connections`
            "53300" => Self::Away,
            // Connections that break; transactions that are rolled back, as on a replica where they stand in the way of what
            // it replays; a server that stops, starts or crashed.
            _ if ["08", "40", "57P"].iter().any(|class| code.starts_with(class)) => Self::Away,
            _ => Self::Ours,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_waiting_helps_against_is_called_away() {
        // Serialization failure and deadlock (both are a replica's conflicts too), shutdowns, start-up, connection failures.
        for code in ["40001", "40P01", "57P01", "57P02", "57P03", "08006", "53300"] {
            assert_eq!(Trouble::of_code(code), Trouble::Away, "{code}");
        }
        for code in ["42601", "42P01", "22P02", "23505", "53200", "XX000"] {
            assert_eq!(Trouble::of_code(code), Trouble::Ours, "{code}");
        }
        assert_eq!(Trouble::of(&Error::PoolTimedOut), Trouble::Away);
        assert_eq!(Trouble::of(&Error::RowNotFound), Trouble::Ours);
    }
}
