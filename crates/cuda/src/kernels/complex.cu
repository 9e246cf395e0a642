// Functions of complex64. Beyond `+ - *` they are computed in double precision and rounded once, which
// also keeps intermediate squares from overflowing.

struct c128 { double re, im; };
DEVICE c128 wide(c64 z) { c128 w = {z.re, z.im}; return w; }
DEVICE c64 round(c128 w) { c64 z = {float(w.re), float(w.im)}; return z; }
DEVICE c128 complex(double re, double im) { c128 w = {re, im}; return w; }
DEVICE c64 complex(float re, float im) { c64 w = {re, im}; return w; }

DEVICE c128 c_mul(c128 a, c128 b) {
    return complex(a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re);
}
DEVICE c128 c_reciprocal(c128 z) {
    double d = z.re * z.re + z.im * z.im;
    return complex(z.re / d, -z.im / d);
}
DEVICE c128 c_exp(c128 z) {
    if (z.re == -INFINITY64 && !(fabs(z.im) < INFINITY64)) return complex(0.0, 0.0);
    double e = exp(z.re), s, c;
    if (z.im == 0.0) return complex(e, z.im);
    sincos(z.im, &s, &c);
    return complex(e * c, e * s);
}
DEVICE c128 c_log(c128 z) {
    double x = fmax(fabs(z.re), fabs(z.im)), y = fmin(fabs(z.re), fabs(z.im));
    double re = x > 0.5 && x < 2.0 ? 0.5 * log1p((x - 1.0) * (x + 1.0) + y * y) : log(hypot(x, y));
    if (z.re != z.re || z.im != z.im) re = NAN64;
    return complex(re, atan2(z.im, z.re));
}
DEVICE c128 c_log1p(c128 z) {
    if (fabs(z.re) < 0.5 && fabs(z.im) < 0.5) {
        return complex(0.5 * log1p(z.re * (2.0 + z.re) + z.im * z.im), atan2(z.im, 1.0 + z.re));
    }
    return c_log(complex(1.0 + z.re, z.im));
}
DEVICE c128 c_expm1(c128 z) {
    double s, c, half = sin(0.5 * z.im), e = expm1(z.re);
    sincos(z.im, &s, &c);
    return complex(e * c - 2.0 * half * half, (e + 1.0) * s);
}
DEVICE c128 c_sqrt(c128 z) {
    if (z.re == 0.0 && z.im == 0.0) return complex(0.0, z.im);
    double r = hypot(z.re, z.im), t = sqrt(0.5 * (r + fabs(z.re)));
    if (fabs(z.im) == INFINITY64) return complex(INFINITY64, z.im);
    if (z.re >= 0.0) return complex(t, z.im / (2.0 * t));
    return complex(fabs(z.im) / (2.0 * t), copysign(t, z.im));
}
DEVICE c128 c_sin(c128 z) {
    double s, c;
    sincos(z.re, &s, &c);
    return complex(s * cosh(z.im), c * sinh(z.im));
}
DEVICE c128 c_cos(c128 z) {
    double s, c;
    sincos(z.re, &s, &c);
    return complex(c * cosh(z.im), -s * sinh(z.im));
}
DEVICE c128 c_sinh(c128 z) {
    double s, c;
    sincos(z.im, &s, &c);
    return complex(sinh(z.re) * c, cosh(z.re) * s);
}
DEVICE c128 c_cosh(c128 z) {
    double s, c;
    sincos(z.im, &s, &c);
    return complex(cosh(z.re) * c, sinh(z.re) * s);
}
DEVICE c128 c_tanh(c128 z) {
    if (fabs(z.re) > 200.0) {
        double im = fabs(z.im) < INFINITY64 ? copysign(0.0, sin(2.0 * z.im)) : 0.0;
        return complex(copysign(1.0, z.re), im);
    }
    double sh = sinh(z.re), ch = cosh(z.re), s, c;
    sincos(z.im, &s, &c);
    double d = sh * sh + c * c;
    return complex(sh * ch / d, s * c / d);
}
DEVICE c128 c_tan(c128 z) {
    c128 w = c_tanh(complex(-z.im, z.re));
    return complex(w.im, -w.re);
}
DEVICE c128 c_asin(c128 z) {
    c128 a = c_sqrt(complex(1.0 - z.re, -z.im)), b = c_sqrt(complex(1.0 + z.re, z.im));
    return complex(atan2(z.re, a.re * b.re - a.im * b.im), asinh(a.re * b.im - a.im * b.re));
}
DEVICE c128 c_acos(c128 z) {
    c128 a = c_sqrt(complex(1.0 - z.re, -z.im)), b = c_sqrt(complex(1.0 + z.re, z.im));
    return complex(2.0 * atan2(a.re, b.re), asinh(b.re * a.im - b.im * a.re));
}
DEVICE c128 c_asinh(c128 z) {
    c128 w = c_asin(complex(-z.im, z.re));
    return complex(w.im, -w.re);
}
DEVICE c128 c_acosh(c128 z) {
    c128 a = c_sqrt(complex(z.re - 1.0, z.im)), b = c_sqrt(complex(z.re + 1.0, z.im));
    return complex(asinh(a.re * b.re + a.im * b.im), 2.0 * atan2(a.im, b.re));
}
DEVICE c128 c_atanh(c128 z) {
    double x = z.re, y = z.im, d = (1.0 - x) * (1.0 - x) + y * y;
    return complex(0.25 * log1p(4.0 * x / d), 0.5 * atan2(2.0 * y, (1.0 - x) * (1.0 + x) - y * y));
}
DEVICE c128 c_atan(c128 z) {
    double x = z.re, y = z.im, d = (1.0 + y) * (1.0 + y) + x * x;
    return complex(0.5 * atan2(2.0 * x, (1.0 - y) * (1.0 + y) - x * x), -0.25 * log1p(-4.0 * y / d));
}

