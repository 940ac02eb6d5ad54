// Compressed rows: a few lanes a row, each with its own columns of the answer in registers.
//
// The lanes of a row load as many nonzeros together and pass them round; a row of `b` is loaded 16 bytes a lane, several
// ahead of their use. The rows of a warp are of about one length, as they come sorted.
#include "tensor_core.cuh"

constexpr int WARP = 32, THREADS = 128;

struct Float32 {};

template <class Number>
struct Kept {  // how numbers stand in memory
  using type = unsigned short;
  static __device__ __forceinline__ float read(type bits) { return widened<Number>(bits); }
  static __device__ __forceinline__ type written(float value) { return rounded<Number>(value); }
};

template <>
struct Kept<Float32> {
  using type = float;
  static __device__ __forceinline__ float read(type value) { return value; }
  static __device__ __forceinline__ type written(float value) { return value; }
};

// So many neighbours of a row, loaded and stored in one go.
template <class Type, int Each>
struct __align__(sizeof(Type) * Each) Several {
  Type of[Each];
};

// order: rows, longest first. Lanes of a row: `Lanes`, each with `Each` columns of the answer. Whole: n is a multiple
// of `Each`, so that loads are aligned and all there or not at all.
template <class Number, int Lanes, int Each, bool Whole>
__device__ __forceinline__ void product(const long long* starts, const int* columns,
                                        const typename Kept<Number>::type* values, const int* order,
                                        const typename Kept<Number>::type* b, typename Kept<Number>::type* out, int m,
                                        int n) {
  using Type = typename Kept<Number>::type;
  using Part = Several<Type, Each>;
  constexpr int AHEAD = 4;  // rows of `b` that are loaded before the first is used
  const int lane = threadIdx.x % Lanes, left = (blockIdx.y * Lanes + lane) * Each;
  const int place = (blockIdx.x * THREADS + threadIdx.x) / Lanes;
  const int row = place < m ? order[place] : -1;
  const long long first = row < 0 ? 0 : starts[row];
  const int length = row < 0 ? 0 : static_cast<int>(starts[row + 1] - first);
  int longest = length;  // of the warp's rows, as all lanes pass nonzeros round together
#pragma unroll
  for (int apart = WARP / 2; apart >= Lanes; apart /= 2) longest = max(longest, __shfl_xor_sync(~0u, longest, apart));

  float sums[Each] = {};
  for (int begin = 0; begin < longest; begin += Lanes) {
    const bool there = begin + lane < length;
    const int column = there ? columns[first + begin + lane] : 0;
    const float value = there ? Kept<Number>::read(values[first + begin + lane]) : 0.f;
#pragma unroll 1
    for (int at = 0; at < Lanes; at += AHEAD) {
      Part rows[AHEAD];
      float scales[AHEAD];
#pragma unroll
      for (int ahead = 0; ahead < AHEAD; ++ahead) {
        scales[ahead] = __shfl_sync(~0u, value, at + ahead, Lanes);
        const Type* const from = b + (long long)__shfl_sync(~0u, column, at + ahead, Lanes) * n + left;
        const int width = begin + at + ahead < length ? n - left : 0;
        if constexpr (Whole) {
          if (width > 0)
            rows[ahead] = *reinterpret_cast<const Part*>(from);
          else
            rows[ahead] = {};
        } else {
#pragma unroll
          for (int each = 0; each < Each; ++each) rows[ahead].of[each] = each < width ? from[each] : Type();
        }
      }
#pragma unroll
      for (int ahead = 0; ahead < AHEAD; ++ahead)
#pragma unroll
        for (int each = 0; each < Each; ++each) sums[each] += scales[ahead] * Kept<Number>::read(rows[ahead].of[each]);
    }
  }

  if (row < 0 || left >= n) return;
  Type* const to = out + (long long)row * n + left;
  Part made;
#pragma unroll
  for (int each = 0; each < Each; ++each) made.of[each] = Kept<Number>::written(sums[each]);
  if constexpr (Whole) {
    *reinterpret_cast<Part*>(to) = made;
  } else {
#pragma unroll
    for (int each = 0; each < Each; ++each)
      if (left + each < n) to[each] = made.of[each];
  }
}

#define SPMM(NAME, NUMBER, LANES, EACH, COLUMNS, KIND, WHOLE) \
  extern "C" __global__ void __launch_bounds__(THREADS) spmm_##NAME##_##COLUMNS##KIND( \
      const long long* starts, const int* columns, const Kept<NUMBER>::type* values, const int* order, \
      const Kept<NUMBER>::type* b, Kept<NUMBER>::type* out, int m, int n) { \
    product<NUMBER, LANES, EACH, WHOLE>(starts, columns, values, order, b, out, m, n); \
  }

#define EVERY(NAME, NUMBER, EACH) \
  SPMM(NAME, NUMBER, 8, 1, 8, , true) \
  SPMM(NAME, NUMBER, 32 / EACH, EACH, 32, , true) \
  SPMM(NAME, NUMBER, 32 / EACH, EACH, 32, _ragged, false) \
  SPMM(NAME, NUMBER, 64 / EACH, EACH, 64, , true) \
  SPMM(NAME, NUMBER, 64 / EACH, EACH, 64, _ragged, false) \
  SPMM(NAME, NUMBER, 128 / EACH, EACH, 128, , true) \
  SPMM(NAME, NUMBER, 128 / EACH, EACH, 128, _ragged, false)

EVERY(float32, Float32, 4)
EVERY(bfloat16, Bfloat16, 8)
EVERY(float16, Float16, 8)
