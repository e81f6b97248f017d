//! A row of a projection for PostgreSQL's binary COPY, written straight from its struct.

use std::fmt::{self, Display, Write};

use serde::ser::{self, Impossible, Serialize, SerializeSeq, SerializeStruct, Serializer};

use super::binary::{self, Type};

/// A column of a projection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) holds: Type,
}

/// Appends a struct's fields. Fails when they are not these columns in this order, or do not fit into them.
pub(super) fn fields(
    out: &mut Vec<u8>,
    columns: &[Column],
    row: &impl Serialize,
) -> Result<(), Unwritable> {
    row.serialize(Value { out, place: Place::Row(columns) })
}

/// Why a row cannot be written: a defect of its type.
#[derive(Debug, thiserror::Error)]
#[error("a row for COPY: {0}")]
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
    out: &'a mut Vec<u8>,
    columns: &'a [Column],
}

impl SerializeStruct for Fields<'_> {
    type Ok = ();
    type Error = Unwritable;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        key: &'static str,
        value: &T,
    ) -> Result<(), Unwritable> {
        let Some((column, rest)) = self.columns.split_first() else {
            return Err(Unwritable(format!("no column for field {key}")));
        };
        if column.name != key {
            return Err(Unwritable(format!("field {key} in the place of {}", column.name)));
        }
        self.columns = rest;
        value.serialize(Value { out: self.out, place: Place::Column(column.holds) })
    }

    fn end(self) -> Result<(), Unwritable> {
        match self.columns.first() {
            Some(column) => Err(Unwritable(format!("no field for column {}", column.name))),
            None => Ok(()),
        }
    }
}

/// Where a value stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place<'a> {
    /// The whole row, with its columns.
    Row(&'a [Column]),
    /// A column of this type, or an element of an array of it.
    Column(Type),
}

struct Value<'a> {
    out: &'a mut Vec<u8>,
    place: Place<'a>,
}

impl Value<'_> {
    fn integer(self, value: i128) -> Result<(), Unwritable> {
        let Place::Column(holds) = self.place else { return unsupported("a number as a row") };
        let written = match holds {
            Type::Int2 => {
                i16::try_from(value).ok().and_then(|v| binary::bytes(self.out, &v.to_be_bytes()))
            }
            Type::Int4 => {
                i32::try_from(value).ok().and_then(|v| binary::bytes(self.out, &v.to_be_bytes()))
            }
            Type::Int8 => {
                i64::try_from(value).ok().and_then(|v| binary::bytes(self.out, &v.to_be_bytes()))
            }
            Type::Numeric => binary::numeric(self.out, &value.to_string()),
            Type::Bool | Type::Text | Type::Bytea | Type::ByteaArray | Type::NumericArray => None,
        };
        written.ok_or_else(|| Unwritable(format!("the number {value} in a column of {holds:?}")))
    }

    /// A value that is these bytes, in a column of this type.
    fn plain(self, expected: Type, value: &[u8]) -> Result<(), Unwritable> {
        if self.place != Place::Column(expected) {
            return Err(Unwritable(format!("{expected:?} as {:?}", self.place)));
        }
        binary::bytes(self.out, value)
            .ok_or_else(|| Unwritable(format!("a value of {} bytes", value.len())))
    }
}

/// Room for the longest number in decimal, 78 digits and a sign.
struct Digits {
    text: [u8; 80],
    length: usize,
}

impl Write for Digits {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.length + text.len();
        self.text.get_mut(self.length..end).ok_or(fmt::Error)?.copy_from_slice(text.as_bytes());
        self.length = end;
        Ok(())
    }
}

/// An array of one dimension, or of none while it is empty.
struct Array<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
    element: Type,
    oid: u32,
    count: i32,
}

impl<'a> Array<'a> {
    /// Length of the value, dimensions, flags, element type; then length and lower bound of the one dimension.
    const HEADER_BYTES: usize = 4 + 12 + 8;

    fn begin(out: &'a mut Vec<u8>, element: Type, oid: u32) -> Self {
        let start = out.len();
        out.extend_from_slice(&[0; Self::HEADER_BYTES]);
        Self { out, start, element, oid, count: 0 }
    }
}

impl SerializeSeq for Array<'_> {
    type Ok = ();
    type Error = Unwritable;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unwritable> {
        self.count += 1;
        value.serialize(Value { out: self.out, place: Place::Column(self.element) })
    }

    fn end(self) -> Result<(), Unwritable> {
        let is_empty = self.count == 0;
        if is_empty {
            self.out.truncate(self.out.len() - 8);
        }
        let length = i32::try_from(self.out.len() - self.start - 4);
        let length = length.map_err(|_| Unwritable("an array of 2 GiB".into()))?;
        let mut header = Vec::with_capacity(Self::HEADER_BYTES);
        header.extend_from_slice(&length.to_be_bytes());
        header.extend_from_slice(&i32::from(!is_empty).to_be_bytes());
        header.extend_from_slice(&0i32.to_be_bytes());
        header.extend_from_slice(&self.oid.to_be_bytes());
        if !is_empty {
            header.extend_from_slice(&self.count.to_be_bytes());
            header.extend_from_slice(&1i32.to_be_bytes());
        }
        self.out[self.start..self.start + header.len()].copy_from_slice(&header);
        Ok(())
    }
}

