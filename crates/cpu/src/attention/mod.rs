//! Scaled dot-product attention that never holds a `tq x tk` matrix.
//!
//! Work is a tile: some consecutive queries of all the query heads that share a key head, so that
//! a row of keys or values is read once for the whole group. Keys are visited in segments of
//! [`SEGMENT`] with fixed bounds: a segment gives each row a maximum, a sum and a weighted sum of
//! values ([`tile`]), and segments are combined in order. Every step is a function of the row's own
//! query and of absolute key positions, so a row's result is the same bits however the queries are
//! cut (token by token, in chunks, at once) and whatever the number of threads.
//!
//! With many tiles (prefill) tiles run in parallel; with few (decoding) segments do as well.
//!
//! A key that is masked, or whose weight is zero, contributes nothing even where its value is NaN or
//! infinite; a row that sees no key, or only keys at -inf, is zero. NaN in a visible score makes its
//! row NaN.

mod simd;
mod tile;

use crate::pool::parallel;
use crate::rows::{Shared, apart, to_vec};
use lazul_ir::{DType, FastOp, Job, Operand, Target};
use simd::Kernels;
use tile::{Scratch, Tile};

/// Keys whose scores are held at once.
const SEGMENT: usize = 256;
/// Rows (queries times heads of a group) that a tile aims at.
const TILE: usize = 64;
/// Below this number of tiles, segments run in parallel too.
const FEW: usize = 16;

/// `q, k, v [, mask] [, sinks]` → `(b, h, tq, dv)`.
pub(crate) fn attention(op: &FastOp, job: &Job<'_>) {
    apart(&job.outputs[0], job.inputs, |out| match job.inputs[0].dtype {
        DType::F64 => Attention::<f64>::new(op, job, *out).run(),
        _ => Attention::<f32>::new(op, job, *out).run(),
    });
}

/// One job: operands, sizes, and what follows from them.
struct Attention<'a, R> {
    q: Operand<'a>,
    k: Operand<'a>,
    v: Operand<'a>,
    mask: Option<Operand<'a>>,
    /// One a query head, or none.
    sinks: Vec<R>,
    out: Target<'a>,
    scale: R,
    causal: bool,
    window: usize,
    batches: usize,
    heads: usize,
    key_heads: usize,
    queries: usize,
    keys: usize,
    /// Features of a key, and of a value.
    depth: usize,
    value_depth: usize,
    kernels: Kernels<R>,
}

/// What a row knows after some segments: the largest score, the sum of weights relative to it, and the
/// weighted sum of values.
struct State<'a, R> {
    max: &'a mut [R],
    sum: &'a mut [R],
    /// `(rows, padded value depth)`
    out: &'a mut [R],
}

