// Blocks of 16 x 16 times rows of `b` on tensor cores: a block is operand `a` of mma, and lies as its lanes hold it.
#include "blocks.cuh"

constexpr int HIGH = 16, VALUES = HIGH * DEEP;

// items: x a row of blocks, y and z its first block and the end, w the place of its sums in `partial`, or -1.
// values: [blocks, lanes, 8]. targets: the row of the answer for each row of each row of blocks, -1 for none.
template <class Number, int Across, int Wide, bool Whole>
__device__ __forceinline__ void product(const int4* items, const unsigned short* values, const int* sources,
                                        const int* targets, const unsigned short* b, unsigned short* out,
                                        float* partial, int n) {
  constexpr int TURNS = WARPS / Across, COLUMNS = 8 * Wide * Across, PITCH = STRIDE<COLUMNS>;
  const int lane = threadIdx.x % WARP, across = threadIdx.x / WARP % Across, turn = threadIdx.x / WARP / Across;
  const int4 item = items[blockIdx.x];
  const int left = blockIdx.y * COLUMNS;

  float sums[Wide][4] = {};
  each_block<VALUES, TURNS, COLUMNS, Whole>(
      item.y, item.z, values, sources, b, left, n, turn, [&](const unsigned short* block, const unsigned short* rows) {
        const uint4 four = *reinterpret_cast<const uint4*>(block + lane * CHUNK);
        const unsigned left_side[4] = {four.x, four.y, four.z, four.w};
        unsigned right_side[Wide][2];
        fragments<Wide, PITCH>(right_side, rows + across * 8 * Wide, lane);
#pragma unroll
        for (int wide = 0; wide < Wide; ++wide)
          mma_m16n8k16<Number>(sums[wide], left_side, right_side[wide][0], right_side[wide][1]);
      });
  sum_turns<TURNS>(sums, turn, across, Across);
  if (turn > 0) return;

#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = lane / 4 + 8 * half, target = targets[(long long)item.x * HIGH + row];
    if (target < 0) continue;
#pragma unroll
    for (int wide = 0; wide < Wide; ++wide) {
      const int column = left + (across * Wide + wide) * 8 + lane % 4 * 2;
      settle<Number, Whole>(out, target, partial, item.w, HIGH, row, column, n, sums[wide][2 * half],
                            sums[wide][2 * half + 1]);
    }
  }
}

#define EVERY(NAME, NUMBER) \
  EITHER(NAME, NUMBER, 8, 1, 1) \
  EITHER(NAME, NUMBER, 16, 1, 2) \
  EITHER(NAME, NUMBER, 32, 2, 2) \
  EITHER(NAME, NUMBER, 64, 2, 4) \
  EITHER(NAME, NUMBER, 128, 4, 4) \
  GATHER(NAME, NUMBER)

EVERY(bfloat16, Bfloat16)
EVERY(float16, Float16)
