// A training step of gated experts on the tokens that are routed to them: y, and the gradients of sum dy y.
//
// Six products of an expert, none of which copies a token: rows are brought near where they are multiplied,
// as in moe_experts.h, and what a choice keeps for the way back is of f numbers. Weights change between
// calls, so panels of them are packed here, by the thread that is about to multiply them. Gradients of
// weights are sums along an expert's choices: there the rows are columns of tokens.

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "../attention/transpose.h"
#include "../moe/moe_parts.h"
#include "../moe/moe_registers.h"
#include "threads.h"

namespace {

// moe_step_grouped.py passes the same. F is f, and D is d, up to whole pairs of panels.
struct Step : Routes {
  void* wide;      // [n * top, 2, F] gate and up, then their gradients
  void* hidden;    // [n * top, F] then weighed by the shares
  float* sums;     // [slabs, n, columns of a slab]
  float* dshares;  // [groups, n * top] what each group of panels adds to the gradients of the shares
  float* means;    // [n] of a token's, weighed by the shares
  void* work;      // [threads] of `work` bytes
  std::int64_t group, slab;  // pairs of panels of a piece, of f and of d
};

// What the source decides: outputs of a panel, numbers of a unit; numbers that f and d are filled up to.
struct Sizes {
  std::int64_t lanes, numbers, wide, outputs;
};

template <class Number>
struct Parts {
  Number *y, *dx, *dup, *ddown, *dlogits;
};

template <class Products, class Number>
struct Trained {
  using Unit = typename Products::Unit;
  static constexpr int LANES = Products::LANES, NUMBERS = Unit::NUMBERS, ROWS = Products::ROWS;
  static constexpr int PAIR = 2 * LANES;
  static constexpr int HIGH = 96;   // rows of a gradient that are summed at a time
  static constexpr int AHEAD = 16;  // units
  static_assert(HIGH % ROWS == 0 && HIGH % LANES == 0);

  const Step& plan;
  const Number *up, *down, *x, *dy;
  const std::int64_t d, f, wide, outputs;     // the last two filled up to whole pairs of panels
  const std::int64_t deep, inner, both, all;  // units of d, of f, of gate and up, of all tokens
  const Ahead none{nullptr, 0, 1, 1};

  Trained(const Step& given, const Number* up, const Number* down, const Number* x, const Number* dy)
      : plan(given),
        up(up),
        down(down),
        x(x),
        dy(dy),
        d(given.d),
        f(given.f),
        wide(up_to(f, PAIR) * PAIR),
        outputs(up_to(d, PAIR) * PAIR),
        deep(Products::units(d)),
        inner(Products::units(wide)),
        both(Products::units(2 * wide)),
        all(Products::units(given.n)) {}

  // Units of a thread: rows of tokens and panels of weights; or turned columns and a pair of panels.
  std::int64_t near() const { return ROWS * std::max(deep, both); }
  std::int64_t panels() const { return PAIR * std::max(plan.group * deep, plan.slab * both); }
  std::int64_t units() const { return std::max(near() + panels(), (HIGH + PAIR) * all); }
  std::int64_t work() const {
    return up_to(units() * sizeof(Unit) + 2 * ROWS * LANES * sizeof(float), LINE) * LINE;
  }

  Unit* staged() const {
    return reinterpret_cast<Unit*>(static_cast<char*>(plan.work) + thread_number() * work());
  }
  Unit* packed() const { return staged() + near(); }
  float* products() const { return reinterpret_cast<float*>(staged() + units()); }  // [2, ROWS, LANES]

  Number* gate(std::int64_t slot) const { return static_cast<Number*>(plan.wide) + slot * 2 * wide; }
  Number* hidden(std::int64_t slot) const { return static_cast<Number*>(plan.hidden) + slot * wide; }
  const Number* row(std::int64_t expert, std::int64_t of) const { return up + (expert * 2 * f + of) * d; }
  const Number* column(std::int64_t expert, std::int64_t of) const { return down + (expert * d + of) * f; }
  std::int64_t count(std::int64_t expert) const { return plan.starts[expert + 1] - plan.starts[expert]; }

