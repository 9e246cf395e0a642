//! Every flag of the program. Names and defaults are mlx-lm's where it has the flag.

use crate::interrupt;
use clap::{ArgAction, Args, Parser, Subcommand};
use lazul_core::device::Device;
use lazul_lm::{GenerateOptions, Sampling};
use std::path::PathBuf;

/// Run language models on your own machine.
#[derive(Parser)]
#[command(name = "lazul", version, about, propagate_version = true, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,

    /// What to compute on: auto, cpu, cuda (the first NVIDIA device), cuda:1.
    #[arg(long, global = true, env = "LAZUL_DEVICE", value_name = "DEVICE")]
    pub(crate) device: Option<Device>,

    /// Log what happens to standard error (or set LAZUL_LOG to a tracing filter).
    #[arg(long = "debug", global = true)]
    pub(crate) verbose_log: bool,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Generate text after a prompt.
    #[command(allow_negative_numbers = true)]
    Generate(GenerateArgs),
    /// Talk with a model.
    #[command(allow_negative_numbers = true)]
    Chat(ChatArgs),
    /// Show a model's architecture, size, quantization and memory needs.
    #[command(allow_negative_numbers = true)]
    Info(InfoArgs),
    /// Fine-tune a model by low-rank adapters (LoRA, DoRA), or whole layers of it.
    #[command(allow_negative_numbers = true)]
    Lora(Box<LoraArgs>),
    /// Merge the adapters of a fine-tuning into their model.
    Fuse(FuseArgs),
    /// Train a small model from nothing on a folder of texts.
    #[command(allow_negative_numbers = true)]
    Train(TrainArgs),
    /// Measure how well a model foretells a text.
    Perplexity(PerplexityArgs),
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page, or write all pages to a folder.
    Man {
        /// Folder for the pages of all subcommands.
        #[arg(long)]
        dir: Option<PathBuf>,
    },
}

#[derive(Args)]
pub(crate) struct ModelArgs {
    /// A model folder, a GGUF file, or a repository of the Hugging Face hub (ORG/NAME). Without it, the
    /// small model inside this program.
    #[arg(long)]
    pub(crate) model: Option<String>,

    /// A further token that ends a generation; may be repeated.
    #[arg(long, value_name = "TOKEN", num_args = 1..)]
    pub(crate) extra_eos_token: Vec<String>,

    /// A folder of adapters that `lazul lora`, mlx-lm or PEFT wrote; may be repeated: adapters add up.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) adapter_path: Vec<PathBuf>,

    /// Accepted for compatibility; code that comes with a model is never run.
    #[arg(long, hide = true)]
    pub(crate) trust_remote_code: bool,
}

#[derive(Args)]
pub(crate) struct SamplingArgs {
    /// Sampling temperature; 0 takes the likeliest token.
    #[arg(long, default_value_t = 0.0, value_parser = number::<10_000>)]
    pub(crate) temp: f32,

    /// Keep the likeliest tokens whose probabilities reach this sum; 0 or 1 keeps all.
    #[arg(long, default_value_t = 1.0, value_parser = number::<1>)]
    pub(crate) top_p: f32,

    /// Keep tokens at least this likely, as a fraction of the likeliest.
    #[arg(long, default_value_t = 0.0, value_parser = number::<1>)]
    pub(crate) min_p: f32,

    /// Keep so many of the likeliest tokens; 0 keeps all.
    #[arg(long, default_value_t = 0)]
    pub(crate) top_k: usize,

    /// Tokens that min-p keeps at least.
    #[arg(long, default_value_t = 1, value_parser = positive)]
    pub(crate) min_tokens_to_keep: usize,

    /// Probability that XTC sampling applies to a token.
    #[arg(long, default_value_t = 0.0, value_parser = number::<1>)]
    pub(crate) xtc_probability: f32,

    /// XTC drops all but the least likely of the tokens likelier than this.
    #[arg(long, default_value_t = 0.0)]
    pub(crate) xtc_threshold: f32,

