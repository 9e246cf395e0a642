//! Keys and values of the tokens that a model has seen.

use lazul_core::{Array, DType, Error, ErrorKind, Result, tri, zeros};

/// Room grows by so many positions at a time.
const BLOCK: usize = 256;

/// Keys and values of one layer, `(b, heads, capacity, d)`, of which the first `offset` positions are
/// in use. Room grows by blocks; between growths new tokens are written into the same memory.
#[derive(Debug, Clone, Default)]
pub struct KvCache {
    keys: Option<Array>,
    values: Option<Array>,
    offset: usize,
    /// Whether nothing is kept.
    passing: bool,
    /// Whose tokens are whose, int32 `(b, t)`, where a row has several sequences.
    segments: Option<Array>,
}

/// What a cache holds after an update. Shapes change only when room grows, so the steps of a generation
/// have graphs of one form.
#[derive(Debug, Clone)]
pub struct Stored {
    /// `(b, heads, capacity, d)`.
    pub keys: Array,
    /// As `keys`.
    pub values: Array,
    /// Positions in use, one int32; all of them if there is no number.
    pub length: Option<Array>,
}

impl KvCache {
    /// An empty cache.
    pub fn new() -> KvCache {
        KvCache::default()
    }

    /// A cache that keeps nothing and hands on what it is given: whole sequences, in training.
    pub fn passing() -> KvCache {
        KvCache { passing: true, ..KvCache::default() }
    }

    /// As [`KvCache::passing`], for rows of several sequences that do not see one another: `segments`, int32
    /// `(b, t)`, has the number of each token's sequence.
    pub fn passing_segments(segments: &Array) -> KvCache {
        KvCache { segments: Some(segments.clone()), ..KvCache::passing() }
    }

    /// Which keys a query sees in rows of several sequences, bool `(b, 1, t, t)`: those of its own that are not
    /// after it, the last `window` of them if there is such a number. Nothing for rows of one sequence.
    pub fn segment_mask(&self, window: Option<usize>) -> Option<Array> {
        let segments = self.segments.as_ref()?;
        let t = segments.dim(1).unwrap_or(0);
        let same = segments.expand_dims(2).equal(segments.expand_dims(1)); // (b, t, t)
        let mut before = tri(t, t, 0, DType::Bool);
        if let Some(window) = window.and_then(|n| i64::try_from(n).ok()) {
            before = before.logical_and(tri(t, t, -window, DType::Bool).logical_not());
        }
        Some(same.logical_and(before).expand_dims(1))
    }

    /// Whether nothing is ever kept.
    pub fn is_passing(&self) -> bool {
        self.passing
    }

    /// Number of positions in use.
    pub fn len(&self) -> usize {
        self.offset
    }

    /// Whether nothing was stored yet.
    pub fn is_empty(&self) -> bool {
        self.offset == 0
    }

    /// Appends keys and values `(b, heads, t, d)` and returns all that there is room for, and how many
    /// are in use.
    ///
    /// # Errors
    /// If an argument is a failed array, or its shape does not fit what is stored.
    pub fn update(&mut self, keys: &Array, values: &Array) -> Result<Stored> {
        let t = keys.dim(2)?;
        let end = self.offset + t;
        let start = Array::scalar(i32::try_from(self.offset).unwrap_or(i32::MAX));
        if values.dim(2)? != t {
            let why = format!("{t} keys, but {} values", values.dim(2)?);
            return Err(Error::new(ErrorKind::Shape, "kv_cache", why));
        }
        let append = |store: &Option<Array>, new: &Array| -> Result<Array> {
            let full = grow(store.clone(), new, self.offset, end)?;
            let full = full.dynamic_slice_update(new, &start, &[2]);
            full.check()?;
            Ok(full)
        };
        if self.passing {
            return Ok(Stored { keys: keys.clone(), values: values.clone(), length: None });
        }
        // Nothing is replaced before both fit: after an error the cache is what it was.
        let keys = append(&self.keys, keys)?;
        let values = append(&self.values, values)?;
        let length = Some(Array::scalar(i32::try_from(end).unwrap_or(i32::MAX)));
        let stored = Stored { keys: keys.clone(), values: values.clone(), length };
        (self.keys, self.values, self.offset) = (Some(keys), Some(values), end);
        Ok(stored)
    }

    /// Forgets everything after the first `length` positions.
    pub fn truncate(&mut self, length: usize) {
        self.offset = self.offset.min(length);
    }

    /// The arrays that hold the cache.
    pub fn arrays(&self) -> impl Iterator<Item = &Array> {
        self.keys.iter().chain(&self.values)
    }
}

/// `store` with room for `end` positions, made for arrays like `new`.
fn grow(store: Option<Array>, new: &Array, used: usize, end: usize) -> Result<Array> {
    let [b, h, _, d] = new.dims()?;
    let room = |positions: usize| {
        zeros([b, h, positions.div_ceil(BLOCK) * BLOCK, d], new.dtype().unwrap_or(DType::F32))
    };
    let Some(store) = store else { return Ok(room(end)) };
    if store.dim(2)? >= end {
        return Ok(store);
    }
    Ok(room(end).slice_update(store.slice_axis(2, 0, used as i64), [0, 0, 0, 0]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use lazul_core::prelude::*;

    #[test]
    fn appended_positions_come_back_in_order() -> lazul_core::Result<()> {
        let mut cache = KvCache::new();
        let mut expected = Vec::new();
        for step in 0..300 {
            let t = if step == 0 { 250 } else { 1 };
            let new = (arange(t, DType::F32) + (expected.len() as f32)).reshape([1, 1, t, 1]);
            expected.extend(new.to_vec::<f32>()?);
            let stored = cache.update(&new, &(&new * 2.0))?;
            let n = expected.len();
            assert_eq!(stored.length.as_ref().unwrap().item::<i32>()? as usize, n);
            assert_eq!(stored.keys.to_vec::<f32>()?[..n], expected);
            assert_eq!((stored.values * 0.5).to_vec::<f32>()?[..n], expected);
        }
        let (ones, twos) = (ones([1, 1, 2, 1], DType::F32), full([1, 1, 2, 1], 2.0f32));
        let handed = KvCache::passing().update(&ones, &twos)?;
        assert!(handed.length.is_none());
        assert_eq!(
            (handed.keys.shape()?, handed.values.to_vec::<f32>()?),
            (&[1, 1, 2, 1][..], vec![2.0; 2])
        );
        cache.truncate(3);
        let one = zeros([1, 1, 1, 1], DType::F32);
        let stored = cache.update(&one, &one)?;
        assert_eq!(stored.keys.to_vec::<f32>()?[..4], [0.0, 1.0, 2.0, 0.0]);
        Ok(())
    }
}
