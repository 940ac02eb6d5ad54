// out[m, n] = a @ b in bfloat16 on AMX, with a in blocks of whole tiles, and b, out row-major.
//
// A tile of a is 16 rows of 32 numbers, as it stands in a block. b is packed, slab by slab, in panels of 16
// columns, pair by pair along k: 16 pairs are a tile. A slab stays in L2 while all blocks of a that meet it
// are multiplied. Four tiles of sums are worked on at a time: two of a's by two of b's where blocks are high
// enough, else one by four.

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "constants.h"
#include "spmm_blocks.h"
#include "tiles.h"

namespace {

constexpr int SIDE = TILE_ROWS;    // rows of a tile, pairs of numbers in a row of it, columns of a panel
constexpr int AREA = SIDE * SIDE;  // units or sums of a tile
constexpr int AHEAD = 4 * AREA;    // units of a fetched before their use
constexpr int ROWS_AHEAD = 16;     // of b while packing

using Pair = std::uint32_t;  // the first number in the lower half

inline float lower(Pair pair) { return widen(bfloat16{std::uint16_t(pair)}); }
inline float upper(Pair pair) { return widen(bfloat16{std::uint16_t(pair >> 16)}); }

// Where the sums of a tile of a with a panel stand: the first, and how far it is to the next tile and panel.
struct Sums {
  float* first;
  std::int64_t tile, panel;
};

// R tiles of a's rows, which lie `below` apart, times V panels: all blocks of a row of blocks in a tile of k.
template <int R, int V>
void add_blocks(const Pair* a, std::int64_t below, const std::int32_t* columns, std::int64_t count,
                std::int64_t width, const Pair* b, std::int64_t beside, Sums sums) {
  each<R * V>([&](auto at) { load_tile<at>(sums.first + at / V * sums.tile + at % V * sums.panel); });
  for (std::int64_t block = 0; block < count; ++block)
    for (std::int64_t unit = 0; unit < width; unit += SIDE) {
      const std::int64_t row = columns[block] + unit;
      each<R>([&](auto r) {
        const Pair* left = a + r * below;
        for (int line = 0; line < AREA; line += SIDE) __builtin_prefetch(left + AHEAD + line);
        load_tile<4 + r>(left);
      });
      each<V>([&](auto v) {
        constexpr int PANEL = v, RIGHT = 6 + PANEL % 2;
        load_tile<RIGHT>(b + PANEL * beside + row * SIDE);
        each<R>([&](auto r) { dot_tiles<r * V + PANEL, 4 + r, RIGHT>(); });
      });
      a += AREA;
    }
  each<R * V>([&](auto at) { store_tile<at>(sums.first + at / V * sums.tile + at % V * sums.panel); });
}

// Units of one row that are in no block.
void add_singles(const Pair* a, const std::int32_t* columns, std::int64_t count, const Pair* panel,
                 float* sums) {
  float sum[SIDE];
  std::memcpy(sum, sums, sizeof sum);
  for (std::int64_t at = 0; at < count; ++at) {
    const Pair* b = panel + std::int64_t(columns[at]) * SIDE;
    for (int j = 0; j < SIDE; ++j) sum[j] += lower(a[at]) * lower(b[j]) + upper(a[at]) * upper(b[j]);
  }
  std::memcpy(sums, sum, sizeof sum);
}

// What of a slab is worked on.
struct Part {
  const Plan& plan;
  const Slab<Pair>& slab;
  bfloat16* out;

