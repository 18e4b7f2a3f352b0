//! Kubernetes' quantities (API reference, "Quantity"): `100m`, `1.5Gi`, `12e3`. They are read exactly, without
//! floating point. A number that is finer than the result is rounded away from zero, as Kubernetes does.
//!
//! `plugins/guest` compiles this file as a module of its own, so it needs nothing but the standard library.

/// The words of Kubernetes about a text that is no quantity.
pub const MALFORMED: &str =
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";

/// The decimal suffixes with their powers of ten, the largest first.
const DECIMAL: [(&str, i32); 10] =
    [("E", 18), ("P", 15), ("T", 12), ("G", 9), ("M", 6), ("k", 3), ("", 0), ("m", -3), ("u", -6), ("n", -9)];

/// The binary suffixes with their powers of two, the largest first.
const BINARY: [(&str, u32); 6] = [("Ei", 60), ("Pi", 50), ("Ti", 40), ("Gi", 30), ("Mi", 20), ("Ki", 10)];

/// The power of ten of a billionth, the smallest part that a quantity of Kubernetes has.
const BILLIONTHS: i32 = 9;

/// A quantity in whole units; `None` if the text is no quantity or the number does not fit.
pub fn units(text: &str) -> Option<i64> {
    i64::try_from(Number::read(text)?.signed(0)?).ok()
}

/// A quantity in thousandths of its unit; `None` if the text is no quantity or the number does not fit.
pub fn thousandths(text: &str) -> Option<i128> {
    Number::read(text)?.signed(3)
}

/// A quantity in billionths of its unit; `None` if the text is no quantity or has a minus.
///
/// Policies compare sizes with their limits in billionths. So, unlike with [`units`] and [`thousandths`], a number
/// that does not fit is the largest one, since no spelling of a size may get around a limit; and a minus is
/// refused, since a size below zero would be below each limit.
pub fn billionths(text: &str) -> Option<u128> {
    let number = Number::read(text)?;
    (!number.is_negative).then(|| number.magnitude(BILLIONTHS).unwrap_or(u128::MAX))
}

/// A quantity as Kubernetes writes it: without a fraction, and with the largest suffix that it can have. A text
/// that is no quantity stays as it is, and so does a number above 10^29.
pub fn canonical(text: &str) -> String {
    Number::read(text).and_then(|number| number.canonical()).unwrap_or_else(|| text.to_owned())
}

/// The parts of a quantity.
struct Number<'a> {
    is_negative: bool,
    /// The digits before and after the point.
    whole: &'a str,
    fraction: &'a str,
    /// The powers that the suffix stands for; one of them is 0.
    twos: u32,
    tens: i32,
    has_exponent: bool,
}

impl<'a> Number<'a> {
    fn read(text: &'a str) -> Option<Self> {
        let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
        let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
        let (digits, suffix) = unsigned.split_at_checked(end)?;
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return None;
        }
        let decimal = DECIMAL.iter().find(|(known, _)| *known == suffix).map(|(_, tens)| *tens);
        let binary = BINARY.iter().find(|(known, _)| *known == suffix).map(|(_, twos)| *twos);
        let (twos, tens, has_exponent) = match (decimal, binary) {
            (Some(tens), _) => (0, tens, false),
            (_, Some(twos)) => (twos, 0, false),
            _ => (0, suffix.strip_prefix(['e', 'E'])?.parse().ok()?, true),
        };
        let is_negative = text.starts_with('-');
        Some(Self { is_negative, whole, fraction, twos, tens, has_exponent })
    }

    /// The number times ten to the power of `places`, rounded away from zero; `None` if it does not fit.
    fn signed(&self, places: i32) -> Option<i128> {
        let magnitude = i128::try_from(self.magnitude(places)?).ok()?;
        Some(if self.is_negative { -magnitude } else { magnitude })
    }

    /// The number without its sign times ten to the power of `places`, rounded up; `None` if it does not fit.
    fn magnitude(&self, places: i32) -> Option<u128> {
        let digits = [self.whole, self.fraction].concat();
        let length = i64::try_from(digits.len()).ok()?;
        // The powers of ten move the point; it may come to lie outside of the digits.
        let point = i64::try_from(self.whole.len()).ok()? + i64::from(self.tens) + i64::from(places);
        let (whole, fraction) = digits.split_at_checked(usize::try_from(point.clamp(0, length)).ok()?)?;

        let mut sum = 0_u128;
        for digit in whole.bytes() {
            sum = sum.checked_mul(10)?.checked_add(u128::from(value(digit)))?;
        }
        // Zero has no bound on its exponent; any other number soon does not fit.
        if sum > 0 {
            for _ in length..point {
                sum = sum.checked_mul(10)?;
            }
        }

        // From the last digit on: `part` is the fraction so far times the power of two, without what is behind
        // its own point. It is at most 1 << 60, and 10 << 60 fits.
        let (mut part, mut is_exact) = (0_u64, true);
        let mut shift = |digit: u64| {
            part += digit << self.twos;
            is_exact &= part.is_multiple_of(10);
            part /= 10;
            part > 0
        };
        for digit in fraction.bytes().rev() {
            shift(value(digit));
        }
        for _ in point..0 {
            if !shift(0) {
                break;
            }
        }
        sum.checked_mul(1 << self.twos)?.checked_add(u128::from(part))?.checked_add(u128::from(!is_exact))
    }

    /// As Kubernetes writes it; `None` if it does not fit.
    fn canonical(&self) -> Option<String> {
        let exact = self.signed(BILLIONTHS)?;
        if exact == 0 {
            return Some("0".to_owned());
        }
        let unit = 10_i128.pow(BILLIONTHS.unsigned_abs());
        let whole = exact / unit;
        // Kubernetes writes a number below 1024 and one with a fraction without a binary suffix.
        if self.twos > 0 && exact % unit == 0 && whole.abs() >= 1024 {
            let largest = BINARY.iter().find(|(_, twos)| whole % (1_i128 << twos) == 0);
            let (suffix, twos) = largest.unwrap_or(&("", 0));
            return Some(format!("{}{suffix}", whole / (1_i128 << twos)));
        }
        for (suffix, tens) in DECIMAL {
            let factor = 10_i128.checked_pow(u32::try_from(tens + BILLIONTHS).ok()?)?;
            if exact % factor == 0 {
                let count = exact / factor;
                let is_plain = !self.has_exponent || tens == 0;
                return Some(if is_plain { format!("{count}{suffix}") } else { format!("{count}e{tens}") });
            }
        }
        None
    }
}

