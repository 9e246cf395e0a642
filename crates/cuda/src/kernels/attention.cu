// Scaled dot-product attention that never holds a matrix of scores.
//
// Every path keeps, for each query row, the largest score so far, the sum of weights relative to it and
// the weighted sum of values. A masked key contributes nothing even where its value is NaN or infinite;
// a row that sees no key is zero.
//
// T is the storage type of q and the result, KT and VT those of keys and values, M the mask's (MASK 0:
// none, 1: bool, 2: added), S that of sinks (if SINKS).

typedef Wide<T> R;

#define INF Limit<R>::highest()

DEVICE float exponential(float x) { return expf(x); }
DEVICE double exponential(double x) { return exp(x); }
DEVICE R larger(R a, R b) { return b > a ? b : a; }

// (batch, head, row, feature), in elements.
struct Strides { i64 batch, head, row, feature; };

struct Problem {
    const T *q;
    const KT *k;
    const VT *v;
    const M *mask;
    const S *sinks;
    T *out;
    Strides sq, sk, sv, sm;
    i64 sink_step;
    double scale;
    u32 batches, heads, key_heads, queries, keys, depth, value_depth, causal, window, pad;
};

// The keys [start, end) that query `i` may see, masks aside.
DEVICE void visible(const Problem &p, u32 i, u32 &start, u32 &end) {
    start = 0;
    end = p.keys;
    if (p.causal) {
        i64 e = i64(i) + 1 + i64(p.keys) - i64(p.queries);
        end = e < 0 ? 0u : u32(e);
        start = p.window > 0 && end > p.window ? end - p.window : 0u;
    }
}

// What a mask makes of a score; -inf hides the key.
DEVICE R masked(const Problem &p, const M *mask, u32 j, R score) {
#if MASK == 1
    return mask[i64(j) * p.sm.feature] ? score : -INF;
#elif MASK == 2
    return score + convert<R>(widen(mask[i64(j) * p.sm.feature]));
#else
    return score;
#endif
}

// The final weight sum of a head, with its sink.
DEVICE void finish(const Problem &p, u32 head, R top, R sum, R &factor) {
#if SINKS
    // The sink takes part in the sum alone. Relative to the larger of it and the scores.
    R sink = convert<R>(widen(p.sinks[i64(head) * p.sink_step]));
    R most = larger(top, sink);
    R scale = top == -INF ? R(0) : exponential(top - most);
    R all = sum * scale + (sink == -INF ? R(0) : exponential(sink - most));
    factor = all == R(0) ? R(0) : scale / all;
#else
    factor = sum == R(0) ? R(0) : R(1) / sum;
#endif
}