  std::int64_t panels() const { return (slab.columns + SIDE - 1) / SIDE; }
};

template <int R, int V>
void multiply(const Part& of, std::int64_t block_row, std::int64_t r, std::int64_t panel) {
  const Plan& plan = of.plan;
  const std::int64_t segment = of.slab.tile * plan.block_rows + block_row, row = block_row * plan.height + r;
  const std::int64_t first = plan.starts[segment], count = plan.starts[segment + 1] - first;
  const std::int64_t below = count * plan.width * SIDE, beside = plan.deep(of.slab.tile) * SIDE;
  const Pair* b = of.slab.packed + panel * beside;
  alignas(64) float own[R * V * AREA];
  const std::int64_t high = plan.block_rows * plan.height * SIDE;
  Sums sums{own, AREA, R * AREA};
  if (plan.tiles > 1) sums = {of.slab.partial + panel * high + row * SIDE, AREA, high};
  const auto at = [&](int s, int v) { return sums.first + v * sums.panel + s * SIDE; };
  if (of.slab.tile == 0)
    for (int v = 0; v < V; ++v) std::memset(at(0, v), 0, R * AREA * sizeof(float));
  const Pair* a = static_cast<const Pair*>(plan.values) + first * plan.height * plan.width + r / SIDE * below;
  if (count) add_blocks<R, V>(a, below, plan.columns + first, count, plan.width, b, beside, sums);
  const std::int32_t* starts = plan.single_starts + segment * plan.height + r;
  for (int s = 0; s < R * SIDE && starts[0] < starts[R * SIDE]; ++s)
    for (int v = 0; v < V; ++v)
      add_singles(static_cast<const Pair*>(plan.singles) + starts[s], plan.single_columns + starts[s],
                  starts[s + 1] - starts[s], b + v * beside, at(s, v));
  if (of.slab.tile + 1 < plan.tiles) return;
  for (int s = 0; s < R * SIDE; ++s) {
    if (plan.row_order[row + s] < 0) continue;
    for (int v = 0; v < V; ++v) {
      bfloat16* to = of.out + plan.row_order[row + s] * plan.n + (panel + v) * SIDE;
      const std::int64_t width = std::min<std::int64_t>(SIDE, of.slab.columns - (panel + v) * SIDE);
      for (std::int64_t j = 0; j < width; ++j) narrow(at(s, v)[j], to + j);
    }
  }
}

// R tiles of a's rows times all panels, up to 4 / R at a time.
template <int R>
void over_panels(const Part& of, std::int64_t block_row, std::int64_t r) {
  constexpr int MOST = 4 / R;
  for (std::int64_t panel = 0; panel < of.panels(); panel += MOST)
    with<MOST>(int(std::min<std::int64_t>(MOST, of.panels() - panel)),
               [&](auto v) { multiply<R, v>(of, block_row, r, panel); });
}

void multiply(const Part& of, std::int64_t from, std::int64_t to) {
  for (std::int64_t row = from; row < to; ++row) {
    std::int64_t r = 0;
    for (; r + 2 * SIDE <= of.plan.height; r += 2 * SIDE) over_panels<2>(of, row, r);
    if (r < of.plan.height) over_panels<1>(of, row, r);
  }
}

// Of one slab and tile of k, some units along k.
void pack(const Plan& plan, const bfloat16* b, const Slab<Pair>& slab, std::int64_t from, std::int64_t to) {
  static const bfloat16 zeros[SIDE] = {};
  const std::int64_t column = slab.column, columns = slab.columns, deep = plan.deep(slab.tile);
  for (std::int64_t unit = from; unit < to; ++unit) {
    const std::int32_t* order = plan.column_order + (slab.tile * plan.depth + unit) * 2;
    if (unit + ROWS_AHEAD < deep)
      for (int i = ROWS_AHEAD * 2; i < (ROWS_AHEAD + 1) * 2; ++i)
        for (std::int64_t j = 0; j < columns && order[i] >= 0; j += 2 * SIDE)
          __builtin_prefetch(b + order[i] * plan.n + column + j);
    for (std::int64_t first = 0; first < columns; first += SIDE) {
      const bfloat16* row[2];
      for (int i = 0; i < 2; ++i) row[i] = order[i] < 0 ? zeros : b + order[i] * plan.n + column + first;
      Pair* to = slab.packed + first * deep + unit * SIDE;
      if (columns - first >= SIDE)
        for (int j = 0; j < SIDE; ++j) to[j] = row[0][j].bits | Pair(row[1][j].bits) << 16;
      else
        for (int j = 0; j < SIDE; ++j)
          to[j] = j < columns - first ? row[0][j].bits | Pair(row[1][j].bits) << 16 : 0;
    }
  }
}

void spmm(const Plan& plan, const bfloat16* b, bfloat16* out) {
#pragma omp parallel num_threads(plan.threads)
  {
    configure(Shapes());
    over_slabs<Pair, SIDE>(
        plan, [&](const Slab<Pair>& slab, auto from, auto to) { pack(plan, b, slab, from, to); },
        [&](const Slab<Pair>& slab, auto from, auto to) {
          multiply(Part{plan, slab, out + slab.column}, from, to);
        });
    release();
  }
}

}  // namespace

extern "C" void spmm_bfloat16(const Plan* plan, const bfloat16* b, bfloat16* out) { spmm(*plan, b, out); }

extern "C" int ask() { return ask_for_tiles(); }
extern "C" int lanes(int) { return SIDE; }
extern "C" int rows() { return SIDE; }
extern "C" int bfloat16s() { return 2; }  // in a unit
