// Softmax, logsumexp, RMS and layer normalisation of rows.
//
// T is the storage type, R = Wide<T> what is computed in. A row is read once into the registers of
// THREADS threads, VEC elements at a time and COUNT times; what follows needs no memory. Longer rows, and
// few rows, are read two or three times.

typedef Wide<T> R;

#define INF Limit<R>::highest()

#if PRECISE
DEVICE float exponential(float x) { return expf(x); }
#else
DEVICE float exponential(float x) { return __expf(x); }
#endif
DEVICE double exponential(double x) { return exp(x); }
DEVICE float root(float x) { return sqrtf(x); }
DEVICE double root(double x) { return sqrt(x); }
DEVICE float logarithm(float x) { return logf(x); }
DEVICE double logarithm(double x) { return log(x); }
DEVICE R larger(R a, R b) { return b > a ? b : a; }

#define WARPS (THREADS / 32)
// Rows that a block has at once.
#if THREADS == 32
#define ROWS 4
#else
#define ROWS 1
#endif
#define BLOCK (THREADS * ROWS)

template <bool MAXIMUM> DEVICE R combine(R a, R b) { return MAXIMUM ? larger(a, b) : a + b; }

// The sum or maximum over the threads of a row.
template <bool MAXIMUM> DEVICE R over_row(R x) {
#pragma unroll
    for (int mask = 16; mask > 0; mask /= 2) x = combine<MAXIMUM>(x, shuffle_xor(x, mask));
#if THREADS > 32
    __shared__ R parts[32];
    __syncthreads();
    if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = x;
    __syncthreads();
    x = parts[0];
#pragma unroll
    for (int w = 1; w < WARPS; ++w) x = combine<MAXIMUM>(x, parts[w]);
#endif
    return x;
}

DEVICE i64 this_row() { return i64(blockIdx.x) * ROWS + threadIdx.x / THREADS; }

// A row in registers; positions beyond its end hold `fill`.
struct Row {
    R v[COUNT][VEC];

    DEVICE void read(const T *x, u32 n, R fill) {
        Vec<T, VEC> e[COUNT];
#pragma unroll
        for (int c = 0; c < COUNT; ++c) {
            u32 at = (c * THREADS + threadIdx.x % THREADS) * VEC;
            if (at < n) e[c] = *(const Vec<T, VEC> *)(x + at);
        }
#pragma unroll
        for (int c = 0; c < COUNT; ++c) {
            u32 at = (c * THREADS + threadIdx.x % THREADS) * VEC;
#pragma unroll
            for (int j = 0; j < VEC; ++j) v[c][j] = at < n ? widen(e[c].v[j]) : fill;
        }
    }
    DEVICE void write(T *y, u32 n) {
#pragma unroll
        for (int c = 0; c < COUNT; ++c) {
            u32 at = (c * THREADS + threadIdx.x % THREADS) * VEC;
            Vec<T, VEC> e;
#pragma unroll
            for (int j = 0; j < VEC; ++j) e.v[j] = narrow<T>(v[c][j]);
            if (at < n) *(Vec<T, VEC> *)(y + at) = e;
        }
    }
};

#define EACH                                  \
    _Pragma("unroll") for (int c = 0; c < COUNT; ++c) \
    _Pragma("unroll") for (int j = 0; j < VEC; ++j)

#ifdef ENTRY_softmax
KERNEL __launch_bounds__(BLOCK) softmax(const T *in, T *out, u32 rows, u32 n, i64 stride) {
    BEGIN;
    i64 r = this_row();
    if (r >= rows) return;
    Row x;
    x.read(in + r * stride, n, -INF);
    R top = -INF;
    EACH top = larger(top, x.v[c][j]);
    top = over_row<true>(top);
    R sum = 0;
    EACH {
        // Beyond the end there is -inf, which only in a row of nothing else gives no zero.
        u32 at = (c * THREADS + threadIdx.x % THREADS) * VEC;
        R e = exponential(x.v[c][j] - top);
        x.v[c][j] = e;
        sum += at < n ? e : R(0);
    }
    R factor = R(1) / over_row<false>(sum);
    EACH x.v[c][j] *= factor;
    x.write(out + r * i64(n), n);
}
#endif

#ifdef ENTRY_logsumexp
KERNEL __launch_bounds__(BLOCK) logsumexp(const T *in, T *out, u32 rows, u32 n, i64 stride) {
    BEGIN;
    i64 r = this_row();
    if (r >= rows) return;
    Row x;
    x.read(in + r * stride, n, -INF);
    R top = -INF;
    EACH top = larger(top, x.v[c][j]);
    top = over_row<true>(top);
    R shift = top == INF || top == -INF ? R(0) : top;
    R sum = 0;
    EACH {
        u32 at = (c * THREADS + threadIdx.x % THREADS) * VEC;
        sum += at < n ? exponential(x.v[c][j] - shift) : R(0);
    }
    sum = over_row<false>(sum);
    if (threadIdx.x % THREADS == 0) out[r] = narrow<T>(shift + logarithm(sum));
}
#endif

