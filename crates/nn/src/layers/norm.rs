//! Normalisation layers.

use super::{Layer, error};
use crate::module::{Buffer, Training};
use crate::weights::Weights;
use lazul_core::{Array, DType, Error, ErrorKind, Result, attempt, fast, ones, zeros};

/// Root-mean-square normalisation over the last axis with a learned scale.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::RmsNorm;
/// let x = Array::from_slice(&[3.0f32, -3.0], [1, 2]);
/// assert_eq!(RmsNorm::new(2, 0.0).forward(&x).to_vec::<f32>()?, [1.0, -1.0]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[derive(Clone, Debug, crate::Module)]
pub struct RmsNorm {
    /// Scale, `(d)`.
    pub weight: Array,
    /// Added to the mean square.
    #[module(skip)]
    pub eps: f32,
}

impl RmsNorm {
    /// A norm of `d` features with scale 1 (MLX: `eps` 1e-5).
    pub fn new(d: usize, eps: f32) -> RmsNorm {
        RmsNorm { weight: ones(d, DType::F32), eps }
    }

    /// The norm at this place of a checkpoint.
    ///
    /// # Errors
    /// If `weight` is missing or has another shape.
    pub fn load(weights: &Weights<'_>, d: usize, eps: f32) -> Result<RmsNorm> {
        Ok(RmsNorm { weight: weights.tensor("weight", &[d])?, eps })
    }

    /// `x (…, d)` → same shape and dtype.
    #[track_caller]
    pub fn forward(&self, x: &Array) -> Array {
        fast::rms_norm(x, Some(&self.weight), self.eps)
    }
}

/// Layer normalisation over the last axis with learned scale and shift.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::LayerNorm;
/// let x = Array::from_slice(&[1.0f32, 3.0], [1, 2]);
/// assert_eq!(LayerNorm::new(2, 0.0).forward(&x).to_vec::<f32>()?, [-1.0, 1.0]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[derive(Clone, Debug, crate::Module)]
pub struct LayerNorm {
    /// Scale, `(d)`.
    pub weight: Option<Array>,
    /// Shift, `(d)`.
    pub bias: Option<Array>,
    /// Added to the variance.
    #[module(skip)]
    pub eps: f32,
}

impl LayerNorm {
    /// A norm of `d` features with scale 1 and shift 0 (MLX: `eps` 1e-5).
    pub fn new(d: usize, eps: f32) -> LayerNorm {
        let (weight, bias) = affine(d);
        LayerNorm { weight, bias, eps }
    }

    /// `x (…, d)` → same shape and dtype.
    #[track_caller]
    pub fn forward(&self, x: &Array) -> Array {
        fast::layer_norm(x, self.weight.as_ref(), self.bias.as_ref(), self.eps)
    }
}

/// Scale 1 and shift 0 for so many features.
fn affine(d: usize) -> (Option<Array>, Option<Array>) {
    (Some(ones(d, DType::F32)), Some(zeros(d, DType::F32)))
}

/// `x` in f32 or more.
fn wide(op: &'static str, x: &Array) -> Result<(Array, DType)> {
    match x.dtype()? {
        DType::F64 => Ok((x.clone(), DType::F64)),
        dtype if dtype.is_float() => Ok((x.astype(DType::F32), dtype)),
        _ => Err(error(ErrorKind::DType, op, "needs a float dtype", &[x])),
    }
}

/// `(x - mean) / sqrt(var + eps)`, then scale and shift, in the dtype asked for.
fn normalised(
    x: &Array,
    [mean, var]: [&Array; 2],
    eps: f32,
    [weight, bias]: [&Option<Array>; 2],
    dtype: DType,
) -> Array {
    let mut y = (x - mean) * (var + eps).rsqrt();
    if let Some(weight) = weight {
        y *= weight;
    }
    if let Some(bias) = bias {
        y += bias;
    }
    y.astype(dtype)
}

/// An input whose last axis has `channels` features and that has `least` axes or more.
fn check_channels(op: &'static str, x: &Array, channels: usize, least: usize) -> Result<()> {
    if x.ndim()? < least || x.dim(-1)? != channels {
        let why = format!("needs {least} axes or more, and {channels} channels in the last");
        return Err(error(ErrorKind::Shape, op, why, &[x]));
    }
    Ok(())
}

