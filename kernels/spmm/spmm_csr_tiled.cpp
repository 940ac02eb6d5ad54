// out[m, n] = a @ b, with a in tiled rows (suite/formats/tiled.py) and b, out row-major.
//
// b is packed in panels of 64 columns; a tile of a then touches a slice of a panel that stays in L1 or L2.
// The sums of a row live in registers while a tile is worked on, and in `partial` between tiles.

#include <algorithm>
#include <cstdint>
#include <cstring>

#if defined(__AVX2__) || defined(__AVX512F__)
#include <immintrin.h>
#endif

#ifdef _OPENMP
#include <omp.h>
#endif

namespace {

#if defined(__AVX512F__)
constexpr int WIDE = 16;  // floats of the widest register
#elif defined(__AVX__)
constexpr int WIDE = 8;
#else
constexpr int WIDE = 4;
#endif
constexpr int PANEL = 64;
constexpr int REGISTERS = 8;  // sums in flight: two multiply-adds a cycle, each four cycles long

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

template <int W>
struct Lanes {
  typedef float Vector __attribute__((vector_size(W * 4)));
};
template <int W>
using Vector = typename Lanes<W>::Vector;

template <int W>
inline Vector<W> load(const float* from) {
  Vector<W> value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

template <int W>
inline void store(Vector<W> value, float* to) {
  std::memcpy(to, &value, sizeof value);
}

template <class Number, class Column>
struct Tiled {
  const std::int32_t* starts;
  const Column* columns;
  const Number* values;
  std::int64_t m, k, depth, tiles;
};

template <class Number>
struct Answer {
  Number* out;  // at the panel's first column
  std::int64_t n;
  int width;  // columns of the panel that exist
};

template <class Number>
inline void put(const float* sum, Number* row, int width) {
  for (int j = 0; j < width; ++j) narrow(sum[j], row + j);
}

// Rows first to last of one panel. SETS of sums take turns, so that no multiply-add waits for the one before.
template <int W, int VECTORS, class Number, class Column>
void multiply(const Tiled<Number, Column>& a, std::int64_t first, std::int64_t last, const float* panel,
              float* partial, Answer<Number> answer) {
  constexpr int STRIDE = W * VECTORS;
  constexpr int SETS = VECTORS >= REGISTERS ? 1 : std::min(4, REGISTERS / VECTORS);
  for (std::int64_t tile = 0; tile < a.tiles; ++tile) {
    const std::int32_t* starts = a.starts + tile * a.m;
    const float* slice = panel + tile * a.depth * STRIDE;
    for (std::int64_t row = first; row < last; ++row) {
      Vector<W> sum[SETS][VECTORS] = {};
      float* kept = partial + (row - first) * STRIDE;
      if (tile)
        for (int v = 0; v < VECTORS; ++v) sum[0][v] = load<W>(kept + v * W);
      std::int32_t at = starts[row];
      const std::int32_t end = starts[row + 1];
      for (; at + SETS <= end; at += SETS)
        for (int s = 0; s < SETS; ++s) {
          const float* b = slice + std::int64_t(a.columns[at + s]) * STRIDE;
          const float value = widen(a.values[at + s]);
          for (int v = 0; v < VECTORS; ++v) sum[s][v] += value * load<W>(b + v * W);
        }
      if (SETS > 1)
        for (; at < end; ++at) {
          const float* b = slice + std::int64_t(a.columns[at]) * STRIDE;
          const float value = widen(a.values[at]);
          for (int v = 0; v < VECTORS; ++v) sum[0][v] += value * load<W>(b + v * W);
        }
      for (int s = 1; s < SETS; ++s)
        for (int v = 0; v < VECTORS; ++v) sum[0][v] += sum[s][v];
      if (tile + 1 < a.tiles) {
        for (int v = 0; v < VECTORS; ++v) store<W>(sum[0][v], kept + v * W);
        continue;
      }
      Number* out = answer.out + row * answer.n;
      if (sizeof(Number) == 4 && answer.width == STRIDE) {
        for (int v = 0; v < VECTORS; ++v) std::memcpy(out + v * W, &sum[0][v], W * 4);
      } else {
        float all[STRIDE];
        for (int v = 0; v < VECTORS; ++v) store<W>(sum[0][v], all + v * W);
        put(all, out, answer.width);
      }
    }
  }
}

inline float dot(const float* values, const std::uint16_t* columns, std::int32_t count, const float* x) {
  float total = 0;
  std::int32_t at = 0;
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__)
  __m512 sum = _mm512_setzero_ps(), other = sum;
  for (; at + 32 <= count; at += 32) {
    const __m512i low = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)(columns + at)));
    const __m512i high = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)(columns + at + 16)));
    sum = _mm512_fmadd_ps(_mm512_loadu_ps(values + at), _mm512_i32gather_ps(low, x, 4), sum);
    other = _mm512_fmadd_ps(_mm512_loadu_ps(values + at + 16), _mm512_i32gather_ps(high, x, 4), other);
  }
  for (; at < count; at += 16) {
    const __mmask16 there = count - at >= 16 ? 0xffff : (1u << (count - at)) - 1;
    const __m512i where = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(there, columns + at));
    const __m512 picked = _mm512_mask_i32gather_ps(_mm512_setzero_ps(), there, where, x, 4);
    sum = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(there, values + at), picked, sum);
  }
  return _mm512_reduce_add_ps(_mm512_add_ps(sum, other));
