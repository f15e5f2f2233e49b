//! Prometheus and OpenMetrics text → samples, without copying. A line that does not parse is skipped, never an error:
//! one odd series of an engine must not hide the rest. Values and labels are parsed only when asked for.

use std::borrow::Cow;

/// One series' value as it stands in the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample<'a> {
    /// Name, suffixes such as `_total` included.
    pub name: &'a str,
    labels: &'a str,
    value: &'a str,
}

impl<'a> Sample<'a> {
    /// The value; NaN and infinities are values too. `None` when the text is not a number.
    #[must_use]
    pub fn value(&self) -> Option<f64> {
        self.value.parse().ok()
    }

    /// The labels in their order.
    #[must_use]
    pub const fn labels(&self) -> Labels<'a> {
        Labels { rest: self.labels }
    }

    /// The value of one label.
    #[must_use]
    pub fn label(&self, name: &str) -> Option<Cow<'a, str>> {
        self.labels().find(|(key, _)| *key == name).map(|(_, value)| value)
    }
}

/// The samples of `text`, in its order.
pub fn samples(text: &str) -> impl Iterator<Item = Sample<'_>> {
    text.lines().filter_map(sample)
}

fn sample(line: &str) -> Option<Sample<'_>> {
    let line = line.trim_matches([' ', '\t', '\r']);
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let end = line.find(['{', ' ', '\t'])?;
    let (name, rest) = line.split_at_checked(end)?;
    if name.is_empty() {
        return None;
    }
    let (labels, rest) = match rest.trim_start_matches([' ', '\t']).strip_prefix('{') {
        Some(inside) => {
            let close = closing_brace(inside)?;
            (inside.get(..close)?, inside.get(close + 1..)?)
        }
        None => ("", rest),
    };
    let value = rest.split([' ', '\t']).find(|word| !word.is_empty())?;
    Some(Sample { name, labels, value })
}

/// Where the `}` is that is not inside a quoted value.
fn closing_brace(inside: &str) -> Option<usize> {
    let mut quoted = false;
    let mut escaped = false;
    for (at, byte) in inside.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'}' if !quoted => return Some(at),
            _ => {}
        }
    }
    None
}

/// Labels of one sample; ends early where the text is malformed.
#[derive(Clone, Debug)]
pub struct Labels<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Labels<'a> {
    type Item = (&'a str, Cow<'a, str>);

    fn next(&mut self) -> Option<Self::Item> {
        let text = self.rest.trim_start_matches([' ', '\t', ',']);
        let (name, rest) = text.split_once('=')?;
        let quoted = rest.trim_start_matches([' ', '\t']).strip_prefix('"')?;
        let end = closing_quote(quoted)?;
        self.rest = quoted.get(end + 1..)?;
        Some((name.trim_matches([' ', '\t']), unescape(quoted.get(..end)?)))
    }
}

fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    })
}

fn unescape(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, c == '\\') {
            (_, true) => match chars.next() {
                Some('n') => plain.push('\n'),
                Some(other @ ('"' | '\\')) => plain.push(other),
                Some(other) => plain.extend(['\\', other]),
                None => plain.push('\\'),
            },
            (c, false) => plain.push(c),
        }
    }
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_labels_and_values_of_both_formats() {
        let text = "# HELP a help {x=\"1\"} 3\n# TYPE a gauge\na 1\nb{} 2.5e3 1700000000\r\n\
                    c_total{x=\"1\", y = \"two\" ,} +Inf # {trace=\"t\"} 1\n  d\t{z=\"}\"}\tNaN\n# EOF\n";
        let got: Vec<(&str, Option<f64>)> = samples(text).map(|s| (s.name, s.value())).collect();
        assert_eq!(got.len(), 4);
        assert_eq!(got[0], ("a", Some(1.0)));
        assert_eq!(got[1], ("b", Some(2500.0)));
        assert_eq!(got[2], ("c_total", Some(f64::INFINITY)));
        assert!(got[3].0 == "d" && got[3].1.is_some_and(f64::is_nan));
        let labels: Vec<_> = samples(text).nth(2).unwrap().labels().map(|(k, v)| (k, v.into_owned())).collect();
        assert_eq!(labels, [("x", "1".to_owned()), ("y", "two".to_owned())]);
    }

    #[test]
    fn braces_commas_and_escapes_inside_values_are_text() {
        let line = r#"m{a="x}y,\"z\"",b="c:\\d\ne",c="ü"} 7"#;
        let sample = samples(line).next().unwrap();
        assert_eq!(sample.label("a").unwrap(), "x}y,\"z\"");
        assert_eq!(sample.label("b").unwrap(), "c:\\d\ne");
        assert_eq!(sample.label("c").unwrap(), "ü");
        assert!(matches!(sample.label("c"), Some(Cow::Borrowed(_))));
        assert_eq!(sample.value(), Some(7.0));
        assert_eq!(sample.label("none"), None);
    }

    #[test]
    fn malformed_lines_are_skipped_and_the_rest_is_read() {
        let text = "a\nb{x=\"1\" 2\n{x=\"1\"} 3\nc{x=1} 4\nd 5";
        let got: Vec<(&str, Option<f64>)> = samples(text).map(|s| (s.name, s.value())).collect();
        assert_eq!(got, [("c", Some(4.0)), ("d", Some(5.0))]);
        assert_eq!(samples("c{x=1} 4").next().unwrap().labels().count(), 0);
        assert_eq!(samples("e x").next().unwrap().value(), None);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[ -~\n{}\"\\\\=,#é]{0,200}") {
            for sample in samples(&text) {
                let _read = (sample.value(), sample.labels().count());
            }
        }

        #[test]
        fn what_is_written_is_read(
            name in "[a-z_:][a-z0-9_:]{0,20}",
            labels in proptest::collection::vec(("[a-z_]{1,8}", "[ -~\n\\\\\"}{,é]{0,12}"), 0..5),
            value in -1e12_f64..1e12,
        ) {
            let escape = |v: &str| v.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let written: Vec<String> = labels.iter().map(|(k, v)| format!("{k}=\"{}\"", escape(v))).collect();
            let line = format!("{name}{{{}}} {value}", written.join(","));
            let sample = samples(&line).next().unwrap();
            prop_assert_eq!(sample.name, name);
            prop_assert_eq!(sample.value(), Some(value));
            let read: Vec<(String, String)> = sample.labels().map(|(k, v)| (k.to_owned(), v.into_owned())).collect();
            prop_assert_eq!(read, labels);
        }
    }
}
