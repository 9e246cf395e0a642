//! The `lazul` program: one file a subcommand, one table of flags in [`args`].
//!
//! Generated text, and the tables of a training, go to standard output; progress, statistics and messages go
//! to standard error. Exit codes: 0 well, 1 an error, 2 wrong usage, 130 interrupted.

mod args;
mod chat;
mod embedded;
mod fuse;
mod generate;
mod info;
mod interrupt;
mod lora;
mod open;
mod output;
mod perplexity;
mod train;

use anyhow::Context;
use args::{Cli, Command};
use clap::{CommandFactory, Parser};
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let level = if cli.verbose_log { "debug" } else { "warn" };
    let filter = tracing_subscriber::EnvFilter::try_from_env("LAZUL_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(level));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .without_time()
        .with_target(false)
        .init();
    if let Some(device) = cli.device
        && let Err(error) = lazul_core::device::set_default_device(device)
    {
        eprintln!("error: {device} cannot be used: {}", error.message());
        return ExitCode::FAILURE;
    }
    let result = match cli.command {
        Command::Generate(args) => generate::run(args),
        Command::Chat(args) => chat::run(args),
        Command::Info(args) => info::run(args),
        Command::Lora(args) => lora::run(&args),
        Command::Fuse(args) => fuse::run(&args),
        Command::Train(args) => train::run(&args),
        Command::Perplexity(args) => perplexity::run(&args),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "lazul", &mut script);
            std::io::stdout().write_all(&script).map_err(Into::into).map(|()| ExitCode::SUCCESS)
        }
        Command::Man { dir } => man(dir),
    };
    match result {
        Ok(code) => code,
        Err(error) if output::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", output::describe(&error));
            ExitCode::FAILURE
        }
    }
}

/// Writes the manual: the main page to standard output, or all pages to a folder.
fn man(dir: Option<std::path::PathBuf>) -> anyhow::Result<ExitCode> {
    match dir {
        Some(dir) => {
            let at = || dir.display().to_string();
            std::fs::create_dir_all(&dir).with_context(at)?;
            clap_mangen::generate_to(Cli::command(), &dir).with_context(at)?;
            eprintln!("wrote manual pages to {}", dir.display());
        }
        None => clap_mangen::Man::new(Cli::command()).render(&mut std::io::stdout())?,
    }
    Ok(ExitCode::SUCCESS)
}
