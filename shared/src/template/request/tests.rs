//! What templates see of bodies. The template of most tests prints its variables, so that every difference shows.

use super::super::{
    Bypass, ChatTemplate, ContentFormat, Json, LocalTime, Members, TemplateOptions, Unrendered, object,
};
use crate::api::ApiKind;
use crate::table::rendering::Frontend;

/// Takes texts.
const MESSAGES: &str = "{{ messages | tojson }}";

fn options(frontend: Frontend) -> TemplateOptions {
    TemplateOptions { frontend, ..TemplateOptions::default() }
}

fn render_with(template: &str, options: TemplateOptions, body: &str) -> Result<String, Unrendered> {
    ChatTemplate::compile(template, options).unwrap().render_body(ApiKind::ChatCompletions, body.as_bytes(), None)
}

fn render(template: &str, frontend: Frontend, body: &str) -> Result<String, Unrendered> {
    render_with(template, options(frontend), body)
}

fn python(template: &str, body: &str) -> String {
    render(template, Frontend::Python, body).unwrap()
}

fn rust(template: &str, body: &str) -> String {
    render(template, Frontend::Rust, body).unwrap()
}

fn parts(frontend: Frontend, body: &str) -> Result<String, Unrendered> {
    let options = TemplateOptions { content_format: Some(ContentFormat::Parts), ..options(frontend) };
    render_with(MESSAGES, options, body)
}

fn bypass(frontend: Frontend, body: &str) -> Bypass {
    match render(MESSAGES, frontend, body) {
        Err(Unrendered::Bypass(bypass)) => bypass,
        other => panic!("{body}: {other:?}"),
    }
}

#[test]
fn text_parts_become_one_text_and_each_server_joins_them_its_own_way() {
    let body = r#"{"messages": [{"content": [{"type": "text", "text": "a"}, {"type": "text", "text": ""},
        {"type": "text", "text": "b"}], "role": "user", "name": "n", "other": 1}, {"role": "assistant", "content": "c"}]}"#;
    let python = python(MESSAGES, body);
    assert_eq!(python, r#"[{"role": "user", "content": "a\nb", "name": "n"}, {"role": "assistant", "content": "c"}]"#);
    assert_eq!(rust(MESSAGES, body), r#"[{"role": "user", "content": "ab"}, {"role": "assistant", "content": "c"}]"#);
}

#[test]
fn a_template_of_parts_gets_parts_and_texts_stay_texts_in_rust() {
    let body = r#"{"messages": [{"role": "user", "content": "a"}, {"role": "user", "content":
        [{"type": "text", "text": "b", "cache_control": {"type": "x"}}]}]}"#;
    assert_eq!(
        parts(Frontend::Python, body).unwrap(),
        r#"[{"role": "user", "content": [{"type": "text", "text": "a"}]}, {"role": "user", "content": [{"type": "text", "text": "b", "cache_control": {"type": "x"}}]}]"#
    );
    assert_eq!(
        parts(Frontend::Rust, body).unwrap(),
        r#"[{"role": "user", "content": "a"}, {"role": "user", "content": [{"type": "text", "text": "b"}]}]"#
    );
}

#[test]
fn no_content_is_an_empty_one() {
    let body =
        r#"{"messages": [{"role": "assistant", "content": null, "tool_calls": []}, {"role": "user", "content": ""}]}"#;
    assert_eq!(python(MESSAGES, body), r#"[{"role": "assistant", "content": ""}, {"role": "user", "content": ""}]"#);
    assert_eq!(
        parts(Frontend::Python, body).unwrap(),
        r#"[{"role": "assistant", "content": []}, {"role": "user", "content": [{"type": "text", "text": ""}]}]"#
    );
    assert_eq!(bypass(Frontend::Rust, body), Bypass::Invalid("messages.content"));
}

#[test]
fn what_a_tool_says_is_a_text_even_for_templates_of_parts() {
    let body = r#"{"messages": [{"role": "tool", "tool_call_id": "1", "content": [{"type": "text", "text": "a"},
        {"type": "text", "text": "b"}]}]}"#;
    let expected = r#"[{"role": "tool", "content": "a\nb", "tool_call_id": "1"}]"#;
    assert_eq!(parts(Frontend::Python, body).unwrap(), expected);
    assert_eq!(python(MESSAGES, body), expected);
}

