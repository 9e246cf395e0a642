//! `lazul perplexity`: how well a model foretells a text.

use crate::args::PerplexityArgs;
use crate::{open, output};
use anyhow::Context;
use lazul_lm::pretrain::stream_loss;
use lazul_lm::text::Control;
use std::process::ExitCode;

pub(crate) fn run(args: &PerplexityArgs) -> anyhow::Result<ExitCode> {
    let checkpoint = open::open(&args.model)?;
    let at = || args.data.display().to_string();
    let text = std::fs::read_to_string(&args.data).with_context(at)?;
    // A control token's name stands for the token: between documents, say.
    let tokens = checkpoint.text.tokenizer().encode_as(&text, true, Control::Parse);
    let tokens = tokens.with_context(at)?;
    let made_for = checkpoint.config.get("max_position_embeddings").and_then(|n| n.as_u64());
    let usual = made_for.map_or(2048, |n| n.min(2048) as usize);
    let context = args.sequence_length.unwrap_or(usual);
    let loss =
        stream_loss(&*checkpoint.model, &tokens, context, args.batch_size).with_context(at)?;
    output::line(format!(
        "Perplexity {:.3}, loss {loss:.4} over {} tokens in windows of {context}",
        loss.exp(),
        tokens.len() - 1
    ));
    Ok(ExitCode::SUCCESS)
}
