// out[m, n] = a @ b, with a as a bitmap over tiles of 32 rows x 2 columns (suite/formats/bitmap.py), and b
// and out row-major.
//
// A tile is a 64-bit word. Its values are spread to their places in registers, zeros between them, and all of
// it is multiplied by a pair of rows of b: bytes are saved, multiplications are not. The sums of a strip of
// 32 rows and of a panel of columns stay in registers along the whole strip.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <type_traits>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "bfloat16.h"
#include "constants.h"
#include "spread.h"

namespace {

constexpr int HEIGHT = 32, WIDTH = 2, WORD = HEIGHT * WIDTH;
constexpr int IN_FLIGHT = 12;  // sums: two multiply-adds a cycle, each at most six cycles long
constexpr int AHEAD = 4096;    // bytes; the hardware fetches ahead by itself, but only to the end of a page

// Lanes: how a processor spreads and multiplies. A register holds the weights of so many POSITIONS of a tile,
// and as many sums, SHARES of them for a row. A block of sums is GROUPS registers for each of at most COLUMNS
// columns: as many as there are registers for.
//
// mask(word): the bits in the form that `spread` wants; spread<FIRST>(mask, values): the weights of the
// positions from FIRST on, the next of `values` where a bit is set and 0 elsewhere; it may read a register's
// worth of values, needed or not. pair(b): two numbers of b, repeated. dot(sum, weights, pair): the sum with
// the products added.

#if defined(__AVX512F__) && defined(__AVX512BW__)

// One way into the mask registers for all of a word: each move from a general register takes the unit that
// spreads.
struct Masked {
  typedef __mmask64 Mask;
  static Mask mask(std::uint64_t word) {
    __mmask64 bits;
    asm("kmovq %1, %0" : "=k"(bits) : "r"(word));
    return bits;
  }
  template <int FIRST>
  static Mask from(Mask mask) {
    return FIRST ? _kshiftri_mask64(mask, FIRST) : mask;
  }
};

struct Floats : Masked {
  typedef float Part;
  typedef __m512 Weights, Sum;
  static constexpr int POSITIONS = 16, SHARES = 2, GROUPS = 4, COLUMNS = 6;

  template <int FIRST>
  static Weights spread(Mask mask, const float* values) {
    __m512 wide = _mm512_loadu_ps(values);
    SPREAD("vexpandps", wide, from<FIRST>(mask));
    return wide;
  }
  template <int FIRST>
  static Weights spread(Mask mask, const bfloat16* values) {
    const __m512i loaded = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)values));
    __m512 wide = _mm512_castsi512_ps(_mm512_slli_epi32(loaded, 16));
    SPREAD("vexpandps", wide, from<FIRST>(mask));
    return wide;
  }
  static Weights pair(const float* b) {
    double both;
    std::memcpy(&both, b, 8);
    return _mm512_castpd_ps(_mm512_set1_pd(both));
  }
  static Sum dot(Sum sum, Weights weights, Weights b) { return _mm512_fmadd_ps(weights, b, sum); }
};

#if defined(__AVX512BF16__) && defined(__AVX512VBMI2__)
struct Halves : Masked {
  typedef bfloat16 Part;
  typedef __m512i Weights;
  typedef __m512 Sum;
  static constexpr int POSITIONS = 32, SHARES = 1, GROUPS = 2, COLUMNS = 12;

  template <int FIRST>
  static Weights spread(Mask mask, const bfloat16* values) {
    __m512i narrow = _mm512_loadu_si512(values);
    SPREAD("vpexpandw", narrow, from<FIRST>(mask));
    return narrow;
  }
  static Weights pair(const bfloat16* b) {
    int both;
    std::memcpy(&both, b, 4);
    return _mm512_set1_epi32(both);
  }
  static Sum dot(Sum sum, Weights weights, Weights b) {
    return _mm512_dpbf16_ps(sum, (__m512bh)weights, (__m512bh)b);
  }
};
#define HALVES
#endif

#elif defined(__AVX2__) && defined(__FMA__)

// For each byte of bits, which of the next values stands in each place.
struct Places {
  std::uint8_t of[256][8];
  constexpr Places() : of() {
    for (int bits = 0; bits < 256; ++bits)
      for (int place = 0, next = 0; place < 8; ++place) {
        of[bits][place] = std::uint8_t(next);
        next += bits >> place & 1;
      }
  }
};
constexpr Places PLACES;

struct Floats {
  typedef float Part;
  typedef std::uint64_t Mask;
  typedef __m256 Weights, Sum;
  static constexpr int POSITIONS = 8, SHARES = 2, GROUPS = 4, COLUMNS = 3;

