// Attention of half types by tensor cores (mma.m16n8k16).
//
// In a fragment, lane = 4 g + c holds row g (and g + 8) of the left operand, column g of the right one,
// and columns 2 c, 2 c + 1 of the result. Sums over features may be taken in any order, so a lane
// takes features that lie together in memory; and columns of values likewise.
//
// Weights are powers of two of scores that were multiplied by log2(e). D and DV are the features of keys
// and values.
//
// Tensor cores multiply a masked key's value by zero, which is not nothing if the value is NaN or
// infinite. A row whose result is not finite is therefore computed again by the definition.

#define LOG2E 1.44269504088896340736
#define LN2 0.69314718055994530942f

DEVICE float power(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

template <class X> struct Mma;
template <> struct Mma<bf16> {
    static DEVICE void run(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
            : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    }
};
template <> struct Mma<f16> {
    static DEVICE void run(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
            : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    }
};

DEVICE bool finite(float x) { return fabsf(x) < INFINITY32; }

// A score in powers of two, masked.
DEVICE float scored(const Problem &p, const M *mask, u32 j, float dot) {
#if MASK == 2
    return masked(p, mask, j, dot * float(p.scale)) * float(LOG2E);
#elif MASK == 1
    return masked(p, mask, j, dot * float(p.scale * LOG2E));
#else
    return dot * float(p.scale * LOG2E);
#endif
}

#ifdef ENTRY_decode
// Few queries: the rows of a tile are the queries of all heads that share a key head, at most 16 at a
// time. A warp takes a part of the keys, 16 at a time, straight from memory into fragments; the four
// warps of a block are joined in shared memory.
#define NT ((D + 31) / 32)
#define NU ((DV + 63) / 64)

KERNEL __launch_bounds__(128) decode(const Problem whole, u32 splits, u32 per_split, float *partial) {
    BEGIN;
    const Problem p = in_use(whole);
    extern __shared__ float joined[]; // (4 warps, 16 rows, DV + 4)
    __shared__ float tops[4][16], sums[4][16];
    const int PITCH = DV + 4;
    u32 warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, c = lane % 4;
    u32 group = p.heads / p.key_heads, rows = group * p.queries;
    u32 tiles = (rows + 15) / 16;
    u32 kh = blockIdx.y / tiles, r0 = blockIdx.y % tiles * 16, b = blockIdx.z;
    u32 head0 = kh * group;
    // The keys of this warp.
    u32 low = (blockIdx.x * 4 + warp) * per_split, high = min(low + per_split, p.keys);
    const KT *k = p.k + i64(b) * p.sk.batch + i64(kh) * p.sk.head;
    const VT *v = p.v + i64(b) * p.sv.batch + i64(kh) * p.sv.head;

    u32 q[NT][2][4]; // left fragments
    u32 from[2], to[2], head[2], query[2];
    bool real[2];
    const M *mask[2];
#pragma unroll
    for (int s = 0; s < 2; ++s) {
        u32 r = r0 + g + 8 * s;
        real[s] = r < rows;
        r = real[s] ? r : 0;
        head[s] = head0 + r / p.queries;
        query[s] = r % p.queries;
        visible(p, query[s], from[s], to[s]);
        if (!real[s]) to[s] = 0;
        mask[s] = mask_row(p, b, head[s], query[s]);
        const T *x = p.q + i64(b) * p.sq.batch + i64(head[s]) * p.sq.head + i64(query[s]) * p.sq.row;
#pragma unroll
        for (int t = 0; t < NT; ++t) {
            u32 f = (c + 4 * t) * 8;
            uint4 e = {0, 0, 0, 0};
            if (real[s] && f < D) e = *(const uint4 *)(x + f);
            q[t][0][s] = e.x;
            q[t][0][s + 2] = e.y;
            q[t][1][s] = e.z;
            q[t][1][s + 2] = e.w;
        }
    }
    // What any row of the tile sees.
    u32 first = min(real[0] ? from[0] : ~0u, real[1] ? from[1] : ~0u), last = max(to[0], to[1]);
#pragma unroll
    for (int m = 16; m > 2; m /= 2) {
        first = min(first, __shfl_xor_sync(0xffffffffu, first, m));
        last = max(last, __shfl_xor_sync(0xffffffffu, last, m));
    }
    u32 start = max(low, first & ~15u), end = min(high, last);

    float o[NU * 8][4];
#pragma unroll
    for (int n = 0; n < NU * 8; ++n) o[n][0] = o[n][1] = o[n][2] = o[n][3] = 0.0f;
    float top[2] = {-INFINITY32, -INFINITY32}, sum[2] = {0.0f, 0.0f};
    for (u32 j0 = start; j0 < end; j0 += 16) {
        uint4 ke[2][NT], ve[NU][4];
#pragma unroll
        for (int n = 0; n < 2; ++n) {
            u32 j = j0 + 8 * n + g;
            const KT *x = k + i64(j) * p.sk.row;
#pragma unroll
            for (int t = 0; t < NT; ++t) {
                u32 f = (c + 4 * t) * 8;
                uint4 zero = {0, 0, 0, 0};
                ke[n][t] = j < end && f < D ? *(const uint4 *)(x + f) : zero;
            }
        }
#pragma unroll
        for (int s = 0; s < 4; ++s) {
            u32 j = j0 + 2 * c + (s & 1) + (s >> 1) * 8;
            const VT *x = v + i64(j) * p.sv.row;
#pragma unroll
            for (int u = 0; u < NU; ++u) {
                u32 f = (g + 8 * u) * 8;
                uint4 zero = {0, 0, 0, 0};
                ve[u][s] = j < end && f < DV ? *(const uint4 *)(x + f) : zero;
            }
        }
        float s[2][4] = {};
#pragma unroll
        for (int n = 0; n < 2; ++n)
#pragma unroll
            for (int t = 0; t < NT; ++t) {
                Mma<T>::run(s[n], q[t][0], ke[n][t].x, ke[n][t].y);
                Mma<T>::run(s[n], q[t][1], ke[n][t].z, ke[n][t].w);
            }
        float most[2] = {top[0], top[1]};
#pragma unroll
        for (int n = 0; n < 2; ++n)
#pragma unroll
            for (int e = 0; e < 4; ++e) {
                u32 j = j0 + 8 * n + 2 * c + (e & 1);
                int row = e >> 1;
                bool seen = j >= from[row] && j < to[row] && j < end;
                s[n][e] = seen ? scored(p, mask[row], j, s[n][e]) : -INFINITY32;
                most[row] = fmaxf(most[row], s[n][e]);
            }
#pragma unroll
        for (int row = 0; row < 2; ++row) {
            most[row] = fmaxf(most[row], __shfl_xor_sync(0xffffffffu, most[row], 1));
            most[row] = fmaxf(most[row], __shfl_xor_sync(0xffffffffu, most[row], 2));
        }
        if (__any_sync(0xffffffffu, most[0] != top[0] || most[1] != top[1])) {
#pragma unroll
            for (int row = 0; row < 2; ++row) {
                float scale = top[row] == -INFINITY32 ? 0.0f : power(top[row] - most[row]);
                sum[row] *= scale;
                top[row] = most[row];
#pragma unroll
                for (int n = 0; n < NU * 8; ++n) {
                    o[n][2 * row] *= scale;
                    o[n][2 * row + 1] *= scale;
                }
            }
        }
#pragma unroll
        for (int n = 0; n < 2; ++n)
#pragma unroll
            for (int e = 0; e < 4; ++e) {
                float shift = top[e >> 1] == -INFINITY32 ? 0.0f : top[e >> 1];
                s[n][e] = power(s[n][e] - shift);
                sum[e >> 1] += s[n][e];
            }
        u32 w[4] = {Pair<T>::pack(s[0][0], s[0][1]), Pair<T>::pack(s[0][2], s[0][3]),
                    Pair<T>::pack(s[1][0], s[1][1]), Pair<T>::pack(s[1][2], s[1][3])};
#pragma unroll
        for (int u = 0; u < NU; ++u) {
            const u32 *x0 = (const u32 *)&ve[u][0], *x1 = (const u32 *)&ve[u][1];
            const u32 *x2 = (const u32 *)&ve[u][2], *x3 = (const u32 *)&ve[u][3];
#pragma unroll
            for (int e = 0; e < 8; ++e) {
                u32 pick = e & 1 ? 0x7632 : 0x5410;
                Mma<T>::run(o[u * 8 + e], w, __byte_perm(x0[e / 2], x1[e / 2], pick),
                            __byte_perm(x2[e / 2], x3[e / 2], pick));
            }
        }
    }
#pragma unroll
    for (int row = 0; row < 2; ++row) {
        sum[row] += __shfl_xor_sync(0xffffffffu, sum[row], 1);
        sum[row] += __shfl_xor_sync(0xffffffffu, sum[row], 2);
        if (c == 0) {
            tops[warp][g + 8 * row] = top[row] * LN2;
            sums[warp][g + 8 * row] = sum[row];
        }
        float *to = joined + (warp * 16 + g + 8 * row) * PITCH;
#pragma unroll
        for (int n = 0; n < NU * 8; ++n)
#pragma unroll
            for (int e = 0; e < 2; ++e) {
                u32 f = (2 * c + e + 8 * (n / 8)) * 8 + n % 8;
                if (f < DV) to[f] = o[n][2 * row + e];
            }
    }
    __syncthreads();
    u64 all = u64(p.batches) * p.heads * p.queries;
    // A warp four rows.
    for (u32 r = warp * 4; r < warp * 4 + 4 && r0 + r < rows; ++r) {
        u32 h = head0 + (r0 + r) / p.queries, i = (r0 + r) % p.queries;
        u64 row = (u64(b) * p.heads + h) * p.queries + i;
        float most = fmaxf(fmaxf(tops[0][r], tops[1][r]), fmaxf(tops[2][r], tops[3][r]));
        float scale[4], total = 0.0f;
#pragma unroll
        for (int w = 0; w < 4; ++w) {
            scale[w] = tops[w][r] == -INFINITY32 ? 0.0f : expf(tops[w][r] - most);
            total += sums[w][r] * scale[w];
        }
        float *out = splits > 1 ? partial + (u64(blockIdx.x) * all + row) * (DV + 2) : 0;
        float factor = splits > 1 ? 1.0f : finish(p, h, most, total);
        bool bad = !finite(total);
        for (u32 f = lane; f < DV; f += 32) {
            float y = 0.0f;
#pragma unroll
            for (int w = 0; w < 4; ++w) y += joined[(w * 16 + r) * PITCH + f] * scale[w];
            bad = bad || !finite(y);
            if (splits > 1) out[2 + f] = y;
            else p.out[row * DV + f] = narrow<T>(y * factor);
        }
        if (splits > 1 && lane == 0) {
            out[0] = most;
            out[1] = total;
        }
        if (__any_sync(0xffffffffu, bad)) {
            Row<(DV + 31) / 32> exact;
            u32 s, e;
            visible(p, i, s, e);
            s = max(s, blockIdx.x * 4 * per_split);
            e = min(e, (blockIdx.x + 1) * 4 * per_split);
            exact.walk(p, b, h, i, s, e, query_of(p, b, h, i));
            exact.write(p, h, row, out);
        }
    }
}
#endif

#ifdef ENTRY_prefill
// Many queries: a block takes 4 * 16 * MT of one head, a warp 16 * MT of them, and walks the keys BN at
// a time. Keys and values come by asynchronous copies into padded rows of shared memory: the next keys
// while scores are turned into weights, the next values while scores are computed.
#define BM (64 * MT)
#define PITCH (D + 8)
#define VPITCH (DV + 8)

DEVICE u32 address(const void *p) { return u32(__cvta_generic_to_shared(p)); }

DEVICE void copy16(void *to, const void *from, bool real) {
    // Of an unreal source nothing is read, and zeros are written.
    int bytes = real ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address(to)), "l"(from), "r"(bytes));
}
DEVICE void commit() { asm volatile("cp.async.commit_group;"); }
template <int N> DEVICE void arrived() { asm volatile("cp.async.wait_group %0;" ::"n"(N)); }

