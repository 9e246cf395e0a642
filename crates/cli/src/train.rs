//! `lazul train`: a small model from nothing but texts.

use crate::args::TrainArgs;
use crate::{embedded, interrupt, open, output};
use anyhow::bail;
use lazul_io::ModelFolder;
use lazul_lm::pretrain::{PretrainConfig, pretrain, windows};
use lazul_nn::train::{Checkpoints, Ending, Progress};
use std::process::ExitCode;

pub(crate) fn run(args: &TrainArgs) -> anyhow::Result<ExitCode> {
    interrupt::listen();
    let text = open::by_name(args.tokenizer.as_deref())?.text;
    let config = PretrainConfig {
        layers: args.layers,
        dim: args.dim,
        heads: args.heads,
        context: args.context,
        batch_size: args.batch_size,
        iters: args.iters as u64,
        learning_rate: args.learning_rate,
        seed: args.seed,
        report_every: args.steps_per_report as u64,
        evaluate_every: args.steps_per_eval as u64,
        save_every: args.save_every as u64,
        ..PretrainConfig::default()
    };
    // What is wrong with the sizes is said before anything is read or written.
    config.model(&text)?;
    let data = windows(&args.data, &text, config.context)?;
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
        pretrain(&config, &text, data, folder, args.resume, cancel, &mut |e| progress.show(e))?;
    if outcome.ending == Ending::Cancelled {
        eprintln!("interrupted: the same command with --resume goes on");
        return Ok(ExitCode::from(interrupt::CODE));
    }
    output::line(format!("Saved model to {}", folder.display()));
    Ok(ExitCode::SUCCESS)
}
