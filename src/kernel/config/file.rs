//! Settings from a TOML file. They replace the flags' defaults, so that flags and the environment
//! take precedence and an invalid value is reported like a flag's.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::builder::{OsStr, Resettable};
use clap::{Args, Command, CommandFactory, FromArgMatches};
use toml::{Table, Value};

use super::{Cli, Config, LogFormat};
use crate::kernel::secret::hidden;

/// The failure of [`read`].
#[derive(Debug)]
pub struct Unreadable {
    /// The problem, or the help that was asked for.
    pub error: clap::Error,
    /// The format in which to report it.
    pub format: LogFormat,
}

impl Unreadable {
    /// The message; it may quote a URL, whose password is left out.
    pub fn message(&self) -> String {
        hidden(&self.error.render().to_string())
    }
}

/// Reads the command line, the environment and the file. Fails on invalid input, and with the help
/// if that was asked for.
pub fn read() -> Result<Cli, Unreadable> {
    let args: Vec<OsString> = std::env::args_os().collect();
    // The file named by the environment must be known before the rest is read.
    let in_environment = || super::in_environment("SORTIE_CONFIG").filter(|file| !file.is_empty()).map(PathBuf::from);
    let file = flag(&args, "--config").map(PathBuf::from).or_else(in_environment);
    let format = wanted_format(&args, file.as_deref());
    read_from(args, file.as_deref()).map_err(|error| Unreadable { error, format })
}

/// The log format that was asked for, whatever else is wrong.
fn wanted_format(args: &[OsString], file: Option<&Path>) -> LogFormat {
    let in_file = || {
        let all = settings(file?).ok()?;
        all.into_iter().find(|(name, _)| name == "log-format").map(|(_, value)| value.into())
    };
    let wanted: Option<OsString> =
        flag(args, "--log-format").or_else(|| super::in_environment("SORTIE_LOG_FORMAT")).or_else(in_file);
    if wanted.is_some_and(|wanted| wanted == "json") { LogFormat::Json } else { LogFormat::Text }
}

/// Reads the given arguments and file.
pub fn read_from(args: Vec<OsString>, file: Option<&Path>) -> Result<Cli, clap::Error> {
    let mut command = without_empty(hide_unrelated(Cli::command()));
    let mut in_file = Vec::new();
    if let Some(file) = file {
        let settings = settings(file).map_err(|problem| {
            let message = format!("{}: {problem}\n", file.display());
            clap::Error::raw(clap::error::ErrorKind::InvalidValue, message)
        })?;
        command = apply_defaults(command, &settings);
        in_file = settings;
    }
    let matches = command.try_get_matches_from(&args).map_err(|err| match source(&err, &args, file, &in_file) {
        Some(source) => {
            let rendered = err.render().to_string();
            let line = rendered.lines().next().unwrap_or_default();
            clap::Error::raw(err.kind(), format!("{source}: {}\n", line.strip_prefix("error: ").unwrap_or(line)))
        }
        None => err,
    })?;
    Cli::from_arg_matches(&matches)
}

/// The source of an invalid value, if it is not the command line.
fn source(err: &clap::Error, args: &[OsString], file: Option<&Path>, in_file: &[(String, String)]) -> Option<String> {
    use clap::error::{ContextKind, ContextValue, ErrorKind};
    if !matches!(err.kind(), ErrorKind::ValueValidation | ErrorKind::InvalidValue) {
        return None;
    }
    let ContextValue::String(flag) = err.get(ContextKind::InvalidArg)? else { return None };
    let name = flag.split([' ', '=']).next()?.strip_prefix("--")?;
    let is_flag = |word: &OsString| {
        word.to_str().and_then(|word| word.strip_prefix("--")).and_then(|word| word.split('=').next()) == Some(name)
    };
    if args.iter().any(is_flag) {
        return None;
    }
    let settings = Config::augment_args(Command::new(""));
    let setting = settings.get_arguments().find(|arg| arg.get_long() == Some(name))?;
    let variable = setting.get_env().filter(|name| super::in_environment(name).is_some_and(|value| !value.is_empty()));
    match (variable, file) {
        (Some(variable), _) => Some(format!("the environment's {}", variable.to_string_lossy())),
        (None, Some(file)) if in_file.iter().any(|(known, _)| known == name) => {
            Some(format!("{}, setting `{name}`", file.display()))
        }
        _ => None,
    }
}

/// Treats empty environment variables as unset: unit files write `NAME=` for settings without a
/// value.
fn without_empty(mut command: Command) -> Command {
    let names: Vec<String> = command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
    for name in names {
        command = command.mut_subcommand(name, without_empty);
    }
    let is_empty = |arg: &&clap::Arg| {
        arg.get_env().is_some_and(|name| super::in_environment(name).is_some_and(|value| value.is_empty()))
    };
    let empty: Vec<clap::Id> = command.get_arguments().filter(is_empty).map(|arg| arg.get_id().clone()).collect();
    for id in empty {
        command = command.mut_arg(id, |arg| arg.env(Resettable::<OsStr>::Reset));
    }
    command
}

