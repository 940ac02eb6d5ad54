// out[h, n, d] = softmax(q k^T / sqrt(d)) v over the blocks that a mask keeps, in bfloat16 on AMX.
//
// Keys and values are packed in tiles for the left side: 16 keys by 32 numbers, and 16 numbers by 32 keys, as
// v^T has them. A panel's queries and its weights already stand as the right side wants them: 16 pairs of
// numbers or keys by 16 queries. Two tiles by two are worked on at a time.

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "tiles.h"
#include "attention_panels.h"

namespace {

constexpr int SIDE = TILE_ROWS;    // rows of a tile, and units of a row
constexpr int AREA = SIDE * SIDE;  // units or sums of a tile

struct Tiles {
  using Unit = Pair;
  static constexpr int LANES = SIDE, MOST = 4;
  static constexpr bool PACKS_KEYS = true, PACKS_VALUES = true;

  static std::int64_t units(std::int64_t d) { return (d + 2 * SIDE - 1) / (2 * SIDE) * SIDE; }
  static std::int64_t width(std::int64_t block) { return std::min<std::int64_t>(block, MOST * LANES); }
  static void begin() { configure(Shapes()); }
  static void end() { release(); }

  // [keys / 16][units / 16][16 keys][16 units], with zeros after d.
  static void pack_keys(const bfloat16* k, std::int64_t keys, std::int64_t d, Pair* to) {
    for (std::int64_t key = 0; key < keys; key += SIDE, k += SIDE * d)
      for (std::int64_t first = 0; first < d; first += 2 * SIDE)
        for (int i = 0; i < SIDE; ++i, to += SIDE) {
          const std::int64_t there = std::min<std::int64_t>(2 * SIDE, d - first);
          std::memset(static_cast<void*>(to), 0, SIDE * sizeof *to);
          std::memcpy(static_cast<void*>(to), k + i * d + first, there * sizeof *k);
        }
  }

  // [keys / 32][d][16 pairs of keys].
  static void pack_values(const bfloat16* v, std::int64_t keys, std::int64_t d, Pair* to) {
    bfloat16 pairs[SIDE * 256 * 2];
    for (std::int64_t key = 0; key < keys; key += 2 * SIDE, v += 2 * SIDE * d, to += SIDE * d) {
      for (std::int64_t pair = 0; pair < SIDE; ++pair)
        for (std::int64_t i = 0; i < d; ++i)
          for (int side = 0; side < 2; ++side)
            pairs[(pair * d + i) * 2 + side] = v[(2 * pair + side) * d + i];
      turn<SIDE>(pairs, 2 * d, d, to);
    }
  }

  // Of a panel's queries with so many keys, a multiple of 32.
  template <int V>
  static void score(const Panel<Tiles>& panel, const Pair* k, std::int64_t keys, float* to) {
    const std::int64_t below = SIDE * panel.units;
    for (std::int64_t key = 0; key < keys; key += 2 * SIDE, k += 2 * below, to += 2 * AREA)
      over_columns<V>([&](auto first, auto columns) {
        constexpr int C = columns;
        const Pair* q = panel.queries + first * panel.queries_apart;
        each<2 * C>([&](auto at) { zero_tile<at>(); });
        for (std::int64_t unit = 0; unit < below; unit += AREA) {
          each<2>([&](auto r) { load_tile<4 + r>(k + r * below + unit); });
          add_products<2, C>(q + unit, panel.queries_apart);
        }
        each<2 * C>([&](auto at) { store_tile<at>(to + (first + at % C) * panel.SCORES + at / C * AREA); });
      });
  }

  // Values by their weights, to the sums.
  template <int V>
  static void add_values(const Panel<Tiles>& panel, const Seen<Pair>* seen, int count) {
    for (int column = 0; column < V; ++column) {
      float* sums = panel.sums + column * panel.sums_apart;
      for (std::int64_t i = 0; i < panel.d * LANES; i += LANES)
        store<LANES>(load<LANES>(sums + i) * panel.factor[column], sums + i);
    }
    std::int64_t first = 0;
    for (; first + 2 * SIDE <= panel.d; first += 2 * SIDE) add_numbers<V, 2>(panel, seen, count, first);
    if (first < panel.d) add_numbers<V, 1>(panel, seen, count, first);
  }

  // R tiles of numbers.
  template <int V, int R>
  static void add_numbers(const Panel<Tiles>& panel, const Seen<Pair>* seen, int count, std::int64_t number) {
    over_columns<V>([&](auto first, auto columns) {
      constexpr int C = columns;
      const auto sums = [&](int at) {
        return panel.sums + (first + at % C) * panel.sums_apart + number * LANES + at / C * AREA;
      };
      each<R * C>([&](auto at) { load_tile<at>(sums(at)); });
      const Pair* weights = panel.weights(first);
      for (int at = 0; at < count; ++at) {
        const Pair* value = seen[at].values + number * SIDE;
        for (std::int64_t unit = 0; unit < seen[at].units; unit += SIDE) {
          each<R>([&](auto r) { load_tile<4 + r>(value + r * AREA); });
          add_products<R, C>(weights, panel.SCORES);
          weights += AREA, value += panel.d * SIDE;
        }
      }
      each<R * C>([&](auto at) { store_tile<at>(sums(at)); });
    });
  }

  // Two columns at a time, where a panel has as many.
  template <int V, class F>
  static void over_columns(const F& f) {
    constexpr int C = std::min(2, V);
    for (int first = 0; first < V; first += C) f(first, std::integral_constant<int, C>());
  }

  // To R x C tiles of sums, the R tiles that are on the left by C on the right.
  template <int R, int C>
  static void add_products(const Pair* right, std::int64_t apart) {
    each<C>([&](auto c) {
      constexpr int COLUMN = c;
      load_tile<6 + COLUMN>(right + COLUMN * apart);
      each<R>([&](auto r) { dot_tiles<r * C + COLUMN, 4 + r, 6 + COLUMN>(); });
    });
  }
};

}  // namespace

extern "C" void attention_bfloat16(const Plan* plan, const bfloat16* q, const bfloat16* k, const bfloat16* v,
                                   bfloat16* out) {
  attend<Tiles>(*plan, q, k, v, out);
}

extern "C" void sizes(const Plan* plan, int, Sizes* to) { *to = sizes<Tiles>(*plan); }

extern "C" int ask() { return ask_for_tiles(); }
