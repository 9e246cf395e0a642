//! What the program shows besides text: progress and statistics, on standard error.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use lazul_lm::Stats;
use std::io::IsTerminal;

/// Whether an error says that nobody reads standard output any more (`lazul … | head`).
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|e| {
        e.downcast_ref::<std::io::Error>()
            .is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
    })
}

/// An error with its causes, none of them twice.
pub(crate) fn describe(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(|e| e.to_string()) {
        if !text.ends_with(&cause) {
            text += if text.is_empty() { "" } else { ": " };
            text += &cause;
        }
    }
    text
}

/// A bar on a terminal, nothing elsewhere.
pub(crate) fn bar(length: u64, template: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr());
    if !std::io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

/// A bar for a prompt, once it is long enough to wait for.
pub(crate) fn prompt_bar(quiet: bool) -> impl FnMut(usize, usize) {
    let mut shown: Option<ProgressBar> = None;
    move |done, all| {
        if quiet || all < 512 {
            return;
        }
        let bar = shown.get_or_insert_with(|| {
            bar(all as u64, "prompt {wide_bar} {pos}/{len} tokens, {eta} left")
        });
        bar.set_position(done as u64);
        if done == all {
            bar.finish_and_clear();
        }
    }
}

fn gigabytes(bytes: usize) -> f64 {
    bytes as f64 / 1e9
}

/// The lines that follow a generation.
pub(crate) fn footer(stats: &Stats) {
    eprintln!("==========");
    eprintln!("Prompt: {} tokens, {:.3} tokens-per-sec", stats.prompt_tokens, stats.prompt_tps());
    eprintln!(
        "Generation: {} tokens, {:.3} tokens-per-sec",
        stats.generated_tokens,
        stats.generation_tps()
    );
    eprintln!("Time to first token: {:.3} s", stats.prompt_time.as_secs_f64());
    eprintln!("Peak memory: {:.3} GB", gigabytes(stats.peak_memory));
}

/// One muted line after an answer in a chat.
pub(crate) fn chat_footer(stats: &Stats) {
    let line = format!(
        "{} tokens · {:.1} tok/s · prompt {} tokens, {:.1} tok/s · {:.2} GB",
        stats.generated_tokens,
        stats.generation_tps(),
        stats.prompt_tokens,
        stats.prompt_tps(),
        gigabytes(stats.peak_memory)
    );
    eprintln!("{}", muted(&line));
}

/// Text in a quiet colour, where colours are wanted.
pub(crate) fn muted(text: &str) -> String {
    let wanted = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    if wanted { format!("\x1b[2m{text}\x1b[0m") } else { text.to_string() }
}

/// A number of bytes for people.
pub(crate) fn bytes(n: usize) -> String {
    let n = n as f64;
    match n {
        _ if n >= 1e9 => format!("{:.2} GB", n / 1e9),
        _ if n >= 1e6 => format!("{:.1} MB", n / 1e6),
        _ if n >= 1e3 => format!("{:.1} kB", n / 1e3),
        _ => format!("{n} bytes"),
    }
}
