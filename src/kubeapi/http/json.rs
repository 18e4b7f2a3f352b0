//! Reads JSON as the API server does: errors of syntax in the words of Go's decoder, and fields that
//! are there twice are noted (the last one counts).

use serde_json::{Map, Value};

/// As deep as values may be nested.
const DEEPEST: usize = 128;

/// Why a text is no JSON, in the words of Go's decoder.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SyntaxError {
    /// The text ends within a value.
    #[error("unexpected end of JSON input")]
    End,
    /// Values are nested deeper than `DEEPEST`.
    #[error("exceeded max depth")]
    TooDeep,
    /// No value begins with the character.
    #[error("invalid character {} looking for beginning of value", quoted(*.0))]
    NoValue(char),
    /// No key of an object begins with it.
    #[error("invalid character {} looking for beginning of object key string", quoted(*.0))]
    NoKey(char),
    /// It stands in place of the colon after a key.
    #[error("invalid character {} after object key", quoted(*.0))]
    AfterKey(char),
    /// It stands in place of what ends a value of an object.
    #[error("invalid character {} after object key:value pair", quoted(*.0))]
    AfterPair(char),
    /// It stands in place of what ends an item of a list.
    #[error("invalid character {} after array element", quoted(*.0))]
    AfterItem(char),
    /// It stands after the document.
    #[error("invalid character {} after top-level value", quoted(*.0))]
    AfterDocument(char),
    /// It breaks `true`, `false` or `null`.
    #[error("invalid character {} in literal {word} (expecting '{expected}')", quoted(*.found))]
    InWord { word: &'static str, expected: char, found: char },
    /// It breaks a number.
    #[error("invalid character {} in numeric literal", quoted(*.0))]
    InNumber(char),
    /// A text may have it only as an escape.
    #[error("invalid character {} in string literal", quoted(*.0))]
    InText(char),
    /// It makes no escape of a text.
    #[error("invalid character {} in string escape code", quoted(*.0))]
    InEscape(char),
}

type Result<T> = std::result::Result<T, SyntaxError>;

/// A character as Go shows it.
fn quoted(found: char) -> String {
    match found {
        '\'' => "'\\''".to_owned(),
        '"' => "'\"'".to_owned(),
        other if other.is_control() => format!("'\\u{:04x}'", u32::from(other)),
        other => format!("'{other}'"),
    }
}

