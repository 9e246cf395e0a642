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
use lazul_ir::{DType, ErrorKind, FastOp, Job, OpError, Operand, Target};
use simd::Kernels;
use tile::{Scratch, Tile};

/// Keys whose scores are held at once.
const SEGMENT: usize = 256;
/// Rows (queries times heads of a group) that a tile aims at.
const TILE: usize = 64;
/// Below this number of tiles, segments run in parallel too.
const FEW: usize = 16;

/// `q, k, v [, mask] [, sinks] [, length]` → `(b, h, tq, dv)`.
pub(crate) fn attention(op: &FastOp, job: &Job<'_>) -> Result<(), OpError> {
    let keys = keys_in_use(op, job)?;
    apart(&job.outputs[0], job.inputs, |out| match job.inputs[0].dtype {
        DType::F64 => Attention::<f64>::new(op, job, keys, *out).run(),
        _ => Attention::<f32>::new(op, job, keys, *out).run(),
    });
    Ok(())
}

/// How many of the keys are seen.
fn keys_in_use(op: &FastOp, job: &Job<'_>) -> Result<usize, OpError> {
    let (room, last) = (job.inputs[1].shape[2], job.inputs[job.inputs.len() - 1]);
    if !matches!(op, FastOp::Attention { length: true, .. }) {
        return Ok(room);
    }
    // SAFETY: the operand is one live int32.
    let length = unsafe { last.ptr.cast::<i32>().read_unaligned() };
    match usize::try_from(length) {
        Ok(n) if n <= room => Ok(n),
        _ => {
            let why = format!("{length} keys in use, but there is room for {room}");
            Err(OpError::new(ErrorKind::Index, op.name(), why))
        }
    }
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
    /// Kernels that read the keys' and values' dtype, if they share one.
    converting: Option<Kernels<R>>,
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
    fn new(op: &FastOp, job: &Job<'a>, keys: usize, out: Target<'a>) -> Attention<'a, R> {
        let &FastOp::Attention { scale, causal, window, mask, sinks, .. } = op else {
            unreachable!("attention of {op:?}")
        };
        let [q, k, v] = [job.inputs[0], job.inputs[1], job.inputs[2]];
        let sinks = match job.inputs.get(3 + mask as usize) {
            // SAFETY: the operand's memory is live.
            Some(s) if sinks => unsafe { to_vec(s) },
            _ => Vec::new(),
        };
        Attention {
            q,
            k,
            v,
            mask: mask.then(|| job.inputs[3]),
            sinks,
            out,
            scale: R::from_f64(scale.get() as f64),
            causal,
            window: window as usize,
            batches: q.shape[0],
            heads: q.shape[1],
            key_heads: k.shape[1],
            queries: q.shape[2],
            keys,
            depth: q.shape[3],
            value_depth: v.shape[3],
            kernels: R::kernels(),
            converting: if k.dtype == v.dtype { R::converting(k.dtype) } else { None },
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
                        let part =
                            unsafe { &mut *slots.get().add((segment - first) * tiles.len() + t) };
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

#[cfg(test)]
mod tests {
    use crate::testing::{Rng, Tensor, inline, layouts, run};
    use lazul_ir::{DType, F32Bits, FastOp, Prim};

    #[derive(Clone, Copy)]
    struct Case {
        b: usize,
        h: usize,
        hk: usize,
        tq: usize,
        tk: usize,
        d: usize,
        dv: usize,
        causal: bool,
        window: u32,
    }

    const BASE: Case =
        Case { b: 1, h: 2, hk: 1, tq: 5, tk: 9, d: 16, dv: 16, causal: false, window: 0 };

    fn prim(c: Case, mask: bool, sinks: bool) -> Prim {
        Prim::Fast(FastOp::Attention {
            scale: F32Bits::new(0.3),
            causal: c.causal,
            window: c.window,
            mask,
            sinks,
            length: false,
        })
    }

    /// The definition, in f64. `mask` is added to scores.
    fn reference(
        c: Case,
        q: &[f64],
        k: &[f64],
        v: &[f64],
        mask: Option<&[f64]>,
        sinks: Option<&[f64]>,
    ) -> Vec<f64> {
        let mut out = Vec::new();
        for row in 0..c.b * c.h * c.tq {
            let (b, h, i) = (row / (c.h * c.tq), row / c.tq % c.h, row % c.tq);
            let kv = (b * c.hk + h / (c.h / c.hk)) * c.tk;
            let end = (i + c.tk) as isize - c.tq as isize;
            let score = |j: usize| {
                let seen = !c.causal
                    || (j as isize <= end
                        && (c.window == 0 || j as isize > end - c.window as isize));
                let dot: f64 = (0..c.d).map(|x| q[row * c.d + x] * k[(kv + j) * c.d + x]).sum();
                let s = dot * 0.3f32 as f64 + mask.map_or(0.0, |m| m[row * c.tk + j]);
                if seen { s } else { f64::NEG_INFINITY }
            };
            let scores: Vec<f64> = (0..c.tk).map(score).collect();
            let sink = sinks.map_or(f64::NEG_INFINITY, |s| s[h]);
            let max = scores.iter().copied().fold(sink, f64::max);
            let weights: Vec<f64> = scores
                .iter()
                .map(|s| if *s == f64::NEG_INFINITY { 0.0 } else { (s - max).exp() })
                .collect();
            let sum: f64 = weights.iter().sum::<f64>()
                + if sink == f64::NEG_INFINITY { 0.0 } else { (sink - max).exp() };
            for x in 0..c.dv {
                let o: f64 = (0..c.tk).map(|j| weights[j] * v[(kv + j) * c.dv + x]).sum();
                out.push(if sum == 0.0 { 0.0 } else { o / sum });
            }
        }
        out
    }

    fn operands(c: Case, dtype: DType, seed: u64) -> [Tensor; 3] {
        let mut rng = Rng(seed);
        [
            rng.tensor(dtype, &[c.b, c.h, c.tq, c.d], -2.0, 2.0),
            rng.tensor(dtype, &[c.b, c.hk, c.tk, c.d], -2.0, 2.0),
            rng.tensor(dtype, &[c.b, c.hk, c.tk, c.dv], -2.0, 2.0),
        ]
    }

    fn tolerance(dtype: DType) -> f64 {
        match dtype {
            DType::F64 => 1e-6,
            DType::F32 => 5e-6,
            DType::F16 => 2e-3,
            _ => 1.6e-2,
        }
    }

    fn close(got: &Tensor, want: &[f64], what: &str) {
        let tolerance = tolerance(got.dtype);
        for (i, (g, w)) in got.to_f64().iter().zip(want).enumerate() {
            assert!(
                (g - w).abs() <= tolerance * (1.0 + w.abs()),
                "{what}: element {i}: {g}, not {w}"
            );
        }
    }

    fn check(c: Case, dtype: DType, mask: Option<(&Tensor, &[f64])>, sinks: Option<&Tensor>) {
        let [q, k, v] = operands(c, dtype, 7);
        let sink_values = sinks.map(|s| s.to_f64());
        let want = reference(
            c,
            &q.to_f64(),
            &k.to_f64(),
            &v.to_f64(),
            mask.map(|m| m.1),
            sink_values.as_deref(),
        );
        let prim = prim(c, mask.is_some(), sinks.is_some());
        let mut inputs = vec![&q, &k, &v];
        inputs.extend(mask.map(|m| m.0));
        inputs.extend(sinks);
        let shape = [c.b, c.h, c.tq, c.dv];
        let got = run(&prim, &inputs, dtype, &shape);
        let what = format!(
            "{dtype} b{} h{}/{} tq{} tk{} d{} dv{} causal {} window {} mask {} sinks {}",
            c.b,
            c.h,
            c.hk,
            c.tq,
            c.tk,
            c.d,
            c.dv,
            c.causal,
            c.window,
            mask.is_some(),
            sinks.is_some()
        );
        close(&got, &want, &what);
        assert_eq!(
            got.bits(),
            inline(|| run(&prim, &inputs, dtype, &shape)).bits(),
            "{what}: threads"
        );
    }

    #[test]
    fn agrees_with_the_definition() {
        for dtype in [DType::F32, DType::F16, DType::BF16, DType::F64] {
            for (tq, tk) in [(1, 1), (1, 300), (3, 70), (8, 8), (40, 600), (70, 70), (9, 4)] {
                for (causal, window) in [(false, 0), (true, 0), (true, 5), (true, 290)] {
                    for (h, hk, d, dv) in [(2, 2, 16, 16), (6, 2, 40, 24), (4, 1, 7, 64)] {
                        check(
                            Case { b: 2, h, hk, tq, tk, d, dv, causal, window },
                            dtype,
                            None,
                            None,
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn masks_of_every_kind_and_sinks() {
        let mut rng = Rng(3);
        for (tq, tk) in [(1, 33), (20, 520), (1, 1500)] {
            let c = Case { b: 2, h: 4, hk: 2, tq, tk, causal: true, ..BASE };
            let keep: Vec<bool> = (0..tq * tk).map(|_| rng.below(3) > 0).collect();
            let added: Vec<f64> =
                keep.iter().map(|&k| if k { 0.0 } else { f64::NEG_INFINITY }).collect();
            let all =
                |m: &[f64]| -> Vec<f64> { m.iter().copied().cycle().take(m.len() * 8).collect() };
            let full = [c.b, c.h, tq, tk];
            let sinks = rng.tensor(DType::F32, &[c.h], -1.0, 3.0);
            let bools = Tensor::new(&keep, &[1, 1, tq, tk]).broadcast(&full);
            check(c, DType::F32, Some((&bools, &all(&added))), None);
            check(c, DType::F16, Some((&bools, &all(&added))), Some(&sinks));
            check(c, DType::F64, None, Some(&sinks));
            for dtype in [DType::F32, DType::F16, DType::BF16, DType::F64] {
                let bias = rng.tensor(dtype, &[1, 1, tq, tk], -3.0, 3.0);
                let values = all(&bias.to_f64());
                check(c, DType::F32, Some((&bias.broadcast(&full), &values)), None);
                check(c, DType::BF16, Some((&bias.broadcast(&full), &values)), Some(&sinks));
            }
            let columns =
                rng.tensor(DType::F32, &[c.b, c.h, tk, tq], -3.0, 3.0).transpose(&[0, 1, 3, 2]);
            check(c, DType::F32, Some((&columns, &columns.to_f64())), None);
        }
    }

    #[test]
    fn any_layout_gives_the_same_bits() {
        let c = Case { b: 2, h: 2, tq: 6, tk: 50, d: 32, dv: 16, causal: true, ..BASE };
        let prim = prim(c, false, false);
        for dtype in [DType::F32, DType::BF16, DType::F64] {
            let [q, k, v] = operands(c, dtype, 5);
            let want = run(&prim, &[&q, &k, &v], dtype, &[2, 2, 6, 16]).bits();
            for (name, q) in layouts(&q) {
                assert_eq!(
                    run(&prim, &[&q, &k, &v], dtype, &[2, 2, 6, 16]).bits(),
                    want,
                    "q {name}"
                );
            }
            for ((name, k), (_, v)) in layouts(&k).into_iter().zip(layouts(&v)) {
                assert_eq!(
                    run(&prim, &[&q, &k, &v], dtype, &[2, 2, 6, 16]).bits(),
                    want,
                    "kv {name}"
                );
            }
        }
    }

    #[test]
    fn prefill_in_chunks_is_prefill_at_once() {
        for (dtype, window) in [(DType::F32, 0), (DType::BF16, 0), (DType::F16, 300)] {
            let c = Case { h: 4, tq: 700, tk: 700, d: 24, causal: true, window, ..BASE };
            let [q, k, v] = operands(c, dtype, 11);
            let whole = run(&prim(c, false, false), &[&q, &k, &v], dtype, &[1, 4, 700, 16]).bits();
            // A chunk's queries, and the keys up to it, as views of a longer cache.
            for (first, last) in [(0, 1), (0, 256), (255, 256), (256, 600), (600, 603), (699, 700)]
            {
                let view = |t: &Tensor, from: usize, to: usize| {
                    let mut view = t.clone();
                    view.offset += from * view.strides[2] as usize;
                    view.shape[2] = to - from;
                    view
                };
                let (q, k, v) = (view(&q, first, last), view(&k, 0, last), view(&v, 0, last));
                let n = last - first;
                let got = run(&prim(c, false, false), &[&q, &k, &v], dtype, &[1, 4, n, 16]).bits();
                for head in 0..4 {
                    let at = (head * 700 + first) * 16;
                    assert_eq!(
                        got[head * n * 16..][..n * 16],
                        whole[at..at + n * 16],
                        "{first}..{last}"
                    );
                }
            }
        }
    }

    #[test]
    fn rows_without_keys_are_zero_and_hidden_values_do_not_matter() {
        let c = Case { tq: 4, tk: 0, ..BASE };
        let [q, k, v] = operands(c, DType::F32, 1);
        let got = run(&prim(c, false, false), &[&q, &k, &v], DType::F32, &[1, 2, 4, 16]);
        assert!(got.to_f64().iter().all(|&x| x == 0.0));

        // Row 1 keeps nothing; the values that rows 0 and 2 hide are NaN and infinite.
        let c = Case { h: 1, tq: 3, tk: 3, ..BASE };
        let [q, k, mut v] = operands(c, DType::F32, 1);
        let mut values = v.to_f64();
        values[16] = f64::NAN;
        values[40] = f64::INFINITY;
        v = Tensor::from_f64(&values, DType::F32, &v.shape);
        let keep = [true, false, false, false, false, false, true, false, false];
        let mask = Tensor::new(&keep, &[1, 1, 3, 3]);
        let got =
            run(&prim(c, true, false), &[&q, &k, &v, &mask], DType::F32, &[1, 1, 3, 16]).to_f64();
        assert_eq!(got[..16], values[..16]);
        assert!(got[16..32].iter().all(|&x| x == 0.0));
        assert_eq!(got[32..], values[..16]);
        // Seen, they show.
        let got = run(&prim(c, false, false), &[&q, &k, &v], DType::F32, &[1, 1, 3, 16]).to_f64();
        assert!(got[0].is_nan() && got[8] == f64::INFINITY && got[1].is_finite());

        let sinks = Tensor::new(&[1f32], &[1]);
        let none = Tensor::new(&[false; 9], &[1, 1, 3, 3]);
        let p = prim(c, true, true);
        let got = run(&p, &[&q, &k, &v, &none, &sinks], DType::F32, &[1, 1, 3, 16]).to_f64();
        assert!(got.iter().all(|&x| x == 0.0));
    }

    #[test]
    fn a_nan_query_makes_its_own_row_nan() {
        let c = Case { h: 1, tq: 2, tk: 3, ..BASE };
        let [q, k, v] = operands(c, DType::F32, 1);
        let mut values = q.to_f64();
        values[3] = f64::NAN;
        let q = Tensor::from_f64(&values, DType::F32, &q.shape);
        let got = run(&prim(c, false, false), &[&q, &k, &v], DType::F32, &[1, 1, 2, 16]).to_f64();
        assert!(got[..16].iter().all(|x| x.is_nan()) && got[16..].iter().all(|x| x.is_finite()));
    }

    #[test]
    fn half_precision_scores_do_not_overflow() {
        let c = Case { h: 1, tq: 1, tk: 2, d: 64, ..BASE };
        let q = Tensor::from_f64(&[200.0; 64], DType::F16, &[1, 1, 1, 64]);
        let k = Tensor::from_f64(&[200.0; 128], DType::F16, &[1, 1, 2, 64]);
        let v = Tensor::from_f64(&[1.0; 32], DType::F16, &[1, 1, 2, 16]);
        let got = run(&prim(c, false, false), &[&q, &k, &v], DType::F16, &[1, 1, 1, 16]).to_f64();
        assert!(got.iter().all(|&x| x == 1.0));
    }
}
