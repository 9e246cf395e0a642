//! Printing as Python prints: `repr` of floats and strings, the `%` operator, `strftime`.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use super::Fault;
use super::value::{Meter, Value};

/// `repr` of a float: the shortest digits that read back, in Python's layout.
pub(super) fn float_repr(x: f64) -> String {
    if x.is_nan() {
        return "nan".into();
    }
    if x.is_infinite() {
        return if x > 0.0 { "inf" } else { "-inf" }.into();
    }
    let text = format!("{x:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        let plain = format!("{x}");
        return if plain.contains('.') { plain } else { format!("{plain}.0") };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

/// `repr` of a string.
pub(super) fn str_repr(text: &str, out: &mut String) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => {
                out.push('\\');
                out.push(c);
            }
            // Writing to a string cannot fail.
            c if (c as u32) < 0x20 || c as u32 == 0x7f || (0x80..0xa0).contains(&(c as u32)) => {
                let _ = write!(out, "\\x{:02x}", c as u32);
            }
            '\u{ad}' => out.push_str("\\xad"),
            '\u{a0}' => out.push_str("\\xa0"),
            c @ ('\u{2028}' | '\u{2029}' | '\u{200b}'..='\u{200f}' | '\u{feff}' | '\u{3000}') => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push(quote);
}

/// The most characters a width or a precision may ask for.
const MOST_WIDTH: usize = 4096;

/// `format % args`.
pub(super) fn percent(format: &str, args: &Value, meter: &Meter) -> Result<String, Fault> {
    let one;
    let (positional, named): (&[Value], Option<&Value>) = match args {
        Value::List(list) if list.tuple => (&list.items, None),
        Value::Dict(_) => (&[], Some(args)),
        other => {
            one = [other.clone()];
            (&one, None)
        }
    };
    let mut positional = positional.iter();
    let mut out = String::new();
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let mut key = None;
        if let Some(inner) = rest.strip_prefix('(') {
            let end = inner.find(')').ok_or_else(|| Fault::error("incomplete format key"))?;
            key = Some(&inner[..end]);
            rest = &inner[end + 1..];
        }
        let flags = rest.len() - rest.trim_start_matches(['-', '+', ' ', '0', '#']).len();
        let (flags, tail) = rest.split_at(flags);
        let (width, tail) = number(tail)?;
        let (precision, tail) = match tail.strip_prefix('.') {
            Some(tail) => {
                let (n, tail) = number(tail)?;
                (Some(n.unwrap_or(0)), tail)
            }
            None => (None, tail),
        };
        let kind = tail.chars().next().ok_or_else(|| Fault::error("incomplete format"))?;
        rest = &tail[kind.len_utf8()..];
        if kind == '%' {
            out.push('%');
            continue;
        }
        let found = match (key, named) {
            (Some(key), Some(Value::Dict(dict))) => dict.get_str(key),
            (Some(_), _) => return Err(Fault::error("format requires a mapping")),
            (None, _) => positional.next().or(named),
        };
        let value = found.ok_or_else(|| Fault::error("not enough arguments for format string"))?;
        if value.is_undefined() && kind != 's' {
            return Err(value.undefined_fault());
        }
        let wants_number = || {
            Fault::error(format!("%{kind} format: a number is required, not {}", value.type_name()))
        };
        let int = || match value {
            Value::Float(x) => Some(x.trunc() as i128),
            other => other.as_int(),
        };
        let mut text = match kind {
            's' => value.to_text(meter)?,
            'r' | 'a' => {
                let mut text = String::new();
                value.write_repr(&mut text, meter)?;
                text
            }
            'd' | 'i' | 'u' => int().ok_or_else(wants_number)?.to_string(),
            'x' => format!("{:x}", int().ok_or_else(wants_number)?),
            'X' => format!("{:X}", int().ok_or_else(wants_number)?),
            'o' => format!("{:o}", int().ok_or_else(wants_number)?),
            'f' | 'F' => {
                let x = value.as_float().ok_or_else(wants_number)?;
                format!("{x:.*}", precision.unwrap_or(6))
            }
            'c' => match value {
                Value::Str(text) if text.chars().count() == 1 => text.to_string(),
                _ => return Err(Fault::error("%c requires a character")),
            },
            other => return Err(Fault::error(format!("unsupported format character {other:?}"))),
        };
        if let (Some(precision), 's' | 'r') = (precision, kind) {
            text = text.chars().take(precision).collect();
        }
        let numeric = !matches!(kind, 's' | 'r' | 'a' | 'c');
        if numeric && !text.starts_with('-') {
            if flags.contains('+') {
                text.insert(0, '+');
            } else if flags.contains(' ') {
                text.insert(0, ' ');
            }
        }
        let pad = width.unwrap_or(0).saturating_sub(text.chars().count());
        if flags.contains('-') {
            text.extend(std::iter::repeat_n(' ', pad));
        } else if flags.contains('0') && numeric {
            let at = usize::from(text.starts_with(['-', '+', ' ']));
            text.insert_str(at, &"0".repeat(pad));
        } else {
            text.insert_str(0, &" ".repeat(pad));
        }
        meter.fits(out.len() + text.len())?;
        out.push_str(&text);
    }
    out.push_str(rest);
    if named.is_none() && positional.next().is_some() {
        return Err(Fault::error("not all arguments converted during string formatting"));
    }
    Ok(out)
}

