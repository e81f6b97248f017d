//! Rows in the forms of PostgreSQL's COPY: the fastest way in. Source: PostgreSQL documentation, "COPY", file formats.

use std::collections::HashMap;

use serde_json::value::RawValue;
use sqlx::PgConnection;

use super::StoreError;

/// Sends rows to a `copy .. from stdin`.
pub(super) async fn send(
    connection: &mut PgConnection,
    statement: &str,
    rows: Vec<u8>,
) -> Result<(), StoreError> {
    let mut copy = connection.copy_in_raw(statement).await?;
    copy.send(rows).await?;
    copy.finish().await?;
    Ok(())
}

/// Rows in the binary form, for columns whose binary form is known here.
#[derive(Debug)]
pub(super) struct CopyRows(Vec<u8>);

impl CopyRows {
    pub(super) fn with_capacity(bytes: usize) -> Self {
        let mut buffer = Vec::with_capacity(bytes);
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

    /// All rows, with the end mark.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&(-1i16).to_be_bytes());
        self.0
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
        for letter in value.chars() {
            match letter {
                '\\' => self.text.push_str("\\\\"),
                '\t' => self.text.push_str("\\t"),
                '\n' => self.text.push_str("\\n"),
                '\r' => self.text.push_str("\\r"),
                other => self.text.push(other),
            }
        }
    }

    pub(super) fn null(&mut self) {
        self.separate();
        self.text.push_str("\\N");
    }

    /// The values of a JSON object, in the order of these columns. Numbers of any size keep their digits.
    pub(super) fn object(&mut self, json: &str, columns: &[&str]) -> Result<(), StoreError> {
        let values: HashMap<&str, &RawValue> =
            serde_json::from_str(json).map_err(|error| unreadable(&error))?;
        for column in columns {
            let value = values.get(column).ok_or_else(|| {
                StoreError::Defect(format!("a row without a value for its column {column}"))
            })?;
            self.json(value.get())?;
        }
        Ok(())
    }

    pub(super) fn end_row(&mut self) {
        self.text.push('\n');
        self.is_row_begun = false;
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.text.into_bytes()
    }

    fn separate(&mut self) {
        if self.is_row_begun {
            self.text.push('\t');
        }
        self.is_row_begun = true;
    }

    fn json(&mut self, value: &str) -> Result<(), StoreError> {
        match value.as_bytes().first() {
            Some(b'n') => self.null(),
            Some(b'"') => self
                .field(&serde_json::from_str::<String>(value).map_err(|error| unreadable(&error))?),
            Some(b'[') => self.field(&array(value)?),
            _ => self.field(value),
        }
        Ok(())
    }
}

/// A JSON array as PostgreSQL writes an array of one dimension.
fn array(json: &str) -> Result<String, StoreError> {
    let values: Vec<&RawValue> = serde_json::from_str(json).map_err(|error| unreadable(&error))?;
    let mut text = String::from("{");
    for (index, value) in values.iter().enumerate() {
        if 0 < index {
            text.push(',');
        }
        let value = value.get();
        if !value.starts_with('"') {
            text.push_str(value);
            continue;
        }
        text.push('"');
        for letter in
            serde_json::from_str::<String>(value).map_err(|error| unreadable(&error))?.chars()
        {
            if matches!(letter, '"' | '\\') {
                text.push('\\');
            }
            text.push(letter);
        }
        text.push('"');
    }
    text.push('}');
    Ok(text)
}

fn unreadable(error: &serde_json::Error) -> StoreError {
    StoreError::Defect(format!("a row as JSON: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_their_digits_and_what_separates_them_is_escaped() {
        let mut rows = CopyText::default();
        let json = r#"{"b": 115792089237316195423570985008687907853, "a": "x\ty\\z\n", "c": null,
            "d": ["\\x00", "q\"", 7], "e": true}"#;
        rows.field("id");
        rows.object(json, &["a", "b", "c", "d", "e"]).unwrap();
        rows.end_row();
        let text = String::from_utf8(rows.finish()).unwrap();
        let expected = concat!(
            "id\tx\\ty\\\\z\\n\t115792089237316195423570985008687907853\t\\N\t",
            r#"{"\\\\x00","q\\"",7}"#,
            "\ttrue\n"
        );
        assert_eq!(text, expected);
        assert!(CopyText::default().object(json, &["f"]).is_err());
    }
}
