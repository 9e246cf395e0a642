// Copies between layouts. UNIT is what moves at once, RANK the number of axes.

#ifdef ENTRY_strided
KERNEL __launch_bounds__(256) strided(UNIT *dst, const UNIT *src, u32 n,
                                      const Walk<2, RANK> w) {
    BEGIN;
    u32 i = blockIdx.x * 256u + threadIdx.x;
    if (i >= n) return;
    i64 at[2]; // in the target, in the source
    w.at(i, at);
    dst[at[0]] = src[at[1]];
}
#endif

#ifdef ENTRY_transposed
// An (m, n) matrix a batch: element (i, j) goes from src[i + j * column] to dst[i * row + j].
KERNEL __launch_bounds__(TILE * 8) transposed(UNIT *dst, const UNIT *src, u32 m, u32 n, u32 across,
                                         u32 tiles, i64 row, i64 column,
                                         const Walk<2, RANK> w) {
    BEGIN;
    __shared__ UNIT tile[TILE][TILE + 4 / sizeof(UNIT) + (sizeof(UNIT) > 4)];
    u32 b = blockIdx.x / tiles, t = blockIdx.x - b * tiles;
    u32 i0 = t / across * TILE, j0 = t % across * TILE;
    i64 at[2];
    w.at(b, at);
    for (u32 y = threadIdx.y; y < TILE; y += 8) {
        u32 i = i0 + threadIdx.x, j = j0 + y;
        if (i < m && j < n) tile[y][threadIdx.x] = src[at[1] + i + j * column];
    }
    __syncthreads();
    for (u32 y = threadIdx.y; y < TILE; y += 8) {
        u32 i = i0 + y, j = j0 + threadIdx.x;
        if (i < m && j < n) dst[at[0] + i * row + j] = tile[threadIdx.x][y];
    }
}
#endif
