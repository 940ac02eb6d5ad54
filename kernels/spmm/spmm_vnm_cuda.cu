// V:N:M on sparse tensor cores: of 32 rows of `b` that a band shares, each row of `a` picks two of every four.
//
// A block of four warps takes 16, 32 or 64 rows of a band and 32 to 128 columns. The rows of `b` that the band meets are
// gathered as they are copied, two steps ahead, so that in shared memory they lie close. Two steps share their words of
// places: the sparse tensor core takes those of the first from one pair of lanes of each quad, of the second from the
// other.
#include "tensor_core.cuh"
#include "fetch.cuh"

constexpr int SIDE = 16, HELD = SIDE * SIDE, WARP = 32, WARPS = 4, THREADS = WARPS * WARP;
constexpr int STEPS = 2, DEEP = 32 * STEPS;  // steps between two barriers, and rows of `b` that they take
constexpr int STAGES = 3;

extern __shared__ __align__(16) unsigned char shared[];

// values: [tiles of 16 rows, rounds, steps, lanes, 8], as mma.sp takes them. places: [tiles, rounds, lanes].
// sources: [bands, rounds, DEEP], the rows of `b` that a band meets, -1 for none. v: tiles of a band.
template <class Number, int Tiles, int Across, int Wide, bool Whole>
__device__ __forceinline__ void product(const unsigned short* values, const unsigned* places, const int* sources,
                                        const unsigned short* b, unsigned short* out, int m, int n, int v, int rounds) {
  constexpr int DOWN = WARPS / Across, HIGH = Tiles * DOWN;  // tiles of a block
  constexpr int COLUMNS = 8 * Wide * Across, CHUNKS = COLUMNS / CHUNK, PITCH = STRIDE<COLUMNS>;
  constexpr int MINE = DEEP * CHUNKS / THREADS;
  constexpr int PLACES = HIGH * STEPS * HELD, ROWS = PLACES + HIGH * WARP * 2, STAGE = ROWS + DEEP * PITCH;  // numbers
  static_assert(MINE * THREADS == DEEP * CHUNKS, "every thread copies as much");
  unsigned short* const stages = reinterpret_cast<unsigned short*>(shared);
  const int thread = threadIdx.x, lane = thread % WARP, across = thread / WARP % Across, down = thread / WARP / Across;
  const int top = blockIdx.x * HIGH, left = blockIdx.y * COLUMNS, tiles = (m + SIDE - 1) / SIDE;
  const int* const met = sources + (long long)(top / v) * rounds * DEEP;

  int upcoming[MINE];  // rows of `b` that this thread copies next
  const auto look = [&](int round) {
#pragma unroll
    for (int at = 0; at < MINE; ++at)
      upcoming[at] = round < rounds ? met[(long long)round * DEEP + (thread + at * THREADS) / CHUNKS] : -1;
  };
  const auto copy = [&](int round) {
    if (round >= rounds) return;
    unsigned short* const stage = stages + round % STAGES * STAGE;
    constexpr int FOR_VALUES = STEPS * HELD / CHUNK, FOR_PLACES = WARP * 2 / CHUNK;  // chunks of a tile
#pragma unroll
    for (int at = thread; at < HIGH * FOR_VALUES; at += THREADS) {
      const int tile = top + at / FOR_VALUES;
      if (tile < tiles)
        cp_async_16(stage + at * CHUNK,
                    values + ((long long)tile * rounds + round) * STEPS * HELD + at % FOR_VALUES * CHUNK);
    }
    if (thread < HIGH * FOR_PLACES) {
      const int tile = top + thread / FOR_PLACES;
      if (tile < tiles)
        cp_async_16(stage + PLACES + thread * CHUNK,
                    places + ((long long)tile * rounds + round) * WARP + thread % FOR_PLACES * CHUNK / 2);
    }
#pragma unroll
    for (int at = 0; at < MINE; ++at) {
      const int row = (thread + at * THREADS) / CHUNKS, chunk = (thread + at * THREADS) % CHUNKS;
      fetch<Whole>(stage + ROWS + row * PITCH + chunk * CHUNK, b, upcoming[at], left + chunk * CHUNK, n);
    }
  };

  float sums[Tiles][Wide][4] = {};
#pragma unroll
  for (int round = 0; round < STAGES - 1; ++round) {
    look(round);
    copy(round);
    cp_async_commit();
  }
  look(STAGES - 1);
  for (int round = 0; round < rounds; ++round) {
    cp_async_wait<STAGES - 2>();
    __syncthreads();  // this round's copies are there for all, and nobody needs the last round's any more
    copy(round + STAGES - 1);
    cp_async_commit();
    look(round + STAGES);
    const unsigned short* const stage = stages + round % STAGES * STAGE;
    const unsigned* const kept = reinterpret_cast<const unsigned*>(stage + PLACES);
#pragma unroll
    for (int step = 0; step < STEPS; ++step) {
      const unsigned short* const rows = stage + ROWS + step * 32 * PITCH + across * 8 * Wide;
      unsigned near[Wide][2], far[Wide][2];
      fragments<Wide, PITCH>(near, rows, lane);
      fragments<Wide, PITCH>(far, rows + SIDE * PITCH, lane);
#pragma unroll
      for (int tile = 0; tile < Tiles; ++tile) {
        const int at = down * Tiles + tile;
        if (top + at >= tiles) continue;
        const uint4 four = *reinterpret_cast<const uint4*>(stage + (at * STEPS + step) * HELD + lane * CHUNK);
        const unsigned left_side[4] = {four.x, four.y, four.z, four.w}, word = kept[at * WARP + lane];
#pragma unroll
        for (int wide = 0; wide < Wide; ++wide) {
          const unsigned right_side[4] = {near[wide][0], near[wide][1], far[wide][0], far[wide][1]};
          if (step == 0)
            mma_sp_m16n8k32<Number, 0>(sums[tile][wide], left_side, right_side, word);
          else
            mma_sp_m16n8k32<Number, 1>(sums[tile][wide], left_side, right_side, word);
        }
      }
    }
  }

#pragma unroll
  for (int tile = 0; tile < Tiles; ++tile)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = (top + down * Tiles + tile) * SIDE + lane / 4 + 8 * half;
      if (row >= m) continue;
#pragma unroll
      for (int wide = 0; wide < Wide; ++wide)
        store<Number, Whole>(out, row, left + (across * Wide + wide) * 8 + lane % 4 * 2, n, sums[tile][wide][2 * half],
                             sums[tile][wide][2 * half + 1]);
    }
}

