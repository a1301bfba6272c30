// Randomized Hadamard rotation of rows (spec section 5): the operation graph of reference.fwht, in another order of
// visits. Every stage of spans 1, 2, 4, ... takes (a, b) to (a + b, a - b); stages are grouped so that a vector is read
// and written once for several of them, the first time with the change of signs, the last time with the scale.
#pragma once

#include "layout.hpp"
#include "simd.hpp"

namespace latq::LATQ_TARGET {

// Stages taken together over so many vectors, which the registers hold.
constexpr size_t MAX_RADIX = W == 16 ? 16 : 8;
// Entries that stay in the first level of the cache.
constexpr size_t NEAR = 1 << 12;
// Rows of fewer entries are taken W at a time, each to one lane, but from half of that on not if they are one window.
constexpr size_t SHORT = 128;

// a - b, on the unit that does not add where there are two.
LATQ_INLINE F difference(F a, F b) {
#if defined(__AVX512F__)
    return (F)_mm512_fnmadd_ps((__m512)b, _mm512_set1_ps(1.0f), (__m512)a);
#else
    return a - b;
#endif
}

// The lanes whose bits are set, negated.
LATQ_INLINE F flipped(F x, uint32_t bits) {
#if defined(__AVX512F__)
    return (F)_mm512_mask_xor_ps((__m512)x, (__mmask16)bits, (__m512)x, _mm512_set1_ps(-0.0f));
#else
    U own;
    for (size_t i = 0; i < W; ++i) own[i] = 1u << i;
    return (F)((U)x ^ ((U)((bits & own) == own) & 0x80000000u));
#endif
}

// Bits i to i + W - 1; i is a multiple of W.
LATQ_INLINE uint32_t bits_at(const uint8_t* bits, size_t i) {
    if constexpr (W == 16) return load<uint16_t>(bits + i / 8);
    else return bits[i / 8] >> i % 8;
}

// Lane i meets lane i ^ SPAN: the upper one of a pair is negated, which makes its difference a sum.
template <size_t SPAN>
LATQ_INLINE F butterfly_within(F x) {
    I order;
    F sign;
    for (size_t i = 0; i < W; ++i) order[i] = (int32_t)(i ^ SPAN), sign[i] = i & SPAN ? -1.0f : 1.0f;
#if defined(__clang__)
    F partner;
    for (size_t i = 0; i < W; ++i) partner[i] = x[i ^ SPAN];
#else
    const F partner = __builtin_shuffle(x, order);
#endif
#if defined(__AVX512F__)
    return (F)_mm512_fmadd_ps((__m512)x, (__m512)sign, (__m512)partner);
#else
    return partner + (F)((U)x ^ ((U)sign & 0x80000000u));
#endif
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
    if constexpr (R > 1) {
        stages_across<R / 2>(x);
        stages_across<R / 2>(x + R / 2);
        LATQ_UNROLL
        for (size_t i = 0; i < R / 2; ++i) {
            const F a = x[i], b = x[i + R / 2];
            x[i] = a + b, x[i + R / 2] = difference(a, b);
        }
    }
}

// Stages of span, 2 span, ..., R/2 span, a multiple of W, of entries [begin, end); ``in`` gives W of them, ``out`` takes
// them.
template <size_t R, class In, class Out>
LATQ_INLINE void pass_of(size_t begin, size_t end, size_t span, In in, Out out) {
    for (size_t base = begin; base < end; base += R * span)
        for (size_t i = base; i < base + span; i += W) {
            F v[R];
            LATQ_UNROLL
            for (size_t r = 0; r < R; ++r) v[r] = in(i + r * span);
            stages_across<R>(v);
            LATQ_UNROLL
            for (size_t r = 0; r < R; ++r) out(i + r * span, v[r]);
        }
}

template <class In, class Out>
inline void pass(size_t radix, size_t begin, size_t end, size_t span, In in, Out out) {
    if constexpr (MAX_RADIX == 16)
        if (radix == 16) return pass_of<16>(begin, end, span, in, out);
    if (radix == 8) return pass_of<8>(begin, end, span, in, out);
    if (radix == 4) return pass_of<4>(begin, end, span, in, out);
    if (radix == 2) return pass_of<2>(begin, end, span, in, out);
    pass_of<1>(begin, end, span, in, out);
}

// All stages from ``span`` on over ``length`` entries, in y except where ``first`` reads and ``last`` writes.
template <class First, class Last>
inline void stages(float* y, size_t length, size_t span, First first, Last last) {
    const auto in = [=](size_t i) { return load<F>(y + i); };
    const auto out = [=](size_t i, F v) { store(y + i, v); };
    const auto radix = [](size_t from, size_t to) { return to / from < MAX_RADIX ? to / from : MAX_RADIX; };
    const size_t near = length < NEAR ? length : NEAR;
    size_t next = span * radix(span, near);
    if (next == length) return pass(radix(span, length), 0, length, span, first, last);
    // Block by block the passes that stay in the cache, but for the very last one; then the others over all.
    for (size_t block = 0; block < length; block += near) {
        pass(radix(span, near), block, block + near, span, first, out);
        for (next = span * radix(span, near); next < near && next * radix(next, near) < length; next *= radix(next, near))
            pass(radix(next, near), block, block + near, next, in, out);
    }
    // At spans from NEAR on the vectors that meet lie in one set of the cache, which holds eight.
    for (; length > NEAR && length / next > 8; next *= 4) pass(4, 0, length, next, in, out);
    pass(length / next, 0, length, next, in, last);
}

LATQ_INLINE bool bit_at(const uint8_t* bits, size_t i) { return bits[i / 8] >> i % 8 & 1; }

// How a row lies, and its first and last steps: entries in a row,
struct Along {
    static constexpr size_t PITCH = 1;
    static F first(F x) { return stages_within(x); }
    static F flip(F x, const uint8_t* signs, size_t i) { return flipped(x, bits_at(signs, i)); }
};

// or W rows side by side, each in one lane.
struct Across {
    static constexpr size_t PITCH = W;
    static F first(F x) { return x; }
    static F flip(F x, const uint8_t* signs, size_t i) { return x * (bit_at(signs, i / W) ? -1.0f : 1.0f); }
};

// One window: signs, transform, scale; x may be y.
template <class Lie>
inline void turn_window(const float* x, float* y, size_t window, float by, const uint8_t* signs) {
    stages(y, window * Lie::PITCH, W, [=](size_t i) { return Lie::first(Lie::flip(load<F>(x + i), signs, i)); },
           [=](size_t i, F v) { store(y + i, v * by); });
}

// Its inverse: transform, scale, signs.
template <class Lie>
inline void turn_window_back(const float* x, float* y, size_t window, float by, const uint8_t* signs) {
    stages(y, window * Lie::PITCH, W, [=](size_t i) { return Lie::first(load<F>(x + i)); },
           [=](size_t i, F v) { store(y + i, Lie::flip(v * by, signs, i)); });
}

// Entry i against entry i of the last half, by 45 degrees.
inline void butterfly_halves(float* first, float* last, size_t half) {
    const float root = 0.70710678118654752f;
    for (size_t i = 0; i < half; ++i) {
        const float a = first[i], b = last[i];
        first[i] = (a + b) * root, last[i] = (a - b) * root;
    }
}

template <class Lie>
struct Rotate {
    static constexpr size_t PITCH = Lie::PITCH;

