// out[n, m] = b @ a^T in bfloat16 on AMX, with a as a bitmap over tiles of 16 rows x 2 columns
// (suite/formats/bitmap.py), b token by token, and out as b is.
//
// Sixteen tiles of the bitmap, one after the other, are one tile of the processor: 16 pairs of columns, each
// of 16 rows of a. Their values are spread into a buffer that stays in L1 and loaded from there as the right
// operand; the left one is 16 tokens x 32 columns of b.

#include <algorithm>
#include <cstdint>
#include <cstring>

#if defined(__AVX512VBMI2__)
#include <immintrin.h>
#endif

#include "constants.h"
#include "tiles.h"

namespace {

constexpr int ROWS = TILE_ROWS, COLUMNS = TILE_BYTES / 2;  // of a tile of the processor, as bfloat16
constexpr int SUMS = 4;      // tiles that hold sums; two more for the left operand, and two for the right
constexpr int AHEAD = 4096;  // bytes; the hardware fetches ahead by itself, but only to the end of a page

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
    if (rows < ROWS) std::memset(to + rows * COLUMNS, 0, std::size_t(ROWS - rows) * TILE_BYTES);
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
  each<STRIPS * TILES>([](auto tile) { zero_tile<tile>(); });
  for (std::int64_t step = 0; step < a.steps(); ++step) {
    const bfloat16* left = packed + (panel * a.steps() + step) * tokens.padded() * COLUMNS;
    each<STRIPS>([&](auto s) {
      constexpr int STRIP = s, RIGHT = SUMS + 2 + STRIP % 2;
      bfloat16* spare = buffer[STRIP][step & 1];
      reader[STRIP].next(spare);
      load_tile<RIGHT>(spare);
      each<TILES>([&](auto t) {
        constexpr int TILE = t, LEFT = SUMS + TILE % 2;
        if (STRIP == 0) load_tile<LEFT>(left + TILE * tokens.rows * COLUMNS);
        dot_tiles<STRIP * TILES + TILE, LEFT, RIGHT>();
      });
    });
  }
  each<STRIPS * TILES>([&](auto tile) {
    alignas(64) float sums[ROWS * ROWS];
    store_tile<tile>(sums);
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
  for (int tile = 0; tile < SUMS + 2; ++tile) shapes.set(tile, tokens.rows);
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

extern "C" int ask() { return ask_for_tiles(); }

extern "C" void spmm_bfloat16(const std::uint32_t* bits, const bfloat16* values, const std::int64_t* starts,
                              const bfloat16* b, bfloat16* out, std::int64_t m, std::int64_t k,
                              std::int64_t n, bfloat16* packed, int threads) {
  spmm(Bitmap{bits, values, starts, m, k}, b, out, Tokens(n), packed, threads);
}
