//! What became of every plugin: nothing is skipped without a word. The table is what `kvasir check` prints.

use std::fmt::Write as _;

/// What becomes of a plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It does what it does in llm-d.
    Executed,
    /// Something of ours does its work; what.
    Replaced(String),
    /// Its parameters are checked and kept; what it will be for.
    Kept(String),
    /// Nothing in the document uses it; why.
    Unused(String),
}

/// One plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// As the document calls it.
    pub name: String,
    /// Its type.
    pub kind: String,
    /// Did llm-d's defaults add it?
    pub added: bool,
    /// What becomes of it.
    pub fate: Fate,
}

/// All plugins, in the order of the document, added ones last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// One per plugin.
    pub rows: Vec<Row>,
    /// What else somebody should know: deprecated spellings, sections without effect.
    pub notes: Vec<String>,
}

impl Fate {
    pub(super) fn replaced(by: &str) -> Self {
        Self::Replaced(by.to_owned())
    }

    pub(super) fn kept(what: &str) -> Self {
        Self::Kept(what.to_owned())
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Executed => "executed as it is".to_owned(),
            Self::Replaced(by) => format!("replaced by {by}"),
            Self::Kept(what) => format!("kept, not in force yet: {what}"),
            Self::Unused(why) => format!("not used: {why}"),
        }
    }
}

impl Report {
    /// What to warn of at load: plugins of the document that are not in force, and notes.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let idle = |row: &&Row| !row.added && matches!(row.fate, Fate::Kept(_) | Fate::Unused(_));
        let rows = self.rows.iter().filter(idle).map(|row| format!("plugin {}: {}", row.name, row.fate.text()));
        rows.chain(self.notes.iter().cloned()).collect()
    }

    /// A table, each line behind `margin`.
    #[must_use]
    pub fn table(&self, margin: &str) -> String {
        let cells: Vec<(String, String)> = self.rows.iter().map(|row| (row.label(), row.fate.text())).collect();
        let width = cells.iter().map(|(label, _)| label.chars().count()).max().unwrap_or_default();
        let mut out = String::new();
        for (label, fate) in cells {
            // Writing into a String cannot fail.
            let _written = writeln!(out, "{margin}{label:width$}  {fate}");
        }
        for note in &self.notes {
            let _written = writeln!(out, "{margin}note: {note}");
        }
        out
    }
}

impl Row {
    fn label(&self) -> String {
        match (self.name == self.kind, self.added) {
            (_, true) => format!("{} [added]", self.kind),
            (true, false) => self.name.clone(),
            (false, false) => format!("{} ({})", self.name, self.kind),
        }
    }
}
