//! Queues of evaluations that were started and are not waited for: one a stream, each with a thread of its
//! own.

use super::{Mode, Outcome, claim, execute};
use crate::device::stream::stream_of;
use crate::error::Result;
use crate::node::Array;
use smallvec::SmallVec;
use std::collections::BTreeMap;
use std::sync::{Mutex, mpsc};

type Started = (claim::Program, Mode);

/// The queues that were asked for, by stream.
static QUEUES: Mutex<BTreeMap<u16, mpsc::Sender<Started>>> = Mutex::new(BTreeMap::new());

/// Starts to compute arrays, each in its stream.
pub(super) fn start(mut roots: SmallVec<[&Array; 8]>, mode: Mode) -> Result<()> {
    // Programs enter the queues in the order of their claims: one that waits for another must not
    // stand before it.
    static ORDER: Mutex<()> = Mutex::new(());
    let mut result = Ok(());
    while let Some(first) = roots.first() {
        let stream = stream_of(first);
        let (here, others): (SmallVec<[&Array; 8]>, _) =
            std::mem::take(&mut roots).into_iter().partition(|root| stream_of(root) == stream);
        roots = others;
        let order = ORDER.lock().unwrap_or_else(|e| e.into_inner());
        let Some(program) = claim::claim(&here)? else { continue };
        let sent = match queue(stream) {
            Some(queue) => {
                queue.send((program, mode)).map_err(|mpsc::SendError((program, _))| program)
            }
            None => Err(program),
        };
        drop(order);
        // A program that could not be sent runs here.
        let ran = sent.or_else(|program| match execute(program, mode) {
            Outcome::Done(result) => result,
            Outcome::OthersFailed(error) => Err(error),
        });
        result = result.and(ran);
    }
    result
}

/// The streams in which something was started.
pub(crate) fn started_streams() -> Vec<u16> {
    QUEUES.lock().unwrap_or_else(|e| e.into_inner()).keys().copied().collect()
}

/// The way to the thread that runs what is started in a stream, in order; none where no thread can be had.
fn queue(stream: u16) -> Option<mpsc::Sender<Started>> {
    let mut queues = QUEUES.lock().unwrap_or_else(|e| e.into_inner());
    if let Some(queue) = queues.get(&stream) {
        return Some(queue.clone());
    }
    let (send, receive) = mpsc::channel();
    std::thread::Builder::new()
        .name(format!("lazul-eval-{stream}"))
        .spawn(move || {
            for (program, mode) in receive {
                // Errors stay in the ticket, and what was not computed stays lazy: whoever
                // reads it next finds out. A panic must not end the queue.
                let run = std::panic::AssertUnwindSafe(|| execute(program, mode));
                let _ = std::panic::catch_unwind(run);
            }
        })
        .ok()?;
    queues.insert(stream, send.clone());
    Some(send)
}
