//! The objects of one kind as they were last known, pure. What was known stays when the server cannot be reached, and
//! the last good word of an object stays when its newest makes no sense. Snapshots are cheap: an object or a namespace
//! that did not change is the same `Arc` as before, so readers compare pointers.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::object::Named;

/// Objects of one namespace, by name.
pub type Objects<T> = BTreeMap<Arc<str>, Arc<T>>;

/// What is watched as one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// The whole cluster.
    All,
    /// A namespace.
    Namespace(Arc<str>),
}

/// What a watch tells.
#[derive(Debug)]
pub enum News<T> {
    /// All there is.
    Listed(Vec<Named<T>>),
    /// An object is new or changed.
    Changed(Named<T>),
    /// An object is no more.
    Gone {
        /// Its namespace.
        namespace: Arc<str>,
        /// Its name.
        name: Arc<str>,
    },
    /// The server is followed, again.
    Reached,
    /// It is not; why.
    Lost(String),
    /// The server knows no such kind.
    NotServed,
}

/// An object that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// What is wrong with it.
    pub error: String,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Collection<T> {
    parts: BTreeMap<Scope, Part<T>>,
}

/// What one watch has told.
#[derive(Clone, Debug)]
struct Part<T> {
    synced: bool,
    fault: Option<String>,
    namespaces: BTreeMap<Arc<str>, Arc<Objects<T>>>,
    malformed: BTreeMap<(Arc<str>, Arc<str>), String>,
}

impl<T> Default for Collection<T> {
    fn default() -> Self {
        Self { parts: BTreeMap::new() }
    }
}

impl<T> Default for Part<T> {
    fn default() -> Self {
        Self { synced: false, fault: None, namespaces: BTreeMap::new(), malformed: BTreeMap::new() }
    }
}

impl<T: PartialEq> Collection<T> {
    /// From now on `scope` is watched; until that has told all, nothing is known of it.
    pub fn expect(&mut self, scope: &Scope) {
        self.parts.entry(scope.clone()).or_default();
    }

    /// Takes in what the watch of `scope` tells. Returns the objects that make no sense and did not say so before.
    pub fn apply(&mut self, scope: &Scope, news: News<T>) -> Vec<Malformed> {
        let part = self.parts.entry(scope.clone()).or_default();
        match news {
            News::Listed(objects) => return part.list(objects),
            News::Changed(object) => return part.change(object).into_iter().collect(),
            News::Gone { namespace, name } => part.forget(&namespace, &name),
            News::Reached => part.fault = None,
            News::Lost(fault) => part.fault = Some(fault),
            News::NotServed => *part = Part { synced: true, ..Part::default() },
        }
        Vec::new()
    }

    /// Has every watch told all there is, or that there is no such kind?
    #[must_use]
    pub fn synced(&self) -> bool {
        self.parts.values().all(|part| part.synced)
    }

    /// What is known of a namespace; `None`: nothing yet.
    #[must_use]
    pub fn of(&self, namespace: &str) -> Option<Arc<Objects<T>>> {
        let part = self.part(namespace).filter(|part| part.synced)?;
        Some(part.namespaces.get(namespace).cloned().unwrap_or_default())
    }

    /// Why a namespace is not followed now.
    #[must_use]
    pub fn fault(&self, namespace: &str) -> Option<&str> {
        self.part(namespace)?.fault.as_deref()
    }

    /// Why `scope` is not followed now.
    #[must_use]
    pub fn fault_of(&self, scope: &Scope) -> Option<&str> {
        self.parts.get(scope)?.fault.as_deref()
    }

    /// What is wrong with an object.
    #[must_use]
    pub fn malformed(&self, namespace: &str, name: &str) -> Option<&str> {
        self.part(namespace)?.malformed.get(&(namespace.into(), name.into())).map(String::as_str)
    }

    /// Namespaces in which something is known, in order.
    pub fn namespaces(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<Objects<T>>)> {
        self.parts.values().flat_map(|part| &part.namespaces)
    }

    fn part(&self, namespace: &str) -> Option<&Part<T>> {
        self.parts.get(&Scope::All).or_else(|| self.parts.get(&Scope::Namespace(namespace.into())))
    }
}

impl<T: PartialEq> Part<T> {
    fn list(&mut self, listed: Vec<Named<T>>) -> Vec<Malformed> {
        self.synced = true;
        let before = std::mem::take(&mut self.namespaces);
        let mut complaints = std::mem::take(&mut self.malformed);
        let mut namespaces: BTreeMap<Arc<str>, Objects<T>> = BTreeMap::new();
        let mut fresh = Vec::new();
        for Named { namespace, name, read } in listed {
            let known = before.get(&namespace).and_then(|objects| objects.get(&name));
            let kept = match read {
                Ok(object) => Some(known.filter(|known| **known == object).cloned().unwrap_or(object)),
                Err(error) => {
                    let key = (Arc::clone(&namespace), Arc::clone(&name));
                    if complaints.remove(&key).as_deref() != Some(error.as_str()) {
                        let (namespace, name) = key.clone();
                        fresh.push(Malformed { namespace, name, error: error.clone() });
                    }
                    self.malformed.insert(key, error);
                    known.cloned()
                }
            };
            if let Some(object) = kept {
                namespaces.entry(namespace).or_default().insert(name, object);
            }
        }
        let same = |a: &Objects<T>, b: &Objects<T>| {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.0 == b.0 && Arc::ptr_eq(a.1, b.1))
        };
        self.namespaces = namespaces
            .into_iter()
            .map(|(namespace, objects)| {
                let known = before.get(&namespace).filter(|known| same(known, &objects)).cloned();
                (namespace, known.unwrap_or_else(|| Arc::new(objects)))
            })
            .collect();
        fresh
    }

    fn change(&mut self, Named { namespace, name, read }: Named<T>) -> Option<Malformed> {
        let key = (Arc::clone(&namespace), Arc::clone(&name));
        match read {
            Ok(object) => {
                self.malformed.remove(&key);
                let known = self.namespaces.get(&namespace).and_then(|objects| objects.get(&name));
                if known.is_none_or(|known| *known != object) {
                    self.edit(&namespace, |objects| objects.insert(name, object));
                }
                None
            }
            Err(error) => {
                let before = self.malformed.insert(key, error.clone());
                (before.as_ref() != Some(&error)).then_some(Malformed { namespace, name, error })
            }
        }
    }

    fn forget(&mut self, namespace: &Arc<str>, name: &Arc<str>) {
        self.malformed.remove(&(Arc::clone(namespace), Arc::clone(name)));
        self.edit(namespace, |objects| objects.remove(name));
        if self.namespaces.get(namespace).is_some_and(|objects| objects.is_empty()) {
            self.namespaces.remove(namespace);
        }
    }

    /// Changes one namespace: readers of the snapshot keep theirs.
    fn edit<R>(&mut self, namespace: &Arc<str>, change: impl FnOnce(&mut Objects<T>) -> R) {
        let objects = self.namespaces.entry(Arc::clone(namespace)).or_default();
        change(Arc::make_mut(objects));
    }
}

#[cfg(test)]
mod tests;
