//! Packing: several short examples in one row, none of which sees another.
//!
//! A row of tokens comes with the number of the example that each belongs to; attention stays within an example, and
//! a rotary embedding counts distances, which are the same wherever an example stands. So the loss is that of the
//! examples one by one, with less padding.

use super::data::Example;
use crate::cache::KvCache;
use crate::error::{Error, Result};
use crate::models::LanguageModel;
use crate::order::Twister;
use lazul_core::{Array, DType};
use lazul_nn::losses::{CrossEntropy, cross_entropy};
use lazul_nn::train::Loader;
use std::sync::Arc;

/// Tokens, int32 `(b, t)`; and of each the number of its example from 1 on, negative where the loss leaves it out,
/// and 0 for padding, int32 `(b, t)`.
pub type Packed = (Array, Array);

/// Which examples share a row of `longest` tokens: the longest first, each in the first row that has room.
///
/// ```
/// use lazul_lm::tune::packs;
/// assert_eq!(packs(&[3, 9, 4, 2], 10), [vec![1], vec![2, 0, 3]]);
/// ```
pub fn packs(lengths: &[usize], longest: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|&i| std::cmp::Reverse(lengths[i]));
    let mut packs: Vec<(usize, Vec<usize>)> = Vec::new();
    // No row before this one has room for two tokens.
    let mut open = 0;
    for i in order {
        let length = lengths[i].min(longest);
        match packs[open..].iter_mut().find(|(used, _)| used + length <= longest) {
            Some((used, pack)) => {
                *used += length;
                pack.push(i);
            }
            None => packs.push((length, vec![i])),
        }
        while packs.get(open).is_some_and(|(used, _)| used + 2 > longest) {
            open += 1;
        }
    }
    packs.into_iter().map(|(_, pack)| pack).collect()
}

/// Batches of `size` rows of packed examples of at most `longest` tokens, in an order that is another in each epoch.
///
/// # Errors
/// If there are fewer rows than a batch has.
pub fn packed_batches(
    examples: Vec<Example>,
    size: usize,
    longest: usize,
    seed: u64,
) -> Result<Loader<Packed>> {
    let lengths: Vec<usize> = examples.iter().map(|e| e.tokens.len()).collect();
    let packs = packs(&lengths, longest);
    if packs.len() < size || size == 0 {
        let why =
            format!("{} examples make {} rows, no batch of {size}", examples.len(), packs.len());
        return Err(Error::Argument(why));
    }
    let used = |pack: &Vec<usize>| pack.iter().map(|&i| lengths[i].min(longest)).sum::<usize>();
    let width = packs.iter().map(used).max().unwrap_or(0);
    let count = packs.len();
    let order = move |epoch: u64| {
        let mut random = Twister::new((seed ^ epoch.wrapping_mul(0x9E37_79B9)) as u32);
        let order = random.permutation(count);
        order.chunks_exact(size).map(<[usize]>::to_vec).collect()
    };
    let examples = Arc::new(examples);
    let make = move |rows: &[usize]| {
        let (mut tokens, mut owners) = (Vec::new(), Vec::new());
        for &row in rows {
            let begin = tokens.len();
            for (number, &i) in (1i32..).zip(&packs[row]) {
                let example = &examples[i];
                let used = &example.tokens[..example.tokens.len().min(longest)];
                tokens.extend(used.iter().map(|&t| t as i32));
                // The first token has nothing before it.
                let counts = |at: usize| at >= example.offset.max(1);
                owners.extend((0..used.len()).map(|at| if counts(at) { number } else { -number }));
            }
            tokens.resize(begin + width, 0);
            owners.resize(begin + width, 0);
        }
        let shape = [rows.len(), width];
        Ok((Array::from_slice(&tokens, shape), Array::from_slice(&owners, shape)))
    };
    Ok(Loader::ordered(order, make)?)
}

