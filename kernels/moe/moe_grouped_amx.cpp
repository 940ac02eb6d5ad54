// out[n, d] = the sum over a token's experts of gate * down(silu(gate x) * (up x)), in bfloat16 on AMX.
//
// Up to 32 tokens of an expert are brought near as two tiles of 16 rows, 32 numbers at a time; panels of
// weights are tiles as they are packed: 16 pairs by 16 outputs.

#include <cstdint>
#include <cstring>

#include "moe_experts.h"
#include "tiles.h"

namespace {

constexpr int SIDE = TILE_ROWS;    // rows of a tile, and units of a row
constexpr int AREA = SIDE * SIDE;  // units or sums of a tile

struct Tiles {
  using Unit = Pair;
  static constexpr int LANES = SIDE, ROWS = 2 * SIDE, STEP = SIDE;
  static constexpr bool STAGED = true;

  static std::int64_t units(std::int64_t numbers) { return up_to(numbers, 2 * SIDE) * SIDE; }
  static void begin() { configure(Shapes()); }
  static void end() { release(); }

  // [tiles of rows][units / 16][16 rows][16 units], with zeros after the row.
  static void stage(const bfloat16* row, std::int64_t length, std::int64_t units, std::int64_t r,
                    Pair* near) {
    Pair* to = near + r / SIDE * SIDE * units + r % SIDE * SIDE;
    for (std::int64_t first = 0; first < 2 * units; first += 2 * SIDE, to += AREA) {
      const std::int64_t there = std::min<std::int64_t>(2 * SIDE, length - first);
      if (there < 2 * SIDE) std::memset(static_cast<void*>(to), 0, SIDE * sizeof *to);
      std::memcpy(static_cast<void*>(to), row + first, there * sizeof *row);
    }
  }

  static void restage(const Pair* row, std::int64_t units, std::int64_t r, Pair* near) {
    stage(reinterpret_cast<const bfloat16*>(row), 2 * units, units, r, near);
  }

  static void multiply(const Pair* rows, std::int64_t count, const Pair* weights, std::int64_t units,
                       float* sums, const Ahead& ahead) {
    with<2>(int(up_to(count, SIDE)), [&](auto tiles) { multiply<tiles>(rows, weights, units, sums, ahead); });
  }

  template <int T>
  static void multiply(const Pair* rows, const Pair* weights, std::int64_t units, float* sums,
                       const Ahead& ahead) {
    each<2 * T>([&](auto at) { zero_tile<at>(); });
    for (std::int64_t unit = 0; unit < units; unit += SIDE) {
      ahead.fetch(unit, SIDE);
      each<T>([&](auto t) { load_tile<4 + t>(rows + (t * units + unit) * SIDE); });
      each<2>([&](auto side) {
        constexpr int RIGHT = side;
        load_tile<6 + RIGHT>(weights + (RIGHT * units + unit) * SIDE);
        each<T>([&](auto t) { dot_tiles<2 * t + RIGHT, 4 + t, 6 + RIGHT>(); });
      });
    }
    each<2 * T>([&](auto at) { store_tile<at>(sums + at % 2 * ROWS * SIDE + at / 2 * AREA); });
  }
};

}  // namespace

extern "C" void pack_bfloat16(const Plan* plan, const bfloat16* up, const bfloat16* down) {
  pack<Tiles>(*plan, up, down);
}

extern "C" void moe_bfloat16(const Plan* plan, const bfloat16* x, const bfloat16* logits, bfloat16* out) {
  answer<Tiles>(*plan, x, logits, out);
}

extern "C" void sizes(const Plan* plan, int, Sizes* to) { *to = sizes<Tiles>(*plan); }

extern "C" int ask() { return ask_for_tiles(); }
