//! Cron fields with unusual ranges, steps and lists: each means what its description says, or is
//! rejected with the reason.

use std::collections::BTreeSet;

use chrono::{DateTime, Datelike, Timelike, Utc};
use entity::schedule::{FoldPolicy, GapPolicy};
use sortie::domain::plan::schedule::Pattern;

/// A cron field: the pattern around it, its minimum and maximum, the names of its values from the
/// minimum on, and the field's value in an occurrence.
struct Field {
    around: &'static str,
    least: u32,
    most: u32,
    names: &'static [&'static str],
    value: fn(DateTime<Utc>) -> u32,
}

const FIELDS: [Field; 5] = [
    Field { around: "F 0 1 1 *", least: 0, most: 59, names: &[], value: |at| at.minute() },
    Field { around: "0 F 1 1 *", least: 0, most: 23, names: &[], value: |at| at.hour() },
    Field { around: "0 0 F 1 *", least: 1, most: 31, names: &[], value: |at| at.day() },
    Field {
        around: "0 0 1 F *",
        least: 1,
        most: 12,
        names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
        value: |at| at.month(),
    },
    Field {
        around: "0 0 * * F",
        least: 0,
        most: 6,
        names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
        value: |at| at.weekday().num_days_from_sunday(),
    },
];

fn read(field: &Field, text: &str) -> Result<BTreeSet<u32>, String> {
    let cron = field.around.replace('F', text);
    let pattern =
        Pattern::parse(&cron, "UTC", GapPolicy::Shift, FoldPolicy::Once).map_err(|refusal| refusal.message)?;
    let from = "2025-12-31T23:59:59Z".parse().unwrap();
    let year = pattern.after(from).map(|found| found.at).take_while(|at| at.year() == 2026);
    Ok(year.map(field.value).collect())
}

/// The values of `first-last/step`.
fn values(first: u32, last: u32, step: u32) -> BTreeSet<u32> {
    (first..=last).step_by(usize::try_from(step).unwrap()).collect()
}

#[test]
fn ranges_steps_and_lists_mean_what_they_say() {
    for field in &FIELDS {
        let name = |value: u32| field.names.get(usize::try_from(value - field.least).unwrap()).copied();
        for first in field.least..=field.most {
            for last in field.least..=field.most {
                // All pairs of the short fields, and some of the long ones.
                if field.most > 12 && (first * 7 + last) % 5 != 0 {
                    continue;
                }
                let mut spelled = vec![(first.to_string(), last.to_string())];
                if let (Some(first), Some(last)) = (name(first), name(last)) {
                    spelled.push((first.to_owned(), last.to_owned()));
                }
                for (from, to) in spelled {
                    let seventh = to == "sun" && from != "sun";
                    for step in [None, Some(1), Some(2), Some(3), Some(field.most)] {
                        let text = step.map_or(format!("{from}-{to}"), |step| format!("{from}-{to}/{step}"));
                        let found = read(field, &text);
                        if first > last && !seventh {
                            let told = found.expect_err(&text);
                            let part = format!("{from}-{to}").to_uppercase();
                            let instead = format!("`{first}-{},{}-{last}`", field.most, field.least);
                            assert!(told.contains(&part) && told.ends_with(&instead), "{text}: {told}");
                            // Written as the error suggests, the range wraps around.
                            let round = read(field, &instead.replace('`', "")).unwrap();
                            assert_eq!(round, &values(first, field.most, 1) | &values(field.least, last, 1), "{text}");
                            continue;
                        }
                        let wanted = match seventh {
                            true => values(first, 7, step.unwrap_or(1)).into_iter().map(|day| day % 7).collect(),
                            false => values(first, last, step.unwrap_or(1)),
                        };
                        assert_eq!(found, Ok(wanted), "{text} in {}", field.around);
                    }
                }
            }
        }
        let (least, most) = (field.least, field.most);
        for step in 1..=most {
            let found = read(field, &format!("*/{step}"));
            // The seventh day of the week is a Sunday, too.
            let to = if field.names.len() == 7 { 7 } else { most };
            assert_eq!(
                found,
                Ok(values(least, to, step).into_iter().map(|value| if to == 7 { value % 7 } else { value }).collect()),
                "*/{step} in {}",
                field.around
            );
        }
        let list = read(field, &format!("{most},{least},{least}-{},{most}", least + 1));
        assert_eq!(list, Ok([least, least + 1, most].into()), "{}", field.around);
        for wrong in [
            "1-", "-1", "1-2-3", "1--2", "1-2/", "1-2/0", "1-2/2/2", "*-2", "1-*", "1,", ",1", "1-2,,3", "*/", "**",
            "1-99",
        ] {
            let told = read(field, wrong).expect_err(wrong);
            assert!(told.starts_with("cron: "), "{wrong}: {told}");
        }
    }
    let days = &FIELDS[4];
    for (text, wanted) in [
        ("7", vec![0]),
        ("5-7", vec![0, 5, 6]),
        ("sat-sun", vec![0, 6]),
        ("sun-mon", vec![0, 1]),
        ("sun-sat", (0..7).collect()),
        ("mon-sun", (0..7).collect()),
        ("0-7", (0..7).collect()),
        ("1-7/3", vec![0, 1, 4]),
        ("fri-sun/2", vec![0, 5]),
        ("sun,7,0", vec![0]),
        ("sun-sun", vec![0]),
        ("7-7", vec![0]),
    ] {
        assert_eq!(read(days, text), Ok(wanted.into_iter().collect()), "{text}");
    }
    for (wrong, instead) in [
        ("7-1", "`0-1`"),
        ("fri-mon", "`5-6,0-1`"),
        ("5-1", "`5-6,0-1`"),
        ("6-0", "`6-6,0-0`"),
        ("sat-tue/2", "`6-6,0-2`"),
        ("mon,fri-wed", "`5-6,0-3`"),
    ] {
        let told = read(days, wrong).expect_err(wrong);
        assert!(told.contains("day of week") && told.ends_with(instead), "{wrong}: {told}");
    }
}

