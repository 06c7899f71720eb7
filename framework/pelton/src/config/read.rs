//! How does a tree of values become a typed struct?
//!
//! By serde, strictly: a number is not a text, `true` is not 1, and a key the struct doesn't have
//! is an error whether or not the struct denies unknown fields. Only values that are text by
//! nature (environment, flags) are read as whatever type is asked for: `9092` stays a text where
//! a text is wanted.

use std::cell::RefCell;
use std::collections::{BTreeMap, btree_map};
use std::fmt;
use std::path::PathBuf;

use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error as _, IntoDeserializer,
    MapAccess, SeqAccess, Unexpected, VariantAccess, Visitor,
};

use super::error::ConfigError;
use super::nearest::nearest;
use super::origin::{Origin, Origins};
use super::pass_through::HIDDEN;
use super::secret;
use super::secret_file::{self, FILE};
use super::tree::{Scalar, Tree, joined};

/// Reads `tree`, which stands under `prefix` in the settings, as a `T`.
pub(super) fn read<T: DeserializeOwned>(tree: &Tree, prefix: &str) -> Result<T, ConfigError> {
    read_noting_secrets(tree, prefix, &mut Origins::default())
}

/// [`read`], and notes in `origins` which values came from a file of their own.
pub(super) fn read_noting_secrets<T: DeserializeOwned>(
    tree: &Tree,
    prefix: &str,
    origins: &mut Origins,
) -> Result<T, ConfigError> {
    let from_files = FromFiles::default();
    let reader = Reader { tree, from_files: &from_files };
    let value = serde_path_to_error::deserialize(reader)
        .map_err(|error| with_its_place(error, tree, prefix))?;
    note_secrets(tree, prefix, &from_files.borrow(), origins);
    Ok(value)
}

/// The tables that were read as secrets; compared, never followed.
type FromFiles = RefCell<Vec<*const Tree>>;

fn note_secrets(tree: &Tree, path: &str, from_files: &[*const Tree], origins: &mut Origins) {
    if from_files.iter().any(|table| std::ptr::eq(*table, tree)) {
        if let Some((file, named_by)) = secret_file::file_of(tree) {
            origins.0.remove(&joined(path, FILE));
            origins.0.insert(path.to_owned(), Origin::in_secret_file(file, named_by));
        }
    } else if let Tree::Table(table, _) = tree {
        for (key, below) in table {
            note_secrets(below, &joined(path, key), from_files, origins);
        }
    }
}

fn with_its_place(
    error: serde_path_to_error::Error<ReadError>,
    tree: &Tree,
    prefix: &str,
) -> ConfigError {
    let mut at = tree;
    let mut path = prefix.to_owned();
    for segment in error.path() {
        let key = segment.to_string();
        path = joined(&path, &key);
        at = at.child(&key).unwrap_or(at);
    }
    let origin = at.origin().or_else(|| tree.origin()).cloned().unwrap_or(Origin::Default);
    match error.into_inner() {
        ReadError::Unknown { key, known, origin } => {
            let way_out = match nearest(&key, known.iter().copied()) {
                Some(near) => format!("did you mean `{}`?", joined(&path, near)),
                None => nothing_near(known),
            };
            ConfigError::UnknownKey { origin, key: joined(&path, &key), way_out }
        }
        ReadError::Missing(field) => ConfigError::Missing {
            key: joined(&path, field),
            way_out: "it has no default; give it in the settings file, or as the environment \
                      variable of that name"
                .to_owned(),
        },
        ReadError::SecretFile { path: file, problem } => {
            ConfigError::SecretFile { key: path, path: file, origin, problem }
        }
        ReadError::Other(problem) => ConfigError::InvalidValue { origin, key: path, problem },
    }
}

fn nothing_near(known: &[&str]) -> String {
    match known {
        [] => "there are no settings here; remove it".to_owned(),
        known => format!("the settings here are {}", known.join(", ")),
    }
}

/// What serde reports, kept apart so that the message can say more.
#[derive(Debug)]
pub(super) enum ReadError {
    Unknown { key: String, known: &'static [&'static str], origin: Origin },
    Missing(&'static str),
    SecretFile { path: PathBuf, problem: String },
    Other(String),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { key, .. } => write!(f, "unknown key `{key}`"),
            Self::Missing(field) => write!(f, "missing key `{field}`"),
            Self::SecretFile { problem, .. } | Self::Other(problem) => f.write_str(problem),
        }
    }
}

impl std::error::Error for ReadError {}

impl serde::de::Error for ReadError {
    fn custom<T: fmt::Display>(problem: T) -> Self {
        Self::Other(problem.to_string())
    }

    fn missing_field(field: &'static str) -> Self {
        Self::Missing(field)
    }

