// out[m, n] = a @ b, with a in blocks and b, out row-major.
//
// b is packed, slab by slab, in panels of up to three registers; the slab stays in L2 while all blocks of a
// that meet it are multiplied. ROWS rows of a times a panel are summed in registers over a row of blocks.
//
// A unit is what one lane multiplies at a time: a float, or, where the processor has an instruction for it, a
// pair of bfloat16 numbers that stand next to each other along k.

#include <algorithm>
#include <cstdint>
#include <cstring>

#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

#include "constants.h"
#include "spmm_blocks.h"
#include "vectors.h"

namespace {

#if defined(__AVX512F__)
constexpr int ROWS = 8;  // with three registers of b: 24 sums, and one of a
#else
constexpr int ROWS = 4;  // 12 sums
#endif
constexpr int MOST = 3;            // registers of a panel
constexpr int AHEAD = 128 * ROWS;  // units of a fetched before their use: the hardware fetches too late
constexpr int ROWS_AHEAD = 16;     // of b while packing

struct Single {
  static constexpr int NUMBERS = 1;
  float value;

  template <class Vector>
  static void add(Vector& sum, Single a, Vector b) {
    sum += a.value * b;
  }

  template <class Number>
  static void pack(const Number* const* rows, int count, Single* to) {
    for (int j = 0; j < count; ++j) to[j].value = widen(rows[0][j]);
  }
};

#ifdef __AVX512BF16__
struct Pair {
  static constexpr int NUMBERS = 2;
  std::uint32_t both;

  static void add(Vector<16>& sum, Pair a, Vector<16> b) {
    sum = (Vector<16>)_mm512_dpbf16_ps((__m512)sum, (__m512bh)_mm512_set1_epi32(a.both), (__m512bh)b);
  }
  static void add(Vector<8>& sum, Pair a, Vector<8> b) {
    sum = (Vector<8>)_mm256_dpbf16_ps((__m256)sum, (__m256bh)_mm256_set1_epi32(a.both), (__m256bh)b);
  }
  static void add(Vector<4>& sum, Pair a, Vector<4> b) {
    sum = (Vector<4>)_mm_dpbf16_ps((__m128)sum, (__m128bh)_mm_set1_epi32(a.both), (__m128bh)b);
  }

  static void pack(const bfloat16* const* rows, int count, Pair* to) {
    for (int j = 0; j < count; ++j) to[j].both = rows[0][j].bits | std::uint32_t(rows[1][j].bits) << 16;
  }
};
using Half = Pair;
#else
using Half = Single;
#endif

// The panels of a slab: their widths differ by one register at most.
template <int LANES>
struct Panels {
  std::int64_t count, least, wider;