  // LANES numbers of which so many are there.
  template <class To>
  static To part(const Number* from, std::int64_t there) {
    if (there >= std::int64_t(sizeof(To) / sizeof(Number))) return load<To>(from);
    To made = {};
    if (from && there > 0) std::memcpy(&made, from, there * sizeof *from);
    return made;
  }

  // The bits of a unit of each lane: of LANES neighbours, one number of each of the unit's rows.
  template <class Row>
  static Vector<LANES> across(const Row& row, std::int64_t unit, std::int64_t first, std::int64_t width) {
    const auto lanes = [&](std::int64_t of) {
      const Number* at = row(of);
      return std::pair<const Number*, std::int64_t>{at ? at + first : nullptr, at ? width - first : 0};
    };
    if constexpr (NUMBERS == 2) {
      using Bits = typename Width<LANES>::Bits;
      using Halves = typename Width<LANES>::Halves;
      const auto low = lanes(2 * unit), high = lanes(2 * unit + 1);
      const Bits lower = __builtin_convertvector(part<Halves>(low.first, low.second), Bits);
      const Bits upper = __builtin_convertvector(part<Halves>(high.first, high.second), Bits);
      return (Vector<LANES>)(lower | upper << 16);
    } else if constexpr (sizeof(Number) == 2) {
      const auto one = lanes(unit);
      const auto bits = part<typename Width<LANES>::Halves>(one.first, one.second);
      return (Vector<LANES>)(__builtin_convertvector(bits, typename Width<LANES>::Bits) << 16);
    } else {
      const auto one = lanes(unit);
      return part<Vector<LANES>>(one.first, one.second);
    }
  }

  // The same of PAIR neighbours.
  template <class Row>
  static void across(const Row& row, std::int64_t unit, std::int64_t first, std::int64_t width,
                     Vector<LANES> (&made)[2]) {
    if constexpr (NUMBERS == 2) {
      const Number *low = row(2 * unit), *high = row(2 * unit + 1);
      if (low && high && width - first >= PAIR) return pair(low + first, high + first, made);
    }
    for (int side = 0; side < 2; ++side) made[side] = across(row, unit, first + side * LANES, width);
  }

  // Pairs of panels whose sums run across rows: column `first` of rows and its neighbours. Rows are fetched
  // ahead, for of each only a piece is read.
  template <class Row>
  static void pack_across(const Row& row, std::int64_t units, std::int64_t first, std::int64_t width,
                          std::int64_t pairs, Unit* to) {
    for (std::int64_t unit = 0; unit < units; ++unit) {
      for (int i = 0; i < NUMBERS; ++i)
        if (const Number* then = row((unit + AHEAD) * NUMBERS + i))
          for (std::int64_t at = 0; at < pairs * PAIR; at += LINE / sizeof(Number))
            __builtin_prefetch(then + first + at, 0, 2);
      for (std::int64_t pair = 0; pair < pairs; ++pair) {
        Vector<LANES> made[2];
        across(row, unit, first + pair * PAIR, width, made);
        for (int side = 0; side < 2; ++side)
          std::memcpy(static_cast<void*>(to + ((2 * pair + side) * units + unit) * LANES), &made[side],
                      sizeof made[side]);
      }
    }
  }

  // A panel whose sums run along rows: `there` of them, `length` numbers apart and long.
  static void pack_along(const Number* from, std::int64_t there, std::int64_t length, std::int64_t units,
                         Unit* to) {
    for (std::int64_t unit = 0; unit < units; unit += LANES) {
      Vector<LANES> rows[LANES] = {};
      for (std::int64_t i = 0; i < std::min<std::int64_t>(LANES, there); ++i) {
        const Number* at = from + i * length + unit * NUMBERS;
        __builtin_prefetch(at + LANES * length, 0, 2);  // of the next panel
        const std::int64_t left = length - unit * NUMBERS;
        if constexpr (NUMBERS * sizeof(Number) == sizeof(Unit))
          rows[i] = part<Vector<LANES>>(at, left);
        else
          rows[i] = across([&](std::int64_t) { return at; }, 0, 0, left);
      }
      transpose<LANES>(rows);
      std::memcpy(static_cast<void*>(to + unit * LANES), rows,
                  std::min<std::int64_t>(LANES, units - unit) * LANES * sizeof *to);
    }
  }

