// Attention by Hopper's tensor cores (wgmma, sm_90a): many queries, half types, no mask.
//
// A block is two groups of four warps that compute, 64 queries each, and a third of which one thread brings
// tiles of BM queries and BN keys and values into shared memory by the tensor copy engine, and which leaves
// its registers to the others. Tiles lie as panels of
// 64 features (128 bytes a row), swizzled, as the matrix instructions read them. A block works through
// tiles of queries one after the other, and the next ones are brought while the last are finished.
//
// Within a group, scores of the next keys are computed while the present weights meet their values.
//
// TYPE is "f16" or "bf16"; D is the features of keys and values, 64 or 128. A row whose result is not
// finite is computed again by the definition, as in the other kernels of half types.

#define BM 128
#define BN 128
#define PANELS (D / 64)
#define LOG2E 1.44269504088896340736f
#define LN2 0.69314718055994530942f

struct alignas(64) TensorMap { u64 opaque[16]; };

// out (64 x N) (+)= a b, rows of 16: `a` and `b` in shared memory.
DEVICE void scores(float (&d)[64], u64 a, u64 b, int add) {
    asm volatile(
        "{\n\t.reg .pred p;\n\tsetp.ne.b32 p, %66, 0;\n\t"
        "wgmma.mma_async.sync.aligned.m64n128k16.f32." TYPE "." TYPE " {"
        "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
        "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
        "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
        "}, %64, %65, p, 1, 1, 0, 0;\n\t}"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]),
          "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]),
          "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]),
          "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31]),
          "+f"(d[32]), "+f"(d[33]), "+f"(d[34]), "+f"(d[35]), "+f"(d[36]), "+f"(d[37]), "+f"(d[38]), "+f"(d[39]),
          "+f"(d[40]), "+f"(d[41]), "+f"(d[42]), "+f"(d[43]), "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47]),
          "+f"(d[48]), "+f"(d[49]), "+f"(d[50]), "+f"(d[51]), "+f"(d[52]), "+f"(d[53]), "+f"(d[54]), "+f"(d[55]),
          "+f"(d[56]), "+f"(d[57]), "+f"(d[58]), "+f"(d[59]), "+f"(d[60]), "+f"(d[61]), "+f"(d[62]), "+f"(d[63])
        : "l"(a), "l"(b), "r"(add));
}

#if D == 128
// out (64 x D) += a b: `a` in registers, `b` in shared memory with features together.
DEVICE void values(float (&d)[64], const u32 (&a)[4], u64 b) {
    asm volatile(
        "wgmma.mma_async.sync.aligned.m64n128k16.f32." TYPE "." TYPE " {"
        "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
        "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
        "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
        "}, {%64, %65, %66, %67}, %68, 1, 1, 1, 1;"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]),
          "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]),
          "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]),
          "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31]),
          "+f"(d[32]), "+f"(d[33]), "+f"(d[34]), "+f"(d[35]), "+f"(d[36]), "+f"(d[37]), "+f"(d[38]), "+f"(d[39]),
          "+f"(d[40]), "+f"(d[41]), "+f"(d[42]), "+f"(d[43]), "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47]),
          "+f"(d[48]), "+f"(d[49]), "+f"(d[50]), "+f"(d[51]), "+f"(d[52]), "+f"(d[53]), "+f"(d[54]), "+f"(d[55]),
          "+f"(d[56]), "+f"(d[57]), "+f"(d[58]), "+f"(d[59]), "+f"(d[60]), "+f"(d[61]), "+f"(d[62]), "+f"(d[63])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}
#else
DEVICE void values(float (&d)[32], const u32 (&a)[4], u64 b) {
    asm volatile(
        "wgmma.mma_async.sync.aligned.m64n64k16.f32." TYPE "." TYPE " {"
        "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
        "}, {%32, %33, %34, %35}, %36, 1, 1, 1, 1;"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]),
          "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]),
          "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]),
          "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}
#endif

DEVICE u32 address(const void *p) { return u32(__cvta_generic_to_shared(p)); }

