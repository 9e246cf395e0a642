//! `lazul train`: a small model from nothing but texts.

use crate::args::TrainArgs;
use crate::{embedded, interrupt, open, output};
use anyhow::{Context, bail};
use lazul_core::DType;
use lazul_io::ModelFolder;
use lazul_lm::pretrain::{Corpus, PretrainConfig, pretrain};
use lazul_nn::train::{Checkpoints, Ending, Progress};
use std::process::ExitCode;

pub(crate) fn run(args: &TrainArgs) -> anyhow::Result<ExitCode> {
    interrupt::listen();
    let text = open::by_name(args.tokenizer.as_deref())?.text;
    let config = PretrainConfig {
        layers: args.layers,
        dim: args.dim,
        heads: args.heads,
        kv_heads: args.kv_heads,
        inner: args.ffn_dim,
        context: args.context,
        batch_size: args.batch_size,
        iters: args.iters as u64,
        learning_rate: args.learning_rate,
        weight_decay: args.weight_decay,
        dropout: args.dropout,
        dtype: if args.dtype == "bfloat16" { DType::BF16 } else { DType::F32 },
        seed: args.seed,
        report_every: args.steps_per_report as u64,
        evaluate_every: args.steps_per_eval as u64,
        save_every: args.save_every as u64,
    };
    // What is wrong with the sizes is said before anything is read, and with the texts before anything is written.
    config.model(&text)?;
    let mut corpus = Corpus::read(&args.data, args.valid.as_deref(), &text)?;
    if !args.mix.is_empty() {
        corpus.set_shares(&args.mix).context("--mix")?;
    }
    corpus.batches(config.batch_size, config.context, config.seed)?;
    let folder = &args.save_path;
    let at = || folder.display().to_string();
    let there = |name: &str| folder.join(name).exists();
    if !args.resume && (there("config.json") || there("model.safetensors")) {
        bail!("{} holds a model already; go on with it (--resume), or take another folder", at());
    }
    let begun = !Checkpoints::open(folder, 1)?.steps()?.is_empty();
    if !begun && there("model.safetensors") {
        bail!("{} holds a model and no checkpoint to go on from; take another folder", at());
    }
    // Configuration and weights come with the first checkpoint: the folder is a model then. Before it, all may
    // be another's who was killed.
    let put = |name: &str, bytes: &[u8]| lazul_io::write_file(&folder.join(name), bytes);
    match &args.tokenizer {
        _ if begun => {}
        Some(name) => {
            let from = ModelFolder::open(name)?;
            for name in from.tokenizer_files()? {
                put(&name, &from.bytes(&name)?.unwrap_or_default())?;
            }
        }
        None => {
            for (name, bytes) in embedded::FILES {
                if name.starts_with("tokenizer") {
                    put(name, bytes)?;
                }
            }
        }
    }
    let mut progress = Progress::new(config.iters);
    let cancel = Some(interrupt::flag());
    let (_, outcome) =
        pretrain(&config, &text, &corpus, folder, args.resume, cancel, &mut |e| progress.show(e))?;
    if outcome.ending == Ending::Cancelled {
        eprintln!("interrupted: the same command with --resume goes on");
        return Ok(ExitCode::from(interrupt::CODE));
    }
    output::line(format!("Saved model to {}", folder.display()));
    Ok(ExitCode::SUCCESS)
}
