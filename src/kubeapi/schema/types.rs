//! The types of the Kubernetes API as `types.txt` lists them, one a line: the fields with their Go types
//! (which words of errors name), whether they may be left out (`?`), how their lists are merged by an
//! apply (`@` keys, `@set`, `@atomic`) and by a strategic merge patch (`/` key). From `k8s.io/api` 0.34.

use std::collections::HashMap;
use std::sync::OnceLock;

/// The value of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Shape {
    /// Text, by the name of its Go type.
    Text(&'static str),
    Int32,
    Int64,
    Float,
    Flag,
    /// Base64.
    Bytes,
    Time,
    MicroTime,
    Quantity,
    /// Quantities by the names of resources.
    Quantities,
    IntOrString,
    /// Anything: the fields of a manager, the data of a revision.
    Any,
    List(Box<Shape>),
    Map(&'static str, Box<Shape>),
    Struct(&'static str),
}

/// How a value is merged by a server-side apply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Relation {
    /// Field by field; a list as one value.
    Own,
    /// As one value.
    Atomic,
    /// A list whose items are values, each there once.
    Set,
    /// A list whose items are objects with these keys.
    Keys(Vec<&'static str>),
}

/// A field of a type.
#[derive(Debug, Clone)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// It is not written where it is empty.
    pub optional: bool,
    /// Empty and not there are two things.
    pub pointer: bool,
    /// Its value.
    pub shape: Shape,
    /// How it is applied.
    pub relation: Relation,
    /// How a strategic merge patch merges its list: by this key, or `set`; otherwise it replaces it.
    pub merge: Option<&'static str>,
}

/// A type with fields.
#[derive(Debug)]
pub struct Struct {
    /// `Pod`, `Container`.
    pub name: &'static str,
    /// Its fields.
    pub fields: Vec<Field>,
}

impl Struct {
    /// One field.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }
}

/// The type of a name; one without fields where there is none.
pub fn of(name: &str) -> &'static Struct {
    static NONE: Struct = Struct { name: "", fields: Vec::new() };
    all().get(name).unwrap_or(&NONE)
}

fn all() -> &'static HashMap<&'static str, Struct> {
    static ALL: OnceLock<HashMap<&'static str, Struct>> = OnceLock::new();
    ALL.get_or_init(|| {
        let lines = || include_str!("types.txt").lines();
        let mut texts: HashMap<&str, &str> = lines().filter_map(|line| line.split_once(" = ")).collect();
        texts.extend([("string", "string"), ("UID", "string")]);
        lines()
            .filter(|line| !line.contains(" = "))
            .filter_map(|line| {
                let mut words = line.split(' ');
                let name = words.next()?;
                Some((name, Struct { name, fields: words.filter_map(|word| field(word, &texts)).collect() }))
            })
            .collect()
    })
}

fn field(word: &'static str, texts: &HashMap<&str, &str>) -> Option<Field> {
    let (name, rest) = word.split_once(':')?;
    let (rest, merge) = rest.split_once('/').map_or((rest, None), |(rest, key)| (rest, Some(key)));
    let (shape, relation) = rest.split_once('@').map_or((rest, Relation::Own), |(shape, relation)| {
        let relation = match relation {
            "atomic" => Relation::Atomic,
            "set" => Relation::Set,
            keys => Relation::Keys(keys.split(',').collect()),
        };
        (shape, relation)
    });
    Some(Field {
        name: name.trim_end_matches('?'),
        optional: name.ends_with('?'),
        pointer: shape.starts_with('*'),
        shape: self::shape(shape.trim_start_matches('*'), texts),
        relation,
        merge,
    })
}

fn shape(word: &'static str, texts: &HashMap<&str, &str>) -> Shape {
    if word == "[]byte" {
        return Shape::Bytes;
    }
    if let Some(item) = word.strip_prefix("[]") {
        return Shape::List(Box::new(shape(item, texts)));
    }
    if let Some((key, value)) = word.strip_prefix("map[").and_then(|rest| rest.split_once(']')) {
        return Shape::Map(key, Box::new(shape(value, texts)));
    }
    match word {
        "int32" => Shape::Int32,
        "int64" => Shape::Int64,
        "float64" => Shape::Float,
        "bool" => Shape::Flag,
        "Time" => Shape::Time,
        "MicroTime" => Shape::MicroTime,
        "Quantity" => Shape::Quantity,
        "ResourceList" => Shape::Quantities,
        "IntOrString" => Shape::IntOrString,
        "FieldsV1" | "RawExtension" => Shape::Any,
        text if texts.contains_key(text) => Shape::Text(text),
        name => Shape::Struct(name),
    }
}

impl Shape {
    /// The Go type, as errors of its decoder name it.
    pub fn go(&self) -> String {
        match self {
            Self::Text("string") => "string".into(),
            Self::Text("UID") => "types.UID".into(),
            Self::Text(name) => format!("v1.{name}"),
            Self::Int32 => "int32".into(),
            Self::Int64 => "int64".into(),
            Self::Float => "float64".into(),
            Self::Flag => "bool".into(),
            Self::Bytes => "[]uint8".into(),
            Self::Time => "v1.Time".into(),
            Self::MicroTime => "v1.MicroTime".into(),
            Self::Quantity => "resource.Quantity".into(),
            Self::Quantities => "v1.ResourceList".into(),
            Self::IntOrString => "intstr.IntOrString".into(),
            Self::Any => "v1.FieldsV1".into(),
            Self::List(item) => format!("[]{}", item.go()),
            Self::Map(key, value) if *key == "string" => format!("map[string]{}", value.go()),
            Self::Map(key, value) => format!("map[v1.{key}]{}", value.go()),
            Self::Struct(name) => format!("v1.{}", plain(name)),
        }
    }
}

/// A type's name without the group that tells two of a name apart.
pub fn plain(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_that_a_field_names_is_there() {
        fn check(owner: &str, shape: &Shape) {
            match shape {
                Shape::List(item) | Shape::Map(_, item) => check(owner, item),
                Shape::Struct(name) => assert!(!of(name).name.is_empty(), "{owner}: {name}"),
                _ => {}
            }
        }
        for one in all().values() {
            for field in &one.fields {
                check(one.name, &field.shape);
            }
        }
        for kind in crate::kinds::KINDS {
            assert!(of(kind.name).field("metadata").is_some(), "{}", kind.name);
        }
    }

    #[test]
    fn a_field_is_read_with_all_that_is_said_of_it() {
        let ports = of("Container").field("ports").unwrap();
        assert_eq!(ports.relation, Relation::Keys(vec!["containerPort", "protocol"]));
        assert_eq!((ports.merge, ports.optional, ports.pointer), (Some("containerPort"), true, false));
        assert_eq!(ports.shape.go(), "[]v1.ContainerPort");
        assert_eq!(of("PodSpec").field("restartPolicy").unwrap().shape.go(), "v1.RestartPolicy");
    }
}
