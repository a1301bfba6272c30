// Randomized Hadamard rotation of rows (spec section 5): the operation graph of reference.fwht, in another order of
// visits. Every stage of spans 1, 2, 4, ... takes (a, b) to (a + b, a - b); stages are grouped so that a vector is read
// and written once for several of them.
#pragma once

#include "simd.hpp"

namespace latq::LATQ_TARGET {

template <size_t SPAN>
LATQ_INLINE F butterfly_within(F x) {
    // Lane i meets lane i ^ SPAN: the upper one of a pair is negated, which makes its difference a sum.
    I order, upper;
    for (size_t i = 0; i < W; ++i) order[i] = (int32_t)(i ^ SPAN), upper[i] = i & SPAN ? INT32_MIN : 0;
#if defined(__clang__)
    F partner;
    for (size_t i = 0; i < W; ++i) partner[i] = x[i ^ SPAN];
#else
    const F partner = __builtin_shuffle(x, order);
#endif
    return partner + (F)((I)x ^ upper);
}

// All stages of span below W.
LATQ_INLINE F stages_within(F x) {
    x = butterfly_within<1>(x);
    x = butterfly_within<2>(x);
    if constexpr (W >= 8) x = butterfly_within<4>(x);
    if constexpr (W >= 16) x = butterfly_within<8>(x);
    return x;
}

// Stages of span 1, 2, ..., R/2 over R vectors.
template <size_t R>
LATQ_INLINE void stages_across(F x[R]) {
    for (size_t span = 1; span < R; span *= 2)
        for (size_t i = 0; i < R; i += 2 * span)
            for (size_t j = i; j < i + span; ++j) {
                const F a = x[j], b = x[j + span];
                x[j] = a + b, x[j + span] = a - b;
            }
}

// Stages of span, 2 span, ..., R/2 span; span is a multiple of W.
template <size_t R>
inline void pass(float* x, size_t length, size_t span) {
    for (size_t base = 0; base < length; base += R * span)
        for (size_t i = base; i < base + span; i += W) {
            F v[R];
            for (size_t r = 0; r < R; ++r) v[r] = load<F>(x + i + r * span);
            stages_across<R>(v);
            for (size_t r = 0; r < R; ++r) store(x + i + r * span, v[r]);
        }
}

// The first stages, of span below R W.
template <size_t R>
inline void first_pass(float* x, size_t length) {
    for (size_t i = 0; i < length; i += R * W) {
        F v[R];
        for (size_t r = 0; r < R; ++r) v[r] = stages_within(load<F>(x + i + r * W));
        stages_across<R>(v);
        for (size_t r = 0; r < R; ++r) store(x + i + r * W, v[r]);
    }
}

inline void fwht_row(float* x, size_t length) {
    size_t span = 1;
    if (length < 8 * W) {
        for (; span < length; span *= 2)
            for (size_t i = 0; i < length; i += 2 * span)
                for (size_t j = i; j < i + span; ++j) {
                    const float a = x[j], b = x[j + span];
                    x[j] = a + b, x[j + span] = a - b;
                }
        return;
    }
    first_pass<8>(x, length);
    for (span = 8 * W; span * 8 <= length; span *= 8) pass<8>(x, length, span);
    if (span * 4 <= length) pass<4>(x, length, span);
    else if (span * 2 <= length) pass<2>(x, length, span);
}

inline void flip_signs(float* x, const uint32_t* masks, size_t length) {
    for (size_t i = 0; i < length; ++i) {
        uint32_t bits;
        std::memcpy(&bits, x + i, 4);
        bits ^= masks[i];
        std::memcpy(x + i, &bits, 4);
    }
}

inline void scale(float* x, float by, size_t length) {
    for (size_t i = 0; i < length; ++i) x[i] *= by;
}

// Entry i against entry i of the last half, by 45 degrees.
inline void butterfly_halves(float* y, size_t n) {
    const float root = 0.70710678118654752f;
    const size_t half = n / 2;
    float *first = y, *last = y + (n - half);
    for (size_t i = 0; i < half; ++i) {
        const float a = first[i], b = last[i];
        first[i] = (a + b) * root, last[i] = (a - b) * root;
    }
}

inline size_t window_of(size_t n) {
    size_t window = 1;
    while (2 * window <= n) window *= 2;
    return window;
}

inline void fwht(float* x, size_t rows, size_t length) {
    for (size_t row = 0; row < rows; ++row) fwht_row(x + row * length, length);
}

inline void rotate(const float* x, float* y, size_t rows, size_t n, const uint32_t* signs) {
    const size_t window = window_of(n);
    const float by = 1.0f / __builtin_sqrtf((float)window);
    for (size_t row = 0; row < rows; ++row, x += n, y += n) {
        std::memcpy(y, x, n * sizeof *y);
        for (int stage = 0; stage < (window == n ? 1 : 4); ++stage) {
            float* part = stage % 2 ? y + (n - window) : y;
            flip_signs(part, signs + stage * window, window);
            fwht_row(part, window);
            scale(part, by, window);
            if (stage == 1) butterfly_halves(y, n);
        }
    }
}

inline void unrotate(const float* x, float* y, size_t rows, size_t n, const uint32_t* signs) {
    const size_t window = window_of(n);
    const float by = 1.0f / __builtin_sqrtf((float)window);
    for (size_t row = 0; row < rows; ++row, x += n, y += n) {
        std::memcpy(y, x, n * sizeof *y);
        for (int stage = window == n ? 0 : 3; stage >= 0; --stage) {
            float* part = stage % 2 ? y + (n - window) : y;
            fwht_row(part, window);
            scale(part, by, window);
            flip_signs(part, signs + stage * window, window);
            if (stage == 2) butterfly_halves(y, n);
        }
    }
}

}  // namespace latq::LATQ_TARGET
