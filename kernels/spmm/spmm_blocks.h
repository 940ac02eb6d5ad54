// Blocks of a times slabs of b: what is planned before the first call, and who does what in each.

#pragma once

#include <algorithm>
#include <cstdint>

#include "threads.h"

namespace {

// All that does not change from call to call; spmm_block_panels.py has the same fields. Rows and columns of a
// may stand in another order than those of out and b. Blocks, and the single units that are in none, are
// sorted by tile of k, then by row. A unit is what one lane multiplies at a time.
struct Plan {
  const std::int32_t* starts;          // [tiles * block_rows + 1]
  const std::int32_t* columns;         // [blocks] first unit, counted from the tile's
  const void* values;                  // [units] some rows of a row of blocks, then the next some
  const std::int32_t* single_starts;   // [tiles * block_rows * height + 1]
  const std::int32_t* single_columns;  // [singles] counted from the tile's first unit
  const void* singles;                 // [singles]
  const std::int32_t* row_order;       // [block_rows * height] row of out; -1 is padding
  const std::int32_t* column_order;    // [units * numbers of a unit] row of b; -1 is padding
  const std::int64_t* chunks;          // [chunk_count + 1] runs of rows of blocks of about equal work
  void* packed;                        // [depth, slab] units; one for each thread if they work alone
  float* partial;                      // [block_rows * height, slab] likewise, if there are several tiles
  std::int64_t block_rows, height, width, units, depth, tiles, n, slab, chunk_count, threads, alone, lanes;

  std::int64_t deep(std::int64_t tile) const { return std::min(depth, units - tile * depth); }
};

// Some columns of b within a tile of k, packed by units, and the sums that tiles hand on.
template <class Unit>
struct Slab {
  std::int64_t tile, column, columns;
  Unit* packed;
  float* partial;
};

// To be called by all threads of a team. Alone, each packs slabs for itself; else all pack one slab after the
// other, and share its rows. pack(slab, from, to): units along k; multiply(slab, from, to): rows of blocks.
template <class Unit, int LANES, class Pack, class Multiply>
void over_slabs(const Plan& plan, Pack pack, Multiply multiply) {
  const std::int64_t slabs = (plan.n + plan.slab - 1) / plan.slab;
  const std::int64_t whole = (plan.slab + LANES - 1) / LANES * LANES;
  const std::int64_t thread = plan.alone ? thread_number() : 0;
  Unit* packed = static_cast<Unit*>(plan.packed) + thread * plan.depth * whole;
  float* partial = plan.partial + thread * plan.block_rows * plan.height * whole;
  const auto slab_of = [&](std::int64_t number, std::int64_t tile) {
    const std::int64_t column = number * plan.slab;
    return Slab<Unit>{tile, column, std::min(plan.slab, plan.n - column), packed, partial};
  };
  if (plan.alone) {
#pragma omp for schedule(static)
    for (std::int64_t number = 0; number < slabs; ++number)
      for (std::int64_t tile = 0; tile < plan.tiles; ++tile) {
        const Slab<Unit> slab = slab_of(number, tile);
        pack(slab, 0, plan.deep(tile));
        multiply(slab, 0, plan.block_rows);
      }
    return;
  }
  for (std::int64_t number = 0; number < slabs; ++number)
    for (std::int64_t tile = 0; tile < plan.tiles; ++tile) {
      const Slab<Unit> slab = slab_of(number, tile);
      const std::int64_t deep = plan.deep(tile);
#pragma omp for schedule(static)
      for (std::int64_t part = 0; part < plan.threads; ++part)
        pack(slab, deep * part / plan.threads, deep * (part + 1) / plan.threads);
#pragma omp for schedule(dynamic, 1)
      for (std::int64_t chunk = 0; chunk < plan.chunk_count; ++chunk)
        multiply(slab, plan.chunks[chunk], plan.chunks[chunk + 1]);
    }
}

}  // namespace
