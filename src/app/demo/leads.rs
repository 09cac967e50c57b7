//! The demo's leads as a CSV file, as a team might import it.

use chrono::{DateTime, Duration, Utc};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

/// Generates leads as CSV: always the same ones, except for the dates.
pub fn leads(count: usize, now: DateTime<Utc>) -> String {
    let mut random = StdRng::seed_from_u64(7);
    let mut csv = String::from(
        "external_id,name,first_name,last_name,email,phone,company,title,timezone,stage,last_contacted_at,source,employees\n",
    );
    for number in 0..count {
        let (first, last) = (pick(&mut random, FIRST), pick(&mut random, LAST));
        let company = format!("{} {}", pick(&mut random, LAST), pick(&mut random, COMPANY));
        let address = format!(
            "{}.{}.{number}@example.{}",
            first.to_lowercase(),
            last.to_lowercase(),
            pick(&mut random, &["com", "net", "org"])
        );
        let phone = if random.random_bool(0.8) {
            format!("+1555{:07}", random.random_range(1_000_000..9_999_999))
        } else {
            String::new()
        };
        let contacted = if random.random_bool(0.7) {
            (now - Duration::minutes(random.random_range(60..60_000))).format("%Y-%m-%dT%H:%M:%SZ").to_string()
        } else {
            String::new()
        };
        let (title, zone, stage) = (pick(&mut random, TITLE), pick(&mut random, ZONE), pick(&mut random, STAGE));
        let (source, employees) = (pick(&mut random, SOURCE), random.random_range(2..5_000));
        csv.push_str(&format!(
            "DEMO-{number:05},{first} {last},{first},{last},{address},{phone},{company},{title},{zone},{stage},{contacted},{source},{employees}\n"
        ));
    }
    csv
}

fn pick<'a>(random: &mut StdRng, from: &[&'a str]) -> &'a str {
    from.choose(random).copied().unwrap_or_default()
}

const FIRST: &[&str] = &[
    "Ada", "Bruno", "Chidi", "Dana", "Emil", "Fatou", "Grace", "Hugo", "Ines", "Jonas", "Keiko", "Lena", "Mario",
    "Nora", "Omar", "Petra", "Ravi", "Stacie", "Tomas", "Yara",
];
const LAST: &[&str] = &[
    "Axelsson",
    "Baker",
    "Cohen",
    "Dubois",
    "Eriksen",
    "Fischer",
    "Garcia",
    "Hernandez",
    "Ito",
    "Jensen",
    "Kowalski",
    "Lopez",
    "Moreau",
    "Novak",
    "Okafor",
    "Patel",
    "Quinn",
    "Rossi",
    "Silva",
    "Walker",
];
const COMPANY: &[&str] = &["AB", "GmbH", "Group", "Inc", "Labs", "Logistics", "Ltd", "Partners", "Systems", "Works"];
const TITLE: &[&str] =
    &["Head of Operations", "Founder", "Purchasing Manager", "Platform Lead", "Office Manager", "CTO"];
const ZONE: &[&str] = &[
    "America/Chicago",
    "America/Los_Angeles",
    "America/New_York",
    "Asia/Tokyo",
    "Europe/Berlin",
    "Europe/London",
    "Europe/Stockholm",
];
const STAGE: &[&str] = &["New", "Conversation Active", "MOU Sent", "Dormant"];
const SOURCE: &[&str] = &["event", "outbound", "partner", "referral", "website"];