  static void keep(Vector<LANES> value, Number* to, std::int64_t there) {
    if (there >= LANES) return store<LANES>(value, to);
    for (std::int64_t i = 0; i < there; ++i) narrow(value[i], to + i);
  }

  static void keep(const Vector<LANES> (&values)[2], Number* to, std::int64_t there) {
    if constexpr (NUMBERS == 2)
      if (there >= PAIR) return store(values, to);
    for (int side = 0; side < 2; ++side) keep(values[side], to + side * LANES, there - side * LANES);
  }

  // Calls use(block, pair, sums) for rows of an expert's slots times each pair of packed panels.
  template <class Row, class Use>
  void multiply(std::int64_t expert, const Row& row, std::int64_t length, std::int64_t units,
                std::int64_t pairs, const Use& use) const {
    Unit* near = staged();
    float* sums = products();
    over_blocks<Products>(plan, expert, [&](Block block) {
      for (std::int64_t r = 0; r < block.rows; ++r)
        Products::stage(row(block.first + r), length, units, r, near);
      for (std::int64_t pair = 0; pair < pairs; ++pair) {
        Products::multiply(near, block.rows, packed() + pair * PAIR * units, units, sums, none);
        use(block, pair, sums);
      }
    });
  }

  static Vector<LANES> sum(const float* sums, std::int64_t r, int side) {
    return load<LANES>(sums + (side * ROWS + r) * LANES);
  }

  std::int64_t enters() const { return up_to(wide / LANES, plan.group); }
  std::int64_t returns() const { return up_to(wide / PAIR, plan.group); }
  std::int64_t slabs() const { return up_to(outputs / PAIR, plan.slab); }
  std::int64_t heights() const { return 2 * up_to(f, HIGH) + up_to(d, HIGH); }

  // Gate and up of a token, and hidden = silu(gate) * up, of some numbers of f.
  void enter(std::int64_t piece) const {
    const std::int64_t expert = plan.order[piece / enters()], first = piece % enters() * plan.group;
    const std::int64_t pairs = std::min(plan.group, wide / LANES - first);
    if (!count(expert)) return;
    for (std::int64_t pair = 0; pair < pairs; ++pair)
      for (int side = 0; side < 2; ++side) {
        const std::int64_t at = (first + pair) * LANES;
        pack_along(row(expert, side * f + at), f - at, d, deep, packed() + (2 * pair + side) * LANES * deep);
      }
    const auto token = [&](std::int64_t slot) { return x + plan.tokens[slot] * d; };
    multiply(expert, token, d, deep, pairs, [&](Block block, std::int64_t pair, const float* sums) {
      for (std::int64_t r = 0; r < block.rows; ++r) {
        const Vector<LANES> gated = sum(sums, r, 0), wider = sum(sums, r, 1);
        const std::int64_t at = (first + pair) * LANES, slot = block.first + r;
        store<LANES>(gated, gate(slot) + at);
        store<LANES>(wider, gate(slot) + wide + at);
        store<LANES>(gated * sigmoid<LANES>(gated) * wider, hidden(slot) + at);
      }
    });
  }

