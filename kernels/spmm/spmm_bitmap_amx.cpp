// out[n, m] = b @ a^T in bfloat16 on AMX, with a as a bitmap over tiles of 16 rows x 2 columns
// (suite/formats/bitmap.py), b token by token, and out as b is.
//
// Sixteen tiles of the bitmap, one after the other, are one tile of the processor: 16 pairs of columns, each
// of 16 rows of a. Their values are spread into a buffer that stays in L1 and loaded from there as the right
// operand; the left one is 16 tokens x 32 columns of b. With EMULATE_TILES the same runs on any processor.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <type_traits>

#if defined(__AVX512VBMI2__)
#include <immintrin.h>
#endif
#if !defined(EMULATE_TILES)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace {

constexpr int ROWS = 16, BYTES = 64;  // of a tile of the processor, and of each of its rows
constexpr int COLUMNS = BYTES / 2;
constexpr int SUMS = 4;      // tiles that hold sums; two more for the left operand, and two for the right
constexpr int AHEAD = 4096;  // bytes; the hardware fetches ahead by itself, but only to the end of a page

struct bfloat16 {
  std::uint16_t bits;
};

inline void narrow(float value, bfloat16* out) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, 4);
  const bool nan = (bits & 0x7fffffff) > 0x7f800000;
  out->bits = nan ? 0x7fc0 : (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;  // to nearest, ties to even
}

// How many rows each tile has, and how many bytes a row, as the processor reads it.
struct alignas(64) Shapes {
  std::uint8_t palette = 1, start = 0, reserved[14] = {};
  std::uint16_t row_bytes[16] = {};
  std::uint8_t rows[16] = {};
  void set(int tile, int count) {
    rows[tile] = std::uint8_t(count);
    row_bytes[tile] = BYTES;
  }
};
static_assert(sizeof(Shapes) == 64);

#if defined(EMULATE_TILES)

struct Tiles {
  Shapes shapes;
  alignas(64) unsigned char data[8][ROWS][BYTES];
};
thread_local Tiles tiles;

inline float widen(bfloat16 value) {
  const std::uint32_t bits = std::uint32_t(value.bits) << 16;
  float wide;
  std::memcpy(&wide, &bits, 4);
  return wide;
}

inline void configure(const Shapes& shapes) { tiles.shapes = shapes; }
inline void release() {}

template <int TILE>
inline void zero() {
  std::memset(tiles.data[TILE], 0, sizeof tiles.data[TILE]);
}

template <int TILE>
inline void load(const void* from) {
  std::memcpy(tiles.data[TILE], from, std::size_t(tiles.shapes.rows[TILE]) * BYTES);
}

template <int TILE>
inline void store(void* to) {
  std::memcpy(to, tiles.data[TILE], std::size_t(tiles.shapes.rows[TILE]) * BYTES);
}

// Of each row of the left tile with each column of the right one: products of pairs, summed in 32 bits.
template <int SUM, int LEFT, int RIGHT>
inline void dot() {
  const auto left = reinterpret_cast<const bfloat16(*)[COLUMNS]>(tiles.data[LEFT]);
  const auto right = reinterpret_cast<const bfloat16(*)[COLUMNS]>(tiles.data[RIGHT]);
  const auto sum = reinterpret_cast<float (*)[ROWS]>(tiles.data[SUM]);
  for (int i = 0; i < tiles.shapes.rows[SUM]; ++i)
    for (int pair = 0; pair < tiles.shapes.rows[RIGHT]; ++pair)
      for (int j = 0; j < ROWS; ++j)
        for (int side = 0; side < 2; ++side)
          sum[i][j] += widen(left[i][2 * pair + side]) * widen(right[pair][2 * j + side]);
}

#else  // in assembly, for the intrinsics of GCC take no tile number but a literal

inline void configure(const Shapes& shapes) { asm volatile("ldtilecfg %0" ::"m"(shapes)); }
inline void release() { asm volatile("tilerelease"); }

template <int TILE>
inline void zero() {
  asm volatile("tilezero %%tmm%c0" ::"i"(TILE));
}

template <int TILE>
inline void load(const void* from) {
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(from), "r"(std::int64_t(BYTES)), "i"(TILE) : "memory");
}

