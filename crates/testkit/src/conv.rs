//! The convolutions of golden files.

use crate::golden::Case;
use lazul_core::{
    Array, Conv, ConvTranspose, PerAxis, conv_transpose1d, conv_transpose2d, conv_transpose3d,
    conv1d, conv2d, conv3d,
};

/// The convolution called `op`, with options named as in MLX and PyTorch; `None` for other operations.
pub fn convolution(op: &str, x: &Array, w: &Array, attrs: &Case) -> Option<Array> {
    let per_axis = |key: &str, otherwise: i64| match attrs.ints(key) {
        all if all.is_empty() => PerAxis::from(otherwise),
        all => all.into(),
    };
    let groups = attrs.get("groups").as_u64().unwrap_or(1) as usize;
    let (stride, padding) = (per_axis("stride", 1), per_axis("padding", 0));
    let dilation = per_axis("dilation", 1);
    let f = match op {
        "conv1d" => conv1d,
        "conv2d" => conv2d,
        "conv3d" => conv3d,
        _ => {
            let f = match op {
                "conv_transpose1d" => conv_transpose1d,
                "conv_transpose2d" => conv_transpose2d,
                "conv_transpose3d" => conv_transpose3d,
                _ => return None,
            };
            let output_padding = per_axis("output_padding", 0);
            return Some(f(
                x,
                w,
                ConvTranspose { stride, padding, dilation, output_padding, groups },
            ));
        }
    };
    Some(f(x, w, Conv { stride, padding, dilation, groups }))
}
