//! The spelling of patterns: nicknames, and the fields that are passed on to the parser.
//!
//! The parser replaces names anywhere in a pattern and skips empty parts of a list. Fields are judged here first, so that
//! what is accepted means what it says.

const NICKNAMES: [(&str, &str); 7] = [
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
];
const MONTHS: [&str; 12] = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const DAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];
const FIELDS: [&str; 5] = ["minute", "hour", "day of month", "month", "day of week"];
/// Characters of a pattern; no sensible one comes near.
const CHARS: usize = 200;

/// The five fields in capitals, nicknames spelled out; or what is wrong with them.
pub(super) fn fields(cron: &str) -> Result<[String; 5], String> {
    if cron.len() > CHARS {
        return Err(format!("at most {CHARS} characters"));
    }
    let given = cron.trim();
    let spelled = match given.strip_prefix('@') {
        Some(_) => {
            let known = NICKNAMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(given));
            known.map(|(_, spelled)| *spelled).ok_or_else(|| {
                let names = NICKNAMES.map(|(name, _)| name).join(", ");
                format!("is not one of {names}")
            })?
        }
        None => given,
    };
    if !spelled.is_ascii() {
        return Err("only ASCII characters, as in `0 9 * * MON`".to_owned());
    }
    let upper = spelled.to_ascii_uppercase();
    let fields: Vec<String> = upper.split_ascii_whitespace().map(str::to_owned).collect();
    let fields: [String; 5] = fields.try_into().map_err(|fields: Vec<String>| {
        format!(
            "has {} fields; give five: minute, hour, day of month, month, day of week, as in `0 9 * * MON` (seconds and \
             years are not supported)",
            fields.len()
        )
    })?;
    for (i, field) in fields.iter().enumerate() {
        judge(i, field).map_err(|why| format!("{} `{field}`: {why}", FIELDS[i]))?;
    }
    let [minute, hour, month_day, month, week_day] = fields;
    Ok([minute, hour, month_day, month, of_one_day(&week_day)])
}

/// The days of the week with a range from Sunday to Sunday as that day: the parser reads the second as the seventh day, and
/// the range as the whole week.
fn of_one_day(field: &str) -> String {
    let parts = field.split(',').map(|part| {
        let rest = part.strip_prefix("SUN-SUN").or_else(|| part.strip_prefix("0-SUN"));
        rest.map_or_else(|| part.to_owned(), |rest| format!("0-0{rest}"))
    });
    parts.collect::<Vec<_>>().join(",")
}

fn judge(place: usize, field: &str) -> Result<(), String> {
    let (month_day, month, week_day) = (place == 2, place == 3, place == 4);
    let field = if week_day { field.strip_prefix('+').unwrap_or(field) } else { field };
    let digits = |text: &str| (1..=2).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    let named = |text: &str| (month && MONTHS.contains(&text)) || (week_day && DAYS.contains(&text));
    for part in field.split(',') {
        let alone = !part.contains(['-', '/', '#']);
        for token in part.split(['-', '/', '#']) {
            let known = match token {
                "" => return Err("a number is missing: ranges are `1-5`, steps `*/10`, lists `1,2`".to_owned()),
                // Every value, alone or before a step.
                "*" => part == field && (part == "*" || part.starts_with("*/")),
                "?" => (month_day || week_day) && field == "?",
                "L" | "LW" => month_day && alone,
                _ if digits(token) || named(token) => true,
                _ if month_day => alone && token.strip_suffix('W').is_some_and(digits),
                _ if week_day => alone && token.strip_suffix('L').is_some_and(|day| digits(day) || named(day)),
                _ => false,
            };
            if !known {
                return Err(format!("`{token}` has no meaning there"));
            }
        }
        if part.contains('#') && !week_day {
            return Err("`#` is for the day of week only, as in `MON#1`".to_owned());
        }
        backwards(place, part)?;
    }
    let lists = |wanted: &str| month_day && field.split(',').any(|part| part == wanted);
    if lists("L") && lists("LW") {
        return Err("give `L` or `LW`, not both".to_owned());
    }
    Ok(())
}

/// The least and the greatest value of each field; 7 is a Sunday, too, where a range ends.
const BOUNDS: [(u32, u32); 5] = [(0, 59), (0, 23), (1, 31), (1, 12), (0, 6)];

/// Refuses a range that ends before it begins, with the two ranges that it would be in words.
fn backwards(place: usize, part: &str) -> Result<(), String> {
    let range = part.split(['/', '#']).next().unwrap_or_default();
    let Some((from, to)) = range.split_once('-') else { return Ok(()) };
    let index =
        |names: &[&str], first: u32, text: &str| (first..).zip(names).find(|(_, name)| **name == text).map(|at| at.0);
    let value = |text: &str| match place {
        3 => index(&MONTHS, 1, text).or_else(|| text.parse().ok()),
        4 => index(&DAYS, 0, text).or_else(|| text.parse().ok()),
        _ => text.parse().ok(),
    };
    let (Some(first), Some(last)) = (value(from), value(to)) else { return Ok(()) };
    // As the end of a range, Sunday is the seventh day.
    let last = if place == 4 && to == "SUN" && first > 0 { 7 } else { last };
    if first <= last {
        return Ok(());
    }
    let (least, most) = BOUNDS[place];
    let ranges = match (first, last) {
        (7, last) if place == 4 => format!("0-{last}"),
        (first, last) => format!("{first}-{most},{least}-{last}"),
    };
    Err(format!("`{range}` ends before it begins; for a range across the end write `{ranges}`"))
}
