//! Kubernetes' quantities (API reference, "Quantity"): `100m`, `1.5Gi`, `12e3`.

/// A quantity in thousandths of its unit, rounded up; `None` if it is none.
pub fn thousandths(text: &str) -> Option<i128> {
    scaled(text, 1000)
}

/// A quantity in parts of its unit, rounded up.
fn scaled(text: &str, parts: i128) -> Option<i128> {
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
        if divides { (parts, scale.checked_mul(factor)?) } else { (factor.checked_mul(parts)?, scale) };
    let product = digits.checked_mul(up)?;
    let value = (product + down - 1).div_euclid(down);
    Some(if negative { -value } else { value })
}

/// A quantity as Kubernetes writes it: without a fraction, and with the largest suffix that it can have.
pub fn canonical(text: &str) -> String {
    const DECIMAL: [(&str, u32); 10] = [
        ("E", 18),
        ("P", 15),
        ("T", 12),
        ("G", 9),
        ("M", 6),
        ("k", 3),
        ("", 0),
        ("m", 3),
        ("u", 6),
        ("n", 9),
    ];
    let text = text.trim();
    // In billionths, which is as exact as a quantity can be.
    let Some(exact) = scaled(text, 1_000_000_000) else { return text.to_owned() };
    if exact == 0 {
        return "0".to_owned();
    }
    let unit: i128 = 1_000_000_000;
    if text.ends_with('i') && exact % unit == 0 && exact.abs() >= 1024 * unit {
        let (mut number, mut power) = (exact / unit, 0);
        while number % 1024 == 0 && power < 6 {
            number /= 1024;
            power += 1;
        }
        return format!("{number}{}", ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"].get(power).unwrap_or(&""));
    }
    let exponent =
        text.trim_end_matches(|c: char| c.is_ascii_digit() || "+-".contains(c)).ends_with(['e', 'E']);
    for (at, (suffix, power)) in DECIMAL.iter().enumerate() {
        let factor = if at < 7 { unit * 10_i128.pow(*power) } else { unit / 10_i128.pow(*power) };
        if exact % factor == 0 {
            let number = exact / factor;
            return match (exponent, at, power) {
                (true, 0..=5, power) => format!("{number}e{power}"),
                (true, 7.., power) => format!("{number}e-{power}"),
                _ => format!("{number}{suffix}"),
            };
        }
    }
    text.to_owned()
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

    #[test]
    fn quantities_are_written_in_one_way() {
        let cases = [
            ("1000m", "1"),
            ("0.5", "500m"),
            ("1024Mi", "1Gi"),
            ("1.5Gi", "1536Mi"),
            ("1000", "1k"),
            ("0", "0"),
            ("100m", "100m"),
            ("512", "512"),
            ("1e3", "1e3"),
            ("0.5Ki", "512"),
            ("2000000", "2M"),
            ("64Mi", "64Mi"),
            ("0Gi", "0"),
            ("1024", "1024"),
            ("-1500m", "-1500m"),
            ("12e6", "12e6"),
        ];
        for (text, written) in cases {
            assert_eq!(canonical(text), written, "{text}");
        }
    }
}