DEVICE float u_abs(c64 z) {
    double re = z.re, im = z.im;
    if (fabsf(z.re) == INFINITY32 || fabsf(z.im) == INFINITY32) return INFINITY32;
    return float(sqrt(re * re + im * im));
}
DEVICE c64 u_sign(c64 z) {
    double re = z.re, im = z.im, r = sqrt(re * re + im * im);
    r = r == 0.0 ? 1.0 : r;
    return complex(float(re / r), float(im / r));
}
DEVICE c64 o_add(c64 a, c64 b) { return complex(a.re + b.re, a.im + b.im); }
DEVICE c64 o_subtract(c64 a, c64 b) { return complex(a.re - b.re, a.im - b.im); }
DEVICE c64 o_multiply(c64 a, c64 b) {
    return complex(a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re);
}
DEVICE c64 o_divide(c64 a, c64 b) {
    double ar = a.re, ai = a.im, br = b.re, bi = b.im, d = br * br + bi * bi;
    return complex(float((ar * br + ai * bi) / d), float((ai * br - ar * bi) / d));
}
DEVICE u8 o_equal(c64 a, c64 b) { return a.re == b.re && a.im == b.im; }
DEVICE u8 o_not_equal(c64 a, c64 b) { return a.re != b.re || a.im != b.im; }
DEVICE c64 o_power(c64 a, c64 b) {
    if (b.re == 0.0f && b.im == 0.0f) return complex(1.0f, 0.0f);
    if (a.re == 0.0f && a.im == 0.0f && b.re > 0.0f) return complex(0.0f, 0.0f);
    // Small whole exponents by products: exact where the result is.
    if (b.im == 0.0f && b.re == truncf(b.re) && fabsf(b.re) <= 64.0f) {
        c128 base = b.re < 0.0f ? c_reciprocal(wide(a)) : wide(a), result = complex(1.0, 0.0);
        for (int e = int(fabsf(b.re)); e > 0; e >>= 1) {
            if (e & 1) result = c_mul(result, base);
            base = c_mul(base, base);
        }
        return round(result);
    }
    return round(c_exp(c_mul(wide(b), c_log(wide(a)))));
}
DEVICE c64 u_negative(c64 z) { return complex(-z.re, -z.im); }
DEVICE c64 u_square(c64 z) { return o_multiply(z, z); }
DEVICE c64 u_sqrt(c64 z) { return round(c_sqrt(wide(z))); }
DEVICE c64 u_rsqrt(c64 z) { return round(c_reciprocal(c_sqrt(wide(z)))); }
DEVICE c64 u_reciprocal(c64 z) { return round(c_reciprocal(wide(z))); }
DEVICE c64 u_exp(c64 z) { return round(c_exp(wide(z))); }
DEVICE c64 u_expm1(c64 z) { return round(c_expm1(wide(z))); }
DEVICE c64 u_log(c64 z) { return round(c_log(wide(z))); }
DEVICE c64 u_log2(c64 z) {
    c128 w = c_log(wide(z));
    return round(complex(w.re / 0.693147180559945309417, w.im / 0.693147180559945309417));
}
DEVICE c64 u_log10(c64 z) {
    c128 w = c_log(wide(z));
    return round(complex(w.re / 2.302585092994045684018, w.im / 2.302585092994045684018));
}
DEVICE c64 u_log1p(c64 z) { return round(c_log1p(wide(z))); }
DEVICE c64 u_sin(c64 z) { return round(c_sin(wide(z))); }
DEVICE c64 u_cos(c64 z) { return round(c_cos(wide(z))); }
DEVICE c64 u_tan(c64 z) { return round(c_tan(wide(z))); }
DEVICE c64 u_asin(c64 z) { return round(c_asin(wide(z))); }
DEVICE c64 u_acos(c64 z) { return round(c_acos(wide(z))); }
DEVICE c64 u_atan(c64 z) { return round(c_atan(wide(z))); }
DEVICE c64 u_sinh(c64 z) { return round(c_sinh(wide(z))); }
DEVICE c64 u_cosh(c64 z) { return round(c_cosh(wide(z))); }
DEVICE c64 u_tanh(c64 z) { return round(c_tanh(wide(z))); }
DEVICE c64 u_asinh(c64 z) { return round(c_asinh(wide(z))); }
DEVICE c64 u_acosh(c64 z) { return round(c_acosh(wide(z))); }
DEVICE c64 u_atanh(c64 z) { return round(c_atanh(wide(z))); }
DEVICE c64 u_sigmoid(c64 z) {
    c128 e = c_exp(complex(-double(z.re), -double(z.im)));
    return round(c_reciprocal(complex(1.0 + e.re, e.im)));
}
DEVICE c64 u_round(c64 z) { return complex(rintf(z.re), rintf(z.im)); }
DEVICE u8 u_isnan(c64 z) { return z.re != z.re || z.im != z.im; }
DEVICE u8 u_isinf(c64 z) { return fabsf(z.re) == INFINITY32 || fabsf(z.im) == INFINITY32; }
DEVICE u8 u_isfinite(c64 z) { return fabsf(z.re) < INFINITY32 && fabsf(z.im) < INFINITY32; }
DEVICE float u_real(c64 z) { return z.re; }
DEVICE float u_imag(c64 z) { return z.im; }
DEVICE c64 u_conj(c64 z) { return complex(z.re, -z.im); }