// A matrix in shared memory: 128-byte rows, swizzled; `leading` is the distance of panels and groups of
// eight rows are 1024 bytes apart.
DEVICE u64 matrix(u32 at, u32 leading) {
    return u64((at & 0x3ffff) >> 4) | u64(leading >> 4) << 16 | u64(1024 >> 4) << 32 | 1ull << 62;
}

DEVICE void fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
DEVICE void commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int N> DEVICE void done() { asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory"); }
// Registers of a product are not looked at before this.
template <int N> DEVICE void settle(float (&d)[N]) {
#pragma unroll
    for (int i = 0; i < N; ++i) asm volatile("" : "+f"(d[i])::"memory");
}

DEVICE void barrier_init(u32 bar, u32 count) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(bar), "r"(count));
}
DEVICE void barrier_expect(u32 bar, u32 bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(bar), "r"(bytes) : "memory");
}
DEVICE void barrier_arrive(u32 bar) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(bar) : "memory");
}
DEVICE void barrier_wait(u32 bar, u32 parity) {
    asm volatile(
        "{\n\t.reg .pred p;\n\tagain:\n\t"
        "mbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1;\n\t"
        "@!p bra again;\n\t}" ::"r"(bar), "r"(parity) : "memory");
}
// A box of the tensor, of which what lies outside is zero.
DEVICE void bring(u32 to, const TensorMap *map, u32 bar, u32 feature, u32 row, u32 head, u32 batch) {
    asm volatile(
        "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5, %6}], [%2];"
        ::"r"(to), "l"(map), "r"(bar), "r"(feature), "r"(row), "r"(head), "r"(batch) : "memory");
}

