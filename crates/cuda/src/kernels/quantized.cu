// Affine quantized matrices. A row of codes is a little-endian stream of bits in u32 words; 32 codes
// take BITS words, and are what a thread handles at once. GROUP codes share a scale and a bias.
//
// T is the dtype of scales and biases, X that of what is multiplied.

#define CODES 32
#define MASK ((1u << BITS) - 1)

// Code `i` of 32 in BITS words.
DEVICE u32 code_of(const u32 (&words)[BITS], int i) {
    int word = i * BITS / 32, shift = i * BITS % 32;
    u32 code = words[word] >> shift;
    if (shift + BITS > 32) code |= words[word + 1] << (32 - shift);
    return code & MASK;
}

// The words of chunk `c` of a row, in the widest loads that rows allow.
DEVICE void load_words(u32 (&words)[BITS], const u32 *row, u32 c) {
    const u32 *p = row + u64(c) * BITS;
#if BITS == 4
    uint4 v = *(const uint4 *)p;
    words[0] = v.x; words[1] = v.y; words[2] = v.z; words[3] = v.w;
#elif BITS == 8
    uint4 v = ((const uint4 *)p)[0], w = ((const uint4 *)p)[1];
    words[0] = v.x; words[1] = v.y; words[2] = v.z; words[3] = v.w;
    words[4] = w.x; words[5] = w.y; words[6] = w.z; words[7] = w.w;
#elif BITS % 2 == 0
#pragma unroll
    for (int i = 0; i < BITS / 2; ++i) {
        uint2 v = ((const uint2 *)p)[i];
        words[2 * i] = v.x;
        words[2 * i + 1] = v.y;
    }
#else
#pragma unroll
    for (int i = 0; i < BITS; ++i) words[i] = p[i];
#endif
}

#ifdef ENTRY_quantize
// A thread a group.
KERNEL __launch_bounds__(128) quantize(const T *w, u32 *codes, T *scales, T *biases, u64 groups) {
    BEGIN;
    u64 g = u64(blockIdx.x) * 128 + threadIdx.x;
    if (g >= groups) return;
    w += g * GROUP;
    float low = INFINITY32, high = -INFINITY32;
    for (int i = 0; i < GROUP; ++i) {
        float x = float(widen(w[i]));
        low = x < low ? x : low;
        high = x > high ? x : high;
    }
    const float n = float(MASK);
    bool negative = fabsf(low) > fabsf(high);
    float step = (high - low) / n;
    step = step > 1e-7f ? step : 1e-7f; // NaN gives the least step, as a maximum does
    float scale = negative ? step : -step, edge = negative ? low : high;
    float q0 = rintf(edge / scale), bias = 0.0f;
    if (q0 != 0.0f) {
        scale = edge / q0;
        bias = edge;
    }
    codes += g * (GROUP / CODES) * BITS;
    for (int c = 0; c < GROUP / CODES; ++c) {
        u32 words[BITS];
#pragma unroll
        for (int i = 0; i < BITS; ++i) words[i] = 0;
#pragma unroll
        for (int i = 0; i < CODES; ++i) {
            float q = rintf((float(widen(w[c * CODES + i])) - bias) / scale);
            q = q < 0.0f ? 0.0f : q > n ? n : q;
            u32 code = q != q ? 0 : u32(q);
            int word = i * BITS / 32, shift = i * BITS % 32;
            words[word] |= code << shift;
            if (shift + BITS > 32) words[word + 1] |= code >> (32 - shift);
        }
#pragma unroll
        for (int i = 0; i < BITS; ++i) codes[c * BITS + i] = words[i];
    }
    scales[g] = narrow<T>(convert<Wide<T>>(scale));
    biases[g] = narrow<T>(convert<Wide<T>>(bias));
}
#endif

