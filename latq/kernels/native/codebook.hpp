// The nearest of all codewords where they are few (latq/kernels/codebook.py), for W blocks at a time.
#pragma once

#include "kernels.hpp"
#include "simd.hpp"

namespace latq::LATQ_TARGET {

// codebook.Products, but for those with entries.
struct alignas(64) Products {
    F coordinates[8], pairs[Codebook::PARTS], lefts[Codebook::PARTS], rights[Codebook::PARTS];
    F groups[Codebook::SETS], shells[Codebook::SETS];
};

LATQ_INLINE F entry_product(const Products& s, const int32_t* entry) { return s.lefts[entry[0]] + s.groups[entry[1]]; }

// codebook.products.
inline void find_products(const F v[8], const Codebook& book, Products& s) {
    for (int i = 0; i < 8; ++i) s.coordinates[i] = v[i];
    for (size_t i = 0; i < book.pairs; ++i) {
        const int32_t* pair = book.pair_values + 3 * i;
        s.pairs[i] = s.coordinates[pair[0]] * (float)pair[1] + s.coordinates[pair[0] + 1] * (float)pair[2];
    }
    for (size_t i = 0; i < book.lefts; ++i)
        s.lefts[i] = s.pairs[book.left_pairs[2 * i]] + s.pairs[book.left_pairs[2 * i + 1]];
    for (size_t i = 0; i < book.rights; ++i)
        s.rights[i] = s.pairs[book.right_pairs[2 * i]] + s.pairs[book.right_pairs[2 * i + 1]];
    for (size_t g = 0; g < book.groups; ++g) {
        F most = s.rights[book.members[book.group_starts[g]]];
        for (int32_t i = book.group_starts[g] + 1; i < book.group_starts[g + 1]; ++i)
            most = larger_of(most, s.rights[book.members[i]]);
        s.groups[g] = most;
    }
    for (size_t c = 0; c < book.shells; ++c) {
        F most = entry_product(s, book.entries + 2 * book.shell_starts[c]);
        for (int32_t i = book.shell_starts[c] + 1; i < book.shell_starts[c + 1]; ++i)
            most = larger_of(most, entry_product(s, book.entries + 2 * i));
        s.shells[c] = most;
    }
}

// codebook._beyond of one shell.
LATQ_INLINE F beyond(const Products& s, const Codebook& book, size_t shell, float step) {
    return (step * step) * book.norms[shell] - step * s.shells[shell];
}

// The word of one lane: the first entry and the first right half that have the largest products.
inline void word_of(const Products& s, const Codebook& book, int32_t shell, size_t lane, int32_t* word) {
    int32_t at = book.shell_starts[shell];
    const auto of = [lane](const F* products, int32_t place) { return ((const float*)products)[W * place + lane]; };
    const auto product = [&] { return of(s.lefts, book.entries[2 * at]) + of(s.groups, book.entries[2 * at + 1]); };
    while (product() != of(s.shells, shell) && at + 1 < book.shell_starts[shell + 1]) ++at;
    const int32_t left = book.entries[2 * at], group = book.entries[2 * at + 1];
    at = book.group_starts[group];
    while (of(s.rights, book.members[at]) != of(s.groups, group) && at + 1 < book.group_starts[group + 1]) ++at;
    const int32_t* halves[2] = {book.left_pairs + 2 * left, book.right_pairs + 2 * book.members[at]};
    for (int i = 0; i < 4; ++i)
        std::memcpy(word + 2 * i, book.pair_values + 3 * halves[i / 2][i % 2] + 1, 2 * sizeof *word);
}

// codebook.nearest_word of W blocks, as rows.
inline void nearest_words(const F v[8], const Codebook& book, Products& s, int32_t* words) {
    find_products(v, book, s);
    F least = book.norms[0] - s.shells[0];
    I shell{};
    for (size_t c = 1; c < book.shells; ++c) {
        const F own = book.norms[c] - s.shells[c];
        const I nearer = own < least;
        least = nearer ? own : least;
        shell = nearer ? all<I>((int32_t)c) : shell;
    }
    for (size_t i = 0; i < W; ++i) word_of(s, book, shell[i], i, words + 8 * i);
}

}  // namespace latq::LATQ_TARGET
