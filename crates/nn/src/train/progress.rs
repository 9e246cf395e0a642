//! The default way to show a training: a bar that is written over on a terminal, lines elsewhere.

use super::fit::Event;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Shows events on standard error: loss, steps and tokens per second, memory, time left.
///
/// ```
/// use lazul_nn::train::{Event, Progress};
/// let mut progress = Progress::new(100);
/// progress.show(&Event::Step { step: 1, loss: 0.5 });
/// ```
#[derive(Debug)]
pub struct Progress {
    steps: u64,
    terminal: bool,
    began: Instant,
    /// The step that this process began with.
    from: Option<u64>,
    drawn: Option<Instant>,
    speed: String,
}

impl Progress {
    /// Of a training of so many steps.
    pub fn new(steps: u64) -> Progress {
        let terminal = std::io::stderr().is_terminal();
        let began = Instant::now();
        Progress { steps, terminal, began, from: None, drawn: None, speed: String::new() }
    }

    /// Shows an event.
    pub fn show(&mut self, event: &Event) {
        let line = match event {
            Event::Step { step, loss } => {
                let from = *self.from.get_or_insert(step - 1);
                let soon = self.drawn.is_some_and(|at| at.elapsed() < Duration::from_millis(100));
                if self.terminal && (!soon || *step == self.steps) {
                    self.drawn = Some(Instant::now());
                    let text = self.bar(*step, from, *loss);
                    self.put(&format!("\r\x1b[2K{text}"));
                }
                return;
            }
            Event::Report(r) => {
                self.speed = format!(
                    "{:.2} it/s, {:.0} tok/s, {:.2} GB",
                    r.iterations_per_second,
                    r.tokens_per_second,
                    r.peak_memory as f64 / 1e9
                );
                if self.terminal {
                    return;
                }
                let left = self.left(r.step, self.from.unwrap_or(0));
                format!(
                    "step {}/{}: loss {:.4}, {}, {left} left",
                    r.step, self.steps, r.loss, self.speed
                )
            }
            Event::Evaluated { step, loss, seconds } => {
                format!("step {step}: validation loss {loss:.4} ({seconds:.1} s)")
            }
            Event::Saved { step, folder } => format!("step {step}: saved {}", folder.display()),
            Event::Resumed { step } => format!("going on from step {step}"),
            Event::Rejected(r) => format!("{}: put aside: {}", r.folder.display(), r.why),
            Event::Skipped { step, tensor } => {
                format!("step {step}: left out, {tensor} is not finite")
            }
            Event::Stopped { step, why } => format!("step {step}: stopped, {why}"),
        };
        let clear = if self.terminal { "\r\x1b[2K" } else { "" };
        self.put(&format!("{clear}{line}\n"));
    }

    /// A closed pipe is no reason to stop a training.
    fn put(&self, text: &str) {
        let mut out = std::io::stderr().lock();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }

    fn left(&self, step: u64, from: u64) -> String {
        let done = step.saturating_sub(from).max(1) as f64;
        let rest = self.steps.saturating_sub(step) as f64;
        let seconds = (self.began.elapsed().as_secs_f64() / done * rest) as u64;
        match seconds / 3600 {
            0 => format!("{}:{:02}", seconds / 60, seconds % 60),
            hours => format!("{hours}:{:02}:{:02}", seconds / 60 % 60, seconds % 60),
        }
    }

    fn bar(&self, step: u64, from: u64, loss: f64) -> String {
        const WIDTH: u64 = 24;
        let full = (step * WIDTH / self.steps.max(1)).min(WIDTH) as usize;
        let bar = "█".repeat(full) + &"░".repeat(WIDTH as usize - full);
        let speed = if self.speed.is_empty() { "" } else { ", " };
        let left = self.left(step, from);
        let steps = self.steps;
        format!("{bar} {step}/{steps} loss {loss:.4}{speed}{}, {left} left", self.speed)
    }
}
