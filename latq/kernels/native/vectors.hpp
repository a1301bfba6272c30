// Sums over vectors, and their division and restoring (latq/kernels/vectors.py): rows in float or double, arithmetic in
// double, sums by halving as in reference.tree_sum.
#pragma once

#include <type_traits>

#include "points.hpp"
#include "simd.hpp"

namespace latq::LATQ_TARGET {

// Sum of value(0..n) by halving; ``s`` holds n / 2 rounded up to a power of two.
template <class Value>
LATQ_INLINE double sum_of(size_t n, double* s, Value value) {
    if (n == 1) return value(0);
    size_t half = 1;
    while (2 * half < n) half *= 2;
    for (size_t i = 0; i < n - half; ++i) s[i] = value(i) + value(i + half);
    for (size_t i = n - half; i < half; ++i) s[i] = value(i);
    return tree_sum(s, half);
}

// Bits of the largest magnitude: those of infinity and NaN are above all others.
template <class T, class Bits>
inline Bits peak_bits(const T* x, size_t count) {
    Bits largest = 0;
    for (size_t i = 0; i < count; ++i) {
        Bits bits;
        std::memcpy(&bits, x + i, sizeof bits);
        bits &= (Bits)-1 >> 1;
        largest = bits > largest ? bits : largest;
    }
    return largest;
}

template <class T>
inline T peak(const T* x, size_t count) {
    using Bits = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;
    const Bits bits = peak_bits<T, Bits>(x, count);
    T value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

template <class T>
inline void row_sums(const T* x, size_t rows, size_t n, double by, double* sums, double* scratch) {
    for (size_t row = 0; row < rows; ++row, x += n)
        sums[row] = sum_of(n, scratch, [=](size_t i) { return (double)x[i] * by; });
}

template <class T>
inline void row_squares(const T* x, size_t rows, size_t n, double by, const float* means, double* sums,
                        double* scratch) {
    for (size_t row = 0; row < rows; ++row, x += n) {
        const double mean = means[row];
        sums[row] = sum_of(n, scratch, [=](size_t i) {
            const double d = (double)x[i] * by - mean;
            return d * d;
        });
    }
}

template <class T>
inline void divided(const T* x, size_t rows, size_t n, double by, const float* means, const double* inverses,
                    float* out) {
    for (size_t row = 0; row < rows; ++row, x += n, out += n) {
        const double mean = means[row], inverse = inverses[row];
        for (size_t i = 0; i < n; ++i) out[i] = (float)(((double)x[i] * by - mean) * inverse);
    }
}

inline void row_dots(const float* u, const float* v, size_t rows, size_t stride, size_t n, double* sums,
                     double* scratch) {
    for (size_t row = 0; row < rows; ++row, u += stride, v += n)
        sums[row] = sum_of(n, scratch, [=](size_t i) { return (double)u[i] * (double)v[i]; });
}

inline void restored(const float* x, size_t rows, size_t n, const double* scales, const double* means, double by,
                     float* out) {
    const double largest = 3.4028234663852886e38;
    for (size_t row = 0; row < rows; ++row, x += n, out += n) {
        const double scale = scales[row], mean = means[row];
        for (size_t i = 0; i < n; ++i) {
            double value = ((double)x[i] * scale + mean) * by;
            value = value > largest ? largest : value;
            out[i] = (float)(value < -largest ? -largest : value);
        }
    }
}

}  // namespace latq::LATQ_TARGET
