//! `lazul chat`: a conversation at the prompt.

use crate::args::ChatArgs;
use crate::generate::{spared, variables};
use crate::{interrupt, open, output};
use anyhow::bail;
use lazul_lm::text::{Chat, Message};
use lazul_lm::{Checkpoint, KvCache};
use rustyline::error::ReadlineError;
use serde_json::{Map, Value};
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

pub(crate) fn run(args: ChatArgs) -> anyhow::Result<ExitCode> {
    let checkpoint = open::open(&args.model)?;
    let has_template = checkpoint.text.template().is_some();
    if !has_template && args.template.system_prompt.is_some() {
        bail!("{} has no chat template, so it takes no system prompt", checkpoint.name);
    }
    let variables = variables(&args.template)?;
    args.sampling.options(0, Vec::new()).sampling.check()?;
    eprintln!("{}", output::muted(&format!("Talking with {}.", checkpoint.name)));
    if !has_template {
        let note = "It has no chat template: it continues what you write.";
        eprintln!("{}", output::muted(note));
    }
    help();
    let mut session = Session {
        variables,
        checkpoint: &checkpoint,
        args: &args,
        messages: Vec::new(),
        seen: Vec::new(),
        cache: checkpoint.model.new_cache(),
    };
    session.reset();
    let mut editor = rustyline::DefaultEditor::new()?;
    let mut interrupted = false;
    loop {
        match editor.readline(">> ") {
            Ok(line) => {
                interrupted = false;
                match line.trim() {
                    "" => continue,
                    "q" => return Ok(ExitCode::SUCCESS),
                    "r" => {
                        session.reset();
                        eprintln!("{}", output::muted("The conversation starts anew."));
                    }
                    "h" => help(),
                    text => {
                        // What cannot be remembered in the history can still be answered.
                        let _ = editor.add_history_entry(&line);
                        if let Err(error) = session.answer(text) {
                            // Nobody is there to try again.
                            if !std::io::stdin().is_terminal() {
                                return Err(error);
                            }
                            eprintln!("error: {}", output::describe(&error));
                            session.reset();
                            eprintln!("{}", output::muted("The conversation starts anew."));
                        }
                    }
                }
            }
            Err(ReadlineError::Eof) => return Ok(ExitCode::SUCCESS),
            Err(ReadlineError::Interrupted) if interrupted => {
                return Ok(ExitCode::from(interrupt::CODE));
            }
            Err(ReadlineError::Interrupted) => {
                interrupted = true;
                eprintln!("{}", output::muted("Ctrl-C again, or q, ends the program."));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn help() {
    eprintln!("{}", output::muted("q quits, r starts anew, h shows this help."));
}

struct Session<'a> {
    checkpoint: &'a Checkpoint,
    args: &'a ChatArgs,
    variables: Map<String, Value>,
    messages: Vec<Message>,
    /// Tokens whose keys and values are in the cache.
    seen: Vec<u32>,
    cache: Vec<KvCache>,
}

impl Session<'_> {
    fn reset(&mut self) {
        self.cache = self.checkpoint.model.new_cache();
        self.seen.clear();
        self.messages.clear();
        let system = self.args.template.system_prompt.as_ref();
        self.messages.extend(system.map(|s| Message::new("system", s)));
    }

    /// Answers a message, as the next turn of the conversation.
    fn answer(&mut self, text: &str) -> anyhow::Result<()> {
        let with_template = self.checkpoint.text.template().is_some();
        let ids = if with_template {
            self.messages.push(Message::new("user", text));
            let mut chat = Chat::new(self.messages.clone());
            chat.variables = self.variables.clone();
            self.checkpoint.text.encode_chat(&chat)?
        } else {
            let first = self.seen.is_empty();
            let text = if first { text.to_string() } else { format!("\n{text}") };
            let new = self.checkpoint.text.tokenizer().encode(&text, first)?;
            self.seen.iter().copied().chain(new).collect()
        };
        // Templates may rewrite earlier turns: only what is the same is kept, and at least one token
        // must be left to start from.
        let same = self.seen.iter().zip(&ids).take_while(|(a, b)| a == b).count();
        let same = same.min(ids.len().saturating_sub(1));
        self.cache.iter_mut().for_each(|c| c.truncate(same));
        self.seen.truncate(same);

        interrupt::listen();
        interrupt::clear();
        let options = self.args.sampling.options(256, spared(self.checkpoint));
        let rules = self.checkpoint.text.stop_rules([])?;
        let bar = output::prompt_bar(false);
        open::warn_of_length(self.checkpoint, ids.len(), "the conversation has");
        let stream = self.checkpoint.stream(&ids[same..], &mut self.cache, &options, &rules, bar);
        let mut stream = match stream {
            Err(lazul_lm::Error::Cancelled) => {
                eprintln!("{}", output::muted("Interrupted; the message is forgotten."));
                self.cache.iter_mut().for_each(|c| c.truncate(same));
                if with_template {
                    self.messages.pop();
                }
                interrupt::clear();
                return Ok(());
            }
            stream => stream?,
        };
        let mut out = std::io::stdout().lock();
        let mut answer = String::new();
        let mut tokens = Vec::new();
        for piece in stream.by_ref() {
            let piece = piece?;
            tokens.extend(piece.token);
            answer.push_str(&piece.text);
            out.write_all(piece.text.as_bytes())?;
            out.flush()?;
            if interrupt::pressed() {
                break;
            }
        }
        writeln!(out)?;
        output::chat_footer(&stream.stats());
        drop(stream);
        // The step after the last token may have run already; its position is taken back.
        self.seen = ids;
        self.seen.extend(tokens);
        let known = self.cache.first().map_or(0, KvCache::len).min(self.seen.len());
        let keep = known.min(self.seen.len().saturating_sub(1));
        self.cache.iter_mut().for_each(|c| c.truncate(keep));
        self.seen.truncate(keep);
        if with_template {
            self.messages.push(Message::new("assistant", answer));
        }
        interrupt::clear();
        Ok(())
    }
}
