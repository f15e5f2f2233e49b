use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;

use super::Hub;
use crate::vocabulary::fetch::{FetchError, Source, model_files};
use crate::vocabulary::model_files::{RankHints, TokenizerFile};

/// A hub that has a Tekken tokenizer and its configuration for those who know the token.
async fn serve() -> (Hub, tokio::task::JoinHandle<()>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let guarded = |headers: HeaderMap| async move {
        let known = headers.get("authorization").is_some_and(|value| value == "Bearer secret");
        if known { (StatusCode::OK, "{}") } else { (StatusCode::UNAUTHORIZED, "") }
    };
    let router = Router::new()
        .route("/a/b/resolve/main/tekken.json", get(guarded))
        .route("/a/b/resolve/main/tokenizer_config.json", get(|| async { r#"{"chat_template": "T"}"# }));
    let served = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let variable = |name: &str| (name == "HF_ENDPOINT").then(|| format!("{endpoint}/"));
    (Hub { token: Some("secret".to_owned()), ..Hub::from_environment("a/b", variable) }, served)
}

#[tokio::test]
async fn the_first_known_tokenizer_is_taken_with_its_companions() {
    let (hub, _served) = serve().await;
    let files = model_files(&Source::Hub(hub), RankHints::default()).await.unwrap();
    assert_eq!(files.tokenizer, TokenizerFile::Tekken(b"{}".to_vec()));
    assert_eq!(files.template("default"), Some("T"));
}

#[tokio::test]
async fn a_hub_that_wants_another_token_says_so() {
    let (hub, _served) = serve().await;
    let error = model_files(&Source::Hub(Hub { token: None, ..hub }), RankHints::default()).await.unwrap_err();
    assert!(matches!(error, FetchError::Refused { status: 401, .. }), "{error}");
}

#[tokio::test]
async fn cached_files_serve_when_the_hub_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    let (hub, served) = serve().await;
    let source = Source::Hub(Hub { cache: Some(directory.path().to_owned()), ..hub });
    model_files(&source, RankHints::default()).await.unwrap();
    served.abort();
    let _ended = served.await;
    let files = model_files(&source, RankHints::default()).await.unwrap();
    assert_eq!((files.tokenizer, files.templates.len()), (TokenizerFile::Tekken(b"{}".to_vec()), 1));
}

#[tokio::test]
async fn names_that_leave_their_place_are_refused() {
    for name in ["../x", "a/../b", "a//b", "a?b", "a b", ""] {
        let hub = Hub::from_environment(name, |_| None);
        let error = model_files(&Source::Hub(hub), RankHints::default()).await.unwrap_err();
        assert!(matches!(error, FetchError::Name(_)), "{name}: {error}");
    }
}

#[test]
fn a_token_is_not_shown() {
    let hub = Hub::from_environment("a/b", |name| (name == "HF_TOKEN").then(|| "secret".to_owned()));
    assert_eq!(hub.token.as_deref(), Some("secret"));
    assert!(!format!("{hub:?}").contains("secret"));
    assert_eq!(Hub::from_environment("a/b", |_| None).endpoint, "https://huggingface.co");
}
