//! Maps the header's columns to record fields, by the spellings of spreadsheets and CRMs, and warns
//! of columns that only resemble a known one.

mod words;

use super::Options;
use super::lines::Line;
use super::types::Typed;
use crate::kernel::error::{Refusal, Result};
use crate::kernel::{limits, storable, validate};
use words::{
    CONSENT_PARTS, CONTRARY, FIRST_AND_LAST, OPT_OUT_NAMES, OPT_OUT_PARTS, OPTED_OUT, OTHERS, SPELLINGS, Spelled,
};

/// A record field that a column can be mapped to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    ExternalId,
    Name,
    Email,
    Phone,
    TimeZone,
    Stage,
    LastContactedAt,
    Unsubscribed,
    UnsubscribedAt,
}

impl Field {
    /// The field's column name.
    pub(super) fn name(self) -> &'static str {
        SPELLINGS.iter().find(|(field, ..)| *field == self).map_or("", |(_, name, ..)| name)
    }

    /// True for opt-outs, which may be in several columns: any one of them counts.
    fn may_repeat(self) -> bool {
        matches!(self, Self::Unsubscribed | Self::UnsubscribedAt)
    }
}

/// The target of a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Field(Field),
    /// An attribute with this name.
    Attribute(String),
    /// None: the column has no name, or `map` excludes it.
    Ignored,
}

/// A column of the file.
#[derive(Debug)]
pub(super) struct Column {
    /// Name in the file.
    pub(super) name: String,
    pub(super) target: Target,
    pub(super) typed: Typed,
}

/// The normalised form in which names are compared: letters without accents and digits,
/// case-folded.
fn key(name: &str) -> String {
    storable::unaccented(&storable::folded(name)).chars().filter(|c| c.is_alphanumeric()).collect()
}

/// The part of a person's name that a column holds: 0 for the first name, 1 for the last.
pub(super) fn part_of_name(column: &str) -> Option<usize> {
    let key = key(column);
    FIRST_AND_LAST.iter().position(|names| names.contains(&key.as_str()))
}

/// Reads the header, and adds warnings for doubtful columns. Errors: BAD_USER_INPUT if it is
/// unusable.
pub(super) fn read(header: &Line, kind: &str, options: &Options, warnings: &mut Vec<String>) -> Result<Vec<Column>> {
    if header.len() > limits::IMPORT_COLUMNS {
        return Err(refused(format!("has {} columns, at most {}", header.len(), limits::IMPORT_COLUMNS)));
    }
    let mut names = Vec::new();
    for cell in header.cells() {
        let text = std::str::from_utf8(cell).map_err(|_| refused(super::source::NOT_UTF8))?;
        if text.contains('\0') {
            return Err(refused(format!("the name of column {} {}", names.len() + 1, storable::Unstorable::Nul)));
        }
        let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let name = storable::nfc(text.trim()).into_owned();
        if name.chars().count() > limits::NAME_CHARS {
            let shown = validate::printable(&name);
            return Err(refused(format!(
                "the name of a column has at most {} characters: `{shown}`",
                limits::NAME_CHARS
            )));
        }
        names.push(name);
    }
    for (at, _) in names.iter().enumerate().filter(|(_, name)| name.is_empty()) {
        warnings.push(format!("column {} has no name and is ignored", at + 1));
    }
    let mapped = mapped(&names, options)?;
    let targets = targets(&names, mapped, kind, warnings)?;
    warn(&names, &targets, warnings);
    let all = names.into_iter().zip(targets);
    let mut columns: Vec<Column> = all.map(|(name, target)| Column { name, target, typed: Typed::default() }).collect();
    for (name, kind) in super::types::parse(&options.types)? {
        let matching: Vec<usize> = (0..columns.len()).filter(|at| is_called(&columns[*at].name, &name)).collect();
        let [at] = matching[..] else {
            return Err(Refusal::input("types", format!("there is no column `{}`", validate::printable(&name))).into());
        };
        if !matches!(columns[at].target, Target::Attribute(_)) {
            let shown = validate::printable(&name);
            return Err(
                Refusal::input("types", format!("`{shown}` is not an attribute: only attributes have types")).into()
            );
        }
        columns[at].typed = Typed::declared(kind);
    }
    Ok(columns)
}

fn refused(why: impl std::fmt::Display) -> crate::kernel::error::Error {
    Refusal::input("header", why).into()
}

pub(super) fn is_called(column: &str, name: &str) -> bool {
    !column.is_empty() && (column == name.trim() || key(column) == key(name))
}

pub(super) fn known(name: &str) -> Option<Field> {
    let key = key(name);
    let own = |spelled: &&Spelled| spelled.2.contains(&key.as_str()) || spelled.3.contains(&key.as_str());
    SPELLINGS.iter().find(own).map(|(field, ..)| *field)
}

