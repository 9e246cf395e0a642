//! Opening the model that the command line names.

use crate::args::ModelArgs;
use crate::{embedded, output};
use anyhow::{Context, bail};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget};
use lazul_io::hub::{Hub, Progress, RepoId};
use lazul_lm::Checkpoint;
use lazul_lm::tune::load_adapters;
use std::collections::HashMap;
use std::io::IsTerminal;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// The model of a command line, with further end tokens.
pub(crate) fn open(args: &ModelArgs) -> anyhow::Result<Checkpoint> {
    let mut checkpoint = by_name(args.model.as_deref())?;
    for token in &args.extra_eos_token {
        checkpoint.text.add_end_token(token).context("--extra-eos-token")?;
    }
    for folder in &args.adapter_path {
        load_adapters(&mut checkpoint.model, folder).context("--adapter-path")?;
    }
    Ok(checkpoint)
}

/// A model by folder, GGUF file or hub id, or the built-in one.
pub(crate) fn by_name(name: Option<&str>) -> anyhow::Result<Checkpoint> {
    let Some(name) = name else {
        return Ok(Checkpoint::embedded(embedded::NAME, embedded::FILES)?);
    };
    let is_path = name.starts_with(['/', '.', '~'])
        || name.to_ascii_lowercase().ends_with(".gguf")
        || Path::new(name).exists();
    if Path::new(name).is_file() && !name.to_ascii_lowercase().ends_with(".gguf") {
        bail!("{name} is a file: a model is the folder that holds it, or a .gguf file");
    }
    let repo = if is_path { None } else { name.parse::<RepoId>().ok() };
    let opened = match repo {
        None => Checkpoint::open(name),
        Some(repo) => {
            let mut hub = Hub::from_env().context("the hub's settings")?;
            if hub.wants_progress_bars() && std::io::stderr().is_terminal() {
                hub = hub.with_progress(Arc::new(Bars::default()));
            }
            let folder = hub.model(&repo, "main").with_context(|| {
                format!("there is no folder {name}, and the hub gives no such model")
            })?;
            Checkpoint::from_folder(name, &folder)
        }
    };
    opened.map_err(|error| {
        let named = error.to_string().starts_with(name);
        let error = anyhow::Error::from(error);
        if named { error } else { error.context(format!("model {name}")) }
    })
}

/// Says so if a text of `tokens` is longer than those that the model was trained on.
pub(crate) fn warn_of_length(checkpoint: &Checkpoint, tokens: usize, what: &str) {
    let made_for = checkpoint.config.get("max_position_embeddings").and_then(|n| n.as_u64());
    if let Some(n) = made_for.filter(|&n| tokens as u64 > n) {
        eprintln!("warning: {what} {tokens} tokens, more than the {n} that the model was made for");
    }
}

/// Download bars, one a file.
#[derive(Default)]
struct Bars {
    all: MultiProgress,
    bars: Mutex<HashMap<String, ProgressBar>>,
}

impl Bars {
    fn with(&self, file: &str, f: impl FnOnce(&ProgressBar)) {
        let bars = self.bars.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(bar) = bars.get(file) {
            f(bar);
        }
    }
}

impl Progress for Bars {
    fn begin(&self, file: &str, total: Option<u64>, present: u64) {
        self.all.set_draw_target(ProgressDrawTarget::stderr());
        let template = "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec}, {eta} left";
        let bar = self.all.add(output::bar(total.unwrap_or(0), template));
        bar.set_message(file.to_string());
        bar.set_position(present);
        let mut bars = self.bars.lock().unwrap_or_else(|e| e.into_inner());
        bars.insert(file.to_string(), bar);
    }

    fn advance(&self, file: &str, bytes: u64) {
        self.with(file, |bar| bar.inc(bytes));
    }

    fn end(&self, file: &str) {
        self.with(file, ProgressBar::finish_and_clear);
    }
}
