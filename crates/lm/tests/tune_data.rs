//! Rows of every format as tokens, with and without prompts masked, and rows that are none.

use lazul_lm::text::{ChatTemplate, TextFiles, TextModel};
use lazul_lm::tune::{Example, TuneConfig, load};
use serde_json::json;

fn text() -> TextModel {
    let file = |name: &str| {
        std::fs::read(format!("{}/../../assets/rust-docs-lm/{name}", env!("CARGO_MANIFEST_DIR")))
            .unwrap()
    };
    let (tokenizer, config) = (file("tokenizer.json"), file("tokenizer_config.json"));
    let files = TextFiles {
        tokenizer_json: Some(&tokenizer),
        tokenizer_config: Some(&config),
        ..TextFiles::default()
    };
    let mut text = TextModel::load(&files).unwrap();
    let template = "{% if tools %}tools:{{ tools | length }} {% endif %}\
                    {% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}\
                    {% if add_generation_prompt %}[assistant] {% endif %}";
    text.set_template(ChatTemplate::new(template).unwrap()).unwrap();
    text
}

fn rows(lines: &[&str], mask: bool) -> lazul_lm::Result<Vec<Example>> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("train.jsonl");
    std::fs::write(&path, lines.join("\n")).unwrap();
    load(&path, &text(), &TuneConfig::merged(&[]).unwrap().features, mask)
}

fn tokens(of: &str) -> Vec<u32> {
    text().tokenizer().encode(of, false).unwrap()
}

#[test]
fn completions_and_conversations_are_told_by_the_first_row() {
    let completion = r#"{"prompt": "two and two?", "completion": "four."}"#;
    let chat = r#"{"messages": [{"role": "user", "content": "two and two?"}, {"role": "assistant", "content": "four."}]}"#;
    let (all, prompt) = (
        tokens("[user] two and two?\n[assistant] four.\n"),
        tokens("[user] two and two?\n[assistant] "),
    );
    for row in [completion, chat] {
        let plain = rows(&[row, row], false).unwrap();
        assert_eq!(plain, vec![Example { tokens: all.clone(), offset: 0 }; 2]);
        let masked = rows(&[row], true).unwrap();
        assert_eq!(masked, [Example { tokens: all.clone(), offset: prompt.len() }]);
    }
    // Tools are part of the prompt, and who does not answer has no turn opened for him.
    let tools = r#"{"messages": [{"role": "system", "content": "a"}, {"role": "user", "content": "b"}], "tools": [{"name": "f"}]}"#;
    let masked = rows(&[tools], true).unwrap();
    assert_eq!(masked[0].tokens, tokens("tools:1 [system] a\n[user] b\n"));
    assert_eq!(masked[0].offset, tokens("tools:1 [system] a\n").len());
}

#[test]
fn texts_end_with_the_end_token_once() {
    let end = text().tokenizer().special_ids().eos.unwrap();
    let all = rows(&[r#"{"text": "once"}"#, "", r#"{"text": ""}"#], false).unwrap();
    assert_eq!(all[0].tokens, [tokens("once"), vec![end]].concat());
    assert_eq!(all[1].tokens, [end]);
    assert!(
        load(
            std::path::Path::new("nowhere.jsonl"),
            &text(),
            &TuneConfig::merged(&[]).unwrap().features,
            false
        )
        .unwrap()
        .is_empty()
    );
}

#[test]
fn fields_may_have_other_names() {
    let names = json!({ "prompt_feature": "q", "completion_feature": "a" });
    let config = TuneConfig::merged(&[names.as_object().unwrap()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("train.jsonl");
    std::fs::write(&path, r#"{"q": "two and two?", "a": "four."}"#).unwrap();
    let all = load(&path, &text(), &config.features, false).unwrap();
    assert_eq!(all[0].tokens, tokens("[user] two and two?\n[assistant] four.\n"));
}

#[test]
fn rows_that_are_none_are_named() {
    for (lines, mask, said) in [
        (&[r#"{"question": 1}"#][..], false, "the first example has neither prompt and completion"),
        (&[r#"{"text": "a"}"#, r#"{"text": 5}"#], false, "example 2: text must be a text"),
        (&[r#"{"text": "a"}"#, "{"], false, "line 2"),
        (&[r#"{"text": "a"}"#], true, "no prompt"),
        (&[r#"{"messages": []}"#], false, "example 1: messages is empty"),
        (&[r#"{"messages": [{"content": "a"}]}"#], false, "role"),
        (&[r#"{"prompt": "a", "completion": null}"#], false, "completion must be a text"),
    ] {
        let error = rows(lines, mask).unwrap_err().to_string();
        assert!(error.contains(said), "{lines:?}: {error}");
    }
}