/// The targets given by the option `map`.
fn mapped(names: &[String], options: &Options) -> Result<Vec<Option<Target>>> {
    let mut targets = vec![None; names.len()];
    for given in &options.map {
        let wrong = |why: String| Refusal::input("map", why);
        let (from, to) = given
            .rsplit_once('=')
            .ok_or_else(|| wrong(format!("`{}` is not of the form `Column=field`", validate::printable(given))))?;
        let (from, to) = (storable::nfc(from.trim()).into_owned(), storable::nfc(to.trim()).into_owned());
        let exact: Vec<usize> = (0..names.len()).filter(|at| names[*at] == from).collect();
        let like = || (0..names.len()).filter(|at| is_called(&names[*at], &from)).collect();
        let matching: Vec<usize> = if exact.is_empty() { like() } else { exact };
        let target = match to.as_str() {
            "" | "-" => Target::Ignored,
            to => match (known(to), close(to)) {
                (Some(field), _) => Target::Field(field),
                (None, Some(near)) => {
                    return Err(wrong(format!(
                        "there is no field `{}`; did you mean `{near}`?",
                        validate::printable(to)
                    ))
                    .into());
                }
                (None, None) if to.chars().any(char::is_control) || to.chars().count() > limits::NAME_CHARS => {
                    return Err(wrong(format!("`{}` can't name an attribute", validate::printable(to))).into());
                }
                (None, None) => Target::Attribute(to.to_owned()),
            },
        };
        if matching.is_empty() || (matching.len() > 1 && target != Target::Ignored) {
            let has = listed(names);
            let many = if matching.is_empty() { "there is no" } else { "there are several of a" };
            return Err(wrong(format!("{many} column `{}`; the file has {has}", validate::printable(&from))).into());
        }
        for at in matching {
            if targets[at].is_some() {
                return Err(wrong(format!(
                    "the column `{}` is mapped twice: a column maps to one field (if no column is `external_id`, the \
                     address in `email` is the id)",
                    validate::printable(&names[at])
                ))
                .into());
            }
            targets[at] = Some(target.clone());
        }
    }
    Ok(targets)
}

fn listed(names: &[String]) -> String {
    let mut shown: Vec<String> = names.iter().take(20).map(|name| format!("`{}`", validate::printable(name))).collect();
    if names.len() > shown.len() {
        shown.push("…".into());
    }
    shown.join(", ")
}

/// The target of each column: as mapped, by its spelling, or else an attribute.
fn targets(
    names: &[String],
    mapped: Vec<Option<Target>>,
    kind: &str,
    warnings: &mut Vec<String>,
) -> Result<Vec<Target>> {
    let free: Vec<bool> = mapped.iter().map(Option::is_none).collect();
    let attribute = |name: &String| if name.is_empty() { Target::Ignored } else { Target::Attribute(name.clone()) };
    let mut targets: Vec<Target> =
        names.iter().zip(mapped).map(|(name, mapped)| mapped.unwrap_or_else(|| attribute(name))).collect();
    let keys: Vec<String> = names.iter().map(|name| key(name)).collect();
    let own_id = format!("{}id", key(kind));
    for (field, known, first, second) in SPELLINGS {
        let spelled = |by: &dyn Fn(&str) -> bool| -> Vec<usize> {
            (0..names.len()).filter(|at| free[*at] && by(&keys[*at])).collect()
        };
        let mut matching = spelled(&|key| first.contains(&key));
        matching.extend((0..names.len()).filter(|at| !free[*at] && targets[*at] == Target::Field(field)));
        matching.sort_unstable();
        if matching.is_empty() {
            let is_id = field == Field::ExternalId;
            matching = spelled(&|key| second.contains(&key) || (is_id && key == own_id));
            match matching[..] {
                [at] if is_id => warnings.push(format!("the column `{}` is read as `external_id`", names[at])),
                [_] | [] => {}
                // None of several second choices is better than the others.
                _ if !is_id => {
                    let all = listed(&matching.iter().map(|at| names[*at].clone()).collect::<Vec<_>>());
                    warnings.push(format!("each of {all} could be `{known}`: none is, choose one with `map`"));
                    continue;
                }
                _ => {}
            }
        }
        if matching.len() > 1 && !field.may_repeat() {
            let all = listed(&matching.iter().map(|at| names[*at].clone()).collect::<Vec<_>>());
            return Err(refused(format!("{all} are all read as `{known}`: exclude the others with `map`, `Column=`")));
        }
        for at in matching {
            targets[at] = Target::Field(field);
        }
    }
    for (at, target) in targets.iter().enumerate() {
        let before = targets[..at].iter().position(|before| before == target);
        if let (Target::Attribute(name), Some(before)) = (target, before) {
            let shown = validate::printable(name);
            return Err(refused(format!(
                "the column `{shown}` comes twice, as columns {} and {}: rename one, or exclude both with `map`, `{shown}=`",
                before + 1,
                at + 1
            )));
        }
    }
    if !targets.contains(&Target::Field(Field::ExternalId)) {
        let Some(at) = targets.iter().position(|target| *target == Target::Field(Field::Email)) else {
            return Err(refused(format!(
                "the column `external_id` is missing, which identifies records, and so is its fallback \
                 `email`; the file has {}: name the right column with `map`, `Column=external_id`",
                listed(names)
            )));
        };
        warnings.push(format!(
            "no column is read as `external_id`: records are identified by their address, in `{}`; if another column is \
             the id, name it with `map`, `Column=external_id`",
            validate::printable(&names[at])
        ));
    }
    Ok(targets)
}

