//! Kubernetes' quantities (API reference, "Quantity"): `100m`, `1.5Gi`, `12e3`.

/// A quantity in thousandths of its unit, rounded up; `None` if it is none.
pub fn thousandths(text: &str) -> Option<i128> {
    let end = text.find(|c: char| !(c.is_ascii_digit() || "+-.".contains(c))).unwrap_or(text.len());
    let (number, suffix) = text.split_at_checked(end)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let negative = whole.starts_with('-');
    let whole = whole.trim_start_matches(['+', '-']);
    if (whole.is_empty() && fraction.is_empty()) || fraction.len() > 18 || whole.len() > 20 {
        return None;
    }
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let ten = |exponent: i32| (10_i128.checked_pow(exponent.unsigned_abs()), exponent < 0);
    let (factor, divides) = match suffix {
        "" => (Some(1), false),
        "n" => ten(-9),
        "u" => ten(-6),
        "m" => ten(-3),
        "k" => ten(3),
        "M" => ten(6),
        "G" => ten(9),
        "T" => ten(12),
        "P" => ten(15),
        "E" => ten(18),
        "Ki" => (Some(1 << 10), false),
        "Mi" => (Some(1 << 20), false),
        "Gi" => (Some(1 << 30), false),
        "Ti" => (Some(1 << 40), false),
        "Pi" => (Some(1 << 50), false),
        "Ei" => (Some(1 << 60), false),
        other => ten(other.strip_prefix(['e', 'E'])?.parse().ok().filter(|e: &i32| e.abs() <= 18)?),
    };
    let (factor, scale) = (factor?, 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?);
    let (up, down) =
        if divides { (1000, scale.checked_mul(factor)?) } else { (factor.checked_mul(1000)?, scale) };
    let product = digits.checked_mul(up)?;
    let value = (product + down - 1).div_euclid(down);
    Some(if negative { -value } else { value })
}

/// A quantity in whole units, rounded up.
pub fn units(text: &str) -> Option<i64> {
    let value = thousandths(text)?;
    i64::try_from((value + 999).div_euclid(1000)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read() {
        let cases = [
            ("1", 1000),
            ("100m", 100),
            ("1.5", 1500),
            ("1Ki", 1_024_000),
            ("0.5Gi", 536_870_912_000),
            ("2e3", 2_000_000),
            ("-1", -1000),
            ("1n", 1),
            (".5", 500),
        ];
        for (text, value) in cases {
            assert_eq!(thousandths(text), Some(value), "{text}");
        }
        for text in ["", "m", "1x", "1.2.3", "Gi", "1e99"] {
            assert_eq!(thousandths(text), None, "{text}");
        }
        assert_eq!(units("1500m"), Some(2));
    }
}
