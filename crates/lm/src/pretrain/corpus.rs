//! Texts as streams of tokens: what batches are cut from, and what is held back.
//!
//! A stream is one text after the other, each with the token that ends it. Windows of an epoch tile a stream
//! from a place that is another in each epoch, so every token is seen once an epoch and never twice at the same
//! place of a window. Groups of texts may be seen more or less often than their lengths say.

use crate::error::{Error, Result};
use crate::order::Twister;
use crate::text::TextModel;
use lazul_core::Array;
use lazul_nn::train::{Loader, read_jsonl, read_texts};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Tokens to train on, in groups, and tokens to validate with.
///
/// ```
/// use lazul_lm::pretrain::Corpus;
/// use lazul_lm::text::{TextFiles, TextModel};
/// let tokenizer = br#"{"model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "c": 2}, "merges": []}}"#;
/// let text = TextModel::load(&TextFiles { tokenizer_json: Some(tokenizer), ..Default::default() })?;
/// # let folder = std::env::temp_dir().join(format!("lazul-corpus-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder)?;
/// let path = folder.join("a.jsonl");
/// std::fs::write(&path, r#"{"text": "abcabcabc", "group": "letters"}
/// {"text": "aaaa", "group": "noise"}
/// "#)?;
/// let mut corpus = Corpus::read(&path, None, &text)?;
/// // The last twentieth of each group, at least one window of two tokens, is held back.
/// assert_eq!((corpus.tokens(), corpus.valid.len()), (9, 4));
/// corpus.set_shares(&[("letters".to_string(), 3.0), ("noise".to_string(), 1.0)])?;
/// # std::fs::remove_dir_all(folder)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Corpus {
    groups: Vec<Group>,
    /// What is validated with.
    pub valid: Vec<u32>,
}

/// Texts that are drawn from alike.
#[derive(Clone, Debug)]
struct Group {
    name: String,
    /// Of all windows; sums to one over the groups.
    share: f64,
    tokens: Vec<u32>,
}

/// What a group is called that has no name.
const UNNAMED: &str = "";

impl Corpus {
    /// The texts of a file or a folder of `.txt` and `.md` files, or the rows of a `.jsonl` file: `{"text"}`, with
    /// a `"group"` if wanted. Texts to validate with come from `valid`, or are the last twentieth of each group.
    ///
    /// # Errors
    /// If a file cannot be read, a row has no text, or a group has fewer than four tokens.
    pub fn read(path: &Path, valid: Option<&Path>, text: &TextModel) -> Result<Corpus> {
        let mut groups: Vec<Group> = streams(path, text)?
            .into_iter()
            .map(|(name, tokens)| Group { name, share: 0.0, tokens })
            .collect();
        let mut held = Vec::new();
        match valid {
            Some(path) => held = streams(path, text)?.into_values().flatten().collect(),
            None => {
                for Group { tokens, .. } in &mut groups {
                    let keep =
                        (tokens.len() - tokens.len() / 20).min(tokens.len().saturating_sub(2));
                    held.extend(tokens.split_off(keep));
                }
            }
        }
        let short = |name: &str, n: usize| {
            let group = if name.is_empty() { String::new() } else { format!(" group {name:?}:") };
            Error::Argument(format!("{}:{group} {n} tokens are too few", path.display()))
        };
        if let Some(group) = groups.iter().find(|g| g.tokens.len() < 2) {
            return Err(short(&group.name, group.tokens.len()));
        }
        if held.len() < 2 {
            return Err(short(UNNAMED, held.len()));
        }
        let mut corpus = Corpus { groups, valid: held };
        let all = corpus.tokens() as f64;
        for group in &mut corpus.groups {
            group.share = group.tokens.len() as f64 / all;
        }
        Ok(corpus)
    }

    /// Number of tokens to train on.
    pub fn tokens(&self) -> usize {
        self.groups.iter().map(|g| g.tokens.len()).sum()
    }

    /// Names and shares of the groups; the shares sum to one.
    pub fn shares(&self) -> impl Iterator<Item = (&str, f64)> {
        self.groups.iter().map(|g| (g.name.as_str(), g.share))
    }