macro_rules! integers {
    ($($method:ident: $type:ty,)*) => {
        $(fn $method(self, value: $type) -> Result<(), Unwritable> {
            self.integer(value.into())
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

    integers! {
        serialize_i8: i8,
        serialize_i16: i16,
        serialize_i32: i32,
        serialize_i64: i64,
        serialize_u8: u8,
        serialize_u16: u16,
        serialize_u32: u32,
        serialize_u64: u64,
    }

    fn is_human_readable(&self) -> bool {
        false
    }

    fn serialize_bool(self, value: bool) -> Result<(), Unwritable> {
        self.plain(Type::Bool, &[u8::from(value)])
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
        self.plain(Type::Text, value.as_bytes())
    }

    /// The way of integers that are wider than 64 bits.
    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Result<(), Unwritable> {
        if self.place != Place::Column(Type::Numeric) {
            return self.serialize_str(&value.to_string());
        }
        let mut digits = Digits { text: [0; 80], length: 0 };
        let decimal = match write!(digits, "{value}") {
            Ok(()) => std::str::from_utf8(&digits.text[..digits.length]).ok(),
            Err(fmt::Error) => None,
        };
        decimal
            .and_then(|decimal| binary::numeric(self.out, decimal))
            .ok_or_else(|| Unwritable(format!("the number {value}")))
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<(), Unwritable> {
        self.plain(Type::Bytea, value)
    }

    fn serialize_none(self) -> Result<(), Unwritable> {
        binary::null(self.out);
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
        let Place::Column(holds) = self.place else { return unsupported("a list as a row") };
        match holds.element().and_then(|element| Some((element, element.oid()?))) {
            Some((element, oid)) => Ok(Array::begin(self.out, element, oid)),
            None => Err(Unwritable(format!("a list in a column of {holds:?}"))),
        }
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
            Place::Row(columns) => Ok(Fields { out: self.out, columns }),
            Place::Column(_) => unsupported("a struct"),
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
    use crate::project::value::{Blob, Number};

    #[derive(serde::Serialize)]
    #[serde(rename_all = "snake_case")]
    enum Status {
        AllWell,
    }

    #[derive(serde::Serialize)]
    struct Sample {
        narrow: u8,
        wide: u32,
        status: Status,
        nothing: Option<u8>,
        list: Vec<Blob<[u8; 2]>>,
        empty: Vec<Number<u64>>,
    }

    const COLUMNS: [Column; 6] = [
        Column { name: "narrow", holds: Type::Int2 },
        Column { name: "wide", holds: Type::Int8 },
        Column { name: "status", holds: Type::Text },
        Column { name: "nothing", holds: Type::Int4 },
        Column { name: "list", holds: Type::ByteaArray },
        Column { name: "empty", holds: Type::NumericArray },
    ];

    fn sample() -> Sample {
        Sample {
            narrow: 7,
            wide: u32::MAX,
            status: Status::AllWell,
            nothing: None,
            list: vec![Blob([1, 2])],
            empty: vec![],
        }
    }

    #[test]
    fn fields_are_written_as_their_columns_types() {
        let mut out = Vec::new();
        fields(&mut out, &COLUMNS, &sample()).unwrap();
        let mut expected = vec![0, 0, 0, 2, 0, 7];
        expected.extend([0, 0, 0, 8, 0, 0, 0, 0, 255, 255, 255, 255]);
        expected.extend(b"\0\0\0\x08all_well");
        expected.extend([255; 4]);
        // One dimension, no nulls, bytea, one element from place 1 on.
        expected.extend([0, 0, 0, 26, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 17, 0, 0, 0, 1, 0, 0, 0, 1]);
        expected.extend([0, 0, 0, 2, 1, 2]);
        expected.extend([0, 0, 0, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 6, 164]);
        assert_eq!(out, expected);
    }

    #[test]
    fn other_columns_than_the_fields_are_a_defect() {
        let mut swapped = COLUMNS;
        swapped.swap(0, 1);
        let mut narrow = COLUMNS;
        narrow[1].holds = Type::Int4;
        for columns in [&swapped[..], &narrow[..], &COLUMNS[..5], &[]] {
            assert!(fields(&mut Vec::new(), columns, &sample()).is_err(), "{columns:?}");
        }
        let further = Column { name: "further", holds: Type::Text };
        let longer = [&COLUMNS[..], &[further]].concat();
        assert!(fields(&mut Vec::new(), &longer, &sample()).is_err());
    }
}
