// Arrays from no operand.

#define EACH(i, n) for (u64 i = u64(blockIdx.x) * 256 + threadIdx.x; i < n; i += u64(gridDim.x) * 256)

#ifdef ENTRY_fill
KERNEL __launch_bounds__(256) fill(UNIT *dst, u64 bits, u64 n) {
    BEGIN;
    EACH(i, n) dst[i] = UNIT(bits);
}
#endif

// In double precision, rounded once.
#ifdef ENTRY_floats
KERNEL __launch_bounds__(256) floats(T *dst, double start, double step, u64 n) {
    BEGIN;
    EACH(i, n) dst[i] = narrow<T>(Cast<T, double>::from(start + double(i) * step));
}
#endif

#ifdef ENTRY_integers
KERNEL __launch_bounds__(256) integers(T *dst, u64 start, u64 step, u64 n) {
    BEGIN;
    EACH(i, n) dst[i] = T(start + i * step);
}
#endif

#ifdef ENTRY_truths
KERNEL __launch_bounds__(256) truths(T *dst, u64 start, u64 step, u64 n) {
    BEGIN;
    EACH(i, n) dst[i] = T(start + i * step != 0);
}
#endif
