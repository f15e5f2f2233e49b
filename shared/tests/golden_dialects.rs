//! Requests and responses of the dialects that are not OpenAI's or Anthropic's main ones, each beside what is read of it and
//! how a refusal looks (`golden_dialects/`, one file a dialect). Texts mark messages and parts with the bytes FE and FD,
//! written as the letters of those code points.
#![forbid(unsafe_code)]

#[cfg(test)]
mod golden {
    use serde_json::{Value, json};
    use shared::api::{
        BodyScanner, Call, Dialect, PromptView, Reject, RequestView, ResponseForm, ResponseScanner, reply,
    };

    fn cases() -> Vec<(String, Value)> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden_dialects");
        let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let read =
            files.map(|path| (path.display().to_string(), serde_json::from_slice(&std::fs::read(&path).unwrap())));
        read.map(|(name, case)| (name, case.unwrap())).collect()
    }

    /// The text of `name`, or the bytes of `name_hex`.
    fn bytes(case: &Value, name: &str) -> Vec<u8> {
        if let Some(text) = case[name].as_str() {
            return text.as_bytes().to_vec();
        }
        let digits = case[format!("{name}_hex")].as_str().unwrap();
        let pairs = digits.as_bytes().chunks(2).map(|pair| str::from_utf8(pair).unwrap());
        pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
    }

    fn read(call: &Call, view: &RequestView<'_>) -> Value {
        let mut told = json!({
            "kind": format!("{:?}", call.kind), "work": format!("{:?}", call.work),
            "model": view.model.or(call.model.as_deref()), "stream": view.stream,
            "max_output_tokens": view.max_output_tokens, "cache_salt": view.cache_salt,
        });
        match &view.prompt {
            PromptView::Tokens(ids) => told["tokens"] = ids.iter().collect(),
            PromptView::Text(text) => {
                told["text"] = text.pieces().flatten().map(|&byte| char::from(byte)).collect::<String>().into();
            }
        }
        told
    }

    #[test]
    fn every_request_is_read_as_its_file_says_whole_and_in_pieces() {
        let cases = cases();
        assert_eq!(cases.len(), 9);
        for (name, case) in cases {
            let call = Call::of_path(case["path"].as_str().unwrap().as_bytes()).unwrap();
            let body = bytes(&case, "request");
            for size in [body.len(), 1, 7] {
                let mut scanner = BodyScanner::new(call.kind);
                body.chunks(size).for_each(|chunk| scanner.push(chunk).unwrap());
                assert_eq!(read(&call, &scanner.finish().unwrap()), case["reads"], "{name}");
            }
        }
    }

    #[test]
    fn every_response_says_what_its_file_says_whole_and_in_pieces() {
        for (name, case) in cases() {
            let form = match case["form"].as_str().unwrap() {
                "events" => ResponseForm::Events,
                "messages" => ResponseForm::Messages,
                _ => ResponseForm::Document,
            };
            let body = bytes(&case, "response");
            for size in [body.len(), 1, 7] {
                let mut scanner = ResponseScanner::new(form);
                for chunk in body.chunks(size) {
                    scanner.push(chunk);
                }
                scanner.finish();
                let usage = scanner.usage().unwrap_or_default();
                let saw = json!({
                    "events": scanner.events_total(), "prompt_tokens": usage.prompt_tokens,
                    "output_tokens": usage.output_tokens, "cached_tokens": usage.cached_tokens,
                });
                assert_eq!(saw, case["saw"], "{name}");
            }
        }
    }

    #[test]
    fn every_refusal_reads_as_its_file_says() {
        for (name, case) in cases() {
            let dialect = Dialect::of_path(case["path"].as_str().unwrap().as_bytes());
            let refused = reply(dialect, &Reject::UnknownModel { model: "nobody".to_owned() });
            let header =
                |wanted: &str| refused.headers.iter().find(|(name, _)| *name == wanted).map(|(_, value)| value);
            let mut told = json!({
                "status": refused.status, "content_type": header("content-type"),
                "body": String::from_utf8(refused.body.clone()).unwrap(),
            });
            for (field, name) in [("grpc_status", "grpc-status"), ("grpc_message", "grpc-message")] {
                if let Some(value) = header(name) {
                    told[field] = json!(value);
                }
            }
            assert_eq!(told, case["refusal"], "{name}");
        }
    }
}
