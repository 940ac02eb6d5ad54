// out[m, n] = a @ b, with a in lanes (suite/formats/n_of_m.py) of one group a window, b and out row-major.
//
// Compiled for its N, M and NUMBER. b is packed in panels of some columns; a tile of a then touches a slice
// of a panel that stays in L1. The sums of a few rows live in registers while a tile is worked on, and in
// `partial` between tiles.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <type_traits>

#ifdef _OPENMP
#include <omp.h>
#endif

namespace {

#if defined(__AVX512F__)
constexpr int WIDE = 16;  // numbers of a register
#else
constexpr int WIDE = 8;
#endif
constexpr int MOST = 8;    // registers that a row of a panel fills
constexpr int CHAINS = 8;  // sums in flight: two multiply-adds a cycle, each four cycles long
constexpr int LANES = 16;  // rows of a band
constexpr int LINE = 64;   // bytes

// Loads bound this product: one of b for each multiply-add. AMD shuffles beside its multipliers, so there
// the numbers of the rows in flight are loaded at once and spread from a register; Intel shuffles in one of
// its multipliers, and spreads from memory.
#if defined(__AVX2__) && (defined(__znver1__) || defined(__znver2__) || defined(__znver3__) || \
                          defined(__znver4__) || defined(__znver5__))
constexpr bool SPREAD_IN_REGISTERS = true;
#else
constexpr bool SPREAD_IN_REGISTERS = false;
#endif

constexpr int log2_up(int number) { return number <= 1 ? 0 : 1 + log2_up((number + 1) / 2); }
constexpr int log2_down(int number) { return number <= 1 ? 0 : 1 + log2_down(number / 2); }

// As in `Cut`, where a window is a group.
constexpr int BITS = M > 1 ? log2_up(M) : 1, FIELDS = 32 / BITS;
constexpr int WINDOWS = 1 << log2_down(FIELDS / N);
constexpr int ROUNDS = WINDOWS * N;  // of a step
constexpr int WORDS = (ROUNDS + FIELDS - 1) / FIELDS;
constexpr int COLUMNS = WINDOWS * M;  // of a step

struct bfloat16 {
  std::uint16_t bits;
};

inline float widen(float value) { return value; }

inline float widen(bfloat16 value) {
  const std::uint32_t bits = std::uint32_t(value.bits) << 16;
  float wide;
  std::memcpy(&wide, &bits, 4);
  return wide;
}

inline void narrow(float value, float* out) { *out = value; }

inline void narrow(float value, bfloat16* out) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, 4);
  const bool nan = (bits & 0x7fffffff) > 0x7f800000;
  out->bits = nan ? 0x7fc0 : (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;  // to nearest, ties to even
}

typedef float Floats __attribute__((vector_size(WIDE * 4)));
typedef float Four __attribute__((vector_size(16)));
typedef std::uint32_t FourWholes __attribute__((vector_size(16)));
typedef std::uint16_t FourHalves __attribute__((vector_size(8)));
typedef std::uint64_t TwoWords __attribute__((vector_size(16)));

