// Running reductions along an axis. Data is row-major (lines, n, inner) on both sides; a line is cut
// into chunks whose bounds depend on the shape alone. With more than one chunk there are three passes:
// the fold of each chunk, the running fold of those, and each chunk from its base.
//
// T is the operand's storage type and O the output's, SCAN the operation, TRUTH whether elements are
// truth values.

#define SCAN_SUM 0
#define SCAN_PROD 1
#define SCAN_MIN 2
#define SCAN_MAX 3
#define SCAN_LOGADDEXP 4
#define SCAN_AND 5
#define SCAN_OR 6

typedef Wide<O> A;

DEVICE A element(T x) {
#if TRUTH
    return A(truth(widen(x)));
#else
    return convert<A>(widen(x));
#endif
}

#if SCAN == SCAN_SUM
DEVICE A neutral() { return convert<A>(u8(0)); }
DEVICE A join(A a, A b) { return o_add(a, b); }
#elif SCAN == SCAN_PROD
DEVICE A neutral() { return convert<A>(u8(1)); }
DEVICE A join(A a, A b) { return o_multiply(a, b); }
#elif SCAN == SCAN_MIN
DEVICE A neutral() { return Limit<A>::highest(); }
DEVICE A join(A a, A b) { return o_minimum(a, b); }
#elif SCAN == SCAN_MAX
DEVICE A neutral() { return Limit<A>::lowest(); }
DEVICE A join(A a, A b) { return o_maximum(a, b); }
#elif SCAN == SCAN_LOGADDEXP
DEVICE A neutral() { return Limit<A>::lowest(); }
DEVICE A join(A a, A b) { return o_logaddexp(a, b); }
#elif SCAN == SCAN_AND
DEVICE A neutral() { return 1; }
DEVICE A join(A a, A b) { return a & b; }
#else
DEVICE A neutral() { return 0; }
DEVICE A join(A a, A b) { return a | b; }
#endif

// Where the element that comes `i`-th lies.
DEVICE u64 place(u64 i, u64 n) { return REVERSE ? n - 1 - i : i; }

#define ITEMS 4
#define THREADS 256

// Inclusive running fold over the threads of a block; `total` is the fold of all.
DEVICE A block_scan(A x, A &total) {
    __shared__ A warps[8];
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
#pragma unroll
    for (int d = 1; d < 32; d *= 2) {
        A y = shuffle_up(x, d);
        if (lane >= d) x = join(y, x);
    }
    __syncthreads(); // the last round's reads are over
    if (lane == 31) warps[warp] = x;
    __syncthreads();
    A before = neutral();
    for (int w = 0; w < warp; ++w) before = join(before, warps[w]);
    total = warps[0];
    for (int w = 1; w < 8; ++w) total = join(total, warps[w]);
    return join(before, x);
}

#ifdef ENTRY_along
// inner == 1: a block a chunk of a line. FOLDS: only the chunk's fold, to `bases`.
KERNEL __launch_bounds__(THREADS) along(const T *in, O *out, A *bases, u64 n, u32 chunks, u64 chunk) {
    BEGIN;
    u64 line = blockIdx.x / chunks, c = blockIdx.x % chunks;
    const T *x = in + line * n;
    u64 start = c * chunk, end = start + chunk < n ? start + chunk : n;
    A carry = !FOLDS && chunks > 1 ? bases[blockIdx.x] : neutral();
    for (u64 at = start; at < end; at += THREADS * ITEMS) {
        u64 first = at + u64(threadIdx.x) * ITEMS;
        A v[ITEMS], sum = neutral();
#pragma unroll
        for (int j = 0; j < ITEMS; ++j) {
            v[j] = first + j < end ? element(x[place(first + j, n)]) : neutral();
            sum = j == 0 ? v[0] : join(sum, v[j]);
        }
        A total, inclusive = block_scan(sum, total);
        if (!FOLDS) {
            // The fold of the threads before this one.
            A before = shuffle_up(inclusive, 1);
            __shared__ A last[8];
            if (threadIdx.x % 32 == 31) last[threadIdx.x / 32] = inclusive;
            __syncthreads();
            if (threadIdx.x % 32 == 0) before = threadIdx.x == 0 ? neutral() : last[threadIdx.x / 32 - 1];
            A run = threadIdx.x == 0 ? carry : join(carry, before);
            O *y = out + line * n;
#pragma unroll
            for (int j = 0; j < ITEMS; ++j) {
                A after = join(run, v[j]);
                if (first + j < end) y[place(first + j, n)] = narrow<O>(INCLUSIVE ? after : run);
                run = after;
            }
            __syncthreads();
        }
        carry = join(carry, total);
    }
    if (FOLDS && threadIdx.x == 0) bases[blockIdx.x] = carry;
}
#endif

#ifdef ENTRY_across
// inner > 1: a thread a chunk of a line, neighbours along `inner`.
KERNEL __launch_bounds__(THREADS) across(const T *in, O *out, A *bases, u64 n, u64 inner, u64 lines,
                                         u64 chunks, u64 chunk) {
    BEGIN;
    u64 t = u64(blockIdx.x) * THREADS + threadIdx.x;
    if (t >= lines * chunks) return;
    // Neighbouring threads: neighbouring lines.
    u64 c = t / lines, line = t - c * lines;
    u64 outer = line / inner, base = outer * n * inner + (line - outer * inner);
    u64 start = c * chunk, end = start + chunk < n ? start + chunk : n;
    A run = !FOLDS && chunks > 1 ? bases[line * chunks + c] : neutral();
    for (u64 i = start; i < end; ++i) {
        u64 at = base + place(i, n) * inner;
        A after = join(run, element(in[at]));
        if (!FOLDS) out[at] = narrow<O>(INCLUSIVE ? after : run);
        run = after;
    }
    if (FOLDS) bases[line * chunks + c] = run;
}
#endif

#ifdef ENTRY_long_bases
// The same for many chunks; a block a line.
KERNEL __launch_bounds__(THREADS) long_bases(A *folds, u64 lines, u32 chunks) {
    BEGIN;
    folds += u64(blockIdx.x) * chunks;
    A carry = neutral();
    for (u32 first = 0; first < chunks; first += THREADS) {
        u32 c = first + threadIdx.x;
        A total, inclusive = block_scan(c < chunks ? folds[c] : neutral(), total);
        __shared__ A all[THREADS];
        all[threadIdx.x] = inclusive;
        __syncthreads();
        if (c < chunks) folds[c] = threadIdx.x == 0 ? carry : join(carry, all[threadIdx.x - 1]);
        carry = join(carry, total);
        __syncthreads();
    }
}
#endif

#ifdef ENTRY_bases
// Folds of chunks become what comes before each chunk; a thread a line.
KERNEL __launch_bounds__(THREADS) bases(A *folds, u64 lines, u32 chunks) {
    BEGIN;
    u64 line = u64(blockIdx.x) * THREADS + threadIdx.x;
    if (line >= lines) return;
    A run = neutral();
    for (u32 c = 0; c < chunks; ++c) {
        A fold = folds[line * chunks + c];
        folds[line * chunks + c] = run;
        run = join(run, fold);
    }
}
#endif
