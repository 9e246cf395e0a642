//! Batches: which examples are in them, in what order, and a thread that makes them ahead of time.
//!
//! The order follows from a seed and the number of the epoch alone, so a [`Position`] is all that has to be
//! kept to go on where a training ended.

use super::error::{Error, Result};
use lazul_io::json;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

/// How examples become batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batching {
    /// Examples in a batch; 32.
    pub size: usize,
    /// Whether their order is another in each epoch; true.
    pub shuffle: bool,
    /// Whether examples of like length are together, so that little is padded; false.
    pub bucket: bool,
    /// Whether the last batch may be smaller; false: its examples are left out of the epoch then.
    pub partial: bool,
    /// The seed of the order; 0.
    pub seed: u64,
}

impl Default for Batching {
    fn default() -> Batching {
        Batching { size: 32, shuffle: true, bucket: false, partial: false, seed: 0 }
    }
}

/// A place in the data: the next batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Times that all data was gone through.
    pub epoch: u64,
    /// Batches of this epoch that are done.
    pub batch: u64,
}

/// SplitMix64 (Steele, Lea and Flood, 2014): for orders, which are no arrays.
struct Shuffle(u64);

impl Shuffle {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `n`, all alike up to 2^-64.
    fn below(&mut self, n: usize) -> usize {
        ((self.next() as u128 * n as u128) >> 64) as usize
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

/// The batches of an epoch, as numbers of examples whose lengths are `lengths`.
///
/// ```
/// use lazul_nn::train::{Batching, batches};
/// let how = Batching { size: 2, shuffle: false, bucket: true, ..Default::default() };
/// assert_eq!(batches(&[9, 1, 8, 2, 5], &how, 0), [[1, 3], [4, 2]]);
/// ```
pub fn batches(lengths: &[usize], how: &Batching, epoch: u64) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    let mut random = Shuffle(how.seed ^ epoch.wrapping_mul(0xD1B5_4A32_D192_ED03));
    if how.shuffle {
        random.shuffle(&mut order);
    }
    if how.bucket {
        order.sort_by_key(|&i| lengths[i]);
    }
    let size = how.size.max(1);
    let mut batches: Vec<Vec<usize>> = order.chunks(size).map(<[usize]>::to_vec).collect();
    if !how.partial {
        batches.retain(|b| b.len() == size);
    }
    if how.shuffle && how.bucket {
        random.shuffle(&mut batches);
    }
    batches
}

/// The batches of an epoch.
type Order = Arc<dyn Fn(u64) -> Vec<Vec<usize>> + Send + Sync>;
type Make<B> = Arc<dyn Fn(&[usize]) -> Result<B> + Send + Sync>;

/// Batches without end, epoch after epoch, made two ahead by a thread.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::train::{Batching, Loader};
/// let x = arange(10, DType::F32).reshape([5, 2]);
/// let rows = move |batch: &[usize]| {
///     let indices: Vec<i32> = batch.iter().map(|&i| i as i32).collect();
///     Ok(x.take(Array::from_slice(&indices, [indices.len()]), 0))
/// };
/// let how = Batching { size: 2, shuffle: false, ..Default::default() };
/// let mut loader = Loader::new(vec![1; 5], how, rows)?;
/// assert_eq!(loader.next()?.to_vec::<f32>()?, [0.0, 1.0, 2.0, 3.0]);
/// assert_eq!(loader.next()?.to_vec::<f32>()?, [4.0, 5.0, 6.0, 7.0]);
/// assert_eq!(loader.position().epoch, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Loader<B> {
    /// Batches in an epoch.
    count: usize,
    order: Order,
    make: Make<B>,
    position: Position,
    worker: Option<Receiver<Result<B>>>,
}

