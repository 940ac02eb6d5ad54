// Positions of N:M lanes, as `Cut` of suite/formats/n_of_m.py packs them: fields of equal bits in words.

#pragma once

namespace {

constexpr int log2_up(int number) { return number <= 1 ? 0 : 1 + log2_up((number + 1) / 2); }
constexpr int log2_down(int number) { return number <= 1 ? 0 : 1 + log2_down(number / 2); }

// A step is as many windows, each of so many rounds, as have their positions in one word, but one at least.
struct Cut {
  int bits, fields;           // of a position; positions in a word
  int windows, rounds, words;  // of a step

  constexpr Cut(int m, int word, int rounds_of_window)
      : bits(m > 1 ? log2_up(m) : 1),
        fields(word / bits),
        windows(1 << log2_down(fields / rounds_of_window)),
        rounds(windows * rounds_of_window),
        words((rounds + fields - 1) / fields) {}
};

}  // namespace
