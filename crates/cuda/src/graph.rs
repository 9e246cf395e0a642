//! Graphs: a sequence of jobs recorded once and replayed with one call.
//!
//! What a graph does is fixed when it is recorded: kernels, addresses, sizes. Values that change from
//! one replay to the next (positions, lengths) are therefore read from device memory.

use crate::driver::{cu, sys};
use crate::error::RunError;
use crate::stream::Stream;
use lazul_ir::OpError;

/// A recorded sequence of jobs.
pub struct Graph {
    device: &'static crate::Device,
    raw: sys::CUgraphExec,
    nodes: usize,
}

// SAFETY: the driver lets any thread launch a graph, one at a time, as `&mut self` sees to.
unsafe impl Send for Graph {}

impl Stream {
    /// Records what `f` enqueues on this stream, which runs nothing of it.
    ///
    /// Kernels that are needed for the first time are compiled meanwhile. Memory that recorded jobs
    /// use must live as long as the graph.
    ///
    /// # Errors
    /// Those of `f`, and the driver's.
    pub fn record_graph<E: From<OpError>>(
        &self,
        f: impl FnOnce() -> Result<(), E>,
    ) -> Result<Graph, E> {
        let device = self.device();
        device.enter()?;
        // Relaxed: loading a kernel for the first time is allowed.
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED;
        cu!(cuStreamBeginCapture_v2(self.raw()?, mode))?;
        let result = f();
        let mut graph = std::ptr::null_mut();
        let ended = cu!(cuStreamEndCapture(self.raw()?, &mut graph));
        if let Err(e) = result {
            if ended.is_ok() && !graph.is_null() {
                let _ = cu!(cuGraphDestroy(graph));
            }
            return Err(e);
        }
        ended?;
        let mut nodes = 0usize;
        cu!(cuGraphGetNodes(graph, std::ptr::null_mut(), &mut nodes))?;
        let mut raw = std::ptr::null_mut();
        let made = cu!(cuGraphInstantiateWithFlags(&mut raw, graph, 0));
        let _ = cu!(cuGraphDestroy(graph));
        made?;
        Ok(Graph { device, raw, nodes })
    }

    /// Enqueues a recorded sequence.
    ///
    /// # Errors
    /// The driver's.
    pub fn replay(&self, graph: &mut Graph) -> Result<(), RunError> {
        self.device().enter()?;
        cu!(cuGraphLaunch(graph.raw, self.raw()?))?;
        Ok(())
    }
}

impl Graph {
    /// Kernels, copies and allocations in it.
    pub fn nodes(&self) -> usize {
        self.nodes
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        if self.device.enter().is_ok() {
            let _ = cu!(cuGraphExecDestroy(self.raw));
        }
    }
}
