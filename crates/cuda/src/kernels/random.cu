// Threefry-2x32 with 20 rounds, in the counter layout of JAX and MLX.

DEVICE void threefry(u32 k0, u32 k1, u32 &x, u32 &y) {
    const int R[8] = {13, 15, 26, 6, 17, 29, 16, 24};
    u32 k[3] = {k0, k1, k0 ^ k1 ^ 0x1bd11bdau};
    x += k[0];
    y += k[1];
#pragma unroll
    for (int g = 0; g < 5; ++g) {
#pragma unroll
        for (int r = 0; r < 4; ++r) {
            x += y;
            y = __funnelshift_l(y, y, R[g % 2 * 4 + r]) ^ x;
        }
        x += k[(g + 1) % 3];
        y += k[(g + 2) % 3] + u32(g + 1);
    }
}

// Writes the part of a little-endian word that lies within `bytes`.
DEVICE void put(u8 *out, u64 bytes, u64 word, u32 value) {
    u64 at = word * 4;
    if (at + 4 <= bytes && (u64(out) & 3) == 0) {
        *(u32 *)(out + at) = value;
        return;
    }
    for (int b = 0; b < 4 && at + b < bytes; ++b) out[at + b] = u8(value >> (8 * b));
}

#ifdef ENTRY_bits
// Counter `i` of a key gives words `i` and `second + i` of its stream; the middle word of an odd
// number of words comes from the counter (h, 0).
KERNEL __launch_bounds__(256) bits(u8 *out, const u32 *keys, u64 bytes, u64 counters, u64 total) {
    BEGIN;
    for (u64 t = u64(blockIdx.x) * 256 + threadIdx.x; t < total; t += u64(gridDim.x) * 256) {
        u64 key = total >> 32 == 0 ? u32(t) / u32(counters) : t / counters, i = t - key * counters;
        u64 words = (bytes + 3) / 4, half = words / 2, second = half + words % 2;
        u32 x = u32(i), y = i < half ? u32(second + i) : 0u;
        threefry(keys[2 * key], keys[2 * key + 1], x, y);
        u8 *mine = out + key * bytes;
        put(mine, bytes, i, x);
        if (i < half) put(mine, bytes, second + i, y);
    }
}
#endif