    static void turn(const float* x, float* y, size_t n, size_t window, float by, const uint8_t* signs) {
        const size_t size = (window + 7) / 8;
        float* last = y + (n - window) * PITCH;
        turn_window<Lie>(x, y, window, by, signs);
        if (window == n) return;
        if (x != y) std::memcpy(y + window * PITCH, x + window * PITCH, (n - window) * PITCH * sizeof *y);
        turn_window<Lie>(last, last, window, by, signs + size);
        butterfly_halves(y, y + (n - n / 2) * PITCH, n / 2 * PITCH);
        turn_window<Lie>(y, y, window, by, signs + 2 * size);
        turn_window<Lie>(last, last, window, by, signs + 3 * size);
    }
};

template <class Lie>
struct Unrotate {
    static constexpr size_t PITCH = Lie::PITCH;

    static void turn(const float* x, float* y, size_t n, size_t window, float by, const uint8_t* signs) {
        const size_t size = (window + 7) / 8, rest = (n - window) * PITCH;
        float* last = y + rest;
        if (window == n) return turn_window_back<Lie>(x, y, window, by, signs);
        if (x != y) std::memcpy(y, x, rest * sizeof *y);
        turn_window_back<Lie>(x + rest, last, window, by, signs + 3 * size);
        turn_window_back<Lie>(y, y, window, by, signs + 2 * size);
        butterfly_halves(y, y + (n - n / 2) * PITCH, n / 2 * PITCH);
        turn_window_back<Lie>(last, last, window, by, signs + size);
        turn_window_back<Lie>(y, y, window, by, signs);
    }
};

template <template <class> class Turn>
inline void turn_rows(const float* x, float* y, size_t rows, size_t n, const uint8_t* signs) {
    size_t window = 1;
    while (2 * window <= n) window *= 2;
    const float by = 1.0f / __builtin_sqrtf((float)window);
    if (n >= SHORT || (n == window && n >= SHORT / 2)) {
        for (size_t row = 0; row < rows; ++row, x += n, y += n) Turn<Along>::turn(x, y, n, window, by, signs);
        return;
    }
    alignas(64) float lanes[SHORT * W]{};
    for (size_t row = 0; row < rows; row += W, x += W * n, y += W * n) {
        const size_t count = rows - row < W ? rows - row : W;
        transpose(x, n, lanes, W, count, n);
        Turn<Across>::turn(lanes, lanes, n, window, by, signs);
        transpose(lanes, W, y, n, n, count);
    }
}

// y may be x in both.
inline void rotate(const float* x, float* y, size_t rows, size_t n, const uint8_t* signs) {
    turn_rows<Rotate>(x, y, rows, n, signs);
}

inline void unrotate(const float* x, float* y, size_t rows, size_t n, const uint8_t* signs) {
    turn_rows<Unrotate>(x, y, rows, n, signs);
}

// The transform alone, in place.
inline void fwht(float* x, size_t rows, size_t length) {
    for (size_t row = 0; row < rows; ++row, x += length) {
        if (length >= W) {
            stages(x, length, W, [=](size_t i) { return stages_within(load<F>(x + i)); },
                   [=](size_t i, F v) { store(x + i, v); });
            continue;
        }
        for (size_t span = 1; span < length; span *= 2)
            for (size_t i = 0; i < length; ++i)
                if (!(i & span)) {
                    const float a = x[i], b = x[i + span];
                    x[i] = a + b, x[i + span] = a - b;
                }
    }
}

}  // namespace latq::LATQ_TARGET
