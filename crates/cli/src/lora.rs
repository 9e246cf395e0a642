//! `lazul lora`: fine-tuning, with mlx-lm's flags, files and lines.

use crate::args::LoraArgs;
use crate::{embedded, interrupt, open, output};
use anyhow::{Context, bail};
use indicatif::ProgressBar;
use lazul_lm::Checkpoint;
use lazul_lm::tune::{
    Example, TrainOptions, TuneConfig, TuneType, evaluate, load, load_adapters, prepare, save_peft,
    sizes, train,
};
use lazul_nn::train::{Ending, Event};
use serde_json::{Map, Value};
use std::path::Path;
use std::process::ExitCode;

pub(crate) fn run(args: &LoraArgs) -> anyhow::Result<ExitCode> {
    interrupt::listen();
    let mut flags = given(args);
    let yaml = match &args.config {
        Some(path) => {
            output::line(format!("Loading configuration file {}", path.display()));
            let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
            TuneConfig::read_yaml(&text)?
        }
        None => Map::new(),
    };
    let named = |place: &Map<String, Value>| place.get("model").is_some_and(|m| !m.is_null());
    let built_in = !named(&flags) && !named(&yaml);
    if built_in {
        flags.insert("model".to_string(), embedded::NAME.into());
    }
    let config = TuneConfig::merged(&[&flags, &yaml])?;
    if !config.train && !config.test && args.export_peft.is_none() {
        bail!("Must provide at least one of --train or --test");
    }
    if args.report_to.is_some() {
        eprintln!("note: --report-to: figures go to metrics.jsonl and loss.html of the adapters");
    }
    output::line("Loading pretrained model");
    let checkpoint = open::by_name((!built_in).then_some(config.model.as_str()))?;
    let [examples, valid, test] = match config.train || config.test {
        true => {
            output::line("Loading datasets");
            datasets(&checkpoint, &config)?
        }
        false => Default::default(),
    };
    let Checkpoint { mut model, .. } = checkpoint;
    if config.train {
        output::line("Training");
        if let Some(file) = &config.resume_adapter_file {
            output::line(format!("Loading fine-tuned weights from {file}"));
        }
        let tuned = prepare(model, &config)?;
        header(&config);
        let (trained, all) = sizes(&tuned)?;
        let (trained, all) = (trained as f64 / 1e6, all as f64 / 1e6);
        output::line(format!(
            "Trainable parameters: {:.3}% ({trained:.3}M/{all:.3}M)",
            trained * 100.0 / all
        ));
        output::line("  iter   train_loss     tok/s     tokens");
        let mut table = Table::new(&config);
        let options = TrainOptions { resume: args.resume, cancel: Some(interrupt::flag()) };
        let ran = train(tuned, &config, examples, &valid, &options, &mut |e| table.show(e));
        table.bar.finish_and_clear();
        let (tuned, outcome) = ran?;
        output::line(format!(
            "Saved final weights to {}/adapters.safetensors.",
            config.adapter_path
        ));
        if outcome.ending == Ending::Cancelled {
            eprintln!("interrupted: the same command with --resume goes on");
            return Ok(ExitCode::from(interrupt::CODE));
        }
        model = tuned.into_inner();
    } else if !config.adapter_path.is_empty() {
        load_adapters(&mut model, Path::new(&config.adapter_path)).context("--adapter-path")?;
    }
    if config.test {
        output::line("Testing");
        lazul_nn::Module::eval(&mut model);
        let bar = output::bar(0, "Calculating loss... {wide_bar} {pos}/{len}");
        let mut progress = |done: usize, all: usize| {
            bar.set_length(all as u64);
            bar.set_position(done as u64);
        };
        let loss = evaluate(&*model, &test, &config, config.test_batches, &mut progress);
        bar.finish_and_clear();
        let loss = loss?;
        output::line(format!("Test loss {loss:.3}, Test ppl {:.3}.", loss.exp()));
    }
    if let Some(folder) = &args.export_peft {
        let n = save_peft(&*model, &config.model, folder).context("--export-peft")?;
        output::line(format!("Saved {n} adapters for PEFT to {}", folder.display()));
    }
    Ok(ExitCode::SUCCESS)
}

/// The options that the command line has, by their names in YAML files.
fn given(args: &LoraArgs) -> Map<String, Value> {
    let flag = |on: bool| if on { Value::Bool(true) } else { Value::Null };
    let all: [(&str, Value); 28] = [
        ("model", args.model.clone().into()),
        ("train", flag(args.train)),
        ("test", flag(args.test)),
        ("data", args.data.clone().into()),
        ("fine_tune_type", args.fine_tune_type.clone().into()),
        ("optimizer", args.optimizer.clone().into()),
        ("mask_prompt", flag(args.mask_prompt)),
        ("pack", flag(args.pack)),
        ("num_layers", args.num_layers.into()),
        ("batch_size", args.batch_size.into()),
        ("iters", args.iters.into()),
        ("val_batches", args.val_batches.into()),
        ("learning_rate", args.learning_rate.into()),
        ("steps_per_report", args.steps_per_report.into()),
        ("steps_per_eval", args.steps_per_eval.into()),
        ("grad_accumulation_steps", args.grad_accumulation_steps.into()),
        ("resume_adapter_file", args.resume_adapter_file.clone().into()),
        ("adapter_path", args.adapter_path.clone().into()),
        ("save_every", args.save_every.into()),
        ("test_batches", args.test_batches.into()),
        ("max_seq_length", args.max_seq_length.into()),
        ("config", args.config.as_ref().map(|c| c.display().to_string()).into()),
        ("grad_checkpoint", flag(args.grad_checkpoint)),
        ("clear_cache_threshold", args.clear_cache_threshold.into()),
        ("seed", args.seed.into()),
        ("report_to", args.report_to.clone().into()),
        ("project_name", args.project_name.clone().into()),
        ("trust_remote_code", flag(args.trust_remote_code)),
    ];
    all.into_iter().map(|(key, value)| (key.to_string(), value)).collect()
}