#ifdef ENTRY_dequantize
// A thread a chunk; O is the result's dtype.
KERNEL __launch_bounds__(128) dequantize(O *w, const u32 *codes, const T *scales, const T *biases,
                                         u64 chunks) {
    BEGIN;
    u64 c = u64(blockIdx.x) * 128 + threadIdx.x;
    if (c >= chunks) return;
    u32 words[BITS];
    load_words(words, codes + (c >> 30 << 30) * BITS, u32(c & 0x3fffffff));
    u64 g = c / (GROUP / CODES);
    float scale = float(widen(scales[g])), bias = float(widen(biases[g]));
    O *out = w + c * CODES;
    const int N = 16 / sizeof(O);
#pragma unroll
    for (int i = 0; i < CODES; i += N) {
        Vec<O, N> e;
#pragma unroll
        for (int j = 0; j < N; ++j) {
            float x = scale * float(code_of(words, i + j)) + bias;
            e.v[j] = narrow<O>(convert<Wide<O>>(x));
        }
        *(Vec<O, N> *)(out + i) = e;
    }
}
#endif

#ifdef ENTRY_rows
// x (ROWS, k) times a matrix stored (n, k), a warp an output column; lanes take chunks. The products of
// a chunk are summed with codes as they are, and scaled once: scale * sum(code x) + bias * sum(x).
#define WARPS 4

KERNEL __launch_bounds__(WARPS * 32) rows(X *out, const X *x, const u32 *codes, const T *scales,
                                          const T *biases, u32 n, u32 k, i64 x_row, i64 w_row, i64 g_row) {
    BEGIN;
    extern __shared__ float xs[]; // x as floats, padded so that lanes meet different banks
    u32 warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    u32 chunks = k / CODES;
    const int PITCH = CODES + 4;
    for (u32 r = 0; r < ROWS; ++r) {
        for (u32 i = threadIdx.x; i < k; i += WARPS * 32) {
            xs[(r * chunks + i / CODES) * PITCH + i % CODES] = float(widen(x[i64(r) * x_row + i]));
        }
    }
    __syncthreads();
    for (u32 column = blockIdx.x * WARPS + warp; column < n; column += gridDim.x * WARPS) {
        const u32 *row = codes + i64(column) * w_row;
        const T *s = scales + i64(column) * g_row, *b = biases + i64(column) * g_row;
        float sum[ROWS];
#pragma unroll
        for (int r = 0; r < ROWS; ++r) sum[r] = 0.0f;
        for (u32 c = lane; c < chunks; c += 32) {
            u32 words[BITS];
            load_words(words, row, c);
            float scale = float(widen(s[c / (GROUP / CODES)])), bias = float(widen(b[c / (GROUP / CODES)]));
            float dot[ROWS], total[ROWS];
#pragma unroll
            for (int r = 0; r < ROWS; ++r) dot[r] = total[r] = 0.0f;
#pragma unroll
            for (int i = 0; i < CODES; i += 4) {
                float q[4];
#pragma unroll
                for (int j = 0; j < 4; ++j) q[j] = float(code_of(words, i + j));
#pragma unroll
                for (int r = 0; r < ROWS; ++r) {
                    float4 v = *(const float4 *)(xs + (r * chunks + c) * PITCH + i);
                    dot[r] = fmaf(q[0], v.x, fmaf(q[1], v.y, fmaf(q[2], v.z, fmaf(q[3], v.w, dot[r]))));
                    total[r] += (v.x + v.y) + (v.z + v.w);
                }
            }
#pragma unroll
            for (int r = 0; r < ROWS; ++r) sum[r] += fmaf(scale, dot[r], bias * total[r]);
        }
#pragma unroll
        for (int r = 0; r < ROWS; ++r) {
#pragma unroll
            for (int mask = 16; mask > 0; mask /= 2) sum[r] += shuffle_xor(sum[r], mask);
            if (lane == 0) out[i64(r) * n + column] = narrow<X>(convert<Wide<X>>(sum[r]));
        }
    }
}
#endif

#ifdef ENTRY_tensor
// x (m, k) of a half type times a matrix stored (n, k), by tensor cores, for few rows. Codes go into the
// left operand as they are, as numbers 128 + code (bf16) or 1024 + code (f16), which are exact; sums over
// SPAN codes, which share a scale, are scaled in single precision. A third product, with ones, gives the
// sums of x that biases and the offset of codes are multiplied by.
//
// A block makes 16 RT columns of 8 MT rows of the result; its WARPS warps share the sum over k. Lane
// 4 g + c holds LANE codes that lie together of stored rows g and g + 8: sums may be taken in any order,
// as long as x is read in the same.
#define WARPS 8
#define SPAN (GROUP < 64 ? 32 : 64)
#define LANE (SPAN / 4)
#define WORDS (LANE * BITS / 32)
#define PAIRS (LANE / 2)
#define PLANES (BITS == 8 ? 2 : 1)

