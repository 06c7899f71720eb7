//! Which settings has a struct, in the order in which it declares them?

use std::fmt;

use serde::de::{DeserializeOwned, Deserializer, Error, Visitor};

/// The keys of `T`, in the order of its fields; none if it is no struct.
pub(super) fn fields_of<T: DeserializeOwned>() -> &'static [&'static str] {
    match T::deserialize(Asked) {
        Err(Fields(fields)) => fields,
        Ok(_) => &[],
    }
}

/// Gives no value, only what it was asked for.
struct Asked;

/// What a struct asks for.
#[derive(Debug)]
struct Fields(&'static [&'static str]);

impl fmt::Display for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the fields of a struct")
    }
}

impl std::error::Error for Fields {}

impl Error for Fields {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self(&[])
    }
}

impl<'de> Deserializer<'de> for Asked {
    type Error = Fields;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, Fields> {
        Err(Fields(fields))
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Fields> {
        Err(Fields(&[]))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::fields_of;
    use crate::config::{AdminSettings, Settings};

    #[test]
    fn fields_come_in_the_order_of_the_struct() {
        assert_eq!(fields_of::<AdminSettings>(), ["enabled", "listen"]);
        assert_eq!(fields_of::<Settings>().first(), Some(&"bootstrap_servers"));
        assert!(fields_of::<()>().is_empty() && fields_of::<Vec<u8>>().is_empty());
    }
}