/// Reads a document; the paths of fields that are there twice are added to `twice`.
///
/// # Errors
/// The first place where the text is no JSON.
pub fn read(text: &str, twice: &mut Vec<String>) -> Result<Value> {
    let mut reader = Reader { text, at: 0, place: String::new(), depth: 0, twice };
    let value = reader.value()?;
    reader.space();
    match reader.peek() {
        None => Ok(value),
        Some(found) => Err(SyntaxError::AfterDocument(found)),
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    place: String,
    depth: usize,
    twice: &'a mut Vec<String>,
}

impl Reader<'_> {
    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn space(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start_matches([' ', '\t', '\r', '\n']).len();
    }

    /// The next character that is no space.
    fn next(&mut self) -> Result<char> {
        self.space();
        self.peek().ok_or(SyntaxError::End)
    }

    fn value(&mut self) -> Result<Value> {
        match self.next()? {
            '{' => self.nested(Self::object),
            '[' => self.nested(Self::list),
            '"' => Ok(Value::String(self.string()?)),
            't' => self.word("true", Value::Bool(true)),
            'f' => self.word("false", Value::Bool(false)),
            'n' => self.word("null", Value::Null),
            '-' | '0'..='9' => self.number(),
            other => Err(SyntaxError::NoValue(other)),
        }
    }

    fn nested(&mut self, read: fn(&mut Self) -> Result<Value>) -> Result<Value> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(SyntaxError::TooDeep);
        }
        self.at += 1;
        let value = read(self);
        self.depth -= 1;
        value
    }

    fn object(&mut self) -> Result<Value> {
        let mut map = Map::new();
        if self.next()? == '}' {
            self.at += 1;
            return Ok(Value::Object(map));
        }
        loop {
            match self.next()? {
                '"' => {}
                other => return Err(SyntaxError::NoKey(other)),
            }
            let key = self.string()?;
            match self.next()? {
                ':' => self.at += 1,
                other => return Err(SyntaxError::AfterKey(other)),
            }
            let length = self.place.len();
            if length > 0 {
                self.place.push('.');
            }
            self.place.push_str(&key);
            let value = self.value()?;
            if map.insert(key, value).is_some() && !self.twice.contains(&self.place) {
                self.twice.push(self.place.clone());
            }
            self.place.truncate(length);
            let found = self.next()?;
            self.at += found.len_utf8();
            match found {
                ',' => {}
                '}' => return Ok(Value::Object(map)),
                other => return Err(SyntaxError::AfterPair(other)),
            }
        }
    }

    fn list(&mut self) -> Result<Value> {
        let mut all = Vec::new();
        if self.next()? == ']' {
            self.at += 1;
            return Ok(Value::Array(all));
        }
        loop {
            let length = self.place.len();
            self.place.push_str(&format!("[{}]", all.len()));
            all.push(self.value()?);
            self.place.truncate(length);
            let found = self.next()?;
            self.at += found.len_utf8();
            match found {
                ',' => {}
                ']' => return Ok(Value::Array(all)),
                other => return Err(SyntaxError::AfterItem(other)),
            }
        }
    }

    fn word(&mut self, word: &'static str, value: Value) -> Result<Value> {
        for expected in word.chars() {
            match self.peek() {
                Some(found) if found == expected => self.at += 1,
                Some(found) => return Err(SyntaxError::InWord { word, expected, found }),
                None => return Err(SyntaxError::End),
            }
        }
        Ok(value)
    }

    fn number(&mut self) -> Result<Value> {
        let length = self
            .rest()
            .find(|c: char| !(c.is_ascii_digit() || "+-.eE".contains(c)))
            .unwrap_or(self.rest().len());
        let text = self.rest().get(..length).unwrap_or_default();
        let value = serde_json::from_str::<Value>(text);
        let following = self.rest().get(length..).and_then(|rest| rest.chars().next());
        match (value, following) {
            (Ok(value), _) => {
                self.at += length;
                Ok(value)
            }
            (Err(_), None) => Err(SyntaxError::End),
            (Err(_), Some(found)) => Err(SyntaxError::InNumber(found)),
        }
    }

    fn string(&mut self) -> Result<String> {
        let (mut escaped, mut length) = (false, None);
        for (at, found) in self.rest().char_indices().skip(1) {
            match found {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => {
                    length = Some(at + 1);
                    break;
                }
                control if control < ' ' => return Err(SyntaxError::InText(control)),
                _ => {}
            }
        }
        let length = length.ok_or(SyntaxError::End)?;
        let text = self.rest().get(..length).unwrap_or_default();
        let value = serde_json::from_str::<String>(text).map_err(|_| {
            let after = text.split_once('\\').and_then(|(_, rest)| rest.chars().next()).unwrap_or('\\');
            SyntaxError::InEscape(after)
        })?;
        self.at += length;
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn documents_are_read_and_double_fields_noted() {
        let mut twice = Vec::new();
        let text = r#" {"a": [1, -2.5e3, {"b": "x\n\u00e9", "b": null}], "c": true, "d": {}, "e": []} "#;
        let wanted = json!({"a": [1, -2500.0, {"b": null}], "c": true, "d": {}, "e": []});
        assert_eq!(read(text, &mut twice), Ok(wanted));
        assert_eq!(twice, ["a[2].b"]);
    }

    fn refused(text: &str) -> String {
        read(text, &mut Vec::new()).unwrap_err().to_string()
    }

    #[test]
    fn errors_have_the_words_of_go() {
        let cases = [
            ("", "unexpected end of JSON input"),
            ("{", "unexpected end of JSON input"),
            ("{n", "invalid character 'n' looking for beginning of object key string"),
            ("{\"a\" 1}", "invalid character '1' after object key"),
            ("{\"a\":1 2}", "invalid character '2' after object key:value pair"),
            ("[1 2]", "invalid character '2' after array element"),
            ("[1] x", "invalid character 'x' after top-level value"),
            ("tru!", "invalid character '!' in literal true (expecting 'e')"),
            ("x", "invalid character 'x' looking for beginning of value"),
            ("{'", "invalid character '\\'' looking for beginning of object key string"),
            ("-x", "invalid character 'x' in numeric literal"),
            ("-", "unexpected end of JSON input"),
            ("\"\n", "invalid character '\\u000a' in string literal"),
            ("\"\\q\"", "invalid character 'q' in string escape code"),
            ("\"a", "unexpected end of JSON input"),
            ("nul", "unexpected end of JSON input"),
        ];
        for (text, words) in cases {
            assert_eq!(refused(text), words, "{text}");
        }
        assert_eq!(refused(&"[".repeat(100_000)), "exceeded max depth");
    }
}
