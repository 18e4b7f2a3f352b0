//! How the values of Kubernetes' objects are merged by a server-side apply: field by field, by keys, as
//! sets, or as a whole (`listType`, `mapType` and `structType` of the API's own types).

use serde_json::{Map, Value};

use crate::schema::types::{self, Field, Relation, Shape, Struct};

/// How a value is merged.
#[derive(Debug, Clone, Copy)]
pub enum Sort {
    /// As one value.
    Leaf,
    /// Field by field.
    Struct(&'static Struct),
    /// Key by key, each of this shape.
    Map(&'static Shape),
    /// A list of values, each there once.
    Set,
    /// A list of objects with keys.
    List(&'static Struct, &'static [&'static str]),
}

impl Sort {
    /// That of a whole object of a kind.
    pub fn of_kind(kind: &str) -> Self {
        Self::Struct(types::of(kind))
    }

    /// That of a field's value.
    pub fn of_field(field: &'static Field) -> Self {
        match (&field.relation, &field.shape) {
            (Relation::Atomic, _) => Self::Leaf,
            (Relation::Set, Shape::List(_)) => Self::Set,
            (Relation::Keys(keys), Shape::List(item)) => match item.as_ref() {
                Shape::Struct(name) => Self::List(types::of(name), keys),
                _ => Self::Leaf,
            },
            (_, shape) => Self::of_shape(shape),
        }
    }

    /// That of a value that no field says more of.
    pub fn of_shape(shape: &'static Shape) -> Self {
        match shape {
            Shape::Struct(name) => Self::Struct(types::of(name)),
            Shape::Map(_, value) => Self::Map(value),
            Shape::Quantities => Self::Map(&Shape::Quantity),
            _ => Self::Leaf,
        }
    }

    /// That of what is below, by its name; `None` where a type has no such field.
    pub fn below(self, name: &str) -> Option<Self> {
        match self {
            Self::Struct(of) => of.field(name).map(Self::of_field),
            Self::Map(shape) => Some(Self::of_shape(shape)),
            _ => None,
        }
    }

    /// That of a list's items.
    pub fn item(self) -> Self {
        match self {
            Self::List(of, _) => Self::Struct(of),
            _ => Self::Leaf,
        }
    }

    /// The step to an item of a list, as a set of fields writes it.
    pub fn step(self, item: &Value) -> Option<String> {
        match self {
            Self::Set => Some(format!("v:{item}")),
            Self::List(_, keys) => Some(format!("k:{}", Value::Object(keys_of(item, keys)))),
            _ => None,
        }
    }
}

/// The keys of an item, with the defaults of those that may be left out.
pub fn keys_of(item: &Value, keys: &[&str]) -> Map<String, Value> {
    keys.iter()
        .filter_map(|key| {
            let value = item.get(key).cloned().or_else(|| (*key == "protocol").then(|| "TCP".into()));
            Some(((*key).to_owned(), value?))
        })
        .collect()
}
