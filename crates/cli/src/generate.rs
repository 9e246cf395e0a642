//! `lazul generate`: text after a prompt.

use crate::args::{GenerateArgs, TemplateArgs};
use crate::{interrupt, open, output};
use anyhow::{Context, bail};
use lazul_lm::Checkpoint;
use lazul_lm::text::{Chat, Message};
use serde_json::{Map, Value, json};
use std::io::{Read, Write};
use std::process::ExitCode;

pub(crate) fn run(args: GenerateArgs) -> anyhow::Result<ExitCode> {
    interrupt::listen();
    let prompt = match args.prompt.as_str() {
        "-" => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).context("reading the prompt")?;
            text
        }
        text => text.to_string(),
    };
    let checkpoint = open::open(&args.model)?;
    let ids = encode(&checkpoint, &prompt, &args)?;
    let quiet = args.quiet || args.json || !args.verbose;
    let options = args.sampling.options(100, spared(&checkpoint));
    let rules = checkpoint.text.stop_rules(args.stop.iter().cloned())?;
    let mut cache = checkpoint.model.new_cache();
    let bar = output::prompt_bar(quiet);
    let mut stream = match checkpoint.stream(&ids, &mut cache, &options, &rules, bar) {
        Err(lazul_lm::Error::Cancelled) => {
            eprintln!("interrupted before the first token");
            return Ok(ExitCode::from(interrupt::CODE));
        }
        stream => stream?,
    };
    let mut out = std::io::stdout().lock();
    let mut text = String::new();
    let mut tokens = Vec::new();
    for piece in stream.by_ref() {
        let piece = piece?;
        tokens.extend(piece.token);
        if args.json {
            text.push_str(&piece.text);
        } else {
            out.write_all(piece.text.as_bytes())?;
            out.flush()?;
        }
        if interrupt::pressed() {
            break;
        }
    }
    let interrupted = interrupt::pressed();
    let stats = stream.stats();
    if args.json {
        let finish = match stream.finish() {
            Some(finish) => finish.name(),
            None => "interrupted",
        };
        let report = json!({
            "model": checkpoint.name,
            "text": text,
            "tokens": tokens,
            "finish_reason": finish,
            "prompt_tokens": stats.prompt_tokens,
            "prompt_tps": stats.prompt_tps(),
            "time_to_first_token": stats.prompt_time.as_secs_f64(),
            "generation_tokens": stats.generated_tokens,
            "generation_tps": stats.generation_tps(),
            "peak_memory": stats.peak_memory,
        });
        writeln!(out, "{report}")?;
    } else {
        writeln!(out)?;
        if !quiet {
            output::footer(&stats);
            let all = ids.len() + stats.generated_tokens;
            open::warn_of_length(&checkpoint, all, "prompt and answer have");
        }
    }
    Ok(if interrupted { ExitCode::from(interrupt::CODE) } else { ExitCode::SUCCESS })
}

/// Tokens that XTC sampling never drops: line breaks and ends.
pub(crate) fn spared(checkpoint: &Checkpoint) -> Vec<u32> {
    let lines = checkpoint.text.tokenizer().encode("\n", false).unwrap_or_default();
    lines.into_iter().chain(checkpoint.text.end_tokens()).collect()
}

/// Variables for the chat template from the command line.
pub(crate) fn variables(args: &TemplateArgs) -> anyhow::Result<Map<String, Value>> {
    let Some(text) = &args.chat_template_config else { return Ok(Map::new()) };
    let value = lazul_io::json::parse_plain(text.as_bytes()).context("--chat-template-config")?;
    match value {
        Value::Object(map) => Ok(map),
        _ => bail!("--chat-template-config needs a JSON object"),
    }
}

/// The prompt's tokens: through the chat template where the model has one.
fn encode(checkpoint: &Checkpoint, prompt: &str, args: &GenerateArgs) -> anyhow::Result<Vec<u32>> {
    let variables = variables(&args.template)?;
    let plain = args.ignore_chat_template || checkpoint.text.template().is_none();
    if plain {
        if args.template.system_prompt.is_some() || args.prefill_response.is_some() {
            bail!("--system-prompt and --prefill-response need a model with a chat template");
        }
        if args.template.chat_template_config.is_some() {
            bail!("--chat-template-config needs a model with a chat template");
        }
        return Ok(checkpoint.text.tokenizer().encode(prompt, true)?);
    }
    let mut messages = Vec::new();
    messages.extend(args.template.system_prompt.as_ref().map(|s| Message::new("system", s)));
    messages.push(Message::new("user", prompt));
    let mut chat = match &args.prefill_response {
        Some(begin) => {
            messages.push(Message::new("assistant", begin));
            Chat::to_continue(messages)
        }
        None => Chat::new(messages),
    };
    chat.variables = variables;
    Ok(checkpoint.text.encode_chat(&chat)?)
}
