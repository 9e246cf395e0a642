// Attention in any dtype, size and layout, a warp a row; and the joining of splits.

#ifdef ENTRY_simple
struct Shared {
    const R *q;
    DEVICE R operator()(u32 d) const { return q[d]; }
};

KERNEL __launch_bounds__(128) simple(const Problem whole, u32 splits, u32 per_split, R *partial) {
    BEGIN;
    const Problem p = in_use(whole);
    extern __shared__ char memory[];
    R *query = (R *)memory + (threadIdx.x / 32) * p.depth;
    u64 row = u64(blockIdx.x) * 4 + threadIdx.x / 32;
    u64 rows = u64(p.batches) * p.heads * p.queries;
    if (row >= rows) return;
    u32 i = u32(row % p.queries), h = u32(row / p.queries % p.heads), b = u32(row / p.queries / p.heads);
    Direct direct = query_of(p, b, h, i);
    for (u32 d = threadIdx.x % 32; d < p.depth; d += 32) query[d] = direct(d);
    __syncwarp();
    u32 start, end, split = blockIdx.y;
    visible(p, i, start, end);
    start = max(start, split * per_split);
    end = min(end, split * per_split + per_split);
    Row<CHUNKS> r;
    Shared shared = {query};
    r.walk(p, b, h, i, start, end, shared);
    r.write(p, h, row, splits > 1 ? partial + (u64(split) * rows + row) * (p.value_depth + 2) : 0);
}
#endif

#ifdef ENTRY_combine
// Joins the splits of a row, in order; a block a row.
KERNEL __launch_bounds__(128) combine(const Problem whole, u32 splits, const R *partial) {
    BEGIN;
    const Problem p = in_use(whole);
    __shared__ R weights[256];
    __shared__ R shared_top, shared_sum;
    u64 row = blockIdx.x, rows = u64(p.batches) * p.heads * p.queries;
    u32 h = u32(row / p.queries % p.heads), lane = threadIdx.x % 32;
    u64 width = p.value_depth + 2;
    const R *x = partial + row * width;
    for (u32 s = threadIdx.x; s < splits; s += 128) weights[s] = x[u64(s) * rows * width];
    __syncthreads();
    if (threadIdx.x < 32) {
        R top = -INF;
        bool nan = false;
        for (u32 s = lane; s < splits; s += 32) {
            nan = nan || weights[s] != weights[s];
            top = larger(top, weights[s]);
        }
#pragma unroll
        for (int m = 16; m > 0; m /= 2) top = larger(top, shuffle_xor(top, m));
        if (__any_sync(0xffffffffu, nan)) top = R(NAN64);
        R sum = 0;
        for (u32 s = lane; s < splits; s += 32) {
            R w = weights[s] == -INF ? R(0) : exponential(weights[s] - top);
            weights[s] = w;
            sum += x[u64(s) * rows * width + 1] * w;
        }
#pragma unroll
        for (int m = 16; m > 0; m /= 2) sum += shuffle_xor(sum, m);
        if (lane == 0) {
            shared_top = top;
            shared_sum = sum;
        }
    }
    __syncthreads();
    R factor = finish(p, h, shared_top, shared_sum);
    for (u32 f = threadIdx.x; f < p.value_depth; f += 128) {
        R acc = 0;
#pragma unroll 8
        for (u32 s = 0; s < splits; ++s) {
            R w = weights[s], v = x[u64(s) * rows * width + 2 + f];
            acc += w == R(0) ? R(0) : v * w;
        }
        p.out[row * p.value_depth + f] = narrow<T>(acc * factor);
    }
}
#endif
