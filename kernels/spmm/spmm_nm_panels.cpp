// out[m, n] = a @ b, with a in lanes (suite/formats/n_of_m.py) of one group a window, b and out row-major.
//
// Compiled for its N, M and NUMBER. b is packed in panels of some columns; a tile of a then touches a slice
// of a panel that stays in L1. The sums of a few rows live in registers while a tile is worked on, and in
// `partial` between tiles.

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "constants.h"
#include "n_of_m.h"
#include "threads.h"
#include "vectors.h"

namespace {

constexpr int ACROSS = WIDE < 8 ? 8 : WIDE;  // numbers of a vector: a register, or two short ones
constexpr int MOST = 8;    // vectors that a row of a panel fills
constexpr int CHAINS = 8;  // sums in flight: two multiply-adds a cycle, each four cycles long
constexpr int LANES = 16;  // rows of a band

// A window is a group.
constexpr Cut CUT(M, 32, N);
constexpr int BITS = CUT.bits, FIELDS = CUT.fields, ROUNDS = CUT.rounds, WORDS = CUT.words;
constexpr int COLUMNS = CUT.windows * M;  // of a step

using Floats = Vector<ACROSS>;
typedef std::uint64_t TwoWords __attribute__((vector_size(16)));

// Up to four numbers that stand side by side.
template <int R>
inline Vector<4> four(const float* from) {
  if constexpr (R >= 4)
    return load<4>(from);
  else
    return (Vector<4>)TwoWords{load<std::uint64_t>(from)};
}

template <int R>
inline Vector<4> four(const bfloat16* from) {
  using Bits = std::conditional_t<R >= 4, std::uint64_t, std::uint32_t>;
  const auto halves = (Width<4>::Halves)std::uint64_t(load<Bits>(from));
  return (Vector<4>)(__builtin_convertvector(halves, Width<4>::Bits) << 16);
}

// Numbers of R rows, and registers full of one of them.
template <int R, class Number>
struct Spread {
  static constexpr bool IN_REGISTERS = SPREAD_IN_REGISTERS && R > 1;
  const Number* from;
  Vector<4> fours[IN_REGISTERS ? (R + 3) / 4 : 1];

  explicit Spread(const Number* from) : from(from) {
    if constexpr (IN_REGISTERS)
      for (int row = 0; row < R; row += 4) fours[row / 4] = once(four<R>(from + row));
  }

  Floats of(int row) const {
    const float value = IN_REGISTERS ? fours[row / 4][row % 4] : widen(from[row]);
    return value - Floats{};
  }
};

template <class Number>
struct Lanes {
  const Number* values;
  const std::uint32_t* positions;
  std::int64_t m, steps;

  const Number* values_at(std::int64_t band, std::int64_t step) const {
    return values + (band * steps + step) * ROUNDS * LANES;
  }
  const std::uint32_t* positions_at(std::int64_t band, std::int64_t step) const {
    return positions + (band * steps + step) * WORDS * LANES;
  }
};

// So many steps of R rows of a band, which meet a slice of a panel V registers wide. Meanwhile a share of
// what comes next is fetched: a processor's own prefetching ends where a band does.
template <int R, int V, class Number>
__attribute__((noinline)) void multiply(const Number* values, const std::uint32_t* positions,
                                        std::int64_t steps, const float* slice, float* partial, bool first,
                                        const Number* next_values, const std::uint32_t* next_positions) {
  constexpr int STRIDE = V * ACROSS, IN_LINE = LINE / sizeof(Number);
  constexpr int SHARE = (ROUNDS * R + IN_LINE - 1) / IN_LINE;
  Floats sum[R][V] = {};
  if (!first)
    for (int r = 0; r < R; ++r)
      for (int v = 0; v < V; ++v) sum[r][v] = load<ACROSS>(partial + r * STRIDE + v * ACROSS);
  for (std::int64_t step = 0; step < steps; ++step) {
    for (int line = 0; line < SHARE; ++line) __builtin_prefetch(next_values + line * IN_LINE);
    __builtin_prefetch(next_positions);
    std::uint32_t word[R];
#pragma GCC unroll 32
    for (int round = 0; round < ROUNDS; ++round) {
      const int field = round % FIELDS;
      const Spread<R, Number> numbers(values + round * LANES);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        if (field == 0) word[r] = positions[round / FIELDS * LANES + r];
        const std::int64_t at = word[r] >> (field * BITS) & ((1u << BITS) - 1);
        const float* b = slice + round / N * M * STRIDE + at * STRIDE;
        const Floats value = numbers.of(r);
#pragma GCC unroll 8
        for (int v = 0; v < V; ++v) sum[r][v] += value * load<ACROSS>(b + v * ACROSS);
      }
    }
    values += ROUNDS * LANES;
    positions += WORDS * LANES;
    next_values += ROUNDS * LANES;
    next_positions += WORDS * LANES;
    slice += COLUMNS * STRIDE;
  }
  for (int r = 0; r < R; ++r)
    for (int v = 0; v < V; ++v) store<ACROSS>(sum[r][v], partial + r * STRIDE + v * ACROSS);
}

