// Tiles of AMX: eight registers of up to 16 rows of 64 bytes, and products of pairs of bfloat16.
//
// With EMULATE_TILES the same runs on any processor.

#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#if !defined(EMULATE_TILES)
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "bfloat16.h"

namespace {

constexpr int TILES = 8, TILE_ROWS = 16, TILE_BYTES = 64;

// How many rows each tile has, and how many bytes a row, as the processor reads it.
struct alignas(64) Shapes {
  std::uint8_t palette = 1, start = 0, reserved[14] = {};
  std::uint16_t row_bytes[16] = {};
  std::uint8_t rows[16] = {};

  Shapes() {
    for (int tile = 0; tile < TILES; ++tile) set(tile, TILE_ROWS);
  }
  void set(int tile, int count) {
    rows[tile] = std::uint8_t(count);
    row_bytes[tile] = TILE_BYTES;
  }
};
static_assert(sizeof(Shapes) == 64);

#if defined(EMULATE_TILES)

struct Emulated {
  Shapes shapes;
  alignas(64) unsigned char data[TILES][TILE_ROWS][TILE_BYTES];
};
thread_local Emulated emulated;

inline int ask_for_tiles() { return 0; }
inline void configure(const Shapes& shapes) { emulated.shapes = shapes; }
inline void release() {}

template <int TILE>
inline void zero_tile() {
  std::memset(emulated.data[TILE], 0, sizeof emulated.data[TILE]);
}

template <int TILE>
inline void load_tile(const void* from) {
  std::memcpy(emulated.data[TILE], from, std::size_t(emulated.shapes.rows[TILE]) * TILE_BYTES);
}

template <int TILE>
inline void store_tile(void* to) {
  std::memcpy(to, emulated.data[TILE], std::size_t(emulated.shapes.rows[TILE]) * TILE_BYTES);
}

// Of each row of the left tile with each column of the right one: products of pairs, summed in 32 bits.
template <int SUM, int LEFT, int RIGHT>
inline void dot_tiles() {
  constexpr int SUMS = TILE_BYTES / sizeof(float), NUMBERS = TILE_BYTES / sizeof(bfloat16);
  const auto left = reinterpret_cast<const bfloat16(*)[NUMBERS]>(emulated.data[LEFT]);
  const auto right = reinterpret_cast<const bfloat16(*)[NUMBERS]>(emulated.data[RIGHT]);
  const auto sum = reinterpret_cast<float (*)[SUMS]>(emulated.data[SUM]);
  for (int i = 0; i < emulated.shapes.rows[SUM]; ++i)
    for (int pair = 0; pair < emulated.shapes.rows[RIGHT]; ++pair)
      for (int j = 0; j < SUMS; ++j)
        for (int side = 0; side < 2; ++side)
          sum[i][j] += widen(left[i][2 * pair + side]) * widen(right[pair][2 * j + side]);
}

#else  // in assembly, for the intrinsics of GCC take no tile number but a literal

// Linux lets a process use tiles once it has asked; 0 if it may.
inline int ask_for_tiles() {
  constexpr int REQUEST = 0x1023, TILE_DATA = 18;
  return int(syscall(SYS_arch_prctl, REQUEST, TILE_DATA));
}

inline void configure(const Shapes& shapes) { asm volatile("ldtilecfg %0" ::"m"(shapes)); }
inline void release() { asm volatile("tilerelease"); }

template <int TILE>
inline void zero_tile() {
  asm volatile("tilezero %%tmm%c0" ::"i"(TILE));
}

template <int TILE>
inline void load_tile(const void* from) {
  const std::int64_t apart = TILE_BYTES;
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(from), "r"(apart), "i"(TILE) : "memory");
}

template <int TILE>
inline void store_tile(void* to) {
  const std::int64_t apart = TILE_BYTES;
  asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(to), "r"(apart), "i"(TILE) : "memory");
}

template <int SUM, int LEFT, int RIGHT>
inline void dot_tiles() {
  asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(SUM), "i"(LEFT), "i"(RIGHT));
}

#endif

}  // namespace
