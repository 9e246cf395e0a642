//! What users open of a training: the weights of its last checkpoint, under other names.
//!
//! A checkpoint is written first and its weights are published after it. Whoever ends between the two is made
//! up for by the next process, which publishes what it goes on from.

use crate::error::{Error, Result};
use lazul_io::load_safetensors;
use lazul_nn::Parameters;
use lazul_nn::train::{Event, FitOptions, Outcome, Result as TrainResult};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Shows the weights of each checkpoint of a [`fit`](lazul_nn::train::fit) to `write`, with the number of
/// steps, and ends the training at its first error.
pub(crate) struct Publisher<F> {
    /// Where checkpoints are.
    folder: PathBuf,
    write: F,
    /// Of who asked for the training: read and never written.
    asked: Option<Arc<AtomicBool>>,
    end: Arc<AtomicBool>,
    failed: Option<Error>,
}

impl<F: FnMut(u64, &Parameters) -> Result<()>> Publisher<F> {
    /// For a training with these options, whose `cancel` it takes over.
    pub(crate) fn new(options: &mut FitOptions, write: F) -> Publisher<F> {
        let end = Arc::new(AtomicBool::new(false));
        let asked = options.cancel.replace(end.clone());
        let folder = options.folder.clone().unwrap_or_default();
        Publisher { folder, write, asked, end, failed: None }
    }

    /// To be called for every event.
    pub(crate) fn watch(&mut self, event: &Event) {
        let checkpoint = match event {
            Event::Saved { step, folder } => Some((*step, folder.clone())),
            Event::Resumed { step } => Some((*step, self.folder.join(format!("step-{step:07}")))),
            _ => None,
        };
        if let Some((step, checkpoint)) = checkpoint
            && self.failed.is_none()
        {
            let arrays = load_safetensors(checkpoint.join("weights.safetensors"));
            let written = arrays.map_err(Error::from).and_then(|all| (self.write)(step, &all));
            self.failed = written.err();
        }
        if self.failed.is_some() || self.asked.as_ref().is_some_and(|asked| asked.load(Relaxed)) {
            self.end.store(true, Relaxed);
        }
    }

    /// How the training ended.
    pub(crate) fn finish(self, outcome: TrainResult<Outcome>) -> Result<Outcome> {
        match self.failed {
            // What came after it came of it.
            Some(e) => Err(e),
            None => Ok(outcome?),
        }
    }
}
