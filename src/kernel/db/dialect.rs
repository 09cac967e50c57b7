//! Everything that differs between SQLite and Postgres.

use sea_orm::sea_query::{CaseStatement, Condition, Expr, ExprTrait, LikeExpr};
use sea_orm::{ConnectionTrait, DbBackend, Statement};

use super::Tx;
use crate::kernel::error::{Error, Refusal, Result};
use crate::kernel::{limits, storable, validate};

/// The kind of database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// SQLite, the embedded default.
    Sqlite,
    /// Postgres, for many nodes.
    Postgres,
}

impl From<DbBackend> for Dialect {
    fn from(backend: DbBackend) -> Self {
        if backend == DbBackend::Postgres { Self::Postgres } else { Self::Sqlite }
    }
}

/// The type of a column of `rows`.
#[derive(Clone, Copy, Debug)]
pub enum Type {
    /// A UUID.
    Uuid,
    /// Text.
    Text,
    /// A whole number.
    Int,
    /// JSON.
    Json,
    /// A point in time.
    Time,
}

impl Dialect {
    /// Derives the dialect from the URL.
    pub fn of(url: &str) -> Result<Self> {
        match url.split(':').next() {
            Some("sqlite") => Ok(Self::Sqlite),
            Some("postgres" | "postgresql") => Ok(Self::Postgres),
            _ => Err(Error::internal("the database's address must begin with postgres:// or sqlite://")),
        }
    }

    /// Maximum number of parameters of a statement, with some left for the rest of it.
    pub fn parameters(self) -> usize {
        match self {
            Self::Postgres => 60_000,
            Self::Sqlite => 30_000,
        }
    }

    /// Placeholders of the first and the second expression in a custom one.
    pub fn placeholders(self) -> (&'static str, &'static str) {
        match self {
            Self::Postgres => ("$1", "$2"),
            Self::Sqlite => ("?", "?"),
        }
    }

    /// The right-hand side of a condition: one of a JSON array of texts, or of ids as 32
    /// hexadecimal digits, bound as one parameter. Uses an index where there is one.
    pub fn among(self, parameter: &str, of: Type) -> String {
        match self {
            Self::Postgres => format!("= ANY(ARRAY({}))", self.listed(parameter, of)),
            Self::Sqlite => format!("IN ({})", self.listed(parameter, of)),
        }
    }

    /// The same for long arrays: each row is looked up in a table that is built from the array
    /// once. Postgres would scan an array for each row, and join with a list of unknown length by
    /// plans that only suit short ones.
    pub fn among_many(self, parameter: &str, of: Type) -> String {
        match self {
            Self::Postgres => format!("IN ({}) IS TRUE", self.listed(parameter, of)),
            Self::Sqlite => self.among(parameter, of),
        }
    }

    fn listed(self, parameter: &str, of: Type) -> String {
        let value = match (self, of) {
            (Self::Postgres, Type::Uuid) => "CAST(value AS uuid)",
            (Self::Sqlite, Type::Uuid) => "unhex(value)",
            _ => "value",
        };
        match self {
            Self::Postgres => format!("SELECT {value} FROM jsonb_array_elements_text({parameter}) AS l(value)"),
            Self::Sqlite => format!("SELECT {value} FROM json_each({parameter})"),
        }
    }

    /// The first parameter, as JSON that was written as text.
    pub fn written_json(self) -> &'static str {
        match self {
            Self::Postgres => "CAST($1 AS text)::jsonb",
            Self::Sqlite => "$1",
        }
    }

    /// A table built from one JSON parameter (`$n`, an array of objects), to join with in set-based
    /// statements. UUIDs in it are 32 hexadecimal digits, times RFC 3339.
    pub fn rows(self, parameter: &str, alias: &str, columns: &[(&str, Type)]) -> String {
        match self {
            Self::Postgres => {
                let columns: Vec<String> = columns
                    .iter()
                    .map(|(name, of)| {
                        let of = match of {
                            Type::Uuid => "uuid",
                            Type::Text => "text",
                            Type::Int => "bigint",
                            Type::Json => "jsonb",
                            Type::Time => "timestamptz",
                        };
                        format!("{name} {of}")
                    })
                    .collect();
                format!("jsonb_to_recordset({parameter}) AS {alias}({})", columns.join(", "))
            }
            Self::Sqlite => {
                let columns: Vec<String> = columns
                    .iter()
                    .map(|(name, of)| {
                        let value = format!("json_extract(value, '$.{name}')");
                        match of {
                            Type::Uuid => format!("unhex({value}) AS {name}"),
                            // Keeps JSON, so that texts, numbers and booleans are not unwrapped;
                            // null becomes NULL, as on Postgres.
                            Type::Json => format!("NULLIF(value -> '$.{name}', 'null') AS {name}"),
                            Type::Text | Type::Int | Type::Time => format!("{value} AS {name}"),
                        }
                    })
                    .collect();
                format!("(SELECT {} FROM json_each({parameter})) AS {alias}", columns.join(", "))
            }
        }
    }
}

/// A time in the JSON rows of both databases: the text that SQLite stores and Postgres parses,
/// truncated to microseconds, the precision of Postgres.
pub fn time(at: chrono::DateTime<chrono::Utc>) -> String {
    chrono::SubsecRound::trunc_subsecs(at, 6).to_rfc3339_opts(chrono::SecondsFormat::AutoSi, false)
}

/// The negation of a condition: true where it is false, and where it is unknown, as on an absent
/// value. In SQL's three-valued logic, a plain NOT would exclude those rows, too.
pub fn unmet(condition: Condition) -> Expr {
    let met: Expr = CaseStatement::new().case(Expr::from(condition), Expr::val(1)).finally(Expr::val(0)).into();
    met.eq(0)
}

/// The condition that a column of folded text (`storable::folded`) contains a text, in any case and
/// spelling. Errors: BAD_USER_INPUT if the text is longer than a search may be; SQLite's patterns
/// end at 50,000 bytes.
pub fn search(column: Expr, path: &str, text: &str) -> Result<Expr> {
    let folded = storable::folded(validate::search(path, text)?);
    if folded.len() > limits::SEARCH_BYTES {
        return Err(Refusal::input(path, format!("at most {} characters", limits::SEARCH_CHARS)).into());
    }
    let mut pattern = String::from("%");
    for c in folded.chars() {
        if matches!(c, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern.push('%');
    Ok(column.like(LikeExpr::new(pattern).escape('\\')))
}

/// Locks a name until this transaction ends: another one that locks it waits, and then sees what
/// this one wrote.
pub(crate) async fn lock_name(tx: &Tx, name: &str) -> Result<()> {
    if tx.dialect() == Dialect::Sqlite {
        // SQLite has one writer.
        return Ok(());
    }
    let sql = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))";
    tx.db().execute_raw(Statement::from_sql_and_values(tx.db().get_database_backend(), sql, [name.into()])).await?;
    Ok(())
}
