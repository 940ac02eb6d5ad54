// Blocks of some rows by 16 columns of `a`, each with the 16 rows of `b` that it meets, as four warps take them.
//
// The warps share a tile of the answer: the rows of a block, and 8 to 128 columns. Wide tiles are cut into columns for
// the warps, so a block is fetched once for all of them; in narrow ones the warps take turns at the blocks, and sum up
// at the end. Copies run ahead of multiplication by three steps, and the numbers of the rows to copy by one more.
#ifndef SPARSEMARK_BLOCKS
#define SPARSEMARK_BLOCKS

#include "tensor_core.cuh"
#include "fetch.cuh"
#include "gather.cuh"

constexpr int DEEP = 16;  // columns of a block
constexpr int WARP = 32, WARPS = 4, THREADS = WARPS * WARP;
constexpr int STAGES = 4;
constexpr int EACH = 2;  // blocks a warp multiplies in a step

extern __shared__ __align__(16) unsigned char shared[];

// Calls multiply(values of a block, its rows of `b`) for each block from `first` to `last` whose turn it is, both in
// shared memory: `Values` numbers, and 16 rows of Columns numbers, STRIDE<Columns> apart, from column `left` of `b` on.
// sources: the row of `b` for each column of a block, -1 for none. Turns: how many warps take them; turn: which this is.
template <int Values, int Turns, int Columns, bool Whole, class Multiply>
__device__ __forceinline__ void each_block(int first, int last, const unsigned short* values, const int* sources,
                                           const unsigned short* b, int left, int n, int turn, Multiply multiply) {
  constexpr int STEP = Turns * EACH, PITCH = STRIDE<Columns>, CHUNKS = Columns / CHUNK;  // STEP: blocks of a step
  constexpr int MINE = STEP * DEEP * CHUNKS / THREADS, PARTS = Values / CHUNK;
  constexpr int STAGE = STEP * (Values + DEEP * PITCH);  // numbers
  static_assert(MINE * THREADS == STEP * DEEP * CHUNKS, "every thread copies as much");
  unsigned short* const stages = reinterpret_cast<unsigned short*>(shared);
  const int thread = threadIdx.x, steps = (last - first + STEP - 1) / STEP;

  int upcoming[MINE];  // rows of `b` that this thread copies next
  const auto look = [&](int step) {
#pragma unroll
    for (int at = 0; at < MINE; ++at) {
      const int row = (thread + at * THREADS) / CHUNKS, block = first + step * STEP + row / DEEP;
      upcoming[at] = block < last ? sources[(long long)block * DEEP + row % DEEP] : -1;
    }
  };
  const auto copy = [&](int step) {
    unsigned short* const stage = stages + step % STAGES * STAGE;
#pragma unroll
    for (int at = thread; at < STEP * PARTS; at += THREADS) {
      const int block = first + step * STEP + at / PARTS;
      if (block < last) cp_async_16(stage + at * CHUNK, values + (long long)block * Values + at % PARTS * CHUNK);
    }
#pragma unroll
    for (int at = 0; at < MINE; ++at) {
      const int row = (thread + at * THREADS) / CHUNKS, column = (thread + at * THREADS) % CHUNKS * CHUNK;
      if (first + step * STEP + row / DEEP < last)
        fetch<Whole>(stage + STEP * Values + row * PITCH + column, b, upcoming[at], left + column, n);
    }
  };

#pragma unroll
  for (int step = 0; step < STAGES - 1; ++step) {
    look(step);
    copy(step);
    cp_async_commit();
  }
  look(STAGES - 1);
  for (int step = 0; step < steps; ++step) {
    cp_async_wait<STAGES - 2>();
    __syncthreads();  // this step's copies are there for all, and nobody needs the last step's any more
    copy(step + STAGES - 1);
    cp_async_commit();
    look(step + STAGES);
    const unsigned short* const stage = stages + step % STAGES * STAGE;
#pragma unroll
    for (int each = 0; each < EACH; ++each) {
      const int at = each * Turns + turn;
      if (first + step * STEP + at < last) multiply(stage + at * Values, stage + STEP * Values + at * DEEP * PITCH);
    }
  }
}

// Of warps that took turns, the first gets the sums of all. Uses shared memory, which is nobody's any more afterwards.
template <int Turns, int Wide>
__device__ __forceinline__ void sum_turns(float (&sums)[Wide][4], int turn, int slice, int slices) {
  if constexpr (Turns > 1) {
    float4* const others = reinterpret_cast<float4*>(shared);
    const int lane = threadIdx.x % WARP;
    cp_async_wait<0>();
    __syncthreads();
    if (turn > 0) {
#pragma unroll
      for (int wide = 0; wide < Wide; ++wide)
        others[(((turn - 1) * slices + slice) * Wide + wide) * WARP + lane] =
            make_float4(sums[wide][0], sums[wide][1], sums[wide][2], sums[wide][3]);
    }
    __syncthreads();
    if (turn > 0) return;
#pragma unroll
    for (int other = 0; other < Turns - 1; ++other)
#pragma unroll
      for (int wide = 0; wide < Wide; ++wide) {
        const float4 more = others[((other * slices + slice) * Wide + wide) * WARP + lane];
        sums[wide][0] += more.x, sums[wide][1] += more.y, sums[wide][2] += more.z, sums[wide][3] += more.w;
      }
  }
}

#define SPMM(NAME, NUMBER, COLUMNS, ACROSS, WIDE, KIND, WHOLE) \
  extern "C" __global__ void __launch_bounds__(THREADS) spmm_##NAME##_##COLUMNS##KIND( \
      const int4* items, const unsigned short* values, const int* sources, const int* targets, \
      const unsigned short* b, unsigned short* out, float* partial, int n) { \
    product<NUMBER, ACROSS, WIDE, WHOLE>(items, values, sources, targets, b, out, partial, n); \
  }

#define EITHER(NAME, NUMBER, COLUMNS, ACROSS, WIDE) \
  SPMM(NAME, NUMBER, COLUMNS, ACROSS, WIDE, , true) \
  SPMM(NAME, NUMBER, COLUMNS, ACROSS, WIDE, _ragged, false)

#endif