  // out = the sum over a token's slots of rows times panels, of some columns; weighed by the shares or not.
  template <class Pack, class Row>
  void gather(std::int64_t slab, const Pack& pack, const Row& row, std::int64_t length, std::int64_t units,
              bool weighed, Number* out) const {
    const std::int64_t first = slab * plan.slab, pairs = std::min(plan.slab, outputs / PAIR - first);
    const std::int64_t columns = pairs * PAIR, from = first * PAIR;
    float* all = plan.sums + from * plan.n;
    std::memset(all, 0, plan.n * columns * sizeof *all);
    for (std::int64_t expert = 0; expert < plan.experts; ++expert) {
      if (!count(expert)) continue;
      pack(expert, from, pairs);
      multiply(expert, row, length, units, pairs, [&](Block block, std::int64_t pair, const float* sums) {
        for (std::int64_t r = 0; r < block.rows; ++r) {
          const std::int64_t slot = block.first + r;
          const float share = weighed ? plan.shares[slot] : 1;
          float* to = all + plan.tokens[slot] * columns + pair * PAIR;
          for (int side = 0; side < 2; ++side, to += LANES)
            store<LANES>(load<LANES>(to) + share * sum(sums, r, side), to);
        }
      });
    }
    for (std::int64_t token = 0; token < plan.n; ++token)
      for (std::int64_t i = 0; i < std::min(columns, d - from); i += LANES)
        keep(load<LANES>(all + token * columns + i), out + token * d + from + i, d - from - i);
  }

  void leave(std::int64_t slab, Number* y) const {
    const auto pack = [&](std::int64_t expert, std::int64_t first, std::int64_t pairs) {
      for (std::int64_t panel = 0; panel < 2 * pairs; ++panel, first += LANES)
        pack_along(column(expert, first), d - first, f, inner, packed() + panel * LANES * inner);
    };
    gather(slab, pack, [&](std::int64_t slot) { return hidden(slot); }, wide, inner, true, y);
  }

  void leave_back(std::int64_t slab, Number* dx) const {
    const auto pack = [&](std::int64_t expert, std::int64_t first, std::int64_t pairs) {
      const auto of = [&](std::int64_t at) -> const Number* {
        const std::int64_t side = at >= wide, within = at - side * wide;
        return within < f ? row(expert, side * f + within) : nullptr;
      };
      pack_across(of, both, first, d, pairs, packed());
    };
    gather(slab, pack, [&](std::int64_t slot) { return gate(slot); }, 2 * wide, both, false, dx);
  }

  // What comes back through the product behind: gradients of gate, up and shares, of some numbers of f.
  void enter_back(std::int64_t piece) const {
    const std::int64_t expert = plan.order[piece / returns()], group = piece % returns();
    const std::int64_t first = group * plan.group, pairs = std::min(plan.group, wide / PAIR - first);
    if (!count(expert)) return;
    const auto of = [&](std::int64_t at) -> const Number* { return at < d ? column(expert, at) : nullptr; };
    pack_across(of, deep, first * PAIR, f, pairs, packed());
    float* shares = plan.dshares + group * plan.n * plan.top;
    std::fill(shares + plan.starts[expert], shares + plan.starts[expert + 1], 0.f);
    const auto token = [&](std::int64_t slot) { return dy + plan.tokens[slot] * d; };
    multiply(expert, token, d, deep, pairs, [&](Block block, std::int64_t pair, const float* sums) {
      for (std::int64_t r = 0; r < block.rows; ++r) {
        const std::int64_t slot = block.first + r;
        Vector<LANES> dots = {};
        for (int side = 0; side < 2; ++side) {
          Number* to = gate(slot) + (first + pair) * PAIR + side * LANES;
          const Vector<LANES> gated = load<LANES>(to), wider = load<LANES>(to + wide);
          const Vector<LANES> open = sigmoid<LANES>(gated), asked = plan.shares[slot] * sum(sums, r, side);
          const Vector<LANES> opened = gated * open, whole = opened * wider;
          dots += sum(sums, r, side) * whole;
          store<LANES>(asked * wider * open * (1 + gated - opened), to);
          store<LANES>(asked * opened, to + wide);
          store<LANES>(plan.shares[slot] * whole, hidden(slot) + (first + pair) * PAIR + side * LANES);
        }
        for (int lane = 0; lane < LANES; ++lane) shares[slot] += dots[lane];
      }
    });
  }

