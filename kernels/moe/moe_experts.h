// Gated experts on the tokens that are routed to them: what kernels on registers and on tiles share.
//
// Weights are panels of LANES outputs, unit by unit along the sum, and two panels are multiplied at a time:
// gates and ups of the same numbers of f, so that silu(gate) * up is made where their sums are; or neighbours
// of d.
//
// Threads share the panels and not the tokens. So an expert that has most tokens is work for all of them; and
// in the second product, where each has some columns of the answer to itself and takes expert after expert, a
// token's sums are added in one order whatever the number of threads, with no copy for each choice.

#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "moe_parts.h"
#include "threads.h"

namespace {

// What a source packs once, and its buffers. Rows are padded to whole panels.
struct Plan : Routes {
  void* up;      // [experts, panels of f, gate and up, units of d, LANES]
  void* down;    // [experts, panels of d, units of f, LANES]
  void* hidden;  // [n * top, units of f]
  float* sums;   // [slabs, n, columns of a slab]
  void* work;    // [threads] of `work` bytes
  std::int64_t group, slab;  // pairs of panels of a piece
};

// What the source decides: outputs of a panel, and what rows of a block are filled up to; bytes of a number,
// of an expert's weights, of a row of `hidden` and of `sums`, and of `work`.
struct Sizes {
  std::int64_t lanes, step, number, up, down, hidden, sums, work;
};

template <class Products>
struct Layout {
  using Unit = typename Products::Unit;
  static constexpr int LANES = Products::LANES;
  std::int64_t gates, outputs, deep, wide;  // pairs of panels of f and of d; units of d and of f

  explicit Layout(const Plan& plan)
      : gates(up_to(plan.f, LANES)),
        outputs(up_to(plan.d, 2 * LANES)),
        deep(Products::units(plan.d)),
        wide(Products::units(gates * LANES)) {}

  std::int64_t pair(std::int64_t units) const { return 2 * units * LANES; }
  std::int64_t columns() const { return outputs * 2 * LANES; }  // of the sums
  Sizes sizes() const {
    const std::int64_t unit = sizeof(Unit), area = 2 * Products::ROWS * LANES * sizeof(float);
    const std::int64_t near = up_to(Products::ROWS * std::max(deep, wide) * unit + area, LINE) * LINE;
    return {LANES,
            Products::STEP,
            unit / Unit::NUMBERS,
            gates * pair(deep) * unit,
            outputs * pair(wide) * unit,
            wide * unit,
            columns() * std::int64_t(sizeof(float)),
            near};
  }
};

inline void put(float value, Single* to, int) { to->value = value; }
inline void put(float value, Pair* to, int side) { narrow(value, reinterpret_cast<bfloat16*>(to) + side); }
inline void put(bfloat16 value, Single* to, int) { to->value = widen(value); }
inline void put(bfloat16 value, Pair* to, int side) { reinterpret_cast<bfloat16*>(to)[side] = value; }

// A panel: LANES rows of a weight, `apart` numbers apart, from `first` on; rows from `end` on are zeros.
template <class Products, class Number>
void pack_panel(const Number* from, std::int64_t first, std::int64_t end, std::int64_t length,
                std::int64_t units, typename Products::Unit* to) {
  using Unit = typename Products::Unit;
  constexpr int LANES = Products::LANES;
  std::memset(static_cast<void*>(to), 0, units * LANES * sizeof *to);
  const std::int64_t rows = std::min<std::int64_t>(LANES, end - first);
  constexpr std::int64_t PART = 64;  // units whose lanes are filled before the caches forget them
  for (std::int64_t part = 0; part < length; part += PART * Unit::NUMBERS)
    for (std::int64_t lane = 0; lane < rows; ++lane) {
      const Number* row = from + (first + lane) * length;
      const std::int64_t last = std::min(length, part + PART * Unit::NUMBERS);
      for (std::int64_t i = part; i < last; ++i)
        put(row[i], to + i / Unit::NUMBERS * LANES + lane, int(i % Unit::NUMBERS));
    }
}

template <class Products, class Number>
void pack(const Plan& plan, const Number* up, const Number* down) {
  using Unit = typename Products::Unit;
  const Layout<Products> layout(plan);
  const std::int64_t each = layout.gates + layout.outputs;
#pragma omp parallel for schedule(static) num_threads(plan.threads)
  for (std::int64_t number = 0; number < plan.experts * each; ++number) {
    const std::int64_t expert = number / each, pair = number % each;
    for (int side = 0; side < 2; ++side)
      if (pair < layout.gates) {
        Unit* to = static_cast<Unit*>(plan.up) + (expert * layout.gates + pair) * layout.pair(layout.deep);
        const Number* from = up + (2 * expert + side) * plan.f * plan.d;
        pack_panel<Products>(from, pair * Products::LANES, plan.f, plan.d, layout.deep,
                             to + side * layout.deep * Products::LANES);
      } else {
        const std::int64_t at = pair - layout.gates;
        Unit* to = static_cast<Unit*>(plan.down) + (expert * layout.outputs + at) * layout.pair(layout.wide);
        const Number* from = down + expert * plan.d * plan.f;
        pack_panel<Products>(from, (2 * at + side) * Products::LANES, plan.d, plan.f, layout.wide,
                             to + side * layout.wide * Products::LANES);
      }
  }
}

template <class Products, class Number>
struct Experts {
  using Unit = typename Products::Unit;
  static constexpr int LANES = Products::LANES;

