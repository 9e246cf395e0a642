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
