//! How quick convolutions are, beside the matrix products of the same size.
//!
//!     cargo run --release -p lazul-cpu --example conv_speed [filter]
//!
//! Each row has the rate of a convolution, and that of the product `(c_out, k) · (k, windows)` that it
//! amounts to with windows already laid out in memory: the share says what finding them costs.
//! Transposed convolutions and gradients count only the products that are not with zeros between
//! dilated elements. `LAZUL_NUM_THREADS` and `LAZUL_ISA` apply. Figures are the best of several runs.

mod measure;

use lazul_cpu::pool;
use lazul_ir::{ConvAxis, ConvOp, DType, Prim};
use measure::{Tensor, best, run};

/// `(n, size, size, c_in)` by `(c_out, kernel, kernel, c_in / groups)`.
struct Case {
    name: &'static str,
    n: usize,
    size: usize,
    c_in: usize,
    c_out: usize,
    kernel: usize,
    stride: usize,
    dilation: usize,
    groups: usize,
}

impl Case {
    fn axis(&self) -> ConvAxis {
        let pad = (self.kernel / 2) as isize;
        // As the transposed convolution that makes an image `dilation` times as large.
        let low = if self.dilation > 1 { self.kernel as isize - 1 - pad } else { pad };
        let high = if self.dilation > 1 { low + self.dilation as isize - 1 } else { pad };
        ConvAxis {
            stride: self.stride,
            padding: (low, high),
            kernel_dilation: 1,
            input_dilation: self.dilation,
        }
    }

    fn measure(&self, dtype: DType) {
        let Case { n, size, c_in, c_out, kernel, groups, .. } = *self;
        let axis = self.axis();
        let Some(out) = axis.output(size, kernel) else { return };
        let op = ConvOp { axes: [axis; 2].into(), groups, flip: self.dilation > 1 };
        let prim = Prim::Conv(Box::new(op));
        let x = Tensor::new(dtype, &[n, size, size, c_in]);
        let w = Tensor::new(dtype, &[c_out, kernel, kernel, c_in / groups]);
        let mut y = Tensor::new(dtype, &[n, out, out, c_out]);
        let conv = best(|_| run(&prim, &[&x, &w], &mut y));

        let taps = kernel * kernel / (self.dilation * self.dilation).min(kernel * kernel);
        let (m, k, windows) = (c_out / groups, taps.max(1) * c_in / groups, n * out * out);
        let flops = 2.0 * (m * k * windows * groups) as f64;
        let a = Tensor::new(dtype, &[groups, windows, k]);
        let b = Tensor::new(dtype, &[groups, m, k]).transposed();
        let mut c = Tensor::new(dtype, &[groups, windows, m]);
        let gemm = best(|_| run(&Prim::Matmul, &[&a, &b], &mut c));
        println!(
            "{:<34} {dtype:>9} {:>9.3} ms {:>8.1} GFLOP/s, product {:>8.1}, share {:>5.2}",
            self.name,
            conv * 1e3,
            flops / conv / 1e9,
            flops / gemm / 1e9,
            gemm / conv,
        );
    }
}

fn main() {
    let filter = std::env::args().nth(1).unwrap_or_default();
    println!("{} threads, {:?}", pool::threads(), lazul_cpu::isa::isa());
    let case = |name, [n, size, c_in, c_out, kernel, stride, dilation, groups]: [usize; 8]| {
        let case = Case { name, n, size, c_in, c_out, kernel, stride, dilation, groups };
        for dtype in [DType::F32, DType::BF16, DType::F16, DType::F64] {
            if format!("{name} {dtype}").contains(&filter) {
                case.measure(dtype);
            }
        }
    };
    case("8x56x56x64 to 64, 3x3", [8, 56, 64, 64, 3, 1, 1, 1]);
    case("1x224x224x3 to 64, 7x7 stride 2", [1, 224, 3, 64, 7, 2, 1, 1]);
    case("1x128x128x4 to 320, 3x3", [1, 128, 4, 320, 3, 1, 1, 1]);
    case("1x64x64x128 to 128, 1x1", [1, 64, 128, 128, 1, 1, 1, 1]);
    case("1x32x32x256 to 512, 3x3 stride 2", [1, 32, 256, 512, 3, 2, 1, 1]);
    case("1x7x7x512 to 512, 3x3", [1, 7, 512, 512, 3, 1, 1, 1]);
    case("1x128x128x64 to 3, 3x3", [1, 128, 64, 3, 3, 1, 1, 1]);
    case("1x32x32x128 to 64, 4x4 up 2", [1, 32, 128, 64, 4, 1, 2, 1]);
    case("1x56x56x128, 32 groups, 3x3", [1, 56, 128, 128, 3, 1, 1, 32]);
    case("1x112x112x64 depthwise 3x3", [1, 112, 64, 64, 3, 1, 1, 64]);
    case("1x56x56x192 depthwise 7x7", [1, 56, 192, 192, 7, 1, 1, 192]);
    case("1x512x512x3 depthwise 5x5", [1, 512, 3, 3, 5, 1, 1, 3]);
    case("1x512x512x1 to 1, 5x5", [1, 512, 1, 1, 5, 1, 1, 1]);
}
