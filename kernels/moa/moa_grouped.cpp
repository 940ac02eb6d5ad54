// The products around a mixture's attention: queries of tokens from where those are, and answers to them from
// where their heads say them. What is between the two is another source's.
//
// Rows are brought near a few at a time and multiplied by panels of one expert, as in moe_experts.h: a choice
// has no copy of its token and no answer of d numbers. Queries, and what comes of them, are [heads, top, n,
// numbers of a head]: choices of a token are heads that share its keys.

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "../moe/moe_experts.h"
#include "../moe/moe_registers.h"

namespace {

// moa_grouped.py passes the same. f are all the numbers of an expert's heads.
struct Mixture : Routes {
  void* enter;  // [experts, pairs of panels of f, 2, units of d, LANES]
  void* leave;  // [experts, pairs of panels of d, 2, units of f, LANES]
  float* sums;  // [slabs, n, columns of a slab]
  void* work;   // [threads] of `work` bytes
  std::int64_t heads, group, slab;  // the last two in pairs of panels of a piece, of f and of d
};

// What the source decides: outputs of a panel; bytes of a number, of an expert's weights, of a token's sums,
// and of `work`.
struct Needs {
  std::int64_t lanes, number, enter, leave, sums, work;
};

template <class Products, class Number>
struct Projected {
  using Unit = typename Products::Unit;
  static constexpr int LANES = Products::LANES, PAIR = 2 * LANES, ROWS = Products::ROWS;

  const Mixture& plan;
  const std::int64_t size, deep, inner, enters, leaves;  // of a head; units of d and f; pairs of f and d

  explicit Projected(const Mixture& given)
      : plan(given),
        size(given.f / given.heads),
        deep(Products::units(given.d)),
        inner(Products::units(given.f)),
        enters(up_to(given.f, PAIR)),
        leaves(up_to(given.d, PAIR)) {}

  std::int64_t units() const { return ROWS * std::max(deep, inner); }
  Needs needs() const {
    const std::int64_t unit = sizeof(Unit), work = units() * unit + ROWS * PAIR * sizeof(float);
    return {LANES,
            unit / Unit::NUMBERS,
            enters * PAIR * deep * unit,
            leaves * PAIR * inner * unit,
            leaves * PAIR * std::int64_t(sizeof(float)),
            up_to(work, LINE) * LINE};
  }

  Unit* staged() const {
    return reinterpret_cast<Unit*>(static_cast<char*>(plan.work) + thread_number() * needs().work);
  }
  Unit* entering(std::int64_t expert, std::int64_t pair) const {
    return static_cast<Unit*>(plan.enter) + (expert * enters + pair) * PAIR * deep;
  }
  Unit* leaving(std::int64_t expert, std::int64_t pair) const {
    return static_cast<Unit*>(plan.leave) + (expert * leaves + pair) * PAIR * inner;
  }

  void pack(const Number* wq, const Number* wo) const {
    const std::int64_t each = enters + leaves;
#pragma omp parallel for schedule(static) num_threads(plan.threads)
    for (std::int64_t number = 0; number < plan.experts * each; ++number) {
      const std::int64_t expert = number / each, pair = number % each, behind = pair - enters;
      for (int side = 0; side < 2; ++side)
        if (pair < enters)
          pack_panel<Products>(wq + expert * plan.f * plan.d, pair * PAIR + side * LANES, plan.f, plan.d,
                               deep, entering(expert, pair) + side * LANES * deep);
        else
          pack_panel<Products>(wo + expert * plan.d * plan.f, behind * PAIR + side * LANES, plan.d, plan.f,
                               inner, leaving(expert, behind) + side * LANES * inner);
    }
  }

  // Where the queries of a slot begin in the first head; in the next they do so `apart` numbers later.
  std::int64_t place(std::int64_t expert, std::int64_t slot) const {
    const std::int64_t token = plan.tokens[slot];
    const std::int32_t* chosen = plan.chosen + token * plan.top;
    const std::int64_t choice = std::find(chosen, chosen + plan.top, std::int32_t(expert)) - chosen;
    return (choice * plan.n + token) * size;
  }
  std::int64_t apart() const { return plan.top * plan.n * size; }

  // Calls use(slot, panel, LANES sums) for rows that `stage` brings near times pairs of panels.
  template <class Stage, class Use>
  void multiply(std::int64_t expert, const Unit* panels, std::int64_t units, std::int64_t pairs,
                const Stage& stage, const Use& use) const {
    Unit* near = staged();
    float* sums = reinterpret_cast<float*>(near + this->units());
    over_blocks<Products>(plan, expert, [&](Block block) {
      for (std::int64_t r = 0; r < block.rows; ++r) stage(block.first + r, r, near);
      for (std::int64_t pair = 0; pair < pairs; ++pair) {
        Products::multiply(near, block.rows, panels + pair * PAIR * units, units, sums, {nullptr, 0, 1, 1});
        for (std::int64_t r = 0; r < block.rows; ++r)
          for (int side = 0; side < 2; ++side)
            use(block.first + r, 2 * pair + side, load<LANES>(sums + (side * ROWS + r) * LANES));
      }
    });
  }