  const Plan& plan;
  const Layout<Products> layout;

  explicit Experts(const Plan& given) : plan(given), layout(given) {}

  Unit* staged() const {
    return reinterpret_cast<Unit*>(static_cast<char*>(plan.work) + thread_number() * layout.sizes().work);
  }
  float* products() const {  // [2, ROWS, LANES]
    return reinterpret_cast<float*>(staged() + Products::ROWS * std::max(layout.deep, layout.wide));
  }
  Unit* hidden(std::int64_t slot) const { return static_cast<Unit*>(plan.hidden) + slot * layout.wide; }

  const Unit* up(std::int64_t expert, std::int64_t pair) const {
    return static_cast<const Unit*>(plan.up) + (expert * layout.gates + pair) * layout.pair(layout.deep);
  }
  const Unit* down(std::int64_t expert, std::int64_t pair) const {
    return static_cast<const Unit*>(plan.down) + (expert * layout.outputs + pair) * layout.pair(layout.wide);
  }
  std::int64_t blocks(std::int64_t expert) const {
    return up_to(plan.starts[expert + 1] - plan.starts[expert], Products::ROWS);
  }
  std::int64_t groups() const { return up_to(layout.gates, plan.group); }
  std::int64_t slabs() const { return up_to(layout.outputs, plan.slab); }

  // hidden = silu(x gate^T) * (x up^T), of one expert and some numbers of f.
  void enter(const Number* x, std::int64_t piece) const {
    const std::int64_t expert = plan.order[piece / groups()], first = piece % groups() * plan.group;
    if (!blocks(expert)) return;
    const std::int64_t last = std::min(first + plan.group, layout.gates), units = layout.deep;
    const std::int64_t then = std::min(piece + plan.threads, plan.experts * groups() - 1);
    Ahead ahead(up(plan.order[then / groups()], then % groups() * plan.group),
                (last - first) * layout.pair(units) * sizeof(Unit), blocks(expert) * (last - first), units);
    Unit* near = staged();
    float* sums = products();
    over_blocks<Products>(plan, expert, [&](Block block) {
      for (std::int64_t r = 0; r < block.rows; ++r)
        Products::stage(x + plan.tokens[block.first + r] * plan.d, plan.d, units, r, near);
      for (std::int64_t pair = first; pair < last; ++pair) {
        Products::multiply(near, block.rows, up(expert, pair), units, sums, ahead);
        ahead.next();
        for (std::int64_t r = 0; r < block.rows; ++r) {
          const Vector<LANES> gate = load<LANES>(sums + r * LANES);
          const Vector<LANES> up = load<LANES>(sums + (Products::ROWS + r) * LANES);
          keep(gate * sigmoid<LANES>(gate) * up, hidden(block.first + r) + pair * (LANES / Unit::NUMBERS));
        }
      }
    });
    // Sums along f end with whole tiles.
    if (last == layout.gates)
      for (std::int64_t slot = plan.starts[expert]; slot < plan.starts[expert + 1]; ++slot)
        std::fill(hidden(slot) + layout.gates * LANES / Unit::NUMBERS, hidden(slot) + layout.wide, Unit{});
  }

