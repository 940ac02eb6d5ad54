// Gated experts on the tokens that are routed to them: what kernels on registers and on tiles share.
//
// A call chooses each token's experts and sorts these choices by expert; a choice then has a slot. Weights
// are panels of LANES outputs, unit by unit along the sum, and two panels are multiplied at a time: gates and
// ups of the same numbers of f, so that silu(gate) * up is made where their sums are; or neighbours of d.
//
// Threads share the panels and not the tokens. So an expert that has most tokens is work for all of them; and
// in the second product, where each has some columns of the answer to itself and takes expert after expert, a
// token's sums are added in one order whatever the number of threads, with no copy for each choice.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <utility>

#include "constants.h"
#include "threads.h"
#include "vectors.h"

namespace {

// What does not change from call to call; moe_grouped.py passes the same. Rows are padded to whole panels.
struct Plan {
  void* up;              // [experts, panels of f, gate and up, units of d, LANES]
  void* down;            // [experts, panels of d, units of f, LANES]
  std::int32_t* chosen;  // [n, top] experts, best first; -1 where a token has no more
  float* gates;          // [n, top] logits, then their softmax
  std::int32_t* order;   // [experts] the most loaded first
  std::int32_t* starts;  // [experts + 1] first slot of each
  std::int32_t* tokens;  // [n * top] of each slot
  float* shares;         // [n * top] gate of each slot
  void* hidden;          // [n * top, units of f]
  float* sums;           // [slabs, n, columns of a slab]
  void* work;            // [threads] of `work` bytes
  std::int64_t n, experts, top, d, f, group, slab, threads;  // group, slab: pairs of panels of a piece
};

// What the source decides: outputs of a panel, and what rows of a block are filled up to; bytes of a number,
// of an expert's weights, of a row of `hidden` and of `sums`, and of `work`.
struct Sizes {
  std::int64_t lanes, step, number, up, down, hidden, sums, work;
};

// A unit is what one lane multiplies at a time: a float, or a pair of bfloat16 numbers.
struct Single {
  static constexpr int NUMBERS = 1;
  float value;
};

struct Pair {
  static constexpr int NUMBERS = 2;
  std::uint32_t both;  // the first in the lower half
};

inline std::int64_t up_to(std::int64_t number, std::int64_t unit) { return (number + unit - 1) / unit; }

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

// The experts of a token: its highest logits, but for those of minus infinity, and their softmax.
template <class Number>
void choose(const Plan& plan, const Number* logits, std::int64_t token) {
  std::int32_t* chosen = plan.chosen + token * plan.top;
  float* gates = plan.gates + token * plan.top;
  std::int64_t count = 0;
  for (std::int64_t expert = 0; expert < plan.experts; ++expert) {
    const float value = widen(logits[token * plan.experts + expert]);
    if (!(value > -INFINITY) || (count == plan.top && !(plan.top && value > gates[count - 1]))) continue;
    std::int64_t at = count < plan.top ? count++ : count - 1;
    for (; at > 0 && value > gates[at - 1]; --at) gates[at] = gates[at - 1], chosen[at] = chosen[at - 1];
    gates[at] = value, chosen[at] = std::int32_t(expert);
  }
  std::fill(chosen + count, chosen + plan.top, -1);
  float total = 0;
  for (std::int64_t at = count - 1; at >= 0; --at) total += gates[at] = std::exp(gates[at] - gates[0]);
  for (std::int64_t at = 0; at < count; ++at) gates[at] /= total;
}

// Choices by expert, in the order of tokens.
inline void sort(const Plan& plan) {
  const std::int64_t choices = plan.n * plan.top;
  std::fill(plan.starts, plan.starts + plan.experts + 1, 0);
  for (std::int64_t at = 0; at < choices; ++at)
    if (plan.chosen[at] >= 0) ++plan.starts[plan.chosen[at] + 1];
  for (std::int64_t expert = 0; expert < plan.experts; ++expert)
    plan.starts[expert + 1] += plan.starts[expert], plan.order[expert] = std::int32_t(expert);
  const auto load = [&](std::int32_t expert) { return plan.starts[expert + 1] - plan.starts[expert]; };
  std::sort(plan.order, plan.order + plan.experts,
            [&](std::int32_t a, std::int32_t b) { return std::pair(load(b), a) < std::pair(load(a), b); });
  for (std::int64_t at = 0; at < choices; ++at)
    if (const std::int32_t expert = plan.chosen[at]; expert >= 0) {
      const std::int32_t slot = plan.starts[expert]++;
      plan.tokens[slot] = std::int32_t(at / plan.top);
      plan.shares[slot] = plan.gates[at];
    }
  std::copy_backward(plan.starts, plan.starts + plan.experts, plan.starts + plan.experts + 1);
  plan.starts[0] = 0;
}

// x / (1 + e^-x), to 3e-7 of it. e^-x is 2^(whole + rest), the rest half at most.
template <int W>
inline Vector<W> silu(Vector<W> x) {
  constexpr float LOG2E = 1.44269504f, WHOLE = 12582912 + 127;  // added, it leaves an exponent's bits
  const Vector<W> most = 126 - Vector<W>{};
  Vector<W> z = x * -LOG2E;
  z = z > most ? most : z;
  z = z < -most ? -most : z;
  const Vector<W> sum = z + WHOLE;
  z -= sum - WHOLE;
  Vector<W> p = z * 1.3264727e-3f + 9.6715130e-3f;
  p = p * z + 5.5507336e-2f;
  p = p * z + 2.4022242e-1f;
  p = p * z + 6.9314700e-1f;
  p = p * z + 1.f;
  return x / (1 + p * (Vector<W>)((typename Width<W>::Bits)sum << 23));
}

// Some slots of an expert.
struct Block {
  std::int64_t first, rows;
};

// Calls f(block) for the slots of an expert, in blocks of about equal height.
template <class Products, class F>
void over_blocks(const Plan& plan, std::int64_t expert, const F& f) {
  const std::int64_t from = plan.starts[expert], count = plan.starts[expert + 1] - from;
  const std::int64_t blocks = up_to(count, Products::ROWS);
  const std::int64_t height = blocks ? up_to(up_to(count, blocks), Products::STEP) * Products::STEP : 0;
  for (std::int64_t at = 0; at < count; at += height) f(Block{from + at, std::min(height, count - at)});
}

// Weights of the next piece of work, fetched while this one's are multiplied: they come from memory, once.
struct Ahead {
  const char* from;
  std::int64_t share, step;  // bytes for a product of two panels, and for each of its units

  Ahead(const void* weights, std::int64_t bytes, std::int64_t products, std::int64_t units)
      : from(static_cast<const char*>(weights)),
        share(bytes / products),
        step(std::min<std::int64_t>(share / units, LINE)) {}

  void next() { from += share; }
  void fetch(std::int64_t unit, std::int64_t units) const {
    for (std::int64_t at = unit * step; at < (unit + units) * step; at += LINE)
      __builtin_prefetch(from + at, 0, 2);
  }
};

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
          keep(silu<LANES>(gate) * up, hidden(block.first + r) + pair * (LANES / Unit::NUMBERS));
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