    /// Draws windows from groups by these shares, whatever they sum to. Without them a group's share is that of
    /// its tokens.
    ///
    /// # Errors
    /// If a share is not a finite number above zero, or the names are not those of the groups.
    pub fn set_shares(&mut self, shares: &[(String, f64)]) -> Result<()> {
        let known = || self.groups.iter().map(|g| g.name.as_str()).collect::<Vec<_>>().join(", ");
        let given: BTreeMap<&str, f64> = shares.iter().map(|(n, s)| (n.as_str(), *s)).collect();
        if given.len() < shares.len() {
            return Err(Error::Argument("a group has a share twice".to_string()));
        }
        for (name, share) in &given {
            if !self.groups.iter().any(|g| g.name == *name) {
                let why = format!("there is no group {name:?}; there are {}", known());
                return Err(Error::Argument(why));
            }
            if !(share.is_finite() && *share > 0.0) {
                return Err(Error::Argument(format!("{name}: a share of {share} is none")));
            }
        }
        if let Some(group) = self.groups.iter().find(|g| !given.contains_key(g.name.as_str())) {
            return Err(Error::Argument(format!("the group {:?} has no share", group.name)));
        }
        let sum: f64 = given.values().sum();
        for group in &mut self.groups {
            group.share = given[group.name.as_str()] / sum;
        }
        Ok(())
    }

    /// Batches of `size` windows of `context` tokens and the one after, or of as many as fit into the tokens, if those
    /// are fewer: int32 `(size, context + 1)`. An epoch has as many batches as there are windows for.
    ///
    /// # Errors
    /// If a size is zero, or the tokens are no window.
    pub fn batches(&self, size: usize, context: usize, seed: u64) -> Result<Loader<Array>> {
        let width = context.checked_add(1).filter(|_| context > 0 && size > 0);
        let Some(width) = width.filter(|&w| w < 1 << 31) else {
            let why = format!("{size} windows of {context} tokens are no batch");
            return Err(Error::Argument(why));
        };
        if self.tokens() < width {
            let why = format!("{} tokens are no window of {width}", self.tokens());
            return Err(Error::Argument(why));
        }
        let windows = (self.tokens() / context).max(1);
        let size = size.min(windows);
        let count = windows / size;
        let groups = Arc::new(self.groups.clone());
        let drawn = groups.clone();
        let order = move |epoch: u64| {
            let seed = seed ^ epoch.wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let mut random = Twister::new((seed ^ (seed >> 32)) as u32);
            let mut places = places(&drawn, count * size, context, &mut random);
            shuffle(&mut places, &mut random);
            places.chunks(size).map(<[usize]>::to_vec).collect()
        };
        let make = move |places: &[usize]| {
            let mut rows = Vec::with_capacity(places.len() * width);
            for &place in places {
                rows.extend(window(&groups, place, width));
            }
            Ok(Array::from_slice(&rows, [places.len(), width]))
        };
        Ok(Loader::ordered(order, make)?)
    }
}

/// Where `count` windows begin, counted through all groups: so many of each as its share says.
fn places(groups: &[Group], count: usize, context: usize, random: &mut Twister) -> Vec<usize> {
    let mut places = Vec::with_capacity(count);
    let (mut base, mut reached) = (0, 0.0);
    for group in groups {
        reached += group.share;
        let until = (reached * count as f64).round().min(count as f64) as usize;
        let n = group.tokens.len();
        while places.len() < until {
            // Once through the group, from anywhere.
            let first = random.up_to((n - 1).min(u32::MAX as usize) as u32) as usize;
            let mut once: Vec<usize> =
                (0..(n / context).max(1)).map(|i| first + i * context).collect();
            shuffle(&mut once, random);
            once.truncate(until - places.len());
            places.extend(once.into_iter().map(|at| base + at % n));
        }
        base += n;
    }
    // Rounding leaves none out, but shares that were set by hand may.
    let last = places.last().copied().unwrap_or(0);
    places.resize(count, last);
    places
}

fn shuffle(items: &mut [usize], random: &mut Twister) {
    for i in (1..items.len()).rev() {
        items.swap(i, random.up_to(i.min(u32::MAX as usize) as u32) as usize);
    }
}

/// The tokens from a place on; after a group's last comes its first.
fn window(groups: &[Group], mut place: usize, width: usize) -> impl Iterator<Item = i32> + '_ {
    let mut at = 0;
    while place >= groups[at].tokens.len() {
        place -= groups[at].tokens.len();
        at += 1;
    }
    groups[at].tokens.iter().cycle().skip(place).take(width).map(|&t| t as i32)
}

