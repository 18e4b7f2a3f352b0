//! Shell patterns as Go's `path.Match` reads them, which Docker uses for `reference` filters.
//! `*` and `?` stop at a slash; classes and backslashes work; a malformed pattern is no pattern.

use regex::Regex;

/// The pattern as a regular expression over the whole text, or `None` if it is malformed.
pub(super) fn compile(pattern: &str) -> Option<Regex> {
    let mut expression = String::from("^(?s:");
    let mut rest = pattern.chars();
    while let Some(c) = rest.next() {
        match c {
            '*' => expression.push_str("[^/]*"),
            '?' => expression.push_str("[^/]"),
            '\\' => expression.push_str(&regex::escape(rest.next()?.encode_utf8(&mut [0; 4]))),
            '[' => class(&mut rest, &mut expression)?,
            other => expression.push_str(&regex::escape(other.encode_utf8(&mut [0; 4]))),
        }
    }
    expression.push_str(")$");
    Regex::new(&expression).ok()
}

fn class(rest: &mut std::str::Chars<'_>, expression: &mut String) -> Option<()> {
    expression.push('[');
    let mut next = rest.next()?;
    if next == '^' {
        expression.push('^');
        next = rest.next()?;
    }
    if next == ']' || next == '-' {
        return None;
    }
    loop {
        match next {
            ']' => break,
            '-' => expression.push('-'),
            '\\' => literal(rest.next()?, expression),
            other => literal(other, expression),
        }
        next = rest.next()?;
    }
    expression.push(']');
    Some(())
}

fn literal(c: char, expression: &mut String) {
    if !c.is_alphanumeric() {
        expression.push('\\');
    }
    expression.push(c);
}

#[cfg(test)]
mod tests {
    use super::compile;

    #[test]
    fn patterns_match_as_in_go() {
        for (pattern, text, hit) in [
            ("a.c", "abc", false),
            ("a\\*c", "a*c", true),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("[\\]]", "]", true),
            ("a*", "a/b", false),
            ("a&&b", "a&&b", true),
        ] {
            assert_eq!(compile(pattern).expect(pattern).is_match(text), hit, "{pattern}");
        }
        for bad in ["[", "[]", "[a", "a\\", "[z-a]", "[-a]"] {
            assert!(compile(bad).is_none(), "{bad}");
        }
    }
}
