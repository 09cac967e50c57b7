//! Validates patterns before they are parsed: expands nicknames and checks each field.
//!
//! The parser replaces names anywhere in a pattern and skips empty parts of a list. The checks here
//! ensure that an accepted pattern means exactly what it seems to mean.

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
/// The values that each field allows.
const ALLOWED: [&str; 5] = [
    "0 to 59",
    "0 to 23",
    "1 to 31, `L` for the last day, and the nearest weekday as in `15W`",
    "1 to 12, or JAN to DEC",
    "0 to 7, or SUN to SAT, also as in `MON#1` or `FRIL`",
];
/// Maximum number of characters of a pattern; no sensible one comes near.
const CHARS: usize = 200;

/// Returns the five fields in upper case, with nicknames expanded.
pub(super) fn fields(cron: &str) -> Result<[String; 5], String> {
    if cron.len() > CHARS {
        return Err(format!("must be at most {CHARS} characters"));
    }
    let given = cron.trim();
    let expanded = match given.strip_prefix('@') {
        Some(_) => {
            let known = NICKNAMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(given));
            known.map(|(_, expanded)| *expanded).ok_or_else(|| {
                let names = NICKNAMES.map(|(name, _)| name).join(", ");
                format!("is not one of {names}")
            })?
        }
        None => given,
    };
    if !expanded.is_ascii() {
        return Err("only ASCII characters are allowed, as in `0 9 * * MON`".to_owned());
    }
    let upper = expanded.to_ascii_uppercase();
    let fields: Vec<String> = upper.split_ascii_whitespace().map(str::to_owned).collect();
    let fields: [String; 5] = fields.try_into().map_err(|fields: Vec<String>| {
        format!(
            "has {} fields, but needs five: minute, hour, day of month, month, day of week, as in `0 9 * * MON` \
             (seconds and years are not supported)",
            fields.len()
        )
    })?;
    for (i, field) in fields.iter().enumerate() {
        check_field(i, field).map_err(|why| format!("{} `{field}`: {why}", FIELDS[i]))?;
    }
    let [minute, hour, month_day, month, week_day] = fields;
    Ok([minute, hour, month_day, month, without_sunday_range(&week_day)])
}

/// Replaces a range from Sunday to Sunday by that single day: the parser would read the second
/// Sunday as day seven, and the range as the whole week.
fn without_sunday_range(field: &str) -> String {
    let parts = field.split(',').map(|part| {
        let rest = part.strip_prefix("SUN-SUN").or_else(|| part.strip_prefix("0-SUN"));
        rest.map_or_else(|| part.to_owned(), |rest| format!("0-0{rest}"))
    });
    parts.collect::<Vec<_>>().join(",")
}

/// The reason for a field that looks valid, but is not.
pub(super) fn invalid(index_of_field: usize, field: &str) -> String {
    format!("{} `{field}` is not valid; allowed are {}", FIELDS[index_of_field], ALLOWED[index_of_field])
}

fn check_field(index_of_field: usize, field: &str) -> Result<(), String> {
    let (month_day, month, week_day) = (index_of_field == 2, index_of_field == 3, index_of_field == 4);
    let field = if week_day { field.strip_prefix('+').unwrap_or(field) } else { field };
    let digits = |text: &str| (1..=2).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    let named = |text: &str| (month && MONTHS.contains(&text)) || (week_day && DAYS.contains(&text));
    for part in field.split(',') {
        let alone = !part.contains(['-', '/', '#']);
        for token in part.split(['-', '/', '#']) {
            let known = match token {
                "" => return Err("a number is missing: ranges are `1-5`, steps `*/10`, lists `1,2`".to_owned()),
                // All values, alone or before a step.
                "*" => part == field && (part == "*" || part.starts_with("*/")),
                "?" => (month_day || week_day) && field == "?",
                "L" | "LW" => month_day && alone,
                _ if digits(token) || named(token) => true,
                _ if month_day => alone && token.strip_suffix('W').is_some_and(digits),
                _ if week_day => alone && token.strip_suffix('L').is_some_and(|day| digits(day) || named(day)),
                _ => false,
            };
            if !known {
                return Err(format!("`{token}` is not valid in this field; allowed are {}", ALLOWED[index_of_field]));
            }
        }
        if part.contains('#') && !week_day {
            return Err("`#` is allowed only in the day of week, as in `MON#1`".to_owned());
        }
        check_values(index_of_field, part)?;
        check_step_follows(part)?;
        check_range(index_of_field, part)?;
    }
    let lists = |token: &str| month_day && field.split(',').any(|part| part == token);
    if lists("L") && lists("LW") {
        return Err("give `L` or `LW`, not both".to_owned());
    }
    Ok(())
}