#elif defined(__AVX2__) && defined(__FMA__)
  __m256 sum = _mm256_setzero_ps(), other = sum;
  for (; at + 16 <= count; at += 16) {
    const __m256i low = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)(columns + at)));
    const __m256i high = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)(columns + at + 8)));
    sum = _mm256_fmadd_ps(_mm256_loadu_ps(values + at), _mm256_i32gather_ps(x, low, 4), sum);
    other = _mm256_fmadd_ps(_mm256_loadu_ps(values + at + 8), _mm256_i32gather_ps(x, high, 4), other);
  }
  float parts[8];
  _mm256_storeu_ps(parts, _mm256_add_ps(sum, other));
  for (float part : parts) total += part;
#endif
  for (; at < count; ++at) total += values[at] * x[columns[at]];
  return total;
}

template <class Number, class Column>
inline float dot(const Number* values, const Column* columns, std::int32_t count, const float* x) {
  float sum[8] = {};
  std::int32_t at = 0;
  for (; at + 8 <= count; at += 8)
    for (int s = 0; s < 8; ++s) sum[s] += widen(values[at + s]) * x[columns[at + s]];
  for (; at < count; ++at) sum[at & 7] += widen(values[at]) * x[columns[at]];
  return ((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7]));
}

// One column: there is nothing to vectorise along, so b is picked element by element.
template <class Number, class Column>
void one_column(const Tiled<Number, Column>& a, std::int64_t first, std::int64_t last, const float* x,
                Answer<Number> answer) {
  for (std::int64_t row = first; row < last; ++row) {
    float sum = 0;
    for (std::int64_t tile = 0; tile < a.tiles; ++tile) {
      const std::int32_t* starts = a.starts + tile * a.m + row;
      sum += dot(a.values + starts[0], a.columns + starts[0], starts[1] - starts[0], x + tile * a.depth);
    }
    narrow(sum, answer.out + row * answer.n);
  }
}

template <int VECTORS, class Number, class Column>
void widest(int vectors, const Tiled<Number, Column>& a, std::int64_t first, std::int64_t last,
            const float* panel, float* partial, Answer<Number> answer) {
  if (vectors == VECTORS)
    multiply<WIDE, VECTORS>(a, first, last, panel, partial, answer);
  else if constexpr (VECTORS > 1)
    widest<VECTORS - 1>(vectors, a, first, last, panel, partial, answer);
}