template <class Y> struct Half;
template <> struct Half<bf16> {
    static const u32 magic = 0x43004300u, ones = 0x3f803f80u;
    static DEVICE float offset() { return 128.0f; }
    static DEVICE void mma(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
            : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    }
};
template <> struct Half<f16> {
    static const u32 magic = 0x64006400u, ones = 0x3c003c00u;
    static DEVICE float offset() { return 1024.0f; }
    static DEVICE void mma(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
            : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    }
};

// Pair `j` of a lane's codes, in plane `plane` of four bits each for 8 bits.
DEVICE u32 pair_of(const u32 (&w)[WORDS], int j, int plane) {
#if BITS == 4
    return (w[j / 4] >> (4 * (j % 4)) & 0x000f000fu) | Half<X>::magic;
#elif BITS == 2
    return (w[0] >> (2 * j) & 0x00030003u) | Half<X>::magic;
#elif BITS == 8
    return (w[j / 2] >> (8 * (j % 2) + 4 * plane) & 0x000f000fu) | Half<X>::magic;
#else
    u32 pair = 0;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
        int bit = (2 * j + h) * BITS, word = bit / 32, shift = bit % 32;
        u32 code = w[word] >> shift;
        if (shift + BITS > 32) code |= w[word + 1] << (32 - shift);
        pair |= (code & MASK) << (16 * h);
    }
    return pair | Half<X>::magic;
#endif
}

// The numbers of x that meet pair `j`, out of LANE that lie together.
DEVICE u32 partner(const u32 *e, int j) {
#if BITS == 4
    int i = j / 4 * 4 + j % 4 / 2; // codes (j, j + 4) of eight
    return __byte_perm(e[i], e[i + 2], j & 1 ? 0x7632 : 0x5410);
#elif BITS == 2
    return __byte_perm(e[j / 2], e[j / 2 + 4], j & 1 ? 0x7632 : 0x5410); // (j, j + 8)
#elif BITS == 8
    return __byte_perm(e[j / 2 * 2], e[j / 2 * 2 + 1], j & 1 ? 0x7632 : 0x5410); // (j, j + 2) of four
#else
    return e[j];
#endif
}