// Bands first to last of one panel, tile by tile.
template <int V, class Number>
void bands(const Lanes<Number>& a, std::int64_t first, std::int64_t last, std::int64_t tile,
           const float* panel, float* partial, Number* out, std::int64_t n, int width) {
  constexpr int R = V * 2 <= CHAINS ? CHAINS / V : ACROSS == 16 ? 2 : 1, STRIDE = V * ACROSS;
  for (std::int64_t step = 0; step < a.steps; step += tile) {
    const std::int64_t steps = std::min(tile, a.steps - step);
    for (std::int64_t band = first; band < last; ++band) {
      const Number* values = a.values_at(band, step);
      const std::uint32_t* positions = a.positions_at(band, step);
      const std::int64_t next = band + 1 < last ? band + 1 : first, then = next > first ? step : step + steps;
      const Number* next_values = a.values_at(next, then);
      const std::uint32_t* next_positions = a.positions_at(next, then);
      const float* slice = panel + step * COLUMNS * STRIDE;
      float* sums = partial + (band - first) * LANES * STRIDE;
      for (int row = 0; row < LANES; row += R)
        multiply<R, V>(values + row, positions + row, steps, slice, sums + row * STRIDE, step == 0,
                       next_values + row * ROUNDS, next_positions);
    }
  }
  for (std::int64_t row = first * LANES; row < last * LANES && row < a.m; ++row)
    for (int j = 0; j < width; ++j)
      narrow(partial[(row - first * LANES) * STRIDE + j], out + row * n + j);
}

int vectors_of(std::int64_t width) { return int((width + ACROSS - 1) / ACROSS); }

// One row of b into all panels; what is beyond k is zero from the start.
template <class Number>
void pack(const Number* row, std::int64_t at, std::int64_t rows, std::int64_t n, std::int64_t panel,
          float* packed) {
  for (std::int64_t column = 0; column < n; column += panel) {
    const std::int64_t width = std::min(panel, n - column), stride = vectors_of(width) * ACROSS;
    float* to = packed + column * rows + at * stride;
    for (std::int64_t j = 0; j < width; ++j) to[j] = widen(row[column + j]);
    for (std::int64_t j = width; j < stride; ++j) to[j] = 0;
  }
}

template <class Number>
void spmm(const Lanes<Number>& a, const Number* b, Number* out, std::int64_t k, std::int64_t n,
          std::int64_t panel, std::int64_t tile, std::int64_t chunk, float* packed, float* partial,
          int threads) {
  const std::int64_t rows = a.steps * COLUMNS, all = (a.m + LANES - 1) / LANES;
  const std::int64_t panels = (n + panel - 1) / panel, chunks = (all + chunk - 1) / chunk;
  const bool as_is = sizeof(Number) == 4 && panels == 1 && n % ACROSS == 0 && k == rows;  // it is a panel
  const float* source = as_is ? reinterpret_cast<const float*>(b) : packed;
#pragma omp parallel num_threads(threads)
  {
    if (!as_is) {
#pragma omp for schedule(static)
      for (std::int64_t row = 0; row < k; ++row) pack(b + row * n, row, rows, n, panel, packed);
    }
    float* own = partial + thread_number() * chunk * LANES * panel;
#pragma omp for schedule(dynamic, 1)
    for (std::int64_t unit = 0; unit < panels * chunks; ++unit) {
      const std::int64_t column = unit / chunks * panel, first = unit % chunks * chunk;
      const int width = int(std::min(panel, n - column));
      with<MOST>(vectors_of(width), [&](auto v) {
        bands<v>(a, first, std::min(all, first + chunk), tile, source + column * rows, own, out + column, n,
                 width);
      });
    }
  }
}

}  // namespace

extern "C" void multiply(const NUMBER* values, const std::uint32_t* positions, const NUMBER* b, NUMBER* out,
                         std::int64_t m, std::int64_t k, std::int64_t n, std::int64_t steps,
                         std::int64_t panel, std::int64_t tile, std::int64_t chunk, float* packed,
                         float* partial, int threads) {
  const Lanes<NUMBER> a{values, positions, m, steps};
  spmm(a, b, out, k, n, panel, tile, chunk, packed, partial, threads);
}

extern "C" int lanes() { return LANES; }
extern "C" int widest_panel() { return MOST * ACROSS; }
extern "C" int stride(int width) { return vectors_of(width) * ACROSS; }
