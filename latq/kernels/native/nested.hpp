// Points of an offset lattice E8 and codewords of a nested one (spec section 6), W blocks at a time: vectors of one
// coordinate each, in real coordinates. All are multiples of 1/2 below 2^21, for which float arithmetic is exact.
#pragma once

#include "kernels.hpp"
#include "points.hpp"
#include "simd.hpp"

namespace latq::LATQ_TARGET {

// A sum with this is rounded to an integer, ties to even, whose lowest bit is that of the sum.
constexpr float ROUNDER = 12582912.0f;

// The entries of W scales.
LATQ_INLINE F of_scales(const float table[MAX_SCALES], U scales) {
#if defined(__AVX512F__)
    return (F)_mm512_permutexvar_ps((__m512i)scales, _mm512_loadu_ps(table));
#else
    return (F)gather((const uint32_t*)table, scales);
#endif
}

// search.gauge.
LATQ_INLINE F gauge(const F x[8]) {
    F first = magnitude(x[0]), second{}, low = first, sum = first;
    U signs = (U)x[0];
    for (int i = 1; i < 8; ++i) {
        const F a = magnitude(x[i]);
        second = larger_of(second, smaller_of(first, a));
        first = larger_of(first, a), low = smaller_of(low, a);
        sum += a, signs ^= (U)x[i];
    }
    const F half = select(are_odd((I)(signs >> 31)), sum - (low + low), sum) * 0.5f;
    return larger_of(first + second, half);
}

// The way from multiples r of a size to a point of one coset of size * E8 near r + d: one coordinate after the other, the
// first at the extreme in another way.
struct Steps {
    F extreme, usual, other;
    M open;

    LATQ_INLINE F next(F d) {
        const M found = equal(magnitude(d), extreme), here = both(open, found);
        open = without(open, found);
        return (F)((U)select(here, other, usual) ^ ((U)d & 0x80000000u));
    }
};

// The points of both cosets of size * E8 nearest to r + d, given the parity of the multiples r / size
// (reference.coset_points, representative).
struct BothCosets {
    F high, low, balance;  // the extremes of |d|; how much farther the whole point is than the other (squared, over size)
    M whole_odd, half_odd;
    float size;

    LATQ_INLINE BothCosets(const F d[8], U parity, float size) : size(size) {
        F sum = high = low = magnitude(d[0]);
        U signs = (U)d[0];
        for (int i = 1; i < 8; ++i) {
            const F a = magnitude(d[i]);
            sum += a, high = larger_of(high, a), low = smaller_of(low, a);
            signs ^= (U)d[i];
        }
        whole_odd = are_odd((I)parity), half_odd = are_odd((I)(parity ^ signs >> 31));
        balance = sum - 2 * size;
        balance = select(whole_odd, balance + (size - high - high), balance);
        balance = select(half_odd, balance - (low + low), balance);
    }

    LATQ_INLINE Steps steps(M half) const {
        const F none = all<F>(-1.0f);
        const F extreme = select(half, select(half_odd, low, none), select(whole_odd, high, none));
        return {extreme, select(half, all<F>(size / 2), F{}), select(half, all<F>(-size / 2), all<F>(size)), all_lanes()};
    }
};

// Points of the offset lattice near targets: the nearest (search._nearest) and that of the other coset.
struct NearPoints {
    F rounding[8], left[8];

    LATQ_INLINE BothCosets find(const F target[8], const NestedCode& code) {
        U parity{};
        for (int i = 0; i < 8; ++i) {
            const F moved = target[i] - code.halves[i], sum = moved + ROUNDER;
            rounding[i] = sum - ROUNDER, left[i] = moved - rounding[i];
            parity ^= (U)sum;
        }
        return BothCosets(left, parity, 1.0f);
    }

    LATQ_INLINE void store(Steps steps, const NestedCode& code, F point[8]) const {
        for (int i = 0; i < 8; ++i) point[i] = rounding[i] + steps.next(left[i]) + code.halves[i];
    }
};

LATQ_INLINE void nearest_point(const F target[8], const NestedCode& code, F point[8]) {
    NearPoints near;
    const BothCosets cosets = near.find(target, code);
    near.store(cosets.steps(less(F{}, cosets.balance)), code, point);
}

LATQ_INLINE void nearest_two(const F target[8], const NestedCode& code, F point[8], F other[8]) {
    NearPoints near;
    const BothCosets cosets = near.find(target, code);
    const M half = less(F{}, cosets.balance);
    near.store(cosets.steps(half), code, point);
    near.store(cosets.steps(without(all_lanes(), half)), code, other);
}

// reference.representative; |p| < 8 q. Of points that are as near the one of the half-integer coset if that counts for
// ``tie`` < 0.
LATQ_INLINE void reduce(const F p[8], float q, float inverse, F tie, F word[8]) {
    F d[8];
    U parity{};
    for (int i = 0; i < 8; ++i) {
        // Moved off the ties, which go upwards.
        const F sum = (p[i] + 0.25f) * inverse + ROUNDER;
        d[i] = p[i] - (sum - ROUNDER) * q;
        parity ^= (U)sum;
    }
    const BothCosets cosets(d, parity, q);
    Steps steps = cosets.steps(less(tie, cosets.balance));
    for (int i = 0; i < 8; ++i) word[i] = d[i] - steps.next(d[i]);
}

// search._decoded. The decoder's own point has its last doubled coordinate in [o, q + o), and differs by a half-integer
// point of q E8 where q fits an odd number of times between the two: then ties go to the other coset.
LATQ_INLINE void decoded(const F point[8], const NestedCode& code, F word[8]) {
    const F times = ((point[7] - code.halves[7]) * 2.0f + 0.5f) * code.q_inverse - 0.5f + ROUNDER;
    reduce(point, (float)code.q, code.q_inverse, select(are_odd((I)times), all<F>(-0.125f), F{}), word);
}

LATQ_INLINE M are_different(const F a[8], const F b[8]) {
    M same = equal(a[0], b[0]);
    for (int i = 1; i < 8; ++i) same = both(same, equal(a[i], b[i]));
    return without(all_lanes(), same);
}

// Which points of the offset lattice are no codewords.
LATQ_INLINE M beyond_codebook(const F point[8], const NestedCode& code) {
    const F size = gauge(point), q = all<F>((float)code.q);
    const M beyond = less(q, size);
    // On the boundary the decoder's choice among equals matters.
    if (!lanes_of(equal(size, q))) [[likely]] return beyond;
    F word[8];
    decoded(point, code, word);
    return are_different(point, word);
}

// reference.to_digits of codewords.
LATQ_INLINE void to_digits(const F word[8], const NestedCode& code, F digits[8]) {
    F p[8];
    for (int i = 0; i < 8; ++i) p[i] = word[i] - code.halves[i];
    digits[7] = p[7] + p[7], digits[6] = p[6] - p[7];
    for (int i = 5; i > 0; --i) digits[i] = p[i] - p[7] + digits[i + 1];
    digits[0] = (p[0] - p[7] + digits[1]) * 0.5f;
    for (int i = 0; i < 8; ++i) {
        const F times = ((digits[i] + 0.5f) * code.q_inverse - 0.5f + ROUNDER) - ROUNDER;
        digits[i] -= times * (float)code.q;
    }
}

}  // namespace latq::LATQ_TARGET
