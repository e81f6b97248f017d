//! Rows in the forms of PostgreSQL's COPY: the fastest way in. Source: PostgreSQL documentation, "COPY", file formats.

use std::fmt::Write;

use sqlx::PgConnection;
use sqlx::postgres::PgCopyIn;

use super::{StoreError, row_text};
use crate::project::row::Row;

/// Bytes that are sent at once: PostgreSQL works on them while the next ones are written.
const CHUNK_BYTES: usize = 128 * 1024;

/// A `copy .. from stdin` under way.
pub(super) struct Copy<'c>(PgCopyIn<&'c mut PgConnection>);

impl<'c> Copy<'c> {
    pub(super) async fn begin(
        connection: &'c mut PgConnection,
        statement: &str,
    ) -> Result<Self, StoreError> {
        Ok(Self(connection.copy_in_raw(statement).await?))
    }

    /// Sends what there is when it is worth it.
    pub(super) async fn send(&mut self, rows: &mut impl Buffer) -> Result<(), StoreError> {
        if CHUNK_BYTES <= rows.bytes().len() {
            self.0.send(rows.bytes()).await?;
            rows.empty();
        }
        Ok(())
    }

    /// Sends the rest.
    pub(super) async fn finish(mut self, rows: &impl Buffer) -> Result<(), StoreError> {
        self.0.send(rows.bytes()).await?;
        self.0.finish().await?;
        Ok(())
    }
}

/// Rows that wait to be sent.
pub(super) trait Buffer {
    fn bytes(&self) -> &[u8];
    fn empty(&mut self);
}

impl Buffer for CopyRows {
    fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn empty(&mut self) {
        self.0.clear();
    }
}

impl Buffer for CopyText {
    fn bytes(&self) -> &[u8] {
        self.text.as_bytes()
    }

    fn empty(&mut self) {
        self.text.clear();
    }
}

/// Rows in the binary form, for columns whose binary form is known here.
#[derive(Debug)]
pub(super) struct CopyRows(Vec<u8>);

impl CopyRows {
    pub(super) fn new() -> Self {
        let mut buffer = Vec::with_capacity(2 * CHUNK_BYTES);
        buffer.extend_from_slice(b"PGCOPY\n\xff\r\n\0");
        // No flags, and no header extension.
        buffer.extend_from_slice(&[0; 8]);
        Self(buffer)
    }

    /// Begins a row of this many columns, which have to follow.
    pub(super) fn row(&mut self, columns: i16) {
        self.0.extend_from_slice(&columns.to_be_bytes());
    }

    pub(super) fn int8(&mut self, value: i64) {
        self.0.extend_from_slice(&8i32.to_be_bytes());
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    pub(super) fn int4(&mut self, value: i32) {
        self.0.extend_from_slice(&4i32.to_be_bytes());
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    /// Fails for 2 GiB and more.
    pub(super) fn bytes(&mut self, value: &[u8]) -> Result<(), StoreError> {
        let length = i32::try_from(value.len())
            .map_err(|_| StoreError::Defect(format!("a value of {} bytes", value.len())))?;
        self.0.extend_from_slice(&length.to_be_bytes());
        self.0.extend_from_slice(value);
        Ok(())
    }

    pub(super) fn null(&mut self) {
        self.0.extend_from_slice(&(-1i32).to_be_bytes());
    }

    /// Marks the end of all rows.
    pub(super) fn end(&mut self) {
        self.0.extend_from_slice(&(-1i16).to_be_bytes());
    }
}

/// Rows in the text form, whose values PostgreSQL reads as it reads literals.
#[derive(Debug, Default)]
pub(super) struct CopyText {
    text: String,
    is_row_begun: bool,
}

impl CopyText {
    pub(super) fn field(&mut self, value: &str) {
        self.separate();
        row_text::escape(&mut self.text, value);
    }

    pub(super) fn number(&mut self, value: i64) {
        self.separate();
        // Writing to a String does not fail.
        let _ = write!(self.text, "{value}");
    }

    pub(super) fn null(&mut self) {
        self.separate();
        self.text.push_str("\\N");
    }

    /// The blocks in which a version holds; open without an end.
    pub(super) fn range(&mut self, from: u64, until: Option<u64>) {
        self.separate();
        let _ = match until {
            Some(until) => write!(self.text, "[{from},{until})"),
            None => write!(self.text, "[{from},)"),
        };
    }

    /// The fields of a row that is already begun, which have to be these columns in this order.
    pub(super) fn fields(&mut self, row: &Row, columns: &[&str]) -> Result<(), StoreError> {
        let written = row_text::fields(&mut self.text, columns, row);
        written.map_err(|error| StoreError::Defect(error.to_string()))
    }

    pub(super) fn end_row(&mut self) {
        self.text.push('\n');
        self.is_row_begun = false;
    }

    fn separate(&mut self) {
        if self.is_row_begun {
            self.text.push('\t');
        }
        self.is_row_begun = true;
    }
}
