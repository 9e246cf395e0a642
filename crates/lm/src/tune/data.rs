//! Examples of a fine-tuning: rows of JSON lines as tokens, and batches of them.
//!
//! Formats are told by the first row, as in mlx-lm: `{"prompt", "completion"}`, `{"messages", "tools"}` or
//! `{"text"}`.

use super::config::Features;
use crate::error::{Error, Result};
use crate::order::Twister;
use crate::text::{Chat, Message, TextModel};
use lazul_core::Array;
use lazul_nn::train::{Error as TrainError, Loader, Result as TrainResult, read_jsonl};
use serde_json::Value;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// One row as tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// The tokens.
    pub tokens: Vec<u32>,
    /// How many of them are a prompt that the loss leaves out.
    pub offset: usize,
}

/// Tokens, int32 `(b, t)`, padded with 0; and offset and length of each row, int32 `(b, 2)`.
pub type Batch = (Array, Array);

/// The examples of a file; of none if there is no such file.
///
/// # Errors
/// If a row is no JSON, lacks a field, or cannot be put to the model; the error says which.
pub fn load(
    path: &Path,
    text: &TextModel,
    features: &Features,
    mask_prompt: bool,
) -> Result<Vec<Example>> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let rows = read_jsonl(path)?;
    let format = match rows.first() {
        None => return Ok(Vec::new()),
        Some(first) => Format::of(first, features, mask_prompt)
            .map_err(|why| Error::Argument(format!("{}: {why}", path.display())))?,
    };
    let at = |i: usize, why: String| {
        Error::Argument(format!("{}: example {}: {why}", path.display(), i + 1))
    };
    let example = |(i, row): (usize, &Value)| match format {
        Format::Text => plain(row, &features.text, text).map_err(|e| at(i, e)),
        Format::Completions | Format::Chat => {
            let chat = match format {
                Format::Chat => conversation(row, &features.chat),
                _ => completion(row, features),
            };
            let chat = chat.map_err(|why| at(i, why))?;
            encode(chat, text, mask_prompt).map_err(|e| at(i, e.to_string()))
        }
    };
    rows.iter().enumerate().map(example).collect()
}

#[derive(Clone, Copy)]
enum Format {
    Completions,
    Chat,
    Text,
}

impl Format {
    fn of(row: &Value, features: &Features, mask_prompt: bool) -> Result<Format, String> {
        let has = |name: &str| row.get(name).is_some();
        if has(&features.prompt) && has(&features.completion) {
            Ok(Format::Completions)
        } else if has(&features.chat) {
            Ok(Format::Chat)
        } else if has(&features.text) && mask_prompt {
            Err("texts have no prompt that could be masked".to_string())
        } else if has(&features.text) {
            Ok(Format::Text)
        } else {
            let Features { prompt, completion, text, chat } = features;
            Err(format!(
                "the first example has neither {prompt} and {completion}, nor {chat}, nor {text}"
            ))
        }
    }
}

fn plain(row: &Value, field: &str, text: &TextModel) -> Result<Example, String> {
    let content = row.get(field).and_then(Value::as_str);
    let content = content.ok_or_else(|| format!("{field} must be a text"))?;
    let tokenizer = text.tokenizer();
    let mut tokens = tokenizer.encode(content, true).map_err(|e| e.to_string())?;
    if let Some(eos) = tokenizer.special_ids().eos
        && tokens.last() != Some(&eos)
    {
        tokens.push(eos);
    }
    Ok(Example { tokens, offset: 0 })
}

fn conversation(row: &Value, field: &str) -> Result<Chat, String> {
    let messages = row.get(field).cloned().unwrap_or(Value::Null);
    let messages: Vec<Message> =
        serde_json::from_value(messages).map_err(|e| format!("{field}: {e}"))?;
    if messages.is_empty() {
        return Err(format!("{field} is empty"));
    }
    Ok(Chat { messages, tools: tools(row), ..Chat::default() })
}

fn completion(row: &Value, features: &Features) -> Result<Chat, String> {
    let field = |name: &str| {
        let content = row.get(name).and_then(Value::as_str);
        content.map(str::to_string).ok_or_else(|| format!("{name} must be a text"))
    };
    let messages = vec![
        Message::new("user", field(&features.prompt)?),
        Message::new("assistant", field(&features.completion)?),
    ];
    Ok(Chat { messages, tools: tools(row), ..Chat::default() })
}

fn tools(row: &Value) -> Option<Value> {
    row.get("tools").filter(|t| !t.is_null()).cloned()
}

fn encode(mut chat: Chat, text: &TextModel, mask_prompt: bool) -> Result<Example> {
    let tokens = text.encode_chat(&chat)?;
    if !mask_prompt {
        return Ok(Example { tokens, offset: 0 });
    }
    let last = chat.messages.pop();
    chat.add_generation_prompt = last.is_some_and(|m| m.role == "assistant");
    let offset = text.encode_chat(&chat)?.len();
    Ok(Example { tokens, offset })
}

/// Lengths are padded to one more than a multiple of this.
const PAD: usize = 32;