/// The tokens of each group's texts.
fn streams(path: &Path, text: &TextModel) -> Result<BTreeMap<String, Vec<u32>>> {
    let tokenizer = text.tokenizer();
    let mut streams: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    let mut add = |group: &str, content: &str| -> Result<()> {
        let stream = streams.entry(group.to_string()).or_default();
        stream.extend(tokenizer.encode(content, false)?);
        stream.extend(tokenizer.special_ids().eos);
        Ok(())
    };
    if path.extension().is_some_and(|e| e == "jsonl") {
        for (i, row) in read_jsonl(path)?.iter().enumerate() {
            let field = |name: &str| row.get(name).and_then(|v| v.as_str());
            let Some(content) = field("text") else {
                let why = format!("{}: row {} has no text", path.display(), i + 1);
                return Err(Error::Argument(why));
            };
            add(field("group").unwrap_or(UNNAMED), content)?;
        }
        if streams.is_empty() {
            return Err(Error::Argument(format!("{}: there is no row", path.display())));
        }
    } else {
        for (_, content) in read_texts(path)? {
            add(UNNAMED, &content)?;
        }
    }
    Ok(streams)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn corpus(groups: &[(&str, f64, std::ops::Range<u32>)]) -> Corpus {
        let group = |(name, share, tokens): &(&str, f64, std::ops::Range<u32>)| Group {
            name: name.to_string(),
            share: *share,
            tokens: tokens.clone().collect(),
        };
        Corpus { groups: groups.iter().map(group).collect(), valid: vec![0, 1] }
    }

    #[test]
    fn an_epoch_shows_every_token_once_and_another_begins_elsewhere() {
        let corpus = corpus(&[("", 1.0, 0..40)]);
        let mut loader = corpus.batches(2, 5, 3).unwrap();
        assert_eq!(loader.batches(), 4);
        let mut starts = Vec::new();
        for _ in 0..3 {
            let mut seen = Vec::new();
            for _ in 0..4 {
                let batch = loader.next().unwrap();
                assert_eq!(batch.shape().unwrap(), [2, 6]);
                for row in batch.to_vec::<i32>().unwrap().chunks(6) {
                    for pair in row.windows(2) {
                        assert_eq!((pair[0] + 1) % 40, pair[1]);
                    }
                    seen.extend_from_slice(&row[..5]);
                }
            }
            starts.push(seen[0] % 5);
            seen.sort();
            assert_eq!(seen, (0..40).collect::<Vec<_>>());
        }
        starts.dedup();
        assert!(starts.len() > 1, "{starts:?}");
    }

    #[test]
    fn groups_are_drawn_from_by_their_shares() {
        let mut corpus = corpus(&[("a", 0.5, 0..100), ("b", 0.5, 100..200)]);
        corpus.set_shares(&[("b".to_string(), 3.0), ("a".to_string(), 1.0)]).unwrap();
        assert_eq!(corpus.shares().collect::<Vec<_>>(), [("a", 0.25), ("b", 0.75)]);
        let loader = corpus.batches(4, 5, 0).unwrap();
        let first: Vec<i32> = loader
            .pass()
            .flat_map(|batch| batch.unwrap().slice_axis(1, 0, 1).to_vec::<i32>().unwrap())
            .collect();
        assert_eq!(first.len(), 40);
        assert_eq!(first.iter().filter(|&&t| t < 100).count(), 10);
        for wrong in [vec![("a", 1.0)], vec![("a", 1.0), ("b", 0.0)], vec![("c", 1.0)]] {
            let wrong: Vec<_> = wrong.into_iter().map(|(n, s)| (n.to_string(), s)).collect();
            assert!(corpus.set_shares(&wrong).is_err(), "{wrong:?}");
        }
    }

    /// After the last token comes the first; a batch is no larger than the tokens.
    #[test]
    fn few_tokens_come_again() {
        let corpus = corpus(&[("", 1.0, 0..3)]);
        let mut loader = corpus.batches(usize::MAX, 2, 0).unwrap();
        let row = loader.next().unwrap().to_vec::<i32>().unwrap();
        assert_eq!(row.len(), 3);
        assert!(row.windows(2).all(|p| (p[0] + 1) % 3 == p[1]), "{row:?}");
        for (size, context) in [(0, 1), (1, 0), (1, 3), (1, usize::MAX)] {
            assert!(corpus.batches(size, context, 0).is_err());
        }
    }
}
