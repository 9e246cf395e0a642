//! Prefill and decode of a Llama of random weights, which are made where it runs: `decode SHAPE BITS PROMPT NEW
//! REPETITIONS [BATCH]` prints, as JSON, tokens a second of each repetition, milliseconds that building a step takes,
//! the peak of memory, how kernels were launched, and a checksum of the tokens, which graphs must not change. SHAPE
//! is tiny, 1b or 7b; BITS is 16 (bfloat16) or 4 (affine codes in groups of 64).

use lazul_core::fast::{Attention, Mask, Rope, scaled_dot_product_attention};
use lazul_core::prelude::*;
use lazul_core::{Quantized, device, eval_ahead, memory};
use std::time::Instant;

type Result<T> = lazul_core::Result<T>;

const VOCABULARY: usize = 32_000;

/// A matrix `(out, in)`.
enum Linear {
    Dense(Array),
    Codes(Quantized),
}

fn weights(shape: [usize; 2], seed: u64) -> Result<Array> {
    let w = random::normal(shape, DType::F32, Some(&random::key(seed))).astype(DType::BF16) * 0.02;
    w.eval()?;
    Ok(w)
}

impl Linear {
    fn new(shape: [usize; 2], bits: u32, seed: u64) -> Result<Linear> {
        let w = weights(shape, seed)?;
        if bits == 16 {
            return Ok(Linear::Dense(w));
        }
        let codes = w.quantize(Quantization::new("affine", Some(64), Some(bits))?)?;
        eval([&codes.codes].into_iter().chain(&codes.scales).chain(&codes.biases))?;
        Ok(Linear::Codes(codes))
    }

    fn forward(&self, x: &Array) -> Array {
        match self {
            Linear::Dense(w) => x.matmul(&w.t()),
            Linear::Codes(w) => x.quantized_matmul(w, true),
        }
    }
}

struct Layer {
    q: Linear,
    k: Linear,
    v: Linear,
    o: Linear,
    gate: Linear,
    up: Linear,
    down: Linear,
    norms: [Array; 2],
}

struct Model {
    embed: Array,
    layers: Vec<Layer>,
    norm: Array,
    head: Linear,
    /// Features, and heads of queries and of keys.
    d: usize,
    heads: usize,
    key_heads: usize,
}

/// Keys and values of a layer, `(b, key_heads, room, head)`.
type Cache = Option<[Array; 2]>;

impl Model {
    fn new(shape: &str, bits: u32) -> anyhow::Result<Model> {
        let (d, inner, layers, heads, key_heads) = match shape {
            "tiny" => (128, 256, 2, 4, 2),
            "1b" => (2048, 5632, 22, 32, 4),
            "7b" => (4096, 11008, 32, 32, 32),
            other => anyhow::bail!("no shape is called {other}"),
        };
        let mut seed = 0;
        let mut linear = |rows: usize, columns: usize| {
            seed += 1;
            Linear::new([rows, columns], bits, seed)
        };
        let norm = || ones([d], DType::BF16).contiguous();
        let some = d / heads * key_heads;
        let layers = (0..layers)
            .map(|_| {
                Ok(Layer {
                    q: linear(d, d)?,
                    k: linear(some, d)?,
                    v: linear(some, d)?,
                    o: linear(d, d)?,
                    gate: linear(inner, d)?,
                    up: linear(inner, d)?,
                    down: linear(d, inner)?,
                    norms: [norm(), norm()],
                })
            })
            .collect::<Result<Vec<_>>>()?;
        let head = linear(VOCABULARY, d)?;
        let embed = weights([VOCABULARY, d], 0)?;
        Ok(Model { embed, layers, norm: norm(), head, d, heads, key_heads })
    }

