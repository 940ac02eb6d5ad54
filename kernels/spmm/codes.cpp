// out[m, n] = a @ b, with a in groups of codes of 4 or 2 bits (suite/formats/quantized.py), b stored by columns
// and out by rows; both bfloat16.
//
// Codes are the places of their numbers in a table, and a table of sixteen fits a register: one shuffle makes
// bfloat16 weights of the 32 codes of a group, one instruction multiplies and adds them in pairs. A group's sum
// is multiplied by its scale. For several columns its table is, which costs as much once as that does each
// time: a number of the table times a scale is a bfloat16 (suite/quantized.py), so nothing is rounded.

#include <algorithm>
#include <cstdint>
#include <cstring>

#if defined(__AVX512BF16__) && defined(__AVX512BW__) && defined(__AVX512VBMI2__)
#include <immintrin.h>
#define HALVES
#endif

#include "bfloat16.h"
#include "constants.h"
#include "threads.h"

namespace {

constexpr int GROUP = 32;             // codes
constexpr int LANES = 16;             // sums of a row and a column, to be added up at the row's end
constexpr int COLUMNS = 8;            // whose sums are in registers
constexpr int SCALED_FROM = 5;        // columns: so many of them pay for a table of their own
constexpr int IN_FLIGHT = 8;          // sums: no product waits for the one before it
constexpr int WORD = 64;              // groups of a word of bits, of which several columns of b fit next to us
constexpr std::int64_t ROWS = 16;     // that meet one set of columns after the other
constexpr std::int64_t AHEAD = 2048;  // bytes of codes that are fetched before their turn

template <int BITS>
constexpr int BYTES = GROUP * BITS / 8;  // of a group's codes

struct Groups {
  const std::uint64_t* bits;  // a row's kept groups; none are left out where there are no bits
  const std::uint8_t* codes;
  const bfloat16* scales;
  const std::int64_t* starts;  // of rows, in kept groups
  std::int64_t m, across;

  std::int64_t words() const { return (across + WORD - 1) / WORD; }
};

#ifdef HALVES

// The numbers of the bits that are set, from `first` on; it may write a word's worth of numbers.
inline int list(std::uint64_t word, int first, std::uint16_t* numbers) {
  alignas(64) static constexpr struct Bytes {
    std::uint8_t at[WORD];
    constexpr Bytes() : at() {
      for (int i = 0; i < WORD; ++i) at[i] = std::uint8_t(i);
    }
  } all;
  const __m512i set = _mm512_maskz_compress_epi8(word, _mm512_load_si512(all.at));
  const __m512i base = _mm512_set1_epi16(short(first));
  const __m512i low = _mm512_cvtepu8_epi16(_mm512_castsi512_si256(set));
  const __m512i high = _mm512_cvtepu8_epi16(_mm512_extracti64x4_epi64(set, 1));
  _mm512_storeu_si512(numbers, _mm512_add_epi16(low, base));
  _mm512_storeu_si512(numbers + WORD / 2, _mm512_add_epi16(high, base));
  return __builtin_popcountll(word);
}

// Position p of a group is in 16-bit word p % (2 * BITS), shifted by BITS for each of these before it.
template <int BITS>
inline __m512i shifts() {
  alignas(64) std::int16_t by[GROUP];
  for (int at = 0; at < GROUP; ++at) by[at] = std::int16_t(at / (2 * BITS) * BITS);
  return _mm512_load_si512(by);
}

template <int BITS>
inline __m512 numbers() {
  alignas(64) float all[16];
  for (int at = 0; at < 16; ++at) all[at] = float(at % (1 << BITS) - (1 << (BITS - 1)));
  return _mm512_load_ps(all);
}

inline __m512i table(__m512 numbers) {
  return _mm512_broadcast_i64x4((__m256i)_mm512_cvtneps_pbh(numbers));
}

// A shuffle looks at five bits of each place; the table repeats itself, so it does not matter what is above.
template <int BITS>
inline __m512bh weights(const std::uint8_t* codes, __m512i shifts, __m512i table) {
  __m512i packed;
  if constexpr (BITS == 4) {
    packed = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i*)codes));
  } else {
    long long word;
    std::memcpy(&word, codes, 8);
    packed = _mm512_set1_epi64(word);
  }
  return (__m512bh)_mm512_permutexvar_epi16(_mm512_srlv_epi16(packed, shifts), table);
}

