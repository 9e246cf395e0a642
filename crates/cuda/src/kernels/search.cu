// How many elements of ascending rows come before each of some values, by the keys that sorting uses.

#ifdef ENTRY_search
// A thread a value. Rows are `row_stride` apart; value (r, i) is at r * value_row + i * value_step.
KERNEL __launch_bounds__(256) search(const T *sorted, const T *values, u32 *out, u64 count, u32 n, u32 per_row,
                                     i64 row_stride, i64 step, i64 value_row, i64 value_step) {
    BEGIN;
    u64 t = u64(blockIdx.x) * 256 + threadIdx.x;
    if (t >= count) return;
    u64 r = t / per_row;
    K value = key_of(values[i64(r) * value_row + i64(t - r * per_row) * value_step]);
    const T *row = sorted + i64(r) * row_stride;
    u32 base = 0, size = n;
    while (size > 0) {
        u32 half = size / 2;
        K key = key_of(row[i64(base + half) * step]);
        bool first = key < value || (RIGHT && key == value);
        base = first ? base + half + 1 : base;
        size = first ? size - half - 1 : half;
    }
    out[t] = base;
}
#endif
