// Tensor cores of sm_90a, which a warpgroup of four warps feeds from shared memory: one function an instruction.
//
// A product is under way from the moment it is issued until it is waited for. Till then nobody writes its operands, and
// its sums are neither read nor written but by more products of the same shape. Operands are read through another proxy
// than other instructions write by; fence_proxy_async stands between.
#ifndef SPARSEMARK_WARPGROUP
#define SPARSEMARK_WARPGROUP

#include "tensor_core.cuh"

// What this thread has written to shared memory, and its copies that it has waited for, tensor cores see from now on.
__device__ __forceinline__ void fence_proxy_async() { asm volatile("fence.proxy.async.shared::cta;\n" ::: "memory"); }

// The warpgroup's next products find in registers what was put there before.
__device__ __forceinline__ void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;\n" ::: "memory"); }

// Closes the warpgroup's group of products, which may be empty.
__device__ __forceinline__ void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;\n" ::: "memory"); }

// Waits until at most `Pending` of the latest groups are under way.
template <int Pending>
__device__ __forceinline__ void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;\n" ::"n"(Pending) : "memory");
}

// Waits for all groups. The compiler is told that the sums change here: it knows nothing of what is under way.
template <int Wide>
__device__ __forceinline__ void wgmma_wait_all(float (&sums)[Wide][4]) {
  wgmma_wait<0>();
#pragma unroll
  for (int wide = 0; wide < Wide; ++wide)
    asm volatile("" : "+f"(sums[wide][0]), "+f"(sums[wide][1]), "+f"(sums[wide][2]), "+f"(sums[wide][3])::"memory");
}

// sums += a b, of 64 x 16 by 16 x 8 Wide, in float32. Descriptors (swizzle.cuh) say where the operands lie, numbers of
// `a` along k and of `b` along its columns. Warp w of the warpgroup has rows 16w on of the sums, eight columns in each
// sums[.], held as mma.m16n8 holds them (tensor_core.cuh).
template <class Number, int Wide>
__device__ __forceinline__ void wgmma_k16(float (&sums)[Wide][4], unsigned long long a, unsigned long long b) {
  static_assert(Wide == 8 || Wide == 16 || Wide == 32, "of the widths there are");
#define SPARSEMARK_32 \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define SPARSEMARK_64 \
  SPARSEMARK_32 \
  ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
  "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define SPARSEMARK_128 \
  SPARSEMARK_64 \
  ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, " \
  "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, " \
  "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, " \
  "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
#define SPARSEMARK_FOUR(AT) "+f"(sums[AT][0]), "+f"(sums[AT][1]), "+f"(sums[AT][2]), "+f"(sums[AT][3])
#define SPARSEMARK_16(AT) SPARSEMARK_FOUR(AT), SPARSEMARK_FOUR(AT + 1), SPARSEMARK_FOUR(AT + 2), SPARSEMARK_FOUR(AT + 3)
#define SPARSEMARK_HALF(AT) SPARSEMARK_16(AT), SPARSEMARK_16(AT + 4), SPARSEMARK_16(AT + 8), SPARSEMARK_16(AT + 12)
// The last words: add to what is there, negate neither side, `a` lies along k, `b` along its columns.
#define SPARSEMARK_WGMMA(COLUMNS, TYPE, REGISTERS, SIDES, ...) \
  asm volatile("{\n.reg .pred add;\nsetp.eq.u32 add, 0, 0;\n" \
               "wgmma.mma_async.sync.aligned.m64n" #COLUMNS "k16.f32." TYPE \
               " {" REGISTERS "}, " SIDES ", add, 1, 1, 0, 1;\n}\n" \
               : __VA_ARGS__ \
               : "l"(a), "l"(b) \
               : "memory")
#define SPARSEMARK_EVERY(TYPE) \
  if constexpr (Wide == 8) \
    SPARSEMARK_WGMMA(64, TYPE, SPARSEMARK_32, "%32, %33", SPARSEMARK_16(0), SPARSEMARK_16(4)); \
  else if constexpr (Wide == 16) \
    SPARSEMARK_WGMMA(128, TYPE, SPARSEMARK_64, "%64, %65", SPARSEMARK_HALF(0)); \
  else \
    SPARSEMARK_WGMMA(256, TYPE, SPARSEMARK_128, "%128, %129", SPARSEMARK_HALF(0), SPARSEMARK_HALF(16))
  if constexpr (Number::brain)
    SPARSEMARK_EVERY("bf16.bf16");
  else
    SPARSEMARK_EVERY("f16.f16");
#undef SPARSEMARK_EVERY
#undef SPARSEMARK_WGMMA
#undef SPARSEMARK_HALF
#undef SPARSEMARK_16
#undef SPARSEMARK_FOUR
#undef SPARSEMARK_128
#undef SPARSEMARK_64
#undef SPARSEMARK_32
}

#endif
