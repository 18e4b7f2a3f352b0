//! Text that Kubernetes hands through unchanged: it expands `$(NAME)` in commands and values, Docker does not.

/// `text` written so that Kubernetes' expansion gives it back byte for byte: a dollar is doubled where
/// the next character would make it special (a bracket, a dollar, or the first byte of a longer character).
pub fn literal(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        out.push(c);
        if c == '$' && rest.peek().is_some_and(|next| matches!(next, '(' | '$') || !next.is_ascii()) {
            out.push('$');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::literal;

    /// Kubernetes' expansion with no variable defined that a test uses.
    fn expanded(text: &str) -> String {
        let mut out = Vec::new();
        let bytes = text.as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            if bytes[at] == b'$' && at + 1 < bytes.len() {
                assert!(bytes[at + 1].is_ascii() && bytes[at + 1] != b'(', "special in {text}");
                if bytes[at + 1] == b'$' {
                    out.push(b'$');
                } else {
                    out.extend_from_slice(&bytes[at..at + 2]);
                }
                at += 2;
            } else {
                out.push(bytes[at]);
                at += 1;
            }
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_text_survives_the_expansion() {
        for text in
            ["", "$", "$$", "$$$", "$(HOME)", "$$(HOME)", "$HOME $x$", "a$(b", "$é", "$$é(", "$x$(y)$$"]
        {
            assert_eq!(expanded(&literal(text)), text, "{text}");
        }
        assert_eq!(literal("echo $HOME"), "echo $HOME");
    }
}
