// Matrix products without a library: tiles for every dtype, and rows times a matrix that is stored
// transposed, at the speed of memory.
//
// T is the storage type.

#ifdef ENTRY_tiled
// What sums are kept in: integers wrap.
template <class X> struct Sum { typedef u32 type; };
template <> struct Sum<u64> { typedef u64 type; };
template <> struct Sum<i64> { typedef u64 type; };
template <> struct Sum<float> { typedef float type; };
template <> struct Sum<f16> { typedef float type; };
template <> struct Sum<bf16> { typedef float type; };
template <> struct Sum<double> { typedef double type; };
template <> struct Sum<c64> { typedef c64 type; };
typedef typename Sum<T>::type S;

template <class A> DEVICE A zero() { return A(0); }
template <> DEVICE c64 zero<c64>() { c64 z = {0.0f, 0.0f}; return z; }
DEVICE float mac(float a, float b, float c) { return fmaf(a, b, c); }
DEVICE double mac(double a, double b, double c) { return fma(a, b, c); }
DEVICE u32 mac(u32 a, u32 b, u32 c) { return a * b + c; }
DEVICE u64 mac(u64 a, u64 b, u64 c) { return a * b + c; }
DEVICE c64 mac(c64 a, c64 b, c64 c) {
    c.re = fmaf(a.re, b.re, fmaf(-a.im, b.im, c.re));
    c.im = fmaf(a.re, b.im, fmaf(a.im, b.re, c.im));
    return c;
}
template <class X> DEVICE S load(X x) { return S(widen(x)); }
template <> DEVICE S load(c64 x) { return convert<S>(x); }
template <class X> DEVICE X store(S s) { return narrow<X>(Wide<X>(s)); }

#define SIDE 64
#define DEPTH 16

// (m, k) times (k, n) a batch, of any strides; the result is row-major. 256 threads, 4x4 each.
KERNEL __launch_bounds__(256) tiled(T *out, const T *a, const T *b, u32 m, u32 n, u32 k, u32 across,
                                    u32 tiles, i64 a_row, i64 a_k, i64 b_k, i64 b_column, i64 out_row,
                                    i64 out_batch,
                                    const Walk<2, RANK> batch) {
    BEGIN;
    __shared__ S x[DEPTH][SIDE + 1], y[DEPTH][SIDE + 1];
    u32 which = blockIdx.x / tiles, tile = blockIdx.x - which * tiles;
    u32 row0 = tile / across * SIDE, column0 = tile % across * SIDE;
    i64 at[2];
    batch.at(which, at);
    a += at[0];
    b += at[1];
    S sum[4][4];
    for (int i = 0; i < 4; ++i)
        for (int j = 0; j < 4; ++j) sum[i][j] = zero<S>();
    u32 ty = threadIdx.x / 16, tx = threadIdx.x % 16;
    for (u32 k0 = 0; k0 < k; k0 += DEPTH) {
        for (u32 i = threadIdx.x; i < SIDE * DEPTH; i += 256) {
            u32 r = i / DEPTH, d = i % DEPTH;
            x[d][r] = row0 + r < m && k0 + d < k ? load(a[i64(row0 + r) * a_row + i64(k0 + d) * a_k])
                                                 : zero<S>();
            u32 c = i % SIDE, e = i / SIDE;
            y[e][c] = column0 + c < n && k0 + e < k
                          ? load(b[i64(k0 + e) * b_k + i64(column0 + c) * b_column])
                          : zero<S>();
        }
        __syncthreads();
#pragma unroll
        for (int d = 0; d < DEPTH; ++d) {
            S p[4], q[4];
#pragma unroll
            for (int i = 0; i < 4; ++i) p[i] = x[d][ty + 16 * i];
#pragma unroll
            for (int j = 0; j < 4; ++j) q[j] = y[d][tx + 16 * j];
#pragma unroll
            for (int i = 0; i < 4; ++i)
#pragma unroll
                for (int j = 0; j < 4; ++j) sum[i][j] = mac(p[i], q[j], sum[i][j]);
        }
        __syncthreads();
    }
    out += i64(which) * out_batch;
#pragma unroll
    for (int i = 0; i < 4; ++i)
#pragma unroll
        for (int j = 0; j < 4; ++j) {
            u32 r = row0 + ty + 16 * i, c = column0 + tx + 16 * j;
            if (r < m && c < n) out[i64(r) * out_row + c] = store<T>(sum[i][j]);
        }
}
#endif

#ifdef ENTRY_gemv
// x (ROWS, k) times a matrix stored (n, k), a warp a column. VEC neighbours together.
KERNEL __launch_bounds__(128) gemv(T *out, const T *x, const T *w, u32 n, u32 k, i64 x_row, i64 w_row,
                                   i64 out_row) {
    BEGIN;
    u32 column = blockIdx.x * 4 + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (column >= n) return;
    const T *row = w + i64(column) * w_row;
    Wide<T> sum[ROWS];
#pragma unroll
    for (int r = 0; r < ROWS; ++r) sum[r] = 0;
    const int UNROLL = 4;
    u32 at = lane * VEC;
    for (; at + (UNROLL - 1) * 32 * VEC < k; at += UNROLL * 32 * VEC) {
        Vec<T, VEC> e[UNROLL];
#pragma unroll
        for (int u = 0; u < UNROLL; ++u) e[u] = *(const Vec<T, VEC> *)(row + at + u * 32 * VEC);
#pragma unroll
        for (int u = 0; u < UNROLL; ++u)
#pragma unroll
            for (int r = 0; r < ROWS; ++r) {
                Vec<T, VEC> y = *(const Vec<T, VEC> *)(x + i64(r) * x_row + at + u * 32 * VEC);
#pragma unroll
                for (int j = 0; j < VEC; ++j) sum[r] = fma(widen(e[u].v[j]), widen(y.v[j]), sum[r]);
            }
    }
    for (; at < k; at += 32 * VEC) {
        Vec<T, VEC> e = *(const Vec<T, VEC> *)(row + at);
#pragma unroll
        for (int r = 0; r < ROWS; ++r) {
            Vec<T, VEC> y = *(const Vec<T, VEC> *)(x + i64(r) * x_row + at);
#pragma unroll
            for (int j = 0; j < VEC; ++j) sum[r] = fma(widen(e.v[j]), widen(y.v[j]), sum[r]);
        }
    }
#pragma unroll
    for (int r = 0; r < ROWS; ++r) {
#pragma unroll
        for (int mask = 16; mask > 0; mask /= 2) sum[r] += shuffle_xor(sum[r], mask);
        if (lane == 0) out[i64(r) * out_row + column] = narrow<T>(sum[r]);
    }
}
#endif
