// Tensor cores and asynchronous copies, one function an instruction, so that sources hold no assembly.
//
// A warp's 32 lanes hold a matrix in pieces. Below, g = lane / 4 and t = lane % 4; a register of 32 bits holds two
// numbers of 16, the first in its lower half. The layouts are those of the PTX ISA, "Warp-level matrix instructions":
//
//   a, 16 x 16: a[0] = (g, 2t), (g, 2t+1)   a[1] = row g+8   a[2] = columns 2t+8, 2t+9   a[3] = both
//   b, 16 x 8:  b[0] = (2t, g), (2t+1, g)   b[1] = rows 2t+8, 2t+9        b, 32 x 8: and so on by eights to b[3]
//   d, 16 x 8:  d[0], d[1] = (g, 2t), (g, 2t+1)   d[2], d[3] = row g+8
//
// Numbers of 16 bits are handled as their bits; Bfloat16 and Float16 name what these mean.
#ifndef SPARSEMARK_TENSOR_CORE
#define SPARSEMARK_TENSOR_CORE

#include <cuda_bf16.h>
#include <cuda_fp16.h>

struct Bfloat16 {
  static constexpr bool brain = true;
};
struct Float16 {
  static constexpr bool brain = false;
};

// The bits of the nearest number of 16 bits.
template <class Number>
__device__ __forceinline__ unsigned short rounded(float value) {
  if constexpr (Number::brain)
    return __bfloat16_as_ushort(__float2bfloat16_rn(value));
  else
    return __half_as_ushort(__float2half_rn(value));
}

// The number that 16 bits mean.
template <class Number>
__device__ __forceinline__ float widened(unsigned short bits) {
  if constexpr (Number::brain)
    return __uint_as_float(unsigned(bits) << 16);
  else
    return __half2float(__ushort_as_half(bits));
}

__device__ __forceinline__ unsigned shared_address(const void* at) {
  return static_cast<unsigned>(__cvta_generic_to_shared(at));
}

// Starts to copy 16 bytes into shared memory, past L1; both addresses are multiples of 16. Unless `there`, zeros land.
__device__ __forceinline__ void cp_async_16(void* to, const void* from, bool there = true) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(shared_address(to)), "l"(from),
               "r"(there ? 16 : 0)
               : "memory");
}

// Stores 16 bytes in shared memory at once, at a multiple of 16.
__device__ __forceinline__ void st_shared_16(void* to, uint4 four) { *reinterpret_cast<uint4*>(to) = four; }

// Closes this thread's group of copies, which may be empty.
__device__ __forceinline__ void cp_async_commit() { asm volatile("cp.async.commit_group;\n" ::: "memory"); }

// Waits until at most `Pending` of this thread's latest groups have not landed. Others see them after a barrier.
template <int Pending>
__device__ __forceinline__ void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;\n" ::"n"(Pending) : "memory");
}

// Two 8 x 8 matrices of 16 bits, transposed: lanes 0 to 7 say where the rows of the first are, 8 to 15 of the second.
// Register i has (2t, g) and (2t+1, g) of matrix i: with rows of `b` in shared memory, what mma takes as b[i].
__device__ __forceinline__ void ldmatrix_x2_trans(unsigned (&made)[2], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];\n"
               : "=r"(made[0]), "=r"(made[1])
               : "r"(shared_address(row))
               : "memory");
}

// The same of four matrices, whose rows all 32 lanes say.
__device__ __forceinline__ void ldmatrix_x4_trans(unsigned (&made)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(made[0]), "=r"(made[1]), "=r"(made[2]), "=r"(made[3])
               : "r"(shared_address(row))
               : "memory");
}

// d += a b, of 16 x 16 by 16 x 8, summed in float32.
template <class Number>
__device__ __forceinline__ void mma_m16n8k16(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
#define SPARSEMARK_OPERANDS \
  ".f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};\n" \
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) \
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1)
  if constexpr (Number::brain)
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16" SPARSEMARK_OPERANDS);
  else
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16" SPARSEMARK_OPERANDS);
#undef SPARSEMARK_OPERANDS
}

// d += a b, of 16 x 32 by 32 x 8, where `a` keeps two of every four along a row, held as a 16 x 16 matrix is.
// Which two, two bits say for each, ascending, and 8 such pairs a row. Lanes with t = 2 Pair have them of columns 0 to
// 15, those with t = 2 Pair + 1 of columns 16 to 31: of row g in the lower half of `kept`, of row g+8 in the upper.
template <class Number, int Pair>
__device__ __forceinline__ void mma_sp_m16n8k32(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[4],
                                                unsigned kept) {
  static_assert(Pair == 0 || Pair == 1, "a quad has two pairs of lanes");
#if __CUDACC_VER_MAJOR__ > 12 || (__CUDACC_VER_MAJOR__ == 12 && __CUDACC_VER_MINOR__ >= 5)
#define SPARSEMARK_SPARSE "mma.sp::ordered_metadata.sync.aligned.m16n8k32.row.col.f32."
#else
#define SPARSEMARK_SPARSE "mma.sp.sync.aligned.m16n8k32.row.col.f32."
#endif
#define SPARSEMARK_OPERANDS \
  ".f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9, %10, %11}, {%0, %1, %2, %3}, %12, %13;\n" \
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) \
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "r"(b[2]), "r"(b[3]), "r"(kept), "n"(Pair)
  if constexpr (Number::brain)
    asm volatile(SPARSEMARK_SPARSE "bf16.bf16" SPARSEMARK_OPERANDS);
  else
    asm volatile(SPARSEMARK_SPARSE "f16.f16" SPARSEMARK_OPERANDS);
#undef SPARSEMARK_SPARSE
#undef SPARSEMARK_OPERANDS
}

#endif
