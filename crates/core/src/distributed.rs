//! Groups of processes that work on one thing, and what they exchange.
//!
//! A program that was started alone is a group of one: every exchange is then the array itself, so a
//! program written for many processes runs, and computes the same, on one.

use crate::error::{Error, ErrorKind, Result};
use crate::ints::IntoInts;
use crate::node::Array;
use crate::ops::{attempt, error};
use crate::scope::call_site;
use lazul_ir::DType;

/// Processes that exchange arrays; so far this one alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    alone: (),
}

/// Whether processes can be connected here. Not yet: every group has one member.
///
/// ```
/// assert!(!lazul_core::distributed::is_available());
/// ```
pub fn is_available() -> bool {
    false
}

/// The group of all processes that were started together.
///
/// ```
/// use lazul_core::distributed;
/// let group = distributed::init(false)?;
/// assert_eq!((group.rank(), group.size()), (0, 1));
/// assert!(distributed::init(true).is_err());
/// # Ok::<(), lazul_core::Error>(())
/// ```
///
/// # Errors
/// With `strict`, if the processes cannot be connected; without, a group of this process alone is given then.
#[track_caller]
pub fn init(strict: bool) -> Result<Group> {
    if strict {
        let why = "processes cannot be connected here: there is no transport";
        return Err(Error::new(ErrorKind::Value, "distributed.init", why).at(call_site()));
    }
    Ok(Group::alone())
}

impl Group {
    /// A group of this process alone.
    ///
    /// ```
    /// use lazul_core::distributed::Group;
    /// assert_eq!(Group::alone().size(), 1);
    /// ```
    pub fn alone() -> Group {
        Group { alone: () }
    }

    /// The number of this process among those of the group, from 0.
    ///
    /// ```
    /// use lazul_core::distributed::Group;
    /// assert_eq!(Group::alone().rank(), 0);
    /// ```
    pub fn rank(&self) -> usize {
        0
    }

    /// How many processes there are in the group.
    ///
    /// ```
    /// use lazul_core::distributed::Group;
    /// assert_eq!(Group::alone().size(), 1);
    /// ```
    pub fn size(&self) -> usize {
        1
    }

    /// The group of those processes that give the same `color`, in the order of their `key`s, or of their ranks where
    /// none is given.
    ///
    /// ```
    /// use lazul_core::distributed::Group;
    /// assert_eq!(Group::alone().split(7, None), Group::alone());
    /// ```
    #[must_use]
    pub fn split(&self, color: i64, key: Option<i64>) -> Group {
        // One process is with itself, whatever its color and key.
        let _ = (color, key);
        self.clone()
    }

    /// Why there is nothing to exchange with the process `rank`: a group has one member, this process.
    fn alone_with(&self, op: &'static str, rank: usize, operands: &[&Array]) -> Error {
        let why = match rank {
            0 => "process 0 is this one".to_string(),
            _ => format!("there is no process {rank} in a group of {}", self.size()),
        };
        error(ErrorKind::Value, op, why, operands)
    }
}

macro_rules! exchanges {
    ($($name:ident $what:literal;)*) => { $(
        #[doc = concat!("The ", $what, " of the processes' arrays, element by element: the same array in each.")]
        ///
        /// Arrays have one shape and dtype, and the result has it too.
        ///
        /// ```
        /// use lazul_core::{distributed::{self, Group}, prelude::*};
        /// let x = arange(3, DType::F32);
        #[doc = concat!("let all = distributed::", stringify!($name), "(&x, &Group::alone());")]
        /// assert_eq!(all.to_vec::<f32>()?, [0.0, 1.0, 2.0]);
        /// # Ok::<(), lazul_core::Error>(())
        /// ```
        #[track_caller]
        pub fn $name(x: &Array, _group: &Group) -> Array {
            x.clone()
        }
    )* };
}

exchanges! {
    all_sum "sum";
    all_max "greatest";
    all_min "least";
}

/// The processes' arrays, one after the other along the first axis: the same array in each.
///
/// Arrays have one shape `(n, …)` and dtype; the result is `(n * size, …)`. One without axes counts as `(1)`.
///
/// ```
/// use lazul_core::{distributed::{self, Group}, prelude::*};
/// let all = distributed::all_gather(&Array::scalar(2.0f32), &Group::alone());
/// assert_eq!(all.shape()?, [1]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn all_gather(x: &Array, _group: &Group) -> Array {
    attempt(|| {
        x.check()?;
        Ok(if x.0.shape.is_empty() { x.reshape([1]) } else { x.clone() })
    })
}