    /// Make recent tokens less likely: divides their logits.
    #[arg(long, default_value_t = 1.0)]
    pub(crate) repetition_penalty: f32,

    /// How many tokens back count as recent.
    #[arg(long, default_value_t = 20)]
    pub(crate) repetition_context_size: usize,

    /// Seed of the sampling; without it every run differs (unless the temperature is 0).
    #[arg(long)]
    pub(crate) seed: Option<u64>,

    /// Most tokens to generate [default: 100, in a chat 256].
    #[arg(long, short = 'm')]
    pub(crate) max_tokens: Option<usize>,

    /// Prompt tokens processed at a time.
    #[arg(long, default_value_t = 2048, value_parser = positive)]
    pub(crate) prefill_step_size: usize,
}

#[derive(Args)]
pub(crate) struct TemplateArgs {
    /// A system prompt, for models with a chat template.
    #[arg(long)]
    pub(crate) system_prompt: Option<String>,

    /// Variables of the chat template, as a JSON object: '{"enable_thinking": false}'.
    #[arg(long, value_name = "JSON")]
    pub(crate) chat_template_config: Option<String>,
}

#[derive(Args)]
pub(crate) struct GenerateArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,

    /// The prompt; `-` reads it from standard input.
    #[arg(long, short = 'p', default_value = "hello", allow_hyphen_values = true)]
    pub(crate) prompt: String,

    #[command(flatten)]
    pub(crate) template: TemplateArgs,

    /// Text that the answer begins with; the model continues it.
    #[arg(long)]
    pub(crate) prefill_response: Option<String>,

    /// Give the prompt to the model as it is, without its chat template.
    #[arg(long)]
    pub(crate) ignore_chat_template: bool,

    /// End when this text comes up; may be repeated.
    #[arg(long, value_name = "TEXT")]
    pub(crate) stop: Vec<String>,

    #[command(flatten)]
    pub(crate) sampling: SamplingArgs,

    /// Print one JSON object with text, counts and times instead of streaming the text.
    #[arg(long)]
    pub(crate) json: bool,

    /// Print nothing but the text.
    #[arg(long, short)]
    pub(crate) quiet: bool,

    /// mlx-lm's switch: False is --quiet.
    #[arg(long, value_name = "BOOL", default_value = "True", action = ArgAction::Set,
          value_parser = parse_bool, hide = true)]
    pub(crate) verbose: bool,
}

#[derive(Args)]
pub(crate) struct ChatArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    #[command(flatten)]
    pub(crate) template: TemplateArgs,
    #[command(flatten)]
    pub(crate) sampling: SamplingArgs,
}

#[derive(Args)]
pub(crate) struct InfoArgs {
    /// A model folder, GGUF file or hub repository; without it, the model inside this program.
    pub(crate) model: Option<String>,

    /// The same, as a flag.
    #[arg(long = "model", value_name = "MODEL", conflicts_with = "model", hide = true)]
    pub(crate) model_flag: Option<String>,

    /// Tokens of context to count memory for [default: 4096, or what the model was made for if that is less].
    #[arg(long)]
    pub(crate) context: Option<usize>,

    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Every flag is optional: what is not given comes from the YAML file, or is the default that stands there.
#[derive(Args)]
pub(crate) struct LoraArgs {
    /// A model folder, a GGUF file, or a repository of the Hugging Face hub. Without it, the small model
    /// inside this program.
    #[arg(long)]
    pub(crate) model: Option<String>,

    /// Train.
    #[arg(long)]
    pub(crate) train: bool,

    /// Evaluate on the test set (after training, if that is asked for).
    #[arg(long)]
    pub(crate) test: bool,

    /// The folder of train.jsonl, valid.jsonl and test.jsonl [default: data].
    #[arg(long)]
    pub(crate) data: Option<String>,

    /// What is trained: lora, dora or full [default: lora].
    #[arg(long, value_parser = ["lora", "dora", "full"])]
    pub(crate) fine_tune_type: Option<String>,