/// A batch of examples; of longer ones the first `longest` tokens.
pub fn batch(examples: &[&Example], longest: usize) -> Batch {
    let used = |e: &Example| e.tokens.len().min(longest);
    let most = examples.iter().map(|e| e.tokens.len()).max().unwrap_or(0);
    let width = (1 + PAD * most.div_ceil(PAD)).min(longest);
    let mut tokens = vec![0i32; examples.len() * width];
    let mut lengths = Vec::new();
    for (row, example) in tokens.chunks_mut(width.max(1)).zip(examples) {
        for (slot, &token) in row.iter_mut().zip(&example.tokens[..used(example)]) {
            *slot = token as i32;
        }
        lengths.extend([example.offset as i32, used(example) as i32]);
    }
    let n = examples.len();
    (Array::from_slice(&tokens, [n, width]), Array::from_slice(&lengths, [n, 2]))
}

/// Batches of examples of like length, in mlx-lm's order for a seed: the n-th epoch has the n-th
/// permutation.
///
/// ```
/// use lazul_lm::tune::{Example, batches};
/// let examples = [5, 90, 6, 91].map(|n| Example { tokens: vec![1; n], offset: 0 });
/// let mut loader = batches(examples.to_vec(), 2, 2048, 0)?;
/// let (tokens, lengths) = loader.next()?;
/// assert_eq!((tokens.shape()?, lengths.to_vec::<i32>()?), (&[2, 97][..], vec![0, 90, 0, 91]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// If there are fewer examples than a batch has, or the seed is none that NumPy has: 2^32 or more.
pub fn batches(
    examples: Vec<Example>,
    size: usize,
    longest: usize,
    seed: u64,
) -> TrainResult<Loader<Batch>> {
    let seed = u32::try_from(seed).map_err(|_| {
        TrainError::Options(format!("the seed of an order is below 2^32, and {seed} is not"))
    })?;
    if examples.len() < size || size == 0 {
        let why = format!("{} examples make no batch of {size}", examples.len());
        return Err(TrainError::Data(why));
    }
    let mut sorted: Vec<usize> = (0..examples.len()).collect();
    sorted.sort_by_key(|&i| examples[i].tokens.len());
    let groups: Vec<Vec<usize>> = sorted.chunks_exact(size).map(<[usize]>::to_vec).collect();
    // The generator before an epoch: most ask for one after the other.
    let drawn = Mutex::new((0, Twister::new(seed)));
    let order = move |epoch: u64| {
        let mut drawn = drawn.lock().unwrap_or_else(|e| e.into_inner());
        if drawn.0 > epoch {
            *drawn = (0, Twister::new(seed));
        }
        let (next, random) = &mut *drawn;
        loop {
            let permutation = random.permutation(groups.len());
            *next += 1;
            if *next > epoch {
                return permutation.into_iter().map(|i| groups[i].clone()).collect();
            }
        }
    };
    let examples = Arc::new(examples);
    let make = move |batch_of: &[usize]| {
        let chosen: Vec<&Example> = batch_of.iter().filter_map(|&i| examples.get(i)).collect();
        Ok(batch(&chosen, longest))
    };
    Loader::ordered(order, make)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(n: usize, offset: usize) -> Example {
        Example { tokens: (1..=n as u32).collect(), offset }
    }

    #[test]
    fn batches_are_padded_and_cut() {
        let (short, long) = (example(3, 1), example(40, 0));
        let (tokens, lengths) = batch(&[&short, &long], 2048);
        assert_eq!(tokens.shape().unwrap(), [2, 65]);
        assert_eq!(lengths.to_vec::<i32>().unwrap(), [1, 3, 0, 40]);
        assert_eq!(tokens.to_vec::<i32>().unwrap()[..5], [1, 2, 3, 0, 0]);
        let (tokens, lengths) = batch(&[&short, &long], 10);
        assert_eq!(tokens.shape().unwrap(), [2, 10]);
        assert_eq!(lengths.to_vec::<i32>().unwrap(), [1, 3, 0, 10]);
    }

    #[test]
    fn like_lengths_are_together() {
        let examples = [5, 90, 6, 91, 7, 92].map(|n| example(n, 0)).to_vec();
        let mut loader = batches(examples.clone(), 3, 2048, 0).unwrap();
        let mut widths: Vec<usize> =
            (0..2).map(|_| loader.next().unwrap().0.dim(1).unwrap()).collect();
        widths.sort();
        assert_eq!(widths, [33, 97]);
        assert!(batches(examples.clone(), 7, 2048, 0).is_err());
        let error = batches(examples, 3, 2048, 1 << 32).err().unwrap();
        assert!(matches!(error, TrainError::Options(_)), "{error}");
    }

    /// An epoch's order is its own, wherever a loader comes from.
    #[test]
    fn an_epoch_has_its_permutation() {
        use lazul_nn::train::Position;
        let examples: Vec<Example> = (1..=10).map(|n| example(n, 0)).collect();
        let mut loader = batches(examples, 1, 2048, 0).unwrap();
        let mut epoch = |from: Option<u64>| -> Vec<i32> {
            if let Some(epoch) = from {
                loader.seek(Position { epoch, batch: 0 });
            }
            let mut length = || loader.next().unwrap().1.to_vec::<i32>().unwrap()[1] - 1;
            (0..10).map(|_| length()).collect()
        };
        let [first, second] = [[2, 8, 4, 9, 1, 6, 7, 3, 0, 5], [3, 5, 1, 2, 9, 8, 0, 6, 7, 4]];
        assert_eq!([epoch(None), epoch(None)], [first, second]);
        let third = epoch(None);
        assert_eq!(
            [epoch(Some(1)), epoch(None), epoch(Some(0))],
            [second.to_vec(), third, first.to_vec()]
        );
    }
}