fn number(text: &str) -> Result<(Option<usize>, &str), Fault> {
    let len = text.bytes().take_while(u8::is_ascii_digit).count();
    if len == 0 {
        return Ok((None, text));
    }
    let n = text[..len].parse::<usize>().ok().filter(|&n| n <= MOST_WIDTH);
    let n = n.ok_or_else(|| Fault::error("a width in a format is too large"))?;
    Ok((Some(n), &text[len..]))
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] =
    ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

/// `strftime`, in UTC and the C locale. Directives that are not known stay as they are.
pub(super) fn strftime(format: &str, now: SystemTime) -> Result<String, Fault> {
    if format.len() > MOST_WIDTH {
        return Err(Fault::error("a date format is too long"));
    }
    let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days as i64);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    // 1 January 1970 was a Thursday.
    let weekday = ((days + 3) % 7) as usize;
    let year_day = days as i64 - days_from_civil(year, 1, 1) + 1;
    let hour12 = if hour % 12 == 0 { 12 } else { hour % 12 };
    let half = if hour < 12 { "AM" } else { "PM" };
    let (month_name, day_name) = (MONTHS[month as usize - 1], DAYS[weekday]);

    let mut out = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut directive = chars.next();
        let unpadded = directive == Some('-');
        if unpadded {
            directive = chars.next();
        }
        let two = |n: u64| if unpadded { n.to_string() } else { format!("{n:02}") };
        let text = match directive {
            Some('Y') => year.to_string(),
            Some('y') => two(year.rem_euclid(100) as u64),
            Some('m') => two(month.into()),
            Some('d') => two(day.into()),
            Some('e') => format!("{day:2}"),
            Some('H') => two(hour),
            Some('I') => two(hour12),
            Some('M') => two(minute),
            Some('S') => two(second),
            Some('f') => "000000".into(),
            Some('p') => half.into(),
            Some('B') => month_name.into(),
            Some('b' | 'h') => month_name[..3].into(),
            Some('A') => day_name.into(),
            Some('a') => day_name[..3].into(),
            Some('j') if unpadded => year_day.to_string(),
            Some('j') => format!("{year_day:03}"),
            Some('w') => ((weekday + 1) % 7).to_string(),
            Some('u') => (weekday + 1).to_string(),
            Some('F') => format!("{year}-{month:02}-{day:02}"),
            Some('T') => format!("{hour:02}:{minute:02}:{second:02}"),
            Some('R') => format!("{hour:02}:{minute:02}"),
            Some('D') => format!("{month:02}/{day:02}/{:02}", year.rem_euclid(100)),
            Some('s') => seconds.to_string(),
            Some('z' | 'Z') => String::new(),
            Some('n') => "\n".into(),
            Some('t') => "\t".into(),
            Some('%') => "%".into(),
            Some(other) => format!("%{}{other}", if unpadded { "-" } else { "" }),
            None => if unpadded { "%-" } else { "%" }.into(),
        };
        out.push_str(&text);
    }
    Ok(out)
}

/// Year, month and day of a day count, after Howard Hinnant's `civil_from_days`.
fn civil(days: i64) -> (i64, u32, u32) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = (doy - (153 * mp + 2) / 5 + 1) as u32;
    let month = if mp < 10 { mp + 3 } else { mp - 9 } as u32;
    (yoe + era * 400 + i64::from(month <= 2), month, day)
}

fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let yoe = y.rem_euclid(400);
    let doy = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn floats_print_as_in_python() {
        for (x, text) in [
            (1.0, "1.0"),
            (0.1, "0.1"),
            (-2.5, "-2.5"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.5e300, "1.5e+300"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (1.0 / 3.0, "0.3333333333333333"),
            (-0.0, "-0.0"),
            (f64::INFINITY, "inf"),
        ] {
            assert_eq!(float_repr(x), text);
        }
    }

    #[test]
    fn dates() {
        let at = |s| UNIX_EPOCH + Duration::from_secs(s);
        let leap = at(1_709_210_096); // 2024-02-29 12:34:56
        assert_eq!(strftime("%Y-%m-%d %H:%M:%S", leap).unwrap(), "2024-02-29 12:34:56");
        assert_eq!(
            strftime("%d %b %Y, %A %j %I%p", leap).unwrap(),
            "29 Feb 2024, Thursday 060 12PM"
        );
        assert_eq!(strftime("%B %-d%%%Q%", at(0)).unwrap(), "January 1%%Q%");
        assert!(strftime(&"%Y".repeat(5000), at(0)).is_err());
    }
}