/// The mean cross-entropy of the tokens of a packed batch that count, and how many they are.
///
/// ```
/// use lazul_lm::tune::{Example, packed_batches, packed_loss};
/// # let sizes = serde_json::json!({
/// #     "model_type": "llama", "vocab_size": 16, "hidden_size": 16, "intermediate_size": 32,
/// #     "num_hidden_layers": 2, "num_attention_heads": 2,
/// # });
/// let model = lazul_lm::pretrain::init(&sizes, 0)?;
/// let rows = [4, 3, 5].map(|n| Example { tokens: vec![1; n], offset: 0 });
/// let mut loader = packed_batches(rows.to_vec(), 1, 12, 0)?;
/// let (_, count) = packed_loss(&*model, &loader.next()?)?;
/// assert_eq!(count.item::<i32>()?, 3 + 2 + 4);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// If the batch does not fit the model.
pub fn packed_loss(
    model: &dyn LanguageModel,
    (tokens, owners): &Packed,
) -> lazul_core::Result<(Array, Array)> {
    let inputs = tokens.slice_axis(1, 0, -1); // (b, t)
    let targets = tokens.slice_axis(1, 1, None); // (b, t)
    let whose = owners.slice_axis(1, 0, -1).abs(); // (b, t)
    let next = owners.slice_axis(1, 1, None); // (b, t)
    let caches = (0..model.layers().1).map(|_| KvCache::passing_segments(&whose));
    let mut cache: Vec<KvCache> = caches.collect();
    let logits = model.forward(&inputs, &mut cache)?; // (b, t, vocabulary)
    let each = cross_entropy(&logits, &targets, CrossEntropy::default()).astype(DType::F32);
    let mask = next.greater(0).logical_and(next.equal(&whose));
    let count = mask.astype(DType::I32).sum(..);
    let mean = (each * mask).sum(..) / count.maximum(1);
    Ok((mean, count))
}

#[cfg(test)]
mod tests {
    use super::super::{batch, loss};
    use super::*;
    use serde_json::json;

    #[test]
    fn rows_are_filled() {
        let lengths: Vec<usize> = (0..200).map(|i| 1 + (i * 37) % 50).collect();
        let packs = packs(&lengths, 64);
        let mut all = packs.concat();
        all.sort();
        assert_eq!(all, (0..200).collect::<Vec<_>>());
        let sums: Vec<usize> = packs.iter().map(|p| p.iter().map(|&i| lengths[i]).sum()).collect();
        assert!(sums.iter().all(|&s| s <= 64));
        let filled = lengths.iter().sum::<usize>() as f64 / (64 * packs.len()) as f64;
        assert!(filled > 0.95, "{filled}");
        // What is too long is cut, and has a row of its own.
        assert_eq!(super::packs(&[100, 1], 64).len(), 2);
    }

    /// The loss of a packed row is that of its examples one by one.
    #[test]
    fn examples_do_not_see_one_another() -> Result<()> {
        let sizes = json!({
            "model_type": "llama", "vocab_size": 32, "hidden_size": 16, "intermediate_size": 32,
            "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
        });
        let model = crate::pretrain::init(&sizes, 3)?;
        let example = |n: u32, offset| Example {
            tokens: (0..n).map(|i| (i * 7 + n) % 31 + 1).collect(),
            offset,
        };
        let examples = vec![example(9, 0), example(5, 2), example(7, 4)];
        let (mut sum, mut tokens) = (0.0, 0.0);
        for e in &examples {
            // As long as the row: nothing is padding.
            let (mean, count) = loss(&*model, &batch(&[e], e.tokens.len()))?;
            let count = f64::from(count.item::<i32>()?);
            sum += f64::from(mean.item::<f32>()?) * count;
            tokens += count;
        }
        let mut loader = packed_batches(examples, 1, 24, 0)?;
        assert_eq!(loader.batches(), 1);
        let (mean, count) = packed_loss(&*model, &loader.next()?)?;
        assert_eq!(f64::from(count.item::<i32>()?), tokens);
        let apart = f64::from(mean.item::<f32>()?) - sum / tokens;
        assert!(apart.abs() < 1e-5, "{apart}");
        Ok(())
    }
}