/// Limits each command's help to its own options and the settings that it uses; only servers show
/// all settings.
fn hide_unrelated(command: Command) -> Command {
    const SERVERS: [&str; 2] = ["serve", "demo"];
    const OTHERS: [&str; 4] = ["data", "database-url", "config", "log"];
    fn below(mut command: Command, known: &[clap::Id]) -> Command {
        let names: Vec<String> = command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
        for name in names.iter().filter(|name| !SERVERS.contains(&name.as_str())) {
            command = command.mut_subcommand(name, |sub| below(sub, known));
        }
        let others = |arg: &&clap::Arg| !arg.get_long().is_some_and(|long| OTHERS.contains(&long));
        let hidden: Vec<clap::Id> = command.get_arguments().filter(others).map(|arg| arg.get_id().clone()).collect();
        for id in hidden.into_iter().filter(|id| known.contains(id)) {
            command = command.mut_arg(id, |arg| arg.hide(true));
        }
        command
    }
    let settings = Config::augment_args(Command::new(""));
    let known: Vec<clap::Id> = settings.get_arguments().map(|arg| arg.get_id().clone()).collect();
    below(command, &known)
}

/// Unknown environment variables that begin like settings, with the nearest setting if there is
/// one.
pub fn unknown(names: impl Iterator<Item = OsString>) -> Vec<String> {
    /// Variables of examples, tests and the bench.
    const OTHERS: [&str; 10] = [
        "URL",
        "KEY",
        "BIN",
        "LARGE",
        "SEED",
        "KILLS",
        "FUZZ_SECONDS",
        "FAILPOINT",
        "REQUIRE_POSTGRES",
        "REQUIRE_CLIENTS",
    ];
    let settings = Config::augment_args(Command::new(""));
    let known: Vec<&str> =
        settings.get_arguments().filter_map(|arg| arg.get_env()).filter_map(|name| name.to_str()).collect();
    let odd = names.filter_map(|name| name.into_string().ok()).filter(|name| {
        name.strip_prefix("SORTIE_").is_some_and(|rest| !OTHERS.contains(&rest)) && !known.contains(&name.as_str())
    });
    let messages = odd.map(|name| {
        let near = known.iter().find(|known| known.starts_with(&name) || name.starts_with(*known));
        let near = near.map(|near| format!(": is `{near}` meant?")).unwrap_or_default();
        format!("the environment has `{name}`, which is not a setting{near}")
    });
    messages.collect()
}

/// The value of a flag like `--config` in the arguments.
fn flag(args: &[OsString], name: &str) -> Option<OsString> {
    let given = |word: &OsString| word.to_str().and_then(|word| word.strip_prefix(name)).map(str::to_owned);
    args.iter().enumerate().find_map(|(at, word)| match given(word)?.as_str() {
        "" => args.get(at + 1).cloned(),
        rest => rest.strip_prefix('=').map(OsString::from),
    })
}

fn settings(file: &Path) -> Result<Vec<(String, String)>, String> {
    let text = std::fs::read_to_string(file).map_err(|err| err.to_string())?;
    // Without the line itself, which may contain a password.
    let line = |err: &toml::de::Error| {
        let before = err.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        before.matches('\n').count() + 1
    };
    let table: Table =
        text.parse().map_err(|err: toml::de::Error| format!("line {}: {}", line(&err), err.message()))?;
    let known: Vec<String> = Config::augment_args(Command::new(""))
        .get_arguments()
        .filter_map(|arg| arg.get_long().map(str::to_owned))
        .collect();
    let mut all = Vec::new();
    for (key, value) in table {
        let name = key.replace('_', "-");
        if name == "config" || !known.contains(&name) {
            let known: Vec<&str> = known.iter().map(String::as_str).filter(|name| *name != "config").collect();
            return Err(format!("there is no setting `{key}`; there are {}", known.join(", ")));
        }
        all.push((
            name,
            written(&value).ok_or_else(|| format!("`{key}` must be a text, a number, or a list of texts"))?,
        ));
    }
    Ok(all)
}

fn written(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Boolean(yes) => Some(yes.to_string()),
        Value::Array(items) => {
            let items: Option<Vec<&str>> = items.iter().map(Value::as_str).collect();
            items.map(|items| items.join(","))
        }
        Value::Float(_) | Value::Datetime(_) | Value::Table(_) => None,
    }
}

/// Sets the settings as defaults of every command that has them.
fn apply_defaults(mut command: Command, settings: &[(String, String)]) -> Command {
    let names: Vec<String> = command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
    for name in names {
        command = command.mut_subcommand(name, |sub| apply_defaults(sub, settings));
    }
    for (name, value) in settings {
        let found = command.get_arguments().find(|arg| arg.get_long() == Some(name)).map(|arg| arg.get_id().clone());
        if let Some(id) = found {
            // Values that are hidden in the environment are hidden in the file, too.
            command = command.mut_arg(id, |arg| {
                let secret = arg.is_hide_env_values_set();
                arg.default_value(value.clone()).hide_default_value(secret)
            });
        }
    }
    command
}
