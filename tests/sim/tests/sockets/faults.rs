//! Each fault as a client sees it, and its end.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::rig::{DEADLINE, Rig, chat, instant_engine, rig, rig_with, series, streamed};

async fn connects(rig: &Rig, engine: usize) -> bool {
    TcpStream::connect(rig.cluster.addresses()[engine]).await.is_ok()
}

async fn until_connects(rig: &Rig, wanted: bool) {
    let started = Instant::now();
    while connects(rig, 0).await != wanted {
        assert!(started.elapsed() < DEADLINE, "the port still {}", if wanted { "refuses" } else { "accepts" });
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_refusing_engine_takes_no_connections_until_reset() {
    let rig = rig_with(instant_engine).await;
    rig.fault(0, &json!({"kind": "refuse"})).await;
    until_connects(&rig, false).await;
    assert!(connects(&rig, 1).await, "its neighbour is not touched");
    assert_eq!(rig.state(0).await["faults"]["refusing"], true);
    rig.reset(0).await;
    until_connects(&rig, true).await;
    rig.ask("/v1/chat/completions", &chat("x", 2)).await;
}

#[tokio::test]
async fn a_timed_refusal_ends_by_itself() {
    let rig = rig_with(instant_engine).await;
    let started = Instant::now();
    rig.fault(0, &json!({"kind": "refuse", "for_ms": 1000})).await;
    until_connects(&rig, false).await;
    until_connects(&rig, true).await;
    assert!(started.elapsed() >= Duration::from_millis(990));
    assert_eq!(rig.state(0).await["faults"]["refusing"], false);
}

#[tokio::test]
async fn refusing_lets_answers_under_way_finish_and_closes_idle_connections() {
    let rig = rig().await;
    let response = rig.post("/v1/chat/completions", &streamed("x", 400)).await;
    rig.fault(0, &json!({"kind": "refuse"})).await;
    until_connects(&rig, false).await;
    assert!(response.text().await.unwrap().ends_with("data: [DONE]\n\n"));
    let again = rig.client.post(rig.url(0, "/v1/chat/completions")).json(&chat("x", 1)).send().await;
    assert!(again.is_err(), "the kept connection must not be usable either");
}

#[tokio::test]
async fn a_killed_engine_loses_connections_requests_and_cache() {
    let rig = rig_with(|config| config.speedup = 1.0).await;
    let mut response = rig.post("/v1/chat/completions", &streamed(&"x".repeat(1000), 50_000)).await;
    response.chunk().await.unwrap().unwrap();
    rig.fault(0, &json!({"kind": "kill"})).await;
    let broken = loop {
        match response.chunk().await {
            Ok(Some(_)) => {}
            other => break other,
        }
    };
    assert!(broken.is_err(), "the stream must break, not end");
    let state = rig.until(0, |state| state["in_flight"] == 0).await;
    assert_eq!(state["blocks"]["cached"], 0);
    rig.reset(0).await;
    until_connects(&rig, true).await;
    rig.ask("/v1/chat/completions", &chat("x", 1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_is_done_when_it_returns_and_no_caller_hears_of_it_by_http() {
    for round in 0..8 {
        let rig = rig_with(|config| config.speedup = 1.0).await;
        let calls: Vec<_> = (0..20)
            .map(|n| {
                let body = if n % 2 == 0 { chat("x", 50_000) } else { streamed("x", 50_000) };
                tokio::spawn(rig.client.post(rig.url(0, "/v1/chat/completions")).json(&body).send())
            })
            .collect();
        rig.until(0, |state| state["running"] == 20).await;
        rig.fault(0, &json!({"kind": "kill"})).await;
        assert!(!connects(&rig, 0).await, "the listener is closed by now");
        for call in calls {
            match call.await.unwrap() {
                // A stream had its headers already; its body must break.
                Ok(response) if response.status() == 200 => assert!(response.text().await.is_err(), "round {round}"),
                Ok(response) => panic!("round {round}: answered {}", response.status()),
                Err(error) => assert!(!error.is_timeout(), "{error:?}"),
            }
        }
        assert_eq!(rig.state(0).await["in_flight"], 0);
    }
}

#[tokio::test]
async fn a_refusal_is_in_force_when_it_returns() {
    for _ in 0..20 {
        let rig = rig_with(instant_engine).await;
        rig.fault(0, &json!({"kind": "refuse"})).await;
        assert!(!connects(&rig, 0).await);
    }
}

#[tokio::test]
async fn killing_cuts_a_stalled_request_off() {
    let rig = rig_with(instant_engine).await;
    rig.fault(0, &json!({"kind": "stall"})).await;
    let stalled = tokio::spawn(rig.client.post(rig.url(0, "/v1/chat/completions")).json(&chat("x", 1)).send());
    rig.until(0, |state| state["requests"]["received"] == 1).await;
    rig.fault(0, &json!({"kind": "kill"})).await;
    let error = stalled.await.unwrap().unwrap_err();
    assert!(!error.is_timeout(), "{error:?}");
}

#[tokio::test]
async fn errors_hit_the_next_n_inference_requests_only() {
    let rig = rig_with(instant_engine).await;
    rig.fault(0, &json!({"kind": "error", "status": 503, "next": 2})).await;
    let mut statuses = Vec::new();
    for _ in 0..3 {
        assert_eq!(rig.client.get(rig.url(0, "/health")).send().await.unwrap().status(), 200);
        statuses.push(rig.post("/v1/chat/completions", &chat("x", 1)).await.status().as_u16());
    }
    assert_eq!(statuses, [503, 503, 200]);
    let state = rig.state(0).await;
    assert_eq!((&state["requests"]["received"], &state["requests"]["answered"]), (&json!(3), &json!(1)));
    rig.fault(0, &json!({"kind": "error", "scope": "all"})).await;
    assert_eq!(rig.client.get(rig.url(0, "/health")).send().await.unwrap().status(), 500);
    rig.reset(0).await;
    assert_eq!(rig.client.get(rig.url(0, "/health")).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_stalling_engine_accepts_and_never_answers() {
    let rig = rig_with(instant_engine).await;
    rig.fault(0, &json!({"kind": "stall"})).await;
    let request = rig.client.post(rig.url(0, "/v1/chat/completions")).json(&chat("x", 1));
    let waited = request.timeout(Duration::from_millis(300)).send().await;
    assert!(waited.unwrap_err().is_timeout());
    assert_eq!(rig.state(0).await["in_flight"], 0, "it never reached the engine");
    rig.reset(0).await;
    rig.ask("/v1/chat/completions", &chat("x", 1)).await;
}

#[tokio::test]
async fn dying_before_the_first_byte_closes_without_a_response() {
    let rig = rig_with(instant_engine).await;
    rig.fault(0, &json!({"kind": "die_before_first_byte", "next": 1})).await;
    let body = json!({"model": "sim-model", "prompt": "p".repeat(60_000)});
    let died = rig.client.post(rig.url(0, "/v1/completions")).json(&body).send().await;
    let error = died.unwrap_err();
    assert!(error.is_request() && !error.is_timeout() && !error.is_connect(), "{error:?}");
    rig.ask("/v1/completions", &body).await;
}

#[tokio::test]
async fn dying_mid_stream_delivers_exactly_the_chunks_asked_for() {
    let rig = rig_with(|config| config.speedup = 10.0).await;
    rig.fault(0, &json!({"kind": "die_mid_stream", "after_chunks": 3, "next": 2})).await;
    let mut response = rig.post("/v1/chat/completions", &streamed("x", 50)).await;
    assert_eq!(response.status(), 200);
    let mut text = String::new();
    let ending = loop {
        match response.chunk().await {
            Ok(Some(chunk)) => text.push_str(std::str::from_utf8(&chunk).unwrap()),
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    assert!(ending.is_err(), "the stream must break, not end");
    assert_eq!(text.matches("data: ").count(), 3, "{text}");
    let whole = rig.post("/v1/chat/completions", &chat("x", 5)).await;
    assert_eq!(whole.status(), 200);
    assert!(whole.text().await.is_err(), "half a body");
    rig.until(0, |state| state["in_flight"] == 0).await;
    rig.ask("/v1/chat/completions", &chat("x", 5)).await;
}

#[tokio::test]
async fn a_slow_engine_takes_its_factor_longer() {
    let rig = rig_with(|config| {
        config.speedup = 20.0;
        config.faults = vec![(1, r#"{"kind":"slow","factor":3}"#.to_owned())];
    })
    .await;
    let mut seconds = Vec::new();
    for engine in 0..2 {
        let url = rig.url(engine, "/v1/chat/completions");
        assert_eq!(rig.client.post(url).json(&chat("x", 20)).send().await.unwrap().status(), 200);
        seconds.push(series(&rig.scrape(engine).await, "vllm:request_inference_time_seconds_sum"));
    }
    assert!((seconds[1] / seconds[0] - 3.0).abs() < 1e-9, "{seconds:?}");
    assert_eq!(rig.state(1).await["faults"]["slow"], 3.0);
    rig.reset(1).await;
    assert_eq!(rig.state(1).await["faults"]["slow"], 1.0);
}

#[tokio::test]
async fn faults_are_also_set_on_the_engines_own_port() {
    let rig = rig_with(instant_engine).await;
    let set = rig.post("/sim/fault", &json!({"kind": "error", "status": 500, "scope": "all"})).await;
    assert_eq!(set.status(), 200);
    assert_eq!(rig.post("/v1/chat/completions", &chat("x", 1)).await.status(), 500);
    let state: Value = rig.client.get(rig.url(0, "/sim/state")).send().await.unwrap().json().await.unwrap();
    assert_eq!(state["faults"]["answer"]["damage"]["error"]["status"], 500);
    assert_eq!(rig.post("/sim/reset", &json!({})).await.status(), 200);
    rig.ask("/v1/chat/completions", &chat("x", 1)).await;
}

#[tokio::test]
async fn a_wrong_fault_is_explained() {
    let rig = rig().await;
    let url = rig.admin("/engines/0/fault");
    let answer = rig.client.post(&url).json(&json!({"kind": "stall", "status": 500})).send().await.unwrap();
    assert_eq!(answer.status(), 400);
    let body: Value = answer.json().await.unwrap();
    assert_eq!(body["error"], "status: is not a field of this kind of fault");
    let missing = rig.client.post(rig.admin("/engines/7/reset")).send().await.unwrap();
    assert_eq!(missing.status(), 404);
    let all: Value = rig.client.get(rig.admin("/engines")).send().await.unwrap().json().await.unwrap();
    assert_eq!(all.as_array().unwrap().len(), 2);
}
