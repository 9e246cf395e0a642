// Types, conversions and small helpers that every kernel begins with. No header is included: what is
// compiled at run time must not depend on a toolkit being installed.
//
// Storage types are plain: u8 for bool, `f16` and `bf16` hold bits. `Wide<T>` is the type that values
// are computed in: float for the half types, T itself otherwise.

typedef signed char i8;
typedef short i16;
typedef int i32;
typedef long long i64;
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

struct f16 { u16 bits; };
struct bf16 { u16 bits; };
struct alignas(8) c64 { float re, im; };

#define DEVICE __device__ __forceinline__
#define KERNEL extern "C" __global__ void

// Every kernel begins with this. On devices that can, a kernel is launched while the one before it is
// still running: it lets its own successor do the same, and waits until the predecessor is done and its
// writes are there.
#if __CUDA_ARCH__ >= 900
#define BEGIN asm volatile("griddepcontrol.launch_dependents;\n\tgriddepcontrol.wait;" ::: "memory")
#else
#define BEGIN
#endif

#define INFINITY32 __int_as_float(0x7f800000)
#define NAN32 __int_as_float(0x7fc00000)
#define INFINITY64 __longlong_as_double(0x7ff0000000000000ll)
#define NAN64 __longlong_as_double(0x7ff8000000000000ll)

template <class T> struct WideOf { typedef T type; };
template <> struct WideOf<f16> { typedef float type; };
template <> struct WideOf<bf16> { typedef float type; };
template <class T> using Wide = typename WideOf<T>::type;

template <class T> struct UnsignedOf { typedef T type; };
template <> struct UnsignedOf<i8> { typedef u8 type; };
template <> struct UnsignedOf<i16> { typedef u16 type; };
template <> struct UnsignedOf<i32> { typedef u32 type; };
template <> struct UnsignedOf<i64> { typedef u64 type; };
template <class T> using Unsigned = typename UnsignedOf<T>::type;

template <class A, class B> struct Same { static const bool value = false; };
template <class A> struct Same<A, A> { static const bool value = true; };

// Limits of integers, infinities of floats: neutral elements of minimum and maximum.
template <class T> struct Limit {
    static const bool is_signed = T(-1) < T(0);
    static DEVICE T lowest() { return is_signed ? T(u64(1) << (sizeof(T) * 8 - 1)) : T(0); }
    static DEVICE T highest() { return T(~lowest()); }
};
template <> struct Limit<float> {
    static DEVICE float lowest() { return -INFINITY32; }
    static DEVICE float highest() { return INFINITY32; }
};
template <> struct Limit<double> {
    static DEVICE double lowest() { return -INFINITY64; }
    static DEVICE double highest() { return INFINITY64; }
};

DEVICE bool is_nan(float x) { return x != x; }
DEVICE bool is_nan(double x) { return x != x; }
DEVICE bool is_nan(c64 x) { return x.re != x.re || x.im != x.im; }
template <class T> DEVICE bool is_nan(T) { return false; }

// ---- half types ----

DEVICE float f16_to_float(u16 bits) {
    float y;
    asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(bits));
    return y;
}

DEVICE u16 float_to_f16(float x) {
    u16 y;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y) : "f"(x));
    return y;
}

DEVICE float bf16_to_float(u16 bits) { return __uint_as_float(u32(bits) << 16); }

DEVICE u16 float_to_bf16(float x) {
#if __CUDA_ARCH__ >= 800
    u16 y;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y) : "f"(x));
    return y;
#else
    u32 b = __float_as_uint(x);
    return x != x ? u16(b >> 16 | 0x40) : u16((b + 0x7fff + (b >> 16 & 1)) >> 16);
#endif
}

DEVICE float widen(f16 x) { return f16_to_float(x.bits); }
DEVICE float widen(bf16 x) { return bf16_to_float(x.bits); }
template <class T> DEVICE T widen(T x) { return x; }