inline __m512 repeated(const bfloat16* scale) {
  short bits;
  std::memcpy(&bits, scale, 2);
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_set1_epi16(bits), 16));
}

// Adds the products of `count` groups of a row to its sums [N, LANES].
// Not inlined: among others of its kind, a compiler would run out of registers.
template <int BITS, int N>
__attribute__((noinline)) void multiply(const std::uint8_t* codes, const bfloat16* scales,
                                        const std::uint16_t* groups, int count, const bfloat16* b,
                                        std::int64_t apart, float* sums) {
  constexpr bool SCALED = N >= SCALED_FROM;
  constexpr int SETS = N == 1 ? 4 : (IN_FLIGHT + N - 1) / N;
  const __m512i by = shifts<BITS>();
  const __m512 plain = numbers<BITS>();
  const __m512i all = table(plain);
  __m512 sum[SETS][N];
  each<N>([&](auto j) {
    sum[0][j] = _mm512_loadu_ps(sums + j * LANES);
    for (int set = 1; set < SETS; ++set) sum[set][j] = _mm512_setzero_ps();
  });
  const auto add = [&](int at, auto set) {
    const bfloat16* from = b + std::int64_t(groups[at]) * GROUP;
    const __m512 scale = repeated(scales + at);
    const __m512bh weight = weights<BITS>(codes + std::int64_t(at) * BYTES<BITS>, by,
                                          SCALED ? table(_mm512_mul_ps(plain, scale)) : all);
    each<N>([&](auto j) {
      const __m512bh x = (__m512bh)_mm512_loadu_si512(from + j * apart);
      if constexpr (SCALED)
        sum[set][j] = _mm512_dpbf16_ps(sum[set][j], weight, x);
      else
        sum[set][j] = _mm512_fmadd_ps(_mm512_dpbf16_ps(_mm512_setzero_ps(), weight, x), scale, sum[set][j]);
    });
  };
  int at = 0;
  for (; at + SETS <= count; at += SETS) {
    __builtin_prefetch(codes + std::int64_t(at) * BYTES<BITS> + AHEAD);
    each<SETS>([&](auto set) { add(at + set, set); });
  }
  if constexpr (SETS > 1)
    each<SETS - 1>([&](auto set) {
      if (at + set < count) add(at + set, set);
    });
  each<N>([&](auto j) {
    for (int set = 1; set < SETS; ++set) sum[0][j] = _mm512_add_ps(sum[0][j], sum[set][j]);
    _mm512_storeu_ps(sums + j * LANES, sum[0][j]);
  });
}

#else

inline int list(std::uint64_t word, int first, std::uint16_t* numbers) {
  int count = 0;
  for (; word; word &= word - 1) numbers[count++] = std::uint16_t(first + __builtin_ctzll(word));
  return count;
}

template <int BITS, int N>
__attribute__((noinline)) void multiply(const std::uint8_t* codes, const bfloat16* scales,
                                        const std::uint16_t* groups, int count, const bfloat16* b,
                                        std::int64_t apart, float* sums) {
  constexpr int WORDS = BYTES<BITS> / 2;
  for (int at = 0; at < count; ++at) {
    std::uint16_t word[WORDS];
    std::memcpy(word, codes + std::int64_t(at) * BYTES<BITS>, sizeof word);
    const float scale = widen(scales[at]);
    float weight[GROUP];
    for (int turn = 0; turn < 16 / BITS; ++turn)
      for (int w = 0; w < WORDS; ++w) {
        const int code = word[w] >> (turn * BITS) & ((1 << BITS) - 1);
        weight[turn * WORDS + w] = scale * float(code - (1 << (BITS - 1)));
      }
    for (int j = 0; j < N; ++j) {
      const bfloat16* from = b + std::int64_t(groups[at]) * GROUP + j * apart;
      for (int p = 0; p < GROUP; p += LANES)
        for (int lane = 0; lane < LANES; ++lane)
          sums[j * LANES + lane] += weight[p + lane] * widen(from[p + lane]);
    }
  }
}