/// Normalisation of each channel of each sample over its spatial axes.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::layers::InstanceNorm;
/// let x = Array::from_slice(&[1.0f32, 3.0], [1, 2, 1]);
/// assert_eq!(InstanceNorm::new(1, 0.0, false).forward(&x).to_vec::<f32>()?, [-1.0, 1.0]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[derive(Clone, Debug, crate::Module)]
pub struct InstanceNorm {
    /// Scale, `(c)`.
    pub weight: Option<Array>,
    /// Shift, `(c)`.
    pub bias: Option<Array>,
    /// Number of channels.
    #[module(skip)]
    pub dims: usize,
    /// Added to the variance.
    #[module(skip)]
    pub eps: f32,
}

impl InstanceNorm {
    /// A norm of `dims` channels (MLX: `eps` 1e-5, not `affine`).
    pub fn new(dims: usize, eps: f32, affine: bool) -> InstanceNorm {
        let (weight, bias) = if affine { self::affine(dims) } else { (None, None) };
        InstanceNorm { weight, bias, dims, eps }
    }

    /// `x (n, …, c)` → same shape and dtype; computed in f32 (f64 for f64).
    #[track_caller]
    pub fn forward(&self, x: &Array) -> Array {
        attempt(|| {
            check_channels("InstanceNorm", x, self.dims, 3)?;
            let axes: Vec<usize> = (1..x.ndim()? - 1).collect();
            let (x, dtype) = wide("InstanceNorm", x)?;
            let (mean, var) = (x.mean_keepdims(&axes), x.var_keepdims(&axes, 0));
            Ok(normalised(&x, [&mean, &var], self.eps, [&self.weight, &self.bias], dtype))
        })
    }
}

/// Normalisation of groups of channels of each sample over them and the spatial axes. Source: Wu and He,
/// 2018.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::layers::GroupNorm;
/// let norm = GroupNorm::new(2, 4)?;
/// let y = norm.forward(&arange(8, DType::F32).reshape([1, 2, 4]));
/// assert!(y.mean(..).item::<f32>()?.abs() < 1e-6);
/// assert!(GroupNorm::new(3, 4).is_err());
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[derive(Clone, Debug, crate::Module)]
pub struct GroupNorm {
    /// Scale, `(c)`.
    pub weight: Option<Array>,
    /// Shift, `(c)`.
    pub bias: Option<Array>,
    /// Number of groups.
    #[module(skip)]
    pub groups: usize,
    /// Number of channels.
    #[module(skip)]
    pub dims: usize,
    /// Added to the variance; 1e-5.
    #[module(skip)]
    pub eps: f32,
    /// Whether a group is channels that follow one another, as in PyTorch and published checkpoints,
    /// rather than every `groups`-th channel; false.
    #[module(skip)]
    pub pytorch_compatible: bool,
}

impl GroupNorm {
    /// A norm of `dims` channels in `groups` groups, with scale 1 and shift 0.
    ///
    /// # Errors
    /// If the channels do not divide into groups.
    pub fn new(groups: usize, dims: usize) -> Result<GroupNorm> {
        if groups == 0 || !dims.is_multiple_of(groups) {
            let why = format!("{dims} channels do not divide into {groups} groups");
            return Err(Error::new(ErrorKind::Value, "GroupNorm", why));
        }
        let (weight, bias) = affine(dims);
        Ok(GroupNorm { weight, bias, groups, dims, eps: 1e-5, pytorch_compatible: false })
    }

    /// `x (n, …, c)` → same shape and dtype; computed in f32 (f64 for f64).
    #[track_caller]
    pub fn forward(&self, x: &Array) -> Array {
        attempt(|| {
            check_channels("GroupNorm", x, self.dims, 2)?;
            let shape = x.shape()?.to_vec();
            let (n, per_group) = (shape[0], self.dims / self.groups.max(1));
            let places: usize = shape[1..shape.len() - 1].iter().product();
            let (x, dtype) = wide("GroupNorm", x)?;
            // (n, places, c) as (n, places, groups, c / groups) or (n, places, c / groups, groups)
            let (split, axes) = if self.pytorch_compatible {
                ([n, places, self.groups, per_group], [1, 3])
            } else {
                ([n, places, per_group, self.groups], [1, 2])
            };
            let grouped = x.reshape(split);
            let (mean, var) = (grouped.mean_keepdims(axes), grouped.var_keepdims(axes, 0));
            let y = normalised(&grouped, [&mean, &var], self.eps, [&None, &None], x.dtype()?);
            let mut y = y.reshape(&shape);
            if let Some(weight) = &self.weight {
                y *= weight;
            }
            if let Some(bias) = &self.bias {
                y += bias;
            }
            Ok(y.astype(dtype))
        })
    }
}

