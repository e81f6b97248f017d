//! A row of a projection as text for PostgreSQL's COPY, written straight from its struct. Source: PostgreSQL documentation,
//! "COPY", text format, and "Arrays", input and output.

use std::fmt::{self, Display, Write};

use serde::ser::{self, Impossible, Serialize, SerializeSeq, SerializeStruct, Serializer};

/// Appends text with what COPY reads as a separator or an escape escaped.
pub(super) fn escape(out: &mut String, text: &str) {
    let mut rest = text;
    while let Some(at) = rest.bytes().position(|byte| matches!(byte, b'\\' | b'\t' | b'\n' | b'\r'))
    {
        out.push_str(&rest[..at]);
        out.push_str(match rest.as_bytes()[at] {
            b'\\' => "\\\\",
            b'\t' => "\\t",
            b'\n' => "\\n",
            _ => "\\r",
        });
        rest = &rest[at + 1..];
    }
    out.push_str(rest);
}

/// Appends a struct's fields, each after a tab. Fails when they are not these columns in this order.
pub(super) fn fields(
    out: &mut String,
    columns: &[&str],
    row: &impl Serialize,
) -> Result<(), Unwritable> {
    row.serialize(Value { out, place: Place::Row(columns) })
}

/// Why a row cannot be written as text: a defect of its type.
#[derive(Debug, thiserror::Error)]
#[error("a row as text: {0}")]
pub(super) struct Unwritable(String);

impl ser::Error for Unwritable {
    fn custom<T: Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

fn unsupported<T>(what: &str) -> Result<T, Unwritable> {
    Err(Unwritable(format!("{what} has no column")))
}

struct Fields<'a> {
    out: &'a mut String,
    columns: &'a [&'a str],
    next: usize,
}

impl SerializeStruct for Fields<'_> {
    type Ok = ();
    type Error = Unwritable;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        key: &'static str,
        value: &T,
    ) -> Result<(), Unwritable> {
        if self.columns.get(self.next) != Some(&key) {
            let expected = self.columns.get(self.next).copied().unwrap_or("no further field");
            return Err(Unwritable(format!("field {key} in the place of {expected}")));
        }
        self.next += 1;
        self.out.push('\t');
        value.serialize(Value { out: self.out, place: Place::Column })
    }

    fn end(self) -> Result<(), Unwritable> {
        if self.next < self.columns.len() {
            return Err(Unwritable(format!("no field for column {}", self.columns[self.next])));
        }
        Ok(())
    }
}

/// Where a value stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place<'a> {
    /// The whole row, with its columns.
    Row(&'a [&'a str]),
    Column,
    /// Between the braces of an array, in text that is escaped as a whole afterwards.
    Element,
}

struct Value<'a> {
    out: &'a mut String,
    place: Place<'a>,
}

impl Value<'_> {
    /// Letters that need no escape.
    fn plain(self, value: impl Display) -> Result<(), Unwritable> {
        write!(self.out, "{value}").map_err(|fmt::Error| Unwritable("a value's text".into()))
    }

    fn text(self, text: &str) {
        match self.place {
            Place::Row(_) | Place::Column => escape(self.out, text),
            Place::Element => {
                self.out.push('"');
                for letter in text.chars() {
                    if matches!(letter, '"' | '\\') {
                        self.out.push('\\');
                    }
                    self.out.push(letter);
                }
                self.out.push('"');
            }
        }
    }
}

/// Text that is escaped while it is written.
struct Escaped<'a>(&'a mut String);

impl Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        escape(self.0, text);
        Ok(())
    }
}

/// An array of one dimension.
struct Array<'a> {
    out: &'a mut String,
    literal: String,
}

impl SerializeSeq for Array<'_> {
    type Ok = ();
    type Error = Unwritable;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unwritable> {
        if 1 < self.literal.len() {
            self.literal.push(',');
        }
        value.serialize(Value { out: &mut self.literal, place: Place::Element })
    }

    fn end(mut self) -> Result<(), Unwritable> {
        self.literal.push('}');
        escape(self.out, &self.literal);
        Ok(())
    }
}

macro_rules! plain {
    ($($method:ident: $type:ty,)*) => {
        $(fn $method(self, value: $type) -> Result<(), Unwritable> {
            self.plain(value)
        })*
    };
}

