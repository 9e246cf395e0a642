//! Chat templates against Jinja2: whole prompts and single expressions, byte for byte.
//!
//! `golden/templates.json` is made by `golden/templates.py` with the environment that Hugging Face's
//! transformers builds.

use std::time::{Duration, UNIX_EPOCH};

use lazul_lm::text::{Chat, ChatTemplate, Message};
use serde_json::{Map, Value};

fn golden() -> Value {
    serde_json::from_str(include_str!("golden/templates.json")).unwrap()
}

fn object(value: &Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap_or_default()
}

/// What the reference says: a text, or no text.
fn expected(case: &Value) -> Option<String> {
    case["text"].as_str().map(str::to_owned)
}

#[test]
fn prompts_equal_jinja2() {
    let golden = golden();
    let now = UNIX_EPOCH + Duration::from_secs(golden["now"].as_u64().unwrap());
    let mut failures = Vec::new();
    for case in golden["cases"].as_array().unwrap() {
        let name = case["template"].as_str().unwrap();
        let source = golden["templates"][name].as_str().unwrap();
        let input = &golden["chats"][case["chat"].as_str().unwrap()];
        let optional = |key: &str| input.get(key).cloned();
        let mut chat = Chat {
            tools: optional("tools"),
            documents: optional("documents"),
            add_generation_prompt: input["add_generation_prompt"].as_bool().unwrap_or(true),
            variables: object(&input["variables"]),
            ..Chat::default()
        };
        for message in input["messages"].as_array().unwrap() {
            chat.messages.push(serde_json::from_value::<Message>(message.clone()).unwrap());
        }
        let rendered = ChatTemplate::new(source).and_then(|template| {
            let template = template.with_token("bos_token", "<s>").with_token("eos_token", "</s>");
            template.with_time(now).render(&chat)
        });
        let why = format!("{rendered:?}");
        if rendered.ok().map(|prompt| prompt.text) != expected(case) {
            failures.push(format!(
                "{name} / {}\n  want {:?}\n  got  {why}",
                case["chat"],
                expected(case)
            ));
        }
    }
    assert!(failures.is_empty(), "{} differ:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn expressions_equal_jinja2() {
    let golden = golden();
    let now = UNIX_EPOCH + Duration::from_secs(golden["now"].as_u64().unwrap());
    let chat = Chat { variables: object(&golden["context"]), ..Chat::default() };
    let mut failures = Vec::new();
    for case in golden["snippets"].as_array().unwrap() {
        let source = case["source"].as_str().unwrap();
        let rendered =
            ChatTemplate::new(source).and_then(|template| template.with_time(now).render(&chat));
        let why = format!("{rendered:?}");
        if rendered.ok().map(|prompt| prompt.text) != expected(case) {
            failures.push(format!("{source}\n  want {case}\n  got  {why}"));
        }
    }
    assert!(failures.is_empty(), "{} differ:\n{}", failures.len(), failures.join("\n"));
}