/// Examples to train on, to validate with and to test with.
fn datasets(checkpoint: &Checkpoint, config: &TuneConfig) -> anyhow::Result<[Vec<Example>; 3]> {
    let folder = Path::new(&config.data);
    if !folder.is_dir() {
        bail!(
            "there is no folder {} (--data): it has train.jsonl, valid.jsonl and test.jsonl",
            config.data
        );
    }
    let read = |name: &str, wanted: bool| {
        let path = folder.join(name);
        match wanted {
            true => load(&path, &checkpoint.text, &config.features, config.mask_prompt),
            false => Ok(Vec::new()),
        }
    };
    let all = [
        read("train.jsonl", config.train)?,
        read("valid.jsonl", config.train)?,
        read("test.jsonl", config.test)?,
    ];
    if config.train && all[0].is_empty() {
        bail!("Training set not found or empty. Must provide training set for fine-tuning.");
    }
    if config.train && all[1].is_empty() {
        output::line(
            "Warning: Validation set not found or empty. Training will proceed without validation.",
        );
    }
    if config.test && all[2].is_empty() {
        bail!("Test set not found or empty. Must provide test set for evaluation.");
    }
    let longest = all.iter().flatten().map(|e| e.tokens.len()).max().unwrap_or(0);
    let most = config.max_seq_length;
    if longest > most {
        output::line(format!(
            "[WARNING] Some sequences are longer than {most} tokens. The longest sentence {longest} \
             will be truncated to {most}. Consider pre-splitting your data to save memory."
        ));
    }
    Ok(all)
}

/// The box that a training begins with.
fn header(config: &TuneConfig) {
    let layers = match config.num_layers {
        Some(n) => n.to_string(),
        None => "all".to_string(),
    };
    let kind = match config.kind {
        TuneType::Full => format!("full · {layers} layers"),
        kind => format!("{} · {layers} layers · rank {}", kind.name(), config.lora.rank),
    };
    let rate = match config.to_json()["lr_schedule"].is_null() {
        true => format!("{:.1e}", config.learning_rate),
        false => "schedule".to_string(),
    };
    let rows = [
        ("model", config.model.clone()),
        ("type", kind),
        ("dataset", config.data.clone()),
        ("optimizer", format!("{} · lr {rate}", config.optimizer)),
        ("batch · iters", format!("{} · {}", config.batch_size, grouped(config.iters as f64))),
        ("max seq", grouped(config.max_seq_length as f64)),
    ];
    let lines: Vec<String> =
        rows.iter().map(|(name, value)| format!("  {name:<13}   {value}")).collect();
    let width = lines.iter().map(|l| l.chars().count()).max().unwrap_or(0) + 4;
    output::line(format!("╭─ lazul lora {}╮", "─".repeat(width.saturating_sub(12))));
    for line in lines {
        output::line(format!("│{line}{}│", " ".repeat(width + 1 - line.chars().count())));
    }
    output::line(format!("╰{}╯", "─".repeat(width + 1)));
}

/// A whole number with commas.
fn grouped(x: f64) -> String {
    let digits = format!("{x:.0}");
    let mut text = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(c);
    }
    text
}

/// The table of a training, with a bar below it on a terminal.
struct Table {
    bar: ProgressBar,
    before: Option<f64>,
    save_every: u64,
}

impl Table {
    fn new(config: &TuneConfig) -> Table {
        let bar = output::bar(config.iters, "train {wide_bar} {percent:>3}% · {pos}/{len} {msg}");
        Table { bar, before: None, save_every: config.save_every }
    }

    fn show(&mut self, event: &Event) {
        let line = match event {
            Event::Step { step, loss } => {
                self.bar.set_position(*step);
                self.bar.set_message(format!("{loss:.3} · {:.1}/s", self.bar.per_sec()));
                return;
            }
            Event::Report(r) => {
                let falls = self.before.is_none_or(|before| r.loss <= before);
                self.before = Some(r.loss);
                let arrow = if falls { '▼' } else { '▲' };
                let speed = grouped(r.tokens_per_second);
                let tokens = r.trained_tokens as f64 / 1000.0;
                format!(
                    "  {:>4}    {:>5.3} {arrow}    {speed:>5}    {tokens:>5.1}k",
                    r.step, r.loss
                )
            }
            Event::Evaluated { step, loss, seconds } => {
                format!("  {:>4}    val {loss:>5.3}    {seconds:.2}s", (*step).max(1))
            }
            Event::Saved { step, .. } if step.is_multiple_of(self.save_every) => {
                format!("  save  {step:07}_adapters.safetensors")
            }
            Event::Resumed { step } => {
                self.bar.set_position(*step);
                self.bar.reset_eta();
                format!("  resume  after {step}")
            }
            Event::Rejected(r) => {
                let why = format!("warning: {}: put aside: {}", r.folder.display(), r.why);
                self.bar.suspend(|| eprintln!("{why}"));
                return;
            }
            _ => return,
        };
        self.bar.suspend(|| output::line(&line));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_commas() {
        let all = [0.0, 12.0, 999.6, 1234567.0].map(grouped);
        assert_eq!(all, ["0", "12", "1,000", "1,234,567"]);
    }
}