    /// The token after `tokens (b, t)`, which stand from position `offset` on: `(b, 1)`.
    fn step(&self, tokens: &Array, caches: &mut [Cache], offset: usize) -> Result<Array> {
        let [b, t] = tokens.dims()?;
        let (d, depth) = (self.d, self.d / self.heads);
        let room = (offset + t).div_ceil(256) * 256;
        let at = Array::scalar(offset as i32);
        let length = Array::scalar((offset + t) as i32);
        let turn = Rope { dims: depth, ..Default::default() };
        let how = Attention {
            scale: 1.0 / (depth as f32).sqrt(),
            mask: if t > 1 { Mask::Causal } else { Mask::None },
            length: Some(&length),
            ..Default::default()
        };
        let mut h = self.embed.take(tokens, 0); // (b, t, d)
        for (layer, cache) in self.layers.iter().zip(caches) {
            let x = fast::rms_norm(&h, Some(&layer.norms[0]), 1e-5);
            let split = |y: Array, n: usize| y.reshape([b, t, n, depth]).transpose([0, 2, 1, 3]);
            let q = fast::rope(&split(layer.q.forward(&x), self.heads), &turn, &at);
            let k = fast::rope(&split(layer.k.forward(&x), self.key_heads), &turn, &at);
            let v = split(layer.v.forward(&x), self.key_heads);
            let empty = || zeros([b, self.key_heads, room, depth], DType::BF16);
            let [keys, values] = cache.take().unwrap_or_else(|| [empty(), empty()]);
            let append = |store: Array, new: &Array| -> Result<Array> {
                let wide = store.dim(2)? >= room;
                let store = if wide { store } else { empty().slice_update(store, [0, 0, 0, 0]) };
                Ok(store.dynamic_slice_update(new, &at, &[2]))
            };
            let (keys, values) = (append(keys, &k)?, append(values, &v)?);
            let y = scaled_dot_product_attention(&q, &keys, &values, &how);
            *cache = Some([keys, values]);
            h += layer.o.forward(&y.transpose([0, 2, 1, 3]).reshape([b, t, d]));
            let x = fast::rms_norm(&h, Some(&layer.norms[1]), 1e-5);
            let gate = layer.gate.forward(&x);
            h = &h + layer.down.forward(&(&gate * gate.sigmoid() * layer.up.forward(&x)));
        }
        let last = fast::rms_norm(&h.slice_axis(1, -1, None), Some(&self.norm), 1e-5);
        Ok(self.head.forward(&last).argmax(-1))
    }
}

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    anyhow::ensure!(args.len() >= 5, "usage: decode SHAPE BITS PROMPT NEW REPETITIONS [BATCH]");
    let number = |i: usize| args[i].parse::<usize>();
    let (bits, prompt, new, repetitions) = (number(1)?, number(2)?, number(3)?, number(4)?);
    let batch = if args.len() > 5 { number(5)? } else { 1 };
    let model = Model::new(&args[0], bits as u32)?;
    let (mut prefill, mut decode, mut building, mut checksum) =
        (Vec::new(), Vec::new(), Vec::new(), 0u64);
    for _ in 0..repetitions {
        let mut caches: Vec<Cache> = model.layers.iter().map(|_| None).collect();
        let ids: Vec<u32> =
            (0..(batch * prompt) as u32).map(|i| (i * 7919 + 13) % 31_990 + 5).collect();
        let start = Instant::now();
        let mut token = model.step(&Array::from_slice(&ids, [batch, prompt]), &mut caches, 0)?;
        token.eval()?;
        prefill.push((batch * prompt) as f64 / start.elapsed().as_secs_f64());
        let start = Instant::now();
        let mut built = 0.0;
        for i in 0..new {
            // Each step is started before the token before it is read.
            let begin = Instant::now();
            let next = model.step(&token, &mut caches, prompt + i)?;
            eval_ahead([&next])?;
            built += begin.elapsed().as_secs_f64();
            let read = token.to_vec::<u32>()?;
            checksum =
                read.iter().fold(checksum, |sum, &t| sum.wrapping_mul(31).wrapping_add(t.into()));
            token = next;
        }
        token.eval()?;
        decode.push((batch * new) as f64 / start.elapsed().as_secs_f64());
        building.push(built / new.max(1) as f64 * 1e3);
    }
    let launches = device::launches(device::default_device());
    println!(
        "{}",
        serde_json::json!({
            "prefill_tps": prefill,
            "decode_tps": decode,
            "build_ms": building,
            "peak_gb": memory::stats().peak as f64 * 1e-9,
            "device": device::default_device().to_string(),
            "launches": format!("{launches:?}"),
            "checksum": format!("{checksum:x}"),
        })
    );
    Ok(())
}
