//! Sizes and amounts: Docker's `512m`, Kubernetes' `512Mi`, and plain numbers of bytes and
//! millicores, so that limits, volume sizes and statistics all count the same way. Kubernetes' own spelling is
//! read by `d2k_quantity`; Docker's, in which `m` is no thousandth but a mebibyte, is read here.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use d2k_common::fault::{Fault, Result};

const KI: f64 = 1024.0;
/// Kubernetes holds quantities as 64-bit integers; no size beyond that can be stored.
const LARGEST: f64 = 9.2e18;

/// What a size may look like, for error messages.
pub const ALLOWED_SIZES: &str = "give a number of bytes, or a number followed by Ki, Mi, Gi or Ti \
     (powers of 1024), K, M, G or T (powers of 1000), or k, m, g or t (powers of 1024, as Docker's CLI has them), for example 5Gi";

/// A size of memory as Docker writes it (`64m`, `1g`, `1073741824`): every unit is a power of 1024.
pub fn docker_bytes(text: &str) -> Option<i64> {
    let (number, suffix) = split(text)?;
    let suffix = suffix.to_ascii_lowercase();
    let unit = match suffix.strip_suffix("ib").or_else(|| suffix.strip_suffix('b')) {
        Some(unit) if unit.is_empty() && suffix != "b" => return None,
        Some(unit) => unit,
        None => &suffix,
    };
    whole(number * power(unit)?)
}

/// The size of a volume: Kubernetes' own spelling is kept as it is, Docker's lower-case units are
/// turned into it. Anything else, and anything that is not above zero, is refused by name.
pub fn volume_size(text: &str) -> Result<Quantity> {
    let refused =
        || Fault::invalid(format!("invalid value {text:?} for the volume option \"size\": {ALLOWED_SIZES}"));
    let (number, suffix) = split(text).ok_or_else(refused)?;
    let positive = number > 0.0 && number * KI.powi(4) < LARGEST * KI;
    if matches!(suffix, "Ki" | "Mi" | "Gi" | "Ti" | "K" | "M" | "G" | "T") {
        // Docker's CLI takes a blank before the unit, and `K` for 1000; Kubernetes takes neither.
        let spelled = text.replace(' ', "");
        let spelled = if suffix == "K" { spelled.replace('K', "k") } else { spelled };
        let fits = bytes(&Quantity(spelled.clone())).is_some_and(|size| size > 0);
        return if positive && fits { Ok(Quantity(spelled)) } else { Err(refused()) };
    }
    match docker_bytes(text) {
        Some(size) if size > 0 => Ok(of_bytes(size)),
        _ => Err(refused()),
    }
}

/// A number of bytes in the shortest exact spelling (`536870912` is `512Mi`).
pub fn of_bytes(size: i64) -> Quantity {
    let units = [(1_i64 << 40, "Ti"), (1 << 30, "Gi"), (1 << 20, "Mi"), (1 << 10, "Ki")];
    for (unit, suffix) in units {
        if size != 0 && size % unit == 0 {
            return Quantity(format!("{}{suffix}", size / unit));
        }
    }
    Quantity(size.to_string())
}

/// A number of thousandths of a CPU (`1500` is `1500m`, `2000` is `2`).
pub fn of_millicores(milli: i64) -> Quantity {
    if milli % 1000 == 0 { Quantity((milli / 1000).to_string()) } else { Quantity(format!("{milli}m")) }
}

/// The bytes of a Kubernetes quantity, rounded up as Kubernetes does; `None` if it is malformed.
pub fn bytes(quantity: &Quantity) -> Option<i64> {
    d2k_quantity::units(&quantity.0)
}

/// The thousandths of a CPU of a Kubernetes quantity; metrics come in nanocores (`1234567n`).
pub fn millicores(quantity: &Quantity) -> Option<i64> {
    i64::try_from(d2k_quantity::thousandths(&quantity.0)?).ok()
}

/// The billionths of a CPU of a Kubernetes quantity, as Docker's statistics count; `None` below zero.
pub fn nanocores(quantity: &Quantity) -> Option<i64> {
    i64::try_from(d2k_quantity::billionths(&quantity.0)?).ok()
}

/// What a unit of Docker's multiplies with.
fn power(unit: &str) -> Option<f64> {
    let exponent = match unit {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        "e" => 6,
        _ => return None,
    };
    Some(KI.powi(exponent))
}

fn split(text: &str) -> Option<(f64, &str)> {
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (digits, suffix) = text.split_at_checked(end)?;
    let value = digits.parse::<f64>().ok()?;
    Some((value, suffix.strip_prefix(' ').unwrap_or(suffix)))
}

fn whole(value: f64) -> Option<i64> {
    // The tiny subtraction keeps binary rounding (0.1 GHz and the like) from adding a whole unit.
    let rounded = (value - value.abs() * 1e-12).ceil();
    (rounded.is_finite() && rounded.abs() < LARGEST).then_some(rounded as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_sizes_are_powers_of_1024() {
        assert_eq!(docker_bytes("64m"), Some(64 << 20));
        assert_eq!(docker_bytes("5g"), Some(5 << 30));
        assert_eq!(docker_bytes("5GiB"), Some(5 << 30));
        assert_eq!(docker_bytes("1kb"), Some(1024));
        assert_eq!(docker_bytes("1.5g"), Some(3 << 29));
        assert_eq!(docker_bytes("100"), Some(100));
        for wrong in ["", "g", "5Gigs", "-1", "5bb", "1e3", "1.2.3", "99999999999999g"] {
            assert_eq!(docker_bytes(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn volume_sizes_keep_kubernetes_spelling() {
        for (given, expected) in [
            ("5Gi", "5Gi"),
            ("5g", "5Gi"),
            ("512m", "512Mi"),
            ("1048576", "1Mi"),
            ("5G", "5G"),
            ("2K", "2k"),
            ("5 Gi", "5Gi"),
            ("2 K", "2k"),
        ] {
            assert_eq!(volume_size(given).map(|q| q.0), Ok(expected.to_owned()), "{given}");
        }
        for wrong in ["5Gigs", "0", "", "-5Gi", "Gi", "1e400", "99999999999Ti"] {
            assert!(volume_size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn quantities_become_numbers() {
        let of = |text: &str| Quantity(text.to_owned());
        assert_eq!(bytes(&of("512Mi")), Some(512 << 20));
        assert_eq!(bytes(&of("1e3")), Some(1000));
        assert_eq!(bytes(&of("128974848000m")), Some(128_974_848));
        assert_eq!(millicores(&of("1500m")), Some(1500));
        assert_eq!(millicores(&of("0.1")), Some(100));
        assert_eq!(nanocores(&of("1234567n")), Some(1_234_567));
        assert_eq!(bytes(&of("9007199254740993")), Some(9_007_199_254_740_993));
        for wrong in ["what", "5 Gi", "5gi", "5i"] {
            assert_eq!(bytes(&of(wrong)), None, "{wrong}");
        }
        assert_eq!((bytes(&of("-1Gi")), nanocores(&of("-1"))), (Some(-(1 << 30)), None));
        assert_eq!(of_bytes(0).0, "0");
        assert_eq!(of_bytes(1000).0, "1000");
        assert_eq!(of_millicores(2000).0, "2");
    }
}