#define SPMM(NAME, NUMBER, ROWS, TILES, ACROSS, COLUMNS, KIND, WHOLE) \
  extern "C" __global__ void __launch_bounds__(THREADS) spmm_##NAME##_##ROWS##x##COLUMNS##KIND( \
      const unsigned short* values, const unsigned* places, const int* sources, const unsigned short* b, \
      unsigned short* out, int m, int n, int v, int rounds) { \
    product<NUMBER, TILES, ACROSS, COLUMNS / 8 / ACROSS, WHOLE>(values, places, sources, b, out, m, n, v, rounds); \
  }

#define EITHER(NAME, NUMBER, ROWS, TILES, ACROSS, COLUMNS) \
  SPMM(NAME, NUMBER, ROWS, TILES, ACROSS, COLUMNS, , true) \
  SPMM(NAME, NUMBER, ROWS, TILES, ACROSS, COLUMNS, _ragged, false)

#define EVERY(NAME, NUMBER, COLUMNS) \
  EITHER(NAME, NUMBER, 16, 1, 4, COLUMNS) \
  EITHER(NAME, NUMBER, 32, 2, 4, COLUMNS) \
  EITHER(NAME, NUMBER, 64, 2, 2, COLUMNS)

EVERY(bfloat16, Bfloat16, 32)
EVERY(bfloat16, Bfloat16, 64)
EVERY(bfloat16, Bfloat16, 128)
EVERY(float16, Float16, 32)
EVERY(float16, Float16, 64)
EVERY(float16, Float16, 128)
