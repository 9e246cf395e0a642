//! A language model from nothing: trained on a text with the tokenizer of the model that ships, written as a folder
//! that `lazul generate --model` takes, and asked to go on.
//!
//! `lazul train` does the same from the command line.

use lazul::lm::pretrain::{Corpus, PretrainConfig, pretrain, stream_loss};
use lazul::lm::text::StopRules;
use lazul::lm::{Checkpoint, GenerateOptions};
use lazul_examples::{flag, progress};
use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let shipped = root.join("assets/rust-docs-lm");
    let texts = flag("--data").unwrap_or_else(|| root.join("recipes/rust-docs-lm/heldout.txt"));
    let temporary = tempfile::tempdir()?;
    let folder: PathBuf = flag("--save").unwrap_or_else(|| temporary.path().join("model"));

    let text = Checkpoint::open(&shipped.display().to_string())?.text;
    let corpus = Corpus::read(&texts, None, &text)?;
    println!("{} tokens to learn from, {} held back", corpus.tokens(), corpus.valid.len());
    // A model's folder has its tokenizer.
    std::fs::create_dir_all(&folder)?;
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(shipped.join(name), folder.join(name))?;
    }
    let config = PretrainConfig {
        layers: 3,
        dim: 128,
        heads: 4,
        context: 96,
        batch_size: 8,
        iters: 160,
        learning_rate: 4e-3,
        report_every: 20,
        evaluate_every: 80,
        save_every: 80,
        ..PretrainConfig::default()
    };
    let mut watch = progress(config.iters);
    pretrain(&config, &text, &corpus, &folder, false, None, &mut watch)?;

    let made = Checkpoint::open(&folder.display().to_string())?;
    let loss = stream_loss(&*made.model, &corpus.valid, config.context, config.batch_size)?;
    println!("validation perplexity {:.1} of {} tokens", loss.exp(), text.tokenizer().vocab_size());
    let prompt = made.text.tokenizer().encode("The compiler", false)?;
    let (mut cache, stop) = (made.model.new_cache(), StopRules::default());
    let options = GenerateOptions { max_tokens: 40, ..GenerateOptions::default() };
    print!("The compiler");
    for piece in made.stream(&prompt, &mut cache, &options, &stop, |_, _| ())? {
        print!("{}", piece?.text);
    }
    println!();
    Ok(())
}
