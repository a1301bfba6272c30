// Points of E8 and what they cost under a model: points.nearest_point, points.point_costs and what the choice and the
// coding of points share. W blocks at a time, one vector per coordinate.
#pragma once

#include "kernels.hpp"
#include "simd.hpp"

namespace latq::LATQ_TARGET {

LATQ_INLINE F sum8(const F x[8]) { return x[0] + x[1] + x[2] + x[3] + x[4] + x[5] + x[6] + x[7]; }

// The nearest points of both cosets to y: what all coordinates tell together, then one coordinate after the other, as
// half of a doubled one: floor(t / 2).
struct Cosets {
    struct Coordinate {
        I whole, half;
    };

    F rounding[8];
    F high, low;          // the extremes of |y - rounding|
    F balance;            // how much farther the first point is than the second (squared)
    M to_move, to_return;  // which points have not the right parity, and need another coordinate

    LATQ_INLINE explicit Cosets(const F y[8]) {
        F sum{};
        I parity{}, signs{};
        for (int i = 0; i < 8; ++i) {
            rounding[i] = rounded(y[i]);
            const F d = y[i] - rounding[i], a = magnitude(d);
            sum = i == 0 ? a : sum + a;
            high = i == 0 || a > high ? a : high, low = i == 0 || a < low ? a : low;
            parity ^= truncated(rounding[i]), signs ^= (I)d;
        }
        to_move = are_odd(parity), to_return = are_odd(parity ^ (I)((U)signs >> 31));
        balance = sum - 2.0f;
        balance = select(to_move, balance + (1.0f - high - high), balance);
        balance = select(to_return, balance - (low + low), balance);
    }

    // To be asked for in ascending order: the first coordinate at the extreme is the one that moves.
    LATQ_INLINE Coordinate next(F y, int i) {
        const F d = y - rounding[i], a = magnitude(d);
        const I below = (I)d >> 31, side = below | 1;  // -1 or 1
        const M here = both(to_move, equal(a, high)), there = both(to_return, equal(a, low));
        to_move = without(to_move, here), to_return = without(to_return, there);
        const I whole = truncated(rounding[i]), half = whole + below;
        return {select(here, whole + side, whole), select(there, half - side, half)};
    }
};

// The first n of W blocks, zeros after.
template <class T>
LATQ_INLINE void load_some(const T* from, size_t n, T* scratch) {
    std::memset(scratch, 0, 8 * W * sizeof *scratch);
    std::memcpy(scratch, from, 8 * n * sizeof *scratch);
}

// The classes of the first n of W blocks, and the last of them for the others.
LATQ_INLINE void load_classes(const int32_t* classes, size_t n, int32_t own[W]) {
    for (size_t i = 0; i < W; ++i) own[i] = classes[i < n ? i : n - 1];
}

inline void nearest_points(const float* x, int32_t* points, size_t blocks, float inverse) {
    for (size_t b = 0; b < blocks; b += W) {
        const size_t n = blocks - b < W ? blocks - b : W;
        float scratch[8 * W];
        int32_t found[8 * W];
        if (n < W) load_some(x + 8 * b, n, scratch);
        F y[8];
        load_blocks(n < W ? scratch : x + 8 * b, y);
        for (int i = 0; i < 8; ++i) y[i] *= inverse;
        Cosets cosets(y);
        const M is_half = less(all<F>(0.0f), cosets.balance);
        I chosen[8];
        for (int i = 0; i < 8; ++i) {
            const Cosets::Coordinate k = cosets.next(y[i], i);
            chosen[i] = select(is_half, k.half + k.half + 1, k.whole + k.whole);
        }
        store_blocks(n < W ? found : points + 8 * b, chosen);
        if (n < W) std::memcpy(points + 8 * b, found, 8 * n * sizeof *found);
    }
}

// What the classes of W blocks say of their tables: where these begin, and the shifts.
struct Selection {
    U tables;
    I shift;
    bool any_shifted;
};

LATQ_INLINE Selection select_tables(const int32_t* classes, const PointModel& model) {
    if (model.classes == 1) return {U{}, all<I>(model.shifts[0]), model.shifts[0] > 0};
    const U index = load<U>(classes);
    const I shift = gather(model.shifts, index);
    return {index * (3 * PLACES), shift, lanes_of(shift > 0) != 0};
}

// Place of W coordinates, halves k of doubled ones of this coset, in a table of their classes.
LATQ_INLINE U place_of(I k, I coset, const Selection& of) {
    const U within = (U)(k + 64);
    U place = within < 128u ? within + ((U)coset << 7) : U{};
    if (of.any_shifted) {
        const U high = (U)((k >> of.shift) + 128);
        place = of.shift > 0 ? (high < 256u ? high : U{}) : place;
    }
    return of.tables + place;
}

// The tables of coordinate i of the blocks of a class: the first, the next six, the last.
constexpr uint32_t kind_of(int i) { return i == 0 ? 0 : i < 7 ? PLACES : 2 * PLACES; }

inline void point_costs(const int32_t* points, const int32_t* classes, size_t blocks, const PointModel& model,
                        int64_t* costs) {
    for (size_t b = 0; b < blocks; b += W) {
        const size_t n = blocks - b < W ? blocks - b : W;
        int32_t scratch[8 * W], own[W];
        if (n < W) load_some(points + 8 * b, n, scratch);
        load_classes(classes + b, n, own);
        I p[8];
        load_blocks(n < W ? scratch : points + 8 * b, p);
        const Selection of = select_tables(own, model);
        I cost{};
        for (int i = 0; i < 8; ++i) cost += gather(model.costs + kind_of(i), place_of(p[i] >> 1, p[0] & 1, of));
        for (size_t i = 0; i < n; ++i) costs[b + i] = cost[i];
    }
}

}  // namespace latq::LATQ_TARGET