DEVICE float power(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
DEVICE bool finite(float x) { return fabsf(x) < INFINITY32; }

// The tiles of keys [first, last) that a tile of queries sees.
struct Work { u32 b, h, kh, i0, first, last; };

DEVICE Work work_of(const Problem &p, u32 id, u32 tiles) {
    Work w;
    u32 pairs = p.batches * p.heads, bh = id % pairs;
    // Late queries see the most keys under a causal mask: they go first.
    w.i0 = (tiles - 1 - id / pairs) * BM;
    w.b = bh / p.heads;
    w.h = bh % p.heads;
    w.kh = w.h / (p.heads / p.key_heads);
    u32 start, end, unused;
    visible(p, w.i0, start, unused);
    visible(p, min(w.i0 + BM, p.queries) - 1, unused, end);
    w.first = start / BN;
    w.last = max((end + BN - 1) / BN, w.first);
    return w;
}

#ifdef ENTRY_hopper
#define TILE_BYTES (128 * D * 2)

KERNEL __launch_bounds__(384, 1) hopper(const Problem whole, const __grid_constant__ TensorMap qmap,
                                        const __grid_constant__ TensorMap kmap,
                                        const __grid_constant__ TensorMap vmap, u32 tiles, u32 total) {
    BEGIN;
    const Problem p = in_use(whole);
    extern __shared__ char memory[];
    __shared__ alignas(8) u64 barriers[10];
    u32 base = (address(memory) + 1023) & ~1023u;
    u32 qs = base, ks = base + TILE_BYTES, vs = ks + 2 * TILE_BYTES;
    u32 bars = address(barriers);
    // Full and empty: of queries, of two tiles of keys, of two of values.
    u32 q_full = bars, q_empty = bars + 8, k_full = bars + 16, k_empty = bars + 32, v_full = bars + 48,
        v_empty = bars + 64;
    u32 warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    if (threadIdx.x == 0) {
        barrier_init(q_full, 1);
        barrier_init(q_empty, 8);
        for (int s = 0; s < 2; ++s) {
            barrier_init(k_full + 8 * s, 1);
            barrier_init(k_empty + 8 * s, 8);
            barrier_init(v_full + 8 * s, 1);
            barrier_init(v_empty + 8 * s, 8);
        }
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
        asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    }
    __syncthreads();
    u32 nq = 0, nk = 0, nv = 0; // tiles so far

    if (warp >= 8) {
        asm volatile("setmaxnreg.dec.sync.aligned.u32 24;");
        if (threadIdx.x == 256) {
            for (u32 id = blockIdx.x; id < total; id += gridDim.x) {
                Work w = work_of(p, id, tiles);
                if (w.first == w.last) continue;
                barrier_wait(q_empty, nq & 1 ^ 1);
                barrier_expect(q_full, TILE_BYTES);
                for (int d = 0; d < PANELS; ++d) bring(qs + d * BM * 128, &qmap, q_full, d * 64, w.i0, w.h, w.b);
                ++nq;
                for (u32 t = w.first; t < w.last; ++t) {
                    u32 s = nk & 1, parity = nk >> 1 & 1 ^ 1;
                    barrier_wait(k_empty + 8 * s, parity);
                    barrier_expect(k_full + 8 * s, TILE_BYTES);
                    for (int d = 0; d < PANELS; ++d) {
                        bring(ks + s * TILE_BYTES + d * BN * 128, &kmap, k_full + 8 * s, d * 64, t * BN, w.kh, w.b);
                    }
                    barrier_wait(v_empty + 8 * s, parity);
                    barrier_expect(v_full + 8 * s, TILE_BYTES);
                    for (int d = 0; d < PANELS; ++d) {
                        bring(vs + s * TILE_BYTES + d * BN * 128, &vmap, v_full + 8 * s, d * 64, t * BN, w.kh, w.b);
                    }
                    ++nk;
                }
            }
        }
    } else {
        asm volatile("setmaxnreg.inc.sync.aligned.u32 240;");
        u32 group = warp / 4, g = lane / 4, c = lane % 4;
        const float scale = float(p.scale) * LOG2E; // positive
        for (u32 id = blockIdx.x; id < total; id += gridDim.x) {
            Work w = work_of(p, id, tiles);
            // Rows of this thread, and what all rows of the group see.
            u32 row0 = w.i0 + group * 64 + warp % 4 * 16 + g;
            u32 from[2], to[2], all_from, all_to, unused;
            visible(p, min(row0, p.queries - 1), from[0], to[0]);
            visible(p, min(row0 + 8, p.queries - 1), from[1], to[1]);
            visible(p, min(w.i0 + group * 64, p.queries - 1), unused, all_to);
            visible(p, min(w.i0 + group * 64 + 63, p.queries - 1), all_from, unused);
            float o[D / 2], s[64], top[2] = {-INFINITY32, -INFINITY32}, sum[2] = {0.0f, 0.0f};
            u32 a[BN / 16][4];
#pragma unroll
            for (int i = 0; i < D / 2; ++i) o[i] = 0.0f;

            auto multiply_keys = [&]() {
                u32 stage = ks + (nk & 1) * TILE_BYTES;
                barrier_wait(k_full + 8 * (nk & 1), nk >> 1 & 1);
                fence();
#pragma unroll
                for (int d = 0; d < D / 16; ++d) {
                    u32 left = qs + d / 4 * BM * 128 + group * 64 * 128 + d % 4 * 32;
                    u32 right = stage + d / 4 * BN * 128 + d % 4 * 32;
                    scores(s, matrix(left, 16), matrix(right, 16), d > 0);
                }
                commit();
            };
            auto multiply_values = [&]() {
                u32 stage = vs + (nv & 1) * TILE_BYTES;
                barrier_wait(v_full + 8 * (nv & 1), nv >> 1 & 1);
                fence();
#pragma unroll
                for (int d = 0; d < BN / 16; ++d) values(o, a[d], matrix(stage + d * 16 * 128, BN * 128));
                commit();
            };
            float rescale[2];
            // Scores of tile `t` become weights; `rescale` is what earlier sums are multiplied by.
            auto weigh = [&](u32 t) {
                u32 j0 = t * BN;
                if (j0 < all_from || j0 + BN > min(all_to, p.keys)) {
#pragma unroll
                    for (int i = 0; i < 64; ++i) {
                        u32 j = j0 + i / 4 * 8 + 2 * c + i % 2;
                        int r = i / 2 % 2;
                        if (j < from[r] || j >= to[r]) s[i] = -INFINITY32;
                    }
                }
                float most[2] = {top[0], top[1]};
#pragma unroll
                for (int i = 0; i < 64; ++i) most[i / 2 % 2] = fmaxf(most[i / 2 % 2], s[i]);
#pragma unroll
                for (int r = 0; r < 2; ++r) {
                    most[r] = fmaxf(most[r], __shfl_xor_sync(0xffffffffu, most[r], 1));
                    most[r] = fmaxf(most[r], __shfl_xor_sync(0xffffffffu, most[r], 2));
                    float shift = most[r] == -INFINITY32 ? 0.0f : most[r] * scale;
                    rescale[r] = power(fmaf(top[r], scale, -shift));
                    top[r] = most[r];
                    float part = 0.0f;
#pragma unroll
                    for (int i = 0; i < 32; ++i) {
                        int at = i / 2 * 4 + 2 * r + i % 2;
                        s[at] = power(fmaf(s[at], scale, -shift));
                        part += s[at];
                    }
                    sum[r] = fmaf(sum[r], rescale[r], part);
                }
            };
            auto pack = [&]() {
#pragma unroll
                for (int d = 0; d < BN / 16; ++d)
#pragma unroll
                    for (int i = 0; i < 4; ++i) a[d][i] = Pair<T>::pack(s[8 * d + 2 * i], s[8 * d + 2 * i + 1]);
            };

            if (w.first < w.last) {
                barrier_wait(q_full, nq & 1);
                multiply_keys();
                done<0>();
                settle(s);
                if (lane == 0) barrier_arrive(k_empty + 8 * (nk & 1));
                ++nk;
                weigh(w.first);
                pack();
                for (u32 t = w.first + 1; t < w.last; ++t) {
                    multiply_keys();
                    multiply_values();
                    done<1>();
                    settle(s);
                    if (lane == 0) barrier_arrive(k_empty + 8 * (nk & 1));
                    ++nk;
                    weigh(t);
                    done<0>();
                    settle(o);
                    if (lane == 0) barrier_arrive(v_empty + 8 * (nv & 1));
                    ++nv;
                    if (__any_sync(0xffffffffu, rescale[0] != 1.0f || rescale[1] != 1.0f)) {
#pragma unroll
                        for (int i = 0; i < D / 2; ++i) o[i] *= rescale[i / 2 % 2];
                    }
                    pack();
                }
                if (lane == 0) barrier_arrive(q_empty);
                ++nq;
                multiply_values();
                done<0>();
                settle(o);
                if (lane == 0) barrier_arrive(v_empty + 8 * (nv & 1));
                ++nv;
            }

            bool wrong[2];
#pragma unroll
            for (int r = 0; r < 2; ++r) {
                float all = sum[r];
                all += __shfl_xor_sync(0xffffffffu, all, 1);
                all += __shfl_xor_sync(0xffffffffu, all, 2);
                float factor = finish(p, w.h, top[r] * scale * LN2, all);
                u32 i = row0 + 8 * r;
                T *out = p.out + ((u64(w.b) * p.heads + w.h) * p.queries + i) * D;
                wrong[r] = !finite(all);
#pragma unroll
                for (int n = 0; n < D / 8; ++n) {
                    float x = o[4 * n + 2 * r] * factor, y = o[4 * n + 2 * r + 1] * factor;
                    wrong[r] = wrong[r] || !finite(x) || !finite(y);
                    if (i < p.queries) *(u32 *)(out + n * 8 + 2 * c) = Pair<T>::pack(x, y);
                }
            }
            u32 low = __ballot_sync(0xffffffffu, wrong[0]), high = __ballot_sync(0xffffffffu, wrong[1]);
            if (low | high) {
                for (u32 r = 0; r < 16; ++r) {
                    u32 i = w.i0 + group * 64 + warp % 4 * 16 + r;
                    if (((r < 8 ? low : high) >> (r % 8 * 4) & 15) == 0 || i >= p.queries) continue;
                    Row<D / 32> exact;
                    u32 start, end;
                    visible(p, i, start, end);
                    exact.walk(p, w.b, w.h, i, start, end, query_of(p, w.b, w.h, i));
                    exact.write(p, w.h, (u64(w.b) * p.heads + w.h) * p.queries + i, 0);
                }
            }
        }
    }
}
#endif
