//! What stays, what goes, and who notices.

use super::*;

fn named(name: &str, read: Result<u32, &str>) -> Named<u32> {
    Named { namespace: "n".into(), name: name.into(), read: read.map(Arc::new).map_err(str::to_owned) }
}

fn scope() -> Scope {
    Scope::Namespace("n".into())
}

fn listed(objects: &[(&str, u32)]) -> Collection<u32> {
    let mut collection = Collection::default();
    let list = objects.iter().map(|(name, value)| named(name, Ok(*value))).collect();
    assert_eq!(collection.apply(&scope(), News::Listed(list)), []);
    collection
}

fn values(collection: &Collection<u32>) -> Vec<(String, u32)> {
    collection.of("n").unwrap().iter().map(|(name, value)| (name.to_string(), **value)).collect()
}

#[test]
fn nothing_is_known_of_a_scope_until_all_was_told() {
    let mut collection = Collection::<u32>::default();
    collection.expect(&scope());
    assert!(!collection.synced() && collection.of("n").is_none());
    collection.apply(&scope(), News::Lost("refused".to_owned()));
    assert!(!collection.synced());
    collection.apply(&scope(), News::Listed(Vec::new()));
    assert!(collection.synced() && values(&collection).is_empty());
}

#[test]
fn a_kind_that_is_not_served_is_known_to_be_empty() {
    let mut collection = listed(&[("a", 1)]);
    collection.apply(&scope(), News::NotServed);
    assert!(collection.synced() && values(&collection).is_empty());
}

#[test]
fn objects_come_change_and_go() {
    let mut collection = listed(&[("a", 1), ("b", 2)]);
    collection.apply(&scope(), News::Changed(named("a", Ok(3))));
    collection.apply(&scope(), News::Changed(named("c", Ok(4))));
    collection.apply(&scope(), News::Gone { namespace: "n".into(), name: "b".into() });
    assert_eq!(values(&collection), [("a".to_owned(), 3), ("c".to_owned(), 4)]);
}

#[test]
fn what_was_known_stays_while_the_server_is_lost() {
    let mut collection = listed(&[("a", 1)]);
    collection.apply(&scope(), News::Lost("refused".to_owned()));
    assert_eq!((values(&collection).len(), collection.fault("n")), (1, Some("refused")));
    collection.apply(&scope(), News::Reached);
    assert_eq!(collection.fault("n"), None);
}

#[test]
fn a_malformed_object_keeps_its_last_good_word_and_is_told_once() {
    let mut collection = listed(&[("a", 1)]);
    let told = collection.apply(&scope(), News::Changed(named("a", Err("bad"))));
    assert_eq!(told.len(), 1);
    assert_eq!(collection.apply(&scope(), News::Changed(named("a", Err("bad")))), []);
    assert_eq!(collection.apply(&scope(), News::Listed(vec![named("a", Err("bad"))])), []);
    assert_eq!((values(&collection), collection.malformed("n", "a")), (vec![("a".to_owned(), 1)], Some("bad")));
    assert_eq!(collection.apply(&scope(), News::Listed(vec![named("a", Err("worse"))])).len(), 1);
    collection.apply(&scope(), News::Changed(named("a", Ok(2))));
    assert_eq!((values(&collection), collection.malformed("n", "a")), (vec![("a".to_owned(), 2)], None));
}

#[test]
fn an_object_that_never_made_sense_is_not_there() {
    let mut collection = listed(&[]);
    assert_eq!(collection.apply(&scope(), News::Listed(vec![named("a", Err("bad")), named("b", Ok(1))])).len(), 1);
    assert_eq!(values(&collection), [("b".to_owned(), 1)]);
    collection.apply(&scope(), News::Gone { namespace: "n".into(), name: "a".into() });
    assert_eq!(collection.malformed("n", "a"), None);
}

#[test]
fn what_did_not_change_is_the_same_to_readers() {
    let mut collection = listed(&[("a", 1), ("b", 2)]);
    let before = collection.of("n").unwrap();
    collection.apply(&scope(), News::Changed(named("a", Ok(1))));
    collection.apply(&scope(), News::Listed(vec![named("b", Ok(2)), named("a", Ok(1))]));
    assert!(Arc::ptr_eq(&before, &collection.of("n").unwrap()));
    collection.apply(&scope(), News::Listed(vec![named("a", Ok(1))]));
    assert_eq!((before.len(), values(&collection).len()), (2, 1));
}

#[test]
fn a_watch_of_all_knows_every_namespace() {
    let mut collection = Collection::default();
    collection.apply(&Scope::All, News::Listed(vec![named("a", Ok(1))]));
    assert_eq!(collection.of("n").unwrap().len(), 1);
    assert_eq!(collection.of("elsewhere").unwrap().len(), 0);
}
