//! The database schema, embedded, so that every binary and every test applies the same one.

/// Applies `migrations/` in order, under PostgreSQL's advisory lock; applied files must not change.
pub static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!("../migrations");