#ifdef ENTRY_normalize
// CENTRED: layer normalisation. WEIGHT and BIAS: whether those are given, W and B their types.
KERNEL __launch_bounds__(BLOCK) normalize(const T *in, T *out, const W *weight, const B *bias, u32 rows,
                                     u32 n, i64 stride, R eps) {
    BEGIN;
    i64 r = this_row();
    if (r >= rows) return;
    Row x;
    x.read(in + r * stride, n, R(0));
    R mean = 0;
#if CENTRED
    R sum = 0;
    EACH sum += x.v[c][j];
    mean = over_row<false>(sum) / R(n);
#endif
    R square = 0;
    EACH {
        u32 at = (c * THREADS + threadIdx.x % THREADS) * VEC;
        R d = x.v[c][j] - mean;
        x.v[c][j] = d;
        square += at < n ? d * d : R(0);
    }
    R factor = R(1) / root(over_row<false>(square) / R(n) + eps);
#pragma unroll
    for (int c = 0; c < COUNT; ++c) {
        u32 at = (c * THREADS + threadIdx.x % THREADS) * VEC;
        if (at >= n) continue;
        Vec<W, VEC> w;
        Vec<B, VEC> b;
        if (WEIGHT) w = *(const Vec<W, VEC> *)(weight + at);
        if (BIAS) b = *(const Vec<B, VEC> *)(bias + at);
#pragma unroll
        for (int j = 0; j < VEC; ++j) {
            R y = x.v[c][j] * factor;
            if (WEIGHT) y *= convert<R>(widen(w.v[j]));
            if (BIAS) y += convert<R>(widen(b.v[j]));
            x.v[c][j] = y;
        }
    }
    x.write(out + r * i64(n), n);
}
#endif

// ---- rows longer than a block's registers, or too few to keep a device busy ----

// Softmax and logsumexp: a block a piece of PIECE elements. First the largest element of each piece and
// the sum relative to it, then these are joined, in every block that needs them.
#define PIECE (THREADS * COUNT * VEC)

#ifdef ENTRY_pieces
KERNEL __launch_bounds__(BLOCK) pieces(const T *in, R *stats, u32 splits, u64 n, i64 stride) {
    BEGIN;
    u64 start = u64(blockIdx.x) * PIECE;
    u32 count = u32(n - start < PIECE ? n - start : PIECE);
    Row x;
    x.read(in + i64(blockIdx.y) * stride + start, count, -INF);
    R top = -INF;
    EACH top = larger(top, x.v[c][j]);
    top = over_row<true>(top);
    R shift = top == INF || top == -INF ? R(0) : top;
    R sum = 0;
    EACH {
        u32 at = (c * THREADS + threadIdx.x) * VEC;
        sum += at < count ? exponential(x.v[c][j] - shift) : R(0);
    }
    sum = over_row<false>(sum);
    if (threadIdx.x == 0) {
        stats[(u64(blockIdx.y) * splits + blockIdx.x) * 2] = top;
        stats[(u64(blockIdx.y) * splits + blockIdx.x) * 2 + 1] = sum;
    }
}
#endif

// The largest element of a row, and the sum relative to it (to 0 if that is infinite).
DEVICE void joined(const R *stats, u32 splits, R &top, R &sum) {
    R t = -INF;
    for (u32 s = threadIdx.x; s < splits; s += THREADS) t = larger(t, stats[2 * s]);
    top = over_row<true>(t);
    R shift = top == INF || top == -INF ? R(0) : top, all = 0;
    for (u32 s = threadIdx.x; s < splits; s += THREADS) {
        R own = stats[2 * s], from = own == INF || own == -INF ? R(0) : own;
        // A piece of nothing but -inf adds nothing; one with +inf has an infinite sum.
        all += own == -INF && stats[2 * s + 1] == R(0) ? R(0) : stats[2 * s + 1] * exponential(from - shift);
    }
    sum = over_row<false>(all);
}

#ifdef ENTRY_joined_softmax
KERNEL __launch_bounds__(BLOCK) joined_softmax(const T *in, T *out, const R *stats, u32 splits, u64 n,
                                               i64 stride) {
    BEGIN;
    R top, sum;
    joined(stats + u64(blockIdx.y) * splits * 2, splits, top, sum);
    u64 start = u64(blockIdx.x) * PIECE;
    u32 count = u32(n - start < PIECE ? n - start : PIECE);
    Row x;
    x.read(in + i64(blockIdx.y) * stride + start, count, -INF);
    // Rows with +inf, and of nothing but -inf, have no softmax.
    R factor = top == INF || top == -INF ? R(NAN64) : R(1) / sum;
    EACH x.v[c][j] = exponential(x.v[c][j] - top) * factor;
    x.write(out + u64(blockIdx.y) * n + start, count);
}
#endif

#ifdef ENTRY_joined_logsumexp
KERNEL __launch_bounds__(BLOCK) joined_logsumexp(T *out, const R *stats, u32 splits) {
    BEGIN;
    R top, sum;
    joined(stats + u64(blockIdx.x) * splits * 2, splits, top, sum);
    R shift = top == INF || top == -INF ? R(0) : top;
    if (threadIdx.x == 0) out[blockIdx.x] = narrow<T>(shift + logarithm(sum));
}
#endif

#define STEPS(i, n) for (u64 i = threadIdx.x; i < n; i += THREADS)

#ifdef ENTRY_long_normalize
KERNEL __launch_bounds__(THREADS) long_normalize(const T *in, T *out, const W *weight, const B *bias, u64 n,
                                            i64 stride, R eps) {
    BEGIN;
    const T *x = in + i64(blockIdx.x) * stride;
    T *y = out + i64(blockIdx.x) * i64(n);
    R mean = 0;
#if CENTRED
    R sum = 0;
    STEPS(i, n) sum += widen(x[i]);
    mean = over_row<false>(sum) / R(n);
#endif
    R square = 0;
    STEPS(i, n) {
        R d = widen(x[i]) - mean;
        square += d * d;
    }
    R factor = R(1) / root(over_row<false>(square) / R(n) + eps);
    STEPS(i, n) {
        R v = (widen(x[i]) - mean) * factor;
        if (WEIGHT) v *= convert<R>(widen(weight[i]));
        if (BIAS) v += convert<R>(widen(bias[i]));
        y[i] = narrow<T>(v);
    }
}
#endif
