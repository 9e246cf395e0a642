// What a user's kernel finds: names of its types, its operands' dimensions, and the number of its thread.

typedef signed char int8_t;
typedef short int16_t;
typedef int int32_t;
typedef long long int64_t;
typedef unsigned char uint8_t;
typedef unsigned short uint16_t;
typedef unsigned int uint32_t;
typedef unsigned long long uint64_t;

// Half types compute in float, and round when a float is assigned.
struct float16_t {
    unsigned short bits;
    float16_t() = default;
    __device__ float16_t(float x) { asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x)); }
    __device__ operator float() const {
        float y;
        asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(bits));
        return y;
    }
};
struct bfloat16_t {
    unsigned short bits;
    bfloat16_t() = default;
    __device__ bfloat16_t(float x) {
        unsigned int u = __float_as_uint(x);
        bits = x != x ? 0x7fc0 : (u + 0x7fff + (u >> 16 & 1)) >> 16;
    }
    __device__ operator float() const { return __uint_as_float((unsigned int)bits << 16); }
};
struct alignas(8) complex64_t { float real, imag; };

// Lengths of an operand's axes, or elements from one index of each to the next.
struct Dims {
    long long at[10];
    __device__ long long operator[](int axis) const { return at[axis]; }
};

// The part of NVIDIA's header of this name that kernels of one element a thread use.
namespace cooperative_groups {
struct grid_group {
    __device__ unsigned long long thread_rank() const {
        unsigned long long block =
            ((unsigned long long)blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
        unsigned int thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
        return block * (blockDim.x * blockDim.y * blockDim.z) + thread;
    }
    __device__ unsigned long long size() const {
        return (unsigned long long)gridDim.x * gridDim.y * gridDim.z *
               (blockDim.x * blockDim.y * blockDim.z);
    }
};
__device__ inline grid_group this_grid() { return {}; }
}