  explicit Panels(std::int64_t columns) {
    const std::int64_t registers = (columns + LANES - 1) / LANES;
    count = (registers + MOST - 1) / MOST, least = registers / count, wider = registers % count;
  }
  std::int64_t first(std::int64_t panel) const { return (panel * least + std::min(panel, wider)) * LANES; }
  int width(std::int64_t panel) const { return int(least + (panel < wider)); }  // registers
};

// Blocks next to each other in a row of blocks: ROWS of their rows, times a panel.
template <int LANES, int V, class Unit>
inline void add_blocks(const Unit* a, const std::int32_t* columns, std::int64_t count, std::int64_t width,
                       const Unit* panel, float* sums) {
  Vector<LANES> sum[ROWS][V];
  for (int r = 0; r < ROWS; ++r)
    for (int v = 0; v < V; ++v) sum[r][v] = load<LANES>(sums + (r * V + v) * LANES);
  for (std::int64_t at = 0; at < count; ++at) {
    const Unit* b = panel + std::int64_t(columns[at]) * V * LANES;
    for (std::int64_t unit = 0; unit < width; ++unit, a += ROWS, b += V * LANES) {
      __builtin_prefetch(a + AHEAD);
      Vector<LANES> row[V];
      for (int v = 0; v < V; ++v) row[v] = once(load<Vector<LANES>>(b + v * LANES));
      for (int r = 0; r < ROWS; ++r)
        for (int v = 0; v < V; ++v) Unit::add(sum[r][v], a[r], row[v]);
    }
  }
  for (int r = 0; r < ROWS; ++r)
    for (int v = 0; v < V; ++v) store<LANES>(sum[r][v], sums + (r * V + v) * LANES);
}

// Units of one row that are in no block. Two sums take turns, so that a long row does not wait for one.
template <int LANES, int V, class Unit>
inline void add_singles(const Unit* a, const std::int32_t* columns, std::int64_t count, const Unit* panel,
                        float* sums) {
  Vector<LANES> sum[2][V] = {};
  for (int v = 0; v < V; ++v) sum[0][v] = load<LANES>(sums + v * LANES);
  std::int64_t at = 0;
  for (; at + 2 <= count; at += 2)
    for (int s = 0; s < 2; ++s)
      for (int v = 0; v < V; ++v)
        Unit::add(sum[s][v], a[at + s],
                  load<Vector<LANES>>(panel + (std::int64_t(columns[at + s]) * V + v) * LANES));
  for (; at < count; ++at)
    for (int v = 0; v < V; ++v)
      Unit::add(sum[0][v], a[at], load<Vector<LANES>>(panel + (std::int64_t(columns[at]) * V + v) * LANES));
  for (int v = 0; v < V; ++v) {
    sum[0][v] += sum[1][v];
    store<LANES>(sum[0][v], sums + v * LANES);
  }
}

// A row of blocks times a panel, within a tile. After its first ROWS rows, what it meets of the panel is in L1.
template <int LANES, int V, class Unit, class Number>
__attribute__((noinline)) void multiply(const Plan& plan, std::int64_t tile, std::int64_t block_row,
                                        const Unit* panel, float* partial, Number* out, int columns) {
  constexpr int WIDTH = V * LANES;
  const std::int64_t segment = tile * plan.block_rows + block_row;
  const std::int64_t first = plan.starts[segment], count = plan.starts[segment + 1] - first;
  const Unit* a = static_cast<const Unit*>(plan.values) + first * plan.height * plan.width;
  const std::int32_t* single_starts = plan.single_starts + segment * plan.height;
  for (std::int64_t r = 0; r < plan.height; r += ROWS, a += count * plan.width * ROWS) {
    const std::int64_t row = block_row * plan.height + r;
    alignas(64) float own[ROWS * WIDTH];
    float* sums = plan.tiles > 1 ? partial + row * WIDTH : own;
    if (tile == 0) std::memset(sums, 0, sizeof own);
    if (count) add_blocks<LANES, V>(a, plan.columns + first, count, plan.width, panel, sums);
    if (single_starts[r] < single_starts[r + ROWS])
      for (int s = 0; s < ROWS; ++s) {
        const std::int32_t at = single_starts[r + s];
        add_singles<LANES, V>(static_cast<const Unit*>(plan.singles) + at, plan.single_columns + at,
                              single_starts[r + s + 1] - at, panel, sums + s * WIDTH);
      }
    if (tile + 1 < plan.tiles) continue;
    for (int s = 0; s < ROWS; ++s) {
      if (plan.row_order[row + s] < 0) continue;
      Number* to = out + plan.row_order[row + s] * plan.n;
      if (columns == WIDTH)
        for (int j = 0; j < WIDTH; ++j) narrow(sums[s * WIDTH + j], to + j);
      else
        for (int j = 0; j < columns; ++j) narrow(sums[s * WIDTH + j], to + j);
    }
  }
}

// Some units along k of a panel, of which so many columns exist.
template <int WIDTH, class Unit, class Number>
__attribute__((noinline)) void pack(const Number* b, std::int64_t n, const std::int32_t* order,
                                    std::int64_t count, int columns, Unit* to) {
  static const Number zeros[WIDTH] = {};
  for (std::int64_t unit = 0; unit < count; ++unit, order += Unit::NUMBERS, to += WIDTH) {
    const Number* rows[Unit::NUMBERS];
    for (int i = 0; i < Unit::NUMBERS; ++i) rows[i] = order[i] < 0 ? zeros : b + order[i] * n;
    if (columns == WIDTH) {
      Unit::pack(rows, WIDTH, to);
    } else {
      Unit::pack(rows, columns, to);
      std::memset(static_cast<void*>(to + columns), 0, (WIDTH - columns) * sizeof(Unit));
    }
  }
}

// Of one slab and tile, some units along k: few at a time, so that rows of b are fetched once for all panels.
template <int LANES, class Unit, class Number>
void pack(const Plan& plan, const Number* b, const Slab<Unit>& slab, std::int64_t from, std::int64_t to) {
  constexpr int NUMBERS = Unit::NUMBERS;
  const std::int64_t column = slab.column, columns = slab.columns, deep = plan.deep(slab.tile);
  Unit* packed = slab.packed;
  const Panels<LANES> panels(columns);
  for (std::int64_t unit = from; unit < to; unit += ROWS_AHEAD) {
    const std::int32_t* order = plan.column_order + (slab.tile * plan.depth + unit) * NUMBERS;
    for (std::int64_t i = ROWS_AHEAD * NUMBERS;
         i < std::min<std::int64_t>(2 * ROWS_AHEAD, deep - unit) * NUMBERS; ++i)
      for (std::int64_t j = 0; j < columns && order[i] >= 0; j += LINE / sizeof(Number))
        __builtin_prefetch(b + order[i] * plan.n + column + j);
    const std::int64_t count = std::min<std::int64_t>(ROWS_AHEAD, to - unit);
    for (std::int64_t panel = 0; panel < panels.count; ++panel) {
      const std::int64_t first = panels.first(panel), wide = panels.width(panel) * LANES;
      const int there = int(std::min(wide, columns - first));
      const Number* rows = b + column + first;
      Unit* here = packed + first * deep + unit * wide;
      with<MOST>(panels.width(panel), [&](auto v) {
        pack<v * LANES>(rows, plan.n, order, count, there, here);
      });
    }
  }
}

// Of one slab and tile, some rows of blocks.
template <int LANES, class Unit, class Number>
void multiply(const Plan& plan, const Slab<Unit>& slab, std::int64_t from, std::int64_t to, Number* out) {
  const Panels<LANES> panels(slab.columns);
  for (std::int64_t row = from; row < to; ++row)
    for (std::int64_t panel = 0; panel < panels.count; ++panel) {
      const std::int64_t first = panels.first(panel);
      const int width = int(std::min<std::int64_t>(panels.width(panel) * LANES, slab.columns - first));
      const Unit* b = slab.packed + first * plan.deep(slab.tile);
      float* sums = slab.partial + first * plan.block_rows * plan.height;
      with<MOST>(panels.width(panel), [&](auto v) {
        multiply<LANES, v>(plan, slab.tile, row, b, sums, out + first, width);
      });
    }
}

template <int LANES, class Unit, class Number>
void spmm(const Plan& plan, const Number* b, Number* out) {
  using Part = const Slab<Unit>&;
#pragma omp parallel num_threads(plan.threads)
  over_slabs<Unit, LANES>(
      plan, [&](Part slab, auto from, auto to) { pack<LANES>(plan, b, slab, from, to); },
      [&](Part slab, auto from, auto to) { multiply<LANES>(plan, slab, from, to, out + slab.column); });
}

template <class Unit, class Number>
void by_lanes(const Plan& plan, const Number* b, Number* out) {
  switch (plan.lanes) {
    case 4: return spmm<4, Unit>(plan, b, out);
    case 8: return spmm<std::min(8, WIDE), Unit>(plan, b, out);
    default: spmm<WIDE, Unit>(plan, b, out);
  }
}

}  // namespace

extern "C" void spmm_float32(const Plan* plan, const float* b, float* out) {
  by_lanes<Single>(*plan, b, out);
}

extern "C" void spmm_bfloat16(const Plan* plan, const bfloat16* b, bfloat16* out) {
  by_lanes<Half>(*plan, b, out);
}

// Lanes of the registers for so many columns.
extern "C" int lanes(int n) { return std::min(n <= 4 ? 4 : n <= 8 ? 8 : 16, WIDE); }
extern "C" int rows() { return ROWS; }
extern "C" int bfloat16s() { return Half::NUMBERS; }  // in a unit
