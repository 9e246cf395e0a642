// The element-wise operations as functions of wide types. `u_name` is a unary operation, `o_name` a
// binary one; `h_name` is what a half type uses where an approximation that is exact enough before
// the rounding to 8 or 11 bits is much cheaper. Truth values are u8, and have their own `b_name`.

// ---- f32 ----

// c[0] + c[1] x + c[2] x^2 + ...
template <int N> DEVICE float poly(float x, const float (&c)[N]) {
    float y = c[N - 1];
#pragma unroll
    for (int k = N - 2; k >= 0; --k) y = y * x + c[k];
    return y;
}
template <int N> DEVICE float poly_fma(float x, const float (&c)[N]) {
    float y = c[N - 1];
#pragma unroll
    for (int k = N - 2; k >= 0; --k) y = fmaf(y, x, c[k]);
    return y;
}
template <int N> DEVICE double poly(double x, const double (&c)[N]) {
    double y = c[N - 1];
#pragma unroll
    for (int k = N - 2; k >= 0; --k) y = fma(y, x, c[k]);
    return y;
}

// n and log(1 + f) of x = 2^n (1 + f): the arithmetic of the CPU's, so that random numbers that go
// through it have the same bits.
DEVICE void log_parts(float x, float &n, float &l) {
    const float P[9] = {0.33333313f, -0.2500001f, 0.20002122f, -0.16668017f, 0.1421949f,
                        -0.12405151f, 0.11888201f, -0.116784738f, 0.067501036f};
    u32 t = __float_as_uint(x) + (0x3f800000u - 0x3f3504f3u);
    n = float(i32(t >> 23) - 127);
    float f = __uint_as_float((t & 0x007fffffu) + 0x3f3504f3u) - 1.0f;
    l = f - f * f * (0.5f - f * poly(f, P));
}

DEVICE float u_log(float x) {
    bool subnormal = x < 1.17549435e-38f;
    float n, l;
    log_parts(subnormal ? x * 8388608.0f : x, n, l);
    n = subnormal ? n - 23.0f : n;
    float y = n * 0.693359375f + (n * -2.1219444e-4f + l);
    y = x < INFINITY32 ? y : x;
    y = x == 0.0f ? -INFINITY32 : y;
    return x < 0.0f ? NAN32 : y;
}

DEVICE float u_erfinv(float x) {
    const float NEAR[11] = {0.88622693f, 0.23201356f, 0.011550335f, -0.0023385403f, -0.00012200306f,
                            4.048711e-05f, 5.8354903e-06f, -2.4978457e-06f, 3.0979147e-07f,
                            -1.716087e-08f, 3.355222e-10f};
    const float FAR[11] = {3.1127602539555f, 0.15334619489097f, -0.0034485353587f, 0.00014807640583f,
                           -7.2386667380e-06f, 3.0429866967e-07f, -3.3734449818e-09f,
                           -1.3184324795e-09f, 2.6804395682e-10f, -3.4667043690e-11f,
                           1.9221871387e-12f};
    float y = (1.0f - x) * (1.0f + x);
    float n, l;
    log_parts(y, n, l);
    float w = -(n * 0.693147180559945309f + l);
    float p = w < 5.0f ? poly(w, NEAR) : poly(w - 10.75f, FAR);
    if (y > 0.0f) return x * p;
    return y == 0.0f ? copysignf(INFINITY32, x) : NAN32;
}