    /// Says what kind of value was found, never the value: it may be a secret in a wrong place.
    fn invalid_type(found: Unexpected<'_>, wanted: &dyn serde::de::Expected) -> Self {
        let found = match found {
            Unexpected::Bool(_) => "true or false",
            Unexpected::Unsigned(_) | Unexpected::Signed(_) => "a whole number",
            Unexpected::Float(_) => "a number with a fraction",
            Unexpected::Str(_) => "a text",
            Unexpected::Unit | Unexpected::Option => "nothing",
            Unexpected::Seq => "a list",
            Unexpected::Map => "a table",
            _ => "something else",
        };
        let wanted = wanted.to_string();
        let quotes =
            if wanted == "a string" && found != "a table" { "; put it in \"quotes\"" } else { "" };
        let wanted = in_plain_words(&wanted);
        Self::Other(format!("it is {found} where {wanted} is wanted{quotes}"))
    }

    fn invalid_value(_found: Unexpected<'_>, wanted: &dyn serde::de::Expected) -> Self {
        let wanted = wanted.to_string();
        let wanted = in_plain_words(&wanted);
        Self::Other(format!("the value is out of range where {wanted} is wanted"))
    }

    fn unknown_variant(_found: &str, known: &'static [&'static str]) -> Self {
        Self::Other(format!("no such choice; write one of {}", known.join(", ")))
    }
}

/// What serde calls by the names of Rust's types, as a user of a settings file knows it.
fn in_plain_words(wanted: &str) -> &str {
    match wanted {
        "a string" => "a text",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a map" => "a table",
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        "u64" | "usize" => "a whole number from 0",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        other => other,
    }
}

/// One value of the tree, as serde asks for it.
struct Reader<'a> {
    tree: &'a Tree,
    from_files: &'a FromFiles,
}

impl<'a> Reader<'a> {
    fn items(&self, items: &'a [Tree]) -> Items<'a> {
        Items { rest: items.iter(), from_files: self.from_files }
    }

    fn entries(&self, table: &'a BTreeMap<String, Tree>) -> Entries<'a> {
        Entries { rest: table.iter(), value: None, from_files: self.from_files }
    }

    /// The text of a value that may be read as any type.
    fn loose(&self) -> Option<&str> {
        match self.tree {
            Tree::Leaf(Scalar::Text(text), origin) if origin.is_text() => Some(text.trim()),
            _ => None,
        }
    }
}

impl Reader<'_> {
    /// A secret: a text, or a table that names its file.
    fn secret<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.tree {
            Tree::Table(table, _) => {
                if let Some((key, below)) = table.iter().find(|(key, _)| *key != FILE) {
                    return Err(unknown(key, &[FILE], below));
                }
                let Some((path, _)) = secret_file::file_of(self.tree) else {
                    return Err(ReadError::custom(secret_file::NO_PATH));
                };
                let text = secret_file::read(path).map_err(|problem| ReadError::SecretFile {
                    path: secret_file::shown(path),
                    problem,
                })?;
                self.from_files.borrow_mut().push(self.tree);
                visitor.visit_str(&text)
            }
            // What hides itself when it is written can't be read back.
            Tree::Leaf(Scalar::Text(text), Origin::Default) if text == HIDDEN => {
                Err(ReadError::custom("its default in the program's code is lost; give it"))
            }
            Tree::Leaf(..) | Tree::List(..) => visitor.visit_newtype_struct(self),
        }
    }
}

