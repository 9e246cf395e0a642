// Rotary position embedding. A thread takes one pair of features at one position, finds its cosine and
// sine once, and rotates the pair in a few heads.

typedef Wide<T> R;

// The angle's cosine and sine, reduced in double precision: right at any position.
DEVICE void cos_sin(float angle, float &c, float &s) {
    const double ROUND = 6755399441055744.0; // 1.5 * 2^52: adding it rounds to an integer
    double a = angle;
    double shifted = a * 0.63661977236758134308 + ROUND;
    double n = shifted - ROUND;
    u64 quadrant = u64(__double_as_longlong(shifted));
    double r = (a - n * 1.5707963267341256) - n * 6.077100506506192e-11;
    double z = r * r;
    double p = z * (1.0 / 362880.0) - 1.0 / 5040.0;
    p = z * p + 1.0 / 120.0;
    p = z * p - 1.0 / 6.0;
    double sine = r + r * z * p;
    double q = z * (-1.0 / 3628800.0) + 1.0 / 40320.0;
    q = z * q - 1.0 / 720.0;
    q = z * q + 1.0 / 24.0;
    q = z * q - 0.5;
    double cosine = 1.0 + z * q;
    double x = quadrant & 1 ? sine : cosine, y = quadrant & 1 ? cosine : sine;
    c = float((quadrant + 1) & 2 ? -x : x);
    s = float(quadrant & 2 ? -y : y);
}
DEVICE void cos_sin(float angle, double &c, double &s) { sincos(double(angle), &s, &c); }

// x and y: (batch, middle, t, d), y row-major. `table` is how many offsets there are beyond one.
KERNEL __launch_bounds__(128) rope(const T *in, T *out, const void *offset, int offset_type,
                                   i64 offset_step, const float *freqs, i64 freq_step, u32 middle,
                                   u32 t, u32 d, u32 dims, u32 heads, double log2_base, float scale,
                                   i64 batch_stride, i64 middle_stride, i64 t_stride, i64 d_stride) {
    BEGIN;
    u32 half = dims / 2, rest = d - dims;
    u32 lanes = half + rest; // pairs, then features that are copied
    u64 id = u64(blockIdx.x) * 128 + threadIdx.x;
    u32 j = u32(id % lanes);
    u64 row = id / lanes; // position
    if (row >= t) return;
    u32 b = blockIdx.z;
    u32 first = blockIdx.y * heads, last = min(first + heads, middle);
    const T *x = in + i64(b) * batch_stride + i64(row) * t_stride;
    T *y = out + (i64(b) * middle * t + row) * d;
    if (j >= half) {
        u32 f = dims + j - half;
        for (u32 h = first; h < last; ++h) {
            y[i64(h) * t * d + f] = x[i64(h) * middle_stride + f * d_stride];
        }
        return;
    }
    i64 position = read_int(offset, b * offset_step, offset_type) + i64(row);
    float frequency = FREQS ? 1.0f / freqs[j * freq_step]
                            : float(exp2(-2.0 * double(j) / double(dims) * log2_base));
    R c, s;
    cos_sin(float(position) * scale * frequency, c, s);
    u32 fa = TRADITIONAL ? 2 * j : j, fb = TRADITIONAL ? 2 * j + 1 : j + half;
    for (u32 h = first; h < last; ++h) {
        const T *from = x + i64(h) * middle_stride;
        T *to = y + i64(h) * t * d;
        R p = widen(from[fa * d_stride]), q = widen(from[fb * d_stride]);
        to[fa] = narrow<T>(p * c - q * s);
        to[fb] = narrow<T>(q * c + p * s);
    }
}
