// Vectors of eight rows times rows of `b` on tensor cores, with the operands swapped: the answer's transpose is computed,
// for there the sparse side is the narrow one, of eight. Sixteen vectors are operand `b` of mma, and rows of `b`, which
// are transposed as they are loaded, operand `a`.
#include "blocks.cuh"

constexpr int HIGH = 8, VALUES = HIGH * DEEP;

// items: x a window, y and z its first sixteen and the end, w the place of its sums in `partial`, or -1.
// values: [sixteens, lanes, 4]. targets: the row of the answer for each row of each window, -1 for none.
template <class Number, int Across, int Wide, bool Whole>
__device__ __forceinline__ void product(const int4* items, const unsigned short* values, const int* sources,
                                        const int* targets, const unsigned short* b, unsigned short* out,
                                        float* partial, int n) {
  constexpr int TURNS = WARPS / Across, COLUMNS = 16 * Wide * Across, PITCH = STRIDE<COLUMNS>;
  const int lane = threadIdx.x % WARP, across = threadIdx.x / WARP % Across, turn = threadIdx.x / WARP / Across;
  const int4 item = items[blockIdx.x];
  const int left = blockIdx.y * COLUMNS;

  float sums[Wide][4] = {};
  each_block<VALUES, TURNS, COLUMNS, Whole>(
      item.y, item.z, values, sources, b, left, n, turn, [&](const unsigned short* block, const unsigned short* rows) {
        const uint2 right_side = *reinterpret_cast<const uint2*>(block + lane * 4);
        const unsigned short* const from = rows + (lane % 8 + lane / 16 * 8) * PITCH + lane / 8 % 2 * CHUNK;
#pragma unroll
        for (int wide = 0; wide < Wide; ++wide) {
          unsigned left_side[4];
          ldmatrix_x4_trans(left_side, from + (across * Wide + wide) * 16);
          mma_m16n8k16<Number>(sums[wide], left_side, right_side.x, right_side.y);
        }
      });
  sum_turns<TURNS>(sums, turn, across, Across);
  if (turn > 0) return;

#pragma unroll
  for (int odd = 0; odd < 2; ++odd) {
    const int row = lane % 4 * 2 + odd, target = targets[(long long)item.x * HIGH + row];
    if (target < 0) continue;
#pragma unroll
    for (int wide = 0; wide < Wide; ++wide)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int column = left + (across * Wide + wide) * 16 + half * 8 + lane / 4;
        if (column >= n) continue;
        const float sum = sums[wide][2 * half + odd];
        if (item.w < 0)
          out[(long long)target * n + column] = rounded<Number>(sum);
        else
          partial[((long long)item.w * HIGH + row) * n + column] = sum;
      }
  }
}

#define EVERY(NAME, NUMBER) \
  EITHER(NAME, NUMBER, 16, 1, 1) \
  EITHER(NAME, NUMBER, 32, 2, 1) \
  EITHER(NAME, NUMBER, 64, 2, 2) \
  EITHER(NAME, NUMBER, 128, 4, 2) \
  GATHER(NAME, NUMBER)

EVERY(bfloat16, Bfloat16)
EVERY(float16, Float16)
