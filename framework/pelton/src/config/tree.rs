//! How do several sources become one? As trees laid over each other, leaf by leaf.
//!
//! Every leaf keeps its origin, so whatever is wrong with it later can be said with its source.

use std::collections::BTreeMap;

use super::origin::{Origin, Origins};

/// Settings as they were written: nested tables of values.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Tree {
    /// Keys and what stands under them; who wrote the table, if it was written as one.
    Table(BTreeMap<String, Self>, Option<Origin>),
    /// One value.
    Leaf(Scalar, Origin),
    /// A list.
    List(Vec<Self>, Origin),
}

/// One written value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Scalar {
    Null,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(String),
}

impl Tree {
    /// A tree without any value.
    pub(super) const fn empty() -> Self {
        Self::Table(BTreeMap::new(), None)
    }

    /// A text from `origin`.
    pub(super) fn text(text: impl Into<String>, origin: Origin) -> Self {
        Self::Leaf(Scalar::Text(text.into()), origin)
    }

    /// Puts `value` under `path`, making the tables on the way; whatever stood there is replaced.
    pub(super) fn set(&mut self, path: &[&str], value: Self) {
        let Some((first, rest)) = path.split_first() else {
            *self = value;
            return;
        };
        if !matches!(self, Self::Table(..)) {
            *self = Self::empty();
        }
        if let Self::Table(table, _) = self {
            table.entry((*first).to_owned()).or_insert_with(Self::empty).set(rest, value);
        }
    }

    /// Lays `upper` over this tree: tables are joined, anything else in `upper` wins.
    pub(super) fn overlay(&mut self, upper: Self) {
        match (self, upper) {
            (Self::Table(lower, lower_origin), Self::Table(upper, upper_origin)) => {
                *lower_origin = upper_origin.or_else(|| lower_origin.take());
                for (key, value) in upper {
                    match lower.get_mut(&key) {
                        Some(below) => below.overlay(value),
                        None => {
                            lower.insert(key, value);
                        }
                    }
                }
            }
            (lower, upper) => *lower = upper,
        }
    }

    /// What stands under `key` of a table, taken out.
    pub(super) fn take(&mut self, key: &str) -> Option<Self> {
        match self {
            Self::Table(table, _) => table.remove(key),
            Self::Leaf(..) | Self::List(..) => None,
        }
    }

    /// What stands under `key` of a table.
    pub(super) fn child(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Table(table, _) => table.get(key),
            Self::Leaf(..) | Self::List(..) => None,
        }
    }

    /// The origin of this value; that of a table nobody wrote as one is that of the first value
    /// below it.
    pub(super) fn origin(&self) -> Option<&Origin> {
        match self {
            Self::Table(_, Some(origin)) => Some(origin),
            Self::Table(table, None) => table.values().find_map(Self::origin),
            Self::Leaf(_, origin) | Self::List(_, origin) => Some(origin),
        }
    }

    /// Notes each value's origin under its key path, which begins with `prefix`.
    pub(super) fn note_origins(&self, prefix: &str, origins: &mut Origins) {
        match self {
            Self::Table(table, _) => {
                for (key, below) in table {
                    below.note_origins(&joined(prefix, key), origins);
                }
            }
            Self::Leaf(_, origin) | Self::List(_, origin) => {
                origins.0.insert(prefix.to_owned(), origin.clone());
            }
        }
    }

    /// Makes one table with dotted keys of nested ones: `fetch.min.bytes = 1` without quotes
    /// means what `"fetch.min.bytes" = 1` means.
    pub(super) fn flattened(self) -> Self {
        fn flatten(tree: Tree, prefix: &str, into: &mut BTreeMap<String, Tree>) {
            match tree {
                Tree::Table(table, _) => {
                    for (key, below) in table {
                        flatten(below, &joined(prefix, &key), into);
                    }
                }
                value @ (Tree::Leaf(..) | Tree::List(..)) => {
                    into.insert(prefix.to_owned(), value);
                }
            }
        }
        match self {
            Self::Table(table, origin) => {
                let mut flat = BTreeMap::new();
                for (key, below) in table {
                    flatten(below, &key, &mut flat);
                }
                Self::Table(flat, origin)
            }
            Self::Leaf(..) | Self::List(..) => self,
        }
    }

    /// A default, as the type that has it writes it.
    pub(super) fn from_json(value: serde_json::Value, origin: &Origin) -> Self {
        use serde_json::Value as Json;

        let scalar = match value {
            Json::Object(table) => {
                let below = |(key, value)| (key, Self::from_json(value, origin));
                return Self::Table(table.into_iter().map(below).collect(), None);
            }
            Json::Array(items) => {
                let items = items.into_iter().map(|item| Self::from_json(item, origin));
                return Self::List(items.collect(), origin.clone());
            }
            Json::Null => Scalar::Null,
            Json::Bool(value) => Scalar::Bool(value),
            Json::String(value) => Scalar::Text(value),
            Json::Number(number) => match (number.as_i64(), number.as_f64()) {
                (Some(integer), _) => Scalar::Integer(integer),
                (None, Some(float)) => Scalar::Float(float),
                (None, None) => Scalar::Text(number.to_string()),
            },
        };
        Self::Leaf(scalar, origin.clone())
    }
}

/// `key` below `prefix`, as key paths are written.
pub(super) fn joined(prefix: &str, key: &str) -> String {
    if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") }
}

#[cfg(test)]
mod tests {
    use super::{Origin, Tree};

    fn leaf(text: &str) -> Tree {
        Tree::text(text, Origin::Code)
    }

    #[test]
    fn an_upper_tree_wins_leaf_by_leaf() {
        let mut lower = Tree::empty();
        lower.set(&["admin", "listen"], leaf("a"));
        lower.set(&["admin", "enabled"], leaf("b"));
        let mut upper = Tree::empty();
        upper.set(&["admin", "listen"], leaf("c"));
        lower.overlay(upper);
        let admin = lower.child("admin").unwrap();
        assert_eq!(admin.child("listen"), Some(&leaf("c")));
        assert_eq!(admin.child("enabled"), Some(&leaf("b")));
    }

    #[test]
    fn nested_tables_flatten_to_dotted_keys() {
        let mut kafka = Tree::empty();
        kafka.set(&["fetch", "wait", "max.ms"], leaf("10"));
        assert_eq!(kafka.flattened().child("fetch.wait.max.ms"), Some(&leaf("10")));
    }
}
