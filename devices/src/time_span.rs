//! Time spans as people write them: `250ms`, `10s`, `5m`, `1h`.
//!
//! Used by scenario files, command line flags and the `interval` command alike.

use std::time::Duration;

/// Reads a whole number with a unit: `ms`, `s`, `m` (minutes) or `h`.
///
/// # Errors
/// A sentence for people that names what was found.
pub fn parse(text: &str) -> Result<Duration, String> {
    let complaint =
        || format!("\"{text}\" is not a time span such as \"250ms\", \"10s\", \"5m\" or \"1h\"");
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at_checked(digits).ok_or_else(complaint)?;
    let number: u64 = number.parse().map_err(|_| complaint())?;
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(complaint()),
    };
    let millis = number.checked_mul(unit_ms).ok_or_else(complaint)?;
    Ok(Duration::from_millis(millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_with_each_unit_are_read() {
        for (text, millis) in [
            ("0s", 0),
            ("250ms", 250),
            ("10s", 10_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)));
        }
    }

    #[test]
    fn anything_else_is_refused_with_the_text_in_the_message() {
        for text in [
            "",
            "s",
            "10",
            "-1s",
            "1.5s",
            "10 s",
            "3d",
            "99999999999999999999s",
            "9999999999999999h",
        ] {
            let message = parse(text).expect_err(text);
            assert!(message.contains(&format!("\"{text}\"")), "{message}");
        }
    }
}