/// Normalisation of each channel over batch and spatial axes. Source: Ioffe and Szegedy, 2015.
///
/// In training, statistics are those of the batch, and [`Layer::forward_mut`] moves the running ones
/// toward them; in inference they are the running ones, if they are kept.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::{Layer, Module, layers::BatchNorm};
/// let mut norm = BatchNorm::new(1);
/// let x = Array::from_slice(&[1.0f32, 3.0], [2, 1]);
/// let y = norm.forward_mut(&x);
/// assert!((y.to_vec::<f32>()?[1] - 1.0).abs() < 1e-4);
/// assert_eq!(norm.running_mean.as_ref().unwrap().to_vec::<f32>()?, [0.2]);
/// norm.train(false);
/// assert!((norm.forward(&x).to_vec::<f32>()?[0] - 0.8 / 1.1f32.sqrt()).abs() < 1e-4);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[derive(Clone, Debug, crate::Module)]
pub struct BatchNorm {
    /// Scale, `(c)`.
    pub weight: Option<Array>,
    /// Shift, `(c)`.
    pub bias: Option<Array>,
    /// Running mean, `(c)`; none if running statistics are not kept.
    pub running_mean: Option<Buffer>,
    /// Running variance, `(c)`, of the unbiased estimates.
    pub running_var: Option<Buffer>,
    /// Number of channels.
    #[module(skip)]
    pub dims: usize,
    /// Added to the variance; 1e-5.
    #[module(skip)]
    pub eps: f32,
    /// How far running statistics move toward those of a batch; 0.1.
    #[module(skip)]
    pub momentum: f32,
    /// Which statistics are used.
    pub training: Training,
}

impl BatchNorm {
    /// A norm of `dims` channels, with scale 1, shift 0, and running mean 0 and variance 1.
    pub fn new(dims: usize) -> BatchNorm {
        let (weight, bias) = affine(dims);
        BatchNorm {
            weight,
            bias,
            running_mean: Some(Buffer(zeros(dims, DType::F32))),
            running_var: Some(Buffer(ones(dims, DType::F32))),
            dims,
            eps: 1e-5,
            momentum: 0.1,
            training: Training(true),
        }
    }

    /// The norm of `x`, and mean and variance of the batch if they were used.
    fn run(&self, x: &Array) -> Result<(Array, Option<[Array; 2]>)> {
        check_channels("BatchNorm", x, self.dims, 2)?;
        let affine = [&self.weight, &self.bias];
        let axes: Vec<usize> = (0..x.ndim()? - 1).collect();
        let (x, dtype) = wide("BatchNorm", x)?;
        if let (false, Some(mean), Some(var)) =
            (self.training.0, &self.running_mean, &self.running_var)
        {
            return Ok((normalised(&x, [mean, var], self.eps, affine, dtype), None));
        }
        let (mean, var) = (x.mean(&axes), x.var(&axes, 0));
        let y = normalised(&x, [&mean, &var], self.eps, affine, dtype);
        Ok((y, Some([mean, var])))
    }
}

impl Layer for BatchNorm {
    /// `x (n, …, c)` → same shape and dtype; computed in f32 (f64 for f64).
    #[track_caller]
    fn forward(&self, x: &Array) -> Array {
        attempt(|| Ok(self.run(x)?.0))
    }

    #[track_caller]
    fn forward_mut(&mut self, x: &Array) -> Array {
        attempt(|| {
            let (y, statistics) = self.run(x)?;
            if let (true, Some([mean, var]), Some(running_mean), Some(running_var)) =
                (self.training.0, statistics, &mut self.running_mean, &mut self.running_var)
            {
                let count = x.size()? / self.dims.max(1);
                let unbiased = var * (count as f64 / (count as f64 - 1.0).max(1.0));
                let momentum = self.momentum;
                let moved = |old: &Array, new: &Array| -> Result<Array> {
                    let new = new.stop_gradient();
                    Ok((old * (1.0 - momentum) + new * momentum).astype(old.dtype()?))
                };
                running_mean.0 = moved(running_mean, &mean)?;
                running_var.0 = moved(running_var, &unbiased)?;
            }
            Ok(y)
        })
    }
}
