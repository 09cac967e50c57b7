//! Cron patterns: nicknames, clock changes of any size, day fields, spelling, and properties over
//! zones and years.

use chrono::{DateTime, Duration, NaiveDate, NaiveDateTime, Offset, TimeZone, Utc};
use chrono_tz::Tz;
use entity::schedule::{FoldPolicy, GapPolicy};
use proptest::prelude::*;
use serde_json::json;
use sortie::domain::plan::schedule::{Pattern, Turn};

use crate::harness::World;

fn pattern(cron: &str, zone: &str) -> Pattern {
    Pattern::parse(cron, zone, GapPolicy::Shift, FoldPolicy::Once).unwrap_or_else(|err| panic!("{cron}: {err:?}"))
}

/// Occurrences between two instants in local time, with `~` after a shifted one and `1` and `2`
/// after the two passes of a fold.
fn shown(pattern: &Pattern, from: &str, to: &str) -> Vec<String> {
    let (from, to): (DateTime<Utc>, DateTime<Utc>) = (from.parse().unwrap(), to.parse().unwrap());
    let mark = |turn| match turn {
        Turn::Only => "",
        Turn::First => "1",
        Turn::Second => "2",
    };
    pattern
        .after(from)
        .take_while(|found| found.at < to)
        .map(|found| {
            let local = found.at.with_timezone(&pattern.zone());
            let shifted = if found.shifted { "~" } else { "" };
            format!("{}{shifted}{}", local.format("%m-%d %H:%M:%S"), mark(found.turn))
        })
        .collect()
}

fn plain(cron: &str, zone: &str, from: &str, to: &str) -> Vec<String> {
    shown(&pattern(cron, zone), from, to)
}

#[test]
fn nicknames_are_their_spelling() {
    let spelled = [
        ("@hourly", "0 * * * *"),
        ("@daily", "0 0 * * *"),
        ("@midnight", "0 0 * * *"),
        ("@weekly", "0 0 * * 0"),
        ("@monthly", "0 0 1 * *"),
        ("@yearly", "0 0 1 1 *"),
        ("@annually", "0 0 1 1 *"),
    ];
    let changes = [
        ("America/Havana", "2026-10-25T00:00:00Z"),
        ("Africa/Cairo", "2026-04-20T00:00:00Z"),
        ("Asia/Beirut", "2026-03-25T00:00:00Z"),
        ("Pacific/Apia", "2011-12-28T00:00:00Z"),
        ("America/Nuuk", "2026-03-25T00:00:00Z"),
    ];
    for (name, cron) in spelled {
        for (zone, from) in changes {
            let from = from.parse().unwrap();
            for (gap, fold) in [(GapPolicy::Shift, FoldPolicy::Once), (GapPolicy::Skip, FoldPolicy::Both)] {
                let of = |cron: &str| Pattern::parse(cron, zone, gap, fold).unwrap().take(from, 30);
                assert_eq!(of(name), of(cron), "{name} in {zone}");
                assert_eq!(of(&format!("  {}  ", name.to_uppercase())), of(cron));
            }
        }
    }
    let havana = plain("@daily", "America/Havana", "2026-11-01T00:00:00Z", "2026-11-02T04:00:00Z");
    assert_eq!(havana, ["11-01 00:00:001"], "midnight comes twice, and the work once");
    let cairo = plain("@daily", "Africa/Cairo", "2026-04-23T12:00:00Z", "2026-04-24T12:00:00Z");
    assert_eq!(cairo, ["04-24 01:00:00~"], "there is no midnight, and the work is done all the same");
}

