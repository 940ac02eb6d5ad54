// out[m, n] = a @ b in bfloat16 on AMX, with a in blocks of whole tiles, and b, out row-major.
//
// A tile of a is 16 rows of 32 numbers, as it stands in a block. b is packed, slab by slab, in panels of 16
// columns, pair by pair along k: 16 pairs are a tile. A slab stays in L2 while all blocks of a that meet it
// are multiplied. Four tiles of sums are worked on at a time: two of a's by two of b's where blocks are high
// enough, else one by four. With EMULATE_TILES the same runs on any processor.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <type_traits>

#ifdef _OPENMP
#include <omp.h>
#endif
#if !defined(EMULATE_TILES)
#include <sys/syscall.h>
#include <unistd.h>
#endif

// All that does not change from call to call, as in spmm_block_panels.cpp; a unit is a pair of numbers.
struct Plan {
  const std::int32_t* starts;          // [tiles * block_rows + 1]
  const std::int32_t* columns;         // [blocks] first unit, counted from the tile's
  const void* values;                  // [units] 16 rows of a row of blocks, row by row, then the next 16
  const std::int32_t* single_starts;   // [tiles * block_rows * height + 1]
  const std::int32_t* single_columns;  // [singles] counted from the tile's first unit
  const void* singles;                 // [singles]
  const std::int32_t* row_order;       // [block_rows * height] row of out; -1 is padding
  const std::int32_t* column_order;    // [units * 2] row of b; -1 is padding
  const std::int64_t* chunks;          // [chunk_count + 1] runs of rows of blocks of about equal work
  void* packed;                        // [depth, slab] units; one for each thread if they work alone
  float* partial;                      // [block_rows * height, slab] likewise, if there are several tiles
  std::int64_t block_rows, height, width, units, depth, tiles, n, slab, chunk_count, threads, alone;
  std::int64_t lanes;  // always SIDE

  std::int64_t deep(std::int64_t tile) const { return std::min(depth, units - tile * depth); }
};

namespace {

constexpr int SIDE = 16;           // rows of a tile, pairs of numbers in a row of it, columns of a panel
constexpr int AREA = SIDE * SIDE;  // units or sums of a tile
constexpr int AHEAD = 4 * AREA;    // units of a fetched before their use
constexpr int ROWS_AHEAD = 16;     // of b while packing

struct bfloat16 {
  std::uint16_t bits;
};

using Pair = std::uint32_t;  // the first number in the lower half

inline float widen(std::uint32_t bits) {
  float wide;
  std::memcpy(&wide, &bits, 4);
  return wide;
}

inline float lower(Pair pair) { return widen(pair << 16); }
inline float upper(Pair pair) { return widen(pair & 0xffff0000); }

inline void narrow(float value, bfloat16* out) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, 4);
  const bool nan = (bits & 0x7fffffff) > 0x7f800000;
  out->bits = nan ? 0x7fc0 : (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;  // to nearest, ties to even
}

#if defined(EMULATE_TILES)

thread_local std::uint32_t tiles[8][SIDE][SIDE];

inline void configure() {}
inline void release() {}

template <int TILE>
inline void zero() {
  std::memset(tiles[TILE], 0, sizeof tiles[TILE]);
}

template <int TILE>
inline void load(const void* from) {
  std::memcpy(tiles[TILE], from, sizeof tiles[TILE]);
}

template <int TILE>
inline void store(void* to) {
  std::memcpy(to, tiles[TILE], sizeof tiles[TILE]);
}

// Of each row of the left tile with each column of the right one: products of pairs, summed in 32 bits.
template <int SUM, int LEFT, int RIGHT>
inline void dot() {
  const auto sum = reinterpret_cast<float (*)[SIDE]>(tiles[SUM]);
  for (int i = 0; i < SIDE; ++i)
    for (int pair = 0; pair < SIDE; ++pair)
      for (int j = 0; j < SIDE; ++j) {
        sum[i][j] += lower(tiles[LEFT][i][pair]) * lower(tiles[RIGHT][pair][j]);
        sum[i][j] += upper(tiles[LEFT][i][pair]) * upper(tiles[RIGHT][pair][j]);
      }
}

#else  // in assembly, for the intrinsics of GCC take no tile number but a literal

// Eight tiles of 16 rows of 64 bytes, as the processor reads it.
struct alignas(64) Shapes {
  std::uint8_t palette = 1, start = 0, reserved[14] = {};
  std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  std::uint8_t rows[16] = {SIDE, SIDE, SIDE, SIDE, SIDE, SIDE, SIDE, SIDE};
};
static_assert(sizeof(Shapes) == 64);

inline void configure() {
  const Shapes shapes;
  asm volatile("ldtilecfg %0" ::"m"(shapes));
}

inline void release() { asm volatile("tilerelease"); }

template <int TILE>
inline void zero() {
  asm volatile("tilezero %%tmm%c0" ::"i"(TILE));
}