/// Warns of columns that resemble a known one and are not read as it.
fn warn(names: &[String], targets: &[Target], warnings: &mut Vec<String>) {
    let taken =
        |name: &str| targets.iter().any(|target| matches!(target, Target::Field(field) if field.name() == name));
    for (name, target) in names.iter().zip(targets) {
        let Target::Attribute(as_attribute) = target else { continue };
        // A column renamed by `map` was chosen deliberately.
        if as_attribute != name {
            continue;
        }
        let (shown, key) = (validate::printable(name), key(name));
        let near = close(name).or_else(|| contains(&key).filter(|near| !taken(near)));
        if suggests_opt_out(&key) {
            warnings.push(format!(
                "the column `{shown}` is kept as an attribute and opts nobody out; if it marks people who must not be \
                 contacted, map it: `{shown}=unsubscribed`"
            ));
        } else if is_consent(&key) {
            warnings.push(format!(
                "the column `{shown}` is kept as an attribute: a `no` in it unsubscribes nobody; `unsubscribed` does"
            ));
        } else if let Some(near) = near {
            warnings.push(format!(
                "the column `{shown}` is kept as an attribute; if it is meant as `{near}`, map it: `{shown}={near}`"
            ));
        }
    }
    if !taken("name") {
        warnings.push(
            "no column is read as `name`: existing records keep theirs, new ones are named by their first and last name \
             (columns such as `First Name` or `Nachname`; others with `map`, `Column=first_name`), their address, or \
             their external id"
                .into(),
        );
    }
}

/// True if a value marks an opt-out.
pub(super) fn is_opt_out(value: &str) -> bool {
    value.len() <= 40 && OPTED_OUT.contains(&key(value).as_str())
}

/// True if a column's name suggests opt-outs.
fn suggests_opt_out(key: &str) -> bool {
    OPT_OUT_NAMES.contains(&key) || OPT_OUT_PARTS.iter().any(|part| key.contains(part))
}

/// True if a column's name suggests consent, which is the opposite of `unsubscribed`.
fn is_consent(key: &str) -> bool {
    CONTRARY.contains(&key) || CONSENT_PARTS.iter().any(|part| key.contains(part))
}

/// The known column that a name is probably a misspelling of.
fn close(name: &str) -> Option<&'static str> {
    let key = key(name);
    if key.len() < 3 || key.len() > 40 || OTHERS.contains(&key.as_str()) || CONTRARY.contains(&key.as_str()) {
        return None;
    }
    let near = |spelling: &&str| {
        let most = if spelling.len() <= 5 { 1 } else { 2 };
        spelling.len() >= 4 && strsim::osa_distance(spelling, &key) <= most
    };
    let spelled = |one: &&Spelled| one.2.iter().chain(one.3).any(near);
    SPELLINGS.iter().find(spelled).map(|(_, name, ..)| *name)
}

fn contains(key: &str) -> Option<&'static str> {
    let all = [
        ("email", "email"),
        ("mailadress", "email"),
        ("phone", "phone"),
        ("telefon", "phone"),
        ("timezone", "time_zone"),
        ("externalid", "external_id"),
    ];
    all.into_iter().find(|(part, _)| key.contains(part)).map(|(_, name)| name)
}

impl Column {
    /// The attribute's name, if the column is one.
    pub(super) fn attribute(&self) -> Option<&str> {
        match &self.target {
            Target::Attribute(name) => Some(name),
            _ => None,
        }
    }

    /// The column's entry in the import report.
    pub(super) fn shown(&self) -> entity::import::ImportColumn {
        entity::import::ImportColumn {
            name: self.name.clone(),
            becomes: match &self.target {
                Target::Field(field) => Some(field.name().to_owned()),
                Target::Attribute(name) => Some(format!("attributes.{name}")),
                Target::Ignored => None,
            },
            kind: matches!(self.target, Target::Attribute(_)).then(|| self.typed.kind.name().to_owned()),
        }
    }
}
