// Choice and cost of lattice points under a model: points.choose_points and points.point_costs. W blocks at a time, one
// vector per coordinate; a slice of blocks shares one price of a bit.
#pragma once

#include "kernels.hpp"
#include "simd.hpp"

namespace latq::LATQ_TARGET {

constexpr double BIT_WORTH = 2 * 0.6931471805599453;

LATQ_INLINE I sum8(const I x[8]) { return x[0] + x[1] + x[2] + x[3] + x[4] + x[5] + x[6] + x[7]; }
LATQ_INLINE F sum8(const F x[8]) { return x[0] + x[1] + x[2] + x[3] + x[4] + x[5] + x[6] + x[7]; }

// Nearest point of either coset to y, and how much farther the first is (reference.coset_points).
LATQ_INLINE F coset_points(const F y[8], I whole[8], I half[8]) {
    F a[8];
    I side[8];
    for (int i = 0; i < 8; ++i) {
        const F r = rounded(y[i]);
        const F d = y[i] - r;
        a[i] = magnitude(d);
        side[i] = (d < 0.0f) | 1;  // -1 or 1
        whole[i] = truncated(r);
        half[i] = whole[i] * 2 + side[i];
    }
    const I whole_odd = (sum8(whole) & 1) == 1, half_odd = (sum8(half) & 3) == 2;
    F high = a[0], low = a[0];
    for (int i = 1; i < 8; ++i) high = a[i] > high ? a[i] : high, low = a[i] < low ? a[i] : low;
    F balance = sum8(a) - 2.0f;
    balance = balance + (whole_odd ? 1.0f - high - high : all<F>(0.0f));
    balance = balance - (half_odd ? low + low : all<F>(0.0f));
    // The first coordinate at the extreme moves.
    I to_move = whole_odd, to_move_back = half_odd;
    for (int i = 0; i < 8; ++i) {
        const I here = to_move & (I)(a[i] == high), there = to_move_back & (I)(a[i] == low);
        to_move &= ~here, to_move_back &= ~there;
        whole[i] = (whole[i] + (side[i] & here)) * 2;
        half[i] -= 2 * (side[i] & there);
    }
    return balance;
}

// Index of a coded value in the rows of a model.
LATQ_INLINE U index_of(I value) {
    const U shifted = (U)(value + 128);
    return shifted - 1u < 255u ? shifted : all<U>(0u);
}

// What tells the tables of W blocks: the first of their class, its shift, whether that is not 0; the cost of zeros.
struct Selection {
    U first;
    I shift, shifted, origin;
    bool any_shifted;
};

LATQ_INLINE Selection select(const int32_t* classes, const PointModel& model) {
    if (model.classes == 1) {
        const I shift = all<I>(model.shifts[0]);
        return {all<U>((uint32_t)model.first[0]), shift, shift > 0, all<I>(model.origin[0]), model.shifts[0] > 0};
    }
    const U index = load<U>(classes);
    const I shift = gather(model.shifts, index);
    const I origin = gather(model.origin, index);
    return {(U)gather(model.first, index), shift, shift > 0, origin, lanes_of(shift > 0) != 0};
}

// Rows of a model and coded values of W points, in table_of[8] and values[8].
LATQ_INLINE void tables_of(const I points[8], const Selection& of, U table_of[8], I values[8]) {
    const I coset = points[0] & 1;
    I parity{};
    for (int i = 0; i < 8; ++i) {
        const I k = points[i] >> 1;
        I table = i == 0 ? I{} : i < 7 ? 1 + coset : 3 + coset + 2 * parity;
        values[i] = points[i];
        if (of.any_shifted) {
            table = of.shifted ? I{} : table;
            values[i] = of.shifted ? k >> of.shift : points[i];
        }
        table_of[i] = of.first + (U)table;
        parity ^= k & 1;
    }
}

LATQ_INLINE I cost_of(const I points[8], const Selection& of, const PointModel& model) {
    U table[8];
    I values[8];
    tables_of(points, of, table, values);
    I cost = of.shift << 19;  // 8 coordinates, 2^16 units per bit
    for (int i = 0; i < 8; ++i) cost += gather(model.costs, (table[i] << 8) + index_of(values[i]));
    return cost;
}

// The first n of W blocks, zeros after.
template <class T>
LATQ_INLINE void load_some(const T* from, size_t n, T* scratch) {
    std::memset(scratch, 0, 8 * W * sizeof *scratch);
    std::memcpy(scratch, from, 8 * n * sizeof *scratch);
}

inline void nearest_points(const float* x, int32_t* points, size_t blocks, float inverse) {
    for (size_t b = 0; b < blocks; b += W) {
        const size_t n = blocks - b < W ? blocks - b : W;
        float scratch[8 * W];
        int32_t found[8 * W];
        if (n < W) load_some(x + 8 * b, n, scratch);
        F y[8];
        I whole[8], half[8];
        load_blocks(n < W ? scratch : x + 8 * b, y);
        for (int i = 0; i < 8; ++i) y[i] *= inverse;
        const I first = coset_points(y, whole, half) <= 0.0f;
        for (int i = 0; i < 8; ++i) whole[i] = first ? whole[i] : half[i];
        store_blocks(n < W ? found : points + 8 * b, whole);
        if (n < W) std::memcpy(points + 8 * b, found, 8 * n * sizeof *found);
    }
}

inline void point_costs(const int32_t* points, const int32_t* classes, size_t blocks, const PointModel& model,
                        int64_t* costs) {
    for (size_t b = 0; b < blocks; b += W) {
        const size_t n = blocks - b < W ? blocks - b : W;
        int32_t scratch[8 * W], own[W] = {};
        if (n < W) load_some(points + 8 * b, n, scratch);
        std::memcpy(own, classes + b, n * sizeof *own);
        I p[8];
        load_blocks(n < W ? scratch : points + 8 * b, p);
        const I cost = cost_of(p, select(own, model), model);
        for (size_t i = 0; i < n; ++i) costs[b + i] = cost[i];
    }
}

// Sum of s[0..n) by halving (reference.tree_sum); overwrites s.
inline double tree_sum(double* s, size_t n) {
    size_t half = 1;
    while (2 * half < n) half *= 2;
    for (size_t i = half; i < n; ++i) s[i - half] += s[i];
    for (half = half < n ? half / 2 : 0; half >= 1; half /= 2)
        for (size_t i = 0; i < half; ++i) s[i] += s[half + i];
    return s[0];
}

// Two passes over a slice: the candidates of every block with their errors and costs; then, with the price of a bit
// known, the choice. The scratch of one slice stays in the cache.
struct alignas(64) Scratch {
    float errors[3][SLICE];
    int32_t costs[3][SLICE];
    int32_t best[SLICE];
    double nearest[SLICE];
    I points[2][SLICE / W][8];
};
static_assert(sizeof(Scratch) <= SCRATCH_SIZE);

inline void find_candidates(const float* x, const Selection& of, float inverse, float gain, const PointModel& model,
                            size_t v, Scratch& s) {
    F values[8], y[8], squares[8];
    I *whole = s.points[0][v], *half = s.points[1][v];
    load_blocks(x, values);
    for (int i = 0; i < 8; ++i) y[i] = values[i] * inverse;
    coset_points(y, whole, half);
    for (int c = 0; c < 2; ++c) {
        for (int i = 0; i < 8; ++i) {
            const F d = values[i] - floating(s.points[c][v][i]) * gain;
            squares[i] = d * d;
        }
        store(s.errors[c] + v * W, sum8(squares));
        store(s.costs[c] + v * W, cost_of(s.points[c][v], of, model));
    }
    for (int i = 0; i < 8; ++i) squares[i] = values[i] * values[i];
    store(s.errors[2] + v * W, sum8(squares));
    store(s.costs[2] + v * W, of.origin);
}

// Fills s.best with the cheapest candidate of each block, the first of equals, and returns what they cost in bits.
inline int64_t find_best(size_t blocks, Scratch& s) {
    for (size_t i = 0; i < blocks; ++i)
        s.nearest[i] = s.errors[1][i] < s.errors[0][i] ? s.errors[1][i] : s.errors[0][i];
    const double price = BIT_WORTH * tree_sum(s.nearest, blocks) / (8.0 * (double)blocks * 65536.0);
    int64_t total = 0;
    for (size_t i = 0; i < blocks; ++i) {
        const double c0 = (double)s.errors[0][i] + price * (double)s.costs[0][i];
        const double c1 = (double)s.errors[1][i] + price * (double)s.costs[1][i];
        const double c2 = (double)s.errors[2][i] + price * (double)s.costs[2][i];
        const double least = c1 < c0 ? c1 : c0;
        s.best[i] = c2 < least ? 2 : c1 < c0 ? 1 : 0;
    }
    for (size_t i = 0; i < blocks; ++i)
        total += s.best[i] == 0 ? s.costs[0][i] : s.best[i] == 1 ? s.costs[1][i] : s.costs[2][i];
    return total;
}

inline int64_t choose_slice(const float* x, const int32_t* classes, size_t blocks, float inverse, float gain,
                            const PointModel& model, int32_t* out, Scratch& s) {
    for (size_t b = 0, v = 0; b < blocks; b += W, ++v) {
        const size_t n = blocks - b < W ? blocks - b : W;
        float some[8 * W];
        int32_t own[W] = {};
        if (n < W) load_some(x + 8 * b, n, some);
        std::memcpy(own, classes + b, n * sizeof *own);
        find_candidates(n < W ? some : x + 8 * b, select(own, model), inverse, gain, model, v, s);
    }
    const int64_t total = find_best(blocks, s);
    for (size_t b = 0, v = 0; b < blocks; b += W, ++v) {
        const I best = load<I>(s.best + b);
        I chosen[8];
        for (int i = 0; i < 8; ++i) {
            chosen[i] = best == 0 ? s.points[0][v][i] : s.points[1][v][i];
            chosen[i] = best == 2 ? I{} : chosen[i];
        }
        const size_t n = blocks - b < W ? blocks - b : W;
        int32_t some[8 * W];
        store_blocks(n < W ? some : out + 8 * b, chosen);
        if (n < W) std::memcpy(out + 8 * b, some, 8 * n * sizeof *some);
    }
    return total;
}

inline int64_t choose_points(const float* x, const int32_t* classes, size_t blocks, float inverse, float gain,
                             const PointModel& model, int32_t* points, void* scratch) {
    int64_t total = 0;
    for (size_t b = 0; b < blocks; b += SLICE) {
        const size_t n = blocks - b < SLICE ? blocks - b : SLICE;
        total += choose_slice(x + 8 * b, classes + b, n, inverse, gain, model, points + 8 * b,
                              *(Scratch*)scratch);
    }
    return total;
}

}  // namespace latq::LATQ_TARGET