/// The value of an ASCII digit.
fn value(digit: u8) -> u64 {
    u64::from(digit & 0x0f)
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIT: u128 = 1_000_000_000;

    /// No quantities, in whichever unit.
    const WRONG: [&str; 36] = [
        "",
        ".",
        "+",
        "-",
        "m",
        "Gi",
        "-Gi",
        "1x",
        "1 ",
        " 1",
        "1 Gi",
        "1Ki i",
        "1.2.3",
        "1..5Gi",
        "1.5.Gi",
        "--5",
        "+-5",
        "5-",
        ".-5",
        "1-Gi",
        "1K",
        "1ki",
        "1i",
        "1mi",
        "1KI",
        "1GiB",
        "5Gigs",
        "1e",
        "1e+",
        "1e1.5",
        "1e9999999999",
        "1ee3",
        "0x10",
        "1_000",
        "inf",
        "NaN",
    ];

    #[test]
    fn every_suffix_is_read() {
        let suffixes = [
            ("n", 1),
            ("u", 1000),
            ("m", 1_000_000),
            ("", UNIT),
            ("k", 1000 * UNIT),
            ("M", 1_000_000 * UNIT),
            ("G", UNIT * UNIT),
            ("T", 1000 * UNIT * UNIT),
            ("P", 1_000_000 * UNIT * UNIT),
            ("E", UNIT * UNIT * UNIT),
            ("Ki", UNIT << 10),
            ("Mi", UNIT << 20),
            ("Gi", UNIT << 30),
            ("Ti", UNIT << 40),
            ("Pi", UNIT << 50),
            ("Ei", UNIT << 60),
        ];
        for (suffix, expected) in suffixes {
            assert_eq!(billionths(&format!("1{suffix}")), Some(expected), "{suffix}");
            assert_eq!(billionths(&format!("+12{suffix}")), Some(12 * expected), "{suffix}");
            let milli = i128::try_from(expected.div_ceil(1_000_000)).unwrap();
            assert_eq!(thousandths(&format!("1{suffix}")), Some(milli), "{suffix}");
            assert_eq!(thousandths(&format!("-1{suffix}")), Some(-milli), "{suffix}");
            let whole = i64::try_from(expected.div_ceil(UNIT)).unwrap();
            assert_eq!(units(&format!("1{suffix}")), Some(whole), "{suffix}");
        }
    }

    #[test]
    fn numbers_are_read_exactly() {
        let cases = [
            ("1", 1000),
            ("100m", 100),
            ("1.5", 1500),
            ("1.", 1000),
            (".5", 500),
            ("1Ki", 1_024_000),
            ("0.5Gi", 536_870_912_000),
            ("2e3", 2_000_000),
            ("2E3", 2_000_000),
            ("2e+3", 2_000_000),
            ("2e-3", 2),
            ("12345e-2", 123_450),
            ("0.0012e6", 1_200_000),
            ("0.001e30", 1_000_000_000_000_000_000_000_000_000_000),
            ("+1", 1000),
            ("-1", -1000),
            ("-1.5Ki", -1_536_000),
            ("-0", 0),
            ("0e999999999", 0),
            ("0.000e-999999999", 0),
            ("00000000000000000000000000000000000000000000000001", 1000),
            ("1.00000000000000000000000000000000000000000000000000Gi", 1_073_741_824_000),
            ("9223372036854775807.001", 9_223_372_036_854_775_807_001),
        ];
        for (text, value) in cases {
            assert_eq!(thousandths(text), Some(value), "{text}");
        }
    }

    #[test]
    fn what_is_finer_is_rounded_away_from_zero() {
        let cases = [
            ("1n", 1, 1),
            ("-1n", -1, -1),
            ("1500m", 1500, 2),
            ("-1500m", -1500, -2),
            ("0.0001", 1, 1),
            ("1.0001", 1001, 2),
            ("-1.0001", -1001, -2),
            ("0.1Ki", 102_400, 103),
            ("0.0009765625Ki", 1000, 1),
            ("0.00097656250000000000000000000000000000000001Ki", 1001, 2),
            ("1e-99", 1, 1),
            ("1e-2147483648", 1, 1),
            ("100000000000000000000e-20", 1000, 1),
            ("100000000000000000001e-20", 1001, 2),
            ("128974848000m", 128_974_848_000, 128_974_848),
        ];
        for (text, milli, whole) in cases {
            assert_eq!(thousandths(text), Some(milli), "{text}");
            assert_eq!(units(text), Some(whole), "{text}");
        }
        assert_eq!(billionths("0.0000000001"), Some(1));
        assert_eq!(
            billionths("0.00000000010000000000000000000000000000001Ei"),
            Some(115_292_150_460_684_698)
        );
    }

    #[test]
    fn what_does_not_fit_is_none_or_the_largest() {
        assert_eq!(units("9223372036854775807"), Some(i64::MAX));
        assert_eq!(units("9223372036854775807.1"), None);
        assert_eq!(units("-9223372036854775808"), Some(i64::MIN));
        assert_eq!(units("7Ei"), Some(7 << 60));
        for text in ["8Ei", "9223372036854775808", "-9223372036854775809", "1e19", "10E"] {
            assert_eq!(units(text), None, "{text}");
            assert!(thousandths(text).is_some(), "{text}");
        }
        for text in ["1e99", "-1e99", "1e2147483647", "99999999999999999999999999999999999999999"] {
            assert_eq!(thousandths(text), None, "{text}");
        }
        for text in
            ["1e40", "9e999", "99999999999999999999999999999999999999999999Ei", "340282366920938463464E"]
        {
            assert_eq!(billionths(text), Some(u128::MAX), "{text}");
        }
    }

    #[test]
    fn what_is_no_quantity_is_none() {
        for text in WRONG {
            assert_eq!(units(text), None, "{text}");
            assert_eq!(thousandths(text), None, "{text}");
            assert_eq!(billionths(text), None, "{text}");
            assert_eq!(canonical(text), text);
        }
        assert_eq!(billionths("-1Gi"), None);
        assert_eq!(billionths("0.0e999"), Some(0));
    }

    #[test]
    fn quantities_compare_by_what_they_mean() {
        assert_eq!(billionths("1Gi"), Some((1 << 30) * UNIT));
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
            "11.00000000000000000000000000000000000000000000000Gi",
            "10.0000000001Gi",
            "10.0000000000000000000000000000000000000000000001Gi",
            "1e40",
            "9e999",
            "0.00000000000000000000000000000000000000001e60",
            "99999999999999999999999999999999999999999999Ei",
        ] {
            assert!(billionths(text) > most, "{text}");
        }
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
            ("1E", "1E"),
            ("1000P", "1E"),
            ("1E3", "1e3"),
            ("1500e-6", "1500e-6"),
            ("15e-1", "1500e-3"),
            ("1000e-3", "1"),
            ("+1.20", "1200m"),
            ("-2048Ki", "-2Mi"),
            ("1.5Ki", "1536"),
            ("1.0001Ki", "1024102400u"),
            ("2047Ki", "2047Ki"),
            ("1e-99", "1e-9"),
            ("5000E", "5000E"),
            ("1e30", "1e30"),
        ];
        for (text, written) in cases {
            assert_eq!(canonical(text), written, "{text}");
        }
    }
}