template <class T> struct Narrow { static DEVICE T from(T x) { return x; } };
template <> struct Narrow<f16> {
    static DEVICE f16 from(float x) { f16 y; y.bits = float_to_f16(x); return y; }
};
template <> struct Narrow<bf16> {
    static DEVICE bf16 from(float x) { bf16 y; y.bits = float_to_bf16(x); return y; }
};
template <class T> DEVICE T narrow(Wide<T> x) { return Narrow<T>::from(x); }

// Two values of a half type in one register, the first in the lower bits.
template <class T> struct Pair;
template <> struct Pair<f16> {
    static DEVICE float low(u32 p) { return f16_to_float(u16(p)); }
    static DEVICE float high(u32 p) { return f16_to_float(u16(p >> 16)); }
    static DEVICE u32 pack(float a, float b) {
        u32 p;
#if __CUDA_ARCH__ >= 800
        asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(p) : "f"(b), "f"(a));
#else
        p = u32(float_to_f16(b)) << 16 | float_to_f16(a);
#endif
        return p;
    }
    static DEVICE u32 add(u32 a, u32 b) {
        u32 p; asm("add.rn.f16x2 %0, %1, %2;" : "=r"(p) : "r"(a), "r"(b)); return p;
    }
    static DEVICE u32 sub(u32 a, u32 b) {
        u32 p; asm("sub.rn.f16x2 %0, %1, %2;" : "=r"(p) : "r"(a), "r"(b)); return p;
    }
    static DEVICE u32 mul(u32 a, u32 b) {
        u32 p; asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(p) : "r"(a), "r"(b)); return p;
    }
};
template <> struct Pair<bf16> {
    static DEVICE float low(u32 p) { return __uint_as_float(p << 16); }
    static DEVICE float high(u32 p) { return __uint_as_float(p & 0xffff0000u); }
    static DEVICE u32 pack(float a, float b) {
        u32 p;
#if __CUDA_ARCH__ >= 800
        asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(p) : "f"(b), "f"(a));
#else
        p = u32(float_to_bf16(b)) << 16 | float_to_bf16(a);
#endif
        return p;
    }
#if __CUDA_ARCH__ >= 800
    // Through a fused multiply-add with one neutral operand: one rounding, as everywhere.
    static DEVICE u32 fma(u32 a, u32 b, u32 c) {
        u32 p;
        asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(p) : "r"(a), "r"(b), "r"(c));
        return p;
    }
    static DEVICE u32 add(u32 a, u32 b) { return fma(a, 0x3f803f80u, b); }
    static DEVICE u32 sub(u32 a, u32 b) { return fma(b, 0xbf80bf80u, a); }
    static DEVICE u32 mul(u32 a, u32 b) { return fma(a, b, 0x80008000u); }
#else
    static DEVICE u32 add(u32 a, u32 b) { return pack(low(a) + low(b), high(a) + high(b)); }
    static DEVICE u32 sub(u32 a, u32 b) { return pack(low(a) - low(b), high(a) - high(b)); }
    static DEVICE u32 mul(u32 a, u32 b) { return pack(low(a) * low(b), high(a) * high(b)); }
#endif
};

// ---- conversions between types that values are computed in ----

// Float to integer: toward zero, saturating, NaN to 0.
template <class I> DEVICE I saturate(double x) {
    if (x != x) return I(0);
    const double low = double(Limit<I>::lowest());
    const double above = double(Limit<I>::highest() / 2 + 1) * 2.0;
    if (x <= low) return Limit<I>::lowest();
    if (x >= above) return Limit<I>::highest();
    return I(x);
}
template <class I> DEVICE I saturate(float x) {
    if (x != x) return I(0);
    const float low = float(Limit<I>::lowest());
    const float above = float(Limit<I>::highest() / 2 + 1) * 2.0f;
    if (x <= low) return Limit<I>::lowest();
    if (x >= above) return Limit<I>::highest();
    return I(x);
}

