// What every kernel of scaled dot-product attention knows: the problem, masks, and one row computed by
// one warp, which is the definition that the quick kernels fall back on.
//
// No path holds a matrix of scores. For each query row it keeps the largest score so far, the sum of
// weights relative to it and the weighted sum of values. A masked key contributes nothing even where
// its value is NaN or infinite; a row that sees no key is zero.
//
// T is the storage type of q and the result, KT and VT those of keys and values, M the mask's (MASK 0:
// none, 1: bool, 2: added), S that of sinks (if SINKS). With LENGTH, how many of the keys are in use is read from
// memory.

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
    const i32 *length;
    Fault *fault;
    Strides sq, sk, sv, sm;
    i64 sink_step;
    double scale;
    u32 batches, heads, key_heads, queries, keys, depth, value_depth, causal, window, op;
};

// The problem with the keys that are in use; a number that there is no room for is noted, and none is.
DEVICE Problem in_use(const Problem &whole) {
    Problem p = whole;
#if LENGTH
    i64 length = *whole.length;
    bool good = length >= 0 && length <= i64(whole.keys);
    if (!good) report(whole.fault, whole.op, length, 0, 0, whole.keys);
    p.keys = good ? u32(length) : 0u;
#endif
    return p;
}

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

DEVICE const M *mask_row(const Problem &p, u32 b, u32 h, u32 i) {
    return p.mask + (i64(b) * p.sm.batch + i64(h) * p.sm.head + i64(i) * p.sm.row);
}

// What a head's weighted sums are multiplied by, its sink considered.
DEVICE R finish(const Problem &p, u32 head, R top, R sum) {
#if SINKS
    // The sink takes part in the sum alone, relative to the larger of it and the scores.
    R sink = convert<R>(widen(p.sinks[i64(head) * p.sink_step]));
    R most = larger(top, sink);
    R scale = top == -INF ? R(0) : exponential(top - most);
    R all = sum * scale + (sink == -INF ? R(0) : exponential(sink - most));
    return all == R(0) ? R(0) : scale / all;
#else
    return sum == R(0) ? R(0) : R(1) / sum;
#endif
}

// One row by a warp: 32 keys at a time, a lane a key for scores, and lanes over features for values.
// FEATURES is how many of a value a lane has.
template <int FEATURES> struct Row {
    R top, sum, acc[FEATURES];

    // Keys [start, end) of query `i` of head `h`; `query(d)` is the query's feature `d`.
    template <class Query>
    DEVICE void walk(const Problem &p, u32 b, u32 h, u32 i, u32 start, u32 end, const Query &query) {
        u32 lane = threadIdx.x % 32, kh = h / (p.heads / p.key_heads);
        const KT *k = p.k + i64(b) * p.sk.batch + i64(kh) * p.sk.head;
        const VT *v = p.v + i64(b) * p.sv.batch + i64(kh) * p.sv.head;
        const M *mask = mask_row(p, b, h, i);
        top = -INF;
        sum = 0;
#pragma unroll
        for (int c = 0; c < FEATURES; ++c) acc[c] = 0;
        for (u32 j0 = start; j0 < end; j0 += 32) {
            u32 j = j0 + lane;
            R score = -INF;
            if (j < end) {
                const KT *key = k + i64(j) * p.sk.row;
                R dot = 0;
                for (u32 d = 0; d < p.depth; ++d) {
                    dot = fma(query(d), convert<R>(widen(key[i64(d) * p.sk.feature])), dot);
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
            if (next == -INF) continue; // nothing seen yet
            R weight = score == -INF ? R(0) : exponential(score - next);
            R rescale = top == -INF ? R(0) : exponential(top - next);
            R total = weight;
#pragma unroll
            for (int m = 16; m > 0; m /= 2) total += shuffle_xor(total, m);
            sum = sum * rescale + total;
            top = next;
#pragma unroll
            for (int c = 0; c < FEATURES; ++c) acc[c] *= rescale;
            u32 count = min(32u, end - j0);
            for (u32 t = 0; t < count; ++t) {
                R w = __shfl_sync(0xffffffffu, weight, t);
                if (w == R(0)) continue;
                const VT *value = v + i64(j0 + t) * p.sv.row;
#pragma unroll
                for (int c = 0; c < FEATURES; ++c) {
                    u32 f = c * 32 + lane;
                    if (f < p.value_depth) {
                        acc[c] = fma(w, convert<R>(widen(value[i64(f) * p.sv.feature])), acc[c]);
                    }
                }
            }
        }
    }

    // The finished row, or the partial one of a split: the largest score, the sum, the values.
    DEVICE void write(const Problem &p, u32 h, u64 row, R *partial) const {
        u32 lane = threadIdx.x % 32;
        R factor = partial ? R(1) : finish(p, h, top, sum);
        if (partial && lane == 0) {
            partial[0] = top;
            partial[1] = sum;
        }
#pragma unroll
        for (int c = 0; c < FEATURES; ++c) {
            u32 f = c * 32 + lane;
            if (f >= p.value_depth) continue;
            if (partial) partial[2 + f] = acc[c];
            else p.out[row * p.value_depth + f] = narrow<T>(acc[c] * factor);
        }
    }
};

// A query in memory.
struct Direct {
    const T *q;
    i64 step;
    DEVICE R operator()(u32 d) const { return widen(q[i64(d) * step]); }
};

DEVICE Direct query_of(const Problem &p, u32 b, u32 h, u32 i) {
    Direct d = {p.q + i64(b) * p.sq.batch + i64(h) * p.sq.head + i64(i) * p.sq.row, p.sq.feature};
    return d;
}
