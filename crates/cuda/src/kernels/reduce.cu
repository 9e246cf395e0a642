// Reductions, and positions of extrema. A thread folds a part of a sequence in fixed order, threads are
// joined as a tree, and long sequences of few outputs are cut into splits whose partial results a
// second pass joins: the order is a function of the shape alone.
//
// T is the operand's storage type and O the output's; FOLD the operation; TRUTH whether elements are
// taken as truth values. In a second pass (PARTIAL) elements are partial results.

#define FOLD_SUM 0
#define FOLD_PROD 1
#define FOLD_MIN 2
#define FOLD_MAX 3
#define FOLD_AND 4
#define FOLD_OR 5
#define FOLD_ARGMIN 6
#define FOLD_ARGMAX 7

typedef Wide<O> A;

template <class X> DEVICE A element(X x) {
#if TRUTH
    return A(truth(widen(x)));
#else
    return convert<A>(widen(x));
#endif
}

#if FOLD == FOLD_ARGMIN || FOLD == FOLD_ARGMAX
typedef Wide<T> V;
struct Acc { V value; u32 index; };

DEVICE bool better(V a, V b) {
#if FOLD == FOLD_ARGMIN
    return a < b || (is_nan(a) && !is_nan(b));
#else
    return a > b || (is_nan(a) && !is_nan(b));
#endif
}
DEVICE Acc neutral() { Acc a = {V(0), 0xffffffffu}; return a; }
// The better one; of equal ones the first.
DEVICE Acc join(Acc a, Acc b) {
    if (a.index == 0xffffffffu) return b;
    if (b.index == 0xffffffffu) return a;
    bool same = a.value == b.value || (is_nan(a.value) && is_nan(b.value));
    if (same) return a.index < b.index ? a : b;
    return better(b.value, a.value) ? b : a;
}
DEVICE Acc other(Acc a, int mask) {
    Acc b = {shuffle_xor(a.value, mask), shuffle_xor(a.index, mask)};
    return b;
}
DEVICE u32 finish(Acc a) { return a.index; }
template <class X> DEVICE Acc take(X x, u64 at) { Acc a = {widen(x), u32(at)}; return a; }
#else
typedef A Acc;

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
#if FOLD == FOLD_SUM
DEVICE Acc neutral() { return convert<A>(u8(0)); }
DEVICE Acc join(Acc a, Acc b) { return plus(a, b); }
#elif FOLD == FOLD_PROD
DEVICE Acc neutral() { return convert<A>(u8(1)); }
DEVICE Acc join(Acc a, Acc b) { return times(a, b); }
#elif FOLD == FOLD_MIN
DEVICE Acc neutral() { return Limit<A>::highest(); }
DEVICE Acc join(Acc a, Acc b) { return a < b || is_nan(a) ? a : b; }
#elif FOLD == FOLD_MAX
DEVICE Acc neutral() { return Limit<A>::lowest(); }
DEVICE Acc join(Acc a, Acc b) { return a > b || is_nan(a) ? a : b; }
#elif FOLD == FOLD_AND
DEVICE Acc neutral() { return 1; }
DEVICE Acc join(Acc a, Acc b) { return a & b; }
#else
DEVICE Acc neutral() { return 0; }
DEVICE Acc join(Acc a, Acc b) { return a | b; }
#endif
DEVICE Acc other(Acc a, int mask) { return shuffle_xor(a, mask); }
DEVICE O finish(Acc a) { return narrow<O>(a); }
template <class X> DEVICE Acc take(X x, u64) { return element(x); }
#endif

#if PARTIAL
typedef Acc In;
DEVICE Acc get(In x, u64) { return x; }
#else
typedef T In;
DEVICE Acc get(In x, u64 at) { return take(x, at); }
#endif

#if FOLD == FOLD_ARGMIN || FOLD == FOLD_ARGMAX
typedef u32 Out;
#else
typedef O Out;
#endif

DEVICE void put(void *out, bool partial, u64 at, Acc a) {
    if (partial) ((Acc *)out)[at] = a;
    else ((Out *)out)[at] = finish(a);
}