    /// The optimizer [default: adam].
    #[arg(long, value_parser = ["adam", "adamw", "muon", "sgd", "adafactor"])]
    pub(crate) optimizer: Option<String>,

    /// Leave prompts out of the loss.
    #[arg(long)]
    pub(crate) mask_prompt: bool,

    /// How many of the last layers are trained; -1 for all [default: 16].
    #[arg(long)]
    pub(crate) num_layers: Option<i64>,

    /// Examples in a batch [default: 4].
    #[arg(long)]
    pub(crate) batch_size: Option<u64>,

    /// Batches to train on [default: 1000].
    #[arg(long)]
    pub(crate) iters: Option<u64>,

    /// Batches of a validation; -1 for all [default: 25].
    #[arg(long)]
    pub(crate) val_batches: Option<i64>,

    /// The learning rate [default: 1e-5].
    #[arg(long)]
    pub(crate) learning_rate: Option<f64>,

    /// Batches between reports [default: 10].
    #[arg(long)]
    pub(crate) steps_per_report: Option<u64>,

    /// Batches between validations [default: 200].
    #[arg(long)]
    pub(crate) steps_per_eval: Option<u64>,

    /// Batches whose gradients make one step [default: 1].
    #[arg(long)]
    pub(crate) grad_accumulation_steps: Option<u64>,

    /// A file of adapters to begin with.
    #[arg(long, value_name = "FILE")]
    pub(crate) resume_adapter_file: Option<String>,

    /// The folder that adapters are written to, and read from for a test [default: adapters].
    #[arg(long, value_name = "FOLDER")]
    pub(crate) adapter_path: Option<String>,

    /// Batches between saves [default: 100].
    #[arg(long)]
    pub(crate) save_every: Option<u64>,

    /// Batches of the test; -1 for all [default: 500].
    #[arg(long)]
    pub(crate) test_batches: Option<i64>,

    /// Tokens of an example that are used [default: 2048].
    #[arg(long)]
    pub(crate) max_seq_length: Option<u64>,

    /// A YAML file of options; flags count more.
    #[arg(long, short = 'c', value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Keep less in memory: compute the inner results of layers again for gradients.
    #[arg(long)]
    pub(crate) grad_checkpoint: bool,

    /// Free unused memory between batches where it is more than this: 500MB, 2GB.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) clear_cache_threshold: Option<u64>,

    /// Seed of adapters, dropout and the order of batches [default: 0].
    #[arg(long)]
    pub(crate) seed: Option<u64>,

    /// Put several short examples into one row.
    #[arg(long)]
    pub(crate) pack: bool,

    /// Write the adapters as PEFT reads them, to this folder; it needs neither --train nor --test.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) export_peft: Option<PathBuf>,

    /// Go on from the last checkpoint in the folder of adapters, as if the training had not ended.
    #[arg(long)]
    pub(crate) resume: bool,

    /// Accepted for compatibility: figures are in the folder of adapters, as metrics.jsonl and loss.html.
    #[arg(long, hide = true)]
    pub(crate) report_to: Option<String>,

    /// Accepted for compatibility.
    #[arg(long, hide = true)]
    pub(crate) project_name: Option<String>,

    /// Accepted for compatibility; code that comes with a model is never run.
    #[arg(long, hide = true)]
    pub(crate) trust_remote_code: bool,
}

#[derive(Args)]
pub(crate) struct FuseArgs {
    /// A model folder or a repository of the Hugging Face hub. Without it, the small model inside this
    /// program.
    #[arg(long)]
    pub(crate) model: Option<String>,

    /// The folder of the adapters, of mlx-lm's form or of PEFT's; may be repeated: adapters add up.
    #[arg(long, value_name = "FOLDER", default_value = "adapters")]
    pub(crate) adapter_path: Vec<PathBuf>,

    /// The folder to write, which must not exist yet.
    #[arg(long, value_name = "FOLDER", default_value = "fused_model")]
    pub(crate) save_path: PathBuf,

    /// Write a model that is not quantized; otherwise one that was stays so.
    #[arg(long)]
    pub(crate) dequantize: bool,