DEVICE float u_exp(float x) { return expf(x); }
DEVICE float u_expm1(float x) { return expm1f(x); }
DEVICE float u_log2(float x) { return log2f(x); }
DEVICE float u_log10(float x) { return log10f(x); }
DEVICE float u_log1p(float x) { return log1pf(x); }
DEVICE float u_sin(float x) { return sinf(x); }
DEVICE float u_cos(float x) { return cosf(x); }
DEVICE float u_tan(float x) { return tanf(x); }
DEVICE float u_asin(float x) { return asinf(x); }
DEVICE float u_acos(float x) { return acosf(x); }
DEVICE float u_atan(float x) { return atanf(x); }
DEVICE float u_sinh(float x) { return sinhf(x); }
DEVICE float u_cosh(float x) { return coshf(x); }
DEVICE float u_tanh(float x) { return tanhf(x); }
DEVICE float u_asinh(float x) { return asinhf(x); }
DEVICE float u_acosh(float x) { return acoshf(x); }
DEVICE float u_atanh(float x) { return atanhf(x); }
DEVICE float u_erf(float x) { return erff(x); }
DEVICE float u_sigmoid(float x) {
    float e = expf(-fabsf(x));
    return (x < 0.0f ? e : 1.0f) / (1.0f + e);
}
DEVICE float u_sqrt(float x) { return sqrtf(x); }
DEVICE float u_rsqrt(float x) { return 1.0f / sqrtf(x); }
DEVICE float u_reciprocal(float x) { return 1.0f / x; }
DEVICE float u_abs(float x) { return fabsf(x); }
DEVICE float u_sign(float x) { return x > 0.0f ? 1.0f : x < 0.0f ? -1.0f : x; }
DEVICE float u_negative(float x) { return -x; }
DEVICE float u_square(float x) { return x * x; }
DEVICE float u_floor(float x) { return floorf(x); }
DEVICE float u_ceil(float x) { return ceilf(x); }
DEVICE float u_trunc(float x) { return truncf(x); }
DEVICE float u_round(float x) { return rintf(x); }
DEVICE u8 u_isnan(float x) { return x != x; }
DEVICE u8 u_isinf(float x) { return fabsf(x) == INFINITY32; }
DEVICE u8 u_isfinite(float x) { return fabsf(x) < INFINITY32; }
DEVICE u8 u_isposinf(float x) { return x == INFINITY32; }
DEVICE u8 u_isneginf(float x) { return x == -INFINITY32; }

DEVICE float o_power(float a, float b) { return powf(a, b); }
DEVICE float o_arctan2(float a, float b) { return atan2f(a, b); }
DEVICE float o_logaddexp(float a, float b) {
    float high = a > b ? a : b, low = a > b ? b : a;
    if (a != a || b != b) return NAN32;
    if (fabsf(high) == INFINITY32) return high;
    return high + log1pf(expf(low - high));
}
DEVICE float o_floor_divide(float a, float b) { return floorf(a / b); }
DEVICE float o_remainder(float a, float b) {
    float r = fmodf(a, b);
    return r != 0.0f && (r < 0.0f) != (b < 0.0f) ? r + b : r;
}

// ---- what half types use ----

DEVICE float h_exp(float x) { return __expf(x); }
DEVICE float h_sigmoid(float x) {
    float e = __expf(-fabsf(x));
    return __fdividef(x < 0.0f ? e : 1.0f, 1.0f + e);
}
// x P(x^2), relative error 2^-15, up to where both half types round the result to 1.
DEVICE float h_erf(float x) {
    const float P[9] = {1.1283655f, -0.37587956f, 0.11205512f, -0.025865465f, 0.0045522507f,
                        -0.0005857184f, 5.1078114e-05f, -2.656911e-06f, 6.155463e-08f};
    float a = fminf(fmaxf(x, -2.85f), 2.85f);
    float y = a * poly_fma(a * a, P);
    return x != x ? x : y;
}
// Correctly rounded to 8 bits all the same: quotients of bf16 numbers stay further from ties than
// the error of two units of a float's last place.
DEVICE float h_divide(float a, float b) {
    float y;
    asm("div.full.f32 %0, %1, %2;" : "=f"(y) : "f"(a), "f"(b));
    return y;
}

// ---- f64 ----

