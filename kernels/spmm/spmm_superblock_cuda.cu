// Panels of 128 or 64 rows times rows of `b`, by warpgroups that multiply 64 rows each from shared memory.
//
// A block of the grid stays for a list of units, a unit being a piece of a panel and a tile of the answer's columns. A
// step takes four blocks of a unit, 64 columns of the panel. Copies run two steps ahead of multiplication, over the ends
// of units too, so that storing one unit's answer hides what fetching the next one takes. They swizzle as they go: values
// lie in memory as blocks do, and rows of `b` are gathered from wherever they are.
#include "warpgroup.cuh"
#include "swizzle.cuh"
#include "gather.cuh"

constexpr int DEEP = 16;             // columns of a block, and what wgmma takes at once
constexpr int EACH = LINE / DEEP;    // blocks of a step: with them a line of values is full
constexpr int GROUP = 128, SIDE = 64;  // threads of a warpgroup, and rows that it multiplies
constexpr int STAGES = 4;
constexpr int AHEAD = STAGES - 2;  // steps: one stage is multiplied from, the one before may still be

extern __shared__ __align__(1024) unsigned char shared[];

// Where a list is: which unit, what is left of its blocks, and the first column of its tile.
struct Place {
  int unit, block, last, left;
};

// units: x an item, y the first column of a tile; those from starts[i] to starts[i + 1] are block i's of the grid.
// items: x a panel, y and z its first block and the end, w the place of its sums in `partial`, or -1.
// values: [blocks, High, DEEP]. sources: [blocks, DEEP], the row of `b` for each column of a block, -1 for none.
// targets: the row of the answer for each row of each panel, -1 for none.
template <class Number, int High, int Columns, bool Whole>
__device__ __forceinline__ void product(const int2* units, const int* starts, const int4* items,
                                        const unsigned short* values, const int* sources, const int* targets,
                                        const unsigned short* b, unsigned short* out, float* partial, int n) {
  constexpr int THREADS = High / SIDE * GROUP, STEP = EACH * DEEP, WIDE = Columns / 8, CHUNKS = Columns / CHUNK;
  constexpr int SLAB = STEP * LINE, STAGE = High * LINE + Columns / LINE * SLAB;  // numbers; SLAB: 64 columns of `b`
  constexpr int OF_A = High * EACH * DEEP / CHUNK / THREADS, OF_B = STEP * CHUNKS / THREADS;  // chunks of a thread
  static_assert(OF_B * THREADS == STEP * CHUNKS, "every thread copies as much");
  unsigned short* const stages = reinterpret_cast<unsigned short*>(shared);
  const int thread = threadIdx.x, group = thread / GROUP, end = starts[blockIdx.x + 1];

  const auto begin = [&](int unit) -> Place {
    if (unit >= end) return {unit, 0, 0, 0};
    const int2 what = units[unit];
    const int4 item = items[what.x];
    return {unit, item.y, item.z, what.y};
  };
  Place coming = begin(starts[blockIdx.x]);  // the step to be copied next
  int rows[OF_B];                            // of `b`, that this thread copies then
  const auto look = [&] {
#pragma unroll
    for (int at = 0; at < OF_B; ++at) {
      const int row = (thread + at * THREADS) / CHUNKS, block = coming.block + row / DEEP;
      rows[at] = block < coming.last ? sources[(long long)block * DEEP + row % DEEP] : -1;
    }
  };
  const auto copy = [&](int step) {
    unsigned short* const stage = stages + step % STAGES * STAGE;
#pragma unroll
    for (int at = 0; at < OF_A; ++at) {
      const int row = (thread + at * THREADS) / 8, chunk = thread % 8, block = coming.block + chunk / 2;
      if (block < coming.last)
        cp_async_16(stage + swizzled(row, chunk), values + ((long long)block * High + row) * DEEP + chunk % 2 * CHUNK);
    }
#pragma unroll
    for (int at = 0; at < OF_B; ++at) {
      const int row = (thread + at * THREADS) / CHUNKS, chunk = (thread + at * THREADS) % CHUNKS;
      if (coming.block + row / DEEP < coming.last)
        fetch<Whole>(stage + High * LINE + chunk / 8 * SLAB + swizzled(row, chunk % 8), b, rows[at],
                     coming.left + chunk * CHUNK, n);
    }
    cp_async_commit();
    coming.block += EACH;
    if (coming.block >= coming.last) coming = begin(coming.unit + 1);
    look();
  };

  Place here = coming;  // the step to be multiplied next
  look();
#pragma unroll
  for (int step = 0; step < AHEAD; ++step) copy(step);
  for (int step = 0; here.unit < end; here = begin(here.unit + 1)) {
    float sums[WIDE][4] = {};
    do {
      cp_async_wait<AHEAD - 1>();
      fence_proxy_async();
      __syncthreads();  // this step's copies are there for all, and nobody multiplies from the last but one any more
      const unsigned stage = shared_address(stages + step % STAGES * STAGE);
      const unsigned left_side = stage + group * SIDE * LINE * 2, right_side = stage + High * LINE * 2;
      wgmma_fence();
#pragma unroll
      for (int each = 0; each < EACH; ++each)
        if (here.block + each < here.last)
          wgmma_k16<Number>(sums, descriptor(left_side + each * DEEP * 2, 16, EIGHT_LINES),
                            descriptor(right_side + each * DEEP * LINE * 2, SLAB * 2, EIGHT_LINES));
      wgmma_commit();
      copy(step++ + AHEAD);
      wgmma_wait<1>();
    } while ((here.block += EACH) < here.last);
    wgmma_wait_all(sums);

    const int4 item = items[units[here.unit].x];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = thread / 32 * 16 + thread % 32 / 4 + 8 * half, target = targets[(long long)item.x * High + row];
      if (target < 0) continue;
#pragma unroll
      for (int wide = 0; wide < WIDE; ++wide)
        settle<Number, Whole>(out, target, partial, item.w, High, row, here.left + wide * 8 + thread % 4 * 2, n,
                              sums[wide][2 * half], sums[wide][2 * half + 1]);
    }
  }
}

#define SPMM(NAME, NUMBER, HIGH, COLUMNS, KIND, WHOLE) \
  extern "C" __global__ void __launch_bounds__(HIGH / SIDE * GROUP, 1) spmm_##NAME##_##HIGH##x##COLUMNS##KIND( \
      const int2* units, const int* starts, const int4* items, const unsigned short* values, const int* sources, \
      const int* targets, const unsigned short* b, unsigned short* out, float* partial, int n) { \
    product<NUMBER, HIGH, COLUMNS, WHOLE>(units, starts, items, values, sources, targets, b, out, partial, n); \
  }

#define EITHER(NAME, NUMBER, HIGH, COLUMNS) \
  SPMM(NAME, NUMBER, HIGH, COLUMNS, , true) \
  SPMM(NAME, NUMBER, HIGH, COLUMNS, _ragged, false)

#define EVERY(NAME, NUMBER) \
  EITHER(NAME, NUMBER, 64, 64) \
  EITHER(NAME, NUMBER, 64, 128) \
  EITHER(NAME, NUMBER, 128, 64) \
  EITHER(NAME, NUMBER, 128, 128) \
  EITHER(NAME, NUMBER, 128, 256) \
  GATHER(NAME, NUMBER)

EVERY(bfloat16, Bfloat16)
EVERY(float16, Float16)