/// The sum of the processes' arrays, of which each gets its part along the first axis.
///
/// Arrays have one shape `(n, …)`, `n` a multiple of the group's size, and dtype; the result is `(n / size, …)`.
///
/// ```
/// use lazul_core::{distributed::{self, Group}, prelude::*};
/// let part = distributed::sum_scatter(&arange(3, DType::F32), &Group::alone());
/// assert_eq!(part.to_vec::<f32>()?, [0.0, 1.0, 2.0]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
///
/// # Errors
/// Of the result: if the array has no axes.
#[track_caller]
pub fn sum_scatter(x: &Array, _group: &Group) -> Array {
    attempt(|| {
        x.check()?;
        if x.0.shape.is_empty() {
            let why = "an array without axes has no parts";
            return Err(error(ErrorKind::Shape, "distributed.sum_scatter", why, &[x]));
        }
        Ok(x.clone())
    })
}

/// Sends an array to the process `to` when the result, which is the array itself, is evaluated.
///
/// ```
/// use lazul_core::{distributed::{self, Group}, prelude::*};
/// let sent = distributed::send(&arange(3, DType::F32), 1, &Group::alone());
/// assert!(sent.check().unwrap_err().message().contains("no process 1"));
/// ```
///
/// # Errors
/// Of the result: if there is no such process, or it is this one.
#[track_caller]
pub fn send(x: &Array, to: usize, group: &Group) -> Array {
    attempt(|| {
        x.check()?;
        Err(group.alone_with("distributed.send", to, &[x]))
    })
}

/// The array of this shape and dtype that the process `from` sends here.
///
/// ```
/// use lazul_core::{distributed::{self, Group}, prelude::*};
/// let received = distributed::recv([3], DType::F32, 0, &Group::alone());
/// assert!(received.check().unwrap_err().message().contains("this one"));
/// ```
///
/// # Errors
/// Of the result: if there is no such process, or it is this one.
#[track_caller]
pub fn recv(shape: impl IntoInts, dtype: DType, from: usize, group: &Group) -> Array {
    let like = crate::ops::creation::zeros(shape, dtype);
    attempt(|| {
        like.check()?;
        Err(group.alone_with("distributed.recv", from, &[&like]))
    })
}

/// The array like `x` in shape and dtype that the process `from` sends here.
///
/// ```
/// use lazul_core::{distributed::{self, Group}, prelude::*};
/// let received = distributed::recv_like(&arange(3, DType::F32), 2, &Group::alone());
/// assert!(received.check().unwrap_err().message().contains("no process 2"));
/// ```
///
/// # Errors
/// As [`recv`].
#[track_caller]
pub fn recv_like(x: &Array, from: usize, group: &Group) -> Array {
    attempt(|| {
        x.check()?;
        Err(group.alone_with("distributed.recv_like", from, &[x]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prelude::*;

    #[test]
    fn alone_every_exchange_is_the_array() {
        let group = init(false).unwrap();
        assert_eq!(group, Group::alone());
        assert_eq!(group.split(1, Some(3)), group);
        assert!(init(true).is_err() && !is_available());
        let x = (arange(6, DType::F32) * 0.5).reshape([2, 3]);
        for exchange in [all_sum, all_max, all_min, all_gather, sum_scatter] {
            assert_eq!(exchange(&x, &group).to_bytes().unwrap(), x.to_bytes().unwrap());
            let wrong = x.matmul(&x);
            assert_eq!(exchange(&wrong, &group).check().unwrap_err().op(), "matmul");
        }
        assert!(sum_scatter(&Array::scalar(1), &group).check().is_err());
        for rank in [0, 1] {
            for lone in [
                send(&x, rank, &group),
                recv([2], DType::U8, rank, &group),
                recv_like(&x, rank, &group),
            ] {
                let error = lone.check().unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Value);
                assert!(error.site().is_some_and(|at| at.file() == file!()), "{error}");
            }
        }
    }
}