template <class B, class A> struct Convert { static DEVICE B from(A x) { return B(x); } };
template <class B> struct Convert<B, float> { static DEVICE B from(float x) { return saturate<B>(x); } };
template <class B> struct Convert<B, double> { static DEVICE B from(double x) { return saturate<B>(x); } };
template <class B> struct Convert<B, c64> {
    static DEVICE B from(c64 x) { return Convert<B, float>::from(x.re); }
};
template <> struct Convert<float, float> { static DEVICE float from(float x) { return x; } };
template <> struct Convert<double, float> { static DEVICE double from(float x) { return x; } };
template <> struct Convert<float, double> { static DEVICE float from(double x) { return float(x); } };
template <> struct Convert<double, double> { static DEVICE double from(double x) { return x; } };
template <> struct Convert<float, c64> { static DEVICE float from(c64 x) { return x.re; } };
template <> struct Convert<double, c64> { static DEVICE double from(c64 x) { return x.re; } };
template <class A> struct Convert<c64, A> {
    static DEVICE c64 from(A x) { c64 y = {float(x), 0.0f}; return y; }
};
template <> struct Convert<c64, float> {
    static DEVICE c64 from(float x) { c64 y = {x, 0.0f}; return y; }
};
template <> struct Convert<c64, double> {
    static DEVICE c64 from(double x) { c64 y = {float(x), 0.0f}; return y; }
};
template <> struct Convert<c64, c64> { static DEVICE c64 from(c64 x) { return x; } };
template <class B, class A> DEVICE B convert(A x) { return Convert<B, A>::from(x); }

template <class A> DEVICE u8 truth(A x) { return x != A(0); }
DEVICE u8 truth(c64 x) { return x.re != 0.0f || x.im != 0.0f; }

// `x` as a float that a later rounding to fewer bits rounds as it would round `x`: where float cannot
// hold `x`, the neighbour toward zero with an odd last bit.
DEVICE float round_to_odd(double x) {
    float nearest = float(x);
    double back = double(nearest);
    u32 bits = __float_as_uint(nearest);
    if (back == x || x != x) return nearest;
    return __uint_as_float((fabs(back) > fabs(x) ? bits - 1 : bits) | 1);
}
DEVICE float round_to_odd(u64 x) {
    u64 coarse = (x & ~u64(0x7ff)) | (u64((x & 0x7ff) != 0) << 11);
    return round_to_odd(double(x >> 53 == 0 ? x : coarse));
}
DEVICE float round_to_odd(i64 x) {
    float y = round_to_odd(x < 0 ? u64(0) - u64(x) : u64(x));
    return x < 0 ? -y : y;
}
DEVICE float round_to_odd(u32 x) { return round_to_odd(double(x)); }
DEVICE float round_to_odd(i32 x) { return round_to_odd(double(x)); }
DEVICE float round_to_odd(c64 x) { return x.re; }
template <class A> DEVICE float round_to_odd(A x) { return float(x); }

// From one storage type to the wide type of another, as a cast does.
template <class B, class A> struct Cast {
    static DEVICE Wide<B> from(A x) { return convert<Wide<B>>(widen(x)); }
};
template <class A> struct Cast<f16, A> {
    static DEVICE float from(A x) { return round_to_odd(widen(x)); }
};
template <class A> struct Cast<bf16, A> {
    static DEVICE float from(A x) { return round_to_odd(widen(x)); }
};

// ---- memory ----

// `N` neighbours that are read or written together.
template <class T, int N> struct alignas(sizeof(T) * N < 16 ? sizeof(T) * N : 16) Vec { T v[N]; };

// `n / d` for numbers below 2^31, with `mul` and `shift` prepared by the host.
DEVICE u32 divide(u32 n, u32 mul, u32 shift) { return (__umulhi(n, mul) + n) >> shift; }