#[test]
fn a_range_beyond_the_field_is_told_its_bounds() {
    for (field, text, bounds) in [
        (1, "24-6", "between 0 and 23"),
        (1, "22-24", "between 0 and 23"),
        (0, "60-10", "between 0 and 59"),
        (2, "5-0", "between 1 and 31"),
        (4, "8-2", "between 0 and 7"),
    ] {
        let told = read(&FIELDS[field], text).expect_err(text);
        assert!(told.contains(text) && told.ends_with(bounds), "{text}: {told}");
    }
}

#[test]
fn a_field_that_is_wrong_is_named_with_what_it_allows() {
    for (cron, field, allowed) in [
        ("60 * * * *", "minute `60`", "between 0 and 59"),
        ("0 24 * * *", "hour `24`", "between 0 and 23"),
        ("0 9 0 * *", "day of month `0`", "between 1 and 31"),
        ("0 9 32W * *", "day of month `32W`", "between 1 and 31"),
        ("0 9 * 13 *", "month `13`", "between 1 and 12"),
        ("0 9 * * 8", "day of week `8`", "between 0 and 7"),
        ("*/0 * * * *", "minute `*/0`", "1 to 60"),
        ("0-59/61 * * * *", "minute `0-59/61`", "1 to 60"),
        ("0 */25 * * *", "hour `*/25`", "1 to 24"),
        ("0 9 * * */MON", "day of week `*/MON`", "1 to 7"),
        ("5/10 * * * *", "minute `5/10`", "a range"),
        ("0 9 * * MON#6", "day of week `MON#6`", "1 to 5"),
        ("0 9 * * MON#0", "day of week `MON#0`", "1 to 5"),
        ("X * * * *", "minute `X`", "0 to 59"),
    ] {
        let told = Pattern::parse(cron, "UTC", GapPolicy::Shift, FoldPolicy::Once).unwrap_err().message;
        assert!(told.contains(field) && told.contains(allowed), "{cron}: {told}");
        assert!(!told.contains("omponent"), "{cron}: {told}");
    }
    for cron in ["*/60 * * * *", "0 9 * jul-dec/12 *", "0 9 * * fril", "0 9 15W,L * *", "0 9 * * 7,MON#5"] {
        Pattern::parse(cron, "UTC", GapPolicy::Shift, FoldPolicy::Once).unwrap_or_else(|err| panic!("{cron}: {err:?}"));
    }
}
