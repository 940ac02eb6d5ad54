// Experts on the tokens that are routed to them: what kernels forward and back share.
//
// A call chooses each token's experts and sorts these choices by expert; a choice then has a slot.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>

#include "constants.h"
#include "powers.h"
#include "vectors.h"

namespace {

// The choices of a call, and what does not change from call to call; moe_grouped.py passes the same.
struct Routes {
  std::int32_t* chosen;  // [n, top] experts, best first; -1 where a token has no more
  float* gates;          // [n, top] logits, then their softmax
  std::int32_t* order;   // [experts] the most loaded first
  std::int32_t* starts;  // [experts + 1] first slot of each
  std::int32_t* tokens;  // [n * top] of each slot
  float* shares;         // [n * top] gate of each slot
  std::int64_t n, experts, top, d, f, threads;
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

// The experts of a token: its highest logits, but for those of minus infinity, and their softmax.
template <class Number>
void choose(const Routes& routes, const Number* logits, std::int64_t token) {
  std::int32_t* chosen = routes.chosen + token * routes.top;
  float* gates = routes.gates + token * routes.top;
  std::int64_t count = 0;
  for (std::int64_t expert = 0; expert < routes.experts; ++expert) {
    const float value = widen(logits[token * routes.experts + expert]);
    if (!(value > -INFINITY) || (count == routes.top && !(routes.top && value > gates[count - 1]))) continue;
    std::int64_t at = count < routes.top ? count++ : count - 1;
    for (; at > 0 && value > gates[at - 1]; --at) gates[at] = gates[at - 1], chosen[at] = chosen[at - 1];
    gates[at] = value, chosen[at] = std::int32_t(expert);
  }
  std::fill(chosen + count, chosen + routes.top, -1);
  float total = 0;
  for (std::int64_t at = count - 1; at >= 0; --at) total += gates[at] = std::exp(gates[at] - gates[0]);
  for (std::int64_t at = 0; at < count; ++at) gates[at] /= total;
}

// Choices by expert, in the order of tokens.
inline void sort(const Routes& routes) {
  const std::int64_t choices = routes.n * routes.top;
  std::fill(routes.starts, routes.starts + routes.experts + 1, 0);
  for (std::int64_t at = 0; at < choices; ++at)
    if (routes.chosen[at] >= 0) ++routes.starts[routes.chosen[at] + 1];
  for (std::int64_t expert = 0; expert < routes.experts; ++expert)
    routes.starts[expert + 1] += routes.starts[expert], routes.order[expert] = std::int32_t(expert);
  const auto load = [&](std::int32_t expert) { return routes.starts[expert + 1] - routes.starts[expert]; };
  std::sort(routes.order, routes.order + routes.experts,
            [&](std::int32_t a, std::int32_t b) { return std::pair(load(b), a) < std::pair(load(a), b); });
  for (std::int64_t at = 0; at < choices; ++at)
    if (const std::int32_t expert = routes.chosen[at]; expert >= 0) {
      const std::int32_t slot = routes.starts[expert]++;
      routes.tokens[slot] = std::int32_t(at / routes.top);
      routes.shares[slot] = routes.gates[at];
    }
  std::copy_backward(routes.starts, routes.starts + routes.experts, routes.starts + routes.experts + 1);
  routes.starts[0] = 0;
}

// 1 / (1 + e^-x), to 3e-7 of it.
template <int W>
inline Vector<W> sigmoid(Vector<W> x) {
  constexpr float LOG2E = 1.44269504f;
  const Vector<W> none = {}, one = none + 1;
  Vector<W> small[1] = {x < none ? x : -x};
  power_of_two<W>(small, LOG2E);
  return (x < none ? small[0] : one) / (1 + small[0]);
}

// Some slots of an expert.
struct Block {
  std::int64_t first, rows;
};

// Calls f(block) for the slots of an expert, in blocks of about equal height.
template <class Products, class F>
void over_blocks(const Routes& routes, std::int64_t expert, const F& f) {
  const std::int64_t from = routes.starts[expert], count = routes.starts[expert + 1] - from;
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

}  // namespace