// Axes to walk: strides of N operands, sizes, and what divides by them.
template <int N, int R> struct Walk {
    i64 stride[N][R];
    u32 size[R], mul[R], shift[R];

    // Where position `i` (row-major, below 2^31) lies in each operand.
    DEVICE void at(u32 i, i64 (&offset)[N]) const {
#pragma unroll
        for (int o = 0; o < N; ++o) offset[o] = 0;
#pragma unroll
        for (int a = R - 1; a >= 0; --a) {
            u32 c = i;
            if (a > 0) {
                u32 q = divide(i, mul[a], shift[a]);
                c = i - q * size[a];
                i = q;
            }
#pragma unroll
            for (int o = 0; o < N; ++o) offset[o] += i64(c) * stride[o][a];
        }
    }
};

// An integer of any dtype, by its code (the place in the list of dtypes).
DEVICE i64 read_int(const void *p, i64 at, int code) {
    switch (code) {
        case 0: case 1: return ((const u8 *)p)[at];
        case 2: return ((const u16 *)p)[at];
        case 3: return ((const u32 *)p)[at];
        case 4: return i64(((const u64 *)p)[at]);
        case 5: return ((const i8 *)p)[at];
        case 6: return ((const i16 *)p)[at];
        case 7: return ((const i32 *)p)[at];
        default: return ((const i64 *)p)[at];
    }
}

// What a kernel reports when it meets an index out of bounds: the first one to come is kept.
struct Fault { u32 code; u32 op; i64 index; u32 axis; u32 block; u64 size; };

DEVICE void report(Fault *fault, u32 op, i64 index, u32 axis, u32 block, u64 size) {
    if (atomicCAS_system(&fault->code, 0u, 1u) == 0u) {
        fault->op = op;
        fault->index = index;
        fault->axis = axis;
        fault->block = block;
        fault->size = size;
        __threadfence_system();
    }
}

// ---- groups of threads ----

template <class T> DEVICE T shuffle_xor(T x, int mask) {
    return __shfl_xor_sync(0xffffffffu, x, mask);
}
template <class T> DEVICE T shuffle_up(T x, int delta) {
    return __shfl_up_sync(0xffffffffu, x, delta);
}
template <> DEVICE c64 shuffle_xor(c64 x, int mask) {
    x.re = __shfl_xor_sync(0xffffffffu, x.re, mask);
    x.im = __shfl_xor_sync(0xffffffffu, x.im, mask);
    return x;
}
template <> DEVICE c64 shuffle_up(c64 x, int delta) {
    x.re = __shfl_up_sync(0xffffffffu, x.re, delta);
    x.im = __shfl_up_sync(0xffffffffu, x.im, delta);
    return x;
}
template <> DEVICE u8 shuffle_xor(u8 x, int mask) { return u8(__shfl_xor_sync(0xffffffffu, u32(x), mask)); }
template <> DEVICE i8 shuffle_xor(i8 x, int mask) { return i8(__shfl_xor_sync(0xffffffffu, i32(x), mask)); }
template <> DEVICE u16 shuffle_xor(u16 x, int mask) { return u16(__shfl_xor_sync(0xffffffffu, u32(x), mask)); }
template <> DEVICE i16 shuffle_xor(i16 x, int mask) { return i16(__shfl_xor_sync(0xffffffffu, i32(x), mask)); }
template <> DEVICE u8 shuffle_up(u8 x, int delta) { return u8(__shfl_up_sync(0xffffffffu, u32(x), delta)); }
template <> DEVICE i8 shuffle_up(i8 x, int delta) { return i8(__shfl_up_sync(0xffffffffu, i32(x), delta)); }
template <> DEVICE u16 shuffle_up(u16 x, int delta) { return u16(__shfl_up_sync(0xffffffffu, u32(x), delta)); }
template <> DEVICE i16 shuffle_up(i16 x, int delta) { return i16(__shfl_up_sync(0xffffffffu, i32(x), delta)); }