  static void keep(Vector<LANES> value, Single* to) { store<LANES>(value, &to->value); }
  static void keep(Vector<LANES> value, Pair* to) { store<LANES>(value, reinterpret_cast<bfloat16*>(to)); }

  // out = the sum over experts of share * hidden down^T, of some columns.
  void leave(std::int64_t slab, Number* out) const {
    const std::int64_t first = slab * plan.slab, last = std::min(first + plan.slab, layout.outputs);
    const std::int64_t columns = (last - first) * 2 * LANES, from = first * 2 * LANES, units = layout.wide;
    float* all = plan.sums + from * plan.n;  // rows of all columns would crowd in few sets of the caches
    float* sums = products();
    std::memset(all, 0, plan.n * columns * sizeof *all);
    const auto busy = [&](std::int64_t expert) {  // the first from this one on that has tokens
      while (expert < plan.experts && !blocks(expert)) ++expert;
      return expert;
    };
    for (std::int64_t expert = busy(0), then; expert < plan.experts; expert = then) {
      then = busy(expert + 1);
      Ahead ahead(down(std::min(then, plan.experts - 1), first),
                  (last - first) * layout.pair(units) * sizeof(Unit), blocks(expert) * (last - first), units);
      over_blocks<Products>(plan, expert, [&](Block block) {
        const Unit* near = hidden(block.first);
        if constexpr (Products::STAGED) {
          for (std::int64_t r = 0; r < block.rows; ++r)
            Products::restage(hidden(block.first + r), units, r, staged());
          near = staged();
        }
        for (std::int64_t pair = first; pair < last; ++pair) {
          const auto target = [&](std::int64_t slot) {
            return all + plan.tokens[slot] * columns + (pair - first) * 2 * LANES;
          };
          for (std::int64_t r = 0; r < block.rows; ++r)
            for (int side = 0; side < 2; ++side)
              __builtin_prefetch(target(block.first + r) + side * LANES, 1);
          Products::multiply(near, block.rows, down(expert, pair), units, sums, ahead);
          ahead.next();
          for (std::int64_t r = 0; r < block.rows; ++r) {
            const std::int64_t slot = block.first + r;
            float* to = target(slot);
            for (int side = 0; side < 2; ++side) {
              const Vector<LANES> sum = load<LANES>(sums + (side * Products::ROWS + r) * LANES);
              store<LANES>(load<LANES>(to + side * LANES) + plan.shares[slot] * sum, to + side * LANES);
            }
          }
        }
      });
    }
    round(all, columns, out + from, std::min(columns, plan.d - from));
  }

  // Of each token's sums, the columns that there are.
  void round(const float* sums, std::int64_t apart, Number* out, std::int64_t columns) const {
    for (std::int64_t token = 0; token < plan.n; ++token, sums += apart, out += plan.d) {
      std::int64_t i = 0;
      for (; i + LANES <= columns; i += LANES) store<LANES>(load<LANES>(sums + i), out + i);
      for (; i < columns; ++i) narrow(sums[i], out + i);
    }
  }
};

template <class Products, class Number>
void answer(const Plan& plan, const Number* x, const Number* logits, Number* out) {
  const Experts<Products, Number> experts(plan);
#pragma omp parallel num_threads(plan.threads)
  {
    Products::begin();
#pragma omp for schedule(static)
    for (std::int64_t token = 0; token < plan.n; ++token) choose(plan, logits, token);
#pragma omp single
    sort(plan);
#pragma omp for schedule(dynamic, 1)
    for (std::int64_t piece = 0; piece < plan.experts * experts.groups(); ++piece) experts.enter(x, piece);
#pragma omp for schedule(dynamic, 1)
    for (std::int64_t slab = 0; slab < experts.slabs(); ++slab) experts.leave(slab, out);
    Products::end();
  }
}

template <class Products>
Sizes sizes(const Plan& plan) {
  return Layout<Products>(plan).sizes();
}

}  // namespace
