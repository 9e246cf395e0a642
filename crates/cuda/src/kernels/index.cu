// Reading and writing at computed positions. Every index is checked before it is used: one out of
// bounds is reported and nothing is read or written there.

// The indices of up to NAXES axes: where they lie, of which dtype, and what they index.
struct Indices {
    const void *ptr[NAXES];
    i64 step[NAXES]; // of the indexed axis, in units of what moves
    u64 size[NAXES];
    Walk<NAXES, TUPLES> walk;
    u32 type[NAXES], axis[NAXES];
};

// The position that an index names on an axis of `size`.
DEVICE bool resolve(i64 index, u64 size, i64 &at) {
    at = index < 0 ? i64(u64(index) + size) : index;
    return u64(at) < size;
}

// Where tuple `t` points to.
DEVICE bool position(const Indices &x, u32 t, Fault *fault, u32 op, i64 &at) {
    i64 places[NAXES];
    x.walk.at(t, places);
    at = 0;
#pragma unroll
    for (int a = 0; a < NAXES; ++a) {
        i64 index = read_int(x.ptr[a], places[a], x.type[a]), p;
        if (!resolve(index, x.size[a], p)) {
            report(fault, op, index, x.axis[a], 0, x.size[a]);
            return false;
        }
        at += p * x.step[a];
    }
    return true;
}

#ifdef ENTRY_gather
// Element `i` of the output is element `i % slice` of the slice that tuple `i / slice` points to.
KERNEL __launch_bounds__(256) gather(UNIT *out, const UNIT *src, u64 first, u64 total, u64 slice,
                                     const Walk<1, SLICE> inner, const Indices x, Fault *fault, u32 op) {
    BEGIN;
    u64 i = first + u64(blockIdx.x) * 256 + threadIdx.x;
    if (i >= total) return;
    u64 t = slice == 1 ? i : i / slice;
    i64 at, in[1];
    if (!position(x, u32(t), fault, op, at)) return;
    inner.at(u32(i - t * slice), in);
    out[i] = src[at + in[0]];
}
#endif

#ifdef ENTRY_gather_axis
// Walks the index's shape: strides of the source (0 along the indexed axis) and of the index.
KERNEL __launch_bounds__(256) gather_axis(UNIT *out, const UNIT *src, const void *index, int type,
                                          u32 total, i64 step, u64 size, u32 axis,
                                          const Walk<2, RANK> walk, Fault *fault, u32 op) {
    BEGIN;
    u32 i = blockIdx.x * 256u + threadIdx.x;
    if (i >= total) return;
    i64 at[2], p;
    walk.at(i, at);
    i64 value = read_int(index, at[1], type);
    if (!resolve(value, size, p)) {
        report(fault, op, value, axis, 0, size);
        return;
    }
    out[i] = src[at[0] + p * step];
}
#endif

// ---- scatter: tuples that share a destination are applied in their order, by one thread an element --

#ifdef ENTRY_positions
// Keys of tuples: where they point to, in elements of the output. A bad one sorts last, and is skipped.
KERNEL __launch_bounds__(256) positions(u64 *keys, u32 count, const Indices x, Fault *fault, u32 op) {
    BEGIN;
    u32 t = blockIdx.x * 256u + threadIdx.x;
    if (t >= count) return;
    i64 at;
    keys[t] = position(x, t, fault, op, at) ? u64(at) : ~0ull;
}
#endif

#ifdef ENTRY_axis_positions
// The same for one index along an axis: strides of the output (0 along the axis) and of the index.
KERNEL __launch_bounds__(256) axis_positions(u64 *keys, const void *index, int type, u32 count, i64 step,
                                             u64 size, u32 axis, const Walk<2, RANK> walk, Fault *fault,
                                             u32 op) {
    BEGIN;
    u32 i = blockIdx.x * 256u + threadIdx.x;
    if (i >= count) return;
    i64 at[2], p;
    walk.at(i, at);
    i64 value = read_int(index, at[1], type);
    bool good = resolve(value, size, p);
    if (!good) report(fault, op, value, axis, 0, size);
    keys[i] = good ? u64(at[0] + p * step) : ~0ull;
}
#endif

#define OP_ASSIGN 0
#define OP_ADD 1
#define OP_MULTIPLY 2
#define OP_MIN 3
#define OP_MAX 4