#[test]
fn clock_changes_of_any_size() {
    // A gap that ends on the next day: the occurrence of 23:30 fires at its end.
    let nuuk = plain("30 23 * * *", "America/Nuuk", "2026-03-28T12:00:00Z", "2026-03-29T12:00:00Z");
    assert_eq!(nuuk, ["03-29 00:00:00~"]);
    // Half an hour: 02:15 does not exist, 01:45 occurs twice.
    let gap = plain("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T12:00:00Z", "2026-10-04T12:00:00Z");
    assert_eq!(gap, ["10-04 02:30:00~"]);
    let fold = plain("45 1 * * *", "Australia/Lord_Howe", "2026-04-04T12:00:00Z", "2026-04-05T12:00:00Z");
    assert_eq!(fold, ["04-05 01:45:001"]);
    let both = Pattern::parse("45 1 * * *", "Australia/Lord_Howe", GapPolicy::Skip, FoldPolicy::Both).unwrap();
    let both = shown(&both, "2026-04-04T12:00:00Z", "2026-04-05T12:00:00Z");
    assert_eq!(both, ["04-05 01:45:001", "04-05 01:45:002"]);
    // A day that does not exist is skipped, and reported once.
    let apia = pattern("0 9 * * *", "Pacific/Apia");
    let found = apia.take("2011-12-29T00:00:00Z".parse().unwrap(), 3);
    let skipped: Vec<usize> = found.iter().map(|found| found.skipped.len()).collect();
    assert_eq!(skipped, [0, 1, 0]);
    // A day that occurred twice (clock set back 23 hours): each of the two fires if configured so.
    let kwajalein = Pattern::parse("0 9 * * *", "Pacific/Kwajalein", GapPolicy::Shift, FoldPolicy::Both).unwrap();
    let kwajalein = kwajalein.take("1969-09-28T00:00:00Z".parse().unwrap(), 6);
    assert!(kwajalein.is_sorted_by(|one, other| one.at < other.at), "{kwajalein:?}");
    assert_eq!(kwajalein.iter().filter(|found| found.turn == Turn::Second).count(), 1);
    // Before 1900 changes were not of whole minutes.
    let berlin = plain("3 0 * * *", "Europe/Berlin", "1893-03-31T12:00:00Z", "1893-04-01T12:00:00Z");
    assert_eq!(berlin, ["04-01 00:06:32~"]);
    // An hourly pattern runs through; one that names its hours does not fire twice.
    let york = "America/New_York";
    let through = plain("0 * * * *", york, "2026-11-01T04:30:00Z", "2026-11-01T07:30:00Z");
    assert_eq!(through, ["11-01 01:00:001", "11-01 01:00:002", "11-01 02:00:00"]);
    assert_eq!(plain("0 0-23 * * *", york, "2026-11-01T04:30:00Z", "2026-11-01T07:30:00Z"), through);
    let named = plain("0 1,2 * * *", york, "2026-11-01T04:30:00Z", "2026-11-01T07:30:00Z");
    assert_eq!(named, ["11-01 01:00:001", "11-01 02:00:00"]);
    // Two occurrences shifted to the same instant are one.
    let one = plain("0,30 2 * * *", york, "2026-03-08T05:00:00Z", "2026-03-08T12:00:00Z");
    assert_eq!(one, ["03-08 03:00:00~"]);
}

#[test]
fn the_end_of_time_is_an_end() {
    let every = pattern("* * * * *", "Asia/Tokyo");
    for after in
        [DateTime::<Utc>::MAX_UTC, "9999-12-31T23:59:59Z".parse().unwrap(), "9999-12-31T23:59:00Z".parse().unwrap()]
    {
        assert_eq!(every.next(after), None, "{after}");
    }
    for zone in ["Pacific/Kiritimati", "Pacific/Pago_Pago", "Asia/Tokyo", "UTC"] {
        let found = pattern("* * * * *", zone).take("9999-12-31T23:57:00Z".parse().unwrap(), 9);
        assert_eq!(found.len(), 2, "{zone}");
        let first = pattern("0 * * * *", zone).next(DateTime::<Utc>::MIN_UTC).unwrap().at;
        assert!(first.to_rfc3339().starts_with("0001-01-01T0"), "{zone}: {first}");
    }
    let leap = pattern("0 0 29 2 +MON", "UTC").take("2026-01-01T00:00:00Z".parse().unwrap(), 100);
    assert_eq!(leap.len(), 100, "each search goes on from the one before");
    assert_eq!(leap[0].at.to_rfc3339(), "2044-02-29T00:00:00+00:00");
}

