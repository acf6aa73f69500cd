//! A record of a country database, in every form that is known.
//!
//! | form | who | example |
//! |---|---|---|
//! | `Nested` | MaxMind, DB-IP | `{"country": {"iso_code": "DE"}, "registered_country": {…}}` |
//! | `Text` | IPinfo, older | `{"country": "DE"}` |
//! | `Code` | ip-location-db, IPinfo Lite | `{"country_code": "DE"}` |
//!
//! `represented_country` (embassies and bases) is not read: the bytes are where the country is. What is no text where
//! text is looked for counts as absent, and a file in which nothing is found is refused as a whole.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::places::country::CountryCode;

/// Two letters, or what stands in their place.
type Code = [u8; 2];

/// Where a record holds its country.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Form {
    Nested,
    Text,
    Code,
}

impl Form {
    pub(super) const ALL: [Self; 3] = [Self::Nested, Self::Text, Self::Code];
}

/// What a record holds in each form. Text that is not of two letters is a name and not a code.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Record {
    nested: Option<Code>,
    text: Option<Code>,
    code: Option<Code>,
    registered: Option<Code>,
}

impl Record {
    /// The two letters in a form, a country's or not.
    pub(super) fn text(&self, form: Form) -> Option<String> {
        let code = match form {
            Form::Nested => self.nested,
            Form::Text => self.text,
            Form::Code => self.code,
        };
        code.map(|code| String::from_utf8_lossy(&code).into_owned())
    }

    pub(super) fn registered(&self) -> Option<CountryCode> {
        let code = self.registered?;
        CountryCode::parse(std::str::from_utf8(&code).ok()?)
    }
}

impl<'de> Deserialize<'de> for Record {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RecordVisitor)
    }
}

struct RecordVisitor;

impl<'de> Visitor<'de> for RecordVisitor {
    type Value = Record;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a record, which is a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Record, A::Error> {
        let mut record = Record::default();
        while let Some(key) = map.next_key::<Key>()? {
            match key {
                Key::Country => {
                    let field = map.next_value::<Field>()?;
                    (record.nested, record.text) = (field.iso_code, field.text);
                }
                Key::CountryCode => record.code = map.next_value::<Field>()?.text,
                Key::RegisteredCountry => record.registered = map.next_value::<Field>()?.iso_code,
                Key::IsoCode | Key::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(record)
    }
}

/// The keys that are looked for.
enum Key {
    Country,
    CountryCode,
    RegisteredCountry,
    IsoCode,
    Other,
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl Visitor<'_> for KeyVisitor {
            type Value = Key;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            // The decoder gives keys as bytes.
            fn visit_bytes<E>(self, key: &[u8]) -> Result<Key, E> {
                Ok(match key {
                    b"country" => Key::Country,
                    b"country_code" => Key::CountryCode,
                    b"registered_country" => Key::RegisteredCountry,
                    b"iso_code" => Key::IsoCode,
                    _ => Key::Other,
                })
            }

            fn visit_str<E: Error>(self, key: &str) -> Result<Key, E> {
                self.visit_bytes(key.as_bytes())
            }
        }
        deserializer.deserialize_identifier(KeyVisitor)
    }
}

/// A value that may be a code, or a map with one in it.
#[derive(Default)]
struct Field {
    text: Option<Code>,
    iso_code: Option<Code>,
}

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FieldVisitor)
    }
}

struct FieldVisitor;

impl<'de> Visitor<'de> for FieldVisitor {
    type Value = Field;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a country")
    }

    fn visit_str<E>(self, text: &str) -> Result<Field, E> {
        Ok(Field { text: text.as_bytes().try_into().ok(), iso_code: None })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Field, A::Error> {
        let mut field = Field::default();
        while let Some(key) = map.next_key::<Key>()? {
            match key {
                Key::IsoCode => field.iso_code = map.next_value::<Inner>()?.0,
                Key::Country | Key::CountryCode | Key::RegisteredCountry | Key::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(field)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Field, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Field::default())
    }

    fn visit_bool<E>(self, _: bool) -> Result<Field, E> {
        Ok(Field::default())
    }

    fn visit_i64<E>(self, _: i64) -> Result<Field, E> {
        Ok(Field::default())
    }

    fn visit_u64<E>(self, _: u64) -> Result<Field, E> {
        Ok(Field::default())
    }

    fn visit_u128<E>(self, _: u128) -> Result<Field, E> {
        Ok(Field::default())
    }

    fn visit_f64<E>(self, _: f64) -> Result<Field, E> {
        Ok(Field::default())
    }

    fn visit_bytes<E>(self, _: &[u8]) -> Result<Field, E> {
        Ok(Field::default())
    }
}

/// The value of `iso_code`: a field again, one level down, of which only text counts. Depth is bounded by the decoder.
struct Inner(Option<Code>);

impl<'de> Deserialize<'de> for Inner {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FieldVisitor).map(|field| Self(field.text))
    }
}