/// The minimum and maximum of each field; 7 also means Sunday at the end of a range.
const BOUNDS: [(u32, u32); 5] = [(0, 59), (0, 23), (1, 31), (1, 12), (0, 6)];

/// The value of a number or a name of a field.
fn value(index_of_field: usize, text: &str) -> Option<u32> {
    let index = |names: &[&str], first: u32| (first..).zip(names).find(|(_, name)| **name == text).map(|found| found.0);
    let named = match index_of_field {
        3 => index(&MONTHS, 1),
        4 => index(&DAYS, 0),
        _ => None,
    };
    named.or_else(|| text.parse().ok())
}

/// Rejects a single value beyond the field's bounds, and a week of a month other than the first five.
fn check_values(index_of_field: usize, part: &str) -> Result<(), String> {
    let (least, most) = BOUNDS[index_of_field];
    let highest = if index_of_field == 4 { 7 } else { most };
    let single = part.split(['/', '#']).next().unwrap_or_default();
    let bare = single.strip_suffix(['W', 'L']).unwrap_or(single);
    let found = value(index_of_field, single).or_else(|| value(index_of_field, bare));
    if found.is_some_and(|value| !(least..=highest).contains(&value)) {
        return Err(format!("`{single}`: must lie between {least} and {highest}"));
    }
    match part.split_once('#') {
        Some((_, week)) if !week.parse().is_ok_and(|week: u32| (1..=5).contains(&week)) => {
            Err(format!("`#{week}`: must be 1 to 5, as in `MON#1` for the first Monday of the month"))
        }
        _ => Ok(()),
    }
}

/// Rejects a step without a range.
fn check_step_follows(part: &str) -> Result<(), String> {
    match part.split_once('/') {
        Some((range, _)) if range != "*" && !range.contains('-') => {
            Err(format!("`{part}`: a step follows `*` or a range, as in `*/10` or `10-50/10`"))
        }
        _ => Ok(()),
    }
}

/// Rejects steps beyond the number of their field's values, in a new pattern; stored ones may have
/// them.
pub(super) fn check_steps(cron: &str) -> Result<(), String> {
    for (at, field) in cron.split_whitespace().enumerate().take(BOUNDS.len()) {
        let (least, most) = BOUNDS[at];
        let count = most - least + 1;
        for step in field.split(',').filter_map(|part| Some(part.split_once('/')?.1)) {
            if !step.parse::<u32>().is_ok_and(|step| (1..=count).contains(&step)) {
                return Err(format!("{} `{field}`: `/{step}`: a step must be 1 to {count}", FIELDS[at]));
            }
        }
    }
    Ok(())
}

/// Rejects a range beyond the field's bounds, and one that ends before it begins; the error of the
/// latter shows the two ranges to write instead.
fn check_range(index_of_field: usize, part: &str) -> Result<(), String> {
    let range = part.split(['/', '#']).next().unwrap_or_default();
    let Some((from, to)) = range.split_once('-') else { return Ok(()) };
    let (Some(first), Some(last)) = (value(index_of_field, from), value(index_of_field, to)) else { return Ok(()) };
    // Sunday at the end of a range is day seven.
    let last = if index_of_field == 4 && to == "SUN" && first > 0 { 7 } else { last };
    let (least, most) = BOUNDS[index_of_field];
    let highest = if index_of_field == 4 { 7 } else { most };
    if [first, last].iter().any(|value| !(least..=highest).contains(value)) {
        return Err(format!("`{range}`: must lie between {least} and {highest}"));
    }
    if first <= last {
        return Ok(());
    }
    let ranges = match (first, last) {
        (7, last) if index_of_field == 4 => format!("0-{last}"),
        (first, last) => format!("{first}-{most},{least}-{last}"),
    };
    Err(format!("`{range}` ends before it begins; for a range across the end write `{ranges}`"))
}