template <int TILE>
inline void store(void* to) {
  asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(to), "r"(std::int64_t(BYTES)), "i"(TILE) : "memory");
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

// A row of a tile: the next values where a bit is set, and 0 elsewhere.
inline void spread(std::uint32_t bits, const bfloat16* values, bfloat16* to) {
#if defined(__AVX512VBMI2__)
  _mm512_store_si512(to, _mm512_maskz_expand_epi16(bits, _mm512_loadu_si512(values)));
#else
  for (int at = 0; at < COLUMNS; ++at) to[at] = bits >> at & 1 ? *values++ : bfloat16{0};
#endif
}

struct Bitmap {
  const std::uint32_t* bits;
  const bfloat16* values;
  const std::int64_t* starts;  // of each strip's values
  std::int64_t m, k;
  std::int64_t strips() const { return (m + ROWS - 1) / ROWS; }
  std::int64_t pairs() const { return (k + 1) / 2; }
  std::int64_t steps() const { return (k + COLUMNS - 1) / COLUMNS; }
};

// Spreads the tiles of a strip one after the other.
struct Reader {
  const std::uint32_t* bits;
  const bfloat16* values;
  std::int64_t pairs;  // still to come
  void open(const Bitmap& a, std::int64_t strip) {
    bits = a.bits + strip * a.pairs();
    values = a.values + a.starts[strip];
    pairs = a.pairs();
  }
  void next(bfloat16* to) {
    const int rows = int(std::min<std::int64_t>(ROWS, pairs));
    for (int row = 0; row < rows; ++row) {
      spread(bits[row], values, to + row * COLUMNS);
      values += __builtin_popcount(bits[row]);
      __builtin_prefetch((const char*)values + AHEAD);
    }
    if (rows < ROWS) std::memset(to + rows * COLUMNS, 0, std::size_t(ROWS - rows) * BYTES);
    bits += rows;
    pairs -= rows;
  }
};

// Tokens in panels of so many tiles, which are worked on together. All tiles have as many rows, of which the
// last ones of a panel may be zeros. Packed, the 32 numbers of a step stand beside those of the next token.
struct Tokens {
  std::int64_t n, panels, each;
  int tiles, rows;
  explicit Tokens(std::int64_t n)
      : n(n),
        panels((n + SUMS * ROWS - 1) / (SUMS * ROWS)),
        each((n + panels - 1) / panels),
        tiles(int((each + ROWS - 1) / ROWS)),
        rows(int((each + tiles - 1) / tiles)) {}
  std::int64_t padded() const { return std::int64_t(tiles) * rows; }
};

void pack(const Tokens& tokens, const bfloat16* b, std::int64_t token, std::int64_t k, std::int64_t steps,
          bfloat16* packed) {
  const std::int64_t panel = token / tokens.each, within = token % tokens.each;
  for (std::int64_t step = 0; step < steps; ++step) {
    const std::int64_t count = std::min<std::int64_t>(COLUMNS, k - step * COLUMNS);
    std::memcpy(packed + ((panel * steps + step) * tokens.padded() + within) * COLUMNS,
                b + token * k + step * COLUMNS, std::size_t(count) * sizeof *b);
  }
}

void put(const float* sums, const Tokens& tokens, std::int64_t panel, int tile, std::int64_t strip,
         bfloat16* out, std::int64_t m) {
  const std::int64_t first = panel * tokens.each, end = std::min(tokens.n, first + tokens.each);
  const std::int64_t width = std::min<std::int64_t>(ROWS, m - strip * ROWS);
  for (int row = 0; row < tokens.rows; ++row) {
    const std::int64_t token = first + std::int64_t(tile) * tokens.rows + row;
    if (token >= end) return;
    for (std::int64_t j = 0; j < width; ++j) narrow(sums[row * ROWS + j], out + token * m + strip * ROWS + j);
  }
}

