// Stable merge sort of lines. Elements become unsigned keys of the same order (NaN the largest, -0 the
// key of +0, complex numbers lexicographic) with their position beside them. Tiles are sorted in shared
// memory as a bitonic network on (key, position), which are all distinct, so that the order is the
// stable one; then runs are merged, twice as long each time.
//
// T is the elements' type, K the keys' (u32 or u64), TILE the length of a tile.

template <class X> DEVICE K key_of(X x) {
    return K(Unsigned<X>(x)) ^ (X(-1) < X(0) ? K(1) << (sizeof(X) * 8 - 1) : K(0));
}
DEVICE u32 float_key(float x) {
    u32 b = __float_as_uint(x);
    b = b == 0x80000000u ? 0 : b;
    b = b & 0x80000000u ? ~b : b | 0x80000000u;
    return x != x ? 0xffffffffu : b;
}
DEVICE K key_of(float x) { return float_key(x); }
DEVICE K key_of(f16 x) { return float_key(widen(x)); }
DEVICE K key_of(bf16 x) { return float_key(widen(x)); }
DEVICE K key_of(double x) {
    u64 b = u64(__double_as_longlong(x));
    b = b == 1ull << 63 ? 0 : b;
    b = b >> 63 ? ~b : b | 1ull << 63;
    return K(x != x ? ~0ull : b);
}
DEVICE K key_of(c64 x) {
    return K(is_nan(x) ? ~0ull : u64(float_key(x.re)) << 32 | float_key(x.im));
}

// Where the lines of the operand and of the output begin, and the distance between their elements.
struct Lines {
    const T *in;
    void *out;
    i64 in_step, out_step;
    u32 n, lines;
};

DEVICE void put(const Lines &l, i64 from, i64 to, u32 place, u32 position) {
#if POSITIONS
    ((u32 *)l.out)[to + i64(place) * l.out_step] = position;
#else
    ((T *)l.out)[to + i64(place) * l.out_step] = l.in[from + i64(position) * l.in_step];
#endif
}

DEVICE bool before(K a, u32 i, K b, u32 j) { return a < b || (a == b && i < j); }

#ifdef ENTRY_tiles
// Sorts tiles of a line. If a tile holds the whole line the result goes to the output, otherwise keys
// and positions go to `keys` and `order`, (lines, n).
KERNEL __launch_bounds__(TILE / 2) tiles(const Lines l, K *keys, u32 *order, u32 per_line,
                                         const Walk<2, RANK> walk) {
    BEGIN;
    __shared__ K k[TILE];
    __shared__ u32 p[TILE];
    u32 line = blockIdx.x / per_line, first = blockIdx.x % per_line * TILE;
    i64 at[2]; // in the operand, in the output
    walk.at(line, at);
    u32 count = min(u32(TILE), l.n - first);
    for (u32 i = threadIdx.x; i < TILE; i += TILE / 2) {
        bool real = i < count;
        k[i] = real ? key_of(l.in[at[0] + i64(first + i) * l.in_step]) : ~K(0);
        p[i] = real ? first + i : 0xffffffffu; // padding goes last, after NaN
    }
    for (u32 size = 2; size <= TILE; size *= 2) {
        for (u32 step = size / 2; step > 0; step /= 2) {
            __syncthreads();
            u32 t = threadIdx.x;
            u32 i = 2 * t - (t & (step - 1)), j = i + step;
            bool up = (i & size) == 0;
            K a = k[i], b = k[j];
            u32 x = p[i], y = p[j];
            if (before(b, y, a, x) == up) {
                k[i] = b; k[j] = a;
                p[i] = y; p[j] = x;
            }
        }
    }
    __syncthreads();
    for (u32 i = threadIdx.x; i < count; i += TILE / 2) {
        if (per_line == 1) {
            put(l, at[0], at[1], i, p[i]);
        } else {
            u64 to = u64(line) * l.n + first + i;
            keys[to] = k[i];
            order[to] = p[i];
        }
    }
}
#endif

#define ITEMS 8
#define THREADS 256
#define CHUNK (ITEMS * THREADS)

// How many of the first `d` merged elements come from `a`; of equal ones those of `a` come first.
DEVICE u32 split(const K *a, u32 na, const K *b, u32 nb, u32 d) {
    u32 low = d > nb ? d - nb : 0, high = min(d, na);
    while (low < high) {
        u32 mid = (low + high) / 2;
        if (a[mid] <= b[d - 1 - mid]) low = mid + 1;
        else high = mid;
    }
    return low;
}

#ifdef ENTRY_merge
// Merges neighbouring runs of `run` elements; a block makes CHUNK elements of the result. In the last
// pass the result goes to the output.
KERNEL __launch_bounds__(THREADS) merge(const Lines l, const K *keys, const u32 *order, K *keys_out,
                                        u32 *order_out, u32 run, u32 per_line, u32 last,
                                        const Walk<2, RANK> walk) {
    BEGIN;
    __shared__ K k[CHUNK];
    __shared__ u32 p[CHUNK];
    u32 line = blockIdx.x / per_line, first = blockIdx.x % per_line * CHUNK;
    keys += u64(line) * l.n;
    order += u64(line) * l.n;
    // The pair of runs that this chunk lies in: a run is a multiple of a chunk.
    u32 pair = first / (2 * run) * (2 * run);
    u32 na = min(run, l.n - pair), nb = l.n - pair > run ? min(run, l.n - pair - run) : 0;
    const K *a = keys + pair, *b = a + na;
    u32 d0 = first - pair, d1 = min(d0 + CHUNK, na + nb);
    u32 a0 = split(a, na, b, nb, d0), a1 = split(a, na, b, nb, d1);
    u32 b0 = d0 - a0, b1 = d1 - a1, from_a = a1 - a0, count = d1 - d0;
    for (u32 i = threadIdx.x; i < count; i += THREADS) {
        u32 src = pair + (i < from_a ? a0 + i : na + b0 + (i - from_a));
        k[i] = keys[src];
        p[i] = order[src];
    }
    __syncthreads();
    u32 from_b = b1 - b0, d = min(threadIdx.x * ITEMS, count);
    u32 i = split(k, from_a, k + from_a, from_b, d), j = d - i;
    K out_k[ITEMS];
    u32 out_p[ITEMS];
#pragma unroll
    for (int s = 0; s < ITEMS; ++s) {
        bool left = i < from_a && (j >= from_b || k[i] <= k[from_a + j]);
        u32 at = left ? i : from_a + j;
        if (d + s < count) {
            out_k[s] = k[at];
            out_p[s] = p[at];
        }
        if (left) ++i;
        else ++j;
    }
    __syncthreads();
#pragma unroll
    for (int s = 0; s < ITEMS; ++s) {
        if (d + s < count) {
            k[d + s] = out_k[s];
            p[d + s] = out_p[s];
        }
    }
    __syncthreads();
    i64 at[2] = {0, 0};
    if (last) walk.at(line, at);
    for (u32 s = threadIdx.x; s < count; s += THREADS) {
        if (last) {
            put(l, at[0], at[1], first + s, p[s]);
        } else {
            keys_out[u64(line) * l.n + first + s] = k[s];
            order_out[u64(line) * l.n + first + s] = p[s];
        }
    }
}
#endif
