//! The language of label selectors: words, symbols, and the errors of Kubernetes' own parser.

use super::Requirement;
use crate::label_syntax;

/// Why a text is no label selector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum SelectorError {
    /// A requirement, or what ends one, is missing.
    #[error("found '{found}', expected: {expected}")]
    Unexpected { found: String, expected: &'static str },
    /// A requirement cannot be read.
    #[error("unable to parse requirement: {0}")]
    Requirement(RequirementError),
}

/// Why a part of a selector is no requirement.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum RequirementError {
    /// A word or a symbol of the requirement is missing.
    #[error("found '{found}', expected: {expected}")]
    Unexpected { found: String, expected: &'static str },
    /// The list of `in` or `notin` does not begin.
    #[error("found '{found}' expected: '('")]
    NoList { found: String },
    /// No label has such a key.
    #[error("key: Invalid value: {key:?}: {reason}")]
    Key { key: String, reason: String },
    /// No label has such a value.
    #[error("values[{at}]: Invalid value: {value:?}: {}", label_syntax::VALUE)]
    Value { at: usize, value: String },
    /// What a value is compared with by size is no number.
    #[error("values[0]: Invalid value: {value:?}: for 'Gt', 'Lt' operators, the value must be an integer")]
    Number { value: String },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Word,
    Comma,
    Not,
    Equal,
    Unequal,
    Greater,
    Less,
    Open,
    Close,
    End,
}

type Item = (Token, String);

/// Reads a selector.
///
/// # Errors
/// What was found, and what was expected there.
pub(super) fn parse(text: &str) -> Result<Vec<Requirement>, SelectorError> {
    let mut parser = Parser { items: scan(text), at: 0 };
    let mut all = Vec::new();
    loop {
        let (token, found) = parser.peek();
        match token {
            Token::End => return Ok(all),
            Token::Word | Token::Not => {}
            _ => {
                let expected = "!, identifier, or 'end of string'";
                return Err(SelectorError::Unexpected { found, expected });
            }
        }
        all.push(parser.requirement().map_err(SelectorError::Requirement)?);
        match parser.next() {
            (Token::End, _) => return Ok(all),
            (Token::Comma, _) => match parser.peek() {
                (Token::Word | Token::Not, _) => {}
                (_, found) => {
                    let expected = "identifier after ','";
                    return Err(SelectorError::Unexpected { found, expected });
                }
            },
            (_, found) => {
                let expected = "',' or 'end of string'";
                return Err(SelectorError::Unexpected { found, expected });
            }
        }
    }
}

const SYMBOLS: &str = "=!(),><";

fn scan(text: &str) -> Vec<Item> {
    let mut items = Vec::new();
    let mut rest = text.trim_start_matches([' ', '\t', '\r', '\n']);
    while let Some(first) = rest.chars().next() {
        let double = rest.get(..2).filter(|two| matches!(*two, "==" | "!="));
        let length = match (SYMBOLS.contains(first), double) {
            (true, Some(_)) => 2,
            (true, None) => 1,
            _ => rest.find(|c: char| SYMBOLS.contains(c) || c.is_ascii_whitespace()).unwrap_or(rest.len()),
        };
        let (literal, after) = rest.split_at(length);
        let token = match literal {
            "," => Token::Comma,
            "!" => Token::Not,
            "=" | "==" => Token::Equal,
            "!=" => Token::Unequal,
            ">" => Token::Greater,
            "<" => Token::Less,
            "(" => Token::Open,
            ")" => Token::Close,
            _ => Token::Word,
        };
        items.push((token, literal.to_owned()));
        rest = after.trim_start_matches([' ', '\t', '\r', '\n']);
    }
    items
}

struct Parser {
    items: Vec<Item>,
    at: usize,
}

impl Parser {
    fn peek(&self) -> Item {
        self.items.get(self.at).cloned().unwrap_or((Token::End, String::new()))
    }

    fn next(&mut self) -> Item {
        let item = self.peek();
        self.at += 1;
        item
    }