// STRIPS strips of a with the TILES tiles of tokens of a panel.
template <int STRIPS, int TILES>
void multiply(const Bitmap& a, std::int64_t strip, const Tokens& tokens, std::int64_t panel,
              const bfloat16* packed, bfloat16* out) {
  alignas(64) bfloat16 buffer[STRIPS][2][ROWS * COLUMNS];  // two, for one is still being loaded
  Reader reader[STRIPS];
  each<STRIPS>([&](auto s) { reader[s].open(a, strip + s); });
  each<STRIPS * TILES>([](auto tile) { zero<tile>(); });
  for (std::int64_t step = 0; step < a.steps(); ++step) {
    const bfloat16* left = packed + (panel * a.steps() + step) * tokens.padded() * COLUMNS;
    each<STRIPS>([&](auto s) {
      constexpr int STRIP = s, RIGHT = SUMS + 2 + STRIP % 2;
      bfloat16* spare = buffer[STRIP][step & 1];
      reader[STRIP].next(spare);
      load<RIGHT>(spare);
      each<TILES>([&](auto t) {
        constexpr int TILE = t, LEFT = SUMS + TILE % 2;
        if (STRIP == 0) load<LEFT>(left + TILE * tokens.rows * COLUMNS);
        dot<STRIP * TILES + TILE, LEFT, RIGHT>();
      });
    });
  }
  each<STRIPS * TILES>([&](auto tile) {
    alignas(64) float sums[ROWS * ROWS];
    store<tile>(sums);
    put(sums, tokens, panel, tile % TILES, strip + tile / TILES, out, a.m);
  });
}

void dispatch(int strips, const Bitmap& a, std::int64_t strip, const Tokens& tokens, std::int64_t panel,
              const bfloat16* packed, bfloat16* out) {
  each<SUMS>([&](auto t) {
    constexpr int TILES = t + 1;
    if (tokens.tiles != TILES) return;
    each<SUMS / TILES>([&](auto s) {
      constexpr int STRIPS = s + 1;
      if (strips == STRIPS) multiply<STRIPS, TILES>(a, strip, tokens, panel, packed, out);
    });
  });
}

void spmm(const Bitmap& a, const bfloat16* b, bfloat16* out, const Tokens& tokens, bfloat16* packed,
          int threads) {
  Shapes shapes;
  for (int tile = 0; tile < 8; ++tile) shapes.set(tile, tile < SUMS + 2 ? tokens.rows : ROWS);
  // Strips that share the load of a left tile, but no more than leave work for every thread.
  const std::int64_t shared = std::max<std::int64_t>(1, a.strips() * tokens.panels / threads);
  const std::int64_t together = std::min<std::int64_t>(shared, SUMS / tokens.tiles);
  const std::int64_t groups = (a.strips() + together - 1) / together;
#pragma omp parallel num_threads(threads)
  {
#pragma omp for schedule(static)
    for (std::int64_t token = 0; token < tokens.n; ++token) pack(tokens, b, token, a.k, a.steps(), packed);
    configure(shapes);
    // Strips take equal time whatever they hold, and each thread its own run of memory.
#pragma omp for schedule(static) collapse(2)
    for (std::int64_t group = 0; group < groups; ++group)
      for (std::int64_t panel = 0; panel < tokens.panels; ++panel) {
        const std::int64_t strip = group * together;
        const int strips = int(std::min(together, a.strips() - strip));
        dispatch(strips, a, strip, tokens, panel, packed, out);
      }
    release();
  }
}

}  // namespace

// Numbers that packed b takes; they are zeros before the first call.
extern "C" std::int64_t packed(std::int64_t k, std::int64_t n) {
  const Tokens tokens(n);
  return tokens.panels * tokens.padded() * ((k + COLUMNS - 1) / COLUMNS) * COLUMNS;
}

// Linux lets a process use tiles once it has asked; 0 if it may.
extern "C" int ask() {
#if defined(EMULATE_TILES)
  return 0;
#else
  constexpr int REQUEST = 0x1023, TILE_DATA = 18;
  return int(syscall(SYS_arch_prctl, REQUEST, TILE_DATA));
#endif
}

extern "C" void spmm_bfloat16(const std::uint32_t* bits, const bfloat16* values, const std::int64_t* starts,
                              const bfloat16* b, bfloat16* out, std::int64_t m, std::int64_t k,
                              std::int64_t n, bfloat16* packed, int threads) {
  spmm(Bitmap{bits, values, starts, m, k}, b, out, Tokens(n), packed, threads);
}