impl<B: Send + 'static> Loader<B> {
    /// Batches that `make` makes of numbers of examples, whose lengths are `lengths` (only their number counts
    /// unless batches are bucketed).
    ///
    /// # Errors
    /// If not even one batch is full.
    pub fn new(
        lengths: Vec<usize>,
        how: Batching,
        make: impl Fn(&[usize]) -> Result<B> + Send + Sync + 'static,
    ) -> Result<Loader<B>> {
        let few = if how.partial { lengths.is_empty() } else { lengths.len() < how.size };
        if few || how.size == 0 {
            let why = format!("{} examples make no batch of {}", lengths.len(), how.size);
            return Err(Error::Data(why));
        }
        Loader::ordered(move |epoch| batches(&lengths, &how, epoch), make)
    }

    /// Batches that `make` makes of numbers of examples, which `order` gives for each epoch, as many in each.
    ///
    /// # Errors
    /// If the first epoch has none.
    pub fn ordered(
        order: impl Fn(u64) -> Vec<Vec<usize>> + Send + Sync + 'static,
        make: impl Fn(&[usize]) -> Result<B> + Send + Sync + 'static,
    ) -> Result<Loader<B>> {
        let count = order(0).len();
        if count == 0 {
            return Err(Error::Data("there is no batch".to_string()));
        }
        let (order, make) = (Arc::new(order), Arc::new(make));
        Ok(Loader { count, order, make, position: Position::default(), worker: None })
    }

    /// Number of batches in an epoch.
    pub fn batches(&self) -> usize {
        self.count
    }

    /// Where the next batch comes from.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Goes to a place.
    pub fn seek(&mut self, position: Position) {
        // The thread ends when nobody takes its batches.
        self.worker = None;
        let all = self.batches() as u64;
        self.position =
            Position { epoch: position.epoch + position.batch / all, batch: position.batch % all };
    }

    /// The next batch.
    ///
    /// # Errors
    /// Those of making it; if an epoch has another number of batches than the first. The place is then still
    /// before it.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<B> {
        let worker = match self.worker.take() {
            Some(worker) => worker,
            None => self.start()?,
        };
        let ended = || Error::Data("the thread that makes batches has ended".to_string());
        let batch = worker.recv().map_err(|_| ended())??;
        self.worker = Some(worker);
        self.position.batch += 1;
        if self.position.batch == self.batches() as u64 {
            self.position = Position { epoch: self.position.epoch + 1, batch: 0 };
        }
        Ok(batch)
    }

    /// The batches of one pass over the data in the order of epoch 0, made one by one: to evaluate.
    pub fn pass(&self) -> impl Iterator<Item = Result<B>> + '_ {
        (self.order)(0).into_iter().map(|batch| (self.make)(&batch))
    }

    fn start(&self) -> Result<Receiver<Result<B>>> {
        let (send, receive) = sync_channel(2);
        let (order, make) = (self.order.clone(), self.make.clone());
        let Position { mut epoch, batch } = self.position;
        let (count, mut skip) = (self.count, batch as usize);
        let run = move || loop {
            let all = order(epoch);
            if all.len() != count {
                let why = format!("epoch {epoch} has {} batches, and the first {count}", all.len());
                // Nobody may be there any more who wants to know.
                let _ = send.send(Err(Error::Data(why)));
                return;
            }
            for batch in all.into_iter().skip(skip) {
                if send.send(make(&batch)).is_err() {
                    return;
                }
            }
            (skip, epoch) = (0, epoch + 1);
        };
        let thread = std::thread::Builder::new().name("lazul-batches".to_string()).spawn(run);
        thread.map_err(|e| Error::Data(format!("no thread for batches: {e}")))?;
        Ok(receive)
    }
}

fn read(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path);
    let text = bytes.map(String::from_utf8);
    let at = |why: String| Error::Data(format!("{}: {why}", path.display()));
    match text {
        Ok(Ok(text)) => Ok(text),
        Ok(Err(e)) => Err(at(format!("is no UTF-8 after byte {}", e.utf8_error().valid_up_to()))),
        Err(e) => Err(at(e.to_string())),
    }
}

/// The values of a file with one JSON value a line; empty lines are passed over.
///
/// ```
/// use lazul_nn::train::read_jsonl;
/// let path = std::env::temp_dir().join(format!("lazul-rows-{}.jsonl", std::process::id()));
/// std::fs::write(&path, "{\"text\": \"one\"}\n\n{\"text\": \"two\"}\n")?;
/// assert_eq!(read_jsonl(&path)?[1]["text"], "two");
/// # std::fs::remove_file(path)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// If the file cannot be read, or a line is no JSON: the error says which.
pub fn read_jsonl(path: impl AsRef<Path>) -> Result<Vec<Value>> {
    let path = path.as_ref();
    let text = read(path)?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let parse = |(i, line): (usize, &str)| {
        json::parse(line.as_bytes())
            .map_err(|e| Error::Data(format!("{}: line {}: {e}", path.display(), i + 1)))
    };
    lines.map(parse).collect()
}