#[test]
fn what_is_accepted_means_what_it_says() {
    let refused = [
        "0 0 30 2 *",
        "0 0 31 2,4,6,9,11 *",
        "61 * * * *",
        "* * * *",
        "0 0 0 * * *",
        "0 0 1 1 * 2030",
        "",
        "   ",
        "every day",
        "@reboot",
        "@every 5m",
        "@",
        "MON 9 * * *",
        "0 JAN * * *",
        "0 9 MON * *",
        "0 9 * MON *",
        "0 9 * * JAN",
        "1,,2 * * * *",
        ", * * * *",
        "/10 * * * *",
        "5/10 * * * *",
        "*/0 * * * *",
        "-5 * * * *",
        "0 9 L,LW * *",
        "0 9 * * L",
        "0 9 ?,1 * *",
        "*,5 * * * *",
        "0 9 1-5W * *",
        "0 9 * * 1-5L",
        "0 9 * * MONDAY",
        "0 9 * * 1MON",
        "0 9 * * ſun",
        "0 9 * * 8",
        "0 9 0 * *",
        "0 9 * 13 *",
        "0 24 * * *",
        "0 9 * * MON#6",
        "0 9 * * MON#0",
        "0 9 5#1 * *",
        "0 9 W * *",
        "0 9 LW-2 * *",
        "99999999999 * * * *",
        "0 9 1 * +",
        "0 9 +1 * MON",
    ];
    for wrong in refused {
        let found = Pattern::parse(wrong, "UTC", GapPolicy::Shift, FoldPolicy::Once);
        let refusal = found.err().unwrap_or_else(|| panic!("`{wrong}` was taken"));
        assert!(refusal.message.starts_with("cron: "), "{refusal:?}");
    }
    let from = "2026-01-01T00:00:00Z".parse().unwrap();
    let first = |cron: &str| pattern(cron, "UTC").next(from).unwrap().at.format("%m-%d %H:%M").to_string();
    for (cron, wanted) in [
        ("0 9 L * *", "01-31 09:00"),
        ("0 9 LW * *", "01-30 09:00"),
        ("0 9 31W * *", "01-30 09:00"),
        ("0 9 1W 8 *", "08-03 09:00"),
        ("0 9 * * MON#2", "01-12 09:00"),
        ("0 9 * * 5L", "01-30 09:00"),
        ("0 9 * * fril", "01-30 09:00"),
        ("0 9 ? jul ?", "07-01 09:00"),
        ("0 9 * jun-jul sat-sun", "06-06 09:00"),
        ("0 9 * * mon-wed", "01-05 09:00"),
        ("0 9 * * 7", "01-04 09:00"),
        ("0 9 1-7 * +MON", "01-05 09:00"),
        ("0\t9  *   * TUE", "01-06 09:00"),
        ("10-50/20 9 1 2 *", "02-01 09:10"),
    ] {
        assert_eq!(first(cron), wanted, "{cron}");
    }
    assert!(pattern("0 9 1-7 * MON", "UTC").either_day());
    assert!(pattern("0 9 */2 * MON", "UTC").either_day());
    for one in ["0 9 1-7 * +MON", "0 9 * * MON", "0 9 1-7 * *", "0 9 1-7 * ?", "0 9 ? * MON"] {
        assert!(!pattern(one, "UTC").either_day(), "{one}");
    }
}

/// Reference implementation: the occurrences of a day by checking each of its instants and each
/// minute of its clock.
fn slow(
    cron: &Pattern,
    matches: &dyn Fn(NaiveDateTime) -> bool,
    floats: bool,
    both: bool,
    from: DateTime<Utc>,
    hours: i64,
) -> Vec<DateTime<Utc>> {
    let zone = cron.zone();
    let offset = |at: DateTime<Utc>| zone.offset_from_utc_datetime(&at.naive_utc()).fix().local_minus_utc();
    let mut all = Vec::new();
    for second in 1..=hours * 3600 {
        let at = from + Duration::seconds(second);
        let wall = at.with_timezone(&zone).naive_local();
        let first = match zone.from_local_datetime(&wall) {
            chrono::MappedLocalTime::Ambiguous(one, other) => at == one.to_utc().min(other.to_utc()),
            _ => true,
        };
        let mut fires = wall.and_utc().timestamp() % 60 == 0 && matches(wall) && (first || floats || both);
        let before = at - Duration::seconds(1);
        let (was, is) = (offset(before), offset(at));
        if is > was && !floats && is - was < 86_400 {
            // The gap that ends here.
            let begin = before.with_timezone(&zone).naive_local() + Duration::seconds(1);
            let mut minute = begin - Duration::seconds(begin.and_utc().timestamp().rem_euclid(60));
            if minute < begin {
                minute += Duration::minutes(1);
            }
            while minute < wall {
                fires |= matches(minute);
                minute += Duration::minutes(1);
            }
        }
        if fires {
            all.push(at);
        }
    }
    all
}

