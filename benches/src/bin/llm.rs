//! Prefill and decode of a model folder or GGUF file: `llm MODEL PROMPT_TOKENS NEW_TOKENS REPETITIONS` prints tokens
//! a second of each repetition and the peak resident memory as JSON.

use anyhow::Context;
use lazul_benches::peak_rss_mb;
use lazul_core::{device, memory};
use lazul_lm::Checkpoint;
use lazul_lm::generate::{GenerateOptions, Tokens};
use std::time::Instant;

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let usage = "usage: llm MODEL PROMPT_TOKENS NEW_TOKENS REPETITIONS";
    let path = args.next().context(usage)?;
    let mut number = || -> anyhow::Result<usize> { Ok(args.next().context(usage)?.parse()?) };
    let (prompt, new, repetitions) = (number()?, number()?, number()?);
    let start = Instant::now();
    let checkpoint = Checkpoint::open(&path)?;
    checkpoint.preload()?;
    let load = start.elapsed().as_secs_f64();
    let vocab = checkpoint.model.vocab_size() as u32;
    let ids: Vec<u32> = (0..prompt as u32).map(|i| (i * 7919 + 13) % (vocab - 10) + 5).collect();
    let (mut prefill, mut decode, mut first) = (Vec::new(), Vec::new(), None);
    let (moved, steps) = (memory::stats(), (repetitions * new).max(1));
    for _ in 0..repetitions {
        let mut cache = checkpoint.model.new_cache();
        let options = GenerateOptions { max_tokens: new + 1, ..Default::default() };
        let mut tokens = Tokens::new(&*checkpoint.model, &ids, &mut cache, &options, |_, _| {})?;
        tokens.next().context("no token")??;
        prefill.push(prompt as f64 / tokens.prefill_time().as_secs_f64());
        first.get_or_insert(start.elapsed().as_secs_f64());
        let begin = Instant::now();
        let mut count = 0;
        for token in tokens {
            token?;
            count += 1;
        }
        decode.push(count as f64 / begin.elapsed().as_secs_f64());
    }
    println!(
        "{}",
        serde_json::json!({
            "load_s": load,
            "ttft_s": first,
            "prefill_tps": prefill,
            "decode_tps": decode,
            "maxrss_mb": peak_rss_mb(),
            "threads": lazul_core::threads(),
            "device": device::default_device().to_string(),
            // Per new token.
            "uploaded": (memory::stats().uploaded - moved.uploaded) as f64 / steps as f64,
            "downloaded": (memory::stats().downloaded - moved.downloaded) as f64 / steps as f64,
            "fallbacks": device::fallbacks()
                .iter()
                .map(|f| format!("{} {}: {}", f.count, f.op, f.why))
                .collect::<Vec<_>>(),
        })
    );
    Ok(())
}
