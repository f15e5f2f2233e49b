//! What Helm made of a chart, as text: its objects, each with its kind and namespace. Only `helm template`'s own layout is
//! understood, where `kind:` is at the margin and no document begins with anything else than a line of `---`.

use std::collections::BTreeSet;

/// The objects of a chart.
#[derive(Clone, Debug)]
pub struct Rendered(String);

impl Rendered {
    pub(crate) const fn new(text: String) -> Self {
        Self(text)
    }

    /// All of it.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }

    /// Only the objects of some kinds, for example `["ServiceAccount", "ClusterRole"]`.
    #[must_use]
    pub fn of_kinds(&self, kinds: &[&str]) -> String {
        let chosen =
            |document: &&str| kinds.iter().any(|kind| document.lines().any(|line| line == format!("kind: {kind}")));
        let documents: Vec<_> = self.0.split("\n---\n").filter(chosen).collect();
        documents.join("\n---\n")
    }

    /// Every namespace that is named anywhere in it.
    #[must_use]
    pub fn namespaces(&self) -> BTreeSet<String> {
        let words = self.0.split([' ', '\n', ',', '{', '}']).collect::<Vec<_>>();
        let named = words.windows(2).filter_map(|pair| match pair {
            &["namespace:", name] => Some(name.trim_matches('"').to_owned()),
            _ => None,
        });
        named.filter(|name| !name.is_empty()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "---\nkind: Role\nmetadata:\n  namespace: a\n---\nkind: Secret\nmetadata: {name: s, namespace: \"b\"}\n";

    #[test]
    fn kinds_are_chosen_by_whole_documents() {
        let rendered = Rendered::new(TEXT.to_owned());
        assert_eq!(rendered.of_kinds(&["Secret"]), "kind: Secret\nmetadata: {name: s, namespace: \"b\"}\n");
        assert!(rendered.of_kinds(&["Ro"]).is_empty());
    }

    #[test]
    fn namespaces_are_found_in_both_notations() {
        let found = Rendered::new(TEXT.to_owned()).namespaces();
        assert_eq!(found.into_iter().collect::<Vec<_>>(), ["a", "b"]);
    }
}