DEVICE double u_exp(double x) { return exp(x); }
DEVICE double u_expm1(double x) { return expm1(x); }
DEVICE double u_log(double x) { return log(x); }
DEVICE double u_log2(double x) { return log2(x); }
DEVICE double u_log10(double x) { return log10(x); }
DEVICE double u_log1p(double x) { return log1p(x); }
DEVICE double u_sin(double x) { return sin(x); }
DEVICE double u_cos(double x) { return cos(x); }
DEVICE double u_tan(double x) { return tan(x); }
DEVICE double u_asin(double x) { return asin(x); }
DEVICE double u_acos(double x) { return acos(x); }
DEVICE double u_atan(double x) { return atan(x); }
DEVICE double u_sinh(double x) { return sinh(x); }
DEVICE double u_cosh(double x) { return cosh(x); }
DEVICE double u_tanh(double x) { return tanh(x); }
DEVICE double u_asinh(double x) { return asinh(x); }
DEVICE double u_acosh(double x) { return acosh(x); }
DEVICE double u_atanh(double x) { return atanh(x); }
DEVICE double u_erf(double x) { return erf(x); }
DEVICE double u_erfinv(double x) { return erfinv(x); }
DEVICE double u_sigmoid(double x) {
    double e = exp(-fabs(x));
    return (x < 0.0 ? e : 1.0) / (1.0 + e);
}
DEVICE double u_sqrt(double x) { return sqrt(x); }
DEVICE double u_rsqrt(double x) { return 1.0 / sqrt(x); }
DEVICE double u_reciprocal(double x) { return 1.0 / x; }
DEVICE double u_abs(double x) { return fabs(x); }
DEVICE double u_sign(double x) { return x > 0.0 ? 1.0 : x < 0.0 ? -1.0 : x; }
DEVICE double u_negative(double x) { return -x; }
DEVICE double u_square(double x) { return x * x; }
DEVICE double u_floor(double x) { return floor(x); }
DEVICE double u_ceil(double x) { return ceil(x); }
DEVICE double u_trunc(double x) { return trunc(x); }
DEVICE double u_round(double x) { return rint(x); }
DEVICE u8 u_isnan(double x) { return x != x; }
DEVICE u8 u_isinf(double x) { return fabs(x) == INFINITY64; }
DEVICE u8 u_isfinite(double x) { return fabs(x) < INFINITY64; }
DEVICE u8 u_isposinf(double x) { return x == INFINITY64; }
DEVICE u8 u_isneginf(double x) { return x == -INFINITY64; }

DEVICE double o_power(double a, double b) { return pow(a, b); }
DEVICE double o_arctan2(double a, double b) { return atan2(a, b); }
DEVICE double o_logaddexp(double a, double b) {
    double high = a > b ? a : b, low = a > b ? b : a;
    if (a != a || b != b) return NAN64;
    if (fabs(high) == INFINITY64) return high;
    return high + log1p(exp(low - high));
}
DEVICE double o_floor_divide(double a, double b) { return floor(a / b); }
DEVICE double o_remainder(double a, double b) {
    double r = fmod(a, b);
    return r != 0.0 && (r < 0.0) != (b < 0.0) ? r + b : r;
}

// ---- 8-bit floats (OCP E4M3) ----

DEVICE u8 u_to_fp8(float x) {
    u32 bits = __float_as_uint(x), magnitude = bits & 0x7fffffffu;
    u32 subnormal = __float_as_uint(__uint_as_float(magnitude) + 16384.0f) - __float_as_uint(16384.0f);
    u32 normal = (magnitude + 0x7ffffu + (magnitude >> 20 & 1) - (120u << 23)) >> 20;
    u32 code = magnitude < 121u << 23 ? subnormal : normal;
    code = magnitude >= 0x43e00000u ? 0x7e : min(code, 0x7eu);
    code = magnitude > 0x7f800000u ? 0x7f : code;
    return u8(code | (bits >> 24 & 0x80));
}
DEVICE u8 u_to_fp8(double x) { return u_to_fp8(round_to_odd(x)); }
DEVICE float u_from_fp8(u8 code) {
    u32 magnitude = code & 0x7f;
    float value = magnitude < 8 ? float(magnitude) * (1.0f / 512.0f)
                                : __uint_as_float((magnitude << 20) + (120u << 23));
    value = magnitude == 0x7f ? NAN32 : value;
    return __uint_as_float(__float_as_uint(value) | u32(code & 0x80) << 24);
}

// ---- integers (and what floats share with them) ----

template <class T> DEVICE T u_negative(T x) { return T(Unsigned<T>(0) - Unsigned<T>(x)); }
template <class T> DEVICE T u_abs(T x) { return x < T(0) ? u_negative(x) : x; }
template <class T> DEVICE T u_sign(T x) { return T(x > T(0)) - T(x < T(0)); }
template <class T> DEVICE T u_square(T x) { return T(u64(x) * u64(x)); }
template <class T> DEVICE T u_bitwise_invert(T x) { return T(~x); }

