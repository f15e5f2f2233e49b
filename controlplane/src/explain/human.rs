//! An explanation as a table for people, pure. It reads the API's JSON, so that it shows what any control plane answers.

use std::fmt::Write as _;

use serde_json::Value;

/// Heading and field of each column behind the endpoint.
const COLUMNS: [(&str, &str); 13] = [
    ("cost", "cost_ms"),
    ("own ttft", "own_ttft_ms"),
    ("queue harm", "queue_harm_ms"),
    ("stall", "stall_ms"),
    ("decode harm", "decode_harm_ms"),
    ("preemption", "preemption_risk_ms"),
    ("cached", "matched_tokens"),
    ("reload", "reload_tokens"),
    ("uncached", "uncached_tokens"),
    ("waiting", "waiting"),
    ("decoding", "decoding"),
    ("queued", "queued_tokens"),
    ("kv used", "kv_used"),
];

/// The explanation in words; `source` says who gave it.
#[must_use]
pub fn table(explanation: &Value, source: &str) -> String {
    let mut out = String::new();
    // Writing into a String cannot fail.
    let _written = header(&mut out, explanation, source);
    let scorers = scorers(explanation);
    let mut rows = vec![heading(&scorers)];
    rows.extend(list(explanation, "candidates").map(|row| candidate(row, &scorers)));
    align(&mut out, &rows);
    let mut dropped = list(explanation, "dropped").peekable();
    if dropped.peek().is_some() {
        out.push_str("\nnot weighed:\n");
    }
    for endpoint in dropped {
        let _written = writeln!(out, "  {}  {}", text(endpoint, "endpoint"), text(endpoint, "reason"));
    }
    let _written = write!(
        out,
        "\ncost, in ms = own ttft (this request's first token) + queue harm (those behind it) + stall (of running \
         decodes)\n  + decode harm (longer steps) + preemption (risk); cached, reload, uncached, queued in tokens\n"
    );
    out
}

fn header(out: &mut String, explanation: &Value, source: &str) -> std::fmt::Result {
    writeln!(out, "{source}")?;
    writeln!(out, "pool         {} (table version {})", text(explanation, "pool"), text(explanation, "table_version"))?;
    if let Some(client) = explanation["rewritten_from"].as_str() {
        writeln!(out, "model        {} (asked for as {client})", text(explanation, "model"))?;
    } else if let Some(model) = explanation["model"].as_str() {
        writeln!(out, "model        {model}")?;
    }
    writeln!(out, "prompt       {} tokens", text(explanation, "prompt_tokens"))?;
    writeln!(out, "prefix       {}", text(explanation, "prefix"))?;
    let how = match explanation["decided_by"].as_str() {
        Some("session") => "its session".to_owned(),
        Some("profile") => {
            format!("the scheduling profile {}; the score is what decides", text(explanation, "profile"))
        }
        Some("last_resort") => "cost, among endpoints of last resort".to_owned(),
        _ => format!("cost; costs within {} ms of the least are equal", text(explanation, "band_ms")),
    };
    writeln!(out, "decided by   {how}")?;
    writeln!(out, "destination  {}\n", text(explanation, "destination"))
}

/// Names of the profile's scorers; none where the cost decides.
fn scorers(explanation: &Value) -> Vec<String> {
    let first = list(explanation, "candidates").find_map(|row| row.get("scores")?.as_object());
    first.map(|scores| scores.keys().cloned().collect()).unwrap_or_default()
}

fn heading(scorers: &[String]) -> Vec<String> {
    let mut row = vec!["choice".to_owned(), "endpoint".to_owned()];
    if !scorers.is_empty() {
        row.push("score".to_owned());
        row.extend_from_slice(scorers);
    }
    row.extend(COLUMNS.map(|(heading, _)| heading.to_owned()));
    row
}

fn candidate(row: &Value, scorers: &[String]) -> Vec<String> {
    let mut cells = vec![text(row, "choice"), text(row, "endpoint")];
    if !scorers.is_empty() {
        cells.push(text(row, "score"));
        cells.extend(scorers.iter().map(|scorer| text(&row["scores"], scorer)));
    }
    cells.extend(COLUMNS.map(|(_, field)| text(row, field)));
    cells
}

/// Endpoints to the left, numbers to the right.
fn align(out: &mut String, rows: &[Vec<String>]) {
    let mut widths = vec![0; rows.first().map_or(0, Vec::len)];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.len());
        }
    }
    for row in rows {
        for (index, (&width, cell)) in widths.iter().zip(row).enumerate() {
            let gap = if index == 0 { "" } else { "  " };
            // Writing into a String cannot fail.
            let _written =
                if index == 1 { write!(out, "{gap}{cell:<width$}") } else { write!(out, "{gap}{cell:>width$}") };
        }
        out.push('\n');
    }
}

fn list<'a>(explanation: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    explanation.get(field).and_then(Value::as_array).into_iter().flatten()
}

/// A field as it is shown; `-` when it is not there.
fn text(object: &Value, field: &str) -> String {
    match object.get(field) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_line_up_and_missing_fields_are_dashes() {
        let explanation = json!({
            "destination": "10.0.0.1:80", "pool": "p", "table_version": 3, "prompt_tokens": 12.5, "band_ms": 0.0,
            "decided_by": "cost",
            "candidates": [
                {"endpoint": "10.0.0.1:80", "choice": 1, "cost_ms": 1.5},
                {"endpoint": "10.0.0.20:8000", "cost_ms": 1234.5},
            ],
            "dropped": [{"endpoint": "10.0.0.3:80", "reason": "draining"}],
        });
        let table = table(&explanation, "from a test");
        let rows: Vec<&str> = table.lines().filter(|line| line.contains("10.0.0.")).collect();
        assert_eq!(rows[0], "destination  10.0.0.1:80");
        assert!(rows[1].starts_with("     1  10.0.0.1:80        1.5         -"), "{:?}", rows[1]);
        assert!(rows[2].starts_with("     -  10.0.0.20:8000  1234.5         -"), "{:?}", rows[2]);
        assert_eq!(rows[3], "  10.0.0.3:80  draining");
    }

    #[test]
    fn a_profiles_scores_come_first() {
        let scores = json!({"prefix-cache-scorer": 0.5, "queue-scorer": 1.0});
        let explanation = json!({
            "decided_by": "profile", "profile": "default",
            "candidates": [{"endpoint": "10.0.0.1:80", "choice": 1, "score": 3.5, "scores": scores, "cost_ms": 1.5}],
        });
        let table = table(&explanation, "from a test");
        assert!(table.contains("the scheduling profile default"), "{table}");
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let lines: Vec<_> =
            table.lines().filter(|line| line.contains("prefix-cache-scorer") || line.contains("0.1:80")).collect();
        assert_eq!(words(lines[0])[..5], ["choice", "endpoint", "score", "prefix-cache-scorer", "queue-scorer"]);
        assert_eq!(words(lines[1])[..6], ["1", "10.0.0.1:80", "3.5", "0.5", "1.0", "1.5"]);
    }
}