/// A number's method: a loose text is parsed, anything else must be a number already.
macro_rules! numbers {
    ($($method:ident $visit:ident $type:ty, $wanted:literal;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
            match self.loose() {
                Some(text) => match text.parse::<$type>() {
                    Ok(number) => visitor.$visit(number),
                    Err(_) => Err(ReadError::custom(concat!("write ", $wanted))),
                },
                None => self.deserialize_any(visitor),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for Reader<'_> {
    type Error = ReadError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.tree {
            Tree::Leaf(Scalar::Null, _) => visitor.visit_unit(),
            Tree::Leaf(Scalar::Bool(value), _) => visitor.visit_bool(*value),
            Tree::Leaf(Scalar::Integer(value), _) => visitor.visit_i64(*value),
            Tree::Leaf(Scalar::Float(value), _) => visitor.visit_f64(*value),
            Tree::Leaf(Scalar::Text(value), _) => visitor.visit_str(value),
            Tree::List(items, _) => visitor.visit_seq(self.items(items)),
            Tree::Table(table, _) => visitor.visit_map(self.entries(table)),
        }
    }

    numbers! {
        deserialize_bool visit_bool bool, "true or false";
        deserialize_i8 visit_i8 i8, "a whole number from -128 to 127";
        deserialize_i16 visit_i16 i16, "a whole number from -32768 to 32767";
        deserialize_i32 visit_i32 i32, "a whole number of 32 bits";
        deserialize_i64 visit_i64 i64, "a whole number of 64 bits";
        deserialize_u8 visit_u8 u8, "a whole number from 0 to 255";
        deserialize_u16 visit_u16 u16, "a whole number from 0 to 65535";
        deserialize_u32 visit_u32 u32, "a whole number from 0 to 4294967295";
        deserialize_u64 visit_u64 u64, "a whole number from 0";
        deserialize_f32 visit_f32 f32, "a number";
        deserialize_f64 visit_f64 f64, "a number";
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.tree {
            Tree::Leaf(Scalar::Null, _) => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        if name == secret::NAME { self.secret(visitor) } else { visitor.visit_newtype_struct(self) }
    }

    /// A list given as text is separated by commas.
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        let (Some(text), Tree::Leaf(_, origin)) = (self.loose(), self.tree) else {
            return self.deserialize_any(visitor);
        };
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let items: Vec<_> = parts.map(|part| Tree::text(part, origin.clone())).collect();
        visitor.visit_seq(Items { rest: items.iter(), from_files: self.from_files })
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        _len: usize,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        self.deserialize_seq(visitor)
    }

    /// An application without settings is a unit: it takes an empty table.
    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.tree {
            Tree::Table(table, _) => match table.first_key_value() {
                None => visitor.visit_unit(),
                Some((key, below)) => Err(unknown(key, &[], below)),
            },
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        if let Tree::Table(table, _) = self.tree {
            let stranger = table.iter().find(|(key, _)| !fields.contains(&key.as_str()));
            if let Some((key, below)) = stranger {
                return Err(unknown(key, fields, below));
            }
        }
        match self.tree {
            Tree::Table(..) => self.deserialize_any(visitor),
            // A derived visitor would call it a sequence, a number …: all it is not is a table.
            Tree::Leaf(..) | Tree::List(..) => Err(ReadError::custom(format!(
                "it is one value where a table of settings is wanted; its keys are {}",
                fields.join(", ")
            ))),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        match self.tree {
            Tree::Leaf(Scalar::Text(word), _) => {
                visitor.visit_enum(word.trim().into_deserializer())
            }
            Tree::Table(table, _) if table.len() == 1 => visitor.visit_enum(self.entries(table)),
            _ => Err(ReadError::custom("write one word, or a table with one key")),
        }
    }

    serde::forward_to_deserialize_any! {
        i128 u128 char str string bytes byte_buf map tuple_struct identifier ignored_any
    }
}

fn unknown(key: &str, known: &'static [&'static str], value: &Tree) -> ReadError {
    let origin = value.origin().cloned().unwrap_or(Origin::Default);
    ReadError::Unknown { key: key.to_owned(), known, origin }
}

struct Items<'a> {
    rest: std::slice::Iter<'a, Tree>,
    from_files: &'a FromFiles,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = ReadError;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, ReadError> {
        let Some(tree) = self.rest.next() else {
            return Ok(None);
        };
        seed.deserialize(Reader { tree, from_files: self.from_files }).map(Some)
    }
}

struct Entries<'a> {
    rest: btree_map::Iter<'a, String, Tree>,
    value: Option<&'a Tree>,
    from_files: &'a FromFiles,
}

impl<'a> Entries<'a> {
    fn value(&mut self) -> Result<Reader<'a>, ReadError> {
        let tree = self.value.take().ok_or_else(|| ReadError::custom("a key without a value"))?;
        Ok(Reader { tree, from_files: self.from_files })
    }
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = ReadError;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, ReadError> {
        let Some((key, value)) = self.rest.next() else {
            return Ok(None);
        };
        self.value = Some(value);
        seed.deserialize(key.as_str().into_deserializer()).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, ReadError> {
        seed.deserialize(self.value()?)
    }
}

impl<'de> EnumAccess<'de> for Entries<'_> {
    type Error = ReadError;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(
        mut self,
        seed: S,
    ) -> Result<(S::Value, Self), ReadError> {
        match self.next_key_seed(seed)? {
            Some(variant) => Ok((variant, self)),
            None => Err(ReadError::custom("an empty table where a choice is wanted")),
        }
    }
}

impl<'de> VariantAccess<'de> for Entries<'_> {
    type Error = ReadError;

    fn unit_variant(self) -> Result<(), ReadError> {
        Err(ReadError::custom("this choice is one word, without a table"))
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(
        mut self,
        seed: S,
    ) -> Result<S::Value, ReadError> {
        seed.deserialize(self.value()?)
    }

    fn tuple_variant<V: Visitor<'de>>(
        mut self,
        _len: usize,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        self.value()?.deserialize_seq(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        mut self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        self.value()?.deserialize_struct("", fields, visitor)
    }
}