#ifdef ENTRY_simple
// A warp a query row; 32 keys at a time, a lane a key for scores, and lanes over features for values.
// CHUNKS is how many features of a value a lane has. Any dtype, size and layout.
KERNEL __launch_bounds__(128) simple(const Problem p, u32 splits, u32 per_split, R *partial) {
    extern __shared__ char memory[];
    R *query = (R *)memory + (threadIdx.x / 32) * p.depth;
    u32 lane = threadIdx.x % 32;
    u64 row = u64(blockIdx.x) * 4 + threadIdx.x / 32;
    u32 split = blockIdx.y;
    u64 rows = u64(p.batches) * p.heads * p.queries;
    if (row >= rows) return;
    u32 i = u32(row % p.queries), h = u32(row / p.queries % p.heads), b = u32(row / p.queries / p.heads);
    u32 kh = h / (p.heads / p.key_heads);
    const T *q = p.q + i64(b) * p.sq.batch + i64(h) * p.sq.head + i64(i) * p.sq.row;
    const KT *k = p.k + i64(b) * p.sk.batch + i64(kh) * p.sk.head;
    const VT *v = p.v + i64(b) * p.sv.batch + i64(kh) * p.sv.head;
    const M *mask = p.mask + (i64(b) * p.sm.batch + i64(h) * p.sm.head + i64(i) * p.sm.row);
    for (u32 d = lane; d < p.depth; d += 32) query[d] = widen(q[i64(d) * p.sq.feature]);
    __syncwarp();

    u32 start, end;
    visible(p, i, start, end);
    u32 low = split * per_split, high = low + per_split;
    start = max(start, low);
    end = min(end, high);
    R top = -INF, sum = 0, acc[CHUNKS];
#pragma unroll
    for (int c = 0; c < CHUNKS; ++c) acc[c] = 0;
    for (u32 j0 = start; j0 < end; j0 += 32) {
        u32 j = j0 + lane;
        R score = -INF;
        if (j < end) {
            const KT *key = k + i64(j) * p.sk.row;
            R dot = 0;
            for (u32 d = 0; d < p.depth; ++d) {
                dot = fma(query[d], convert<R>(widen(key[i64(d) * p.sk.feature])), dot);
            }
            score = masked(p, mask, j, dot * R(p.scale));
        }
        R most = score;
        bool nan = score != score;
#pragma unroll
        for (int m = 16; m > 0; m /= 2) most = larger(most, shuffle_xor(most, m));
        if (__any_sync(0xffffffffu, nan)) most = R(NAN64);
        R next = most != most ? most : larger(top, most);
        if (top != top) next = top;
        R weight = score == -INF ? R(0) : exponential(score - next);
        R rescale = top == -INF ? R(0) : exponential(top - next);
        if (next == -INF) continue; // nothing seen yet
        R total = weight;
#pragma unroll
        for (int m = 16; m > 0; m /= 2) total += shuffle_xor(total, m);
        sum = sum * rescale + total;
        top = next;
#pragma unroll
        for (int c = 0; c < CHUNKS; ++c) acc[c] *= rescale;
        u32 count = min(32u, end - j0);
        for (u32 t = 0; t < count; ++t) {
            R w = __shfl_sync(0xffffffffu, weight, t);
            if (w == R(0)) continue;
            const VT *value = v + i64(j0 + t) * p.sv.row;
#pragma unroll
            for (int c = 0; c < CHUNKS; ++c) {
                u32 f = c * 32 + lane;
                if (f < p.value_depth) acc[c] = fma(w, convert<R>(widen(value[i64(f) * p.sv.feature])), acc[c]);
            }
        }
    }
    if (splits > 1) {
        R *to = partial + (u64(split) * rows + row) * (p.value_depth + 2);
        if (lane == 0) {
            to[0] = top;
            to[1] = sum;
        }
#pragma unroll
        for (int c = 0; c < CHUNKS; ++c) {
            u32 f = c * 32 + lane;
            if (f < p.value_depth) to[2 + f] = acc[c];
        }
        return;
    }
    R factor;
    finish(p, h, top, sum, factor);
#pragma unroll
    for (int c = 0; c < CHUNKS; ++c) {
        u32 f = c * 32 + lane;
        if (f < p.value_depth) p.out[row * p.value_depth + f] = narrow<T>(acc[c] * factor);
    }
}
#endif

#ifdef ENTRY_combine
// Joins the splits of each row, in order; a warp a row.
KERNEL __launch_bounds__(128) combine(const Problem p, u32 splits, const R *partial) {
    u32 lane = threadIdx.x % 32;
    u64 row = u64(blockIdx.x) * 4 + threadIdx.x / 32;
    u64 rows = u64(p.batches) * p.heads * p.queries;
    if (row >= rows) return;
    u32 h = u32(row / p.queries % p.heads);
    u64 width = p.value_depth + 2;
    const R *x = partial + row * width;
    R top = -INF;
    bool nan = false;
    for (u32 s = lane; s < splits; s += 32) {
        R t = x[u64(s) * rows * width];
        nan = nan || t != t;
        top = larger(top, t);
    }
#pragma unroll
    for (int m = 16; m > 0; m /= 2) top = larger(top, shuffle_xor(top, m));
    if (__any_sync(0xffffffffu, nan)) top = R(NAN64);
    R sum = 0, factor;
    for (u32 s = 0; s < splits; ++s) {
        R t = x[u64(s) * rows * width], w = t == -INF ? R(0) : exponential(t - top);
        sum += x[u64(s) * rows * width + 1] * w;
    }
    finish(p, h, top, sum, factor);
    for (u32 f = lane; f < p.value_depth; f += 32) {
        R acc = 0;
        for (u32 s = 0; s < splits; ++s) {
            R t = x[u64(s) * rows * width], w = t == -INF ? R(0) : exponential(t - top);
            if (w != R(0)) acc += x[u64(s) * rows * width + 2 + f] * w;
        }
        p.out[row * p.value_depth + f] = narrow<T>(acc * factor);
    }
}
#endif