impl<'a, R: simd::Engine> Attention<'a, R> {
    fn new(op: &FastOp, job: &Job<'a>, out: Target<'a>) -> Attention<'a, R> {
        let &FastOp::Attention { scale, causal, window, mask, sinks } = op else {
            unreachable!("attention of {op:?}")
        };
        let [q, k, v] = [job.inputs[0], job.inputs[1], job.inputs[2]];
        Attention {
            q,
            k,
            v,
            mask: mask.then(|| job.inputs[3]),
            // SAFETY: the operand's memory is live.
            sinks: if sinks { unsafe { to_vec(&job.inputs[3 + mask as usize]) } } else { Vec::new() },
            out,
            scale: R::from_f64(scale.get() as f64),
            causal,
            window: window as usize,
            batches: q.shape[0],
            heads: q.shape[1],
            key_heads: k.shape[1],
            queries: q.shape[2],
            keys: k.shape[2],
            depth: q.shape[3],
            value_depth: v.shape[3],
            kernels: R::kernels(),
        }
    }

    /// The keys `start..end` that query `i` may see, masks aside.
    fn visible(&self, i: usize) -> (usize, usize) {
        if !self.causal {
            return (0, self.keys);
        }
        let end = (i + 1 + self.keys).saturating_sub(self.queries);
        let start = if self.window > 0 { end.saturating_sub(self.window) } else { 0 };
        (start, end)
    }

    fn run(&self) {
        if self.out.size() == 0 {
            return;
        }
        let group = self.heads / self.key_heads;
        let step = (TILE / group).clamp(1, self.queries); // queries a tile
        let steps = self.queries.div_ceil(step);
        let tiles = self.batches * self.key_heads * steps;
        let tile = |i: usize| {
            // Late queries see most keys under a causal mask: they go first.
            let (pair, first) = (i % (tiles / steps), (steps - 1 - i / (tiles / steps)) * step);
            Tile::new(self, pair, first, self.queries.min(first + step))
        };
        let segments = self.keys.div_ceil(SEGMENT);
        if tiles >= FEW || segments <= 1 {
            parallel(tiles, |i| {
                let tile = tile(i);
                let mut scratch = Scratch::new(&tile);
                let mut total = Partial::new(&tile);
                let mut part = Partial::new(&tile);
                let q = tile.queries();
                for segment in tile.segments() {
                    tile.segment(&q, segment, &mut scratch, part.state());
                    tile.combine(total.state(), part.state());
                }
                tile.finish(total.state());
            });
            return;
        }
        // Segments in waves, so that the partial results stay small.
        let tiles: Vec<Tile<'_, R>> = (0..tiles).map(tile).collect();
        let rows: usize = tiles.iter().map(|t| t.rows * (t.value_width + 2)).sum();
        let wave = ((1 << 20) / rows).clamp(8, 256).min(segments);
        let queries: Vec<Vec<R>> = tiles.iter().map(|t| t.queries()).collect();
        let mut totals: Vec<Partial<R>> = tiles.iter().map(Partial::new).collect();
        let mut parts: Vec<Partial<R>> =
            (0..wave).flat_map(|_| tiles.iter().map(Partial::new)).collect();
        for first in (0..segments).step_by(wave) {
            let last = segments.min(first + wave);
            let slots = Shared::new(parts.as_mut_ptr());
            parallel((last - first) * tiles.len(), |i| {
                let (tile, segment) = (&tiles[i % tiles.len()], first + i / tiles.len());
                if tile.segments().contains(&segment) {
                    // SAFETY: slot `i` is this chunk's.
                    let part = unsafe { &mut *slots.get().add(i) };
                    let mut scratch = Scratch::new(tile);
                    tile.segment(&queries[i % tiles.len()], segment, &mut scratch, part.state());
                }
            });
            let (slots, sums) = (Shared::new(parts.as_mut_ptr()), Shared::new(totals.as_mut_ptr()));
            parallel(tiles.len(), |t| {
                // SAFETY: the partial results of tile `t` are this chunk's.
                let total = unsafe { &mut *sums.get().add(t) };
                for segment in first..last {
                    if tiles[t].segments().contains(&segment) {
                        // SAFETY: as above.
                        let part = unsafe { &mut *slots.get().add((segment - first) * tiles.len() + t) };
                        tiles[t].combine(total.state(), part.state());
                    }
                }
                if last == segments {
                    tiles[t].finish(total.state());
                }
            });
        }
    }
}

/// Memory of a [`State`].
struct Partial<R> {
    rows: usize,
    memory: Vec<R>,
}

impl<R: simd::Engine> Partial<R> {
    /// The state before any key.
    fn new(tile: &Tile<'_, R>) -> Partial<R> {
        let mut memory = vec![R::ZERO; tile.rows * (tile.value_width + 2)];
        memory[..tile.rows].fill(-R::INFINITY);
        Partial { rows: tile.rows, memory }
    }

    fn state(&mut self) -> State<'_, R> {
        let (max, rest) = self.memory.split_at_mut(self.rows);
        let (sum, out) = rest.split_at_mut(self.rows);
        State { max, sum, out }
    }
}
