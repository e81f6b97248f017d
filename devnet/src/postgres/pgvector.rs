//! Whether a PostgreSQL, embedded or given by `DATABASE_URL`, has the pgvector that the schema needs.
//!
//! The query is checked at run time, not at compile time: this crate makes the databases against which
//! the others are compiled.

use sqlx::PgConnection;

/// Iterative index scans, without which a filtered search loses results, came with this version.
pub const VERSION_MIN: (u32, u32) = (0, 8);

/// Why a database cannot hold the schema.
#[derive(Debug, thiserror::Error)]
pub enum PgvectorError {
    #[error(
        "a database without pgvector: the server offers no extension `vector`; install pgvector {}.{} or newer (Debian, Ubuntu: apt-get install postgresql-NN-pgvector), or unset DATABASE_URL to use the embedded PostgreSQL",
        VERSION_MIN.0, VERSION_MIN.1
    )]
    Missing,
    #[error(
        "a database with pgvector {found}, which is too old: install pgvector {}.{} or newer",
        VERSION_MIN.0, VERSION_MIN.1
    )]
    TooOld { found: String },
    #[error("look for pgvector")]
    Database(#[from] sqlx::Error),
}

/// Checks the version that is installed in the database, or else the one that would be; returns it.
pub async fn check(connection: &mut PgConnection) -> Result<String, PgvectorError> {
    let found = sqlx::query_scalar::<_, Option<String>>(
        "select coalesce(installed_version, default_version) from pg_available_extensions where name = 'vector'",
    )
    .fetch_optional(connection)
    .await?
    .flatten();
    let Some(found) = found else { return Err(PgvectorError::Missing) };
    match parse(&found) {
        Some(version) if VERSION_MIN <= version => Ok(found),
        Some(_) | None => Err(PgvectorError::TooOld { found }),
    }
}

fn parse(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_number() {
        assert_eq!(parse("0.10.2"), Some((0, 10)));
        assert!(VERSION_MIN <= parse("0.10.2").expect("a version"));
        assert!(parse("0.7.4").expect("a version") < VERSION_MIN);
        assert_eq!(parse("new"), None);
    }
}