const ZONES: [&str; 14] = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/Havana",
    "Africa/Cairo",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "America/Nuuk",
    "Asia/Kathmandu",
    "Africa/Casablanca",
    "Africa/Monrovia",
    "Pacific/Kiritimati",
    "America/Juneau",
    "Antarctica/Troll",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Around a clock change the arithmetic agrees with a check of every second.
    #[test]
    fn agrees_with_a_look_at_every_second(
        zone in 0..ZONES.len(), year in 1880..2100_i32, minute in 0..60_u32, hour in 0..24_u32, floats: bool, both: bool,
    ) {
        let tz: Tz = ZONES[zone].parse().unwrap();
        let begin = NaiveDate::from_ymd_opt(year, 1, 1).unwrap().and_hms_opt(0, 0, 0).unwrap().and_utc();
        let offset = |at: DateTime<Utc>| tz.offset_from_utc_datetime(&at.naive_utc()).fix().local_minus_utc();
        // The first change of the year, where there is one.
        let change = (0..365).map(|day| begin + Duration::days(day)).find(|at| offset(*at) != offset(*at + Duration::days(1)));
        let from = change.unwrap_or(begin) - Duration::hours(3);
        let cron = if floats { format!("{minute} * * * *") } else { format!("{minute} {hour} * * *") };
        let fold = if both { FoldPolicy::Both } else { FoldPolicy::Once };
        let pattern = Pattern::parse(&cron, ZONES[zone], GapPolicy::Shift, fold).unwrap();
        use chrono::Timelike;
        let matches = move |wall: NaiveDateTime| wall.minute() == minute && (floats || wall.hour() == hour);
        let wanted = slow(&pattern, &matches, floats, both, from, 32);
        let found: Vec<DateTime<Utc>> = pattern.after(from).map(|found| found.at).take_while(|at| *at <= from + Duration::hours(32)).collect();
        prop_assert_eq!(found, wanted, "{} in {} from {}", cron, ZONES[zone], from);
    }

    /// Occurrences of the years 1 to 9999 are in order, after the given time, once each.
    #[test]
    fn occurrences_are_in_order(zone in 0..chrono_tz::TZ_VARIANTS.len(), day in 0..3_652_000_i64, cron in 0..8_usize) {
        let crons = ["* * * * *", "*/7 3 * * *", "30 2 * * *", "0 0 29 2 *", "@weekly", "0 9 1-7 * MON", "59 23 L * *", "0 0 13 * +FRI"];
        let zone = chrono_tz::TZ_VARIANTS[zone].name();
        let after = NaiveDate::from_ymd_opt(1, 1, 1).unwrap().and_hms_opt(0, 0, 0).unwrap().and_utc() + Duration::days(day);
        let pattern = pattern(crons[cron], zone);
        let found = pattern.take(after, 5);
        prop_assert!(found.len() == 5 || after > "9900-01-01T00:00:00Z".parse::<DateTime<Utc>>().unwrap());
        prop_assert!(found.iter().all(|found| found.at > after));
        prop_assert!(found.is_sorted_by(|one, other| one.at < other.at));
        for (i, one) in found.iter().enumerate() {
            let again = pattern.next(if i == 0 { after } else { found[i - 1].at });
            prop_assert_eq!(again.map(|again| (again.at, again.turn, again.shifted)), Some((one.at, one.turn, one.shifted)));
        }
    }
}