#ifdef ENTRY_apply
typedef Wide<T> W;

template <class X> DEVICE X plus(X a, X b) { return X(Unsigned<X>(a) + Unsigned<X>(b)); }
DEVICE float plus(float a, float b) { return a + b; }
DEVICE double plus(double a, double b) { return a + b; }
DEVICE c64 plus(c64 a, c64 b) { c64 c = {a.re + b.re, a.im + b.im}; return c; }
template <class X> DEVICE X times(X a, X b) { return X(u64(a) * u64(b)); }
DEVICE float times(float a, float b) { return a * b; }
DEVICE double times(double a, double b) { return a * b; }
DEVICE c64 times(c64 a, c64 b) {
    c64 c = {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
    return c;
}
template <class X> DEVICE bool less(X a, X b) { return a < b; }
DEVICE bool less(c64 a, c64 b) { return a.re < b.re || (a.re == b.re && a.im < b.im); }

DEVICE W update(W a, W b) {
#if TRUTH
    return OP == OP_ADD || OP == OP_MAX ? a | b : a & b;
#elif OP == OP_ADD
    return plus(a, b);
#elif OP == OP_MULTIPLY
    return times(a, b);
#elif OP == OP_MIN
    return is_nan(b) || less(b, a) ? b : a;
#else
    return is_nan(b) || less(a, b) ? b : a;
#endif
}

// Slot `s` of the sorted tuples (if SORTED) and element `e` of a slice. The first slot of a group of
// equal keys applies the whole group.
KERNEL __launch_bounds__(256) apply(T *out, const T *updates, const u64 *keys, const u32 *order, u32 count,
                                    u64 first, u64 total, u64 slice, const Walk<2, SLICE> inner,
                                    const Walk<1, TUPLES> tuples) {
    BEGIN;
    u64 i = first + u64(blockIdx.x) * 256 + threadIdx.x;
    if (i >= total) return;
    u32 s = u32(slice == 1 ? i : i / slice);
    i64 in[2]; // in the output, in the updates
    inner.at(u32(i - s * slice), in);
#if SORTED
    u64 key = keys[order[s]];
#if OP == OP_ASSIGN
    // The last of a group stays.
    if (key == ~0ull || (s + 1 < count && keys[order[s + 1]] == key)) return;
#else
    if (key == ~0ull || (s > 0 && keys[order[s - 1]] == key)) return;
#endif
#else
    u64 key = keys[s];
    if (key == ~0ull) return;
#endif
    T *to = out + i64(key) + in[0];
#if OP == OP_ASSIGN
    i64 at[1];
    tuples.at(SORTED ? order[s] : s, at);
    *to = updates[at[0] + in[1]];
#else
    W value = widen(*to);
    while (true) {
        i64 at[1];
        tuples.at(SORTED ? order[s] : s, at);
        value = update(value, widen(updates[at[0] + in[1]]));
        ++s;
        if (!SORTED || s >= count || keys[order[s]] != key) break;
    }
    *to = narrow<T>(value);
#endif
}
#endif

// ---- blocks whose start is data ----

#ifdef ENTRY_block
// Copies a block between `dst` and `src`, of which the one that SLICED says (0 the target, 1 the
// source) begins at the starts.
struct Starts {
    i64 step[NAXES]; // of the axis, in units
    u64 size[NAXES], block[NAXES];
    u32 axis[NAXES];
};

KERNEL __launch_bounds__(256) block(UNIT *dst, const UNIT *src, const void *starts, int type,
                                    i64 starts_step, u32 total, const Starts x, const Walk<2, RANK> walk,
                                    Fault *fault, u32 op) {
    BEGIN;
    u32 i = blockIdx.x * 256u + threadIdx.x;
    if (i >= total) return;
    i64 shift = 0;
#pragma unroll
    for (int a = 0; a < NAXES; ++a) {
        i64 start = read_int(starts, a * starts_step, type);
        if (start < 0 || u64(start) + x.block[a] > x.size[a]) {
            report(fault, op, start, x.axis[a], u32(x.block[a]), x.size[a]);
            return;
        }
        shift += start * x.step[a];
    }
    i64 at[2];
    walk.at(i, at);
    at[SLICED] += shift;
    dst[at[0]] = src[at[1]];
}
#endif
