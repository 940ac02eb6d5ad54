// A bitmap and packed values, spread into the registers of tensor cores, times at most 64 columns.
//
// A block has four warps, each with 16 rows of its own, and all share a tile of 64 rows of `b`. An 8 x 8 tile of bits,
// row by row, is in the order in which lanes hold a quarter of a 16 x 16 fragment: lane l has bits 2l and 2l + 1. So it
// finds its values by counting the bits below. Bits, values and rows of `b` are copied three steps ahead; room for
// values is what a full matrix needs, so any density is right.
#include "tensor_core.cuh"
#include "fetch.cuh"

constexpr int WARP = 32, WARPS = 4, THREADS = WARPS * WARP, ROWS = 16;
constexpr int DEEP = 64, TILES = DEEP / 8;  // columns, and tiles across, that a step takes
constexpr int WORDS = 2 * TILES;            // of bits, for the upper and the lower eight rows of a warp
constexpr int ROOM = 8 * DEEP + CHUNK;      // values of eight rows, and some before, as copies are aligned
constexpr int STAGES = 4;

using Word = unsigned long long;

extern __shared__ __align__(16) unsigned char shared[];

// words: [groups of 16 rows, steps, halves, tiles]. bounds: [groups, steps + 1], where the values of the upper (x) and
// of the lower eight rows (y) begin. Block (x, y) takes rows 64 x on and the y-th share of the steps; with more than one
// share its sums go to place y of partial, float [shares, m, n], else to `out`.
template <class Number, int Wide, bool Whole>
__device__ __forceinline__ void product(const Word* words, const int2* bounds, const unsigned short* values,
                                        const unsigned short* b, unsigned short* out, float* partial, int m, int k,
                                        int n, int steps) {
  constexpr int COLUMNS = 8 * Wide, CHUNKS = COLUMNS / CHUNK, PITCH = STRIDE<COLUMNS>;
  constexpr int HELD = WORDS * sizeof(Word) / 2 + 2 * ROOM;  // numbers, of a warp
  constexpr int STAGE = WARPS * HELD + DEEP * PITCH;         // numbers
  unsigned short* const stages = reinterpret_cast<unsigned short*>(shared);
  const int thread = threadIdx.x, lane = thread % WARP, warp = thread / WARP;
  const int group = blockIdx.x * WARPS + warp;
  const bool some = group * ROWS < m;
  const int first = (long long)blockIdx.y * steps / gridDim.y, last = (long long)(blockIdx.y + 1) * steps / gridDim.y;

  const int2* const begins = bounds + (long long)group * (steps + 1);
  int2 from = {}, to = {};  // values that this warp copies next
  if (some) from = begins[first], to = begins[min(first + 1, last)];
  const auto copy = [&](int step) {
    if (step >= last) return;
    unsigned short* const stage = stages + (step - first) % STAGES * STAGE;
    if (some) {
      unsigned short* const own = stage + warp * HELD;
      if (lane < WORDS / 2)
        cp_async_16(own + lane * CHUNK, words + ((long long)group * steps + step) * WORDS + lane * 2);
      unsigned short* const upper = own + WORDS * sizeof(Word) / 2;
      unsigned short* const lower = upper + ROOM;
      const int top = from.x / CHUNK, bottom = from.y / CHUNK;
      for (int at = lane; (top + at) * CHUNK < to.x; at += WARP)
        cp_async_16(upper + at * CHUNK, values + (long long)(top + at) * CHUNK);
      for (int at = lane; (bottom + at) * CHUNK < to.y; at += WARP)
        cp_async_16(lower + at * CHUNK, values + (long long)(bottom + at) * CHUNK);
      from = to, to = begins[min(step + 2, last)];
    }
    unsigned short* const rows = stage + WARPS * HELD;
    for (int at = thread; at < DEEP * CHUNKS; at += THREADS) {
      const int row = at / CHUNKS, column = at % CHUNKS * CHUNK, source = step * DEEP + row;
      fetch<Whole>(rows + row * PITCH + column, b, source < k ? source : -1, column, n);
    }
  };

  float sums[Wide][4] = {};
  int2 here = from;  // values that this warp multiplies next
  for (int step = first; step < first + STAGES - 1; ++step) {
    copy(step);
    cp_async_commit();
  }
  for (int step = first; step < last; ++step) {
    cp_async_wait<STAGES - 2>();
    __syncthreads();  // this step's copies are there for all, and nobody needs the last step's any more
    copy(step + STAGES - 1);
    cp_async_commit();
    if (!some) continue;
    const unsigned short* const stage = stages + (step - first) % STAGES * STAGE;
    const Word* const bits = reinterpret_cast<const Word*>(stage + warp * HELD);
    const unsigned short* const rows = stage + WARPS * HELD;
    const unsigned short* packed[2];  // the next values of the upper and of the lower rows
    packed[0] = stage + warp * HELD + WORDS * sizeof(Word) / 2 + here.x % CHUNK;
    packed[1] = stage + warp * HELD + WORDS * sizeof(Word) / 2 + ROOM + here.y % CHUNK;
#pragma unroll
    for (int block = 0; block < TILES / 2; ++block) {
      unsigned spread[4];
#pragma unroll
      for (int part = 0; part < 4; ++part) {
        const int half = part % 2;
        const Word word = bits[half * TILES + 2 * block + part / 2];
        const unsigned own = word >> 2 * lane & 3;
        const unsigned short* const at = packed[half] + __popcll(word & ((Word(1) << 2 * lane) - 1));
        const unsigned low = own & 1 ? at[0] : 0, high = own & 2 ? at[own & 1] : 0;
        spread[part] = low | high << 16;
        packed[half] += __popcll(word);
      }
      unsigned right[Wide][2];
      fragments<Wide, PITCH>(right, rows + block * ROWS * PITCH, lane);
#pragma unroll
      for (int wide = 0; wide < Wide; ++wide)
        mma_m16n8k16<Number>(sums[wide], spread, right[wide][0], right[wide][1]);
    }
    here = begins[step + 1];
  }

  if (!some) return;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = group * ROWS + lane / 4 + 8 * half;
    if (row >= m) continue;
#pragma unroll
    for (int wide = 0; wide < Wide; ++wide) {
      const int column = wide * 8 + lane % 4 * 2;
      const float low = sums[wide][2 * half], high = sums[wide][2 * half + 1];
      if (gridDim.y == 1) {
        store<Number, Whole>(out, row, column, n, low, high);
      } else {
        float* const place = partial + ((long long)blockIdx.y * m + row) * n + column;
        if (column < n) place[0] = low;
        if (column + 1 < n) place[1] = high;
      }
    }
  }
}

