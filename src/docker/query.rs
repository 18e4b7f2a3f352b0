//! The query string as Docker's clients send it: repeated and unknown keys are no error, booleans
//! have Docker's own rules, times come in several forms. Read by hand into a list for that reason.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use jiff::Timestamp;
use percent_encoding::percent_decode_str;

use super::filters::Filters;
use super::limits::QUERY_PARAMETERS_MAX;
use super::moment::moment;
use d2k_common::fault::{Fault, Result};

/// The query of a request. As an extractor it never fails.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    pairs: Vec<(String, String)>,
}

impl Query {
    /// Reads the part of a URL after the `?`.
    pub fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(key), decode(value))
        });
        Self { pairs: pairs.take(QUERY_PARAMETERS_MAX).collect() }
    }

    /// The first value of a key, which may be empty.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.all(key).next()
    }

    /// The first value of a key, unless it is empty.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.get(key).filter(|value| !value.is_empty())
    }

    /// All values of a key, in order.
    pub fn all(&self, key: &str) -> impl Iterator<Item = &str> {
        self.pairs.iter().filter(move |(k, _)| k == key).map(|(_, value)| value.as_str())
    }

    /// Docker's boolean: absent, empty, `0`, `no`, `false` and `none` are false, all else is true.
    pub fn flag(&self, key: &str) -> bool {
        self.flag_or(key, false)
    }

    /// [`Query::flag`] with a default for an absent key.
    pub fn flag_or(&self, key: &str, default: bool) -> bool {
        self.get(key).map_or(default, |value| {
            !matches!(value.trim().to_lowercase().as_str(), "" | "0" | "no" | "false" | "none")
        })
    }

    /// An integer; `None` if absent or empty.
    ///
    /// # Errors
    /// 400 in Docker's words.
    pub fn int(&self, key: &str) -> Result<Option<i64>> {
        let Some(value) = self.text(key) else {
            return Ok(None);
        };
        value.parse().map(Some).map_err(|e: std::num::ParseIntError| {
            use std::num::IntErrorKind::{NegOverflow, PosOverflow};
            let why = match e.kind() {
                PosOverflow | NegOverflow => "value out of range",
                _ => "invalid syntax",
            };
            Fault::invalid(format!("strconv.Atoi: parsing {value:?}: {why}"))
        })
    }

    /// A time as `seconds[.fraction]` or RFC 3339; `None` if absent or empty.
    ///
    /// # Errors
    /// 400 for anything else.
    pub fn time(&self, key: &str) -> Result<Option<Timestamp>> {
        let Some(value) = self.text(key) else {
            return Ok(None);
        };
        let wrong = || {
            Fault::invalid(format!(
                "invalid {key}: {value:?} is no time: seconds since 1970 (with a fraction) or RFC 3339 are"
            ))
        };
        moment(value).ok_or_else(wrong).map(Some)
    }

    /// The filters of a list, prune or events request.
    ///
    /// # Errors
    /// 400 `invalid filter` for anything that is no filter object.
    pub fn filters(&self) -> Result<Filters> {
        Filters::parse(self.get("filters").unwrap_or_default())
    }
}

impl<S: Sync> FromRequestParts<S> for Query {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> std::result::Result<Self, Infallible> {
        Ok(Self::parse(parts.uri.query().unwrap_or_default()))
    }
}

fn decode(text: &str) -> String {
    let spaced = text.replace('+', " ");
    percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_repeat_and_values_are_decoded() {
        let query = Query::parse("Cmd=sh&Cmd=-c&name=a%2Fb+c&empty=&bare&&bad=%zz%ff");
        assert_eq!(query.all("Cmd").collect::<Vec<_>>(), ["sh", "-c"]);
        assert_eq!(query.get("Cmd"), Some("sh"));
        assert_eq!(query.get("name"), Some("a/b c"));
        assert_eq!((query.get("empty"), query.text("empty"), query.get("bare")), (Some(""), None, Some("")));
        assert_eq!(query.get("bad"), Some("%zz\u{fffd}"));
        assert_eq!(query.get("none"), None);
    }

    #[test]
    fn booleans_follow_docker() {
        let query = Query::parse("a=&b=0&c=No&d=FALSE&e=none&f=1&g=True&h=yes&i=2");
        for key in ["a", "b", "c", "d", "e", "missing"] {
            assert!(!query.flag(key), "{key}");
        }
        for key in ["f", "g", "h", "i"] {
            assert!(query.flag(key), "{key}");
        }
        assert!(query.flag_or("missing", true) && !query.flag_or("b", true));
    }

    #[test]
    fn integers_fail_in_dockers_words() {
        let query = Query::parse("t=-1&x=ten&big=99999999999999999999&e=");
        assert_eq!(query.int("t"), Ok(Some(-1)));
        assert_eq!((query.int("e"), query.int("missing")), (Ok(None), Ok(None)));
        let words = |key| query.int(key).unwrap_err().message;
        assert_eq!(words("x"), "strconv.Atoi: parsing \"ten\": invalid syntax");
        assert!(words("big").ends_with("value out of range"));
    }

    #[test]
    fn times_come_in_several_forms() {
        let cases = [
            ("1700000000", "2023-11-14T22:13:20Z"),
            ("1700000000.000000001", "2023-11-14T22:13:20.000000001Z"),
            ("1700000000.5", "2023-11-14T22:13:20.5Z"),
            ("-0.5", "1969-12-31T23:59:59.5Z"),
            ("2023-11-14T23:13:20%2B01:00", "2023-11-14T22:13:20Z"),
            ("2023-11-14T22:13:20", "2023-11-14T22:13:20Z"),
            ("2023-11-14", "2023-11-14T00:00:00Z"),
        ];
        for (text, want) in cases {
            let time = Query::parse(&format!("since={text}")).time("since").unwrap().unwrap();
            assert_eq!(time.to_string(), want, "{text}");
        }
        assert_eq!(Query::parse("since=").time("since"), Ok(None));
        for bad in ["soon", "1.x", "99999999999999999999", "999999999999999"] {
            assert!(Query::parse(&format!("since={bad}")).time("since").is_err(), "{bad}");
        }
    }
}