// Floats that a row of a panel of this width takes, padding included.
int stride_of(int width) {
  if (width == 1) return 1;
  for (int lanes = 4; lanes < WIDE; lanes *= 2)
    if (width <= lanes) return lanes;
  return (width + WIDE - 1) / WIDE * WIDE;
}

template <class Number, class Column>
void dispatch(const Tiled<Number, Column>& a, std::int64_t first, std::int64_t last, const float* panel,
              float* partial, Answer<Number> answer) {
  const int stride = stride_of(answer.width);
  if (stride == 1)
    one_column(a, first, last, panel, answer);
  else if (stride == 4 && WIDE > 4)
    multiply<4, 1>(a, first, last, panel, partial, answer);
  else if (stride == 8 && WIDE > 8)
    multiply<8, 1>(a, first, last, panel, partial, answer);
  else
    widest<PANEL / WIDE>(stride / WIDE, a, first, last, panel, partial, answer);
}

template <class Number>
void pack(const Number* b, std::int64_t row, std::int64_t k, std::int64_t n, float* packed) {
  for (std::int64_t column = 0; column < n; column += PANEL) {
    const int width = int(std::min<std::int64_t>(PANEL, n - column));
    const int stride = stride_of(width);
    float* to = packed + column * k + row * stride;
    const Number* from = b + row * n + column;
    for (int j = 0; j < width; ++j) to[j] = widen(from[j]);
    for (int j = width; j < stride; ++j) to[j] = 0;
  }
}

template <class Number, class Column>
void spmm(const Tiled<Number, Column>& a, const Number* b, Number* out, std::int64_t n,
          const std::int64_t* chunks, std::int64_t chunk_count, float* packed, float* partial,
          std::int64_t partial_rows, int threads) {
  const std::int64_t panels = (n + PANEL - 1) / PANEL;
  const bool as_is = sizeof(Number) == 4 && panels == 1 && stride_of(int(n)) == n;  // b is a panel already
  const float* source = as_is ? reinterpret_cast<const float*>(b) : packed;
#pragma omp parallel num_threads(threads)
  {
    if (!as_is) {
#pragma omp for schedule(static)
      for (std::int64_t row = 0; row < a.k; ++row) pack(b, row, a.k, n, packed);
    }
#ifdef _OPENMP
    float* own = partial + omp_get_thread_num() * partial_rows * PANEL;
#else
    float* own = partial;
#endif
#pragma omp for schedule(dynamic, 1)
    for (std::int64_t unit = 0; unit < panels * chunk_count; ++unit) {
      const std::int64_t column = unit / chunk_count * PANEL, chunk = unit % chunk_count;
      const int width = int(std::min<std::int64_t>(PANEL, n - column));
      dispatch(a, chunks[chunk], chunks[chunk + 1], source + column * a.k, own,
               Answer<Number>{out + column, n, width});
    }
  }
}

}  // namespace

#define SPMM(NAME, NUMBER, COLUMN)                                                                        \
  extern "C" void NAME(const std::int32_t* starts, const COLUMN* columns, const NUMBER* values,           \
                       const NUMBER* b, NUMBER* out, std::int64_t m, std::int64_t k, std::int64_t n,      \
                       std::int64_t depth, std::int64_t tiles, const std::int64_t* chunks,                \
                       std::int64_t chunk_count, float* packed, float* partial,                           \
                       std::int64_t partial_rows, int threads) {                                          \
    spmm(Tiled<NUMBER, COLUMN>{starts, columns, values, m, k, depth, tiles}, b, out, n, chunks,           \
         chunk_count, packed, partial, partial_rows, threads);                                            \
  }

SPMM(spmm_float32_uint16, float, std::uint16_t)
SPMM(spmm_float32_int32, float, std::int32_t)
SPMM(spmm_bfloat16_uint16, bfloat16, std::uint16_t)
SPMM(spmm_bfloat16_int32, bfloat16, std::int32_t)

extern "C" int lanes() { return WIDE; }
extern "C" int stride(int width) { return stride_of(width); }
