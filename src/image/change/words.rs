//! The words of a Dockerfile's line: quotes, backslashes, variables.

use std::iter::Peekable;
use std::str::Chars;

/// Splits at white space outside of quotes, and resolves quotes, backslashes and variables.
pub(super) fn words(text: &str, env: &[String]) -> Result<Vec<String>, String> {
    Ok(split(text, env, true)?.into_iter().filter_map(|(word, there)| there.then_some(word)).collect())
}

/// Resolves quotes, backslashes and variables in one text.
pub(super) fn expand(text: &str, env: &[String]) -> Result<String, String> {
    Ok(split(text, env, false)?.into_iter().map(|(word, _)| word).collect())
}

/// Words, and whether there is anything of each: `""` is a word.
fn split(text: &str, env: &[String], at_blanks: bool) -> Result<Vec<(String, bool)>, String> {
    let mut found = vec![(String::new(), false)];
    let mut quote = None;
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        if quote.is_none() && at_blanks && c.is_whitespace() {
            found.push((String::new(), false));
            continue;
        }
        let Some((word, there)) = found.last_mut() else { break };
        *there = true;
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '"' | '\'') => quote = Some(c),
            (Some('\''), c) => word.push(c),
            (None, '\\') => word.extend(rest.next()),
            // In double quotes it only takes these their meaning.
            (_, '\\') => match rest.next_if(|next| ['"', '$', '\\'].contains(next)) {
                Some(next) => word.push(next),
                None => word.push('\\'),
            },
            (_, '$') => word.push_str(&variable(&mut rest, env)?),
            (_, c) => word.push(c),
        }
    }
    if let Some(open) = quote {
        return Err(format!("a {open} is not closed"));
    }
    Ok(found)
}

/// What follows a `$`: `NAME`, `{NAME}`, `{NAME:-default}` or `{NAME:+instead}`; one that is not set is empty.
fn variable(rest: &mut Peekable<Chars<'_>>, env: &[String]) -> Result<String, String> {
    let is_name = |c: &char| c.is_ascii_alphanumeric() || *c == '_';
    let value = |name: &str| {
        let values = env.iter().filter_map(|pair| pair.split_once('='));
        values.filter(|(key, _)| *key == name).map(|(_, value)| value.to_owned()).next_back().unwrap_or_default()
    };
    let take_name = |rest: &mut Peekable<Chars<'_>>| std::iter::from_fn(|| rest.next_if(is_name)).collect::<String>();
    if rest.next_if_eq(&'{').is_none() {
        let name = take_name(rest);
        return Ok(if name.is_empty() { "$".into() } else { value(&name) });
    }
    let name = take_name(rest);
    let inner: String = rest.by_ref().take_while(|c| *c != '}').collect();
    let value = value(&name);
    match inner.split_at_checked(2) {
        _ if name.is_empty() => Err("there is no name in ${}".into()),
        None if inner.is_empty() => Ok(value),
        Some((":-", default)) => Ok(if value.is_empty() { default.to_owned() } else { value }),
        Some((":+", instead)) => Ok(if value.is_empty() { value } else { instead.to_owned() }),
        _ => Err(format!(
            "${{{name}{inner}}} is not understood; write ${{NAME}}, ${{NAME:-default}} or ${{NAME:+instead}}"
        )),
    }
}
