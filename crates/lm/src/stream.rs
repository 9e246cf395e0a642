//! Text from a model, as it comes.

use crate::cache::KvCache;
use crate::checkpoint::Checkpoint;
use crate::error::Result;
use crate::generate::{GenerateOptions, Tokens};
use crate::text::{Detokenizer, Stop, StopChecker, StopRules};
use lazul_core::memory;
use std::time::{Duration, Instant};

/// Why a generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// The model ended it, or a stop string came up.
    Stop,
    /// The most tokens that were allowed are there.
    Length,
}

impl Finish {
    /// `"stop"` or `"length"`.
    pub fn name(self) -> &'static str {
        match self {
            Finish::Stop => "stop",
            Finish::Length => "length",
        }
    }
}

/// A piece of text and the token that completed it; the text may be empty, when characters or
/// possible stop strings are still incomplete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Text that is final.
    pub text: String,
    /// The token, or `None` for what is left at the end.
    pub token: Option<u32>,
}

/// Counts and times of a generation.
#[derive(Debug, Clone, Copy, Default)]
pub struct Stats {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// From the start to the first token.
    pub prompt_time: Duration,
    /// Tokens generated.
    pub generated_tokens: usize,
    /// From the first token to the last.
    pub generation_time: Duration,
    /// Most bytes that arrays took at any time since the program began.
    pub peak_memory: usize,
}

impl Stats {
    /// Prompt tokens a second.
    pub fn prompt_tps(&self) -> f64 {
        self.prompt_tokens as f64 / self.prompt_time.as_secs_f64().max(1e-9)
    }

    /// Generated tokens a second, not counting the first, which belongs to the prompt.
    pub fn generation_tps(&self) -> f64 {
        let tokens = self.generated_tokens.saturating_sub(1);
        tokens as f64 / self.generation_time.as_secs_f64().max(1e-9)
    }
}

/// Text of one generation, piece by piece.
pub struct TextStream<'m> {
    tokens: Tokens<'m>,
    stop: &'m StopRules,
    detokenizer: Detokenizer,
    checker: StopChecker,
    started: Instant,
    stats: Stats,
    finish: Option<Finish>,
    done: bool,
}

impl Checkpoint {
    /// Generates text after `prompt`; see [`Tokens::new`].
    ///
    /// # Errors
    /// As [`Tokens::new`].
    pub fn stream<'m>(
        &'m self,
        prompt: &[u32],
        cache: &'m mut Vec<KvCache>,
        options: &GenerateOptions,
        stop: &'m StopRules,
        progress: impl FnMut(usize, usize),
    ) -> Result<TextStream<'m>> {
        let tokens = Tokens::new(&*self.model, prompt, cache, options, progress)?;
        let stats = Stats {
            prompt_tokens: tokens.prompt_tokens(),
            prompt_time: tokens.prefill_time(),
            ..Stats::default()
        };
        Ok(TextStream {
            tokens,
            stop,
            detokenizer: self.text.tokenizer().detokenizer(true),
            checker: stop.checker(),
            started: Instant::now(),
            stats,
            finish: None,
            done: false,
        })
    }
}

impl TextStream<'_> {
    /// Why it ended, once it has.
    pub fn finish(&self) -> Option<Finish> {
        self.finish
    }

    /// Counts and times so far.
    pub fn stats(&self) -> Stats {
        Stats { peak_memory: memory::stats().peak, ..self.stats }
    }

    fn end(&mut self, finish: Finish) -> Piece {
        self.finish = Some(finish);
        self.done = true;
        let tail = self.detokenizer.finish();
        let (mut text, stop) = self.checker.push(&tail);
        if stop.is_none() {
            text.push_str(&self.checker.finish());
        } else {
            self.finish = Some(Finish::Stop);
        }
        Piece { text, token: None }
    }
}

impl Iterator for TextStream<'_> {
    type Item = Result<Piece>;

    fn next(&mut self) -> Option<Result<Piece>> {
        if self.done {
            return None;
        }
        let token = match self.tokens.next() {
            None => return Some(Ok(self.end(Finish::Length))),
            Some(Err(e)) => {
                self.done = true;
                return Some(Err(e));
            }
            Some(Ok(token)) => token,
        };
        self.stats.generated_tokens += 1;
        self.stats.generation_time = self.started.elapsed();
        if self.stop.is_end(token) {
            return Some(Ok(self.end(Finish::Stop)));
        }
        let (text, stop) = self.checker.push(self.detokenizer.push(token));
        if let Some(Stop::Text(_)) = stop {
            self.finish = Some(Finish::Stop);
            self.done = true;
        }
        Some(Ok(Piece { text, token: Some(token) }))
    }
}
