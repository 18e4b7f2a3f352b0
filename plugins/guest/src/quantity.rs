//! Kubernetes quantities, compared by what they mean: `2000Mi` is less than `2Gi`.

/// A quantity in billionths, rounded up, as Kubernetes counts; none if it is malformed. What is
/// larger than any that Kubernetes can hold is the largest.
pub fn billionths(text: &str) -> Option<u128> {
    let text = text.strip_prefix('+').unwrap_or(text);
    let end = text.bytes().position(|c| !c.is_ascii_digit() && c != b'.').unwrap_or(text.len());
    let (number, suffix) = (text.get(..end)?, text.get(end..)?);
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && part.is_empty() || part.contains('.') {
        return None;
    }
    let (bits, tens) = factor(suffix)?;
    let digit = |sum: u128, c: u8| sum.saturating_mul(10).saturating_add(u128::from(c - b'0'));
    let digits = whole.bytes().chain(part.bytes()).fold(0, digit).saturating_mul(1 << bits);
    if digits == 0 {
        return Some(0);
    }
    let tens = tens.saturating_add(9).saturating_sub(i32::try_from(part.len()).unwrap_or(i32::MAX));
    let power = 10_u128.checked_pow(tens.unsigned_abs()).unwrap_or(u128::MAX);
    Some(if tens < 0 { digits.div_ceil(power) } else { digits.saturating_mul(power) })
}

/// The powers of two and of ten that a suffix stands for.
fn factor(suffix: &str) -> Option<(u32, i32)> {
    Some(match suffix {
        "" => (0, 0),
        "n" => (0, -9),
        "u" => (0, -6),
        "m" => (0, -3),
        "k" => (0, 3),
        "M" => (0, 6),
        "G" => (0, 9),
        "T" => (0, 12),
        "P" => (0, 15),
        "E" => (0, 18),
        "Ki" => (10, 0),
        "Mi" => (20, 0),
        "Gi" => (30, 0),
        "Ti" => (40, 0),
        "Pi" => (50, 0),
        "Ei" => (60, 0),
        _ => (0, suffix.strip_prefix(['e', 'E'])?.parse().ok()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_compare_by_what_they_mean() {
        assert_eq!(billionths("1Gi"), Some((1 << 30) * 1_000_000_000));
        assert!(billionths("1G") < billionths("1Gi"));
        assert!(billionths("2000Mi") < billionths("2Gi"));
        for (one, other) in [
            ("1.5Ki", "1536"),
            ("1000k", "1M"),
            ("0.5", "500m"),
            ("1e3", "1k"),
            ("1E", "1e18"),
            ("12E-1", "1200m"),
            ("+1", "1.0"),
            (".5Gi", "512Mi"),
        ] {
            assert_eq!(billionths(one), billionths(other), "{one} and {other}");
        }
    }

    #[test]
    fn no_spelling_hides_a_large_quantity() {
        let most = billionths("10Gi");
        for text in [
            "11Gi",
            "00000000000000000000000000000000000000000000000011Gi",
            "10.0000000001Gi",
            "1e40",
            "9e999",
            "99999999999999999999999999999999999999999999Ei",
        ] {
            assert!(billionths(text) > most, "{text}");
        }
    }

    #[test]
    fn what_is_no_quantity_is_none() {
        for text in [
            "", ".", "Gi", "5Gigs", "5gb", "-1Gi", "1..5Gi", "1.5.Gi", "1Ki i", "1e", "1e+", "5 Gi", "0x10",
            "1_000",
        ] {
            assert_eq!(billionths(text), None, "{text}");
        }
        assert_eq!(billionths("0.0e999"), Some(0));
    }
}