  // Back through the softmax of each token's choices.
  void choose_back(Number* dlogits) const {
    const auto learnt = [&](std::int64_t slot) {
      float total = 0;
      for (std::int64_t group = 0; group < returns(); ++group)
        total += plan.dshares[group * plan.n * plan.top + slot];
      return total;
    };
    std::memset(static_cast<void*>(dlogits), 0, plan.n * plan.experts * sizeof *dlogits);
    std::fill(plan.means, plan.means + plan.n, 0.f);
    for (std::int64_t slot = 0; slot < plan.starts[plan.experts]; ++slot)
      plan.means[plan.tokens[slot]] += plan.shares[slot] * learnt(slot);
    for (std::int64_t expert = 0; expert < plan.experts; ++expert)
      for (std::int64_t slot = plan.starts[expert]; slot < plan.starts[expert + 1]; ++slot) {
        const std::int64_t token = plan.tokens[slot];
        const float gradient = plan.shares[slot] * (learnt(slot) - plan.means[token]);
        narrow(gradient, dlogits + token * plan.experts + expert);
      }
  }

  // out = left^T right, summed along an expert's slots: rows `first` to `last`. Of few slots writing them is
  // most of the work, so they go from registers to where they belong, which is fetched a step ahead.
  template <class Left, class Right>
  void outer(std::int64_t expert, const Left& left, std::int64_t first, std::int64_t last,
             const Right& right, std::int64_t width, Number* out) const {
    const std::int64_t from = plan.starts[expert], slots = count(expert), units = Products::units(slots);
    if (!slots) {
      std::memset(static_cast<void*>(out + first * width), 0, (last - first) * width * sizeof *out);
      return;
    }
    Unit *lefts = staged(), *rights = lefts + HIGH * units;
    const auto there = [&](const auto& row) {
      return [&, from](std::int64_t at) -> const Number* { return at < slots ? row(from + at) : nullptr; };
    };
    for (std::int64_t unit = 0; unit < units; ++unit)
      for (std::int64_t at = first; at < last; at += LANES) {
        const Vector<LANES> made = across(there(left), unit, at, last);
        std::memcpy(static_cast<void*>(lefts + unit * HIGH + at - first), &made, sizeof made);
      }
    for (std::int64_t column = 0; column < width; column += PAIR) {
      pack_across(there(right), units, column, width, 1, rights);
      for (std::int64_t at = first; at < last; at += ROWS) {
        Number* to = out + at * width + column;
        with<ROWS>(int(std::min<std::int64_t>(ROWS, last - at)), [&](auto rows) {
          for (int r = 0; r < rows; ++r) __builtin_prefetch(to + r * width + PAIR, 1);
          outer<rows>(lefts + at - first, rights, units, to, width, width - column);
        });
      }
    }
  }

  // R rows of a pair of panels, of which so many columns are there. lefts: [units, HIGH].
  template <int R>
  __attribute__((noinline)) static void outer(const Unit* lefts, const Unit* rights, std::int64_t units,
                                              Number* out, std::int64_t apart, std::int64_t there) {
    Vector<LANES> sums[R][2] = {};
    for (std::int64_t unit = 0; unit < units; ++unit) {
      Vector<LANES> right[2];
      for (int side = 0; side < 2; ++side)
        right[side] = once(load<Vector<LANES>>(rights + (side * units + unit) * LANES));
      for (int r = 0; r < R; ++r)
        for (int side = 0; side < 2; ++side) add(sums[r][side], lefts[unit * HIGH + r], right[side]);
    }
    for (int r = 0; r < R; ++r) keep(sums[r], out + r * apart, there);
  }

