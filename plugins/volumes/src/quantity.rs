//! Kubernetes quantities of bytes: digits, perhaps a fraction, and a suffix.

/// A quantity in thousandths of a byte, so that fractions compare; none if it is malformed.
pub fn milli(text: &str) -> Option<u128> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && part.is_empty() || whole.len() > 18 || part.contains('.') {
        return None;
    }
    let digits = |text: &str| if text.is_empty() { Some(0) } else { text.parse::<u128>().ok() };
    let part = format!("{:0<3}", part.chars().take(3).collect::<String>());
    let milli = digits(whole)? * 1000 + digits(&part)?;
    milli.checked_mul(factor(suffix)?)
}

fn factor(suffix: &str) -> Option<u128> {
    let power = |base: u128, letters: &str, letter: &str| {
        let at = letters.find(letter).filter(|_| letter.len() == 1)?;
        base.checked_pow(u32::try_from(at).ok()? + 1)
    };
    match suffix {
        "" => Some(1),
        _ => match suffix.strip_suffix('i') {
            Some(letter) => power(1024, "KMGTPE", letter),
            None => power(1000, "kMGTPE", suffix),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_compare_by_what_they_mean() {
        assert_eq!(milli("1Gi"), Some(1024 * 1024 * 1024 * 1000));
        assert!(milli("1G") < milli("1Gi"));
        assert_eq!(milli("1.5Ki"), Some(1536 * 1000));
        assert_eq!(milli("1000k"), milli("1M"));
        assert!(milli("2000Mi") < milli("2Gi"));
    }

    #[test]
    fn what_is_no_quantity_is_none() {
        for text in ["", "Gi", "5Gigs", "5gb", "-1Gi", "1..5Gi", "1Ki i"] {
            assert_eq!(milli(text), None, "{text}");
        }
    }
}