KERNEL __launch_bounds__(WARPS * 32, RESIDENT) tensor(X *out, const X *x, const u32 *codes, const T *scales,
                                                      const T *biases, u32 m, u32 n, u32 k, i64 x_row,
                                                      i64 w_row, i64 g_row, i64 out_row) {
    BEGIN;
    __shared__ float parts[WARPS][RT * 16][MT * 8 + 1];
    u32 warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, c = lane % 4;
    u32 n0 = blockIdx.x * 16 * RT, m0 = blockIdx.y * 8 * MT;
    u32 steps = k / SPAN, share = (steps + WARPS - 1) / WARPS;
    u32 begin = warp * share, end = min(begin + share, steps);
    float total[RT][MT][4] = {};
    const u32 *row[RT][2];
    const T *srow[RT][2], *brow[RT][2];
#pragma unroll
    for (int r = 0; r < RT; ++r)
#pragma unroll
        for (int h = 0; h < 2; ++h) {
            i64 at = min(n0 + r * 16 + h * 8 + g, n - 1);
            row[r][h] = codes + at * w_row + c * WORDS;
            srow[r][h] = scales + at * g_row;
            brow[r][h] = biases + at * g_row;
        }
    const int U = UNROLL;
    for (u32 s0 = begin; s0 < end; s0 += U) {
        u32 w[U][RT][2][WORDS];
        float scale[U][RT][2], bias[U][RT][2];
        uint4 e[U][MT][LANE / 8];
#pragma unroll
        for (int u = 0; u < U; ++u) {
            bool real = s0 + u < end;
            u32 s = real ? s0 + u : begin;
#pragma unroll
            for (int r = 0; r < RT; ++r)
#pragma unroll
                for (int h = 0; h < 2; ++h) {
                    const u32 *p = row[r][h] + s * (SPAN * BITS / 32);
#if BITS == 8 && SPAN == 64
                    uint4 v = *(const uint4 *)p;
                    w[u][r][h][0] = v.x; w[u][r][h][1] = v.y; w[u][r][h][2] = v.z; w[u][r][h][3] = v.w;
#elif (BITS == 8 && SPAN == 32) || (BITS == 4 && SPAN == 64)
                    uint2 v = *(const uint2 *)p;
                    w[u][r][h][0] = v.x; w[u][r][h][1] = v.y;
#else
#pragma unroll
                    for (int i = 0; i < WORDS; ++i) w[u][r][h][i] = p[i];
#endif
                    u32 group = s * SPAN / GROUP;
                    scale[u][r][h] = float(widen(srow[r][h][group]));
                    bias[u][r][h] = float(widen(brow[r][h][group]));
                }
#pragma unroll
            for (int t = 0; t < MT; ++t) {
                u32 i = m0 + t * 8 + g;
                const X *p = x + i64(i) * x_row + s * SPAN + c * LANE;
#pragma unroll
                for (int i8 = 0; i8 < LANE / 8; ++i8) {
                    uint4 zero = {0, 0, 0, 0};
                    e[u][t][i8] = real && i < m ? *(const uint4 *)(p + i8 * 8) : zero;
                }
            }
        }
#pragma unroll
        for (int u = 0; u < U; ++u) {
            float acc[PLANES][RT][MT][4] = {}, xs[MT][4] = {};
            const u32 ones[4] = {Half<X>::ones, Half<X>::ones, Half<X>::ones, Half<X>::ones};
#pragma unroll
            for (int j = 0; j < PAIRS; j += 2) {
                u32 b0[MT], b1[MT];
#pragma unroll
                for (int t = 0; t < MT; ++t) {
                    b0[t] = partner((const u32 *)e[u][t], j);
                    b1[t] = partner((const u32 *)e[u][t], j + 1);
                    Half<X>::mma(xs[t], ones, b0[t], b1[t]);
                }
#pragma unroll
                for (int plane = 0; plane < PLANES; ++plane)
#pragma unroll
                    for (int r = 0; r < RT; ++r) {
                        u32 a[4] = {pair_of(w[u][r][0], j, plane), pair_of(w[u][r][1], j, plane),
                                    pair_of(w[u][r][0], j + 1, plane), pair_of(w[u][r][1], j + 1, plane)};
#pragma unroll
                        for (int t = 0; t < MT; ++t) Half<X>::mma(acc[plane][r][t], a, b0[t], b1[t]);
                    }
            }
#pragma unroll
            for (int r = 0; r < RT; ++r)
#pragma unroll
                for (int h = 0; h < 2; ++h) {
                    float shift = fmaf(-Half<X>::offset() * (PLANES == 2 ? 17.0f : 1.0f), scale[u][r][h],
                                       bias[u][r][h]);
                    if (s0 + u >= end) shift = 0.0f;
#pragma unroll
                    for (int t = 0; t < MT; ++t)
#pragma unroll
                        for (int i = 0; i < 2; ++i) {
                            float dot = acc[0][r][t][2 * h + i];
                            if (PLANES == 2) dot = fmaf(16.0f, acc[PLANES - 1][r][t][2 * h + i], dot);
                            float &sum = total[r][t][2 * h + i];
                            sum = fmaf(scale[u][r][h], dot, fmaf(shift, xs[t][i], sum));
                        }
                }
        }
    }
#pragma unroll
    for (int r = 0; r < RT; ++r)
#pragma unroll
        for (int t = 0; t < MT; ++t)
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                parts[warp][r * 16 + g + i / 2 * 8][t * 8 + 2 * c + i % 2] = total[r][t][i];
            }
    __syncthreads();
    for (u32 i = threadIdx.x; i < RT * 16 * MT * 8; i += WARPS * 32) {
        u32 column = i % (RT * 16), r = i / (RT * 16);
        float sum = 0.0f;
#pragma unroll
        for (int w = 0; w < WARPS; ++w) sum += parts[w][column][r];
        if (n0 + column < n && m0 + r < m) {
            out[i64(m0 + r) * out_row + n0 + column] = narrow<X>(convert<Wide<X>>(sum));
        }
    }
}
#endif
