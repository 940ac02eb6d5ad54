// Rows of blocks that are cut: their pieces leave sums in float32, each in a place of its own, and a second launch adds
// them up. So the order of a sum does not depend on which piece ends first.
#ifndef SPARSEMARK_GATHER
#define SPARSEMARK_GATHER

#include "fetch.cuh"

// Two neighbouring sums of a row of the answer: to the answer, or, of a piece, to its place in `partial`, which is
// [places, high, n]. row: which of the block's `high` rows it is. place: -1 for one that is not cut. Even: n is even.
template <class Number, bool Even>
__device__ __forceinline__ void settle(unsigned short* out, long long target, float* partial, int place, int high,
                                       int row, int column, int n, float first, float second) {
  if (place < 0) {
    store<Number, Even>(out, target, column, n, first, second);
  } else {
    float* const to = partial + ((long long)place * high + row) * n + column;
    if (column < n) to[0] = first;
    if (column + 1 < n) to[1] = second;
  }
}

// The answer's rows whose sums are in several places. splits: x a row of blocks, of which places y to z are.
// targets: the row of the answer for each of the `high` rows of each row of blocks, -1 for none.
template <class Number>
__device__ __forceinline__ void gather(const int4* splits, const int* targets, const float* partial,
                                       unsigned short* out, int n, int high) {
  const int4 split = splits[blockIdx.x];
  const int column = blockIdx.y * blockDim.x + threadIdx.x;
  if (column >= n) return;
  for (int row = 0; row < high; ++row) {
    const int target = targets[(long long)split.x * high + row];
    if (target < 0) continue;
    float sum = 0;
    for (int place = split.y; place < split.z; ++place) sum += partial[((long long)place * high + row) * n + column];
    out[(long long)target * n + column] = rounded<Number>(sum);
  }
}

#define GATHER(NAME, NUMBER) \
  extern "C" __global__ void gather_##NAME(const int4* splits, const int* targets, const float* partial, \
                                           unsigned short* out, int n, int high) { \
    gather<NUMBER>(splits, targets, partial, out, n, high); \
  }

#endif