DEVICE void load4(u32 (&r)[4], u32 at) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
        : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(at));
}
DEVICE void load4_transposed(u32 (&r)[4], u32 at) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
        : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(at));
}

// Rows [first, first + N) of `W` features, of which those below `end` are real.
template <int N, int W, class X>
DEVICE void fetch(X *to, const X *from, i64 row, u32 first, u32 end) {
    const int CHUNKS = W / 8;
#pragma unroll
    for (int i = 0; i < (N * CHUNKS + 127) / 128; ++i) {
        u32 at = i * 128 + threadIdx.x;
        if (N * CHUNKS % 128 != 0 && at >= N * CHUNKS) break;
        u32 r = at / CHUNKS, ch = at % CHUNKS;
        bool real = first + r < end;
        copy16(to + r * (W + 8) + ch * 8, from + (real ? i64(first + r) * row + ch * 8 : 0), real);
    }
}

KERNEL __launch_bounds__(128) prefill(const Problem whole) {
    BEGIN;
    const Problem p = in_use(whole);
    extern __shared__ char memory[];
    T *qs = (T *)memory;               // (BM, PITCH)
    T *ks = qs + BM * PITCH;           // (BN, PITCH)
    T *vs = ks + BN * PITCH;           // (BN, VPITCH)
    u32 warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, c = lane % 4;
    u32 b = blockIdx.z, h = blockIdx.y, kh = h / (p.heads / p.key_heads);
    // Late queries see the most keys under a causal mask: they go first.
    u32 i0 = (gridDim.x - 1 - blockIdx.x) * BM;
    u32 last_query = min(i0 + BM, p.queries) - 1;
    u32 first, end, unused;
    visible(p, i0, first, unused);
    visible(p, last_query, unused, end);
    first = first / BN * BN;
    // Up to here every row of the block sees every key; and from `all_from` on.
    u32 all_from, all_to;
    visible(p, i0, unused, all_to);
    visible(p, last_query, all_from, unused);

    const T *q = p.q + i64(b) * p.sq.batch + i64(h) * p.sq.head;
    const KT *k = p.k + i64(b) * p.sk.batch + i64(kh) * p.sk.head;
    const VT *v = p.v + i64(b) * p.sv.batch + i64(kh) * p.sv.head;

    float o[MT][DV / 8][4];
    float top[MT][2], sum[MT][2];
    u32 from[MT][2], to[MT][2];
    const M *mask[MT][2];
#pragma unroll
    for (int t = 0; t < MT; ++t)
#pragma unroll
        for (int s = 0; s < 2; ++s) {
            u32 i = min(i0 + (warp * MT + t) * 16 + g + 8 * s, p.queries - 1);
            visible(p, i, from[t][s], to[t][s]);
            mask[t][s] = mask_row(p, b, h, i);
            top[t][s] = -INFINITY32;
            sum[t][s] = 0.0f;
        }
#pragma unroll
    for (int t = 0; t < MT; ++t)
#pragma unroll
        for (int n = 0; n < DV / 8; ++n) o[t][n][0] = o[t][n][1] = o[t][n][2] = o[t][n][3] = 0.0f;

    if (first < end) {
        fetch<BM, D>(qs, q, p.sq.row, i0, p.queries);
        fetch<BN, D>(ks, k, p.sk.row, first, end);
        commit();
        fetch<BN, DV>(vs, v, p.sv.row, first, end);
        commit();
    }
    // Where this lane reads matrices of 8 x 8: rows 0..7, 8..15 of the left operand; keys for the right.
    u32 qa = address(qs + (warp * MT * 16 + lane % 16) * PITCH + lane / 16 * 8);
    u32 ka = address(ks + (lane % 8 + lane / 16 * 8) * PITCH + lane / 8 % 2 * 8);
    u32 va = address(vs + lane % 16 * VPITCH + lane / 16 * 8);

    for (u32 j0 = first; j0 < end; j0 += BN) {
        arrived<1>();
        __syncthreads();
        float s[MT][BN / 8][4];
#pragma unroll
        for (int t = 0; t < MT; ++t)
#pragma unroll
            for (int n = 0; n < BN / 8; ++n) s[t][n][0] = s[t][n][1] = s[t][n][2] = s[t][n][3] = 0.0f;
#pragma unroll
        for (int d = 0; d < D / 16; ++d) {
            u32 a[MT][4];
#pragma unroll
            for (int t = 0; t < MT; ++t) load4(a[t], qa + (t * 16 * PITCH + d * 16) * 2);
#pragma unroll
            for (int n = 0; n < BN / 16; ++n) {
                u32 e[4];
                load4(e, ka + (n * 16 * PITCH + d * 16) * 2);
#pragma unroll
                for (int t = 0; t < MT; ++t) {
                    Mma<T>::run(s[t][2 * n], a[t], e[0], e[1]);
                    Mma<T>::run(s[t][2 * n + 1], a[t], e[2], e[3]);
                }
            }
        }
        __syncthreads();
        if (j0 + BN < end) fetch<BN, D>(ks, k, p.sk.row, j0 + BN, end);
        commit();

        bool whole = MASK == 0 && j0 >= all_from && j0 + BN <= min(all_to, end);
#pragma unroll
        for (int t = 0; t < MT; ++t) {
            float most[2] = {top[t][0], top[t][1]};
#pragma unroll
            for (int n = 0; n < BN / 8; ++n)
#pragma unroll
                for (int e = 0; e < 4; ++e) {
                    int row = e >> 1;
                    if (whole) {
                        s[t][n][e] *= float(p.scale * LOG2E);
                    } else {
                        u32 j = j0 + n * 8 + 2 * c + (e & 1);
                        bool seen = j >= from[t][row] && j < to[t][row];
                        s[t][n][e] = seen ? scored(p, mask[t][row], j, s[t][n][e]) : -INFINITY32;
                    }
                    most[row] = fmaxf(most[row], s[t][n][e]);
                }
#pragma unroll
            for (int row = 0; row < 2; ++row) {
                most[row] = fmaxf(most[row], __shfl_xor_sync(0xffffffffu, most[row], 1));
                most[row] = fmaxf(most[row], __shfl_xor_sync(0xffffffffu, most[row], 2));
                float shift = most[row] == -INFINITY32 ? 0.0f : most[row];
                float scale = power(top[t][row] - shift);
                top[t][row] = most[row];
                float total = 0.0f;
#pragma unroll
                for (int n = 0; n < BN / 8; ++n)
#pragma unroll
                    for (int e = 0; e < 2; ++e) {
                        float w = power(s[t][n][2 * row + e] - shift);
                        s[t][n][2 * row + e] = w;
                        total += w;
                    }
                sum[t][row] = sum[t][row] * scale + total;
#pragma unroll
                for (int n = 0; n < DV / 8; ++n) {
                    o[t][n][2 * row] *= scale;
                    o[t][n][2 * row + 1] *= scale;
                }
            }
        }
        arrived<1>();
        __syncthreads();
#pragma unroll
        for (int d = 0; d < BN / 16; ++d) {
            u32 a[MT][4];
#pragma unroll
            for (int t = 0; t < MT; ++t) {
                a[t][0] = Pair<T>::pack(s[t][2 * d][0], s[t][2 * d][1]);
                a[t][1] = Pair<T>::pack(s[t][2 * d][2], s[t][2 * d][3]);
                a[t][2] = Pair<T>::pack(s[t][2 * d + 1][0], s[t][2 * d + 1][1]);
                a[t][3] = Pair<T>::pack(s[t][2 * d + 1][2], s[t][2 * d + 1][3]);
            }
#pragma unroll
            for (int n = 0; n < DV / 16; ++n) {
                u32 e[4];
                load4_transposed(e, va + (d * 16 * VPITCH + n * 16) * 2);
#pragma unroll
                for (int t = 0; t < MT; ++t) {
                    Mma<T>::run(o[t][2 * n], a[t], e[0], e[1]);
                    Mma<T>::run(o[t][2 * n + 1], a[t], e[2], e[3]);
                }
            }
        }
        __syncthreads();
        if (j0 + BN < end) fetch<BN, DV>(vs, v, p.sv.row, j0 + BN, end);
        commit();
    }

    u32 bad[MT];
#pragma unroll
    for (int t = 0; t < MT; ++t) {
        bool wrong[2] = {false, false};
#pragma unroll
        for (int row = 0; row < 2; ++row) {
            float all = sum[t][row];
            all += __shfl_xor_sync(0xffffffffu, all, 1);
            all += __shfl_xor_sync(0xffffffffu, all, 2);
            float factor = finish(p, h, top[t][row] * LN2, all);
            u32 i = i0 + (warp * MT + t) * 16 + g + 8 * row;
            T *out = p.out + ((u64(b) * p.heads + h) * p.queries + i) * DV;
            wrong[row] = !finite(all);
#pragma unroll
            for (int n = 0; n < DV / 8; ++n) {
                float x = o[t][n][2 * row] * factor, y = o[t][n][2 * row + 1] * factor;
                wrong[row] = wrong[row] || !finite(x) || !finite(y);
                if (i < p.queries) *(u32 *)(out + n * 8 + 2 * c) = Pair<T>::pack(x, y);
            }
        }
        // A bit a row of the tile.
        u32 low = __ballot_sync(0xffffffffu, wrong[0]), high = __ballot_sync(0xffffffffu, wrong[1]);
        bad[t] = 0;
        for (int r = 0; r < 8; ++r) {
            bad[t] |= u32((low >> (4 * r) & 15) != 0) << r | u32((high >> (4 * r) & 15) != 0) << (r + 8);
        }
    }
    __syncwarp();
#pragma unroll
    for (int t = 0; t < MT; ++t)
        for (u32 r = 0; r < 16; ++r) {
            u32 i = i0 + (warp * MT + t) * 16 + r;
            if (!(bad[t] >> r & 1) || i >= p.queries) continue;
            Row<(DV + 31) / 32> exact;
            u32 s, e;
            visible(p, i, s, e);
            exact.walk(p, b, h, i, s, e, query_of(p, b, h, i));
            exact.write(p, h, (u64(b) * p.heads + h) * p.queries + i, 0);
        }
}
#endif