  // Queries of some numbers of an expert's heads.
  void enter(std::int64_t piece, const Number* x, Number* q) const {
    const std::int64_t groups = up_to(enters, plan.group), first = piece % groups * plan.group;
    const std::int64_t expert = plan.order[piece / groups], from = first * PAIR;
    const auto token = [&](std::int64_t slot, std::int64_t r, Unit* near) {
      Products::stage(x + plan.tokens[slot] * plan.d, plan.d, deep, r, near);
    };
    multiply(expert, entering(expert, first), deep, std::min(plan.group, enters - first), token,
             [&](std::int64_t slot, std::int64_t panel, Vector<LANES> sum) {
               const std::int64_t at = from + panel * LANES;
               if (at < plan.f) store<LANES>(sum, q + place(expert, slot) + at / size * apart() + at % size);
             });
  }

  // out = the sum over a token's slots of share * said wo^T, of some columns.
  void leave(std::int64_t slab, const Number* said, Number* out) const {
    const std::int64_t first = slab * plan.slab, pairs = std::min(plan.slab, leaves - first);
    const std::int64_t columns = pairs * PAIR, from = first * PAIR;
    float* all = plan.sums + from * plan.n;
    std::memset(all, 0, plan.n * columns * sizeof *all);
    for (std::int64_t expert = 0; expert < plan.experts; ++expert) {
      const auto heads = [&](std::int64_t slot, std::int64_t r, Unit* near) {
        const Number* row = said + place(expert, slot);
        for (std::int64_t head = 0; head < plan.heads; ++head, row += apart(), near += Products::units(size))
          Products::stage(row, size, inner, r, near);
      };
      multiply(expert, leaving(expert, first), inner, pairs, heads,
               [&](std::int64_t slot, std::int64_t panel, Vector<LANES> sum) {
                 float* to = all + plan.tokens[slot] * columns + panel * LANES;
                 store<LANES>(load<LANES>(to) + plan.shares[slot] * sum, to);
               });
    }
    for (std::int64_t token = 0; token < plan.n; ++token) {
      const float* sums = all + token * columns;
      Number* to = out + token * plan.d + from;
      std::int64_t i = 0, there = std::min(columns, plan.d - from);
      for (; i + LANES <= there; i += LANES) store<LANES>(load<LANES>(sums + i), to + i);
      for (; i < there; ++i) narrow(sums[i], to + i);
    }
  }
};

template <class Products, class Number>
void enter(const Mixture& plan, const Number* x, const Number* logits, Number* q) {
  const Projected<Products, Number> projected(plan);
#pragma omp parallel num_threads(plan.threads)
  {
#pragma omp for schedule(static)
    for (std::int64_t token = 0; token < plan.n; ++token) choose(plan, logits, token);
#pragma omp single
    sort(plan);
#pragma omp for schedule(dynamic, 1)
    for (std::int64_t piece = 0; piece < plan.experts * up_to(projected.enters, plan.group); ++piece)
      projected.enter(piece, x, q);
  }
}

template <class Products, class Number>
void leave(const Mixture& plan, const Number* said, Number* out) {
  const Projected<Products, Number> projected(plan);
#pragma omp parallel for schedule(dynamic, 1) num_threads(plan.threads)
  for (std::int64_t slab = 0; slab < up_to(projected.leaves, plan.slab); ++slab)
    projected.leave(slab, said, out);
}

}  // namespace

extern "C" void pack_float32(const Mixture* plan, const float* wq, const float* wo) {
  Projected<Singles, float>(*plan).pack(wq, wo);
}

extern "C" void pack_bfloat16(const Mixture* plan, const bfloat16* wq, const bfloat16* wo) {
  Projected<Halves, bfloat16>(*plan).pack(wq, wo);
}

extern "C" void enter_float32(const Mixture* plan, const float* x, const float* logits, float* q) {
  enter<Singles>(*plan, x, logits, q);
}

extern "C" void enter_bfloat16(const Mixture* plan, const bfloat16* x, const bfloat16* logits, bfloat16* q) {
  enter<Halves>(*plan, x, logits, q);
}

extern "C" void leave_float32(const Mixture* plan, const float* said, float* out) {
  leave<Singles>(*plan, said, out);
}

extern "C" void leave_bfloat16(const Mixture* plan, const bfloat16* said, bfloat16* out) {
  leave<Halves>(*plan, said, out);
}

extern "C" void needs(const Mixture* plan, int bfloat16s, Needs* to) {
  *to = bfloat16s ? Projected<Halves, bfloat16>(*plan).needs() : Projected<Singles, float>(*plan).needs();
}