  static Mask mask(std::uint64_t word) { return word; }
  static __m256 load(const float* values) { return _mm256_loadu_ps(values); }
  static __m256 load(const bfloat16* values) {
    const __m256i loaded = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)values));
    return _mm256_castsi256_ps(_mm256_slli_epi32(loaded, 16));
  }
  template <int FIRST, class Number>
  static Weights spread(Mask mask, const Number* values) {
    const int bits = mask >> FIRST & 255;
    const __m256i places = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i*)PLACES.of[bits]));
    const __m256i each = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    const __m256i set = _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(bits), each), each);
    return _mm256_and_ps(_mm256_permutevar8x32_ps(load(values), places), _mm256_castsi256_ps(set));
  }
  static Weights pair(const float* b) {
    double both;
    std::memcpy(&both, b, 8);
    return _mm256_castpd_ps(_mm256_set1_pd(both));
  }
  static Sum dot(Sum sum, Weights weights, Weights b) { return _mm256_fmadd_ps(weights, b, sum); }
};

#else

struct Floats {
  typedef float Part;
  typedef std::uint64_t Mask;
  typedef float Weights __attribute__((vector_size(16)));
  typedef Weights Sum;
  static constexpr int POSITIONS = 4, SHARES = 2, GROUPS = 4, COLUMNS = 2;

  static Mask mask(std::uint64_t word) { return word; }
  template <int FIRST, class Number>
  static Weights spread(Mask mask, const Number* values) {
    Weights weights = {};
    for (int place = 0; place < POSITIONS; ++place)
      if (mask >> (FIRST + place) & 1) weights[place] = widen(*values++);
    return weights;
  }
  static Weights pair(const float* b) { return Weights{b[0], b[1], b[0], b[1]}; }
  static Sum dot(Sum sum, Weights weights, Weights b) { return sum + weights * b; }
};

#endif

#if defined(HALVES)
template <class Number>
using Lanes = std::conditional_t<std::is_same_v<Number, bfloat16>, Halves, Floats>;
#else
template <class Number>
using Lanes = Floats;
#endif

template <class Number>
struct Bitmap {
  const std::uint64_t* words;
  const Number* values;
  const std::int64_t* starts;  // of each strip's values
  std::int64_t m, k;
  std::int64_t strips() const { return (m + HEIGHT - 1) / HEIGHT; }
  std::int64_t across() const { return (k + WIDTH - 1) / WIDTH; }
};

template <int FIRST>
inline int count_before(std::uint64_t word) {
  if constexpr (FIRST == 0)
    return 0;
  else
    return __builtin_popcountll(word << (WORD - FIRST));
}

template <class L, int BLOCK, int COLUMNS, class Number>
inline void step(std::uint64_t word, const Number*& values, const typename L::Part* panel,
                 typename L::Sum (&sum)[L::GROUPS][COLUMNS]) {
  typename L::Weights weights[L::GROUPS];
  const typename L::Mask mask = L::mask(word);
  each<L::GROUPS>([&](auto group) {
    constexpr int FIRST = (BLOCK * L::GROUPS + group) * L::POSITIONS;
    weights[group] = L::template spread<FIRST>(mask, values + count_before<FIRST>(word));
  });
  values += __builtin_popcountll(word);
  __builtin_prefetch((const char*)values + AHEAD);
  for (int c = 0; c < COLUMNS; ++c) {
    const typename L::Weights b = L::pair(panel + c * WIDTH);
    for (int g = 0; g < L::GROUPS; ++g) sum[g][c] = L::dot(sum[g][c], weights[g], b);
  }
}

// The rows of one block of a strip: all of them where a tile's weights fit the registers at once.
template <class L, int BLOCK, int COLUMNS, class Number>
__attribute__((noinline)) void multiply(const Bitmap<Number>& a, std::int64_t strip,
                                        const typename L::Part* panel, Number* out, std::int64_t n) {
  const std::uint64_t* words = a.words + strip * a.across();
  const Number* values = a.values + a.starts[strip];
  constexpr int SETS = L::GROUPS * COLUMNS < IN_FLIGHT ? 2 : 1;
  typename L::Sum sum[SETS][L::GROUPS][COLUMNS] = {};
  std::int64_t at = 0;
  for (; at + SETS <= a.across(); at += SETS)
    for (int s = 0; s < SETS; ++s)
      step<L, BLOCK, COLUMNS>(words[at + s], values, panel + (at + s) * COLUMNS * WIDTH, sum[s]);
  if (at < a.across()) step<L, BLOCK, COLUMNS>(words[at], values, panel + at * COLUMNS * WIDTH, sum[0]);
  constexpr int ROWS = L::POSITIONS / WIDTH;
  for (int g = 0; g < L::GROUPS; ++g)
    for (int c = 0; c < COLUMNS; ++c) {
      typename L::Sum total = sum[0][g][c];
      if (SETS > 1) total += sum[SETS - 1][g][c];
      float shares[ROWS * L::SHARES];
      std::memcpy(shares, &total, sizeof shares);
      const std::int64_t first = strip * HEIGHT + (BLOCK * L::GROUPS + g) * ROWS;
      for (std::int64_t row = first; row < std::min(first + ROWS, a.m); ++row) {
        const float* own = shares + (row - first) * L::SHARES;
        narrow(L::SHARES == 2 ? own[0] + own[1] : own[0], out + row * n + c);
      }
    }
}

