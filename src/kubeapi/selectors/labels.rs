//! The language of label selectors: words, symbols, and the errors of Kubernetes' own parser.

use super::Requirement;

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
pub(super) fn parse(text: &str) -> Result<Vec<Requirement>, String> {
    let mut parser = Parser { items: scan(text), at: 0 };
    let mut all = Vec::new();
    loop {
        let (token, literal) = parser.peek();
        match token {
            Token::End => return Ok(all),
            Token::Word | Token::Not => {}
            _ => return Err(format!("found '{literal}', expected: !, identifier, or 'end of string'")),
        }
        all.push(parser.requirement().map_err(|words| format!("unable to parse requirement: {words}"))?);
        match parser.next() {
            (Token::End, _) => return Ok(all),
            (Token::Comma, _) => match parser.peek() {
                (Token::Word | Token::Not, _) => {}
                (_, literal) => return Err(format!("found '{literal}', expected: identifier after ','")),
            },
            (_, literal) => return Err(format!("found '{literal}', expected: ',' or 'end of string'")),
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

    fn requirement(&mut self) -> Result<Requirement, String> {
        let (mut token, mut key) = self.next();
        let not = token == Token::Not;
        if not {
            (token, key) = self.next();
        }
        if token != Token::Word {
            return Err(format!("found '{key}', expected: identifier"));
        }
        if let Some(words) = crate::label_syntax::bad_key(&key) {
            return Err(format!("key: Invalid value: {key:?}: {words}"));
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
            _ => return Err(format!("found '{literal}', expected: in, notin, =, ==, !=, gt, lt")),
        };
        match &requirement {
            Requirement::In(_, values) | Requirement::NotIn(_, values) => check(values)?,
            _ => {}
        }
        Ok(requirement)
    }

    fn value(&mut self) -> Result<String, String> {
        match self.peek() {
            (Token::End | Token::Comma, _) => Ok(String::new()),
            (Token::Word, literal) => {
                self.at += 1;
                Ok(literal)
            }
            (_, literal) => Err(format!("found '{literal}', expected: identifier")),
        }
    }

    fn number(&mut self) -> Result<i64, String> {
        let value = self.value()?;
        let words = "for 'Gt', 'Lt' operators, the value must be an integer";
        value.parse().map_err(|_| format!("values[0]: Invalid value: {value:?}: {words}"))
    }

    /// The values in parentheses; an empty one is a value, too.
    fn values(&mut self) -> Result<Vec<String>, String> {
        let (token, literal) = self.next();
        if token != Token::Open {
            return Err(format!("found '{literal}' expected: '('"));
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
                    return Err(format!("found '{literal}', expected: ',', ')' or identifier"));
                }
                (_, literal) if ended => {
                    return Err(format!("found '{literal}', expected: ',', or identifier"));
                }
                (_, literal) => return Err(format!("found '{literal}', expected: ',' or ')'")),
            }
        }
    }
}

fn check(values: &[String]) -> Result<(), String> {
    match values.iter().enumerate().find(|(_, value)| !crate::label_syntax::is_value(value)) {
        Some((at, value)) => {
            Err(format!("values[{at}]: Invalid value: {value:?}: {}", crate::label_syntax::VALUE))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::label_syntax::VALUE;

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
        let value = format!("values[1]: Invalid value: \"-c\": {VALUE}");
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