impl<'a> Serializer for Value<'a> {
    type Ok = ();
    type Error = Unwritable;
    type SerializeSeq = Array<'a>;
    type SerializeTuple = Impossible<(), Unwritable>;
    type SerializeTupleStruct = Impossible<(), Unwritable>;
    type SerializeTupleVariant = Impossible<(), Unwritable>;
    type SerializeMap = Impossible<(), Unwritable>;
    type SerializeStruct = Fields<'a>;
    type SerializeStructVariant = Impossible<(), Unwritable>;

    plain! {
        serialize_bool: bool,
        serialize_i8: i8,
        serialize_i16: i16,
        serialize_i32: i32,
        serialize_i64: i64,
        serialize_u8: u8,
        serialize_u16: u16,
        serialize_u32: u32,
        serialize_u64: u64,
    }

    fn serialize_f32(self, _: f32) -> Result<(), Unwritable> {
        unsupported("a float")
    }

    fn serialize_f64(self, _: f64) -> Result<(), Unwritable> {
        unsupported("a float")
    }

    fn serialize_char(self, value: char) -> Result<(), Unwritable> {
        self.serialize_str(value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, value: &str) -> Result<(), Unwritable> {
        self.text(value);
        Ok(())
    }

    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Result<(), Unwritable> {
        match self.place {
            Place::Row(_) | Place::Column => write!(Escaped(self.out), "{value}")
                .map_err(|fmt::Error| Unwritable("a value's text".into())),
            Place::Element => self.serialize_str(&value.to_string()),
        }
    }

    fn serialize_bytes(self, _: &[u8]) -> Result<(), Unwritable> {
        unsupported("bytes")
    }

    fn serialize_none(self) -> Result<(), Unwritable> {
        self.out.push_str(match self.place {
            Place::Row(_) | Place::Column => "\\N",
            Place::Element => "NULL",
        });
        Ok(())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Unwritable> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Unwritable> {
        self.serialize_none()
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Unwritable> {
        unsupported("a unit")
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<(), Unwritable> {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Unwritable> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<(), Unwritable> {
        unsupported("a variant with a value")
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Array<'a>, Unwritable> {
        if self.place == Place::Element {
            return unsupported("an array within an array");
        }
        Ok(Array { out: self.out, literal: "{".into() })
    }

    fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple, Unwritable> {
        unsupported("a tuple")
    }

    fn serialize_tuple_struct(
        self,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleStruct, Unwritable> {
        unsupported("a tuple")
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, Unwritable> {
        unsupported("a variant with a value")
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap, Unwritable> {
        unsupported("a map")
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Fields<'a>, Unwritable> {
        match self.place {
            Place::Row(columns) => Ok(Fields { out: self.out, columns, next: 0 }),
            Place::Column | Place::Element => unsupported("a struct"),
        }
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, Unwritable> {
        unsupported("a variant with a value")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Serialize)]
    #[serde(rename_all = "snake_case")]
    enum Status {
        AllWell,
    }

    #[derive(serde::Serialize)]
    struct Sample {
        text: &'static str,
        number: u64,
        flag: bool,
        status: Status,
        nothing: Option<u8>,
        something: Option<i32>,
        list: Vec<&'static str>,
        numbers: Vec<u64>,
        empty: Vec<u64>,
    }

    fn sample() -> Sample {
        Sample {
            text: "a\\b\tc\nd\re",
            number: u64::MAX,
            flag: true,
            status: Status::AllWell,
            nothing: None,
            something: Some(-7),
            list: vec!["\\x00", "q\"r\ts"],
            numbers: vec![1, 2],
            empty: vec![],
        }
    }

    const COLUMNS: [&str; 9] =
        ["text", "number", "flag", "status", "nothing", "something", "list", "numbers", "empty"];

    #[test]
    fn what_separates_and_escapes_is_escaped() {
        let mut out = "id".to_owned();
        fields(&mut out, &COLUMNS, &sample()).unwrap();
        let expected = concat!(
            "id\ta\\\\b\\tc\\nd\\re\t18446744073709551615\ttrue\tall_well\t\\N\t-7\t",
            r#"{"\\\\x00","q\\"r\ts"}"#,
            "\t{1,2}\t{}"
        );
        assert_eq!(out, expected);
    }

    #[test]
    fn other_columns_than_the_fields_are_a_defect() {
        let mut swapped = COLUMNS;
        swapped.swap(0, 1);
        for columns in [&swapped[..], &COLUMNS[..8], &[]] {
            assert!(fields(&mut String::new(), columns, &sample()).is_err(), "{columns:?}");
        }
        let longer = [&COLUMNS[..], &["further"]].concat();
        assert!(fields(&mut String::new(), &longer, &sample()).is_err());
    }
}