template <class L, int BLOCK, int COLUMNS, class Number>
void blocks(const Bitmap<Number>& a, std::int64_t strip, const typename L::Part* panel, Number* out,
            std::int64_t n) {
  multiply<L, BLOCK, COLUMNS>(a, strip, panel, out, n);
  if constexpr ((BLOCK + 1) * L::GROUPS * L::POSITIONS < WORD)
    blocks<L, BLOCK + 1, COLUMNS>(a, strip, panel, out, n);
}

// Panels are as equal as can be: the narrower one is, the more of its time goes into spreading.
template <class L>
struct Panels {
  std::int64_t n, count;
  explicit Panels(std::int64_t n) : n(n), count((n + L::COLUMNS - 1) / L::COLUMNS) {}
  std::int64_t first(std::int64_t panel) const { return panel * n / count; }
};

inline void put(float value, float* part) { *part = value; }
inline void put(bfloat16 value, float* part) { *part = widen(value); }
inline void put(bfloat16 value, bfloat16* part) { *part = value; }

// Two rows of b, interleaved, panel by panel.
template <class L, class Number>
void pack(const Panels<L>& panels, const Number* b, std::int64_t pair, std::int64_t k,
          typename L::Part* packed) {
  const std::int64_t n = panels.n, across = (k + WIDTH - 1) / WIDTH;
  for (std::int64_t panel = 0; panel < panels.count; ++panel) {
    const std::int64_t first = panels.first(panel), columns = panels.first(panel + 1) - first;
    typename L::Part* to = packed + (first * across + pair * columns) * WIDTH;
    for (std::int64_t c = 0; c < columns; ++c)
      for (int side = 0; side < WIDTH; ++side) {
        const std::int64_t row = pair * WIDTH + side;
        put(row < k ? b[row * n + first + c] : Number{}, to + c * WIDTH + side);
      }
  }
}

template <class Number>
void spmm(const Bitmap<Number>& a, const Number* b, Number* out, std::int64_t n, void* buffer, int threads) {
  typedef Lanes<Number> L;
  typedef typename L::Part Part;
  const Panels<L> panels(n);
  const bool as_is = std::is_same_v<Number, Part> && n == 1 && a.k % WIDTH == 0;
  Part* packed = static_cast<Part*>(buffer);
  const Part* source = as_is ? reinterpret_cast<const Part*>(b) : packed;
#pragma omp parallel num_threads(threads)
  {
    if (!as_is) {
#pragma omp for schedule(static)
      for (std::int64_t pair = 0; pair < a.across(); ++pair) pack(panels, b, pair, a.k, packed);
    }
    // Strips take equal time whatever they hold, and each thread its own run of memory.
#pragma omp for schedule(static) collapse(2)
    for (std::int64_t strip = 0; strip < a.strips(); ++strip)
      for (std::int64_t panel = 0; panel < panels.count; ++panel) {
        const std::int64_t first = panels.first(panel);
        with<L::COLUMNS>(int(panels.first(panel + 1) - first), [&](auto columns) {
          blocks<L, 0, columns>(a, strip, source + first * a.across() * WIDTH, out + first, n);
        });
      }
  }
}

}  // namespace

#define SPMM(NAME, NUMBER)                                                                           \
  extern "C" void NAME(const std::uint64_t* words, const NUMBER* values, const std::int64_t* starts, \
                       const NUMBER* b, NUMBER* out, std::int64_t m, std::int64_t k, std::int64_t n, \
                       void* packed, int threads) {                                                  \
    spmm(Bitmap<NUMBER>{words, values, starts, m, k}, b, out, n, packed, threads);                   \
  }

SPMM(spmm_float32, float)
SPMM(spmm_bfloat16, bfloat16)

extern "C" int lanes(int bytes) { return bytes == 4 ? Lanes<float>::POSITIONS : Lanes<bfloat16>::POSITIONS; }