    fn requirement(&mut self) -> Result<Requirement, RequirementError> {
        let (mut token, mut key) = self.next();
        let not = token == Token::Not;
        if not {
            (token, key) = self.next();
        }
        if token != Token::Word {
            return Err(unexpected(key, "identifier"));
        }
        if let Some(reason) = label_syntax::bad_key(&key) {
            return Err(RequirementError::Key { key, reason });
        }
        match self.peek().0 {
            Token::End | Token::Comma if not => return Ok(Requirement::Missing(key)),
            Token::End | Token::Comma => return Ok(Requirement::Exists(key)),
            _ if not => return Ok(Requirement::Missing(key)),
            _ => {}
        }
        let (token, literal) = self.next();
        let requirement = match (token, literal.as_str()) {
            (Token::Word, "in") => Requirement::In(key, self.values()?),
            (Token::Word, "notin") => Requirement::NotIn(key, self.values()?),
            (Token::Equal, _) => Requirement::In(key, vec![self.value()?]),
            (Token::Unequal, _) => Requirement::NotIn(key, vec![self.value()?]),
            (Token::Greater, _) => Requirement::Greater(key, self.number()?),
            (Token::Less, _) => Requirement::Less(key, self.number()?),
            _ => return Err(unexpected(literal, "in, notin, =, ==, !=, gt, lt")),
        };
        match &requirement {
            Requirement::In(_, values) | Requirement::NotIn(_, values) => check(values)?,
            _ => {}
        }
        Ok(requirement)
    }

    fn value(&mut self) -> Result<String, RequirementError> {
        match self.peek() {
            (Token::End | Token::Comma, _) => Ok(String::new()),
            (Token::Word, literal) => {
                self.at += 1;
                Ok(literal)
            }
            (_, literal) => Err(unexpected(literal, "identifier")),
        }
    }

    fn number(&mut self) -> Result<i64, RequirementError> {
        let value = self.value()?;
        value.parse().map_err(|_| RequirementError::Number { value })
    }

    /// The values in parentheses; an empty one is a value, too.
    fn values(&mut self) -> Result<Vec<String>, RequirementError> {
        let (token, found) = self.next();
        if token != Token::Open {
            return Err(RequirementError::NoList { found });
        }
        let mut all = Vec::new();
        let mut ended = true;
        loop {
            match self.next() {
                (Token::Word, literal) if ended => {
                    all.push(literal);
                    ended = false;
                }
                (Token::Comma, _) => {
                    if ended {
                        all.push(String::new());
                    }
                    ended = true;
                }
                (Token::Close, _) => {
                    if ended {
                        all.push(String::new());
                    }
                    return Ok(all);
                }
                (_, literal) if ended && all.is_empty() => {
                    return Err(unexpected(literal, "',', ')' or identifier"));
                }
                (_, literal) if ended => {
                    return Err(unexpected(literal, "',', or identifier"));
                }
                (_, literal) => return Err(unexpected(literal, "',' or ')'")),
            }
        }
    }
}

fn check(values: &[String]) -> Result<(), RequirementError> {
    match values.iter().enumerate().find(|(_, value)| !label_syntax::is_value(value)) {
        Some((at, value)) => Err(RequirementError::Value { at, value: value.clone() }),
        None => Ok(()),
    }
}

fn unexpected(found: String, expected: &'static str) -> RequirementError {
    RequirementError::Unexpected { found, expected }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_the_words_of_kubernetes() {
        let cases = [
            ("=", "found '=', expected: !, identifier, or 'end of string'"),
            ("a,=", "found '=', expected: identifier after ','"),
            ("a=b c", "found 'c', expected: ',' or 'end of string'"),
        ];
        for (text, words) in cases {
            assert_eq!(parse(text).unwrap_err().to_string(), words, "{text}");
        }
    }

    #[test]
    fn errors_of_a_requirement_have_the_words_of_kubernetes() {
        let value = format!("values[1]: Invalid value: \"-c\": {}", label_syntax::VALUE);
        let cases = [
            ("!,", "found ',', expected: identifier"),
            ("/a", "key: Invalid value: \"/a\": prefix part must be non-empty"),
            ("a b c", "found 'b', expected: in, notin, =, ==, !=, gt, lt"),
            ("a=(", "found '(', expected: identifier"),
            ("a in b", "found 'b' expected: '('"),
            ("a in (=", "found '=', expected: ',', ')' or identifier"),
            ("a in (b,=", "found '=', expected: ',', or identifier"),
            ("a in (b c)", "found 'c', expected: ',' or ')'"),
            ("a in (b,-c)", &value),
            (
                "a>x",
                "values[0]: Invalid value: \"x\": for 'Gt', 'Lt' operators, the value must be an integer",
            ),
        ];
        for (text, words) in cases {
            let words = format!("unable to parse requirement: {words}");
            assert_eq!(parse(text).unwrap_err().to_string(), words, "{text}");
        }
    }
}
