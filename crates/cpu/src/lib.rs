//! Lazul's CPU kernels: thread pool, SIMD dispatch, element-wise, reductions, matmul, quantized products, attention.
