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
}