template <class T> DEVICE T o_add(T a, T b) { return T(Unsigned<T>(a) + Unsigned<T>(b)); }
template <class T> DEVICE T o_subtract(T a, T b) { return T(Unsigned<T>(a) - Unsigned<T>(b)); }
template <class T> DEVICE T o_multiply(T a, T b) { return T(u64(a) * u64(b)); }
DEVICE i32 o_multiply(i32 a, i32 b) { return i32(u32(a) * u32(b)); }
DEVICE u32 o_multiply(u32 a, u32 b) { return a * b; }
template <class T> DEVICE T o_floor_divide(T a, T b) {
    if (b == T(0)) return T(0);
    if (T(-1) < T(0) && b == T(-1)) return u_negative(a);
    T q = a / b, r = a % b;
    return r != T(0) && (r < T(0)) != (b < T(0)) ? T(q - 1) : q;
}
template <class T> DEVICE T o_remainder(T a, T b) {
    if (b == T(0) || (T(-1) < T(0) && b == T(-1))) return T(0);
    T r = a % b;
    return r != T(0) && (r < T(0)) != (b < T(0)) ? T(r + b) : r;
}
template <class T> DEVICE T o_power(T a, T b) {
    if (b < T(0)) {
        if (a == T(1)) return T(1);
        if (a == T(-1)) return b & 1 ? a : T(1);
        return T(0);
    }
    u64 base = u64(a), result = 1;
    for (u64 e = u64(b); e > 0; e >>= 1) {
        if (e & 1) result *= base;
        base *= base;
    }
    return T(result);
}
template <class T> DEVICE T o_maximum(T a, T b) { return a > b ? a : b; }
template <class T> DEVICE T o_minimum(T a, T b) { return a < b ? a : b; }
template <class T> DEVICE T o_bitwise_and(T a, T b) { return a & b; }
template <class T> DEVICE T o_bitwise_or(T a, T b) { return a | b; }
template <class T> DEVICE T o_bitwise_xor(T a, T b) { return a ^ b; }
// A negative amount is a huge one.
template <class T> DEVICE T o_left_shift(T a, T b) {
    Unsigned<T> n = Unsigned<T>(b);
    return n < sizeof(T) * 8 ? T(Unsigned<T>(a) << n) : T(0);
}
template <class T> DEVICE T o_right_shift(T a, T b) {
    Unsigned<T> n = Unsigned<T>(b);
    if (n < sizeof(T) * 8) return T(a >> n);
    return a < T(0) ? T(-1) : T(0);
}
template <class T> DEVICE u8 o_equal(T a, T b) { return a == b; }
template <class T> DEVICE u8 o_not_equal(T a, T b) { return a != b; }
template <class T> DEVICE u8 o_less(T a, T b) { return a < b; }
template <class T> DEVICE u8 o_less_equal(T a, T b) { return a <= b; }
template <class T> DEVICE u8 o_greater(T a, T b) { return a > b; }
template <class T> DEVICE u8 o_greater_equal(T a, T b) { return a >= b; }

DEVICE float o_add(float a, float b) { return a + b; }
DEVICE float o_subtract(float a, float b) { return a - b; }
DEVICE float o_multiply(float a, float b) { return a * b; }
DEVICE float o_divide(float a, float b) { return a / b; }
DEVICE float o_maximum(float a, float b) { return a > b || a != a ? a : b; }
DEVICE float o_minimum(float a, float b) { return a < b || a != a ? a : b; }
DEVICE double o_add(double a, double b) { return a + b; }
DEVICE double o_subtract(double a, double b) { return a - b; }
DEVICE double o_multiply(double a, double b) { return a * b; }
DEVICE double o_divide(double a, double b) { return a / b; }
DEVICE double o_maximum(double a, double b) { return a > b || a != a ? a : b; }
DEVICE double o_minimum(double a, double b) { return a < b || a != a ? a : b; }

// ---- truth values ----

DEVICE u8 b_not(u8 a) { return a ^ 1; }
DEVICE u8 b_or(u8 a, u8 b) { return a | b; }
DEVICE u8 b_and(u8 a, u8 b) { return a & b; }
DEVICE u8 b_xor(u8 a, u8 b) { return a ^ b; }
DEVICE u8 b_same(u8 a, u8 b) { return a ^ b ^ 1; }
DEVICE u8 b_greater_equal(u8 a, u8 b) { return a | (b ^ 1); }
DEVICE u8 b_less_equal(u8 a, u8 b) { return (a ^ 1) | b; }
DEVICE u8 b_greater(u8 a, u8 b) { return a & (b ^ 1); }
DEVICE u8 b_less(u8 a, u8 b) { return (a ^ 1) & b; }