#ifdef ENTRY_along
// PER threads an output, VEC neighbours along the sequence together. Block row `y` takes split `y`.
KERNEL __launch_bounds__(256) along(const In *in, void *out, u32 outputs, u32 splits, u64 vectors,
                                    u64 per_split, const Walk<1, KEPT> kept, const Walk<1, REDUCED> red) {
    BEGIN;
    const u32 lane = threadIdx.x % PER;
    const u32 o = blockIdx.x * (256u / PER) + threadIdx.x / PER;
    const u32 split = blockIdx.y;
    Acc acc[VEC];
#pragma unroll
    for (int j = 0; j < VEC; ++j) acc[j] = neutral();
    if (o < outputs) {
        i64 base[1];
        kept.at(o, base);
        const In *x = in + base[0];
        u64 v = u64(split) * per_split, end = v + per_split;
        end = end < vectors ? end : vectors;
        v += lane;
        const int UNROLL = 4;
        for (; v + u64(UNROLL - 1) * PER < end; v += UNROLL * PER) {
            Vec<In, VEC> e[UNROLL];
#pragma unroll
            for (int u = 0; u < UNROLL; ++u) {
                i64 at[1] = {i64(v + u * PER) * red.stride[0][0]};
                if (REDUCED > 1) red.at(u32(v + u * PER), at);
                e[u] = *(const Vec<In, VEC> *)(x + at[0]);
            }
#pragma unroll
            for (int u = 0; u < UNROLL; ++u)
#pragma unroll
                for (int j = 0; j < VEC; ++j) {
                    acc[j] = join(acc[j], get(e[u].v[j], (v + u * PER) * VEC + j));
                }
        }
        for (; v < end; v += PER) {
            i64 at[1] = {i64(v) * red.stride[0][0]};
            if (REDUCED > 1) red.at(u32(v), at);
            Vec<In, VEC> e = *(const Vec<In, VEC> *)(x + at[0]);
#pragma unroll
            for (int j = 0; j < VEC; ++j) acc[j] = join(acc[j], get(e.v[j], v * VEC + j));
        }
    }
#pragma unroll
    for (int w = VEC / 2; w > 0; w /= 2)
#pragma unroll
        for (int j = 0; j < w; ++j) acc[j] = join(acc[j], acc[j + w]);
    Acc a = acc[0];
#if PER >= 32
#pragma unroll
    for (int mask = 16; mask > 0; mask /= 2) a = join(a, other(a, mask));
#endif
#if PER > 32
    __shared__ Acc parts[8];
    if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = a;
    __syncthreads();
    if (threadIdx.x == 0) {
        for (int w = 1; w < 8; ++w) a = join(a, parts[w]);
    }
#endif
    if (lane == 0 && o < outputs) put(out, splits > 1, u64(split) * outputs + o, a);
}
#endif

#ifdef ENTRY_across
// VEC neighbouring outputs a thread, whose elements are neighbours in memory; the eight rows of a
// block take every eighth position of the sequence.
KERNEL __launch_bounds__(256) across(const In *in, void *out, u32 groups, u32 splits, u64 length,
                                     u64 per_split, const Walk<1, KEPT> kept, const Walk<1, REDUCED> red) {
    BEGIN;
    const u32 g = blockIdx.x * 32u + threadIdx.x;
    const u32 split = blockIdx.y;
    Acc acc[VEC];
#pragma unroll
    for (int j = 0; j < VEC; ++j) acc[j] = neutral();
    if (g < groups) {
        i64 base[1];
        kept.at(g, base);
        const In *x = in + base[0];
        u64 s = u64(split) * per_split, end = s + per_split;
        end = end < length ? end : length;
        s += threadIdx.y;
        const int UNROLL = 8;
        for (; s + (UNROLL - 1) * 8 < end; s += UNROLL * 8) {
            Vec<In, VEC> e[UNROLL];
#pragma unroll
            for (int u = 0; u < UNROLL; ++u) {
                i64 at[1] = {i64(s + u * 8) * red.stride[0][0]};
                if (REDUCED > 1) red.at(u32(s + u * 8), at);
                e[u] = *(const Vec<In, VEC> *)(x + at[0]);
            }
#pragma unroll
            for (int u = 0; u < UNROLL; ++u)
#pragma unroll
                for (int j = 0; j < VEC; ++j) acc[j] = join(acc[j], get(e[u].v[j], s + u * 8));
        }
        for (; s < end; s += 8) {
            i64 at[1] = {i64(s) * red.stride[0][0]};
            if (REDUCED > 1) red.at(u32(s), at);
            Vec<In, VEC> e = *(const Vec<In, VEC> *)(x + at[0]);
#pragma unroll
            for (int j = 0; j < VEC; ++j) acc[j] = join(acc[j], get(e.v[j], s));
        }
    }
    __shared__ Acc parts[8][32][VEC];
#pragma unroll
    for (int j = 0; j < VEC; ++j) parts[threadIdx.y][threadIdx.x][j] = acc[j];
    __syncthreads();
    if (threadIdx.y == 0 && g < groups) {
#pragma unroll
        for (int j = 0; j < VEC; ++j) {
            Acc a = acc[j];
            for (int y = 1; y < 8; ++y) a = join(a, parts[y][threadIdx.x][j]);
            put(out, splits > 1, (u64(split) * groups + g) * VEC + j, a);
        }
    }
}
#endif
