//! Whether a template takes a message's content as text or as a list of parts. vLLM decides it by looking for a loop over a
//! message's content in the template, and so do we, by the same rules: what an alias of the content loops over does not count.

use std::collections::BTreeSet;

use minijinja::machinery::ast::{Expr, ForLoop, Set, Stmt};
use minijinja::machinery::parse;
use minijinja::syntax::SyntaxConfig;

/// What a template expects a message's `content` to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentFormat {
    /// A string: the texts of all parts, with a newline between them.
    Text,
    /// A list of parts, each with a `type`.
    Parts,
}

impl ContentFormat {
    /// What the template loops over; `Text` when it does not parse.
    pub(super) fn detect(source: &str) -> Self {
        let Ok(root) = parse(source, "chat", SyntaxConfig::default()) else { return Self::Text };
        let mut found = Found::default();
        found.visit(std::slice::from_ref(&root));
        let conversations = found.aliases_of("messages");
        let messages: BTreeSet<&str> = found
            .loops
            .iter()
            .filter(|over| conversations.iter().any(|name| reads(&over.iter, name, None)))
            .filter_map(|over| variable(&over.target))
            .collect();
        let is_loop = |over: &&ForLoop| {
            variable(&over.target).is_some() && messages.iter().any(|name| reads(&over.iter, name, Some("content")))
        };
        if found.loops.iter().any(is_loop) { Self::Parts } else { Self::Text }
    }
}

#[derive(Default)]
struct Found<'t> {
    assignments: Vec<&'t Set<'t>>,
    loops: Vec<&'t ForLoop<'t>>,
}

impl<'t> Found<'t> {
    fn visit(&mut self, statements: &'t [Stmt<'t>]) {
        for statement in statements {
            match statement {
                Stmt::Template(found) => self.visit(&found.children),
                Stmt::ForLoop(found) => {
                    self.loops.push(found);
                    self.visit(&found.body);
                    self.visit(&found.else_body);
                }
                Stmt::IfCond(found) => {
                    self.visit(&found.true_body);
                    self.visit(&found.false_body);
                }
                Stmt::WithBlock(found) => self.visit(&found.body),
                Stmt::Set(found) => self.assignments.push(found),
                Stmt::SetBlock(found) => self.visit(&found.body),
                Stmt::AutoEscape(found) => self.visit(&found.body),
                Stmt::FilterBlock(found) => self.visit(&found.body),
                Stmt::Macro(found) => self.visit(&found.body),
                Stmt::CallBlock(found) => self.visit(&found.macro_decl.body),
                Stmt::Block(found) => self.visit(&found.body),
                Stmt::EmitExpr(_)
                | Stmt::EmitRaw(_)
                | Stmt::Continue(_)
                | Stmt::Break(_)
                | Stmt::Do(_)
                | Stmt::Import(_)
                | Stmt::FromImport(_)
                | Stmt::Extends(_)
                | Stmt::Include(_) => {}
            }
        }
    }

    /// `name` and every variable that was assigned from it, filtered and sliced or not.
    fn aliases_of(&self, name: &'t str) -> BTreeSet<&'t str> {
        let mut aliases = BTreeSet::from([name]);
        loop {
            let known = aliases.len();
            for set in &self.assignments {
                if aliases.iter().any(|alias| reads(&set.expr, alias, None)) {
                    aliases.extend(variable(&set.target));
                }
            }
            if aliases.len() == known {
                return aliases;
            }
        }
    }
}

fn variable<'t>(expression: &Expr<'t>) -> Option<&'t str> {
    if let Expr::Var(found) = expression { Some(found.id) } else { None }
}

/// Whether the expression is the variable (or its member `key`), filtered, tested or sliced or not.
fn reads(expression: &Expr<'_>, name: &str, key: Option<&str>) -> bool {
    match (expression, key) {
        (Expr::Filter(found), _) => found.expr.as_ref().is_some_and(|inner| reads(inner, name, key)),
        (Expr::Test(found), _) => reads(&found.expr, name, key),
        (Expr::Slice(found), _) => reads(&found.expr, name, key),
        (_, None) => variable(expression) == Some(name),
        (Expr::GetAttr(found), Some(key)) => found.name == key && variable(&found.expr) == Some(name),
        (Expr::GetItem(found), Some(key)) => {
            let is_key = matches!(&found.subscript_expr, Expr::Const(given) if given.value.as_str() == Some(key));
            is_key && variable(&found.expr) == Some(name)
        }
        (_, Some(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_over_a_messages_content_takes_parts() {
        for source in [
            "{% for m in messages %}{% for c in m['content'] %}{{ c.text }}{% endfor %}{% endfor %}",
            "{% set all = messages[1:] %}{% for m in all %}{% for c in m.content | list %}{% endfor %}{% endfor %}",
            "{% macro put(x) %}{% for m in messages if m %}{% if 1 %}{% for c in m.content %}{% endfor %}{% endif %}\
             {% endfor %}{% endmacro %}",
        ] {
            assert_eq!(ContentFormat::detect(source), ContentFormat::Parts, "{source}");
        }
    }

    #[test]
    fn everything_else_takes_text() {
        for source in [
            "{% for m in messages %}{{ m.content }}{% endfor %}",
            "{% for m in messages %}{% set all = m.content %}{% for c in all %}{{ c }}{% endfor %}{% endfor %}",
            "{% for m in messages %}{{ m.content[0] }}{{ m.content | length }}{% endfor %}",
            "{% for m in other %}{% for c in m.content %}{% endfor %}{% endfor %}",
            "{% for m in",
        ] {
            assert_eq!(ContentFormat::detect(source), ContentFormat::Text, "{source}");
        }
    }
}
