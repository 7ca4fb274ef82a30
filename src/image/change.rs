//! Changes to how an image is run, as instructions of a Dockerfile: what `import --change` and `commit --change` take.

mod words;

use super::config::RunConfig;
use super::format::printable;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use words::{expand, words};

/// The instructions that change a configuration; the others make layers or belong to a build.
const INSTRUCTIONS: &str =
    "CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME and WORKDIR";

/// Why an instruction cannot be followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("change '{instruction}': {why}")]
pub struct ChangeError {
    /// As given, with control characters made visible.
    pub instruction: String,
    /// What is wrong with it.
    pub why: String,
}

/// Follows the instructions in their order. `$NAME` and `${NAME}` stand for variables of the image's environment, as in a
/// Dockerfile.
///
/// # Errors
/// For the first instruction that cannot be followed; those before it have taken effect.
pub fn apply<T: AsRef<str>>(config: &mut RunConfig, instructions: &[T]) -> Result<(), ChangeError> {
    let mut command_set = false;
    for instruction in instructions {
        let text = instruction.as_ref().trim();
        let (name, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let name = name.to_ascii_uppercase();
        command_set |= name == "CMD";
        follow(config, &name, rest.trim(), command_set)
            .map_err(|why| ChangeError { instruction: printable(text), why })?;
    }
    Ok(())
}

fn follow(config: &mut RunConfig, name: &str, rest: &str, command_set: bool) -> Result<(), String> {
    if rest.is_empty() && !name.is_empty() && INSTRUCTIONS.split([',', ' ']).any(|known| known == name) {
        return Err(format!("there is nothing after {name}"));
    }
    let env = config.env.clone().unwrap_or_default();
    match name {
        "CMD" => config.cmd = Some(command(rest)),
        "ENTRYPOINT" => {
            config.entrypoint = Some(command(rest));
            // The arguments were those of another program.
            if !command_set {
                config.cmd = None;
            }
        }
        "ENV" => {
            for (name, value) in pairs(rest, &env)? {
                let all = config.env.get_or_insert_default();
                all.retain(|old| old.split('=').next() != Some(name.as_str()));
                all.push(format!("{name}={value}"));
            }
        }
        "LABEL" => config.labels.get_or_insert_default().extend(pairs(rest, &env)?),
        "EXPOSE" => {
            for word in words(rest, &env)? {
                config.exposed_ports.get_or_insert_default().extend(ports(&word)?);
            }
        }
        "VOLUME" => {
            let paths = exec_form(rest).map_or_else(|| words(rest, &env), Ok)?;
            config.volumes.get_or_insert_default().extend(paths.into_iter().map(|path| (path, json!({}))));
        }
        "USER" => config.user = Some(expand(rest, &env)?),
        "STOPSIGNAL" => config.stop_signal = Some(expand(rest, &env)?),
        "WORKDIR" => config.working_dir = Some(directory(config.working_dir.as_deref(), &expand(rest, &env)?)),
        "HEALTHCHECK" => config.healthcheck = Some(health_check(rest)?),
        "ONBUILD" => match config.extra.entry("OnBuild").or_insert(Value::Null) {
            Value::Array(list) => list.push(rest.into()),
            other => *other = json!([rest]),
        },
        _ => return Err(format!("{} is none of {INSTRUCTIONS}", if name.is_empty() { "nothing" } else { name })),
    }
    Ok(())
}

/// `["a", "b"]`.
fn exec_form(text: &str) -> Option<Vec<String>> {
    text.starts_with('[').then(|| serde_json::from_str(text).ok())?
}

/// A list of words, or a line for the shell.
fn command(text: &str) -> Vec<String> {
    exec_form(text).unwrap_or_else(|| vec!["/bin/sh".into(), "-c".into(), text.into()])
}

/// `NAME=value ...`, or the older `NAME value`.
fn pairs(text: &str, env: &[String]) -> Result<BTreeMap<String, String>, String> {
    // A quoted name may hold blanks. What does not end as words do can be the older form: ENV NAME don't.
    let parsed = words(text, env);
    let first = parsed.as_ref().map_or_else(|_| text.split_whitespace().next(), |all| all.first().map(String::as_str));
    if !first.is_some_and(|word| word.contains('=')) {
        let (name, value) = text.split_once(char::is_whitespace).ok_or("there is no value; write NAME=value")?;
        return Ok([(name.to_owned(), expand(value.trim(), env)?)].into());
    }
    let pair = |word: String| match word.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("'{word}' is not of the form NAME=value")),
    };
    parsed?.into_iter().map(pair).collect()
}

