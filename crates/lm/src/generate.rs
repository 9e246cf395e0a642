//! Generating tokens: chunked prefill, then one step a token, each started before the last token is
//! read.

use crate::cache::KvCache;
use crate::error::{Error, Result};
use crate::models::LanguageModel;
use crate::sample::{Sampler, Sampling};
use lazul_core::{Array, DType, concatenate, eval, eval_ahead};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// How a generation runs.
#[derive(Debug, Clone)]
pub struct GenerateOptions {
    /// Most tokens to generate.
    pub max_tokens: usize,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Prompt tokens that are processed at a time.
    pub prefill_step_size: usize,
    /// Looked at between those steps: once it is true, the prompt is given up.
    pub cancel: Option<Arc<AtomicBool>>,
}

impl Default for GenerateOptions {
    fn default() -> GenerateOptions {
        GenerateOptions {
            max_tokens: 100,
            sampling: Sampling::default(),
            prefill_step_size: 2048,
            cancel: None,
        }
    }
}

/// Token ids of one sequence, one at a time.
///
/// The cache then holds the prompt and all tokens but the last of `max_tokens`; after an earlier stop it
/// holds the last token too, whose successor was under way. [`KvCache::truncate`] takes positions back.
pub struct Tokens<'m> {
    model: &'m dyn LanguageModel,
    cache: &'m mut Vec<KvCache>,
    sampler: Sampler,
    /// The last tokens, for penalties: integers `(n,)`.
    recent: Option<Array>,
    /// The token whose computation is under way.
    next: Option<Array>,
    /// Why the next token could not be started.
    failed: Option<Error>,
    left: usize,
    prompt_tokens: usize,
    prefill: Duration,
}

impl<'m> Tokens<'m> {
    /// Processes a prompt and starts to compute the first token. `progress` is told how many prompt
    /// tokens are done, of how many.
    ///
    /// # Errors
    /// For an empty prompt, a token beyond the vocabulary, options out of range, and what goes wrong
    /// while computing; [`Error::Cancelled`] if `options.cancel` became true.
    pub fn new(
        model: &'m dyn LanguageModel,
        prompt: &[u32],
        cache: &'m mut Vec<KvCache>,
        options: &GenerateOptions,
        mut progress: impl FnMut(usize, usize),
    ) -> Result<Tokens<'m>> {
        let start = Instant::now();
        if prompt.is_empty() {
            return Err(Error::Argument("the prompt has no tokens".to_string()));
        }
        if let Some(id) = prompt.iter().find(|&&id| id as usize >= model.vocab_size()) {
            let n = model.vocab_size();
            return Err(Error::Argument(format!("token {id} is beyond the vocabulary of {n}")));
        }
        let sampler = Sampler::new(options.sampling.clone())?;
        let mut done = 0;
        progress(0, prompt.len());
        let step = options.prefill_step_size.max(1);
        let tokens = |part: &[u32]| Array::from_slice(part, [1, part.len()]);
        // The last tokens are a step like those that follow: logits are wanted for the very last only.
        while prompt.len() - done > step {
            let end = done + step;
            let _ = model.features(&tokens(&prompt[done..end]), cache)?;
            eval(cache.iter().flat_map(KvCache::arrays))?;
            if options.cancel.as_ref().is_some_and(|c| c.load(Relaxed)) {
                return Err(Error::Cancelled);
            }
            done = end;
            progress(done, prompt.len());
        }
        let recent = (sampler.context() > 0).then(|| {
            let from = prompt.len() - sampler.context().min(prompt.len());
            Array::from_slice(&prompt[from..], [prompt.len() - from])
        });
        let mut generation = Tokens {
            model,
            cache,
            sampler,
            recent,
            next: None,
            failed: None,
            left: options.max_tokens,
            prompt_tokens: prompt.len(),
            prefill: Duration::ZERO,
        };
        let last = tokens(&prompt[done..]);
        if generation.left > 0 {
            let first = generation.step(&last)?;
            first.eval()?;
            generation.next = Some(first);
        } else {
            let _ = model.features(&last, generation.cache)?;
            eval(generation.cache.iter().flat_map(KvCache::arrays))?;
        }
        progress(prompt.len(), prompt.len());
        generation.prefill = start.elapsed();
        Ok(generation)
    }

    /// Starts to compute the token after `tokens (1, t)`.
    fn step(&mut self, tokens: &Array) -> Result<Array> {
        let features = self.model.features(tokens, self.cache)?; // (1, t, d)
        let features = features.slice_axis(1, -1, None); // (1, 1, d)
        let logits = self.model.logits(&features)?.reshape([-1]); // (vocabulary,)
        let next = self.sampler.sample(&logits, self.recent.as_ref())?; // (1,)
        if let Some(recent) = &mut self.recent {
            let context = self.sampler.context();
            let long = concatenate(&[recent.astype(DType::U32), next.clone()], 0);
            let from = long.dim(0)?.saturating_sub(context) as i64;
            *recent = long.slice_axis(0, from, None);
        }
        eval_ahead([&next])?;
        Ok(next)
    }

    /// Number of tokens in the prompt.
    pub fn prompt_tokens(&self) -> usize {
        self.prompt_tokens
    }

    /// Time from the start to the first token.
    pub fn prefill_time(&self) -> Duration {
        self.prefill
    }
}

impl Iterator for Tokens<'_> {
    type Item = Result<u32>;

    fn next(&mut self) -> Option<Result<u32>> {
        if let Some(error) = self.failed.take() {
            return Some(Err(error));
        }
        let current = self.next.take()?;
        self.left -= 1;
        if self.left > 0 {
            match self.step(&current.reshape([1, 1])) {
                Ok(next) => self.next = Some(next),
                // This token is there; the error is the next one's.
                Err(e) => self.failed = Some(e),
            }
        }
        Some(current.item::<u32>().map_err(Error::from))
    }
}