    /// Quantize the merged model to so many bits a number, in MLX's affine form.
    #[arg(long, value_name = "BITS", conflicts_with = "dequantize",
          value_parser = affine_bits)]
    pub(crate) q_bits: Option<u32>,

    /// Numbers that share a scale.
    #[arg(long, default_value_t = 64, requires = "q_bits", value_name = "SIZE")]
    pub(crate) q_group_size: u32,

    /// Write the merged model as a GGUF file too, matrices in f16.
    #[arg(long)]
    pub(crate) export_gguf: bool,

    /// The name of that file in the folder.
    #[arg(long, value_name = "FILE", default_value = "ggml-model-f16.gguf", requires = "export_gguf",
          value_parser = file_name)]
    pub(crate) gguf_path: PathBuf,

    /// Accepted for compatibility; code that comes with a model is never run.
    #[arg(long, hide = true)]
    pub(crate) trust_remote_code: bool,
}

/// Widths that MLX's affine form has.
fn affine_bits(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(bits @ (2..=6 | 8)) => Ok(bits),
        _ => Err("2, 3, 4, 5, 6 or 8".to_string()),
    }
}

/// A name without folders.
fn file_name(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    match path.file_name() == Some(path.as_os_str()) {
        true => Ok(path),
        false => Err("a name of a file in the folder that is written".to_string()),
    }
}

#[derive(Args)]
pub(crate) struct TrainArgs {
    /// A text file, a folder of .txt and .md files, or a .jsonl file of {"text"}, with a "group" if wanted.
    #[arg(long, value_name = "PATH")]
    pub(crate) data: PathBuf,

    /// Texts to validate with, in the same forms [default: the last twentieth of the data].
    #[arg(long, value_name = "PATH")]
    pub(crate) valid: Option<PathBuf>,

    /// How often each group of texts is seen [default: as its length says].
    #[arg(long, value_name = "GROUP=SHARE", value_delimiter = ',', value_parser = share)]
    pub(crate) mix: Vec<(String, f64)>,

    /// The folder of the model, its checkpoints, metrics.jsonl and loss.html.
    #[arg(long, value_name = "FOLDER", default_value = "trained_model")]
    pub(crate) save_path: PathBuf,

    /// A model folder whose tokenizer is taken; without it, that of the model inside this program.
    #[arg(long, value_name = "MODEL")]
    pub(crate) tokenizer: Option<String>,

    /// Layers.
    #[arg(long, default_value_t = 4, value_parser = positive)]
    pub(crate) layers: usize,

    /// Features of a token.
    #[arg(long, default_value_t = 256, value_parser = positive)]
    pub(crate) dim: usize,

    /// Heads of attention.
    #[arg(long, default_value_t = 4, value_parser = positive)]
    pub(crate) heads: usize,

    /// Heads of keys and values [default: as many as heads].
    #[arg(long, value_parser = positive)]
    pub(crate) kv_heads: Option<usize>,

    /// Features inside the feed-forward net [default: 8/3 of the features, to a multiple of 64].
    #[arg(long, value_parser = positive)]
    pub(crate) ffn_dim: Option<usize>,

    /// Tokens that a prediction sees.
    #[arg(long, default_value_t = 256, value_parser = positive)]
    pub(crate) context: usize,

    /// Windows in a batch.
    #[arg(long, default_value_t = 16, value_parser = positive)]
    pub(crate) batch_size: usize,

    /// Batches to train on.
    #[arg(long, default_value_t = 1000, value_parser = positive)]
    pub(crate) iters: usize,

    /// The highest learning rate: it rises for a twentieth of the batches and falls by a cosine to zero.
    #[arg(long, default_value_t = 1e-3)]
    pub(crate) learning_rate: f64,

    /// Times the learning rate, the share of each matrix that goes away in a step.
    #[arg(long, default_value_t = 0.1)]
    pub(crate) weight_decay: f64,

    /// Probability that training drops a feature: for texts that are seen many times.
    #[arg(long, default_value_t = 0.0)]
    pub(crate) dropout: f64,