  // Some rows of the gradients of an expert's weights.
  void weigh(std::int64_t piece, Number* dup, Number* ddown) const {
    const std::int64_t expert = plan.order[piece / heights()], halves = up_to(f, HIGH);
    std::int64_t at = piece % heights();
    const auto token = [&](const Number* of) {
      return [=](std::int64_t slot) { return of + plan.tokens[slot] * d; };
    };
    if (at < 2 * halves) {
      const std::int64_t side = at / halves, first = at % halves * HIGH;
      const auto gradient = [&](std::int64_t slot) { return gate(slot) + side * wide; };
      Number* to = dup + (2 * expert + side) * f * d;
      outer(expert, gradient, first, std::min(first + HIGH, f), token(x), d, to);
    } else {
      const std::int64_t first = (at - 2 * halves) * HIGH;
      const auto weighed = [&](std::int64_t slot) { return hidden(slot); };
      outer(expert, token(dy), first, std::min(first + HIGH, d), weighed, f, ddown + expert * d * f);
    }
  }
};

template <class Products, class Number>
void train(const Step& plan, const Number* up, const Number* down, const Number* x, const Number* logits,
           const Number* dy, const Parts<Number>& to) {
  const Trained<Products, Number> step(plan, up, down, x, dy);
#pragma omp parallel num_threads(plan.threads)
  {
#pragma omp for schedule(static)
    for (std::int64_t token = 0; token < plan.n; ++token) choose(plan, logits, token);
#pragma omp single
    sort(plan);
#pragma omp for schedule(dynamic, 1)
    for (std::int64_t piece = 0; piece < plan.experts * step.enters(); ++piece) step.enter(piece);
#pragma omp for schedule(dynamic, 1)
    for (std::int64_t slab = 0; slab < step.slabs(); ++slab) step.leave(slab, to.y);
#pragma omp for schedule(dynamic, 1)
    for (std::int64_t piece = 0; piece < plan.experts * step.returns(); ++piece) step.enter_back(piece);
#pragma omp single nowait
    step.choose_back(to.dlogits);
#pragma omp for schedule(dynamic, 1)
    for (std::int64_t slab = 0; slab < step.slabs(); ++slab) step.leave_back(slab, to.dx);
#pragma omp for schedule(dynamic, 1)
    for (std::int64_t piece = 0; piece < plan.experts * step.heights(); ++piece)
      step.weigh(piece, to.dup, to.ddown);
  }
}

template <class Products, class Number>
Sizes sizes(const Step& plan) {
  const Trained<Products, Number> step(plan, nullptr, nullptr, nullptr, nullptr);
  return {step.LANES, step.NUMBERS, step.wide, step.outputs};
}

template <class Products, class Number>
std::int64_t work(const Step& plan) {
  return Trained<Products, Number>(plan, nullptr, nullptr, nullptr, nullptr).work();
}

}  // namespace

extern "C" void step_float32(const Step* plan, const float* up, const float* down, const float* x,
                             const float* logits, const float* dy, float* y, float* dx, float* dup,
                             float* ddown, float* dlogits) {
  train<Singles>(*plan, up, down, x, logits, dy, Parts<float>{y, dx, dup, ddown, dlogits});
}

extern "C" void step_bfloat16(const Step* plan, const bfloat16* up, const bfloat16* down, const bfloat16* x,
                              const bfloat16* logits, const bfloat16* dy, bfloat16* y, bfloat16* dx,
                              bfloat16* dup, bfloat16* ddown, bfloat16* dlogits) {
  train<Halves>(*plan, up, down, x, logits, dy, Parts<bfloat16>{y, dx, dup, ddown, dlogits});
}

extern "C" void sizes(const Step* plan, int bfloat16s, Sizes* to) {
  *to = bfloat16s ? sizes<Halves, bfloat16>(*plan) : sizes<Singles, float>(*plan);
}

// Bytes of a thread, once it is known how many panels it takes at a time.
extern "C" std::int64_t work(const Step* plan, int bfloat16s) {
  return bfloat16s ? work<Halves, bfloat16>(*plan) : work<Singles, float>(*plan);
}
