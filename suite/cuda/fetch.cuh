// Rows of `b`, as kernels with tensor cores fetch them into shared memory: a tile of some rows, each cut to the same
// columns, ready for ldmatrix.
#ifndef SPARSEMARK_FETCH
#define SPARSEMARK_FETCH

constexpr int CHUNK = 8;  // numbers of 16 bits in what is copied at once

// Numbers from a row of such a tile to the next: eight more than it has, so that eight rows lie in different banks.
template <int Columns>
constexpr int STRIDE = Columns + CHUNK;

// Copies eight numbers of a row of `b`, from `column` on, where it has them, and zeros elsewhere. Row -1 is none.
// Whole: n is a multiple of eight, so chunks are aligned; else they are put together one by one, and are there at once.
template <bool Whole>
__device__ __forceinline__ void fetch(unsigned short* to, const unsigned short* b, int row, int column, int n) {
  const unsigned short* from = b + (long long)row * n + column;
  if constexpr (Whole) {
    const bool there = row >= 0 && column < n;
    cp_async_16(to, there ? from : b, there);
  } else {
    unsigned pairs[CHUNK / 2];
#pragma unroll
    for (int at = 0; at < CHUNK / 2; ++at) {
      const int left = row < 0 ? 0 : n - column - 2 * at;
      const unsigned low = left > 0 ? from[2 * at] : 0, high = left > 1 ? from[2 * at + 1] : 0;
      pairs[at] = low | high << 16;
    }
    st_shared_16(to, make_uint4(pairs[0], pairs[1], pairs[2], pairs[3]));
  }
}

// Registers of `b` for 16 rows and 8 * Wide columns of a tile: two a fragment of 16 x 8, as mma takes them.
template <int Wide, int Stride>
__device__ __forceinline__ void fragments(unsigned (&made)[Wide][2], const unsigned short* tile, int lane) {
  if constexpr (Wide == 1) {
    ldmatrix_x2_trans(made[0], tile + lane % 16 * Stride);
  } else {
    static_assert(Wide % 2 == 0, "two at a time");
#pragma unroll
    for (int at = 0; at < Wide; at += 2) {
      unsigned four[4];
      ldmatrix_x4_trans(four, tile + lane % 16 * Stride + CHUNK * (at + lane / 16));
      made[at][0] = four[0], made[at][1] = four[1], made[at + 1][0] = four[2], made[at + 1][1] = four[3];
    }
  }
}

// Two neighbouring numbers of a row of the answer, as many as there are. Even: n is even.
template <class Number, bool Even>
__device__ __forceinline__ void store(unsigned short* out, long long row, int column, int n, float first, float second) {
  unsigned short* to = out + row * n + column;
  const unsigned low = rounded<Number>(first), high = rounded<Number>(second);
  if constexpr (Even) {
    if (column < n) *reinterpret_cast<unsigned*>(to) = low | high << 16;
  } else {
    if (column < n) to[0] = low;
    if (column + 1 < n) to[1] = high;
  }
}

#endif
