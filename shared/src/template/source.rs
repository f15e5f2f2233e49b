//! What has to change in a template's source before the engine takes it. Everything stays on its line; behind a changed tag,
//! columns of that line move.
//!
//! - `{% generation %}` (transformers' mark for the assistant's words) becomes a `with` block: nothing printed, a scope of its
//!   own.
//! - Jinja keeps a newline behind `{% raw %}`, the engine trims it: it is told to keep it.

use std::borrow::Cow;

/// The source that the engine is given.
pub(super) fn adapted(source: &str) -> Cow<'_, str> {
    if !source.contains("generation") && !source.contains("raw") {
        return Cow::Borrowed(source);
    }
    let mut out = String::with_capacity(source.len() + 16);
    let mut rest = source;
    while let Some(start) = next_tag(rest) {
        let (text, tag) = rest.split_at(start);
        out.push_str(text);
        let end = match tag.get(..2) {
            Some("{#") => tag.find("#}").map_or(tag.len(), |at| at + 2),
            Some("{%") => {
                let end = tag_end(tag, "%}");
                write_block_tag(&mut out, tag.get(..end).unwrap_or_default());
                rest = tag.get(end..).unwrap_or_default();
                if block_name(tag) == "raw" {
                    rest = copy_raw(&mut out, rest);
                }
                continue;
            }
            _ => tag_end(tag, "}}"),
        };
        out.push_str(tag.get(..end).unwrap_or_default());
        rest = tag.get(end..).unwrap_or_default();
    }
    out.push_str(rest);
    Cow::Owned(out)
}

fn next_tag(text: &str) -> Option<usize> {
    let mut from = 0;
    loop {
        let at = from + text.get(from..)?.find('{')?;
        if text.as_bytes().get(at + 1).is_some_and(|next| matches!(next, b'{' | b'%' | b'#')) {
            return Some(at);
        }
        from = at + 1;
    }
}

/// Where the tag that `text` starts with ends; `closing` within a string or a dict does not count.
fn tag_end(text: &str, closing: &str) -> usize {
    let mut quote = None;
    let mut is_escaped = false;
    let mut braces = 0_usize;
    for (at, letter) in text.char_indices().skip(2) {
        match quote {
            Some(_) if is_escaped => is_escaped = false,
            Some(_) if letter == '\\' => is_escaped = true,
            Some(mark) if letter == mark => quote = None,
            Some(_) => {}
            None if braces == 0 && text.get(at..).is_some_and(|rest| rest.starts_with(closing)) => {
                return at + closing.len();
            }
            None => match letter {
                '\'' | '"' => quote = Some(letter),
                '{' => braces += 1,
                '}' => braces = braces.saturating_sub(1),
                _ => {}
            },
        }
    }
    text.len()
}

fn block_name(tag: &str) -> &str {
    let inner = tag.get(2..).unwrap_or_default().trim_start_matches(['-', '+']).trim_start();
    let end = inner.find(|letter: char| !(letter.is_alphanumeric() || letter == '_')).unwrap_or(inner.len());
    inner.get(..end).unwrap_or_default()
}

fn write_block_tag(out: &mut String, tag: &str) {
    let replaced = match block_name(tag) {
        "generation" => tag.replacen("generation", "with", 1),
        "endgeneration" => tag.replacen("endgeneration", "endwith", 1),
        "raw" if !tag.ends_with("-%}") && !tag.ends_with("+%}") => tag.replacen("%}", "+%}", 1),
        _ => return out.push_str(tag),
    };
    out.push_str(&replaced);
}

/// Copies to the end of a raw block; answers what is behind it.
fn copy_raw<'s>(out: &mut String, text: &'s str) -> &'s str {
    let mut from = 0;
    while let Some(at) = text.get(from..).and_then(|rest| rest.find("{%")).map(|at| from + at) {
        let tag = text.get(at..).unwrap_or_default();
        if block_name(tag) == "endraw" {
            let end = at + tag.find("%}").map_or(tag.len(), |end| end + 2);
            out.push_str(text.get(..end).unwrap_or_default());
            return text.get(end..).unwrap_or_default();
        }
        from = at + 2;
    }
    out.push_str(text);
    ""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tags_change() {
        for (source, expected) in [
            ("{%- generation -%}x{% endgeneration %}", "{%- with -%}x{% endwith %}"),
            (
                "generation {{ 'generation' }} {# {% generation %} #}",
                "generation {{ 'generation' }} {# {% generation %} #}",
            ),
            (
                "{{ '{% generation %}' }}{% set x = '%}{% generation %}' %}",
                "{{ '{% generation %}' }}{% set x = '%}{% generation %}' %}",
            ),
            (
                "{% raw %}\n{% generation %}{{ ' {% endraw %}{% generation %}",
                "{% raw +%}\n{% generation %}{{ ' {% endraw %}{% with %}",
            ),
            ("{%- raw -%} x {%- endraw -%}", "{%- raw -%} x {%- endraw -%}"),
            ("{% set x = {'a': {'b': 1}} %}{% generation %}", "{% set x = {'a': {'b': 1}} %}{% with %}"),
            ("{% generation", "{% with"),
            ("raw {% raw %}", "raw {% raw +%}"),
            ("{", "{"),
        ] {
            assert_eq!(adapted(source), expected);
        }
    }
}