/// The texts of a file, or of all `.txt` and `.md` files of a folder and those below it, by name.
///
/// # Errors
/// If one cannot be read or is no UTF-8, or there is none.
pub fn read_texts(path: impl AsRef<Path>) -> Result<Vec<(PathBuf, String)>> {
    let path = path.as_ref();
    let mut files = Vec::new();
    let mut folders = Vec::new();
    match path.is_dir() {
        true => folders.push(path.to_path_buf()),
        false => files.push(path.to_path_buf()),
    }
    while let Some(folder) = folders.pop() {
        let at = |e: std::io::Error| Error::Data(format!("{}: {e}", folder.display()));
        for entry in std::fs::read_dir(&folder).map_err(at)? {
            let entry = entry.map_err(at)?;
            let kind = entry.file_type().map_err(at)?;
            let path = entry.path();
            let text = path.extension().is_some_and(|e| e == "txt" || e == "md");
            match (kind.is_dir(), text) {
                (true, _) => folders.push(path),
                (false, true) => files.push(path),
                (false, false) => {}
            }
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(Error::Data(format!("{}: there is no .txt or .md file", path.display())));
    }
    files.into_iter().map(|file| Ok((file.clone(), read(&file)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loader(how: Batching) -> Loader<Vec<usize>> {
        Loader::new((0..10).rev().collect(), how, |batch| Ok(batch.to_vec())).unwrap()
    }

    #[test]
    fn every_example_comes_once_an_epoch_and_another_order_each_time() {
        for bucket in [false, true] {
            let how = Batching { size: 3, bucket, partial: true, ..Default::default() };
            let mut orders = Vec::new();
            for epoch in 0..4 {
                let batches = batches(&[5; 10], &how, epoch);
                let mut all = batches.concat();
                orders.push(all.clone());
                all.sort();
                assert_eq!(all, (0..10).collect::<Vec<_>>());
            }
            orders.sort();
            orders.dedup();
            assert_eq!(orders.len(), 4);
        }
        let other = Batching { seed: 1, ..Default::default() };
        assert_ne!(batches(&[1; 99], &other, 0), batches(&[1; 99], &Batching::default(), 0));
    }

    #[test]
    fn a_place_is_all_that_is_needed_to_go_on() {
        let how = Batching { size: 3, bucket: true, ..Default::default() };
        let mut whole = loader(how);
        let all: Vec<_> = (0..9).map(|_| whole.next().unwrap()).collect();
        for done in 0..8 {
            let mut first = loader(how);
            (0..done).for_each(|_| drop(first.next().unwrap()));
            let mut second = loader(how);
            second.seek(first.position());
            assert_eq!(second.position(), first.position());
            assert_eq!(second.next().unwrap(), all[done]);
            // In place, too.
            first.seek(first.position());
            assert_eq!(first.next().unwrap(), all[done]);
        }
        assert_eq!(whole.position(), Position { epoch: 3, batch: 0 });
    }

    #[test]
    fn batches_that_cannot_be_made() {
        let how = Batching { size: 11, ..Default::default() };
        assert!(Loader::new(vec![1; 10], how, |b| Ok(b.len())).is_err());
        assert!(Loader::new(vec![], Batching { partial: true, ..how }, |b| Ok(b.len())).is_err());
        let how = Batching { size: 1, shuffle: false, ..how };
        let broken = |b: &[usize]| match b {
            [1] => Err(Error::Data("example 1".into())),
            _ => Ok(b[0]),
        };
        let mut loader = Loader::new(vec![1; 3], how, broken).unwrap();
        assert_eq!(loader.next().unwrap(), 0);
        for _ in 0..2 {
            assert_eq!(loader.next().unwrap_err().to_string(), "example 1");
            assert_eq!(loader.position().batch, 1);
        }
        let panics = |_: &[usize]| -> Result<usize> { panic!("a bug of the caller's") };
        let mut loader = Loader::new(vec![1; 3], how, panics).unwrap();
        assert!(loader.next().unwrap_err().to_string().contains("thread"));
    }

    /// The thread went round for ever, or places moved.
    #[test]
    fn epochs_with_another_number_of_batches() {
        for later in [0, 1, 3] {
            let order = move |epoch| vec![vec![7]; if epoch == 0 { 2 } else { later }];
            let mut loader = Loader::ordered(order, |batch| Ok(batch[0])).unwrap();
            assert_eq!([loader.next().unwrap(), loader.next().unwrap()], [7, 7]);
            for _ in 0..2 {
                let error = loader.next().unwrap_err().to_string();
                assert_eq!(error, format!("epoch 1 has {later} batches, and the first 2"));
                assert_eq!(loader.position(), Position { epoch: 1, batch: 0 });
            }
        }
    }

    #[test]
    fn texts_and_lines() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        assert!(read_texts(folder.path()).is_err());
        std::fs::create_dir(at("b")).unwrap();
        std::fs::write(at("b/c.txt"), "two").unwrap();
        std::fs::write(at("a.md"), "one").unwrap();
        std::fs::write(at("d.bin"), [0xff]).unwrap();
        let texts: Vec<String> =
            read_texts(folder.path()).unwrap().into_iter().map(|(_, t)| t).collect();
        assert_eq!(texts, ["one", "two"]);
        assert!(read_texts(at("d.bin")).unwrap_err().to_string().contains("UTF-8"));
        std::fs::write(at("x.jsonl"), "{}\n{\"a\": }\n").unwrap();
        let error = read_jsonl(at("x.jsonl")).unwrap_err().to_string();
        assert!(error.contains("line 2"), "{error}");
    }
}