/// `80`, `53/udp`, `8000-8010/tcp`.
fn ports(word: &str) -> Result<BTreeMap<String, Value>, String> {
    let (numbers, protocol) = word.split_once('/').unwrap_or((word, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    let (first, last) = numbers.split_once('-').unwrap_or((numbers, numbers));
    let number = |text: &str| text.parse::<u16>().ok().filter(|n| *n > 0);
    match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last && ["tcp", "udp", "sctp"].contains(&protocol.as_str()) => {
            Ok((first..=last).map(|n| (format!("{n}/{protocol}"), json!({}))).collect())
        }
        _ => Err(format!("'{word}' is not a port; write PORT or PORT/PROTOCOL, as in 53/udp")),
    }
}

/// A directory, which may be relative to the one before.
fn directory(before: Option<&str>, path: &str) -> String {
    let whole = if path.starts_with('/') { path.to_owned() } else { format!("{}/{path}", before.unwrap_or("/")) };
    let mut parts = Vec::new();
    for part in whole.split('/').filter(|part| !part.is_empty() && *part != ".") {
        match part {
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// `NONE`, or `[--interval=30s] [--timeout=..] [--start-period=..] [--start-interval=..] [--retries=N] CMD command`.
fn health_check(mut text: &str) -> Result<Value, String> {
    if text.eq_ignore_ascii_case("none") {
        return Ok(json!({"Test": ["NONE"]}));
    }
    let mut check = json!({});
    while let Some(option) = text.strip_prefix("--") {
        let (option, rest) = option.split_once(char::is_whitespace).ok_or("CMD and a command are missing")?;
        let (name, value) = option.split_once('=').ok_or_else(|| format!("--{option} has no value"))?;
        match name {
            "interval" => check["Interval"] = nanoseconds(value)?.into(),
            "timeout" => check["Timeout"] = nanoseconds(value)?.into(),
            "start-period" => check["StartPeriod"] = nanoseconds(value)?.into(),
            "start-interval" => check["StartInterval"] = nanoseconds(value)?.into(),
            "retries" => {
                check["Retries"] = value.parse::<u32>().map_err(|_| format!("'{value}' is not a number"))?.into()
            }
            _ => return Err(format!("there is no option --{name}")),
        }
        text = rest.trim_start();
    }
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    if !word.eq_ignore_ascii_case("cmd") || rest.trim().is_empty() {
        return Err("it is neither NONE nor CMD with a command".into());
    }
    let rest = rest.trim();
    check["Test"] = match exec_form(rest) {
        Some(list) => [vec!["CMD".to_owned()], list].concat().into(),
        None => json!(["CMD-SHELL", rest]),
    };
    Ok(check)
}

/// A duration in Go's words: `1m30s`, `500ms`, `1.5h`.
fn nanoseconds(text: &str) -> Result<u64, String> {
    let bad = || format!("'{text}' is not a duration; write it as in 1m30s");
    let (mut rest, mut sum) = (text, 0.0);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(bad)?;
        let number: f64 = rest[..digits].parse().map_err(|_| bad())?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let unit = match &rest[..letters] {
            "ns" => 1.0,
            "us" | "µs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return Err(bad()),
        };
        rest = &rest[letters..];
        sum += number * unit;
    }
    // Above 292 years i64 of Go is at its end.
    if text.is_empty() || sum > 9.2e18 {
        return Err(bad());
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is between 0 and 9.2e18")]
    Ok(sum as u64)
}

#[cfg(test)]
mod tests;