#[test]
fn calls_have_objects_as_arguments_and_the_engines_order() {
    let call = |arguments: &str| {
        format!(
            r#"{{"messages": [{{"role": "assistant", "tool_calls": [{{"type": "function", "index": 0, "id": "c",
            "function": {{"name": "f", "arguments": {arguments}}}}}]}}]}}"#
        )
    };
    let seen = |arguments: &str| {
        format!(
            r#"[{{"role": "assistant", "content": "", "tool_calls": [{{"id": "c", "function": {{"arguments": {arguments}, "name": "f"}}, "type": "function", "index": 0}}]}}]"#
        )
    };
    for (given, read) in [
        (r#""{\"b\": 1.50, \"a\": [null]}""#, r#"{"b": 1.5, "a": [null]}"#),
        (r#""""#, "{}"),
        (r#""{broken""#, "{}"),
        (r#""[1]""#, "{}"),
        ("null", "{}"),
    ] {
        assert_eq!(python(MESSAGES, &call(given)), seen(read), "{given}");
    }
    assert_eq!(
        rust(MESSAGES, &call(r#""{\"a\": 1}""#)),
        r#"[{"role": "assistant", "content": "", "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": {"a": 1}}}]}]"#
    );
    assert_eq!(bypass(Frontend::Rust, &call(r#""{broken""#)), Bypass::Invalid("messages.tool_calls"));
    for unsure in ["NaN", "100000000000000000000"] {
        let text = format!(r#""{{\"a\": {unsure}}}""#);
        assert_eq!(bypass(Frontend::Python, &call(&text)), Bypass::Unreadable);
    }
}

#[test]
fn reasoning_has_both_its_names() {
    for name in ["reasoning", "reasoning_content"] {
        let body = format!(r#"{{"messages": [{{"role": "assistant", "content": "a", "{name}": "r"}}]}}"#);
        let expected = r#"[{"role": "assistant", "content": "a", "reasoning": "r", "reasoning_content": "r"}]"#;
        assert_eq!(python(MESSAGES, &body), expected);
        assert_eq!(rust(MESSAGES, &body), expected);
    }
}

#[test]
fn tools_come_in_the_engines_order_with_their_nulls() {
    let body = r#"{"messages": [], "tool_choice": "none", "tools": [{"function": {"strict": null, "parameters": {"z": 1, "a": 2},
        "name": "f", "extra": 1}, "type": "function"}, {"type": "function", "function": {"name": "g", "strict": true}}]}"#;
    let template = "{{ tools | tojson }}";
    let expected = r#"[{"type": "function", "function": {"name": "f", "description": null, "parameters": {"z": 1, "a": 2}}}, {"type": "function", "function": {"name": "g", "description": null, "parameters": null, "strict": true}}]"#;
    assert_eq!(python(template, body), expected);
    assert_eq!(rust("{{ tools is defined }}", body), "False", "unused tools are hidden");
    let hiding = TemplateOptions { hides_unused_tools: true, ..TemplateOptions::default() };
    assert_eq!(render_with(template, hiding, body).unwrap(), "null");
    assert_eq!(python(template, r#"{"messages": []}"#), "null");
    assert_eq!(bypass(Frontend::Python, r#"{"messages": [], "tools": []}"#), Bypass::Invalid("tools"));
}

#[test]
fn options_reach_the_template() {
    let template = "{{ [add_generation_prompt, enable_thinking, reasoning_effort, documents, custom] | string }}";
    let body = r#"{"messages": [], "reasoning_effort": "none", "documents": [{"title": "t"}],
        "chat_template_kwargs": {"custom": "c", "auto": "auto"}}"#;
    assert_eq!(python(template, body), "[True, False, 'none', [{'title': 't'}], 'c']");
    let body = r#"{"messages": [], "add_generation_prompt": false, "reasoning_effort": "high",
        "chat_template_kwargs": {"custom": null, "enable_thinking": "as asked", "add_generation_prompt": true}}"#;
    let defaults = object(br#"{"custom": "default"}"#).unwrap();
    let with_defaults = |frontend| TemplateOptions { default_kwargs: defaults.clone(), ..options(frontend) };
    let seen = render_with(template, with_defaults(Frontend::Python), body).unwrap();
    assert_eq!(seen, "[False, 'as asked', 'high', None, 'default']", "null does not hide a default");
    let seen = render_with("{{ custom is none }}", with_defaults(Frontend::Rust), body).unwrap();
    assert_eq!(seen, "True", "in Rust it does");
}

#[test]
fn special_tokens_are_variables() {
    let special_tokens = object(br#"{"bos_token": "<s>"}"#).unwrap();
    let options = TemplateOptions { special_tokens, ..TemplateOptions::default() };
    assert_eq!(render_with("{{ bos_token }}{{ eos_token }}", options, r#"{"messages": []}"#).unwrap(), "<s>");
}

#[test]
fn a_message_to_go_on_with_stays_open() {
    let template = "{% for m in messages %}<{{ m.role }}>{{ m.content | trim }}</>\n{% endfor %}";
    let body = |text: &str| {
        format!(
            r#"{{"continue_final_message": true, "add_generation_prompt": false,
            "messages": [{{"role": "user", "content": "q"}}, {{"role": "assistant", "content": "{text}"}}]}}"#
        )
    };
    for frontend in [Frontend::Python, Frontend::Rust] {
        assert_eq!(render(template, frontend, &body("so, ")).unwrap(), "<user>q</>\n<assistant>so,");
    }
    assert_eq!(python("{{ messages[-1].content }}|", &body("so, ")), "so, ");
    let parts = "{% for m in messages %}{% for c in m.content %}{{ c.text }}{% endfor %}|{% endfor %}";
    assert_eq!(python(parts, &body("so ")), "q|so ");
    let dropped = render("nothing", Frontend::Python, &body("so"));
    assert_eq!(dropped, Err(Bypass::Invalid("continue_final_message").into()));
    let both = r#"{"messages": [{"role": "assistant", "content": "a"}], "continue_final_message": true}"#;
    assert_eq!(bypass(Frontend::Python, both), Bypass::Invalid("continue_final_message"));
    assert_eq!(rust("{{ messages[0].content }}|", both), "a");
}

#[test]
fn the_billing_line_goes_from_a_system_message() {
    let body = |content: &str| format!(r#"{{"messages": [{{"role": "system", "content": {content}}}]}}"#);
    let seen = |content: &str| python("{{ messages[0].content }}", &body(content));
    assert_eq!(seen(r#""x-anthropic-billing-header: 1\nYou are.""#), "You are.");
    assert_eq!(seen(r#""x-anthropic-billing-header: 1""#), "");
    assert_eq!(
        seen(r#"[{"type": "text", "text": "x-anthropic-billing-header: 1"}, {"type": "text", "text": "You."}]"#),
        "You."
    );
    let user = r#"{"messages": [{"role": "user", "content": "x-anthropic-billing-header: 1\na"}]}"#;
    assert_eq!(python("{{ messages[0].content }}", user), "x-anthropic-billing-header: 1\na");
}

#[test]
fn developers_speak_as_the_system_to_templates_that_do_not_know_them() {
    let body = r#"{"messages": [{"role": "user", "content": "q"}, {"role": "system", "content": "a"},
        {"role": "developer", "content": "b"}]}"#;
    assert_eq!(
        python(MESSAGES, body),
        r#"[{"role": "system", "content": "a\n\nb"}, {"role": "user", "content": "q"}]"#
    );
    let knows = "{% for m in messages %}{% if m.role == 'developer' %}D:{{ m.content }}{% endif %}{% endfor %}";
    assert_eq!(python(knows, body), "D:b");
    assert_eq!(parts(Frontend::Python, body), Err(Bypass::DeveloperRole.into()));
}

#[test]
fn what_cannot_be_exact_says_so() {
    let message = r#""messages": [{"role": "user", "content": "a"}]"#;
    for (member, expected) in [
        (r#""chat_template": "x""#, Bypass::RequestTemplate),
        (r#""chat_template_kwargs": {"chat_template": "x"}"#, Bypass::RequestTemplate),
        (r#""truncate_prompt_tokens": 10"#, Bypass::Truncation),
        (r#""echo": true"#, Bypass::Echo),
        (r#""prompt_embeds": "x""#, Bypass::PromptEmbeds),
        (r#""mm_processor_kwargs": {"a": 1}"#, Bypass::ProcessorOptions),
        (r#""add_special_tokens": true"#, Bypass::SpecialTokens),
        (r#""kv_transfer_params": {"prompt_token_ids": [1]}"#, Bypass::TokenIds),
        (r#""documents": "x""#, Bypass::Invalid("documents")),
    ] {
        assert_eq!(bypass(Frontend::Python, &format!("{{{message}, {member}}}")), expected, "{member}");
    }
    let image = r#"{"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}"#;
    for frontend in [Frontend::Python, Frontend::Rust] {
        assert_eq!(bypass(frontend, image), Bypass::Multimodal);
        assert_eq!(bypass(frontend, "[]"), Bypass::Unreadable);
        assert_eq!(bypass(frontend, "{}"), Bypass::Invalid("messages"));
    }
    let clock = render("{{ strftime_now('%Y') }}", Frontend::Python, r#"{"messages": []}"#);
    assert_eq!(clock, Err(Bypass::Clock.into()));
}

#[test]
fn the_time_is_that_of_the_caller() {
    let template = ChatTemplate::compile("{{ strftime_now('%d %b %Y') }}", TemplateOptions::default()).unwrap();
    assert!(template.reads_clock());
    let body = object(br#"{"messages": []}"#).unwrap();
    let now = LocalTime { unix_seconds: 1_709_164_800, utc_offset_seconds: 0 };
    assert_eq!(template.render_chat(body, Some(now)).unwrap(), "29 Feb 2024");
}

#[test]
fn an_anthropic_conversation_is_the_chat_that_vllm_makes_of_it() {
    let body = r#"{"system": [{"type": "text", "text": "x-anthropic-billing-header: 1"}, {"type": "text", "text": "You."}],
        "messages": [{"role": "user", "content": [{"type": "text", "text": "q", "cache_control": {}}]},
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "a"},
            {"type": "tool_use", "id": "c", "name": "f", "input": {"x": 1}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "content": [{"type": "text", "text": "r"}]},
            {"type": "text", "text": "go"}]}],
        "tools": [{"name": "f", "input_schema": {"type": "object"}}]}"#;
    let template =
        ChatTemplate::compile("{{ messages | tojson }}{{ tools | tojson }}", TemplateOptions::default()).unwrap();
    let seen = template.render_body(ApiKind::Messages, body.as_bytes(), None).unwrap();
    assert_eq!(
        seen,
        concat!(
            r#"[{"role": "system", "content": "You."}, {"role": "user", "content": "q"}, "#,
            r#"{"role": "assistant", "content": "a", "tool_calls": [{"id": "c", "function": {"arguments": {"x": 1}, "#,
            r#""name": "f"}, "type": "function"}], "reasoning": "hm", "reasoning_content": "hm"}, "#,
            r#"{"role": "tool", "content": "r", "tool_call_id": "c"}, {"role": "user", "content": "go"}]"#,
            r#"[{"type": "function", "function": {"name": "f", "description": null, "parameters": {"type": "object"}}}]"#,
        )
    );
    let refused = |body: &str| template.render_body(ApiKind::Messages, body.as_bytes(), None).unwrap_err();
    let inline = r#"{"messages": [{"role": "system", "content": "s"}]}"#;
    assert_eq!(refused(inline), Bypass::InlineSystem.into());
    let image = r#"{"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]}"#;
    assert_eq!(refused(image), Bypass::Multimodal.into());
}

#[test]
fn no_body_is_too_strange() {
    let strange =
        [Json::Null, Json::Whole(1), Json::text("x"), Json::list(vec![Json::Null]), Json::Object(Members::default())];
    let names =
        ["messages", "tools", "documents", "chat_template_kwargs", "reasoning_effort", "echo", "kv_transfer_params"];
    let templates =
        [Frontend::Python, Frontend::Rust].map(|frontend| ChatTemplate::compile(MESSAGES, options(frontend)).unwrap());
    for name in names {
        for value in &strange {
            let mut body = object(br#"{"messages": [{"role": "user", "content": "a"}]}"#).unwrap();
            body.set(name, value.clone());
            for template in &templates {
                let _either = template.render_chat(body.clone(), None);
            }
        }
    }
    for member in ["role", "content", "tool_calls", "reasoning", "name", "tools", "tool_call_id"] {
        for value in &strange {
            for role in ["assistant", "tool", "developer", "system"] {
                let mut message = Members::default();
                message.set("role", Json::text(role));
                message.set(member, value.clone());
                let mut body = Members::default();
                body.set("messages", Json::list(vec![Json::Object(message)]));
                for template in &templates {
                    let _either = template.render_chat(body.clone(), None);
                }
            }
        }
    }
}