// The answer's numbers, each the sum of its shares.
template <class Number>
__device__ __forceinline__ void gather(const float* partial, unsigned short* out, long long count, int shares) {
  const long long at = (long long)blockIdx.x * THREADS + threadIdx.x;
  if (at >= count) return;
  float sum = 0;
  for (int share = 0; share < shares; ++share) sum += partial[share * count + at];
  out[at] = rounded<Number>(sum);
}

#define SPMM(NAME, NUMBER, COLUMNS, KIND, WHOLE) \
  extern "C" __global__ void __launch_bounds__(THREADS) spmm_##NAME##_##COLUMNS##KIND( \
      const Word* words, const int2* bounds, const unsigned short* values, const unsigned short* b, \
      unsigned short* out, float* partial, int m, int k, int n, int steps) { \
    product<NUMBER, COLUMNS / 8, WHOLE>(words, bounds, values, b, out, partial, m, k, n, steps); \
  }

#define EITHER(NAME, NUMBER, COLUMNS) \
  SPMM(NAME, NUMBER, COLUMNS, , true) \
  SPMM(NAME, NUMBER, COLUMNS, _ragged, false)

#define EVERY(NAME, NUMBER) \
  EITHER(NAME, NUMBER, 8) \
  EITHER(NAME, NUMBER, 16) \
  EITHER(NAME, NUMBER, 32) \
  EITHER(NAME, NUMBER, 64) \
  extern "C" __global__ void __launch_bounds__(THREADS) gather_##NAME(const float* partial, unsigned short* out, \
                                                                      long long count, int shares) { \
    gather<NUMBER>(partial, out, count, shares); \
  }

EVERY(bfloat16, Bfloat16)
EVERY(float16, Float16)