template <int TILE>
inline void load(const void* from) {
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(from), "r"(std::int64_t(64)), "i"(TILE) : "memory");
}

template <int TILE>
inline void store(void* to) {
  asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(to), "r"(std::int64_t(64)), "i"(TILE) : "memory");
}

template <int SUM, int LEFT, int RIGHT>
inline void dot() {
  asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(SUM), "i"(LEFT), "i"(RIGHT));
}

#endif

// Calls f with 0 to COUNT - 1, each a constant: instructions name their tiles.
template <int COUNT, int AT = 0, class F>
inline void each(F f) {
  f(std::integral_constant<int, AT>());
  if constexpr (AT + 1 < COUNT) each<COUNT, AT + 1>(f);
}

// Where the sums of a tile of a with a panel stand: the first, and how far it is to the next tile and panel.
struct Sums {
  float* first;
  std::int64_t tile, panel;
};

// R tiles of a's rows, which lie `below` apart, times V panels: all blocks of a row of blocks in a tile of k.
template <int R, int V>
void add_blocks(const Pair* a, std::int64_t below, const std::int32_t* columns, std::int64_t count,
                std::int64_t width, const Pair* b, std::int64_t beside, Sums sums) {
  each<R * V>([&](auto at) { load<at>(sums.first + at / V * sums.tile + at % V * sums.panel); });
  for (std::int64_t block = 0; block < count; ++block)
    for (std::int64_t unit = 0; unit < width; unit += SIDE) {
      const std::int64_t row = columns[block] + unit;
      each<R>([&](auto r) {
        const Pair* left = a + r * below;
        for (int line = 0; line < AREA; line += SIDE) __builtin_prefetch(left + AHEAD + line);
        load<4 + r>(left);
      });
      each<V>([&](auto v) {
        constexpr int PANEL = v, RIGHT = 6 + PANEL % 2;
        load<RIGHT>(b + PANEL * beside + row * SIDE);
        each<R>([&](auto r) { dot<r * V + PANEL, 4 + r, RIGHT>(); });
      });
      a += AREA;
    }
  each<R * V>([&](auto at) { store<at>(sums.first + at / V * sums.tile + at % V * sums.panel); });
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

// What of a slab and a tile of k is worked on.
struct Part {
  const Plan& plan;
  std::int64_t tile, columns;  // of b
  const Pair* packed;
  float* partial;
  bfloat16* out;

  std::int64_t panels() const { return (columns + SIDE - 1) / SIDE; }
};

template <int R, int V>
void multiply(const Part& of, std::int64_t block_row, std::int64_t r, std::int64_t panel) {
  const Plan& plan = of.plan;
  const std::int64_t segment = of.tile * plan.block_rows + block_row, row = block_row * plan.height + r;
  const std::int64_t first = plan.starts[segment], count = plan.starts[segment + 1] - first;
  const std::int64_t below = count * plan.width * SIDE, beside = of.plan.deep(of.tile) * SIDE;
  const Pair* b = of.packed + panel * beside;
  alignas(64) float own[R * V * AREA];
  const std::int64_t high = plan.block_rows * plan.height * SIDE;
  Sums sums{own, AREA, R * AREA};
  if (plan.tiles > 1) sums = {of.partial + panel * high + row * SIDE, AREA, high};
  const auto at = [&](int s, int v) { return sums.first + v * sums.panel + s * SIDE; };
  if (of.tile == 0)
    for (int v = 0; v < V; ++v) std::memset(at(0, v), 0, R * AREA * sizeof(float));
  const Pair* a = static_cast<const Pair*>(plan.values) + first * plan.height * plan.width + r / SIDE * below;
  if (count) add_blocks<R, V>(a, below, plan.columns + first, count, plan.width, b, beside, sums);
  const std::int32_t* starts = plan.single_starts + segment * plan.height + r;
  for (int s = 0; s < R * SIDE && starts[0] < starts[R * SIDE]; ++s)
    for (int v = 0; v < V; ++v)
      add_singles(static_cast<const Pair*>(plan.singles) + starts[s], plan.single_columns + starts[s],
                  starts[s + 1] - starts[s], b + v * beside, at(s, v));
  if (of.tile + 1 < plan.tiles) return;
  for (int s = 0; s < R * SIDE; ++s) {
    if (plan.row_order[row + s] < 0) continue;
    for (int v = 0; v < V; ++v) {
      bfloat16* to = of.out + plan.row_order[row + s] * plan.n + (panel + v) * SIDE;
      const std::int64_t width = std::min<std::int64_t>(SIDE, of.columns - (panel + v) * SIDE);
      for (std::int64_t j = 0; j < width; ++j) narrow(at(s, v)[j], to + j);
    }
  }
}

// R tiles of a's rows times all panels, up to 4 / R at a time.
template <int R>
void over_panels(const Part& of, std::int64_t block_row, std::int64_t r) {
  constexpr int MOST = 4 / R;
  for (std::int64_t panel = 0; panel < of.panels(); panel += MOST)
    each<MOST>([&](auto v) {
      if (std::min<std::int64_t>(MOST, of.panels() - panel) == v + 1)
        multiply<R, v + 1>(of, block_row, r, panel);
    });
}

void multiply(const Part& of, std::int64_t from, std::int64_t to) {
  for (std::int64_t row = from; row < to; ++row) {
    std::int64_t r = 0;
    for (; r + 2 * SIDE <= of.plan.height; r += 2 * SIDE) over_panels<2>(of, row, r);
    if (r < of.plan.height) over_panels<1>(of, row, r);
  }
}

// Of one slab and tile of k, some units along k.
void pack(const Plan& plan, const bfloat16* b, std::int64_t tile, std::int64_t from, std::int64_t to,
          std::int64_t column, std::int64_t columns, Pair* packed) {
  static const bfloat16 zeros[SIDE] = {};
  const std::int64_t deep = plan.deep(tile);
  for (std::int64_t unit = from; unit < to; ++unit) {
    const std::int32_t* order = plan.column_order + (tile * plan.depth + unit) * 2;
    if (unit + ROWS_AHEAD < deep)
      for (int i = ROWS_AHEAD * 2; i < (ROWS_AHEAD + 1) * 2; ++i)
        for (std::int64_t j = 0; j < columns && order[i] >= 0; j += 2 * SIDE)
          __builtin_prefetch(b + order[i] * plan.n + column + j);
    for (std::int64_t first = 0; first < columns; first += SIDE) {
      const bfloat16* row[2];
      for (int i = 0; i < 2; ++i) row[i] = order[i] < 0 ? zeros : b + order[i] * plan.n + column + first;
      Pair* to = packed + first * deep + unit * SIDE;
      if (columns - first >= SIDE)
        for (int j = 0; j < SIDE; ++j) to[j] = row[0][j].bits | Pair(row[1][j].bits) << 16;
      else
        for (int j = 0; j < SIDE; ++j)
          to[j] = j < columns - first ? row[0][j].bits | Pair(row[1][j].bits) << 16 : 0;
    }
  }
}

// Alone, each thread packs slabs for itself; else all pack one slab after the other, and share its rows.
void spmm(const Plan& plan, const bfloat16* b, bfloat16* out) {
  const std::int64_t slabs = (plan.n + plan.slab - 1) / plan.slab;
  const std::int64_t whole = (plan.slab + SIDE - 1) / SIDE * SIDE;
#pragma omp parallel num_threads(plan.threads)
  {
#ifdef _OPENMP
    const std::int64_t thread = plan.alone ? omp_get_thread_num() : 0;
#else
    const std::int64_t thread = 0;
#endif
    Pair* packed = static_cast<Pair*>(plan.packed) + thread * plan.depth * whole;
    float* partial = plan.partial + thread * plan.block_rows * plan.height * whole;
    configure();
    if (plan.alone) {
#pragma omp for schedule(static)
      for (std::int64_t slab = 0; slab < slabs; ++slab) {
        const std::int64_t column = slab * plan.slab, columns = std::min(plan.slab, plan.n - column);
        for (std::int64_t tile = 0; tile < plan.tiles; ++tile) {
          pack(plan, b, tile, 0, plan.deep(tile), column, columns, packed);
          multiply(Part{plan, tile, columns, packed, partial, out + column}, 0, plan.block_rows);
        }
      }
    } else {
      for (std::int64_t column = 0; column < plan.n; column += plan.slab) {
        const std::int64_t columns = std::min(plan.slab, plan.n - column);
        for (std::int64_t tile = 0; tile < plan.tiles; ++tile) {
          const std::int64_t deep = plan.deep(tile);
#pragma omp for schedule(static)
          for (std::int64_t part = 0; part < plan.threads; ++part)
            pack(plan, b, tile, deep * part / plan.threads, deep * (part + 1) / plan.threads, column, columns,
                 packed);
#pragma omp for schedule(dynamic, 1)
          for (std::int64_t chunk = 0; chunk < plan.chunk_count; ++chunk)
            multiply(Part{plan, tile, columns, packed, partial, out + column}, plan.chunks[chunk],
                     plan.chunks[chunk + 1]);
        }
      }
    }
    release();
  }
}

}  // namespace

extern "C" void spmm_bfloat16(const Plan* plan, const bfloat16* b, bfloat16* out) { spmm(*plan, b, out); }

// Linux lets a process use tiles once it has asked; 0 if it may.
extern "C" int ask() {
#if defined(EMULATE_TILES)
  return 0;
#else
  constexpr int REQUEST = 0x1023, TILE_DATA = 18;
  return int(syscall(SYS_arch_prctl, REQUEST, TILE_DATA));
#endif
}

extern "C" int lanes(int) { return SIDE; }
extern "C" int rows() { return SIDE; }
extern "C" int bfloat16s() { return 2; }  // in a unit