#endif

inline float total(const float* sums) {
  float parts[LANES];
  std::memcpy(parts, sums, sizeof parts);
  for (int half = LANES / 2; half; half /= 2)
    for (int lane = 0; lane < half; ++lane) parts[lane] += parts[lane + half];
  return parts[0];
}

// Rows first to last (exclusive), at most ROWS, and N columns. With several columns a row comes back word after
// word of its bits: the part of b that a word meets stays in the nearest cache for all rows.
// groups: 0, 1, ... where no groups are left out, else room for a row's and a word more.
template <int BITS, int N>
void panel(const Groups& a, std::int64_t first, std::int64_t last, const bfloat16* b, std::int64_t apart,
           bfloat16* out, std::int64_t n, std::uint16_t* groups) {
  const std::int64_t step = N < SCALED_FROM ? a.words() : 1;
  alignas(64) float sums[ROWS][N * LANES] = {};
  std::int64_t at[ROWS];
  for (std::int64_t row = first; row < last; ++row) at[row - first] = a.starts[row];
  for (std::int64_t word = 0; word < a.words(); word += step)
    for (std::int64_t row = first; row < last; ++row) {
      int count = 0;
      if (a.bits)
        for (std::int64_t each = 0; each < step; ++each)
          count += list(a.bits[row * a.words() + word + each], int(each * WORD), groups + count);
      else
        count = int(std::min(step * WORD, a.across - word * WORD));
      std::int64_t& mine = at[row - first];
      multiply<BITS, N>(a.codes + mine * BYTES<BITS>, a.scales + mine, groups, count,
                        b + word * (WORD * GROUP), apart, sums[row - first]);
      mine += count;
    }
  for (std::int64_t row = first; row < last; ++row)
    for (int j = 0; j < N; ++j) narrow(total(sums[row - first] + j * LANES), out + row * n + j);
}

// Threads take rows of as many kept groups.
template <int BITS>
void spmm(const Groups& a, const bfloat16* b, std::int64_t apart, bfloat16* out, std::int64_t n,
          std::uint16_t* groups, int threads) {
  const std::int64_t all = a.starts[a.m] + a.m;
  const auto begin = [&](std::int64_t thread, int threads) {  // the first row with so many groups and rows before it
    std::int64_t low = 0, high = a.m;
    while (low < high) {
      const std::int64_t middle = (low + high) / 2;
      if (a.starts[middle] + middle < all * thread / threads)
        low = middle + 1;
      else
        high = middle;
    }
    return low;
  };
#pragma omp parallel num_threads(threads)
  {
    const int thread = thread_number();
#ifdef _OPENMP
    const int here = omp_get_num_threads();  // there may be fewer than were asked for
#else
    const int here = 1;
#endif
    std::uint16_t* mine = groups + thread * (a.words() + 1) * WORD;
    const std::int64_t end = thread + 1 == here ? a.m : begin(thread + 1, here);
    for (std::int64_t first = begin(thread, here); first < end; first += ROWS)
      for (std::int64_t j = 0; j < n; j += COLUMNS)
        with<COLUMNS>(int(std::min<std::int64_t>(COLUMNS, n - j)), [&](auto count) {
          panel<BITS, count>(a, first, std::min(end, first + ROWS), b + j * apart, apart, out + j, n, mine);
        });
  }
}

}  // namespace

extern "C" {

#define SPMM(BITS)                                                                                           \
  void spmm_##BITS(const std::uint64_t* bits, const std::uint8_t* codes, const bfloat16* scales,             \
                   const std::int64_t* starts, const bfloat16* b, bfloat16* out, std::int64_t m,             \
                   std::int64_t across, std::int64_t n, std::int64_t apart, std::uint16_t* groups,           \
                   int threads) {                                                                            \
    spmm<BITS>({bits, codes, scales, starts, m, across}, b, apart, out, n, groups, threads);                 \
  }

SPMM(4)
SPMM(2)
}