template <class Value>
inline Value load(const void* from) {
  Value value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

inline void store(Floats value, float* to) { std::memcpy(to, &value, sizeof value); }

// In a register from here on: left alone, the compiler reads each number from memory after all.
inline Four keep(Four value) {
#if defined(__AVX__)
  asm("" : "+x"(value));
#endif
  return value;
}

// Up to four numbers that stand side by side.
template <int R>
inline Four four(const float* from) {
  if constexpr (R >= 4)
    return load<Four>(from);
  else
    return (Four)TwoWords{load<std::uint64_t>(from)};
}

template <int R>
inline Four four(const bfloat16* from) {
  using Bits = std::conditional_t<R >= 4, std::uint64_t, std::uint32_t>;
  return (Four)(__builtin_convertvector((FourHalves)std::uint64_t(load<Bits>(from)), FourWholes) << 16);
}

// Numbers of R rows, and registers full of one of them.
template <int R, class Number>
struct Spread {
  static constexpr bool IN_REGISTERS = SPREAD_IN_REGISTERS && R > 1;
  const Number* from;
  Four fours[IN_REGISTERS ? (R + 3) / 4 : 1];

  explicit Spread(const Number* from) : from(from) {
    if constexpr (IN_REGISTERS)
      for (int row = 0; row < R; row += 4) fours[row / 4] = keep(four<R>(from + row));
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
inline void multiply(const Number* values, const std::uint32_t* positions, std::int64_t steps,
                     const float* slice, float* partial, bool first, const Number* next_values,
                     const std::uint32_t* next_positions) {
  constexpr int STRIDE = V * WIDE, IN_LINE = LINE / sizeof(Number);
  constexpr int SHARE = (ROUNDS * R + IN_LINE - 1) / IN_LINE;
  Floats sum[R][V] = {};
  if (!first)
    for (int r = 0; r < R; ++r)
      for (int v = 0; v < V; ++v) sum[r][v] = load<Floats>(partial + r * STRIDE + v * WIDE);
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
        for (int v = 0; v < V; ++v) sum[r][v] += value * load<Floats>(b + v * WIDE);
      }
    }
    values += ROUNDS * LANES;
    positions += WORDS * LANES;
    next_values += ROUNDS * LANES;
    next_positions += WORDS * LANES;
    slice += COLUMNS * STRIDE;
  }
  for (int r = 0; r < R; ++r)
    for (int v = 0; v < V; ++v) store(sum[r][v], partial + r * STRIDE + v * WIDE);
}

// Bands first to last of one panel, tile by tile.
template <int V, class Number>
void bands(const Lanes<Number>& a, std::int64_t first, std::int64_t last, std::int64_t tile,
           const float* panel, float* partial, Number* out, std::int64_t n, int width) {
  constexpr int R = V * 2 <= CHAINS ? CHAINS / V : WIDE == 16 ? 2 : 1, STRIDE = V * WIDE;
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

template <int V, class Number>
void widest(int registers, const Lanes<Number>& a, std::int64_t first, std::int64_t last, std::int64_t tile,
            const float* panel, float* partial, Number* out, std::int64_t n, int width) {
  if (registers == V)
    bands<V>(a, first, last, tile, panel, partial, out, n, width);
  else if constexpr (V > 1)
    widest<V - 1>(registers, a, first, last, tile, panel, partial, out, n, width);
}

int registers_of(std::int64_t width) { return int((width + WIDE - 1) / WIDE); }

// One row of b into all panels; what is beyond k is zero from the start.
template <class Number>
void pack(const Number* row, std::int64_t at, std::int64_t rows, std::int64_t n, std::int64_t panel,
          float* packed) {
  for (std::int64_t column = 0; column < n; column += panel) {
    const std::int64_t width = std::min(panel, n - column), stride = registers_of(width) * WIDE;
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
  const bool as_is = sizeof(Number) == 4 && panels == 1 && n % WIDE == 0 && k == rows;  // it is a panel
  const float* source = as_is ? reinterpret_cast<const float*>(b) : packed;
#pragma omp parallel num_threads(threads)
  {
    if (!as_is) {
#pragma omp for schedule(static)
      for (std::int64_t row = 0; row < k; ++row) pack(b + row * n, row, rows, n, panel, packed);
    }
#ifdef _OPENMP
    float* own = partial + omp_get_thread_num() * chunk * LANES * panel;
#else
    float* own = partial;
#endif
#pragma omp for schedule(dynamic, 1)
    for (std::int64_t unit = 0; unit < panels * chunks; ++unit) {
      const std::int64_t column = unit / chunks * panel, first = unit % chunks * chunk;
      const int width = int(std::min(panel, n - column));
      widest<MOST>(registers_of(width), a, first, std::min(all, first + chunk), tile, source + column * rows,
                   own, out + column, n, width);
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
extern "C" int widest_panel() { return MOST * WIDE; }
extern "C" int stride(int width) { return registers_of(width) * WIDE; }