    /// What steps compute in: float32, or bfloat16 beside exact float32 parameters.
    #[arg(long, default_value = "float32", value_parser = ["float32", "bfloat16"])]
    pub(crate) dtype: String,

    /// Batches between reports.
    #[arg(long, default_value_t = 10, value_parser = positive)]
    pub(crate) steps_per_report: usize,

    /// Batches between validations.
    #[arg(long, default_value_t = 100, value_parser = positive)]
    pub(crate) steps_per_eval: usize,

    /// Batches between checkpoints.
    #[arg(long, default_value_t = 100, value_parser = positive)]
    pub(crate) save_every: usize,

    /// Seed of parameters and of the order of the data.
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,

    /// Go on from the last checkpoint in the folder.
    #[arg(long)]
    pub(crate) resume: bool,
}

#[derive(Args)]
pub(crate) struct PerplexityArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,

    /// The text: windows of it that do not overlap are foretold token by token.
    #[arg(long, value_name = "FILE")]
    pub(crate) data: PathBuf,

    /// Tokens of a window [default: 2048, or what the model was made for if that is less].
    #[arg(long, value_parser = positive)]
    pub(crate) sequence_length: Option<usize>,

    /// Windows at a time.
    #[arg(long, default_value_t = 8, value_parser = positive)]
    pub(crate) batch_size: usize,
}

/// A name and a number: `prose=0.6`.
fn share(text: &str) -> Result<(String, f64), String> {
    let parts = text.rsplit_once('=').and_then(|(n, s)| Some((n.to_string(), s.parse().ok()?)));
    parts.ok_or_else(|| "expected a group and its share, such as prose=0.6".to_string())
}

/// A number of bytes, with a unit or without.
fn size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text[digits.len()..].to_ascii_uppercase().trim_end_matches('B') {
        "" => 1e0,
        "K" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        _ => return Err("expected a size such as 500MB or 2GB".to_string()),
    };
    match digits.parse::<f64>().map(|n| n * unit) {
        Ok(bytes) if (0.0..9e18).contains(&bytes) => Ok(bytes as u64),
        _ => Err("expected a size such as 500MB or 2GB".to_string()),
    }
}

/// A number from 0 to `MOST`.
fn number<const MOST: u32>(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(x) if (0.0..=MOST as f32).contains(&x) => Ok(x),
        _ => Err(format!("expected a number from 0 to {MOST}")),
    }
}

/// A number of things, at least one.
fn positive(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(n) if n > 0 => Ok(n),
        _ => Err("expected a whole number, 1 or more".to_string()),
    }
}

fn parse_bool(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "t" | "true" | "1" | "yes" => Ok(true),
        "f" | "false" | "0" | "no" => Ok(false),
        _ => Err("expected true or false".to_string()),
    }
}

impl SamplingArgs {
    /// As options of a generation; `xtc_special_tokens` are tokens that XTC spares.
    pub(crate) fn options(&self, most: usize, xtc_special_tokens: Vec<u32>) -> GenerateOptions {
        GenerateOptions {
            max_tokens: self.max_tokens.unwrap_or(most),
            prefill_step_size: self.prefill_step_size,
            cancel: Some(interrupt::flag()),
            sampling: Sampling {
                temp: self.temp,
                top_p: self.top_p,
                min_p: self.min_p,
                min_tokens_to_keep: self.min_tokens_to_keep,
                top_k: self.top_k,
                xtc_probability: self.xtc_probability,
                xtc_threshold: self.xtc_threshold,
                xtc_special_tokens,
                repetition_penalty: self.repetition_penalty,
                repetition_context_size: self.repetition_context_size,
                seed: self.seed,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn flags_do_not_contradict_one_another() {
        Cli::command().debug_assert();
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(
            [size("0"), size("12kb"), size("1.5GB")],
            [Ok(0), Ok(12_000), Ok(1_500_000_000)]
        );
        for wrong in ["", "GB", "-1", "1TB", "nan", "1e400"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }
}