const NEXT: &str = "query($cron: String!, $zone: String!, $after: DateTime, $count: Int, $fold: FoldPolicy) {
    nextFireTimes(cron: $cron, timezone: $zone, after: $after, count: $count, fold: $fold) { at localTime offsetMinutes note notes } }";

both! {
    async fn next_fire_times_are_annotated(kind) {
        let world = World::without_server(kind, None).await;
        let ask = async |input: serde_json::Value| world.ask(NEXT, input).await["nextFireTimes"].clone();
        // A fold: which of the two, and at which offset.
        let fold = ask(json!({ "cron": "@daily", "zone": "America/Havana", "after": "2026-10-31T12:00:00Z", "count": 2 })).await;
        assert_eq!((&fold[0]["localTime"], &fold[0]["offsetMinutes"]), (&json!("2026-11-01T00:00:00"), &json!(-240)));
        assert_eq!((&fold[0]["notes"], &fold[1]["notes"]), (&json!(["FIRST_OF_TWO"]), &json!([])));
        assert!(fold[0]["note"].as_str().unwrap().contains("first of two, at UTC-04:00"), "{fold}");
        assert_eq!((&fold[1]["localTime"], &fold[1]["note"]), (&json!("2026-11-02T00:00:00"), &json!(null)));
        let both = ask(json!({ "cron": "30 1 * * *", "zone": "America/New_York", "after": "2026-11-01T00:00:00Z", "count": 2, "fold": "BOTH" })).await;
        assert_eq!((&both[0]["notes"], &both[1]["notes"]), (&json!(["FIRST_OF_TWO"]), &json!(["SECOND_OF_TWO"])));
        assert_eq!((&both[0]["offsetMinutes"], &both[1]["offsetMinutes"]), (&json!(-240), &json!(-300)));
        // A gap, unchanged.
        let gap = ask(json!({ "cron": "@daily", "zone": "Africa/Cairo", "after": "2026-04-23T12:00:00Z", "count": 1 })).await;
        assert_eq!((&gap[0]["localTime"], &gap[0]["notes"]), (&json!("2026-04-24T01:00:00"), &json!(["SHIFTED"])));
        // Both day fields.
        let either = ask(json!({ "cron": "0 9 1-7 * MON", "zone": "UTC", "after": "2026-11-02T12:00:00Z", "count": 7 })).await;
        for time in either.as_array().unwrap() {
            assert_eq!(time["notes"], json!(["EITHER_DAY"]));
            assert!(time["note"].as_str().unwrap().contains("either is enough"), "{time}");
        }
        assert_eq!(either[6]["localTime"], "2026-11-16T09:00:00");
        let and = ask(json!({ "cron": "0 9 1-7 * +MON", "zone": "UTC", "after": "2026-11-02T12:00:00Z", "count": 1 })).await;
        assert_eq!((&and[0]["localTime"], &and[0]["note"]), (&json!("2026-12-07T09:00:00"), &json!(null)));
        // Both limits of time, and of the count.
        for (after, wanted) in [("9999-12-31T23:59:59Z", 0), ("9999-12-31T23:57:30Z", 2), ("0001-01-01T00:00:00Z", 5)] {
            let found = ask(json!({ "cron": "* * * * *", "zone": "Pacific/Kiritimati", "after": after })).await;
            assert_eq!(found.as_array().unwrap().len(), wanted, "{after}");
        }
        for input in [
            json!({ "cron": "* * * * *", "zone": "UTC", "count": -1 }), json!({ "cron": "* * * * *", "zone": "UTC", "count": 101 }),
            json!({ "cron": "* * * * *", "zone": "Mars/Base" }), json!({ "cron": "@reboot", "zone": "UTC" }),
            json!({ "cron": "* * * * *", "zone": "UTC", "after": "9999-12-31T23:59:59-05:00" }),
            json!({ "cron": "* * * * *", "zone": "UTC", "after": "-0001-01-01T00:00:00Z" }),
        ] {
            let (code, message) = world.refused(NEXT, input.clone()).await;
            assert_eq!(code, "BAD_USER_INPUT", "{input}: {message}");
        }
        world.end().await;
    }
}
