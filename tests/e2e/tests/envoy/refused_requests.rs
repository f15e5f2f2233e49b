//! What the gateway answers itself: status and words in the caller's dialect, and no engine is troubled.

use e2e::client::{Answer, Client, Version, answer};
use e2e::prompts::chat;
use e2e::shared_stack::Shared;

const CHAT: &str = "/v1/chat/completions";

async fn refused(client: &Client, path: &str, body: impl Into<reqwest::Body>, status: u16) -> Answer {
    let refused = answer(client.post(path, body)).await;
    assert_eq!((refused.status, refused.engine()), (status, ""), "{path}: {refused:?}");
    assert_eq!(refused.header("content-type"), "application/json");
    refused
}

fn message(refused: &Answer) -> String {
    refused.json()["error"]["message"].as_str().unwrap_or_default().to_owned()
}

in_all_modes! {
    async fn an_unknown_model_is_404_in_the_callers_dialect(mode) {
        let Some(stack) = Shared::of(mode).share().await else { return };
        for version in [Version::Http1, Version::Http2] {
            let client = stack.client(version);
            let body = chat("hello", 4).to_string().replace("sim-model", "nobody-serves-this");
            let openai = refused(&client, CHAT, body.clone(), 404).await;
            assert_eq!(openai.json()["error"]["code"], "model_not_found");
            assert!(message(&openai).contains("nobody-serves-this"), "{openai:?}");
            let anthropic = refused(&client, "/v1/messages", body, 404).await;
            assert_eq!(anthropic.json()["type"], "error");
            assert_eq!(anthropic.json()["error"]["type"], "not_found_error");
        }
    }

    async fn a_malformed_body_is_400_and_says_what_is_wrong_and_where(mode) {
        let Some(stack) = Shared::of(mode).share().await else { return };
        let client = stack.client(Version::Http1);
        let cases = [
            ("{\"model\": \"sim-model\", \"messages\": [}", "at byte 36"),
            ("{\"model\": 7, \"messages\": []}", "model must be a string, got a number"),
            ("{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}]}", "model is required"),
            ("", "the body is empty"),
            ("{\"model\": \"sim-model\"", "it ends too early"),
        ];
        for (body, says) in cases {
            let refused = refused(&client, CHAT, body, 400).await;
            assert!(message(&refused).contains(says), "{body}: {}", message(&refused));
        }
        // The connection is none the worse for it.
        assert_eq!(client.ask("still there?").await.status, 200);
    }

    async fn a_body_that_is_not_utf8_is_400(mode) {
        let Some(stack) = Shared::of(mode).share().await else { return };
        let mut body = chat("caf?", 4).to_string().into_bytes();
        let at = body.iter().position(|&byte| byte == b'?').unwrap();
        body[at] = 0xe9;
        let refused = refused(&stack.client(Version::Http1), CHAT, body, 400).await;
        assert!(message(&refused).contains(&format!("invalid UTF-8, at byte {at}")), "{}", message(&refused));
    }

    async fn a_post_without_a_body_is_400(mode) {
        let Some(stack) = Shared::of(mode).share().await else { return };
        for version in [Version::Http1, Version::Http2] {
            let request = stack.client(version).request(reqwest::Method::POST, CHAT);
            let refused = answer(request).await;
            assert_eq!(refused.status, 400, "{refused:?}");
            assert!(message(&refused).contains("the body is empty"), "{refused:?}");
        }
    }
}
