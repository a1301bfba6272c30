// Sums over vectors, and their division and restoring (latq/kernels/vectors.py): rows in float or double, arithmetic in
// double.
#pragma once

#include <limits>
#include <type_traits>

#include "sums.hpp"

namespace latq::LATQ_TARGET {

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

// Rows of n whole numbers as T, and the sum of the squares of each row; false if one is beyond T.
template <class T>
inline bool narrowed(const float* x, size_t rows, size_t n, T* out, double* squares) {
    constexpr size_t RUN = 1 << 10;  // Sums of as many do not overflow; they are still in the cache the second time.
    for (size_t row = 0; row < rows; ++row) {
        uint64_t total = 0;
        for (size_t i = 0; i < n; i += RUN) {
            const size_t count = n - i < RUN ? n - i : RUN;
            const float* const from = x + row * n + i;
            T* const to = out + row * n + i;
            if (peak(from, count) > (float)std::numeric_limits<T>::max()) return false;
            uint32_t low = 0, high = 0;  // Of the halves of squares: in lanes of 32 bits like all else here.
            for (size_t k = 0; k < count; ++k) {
                const int32_t whole = (int32_t)from[k];
                const uint32_t square = (uint32_t)(whole * whole);
                to[k] = (T)whole, low += square & 0xffff, high += square >> 16;
            }
            total += low + ((uint64_t)high << 16);
        }
        squares[row] = (double)total;
    }
    return true;
}

template <class T>
inline void row_sums(const T* x, size_t rows, size_t n, double by, double* sums, double* scratch) {
    for (size_t row = 0; row < rows; ++row, x += n) {
        const Entries<T> own{x, n, (rows - row) * n};
        sums_of<1>(n, scratch, sums + row, [=](auto whole, size_t i, D* sum) { sum[0] = own.only(whole, own.at(whole, i) * by, i); });
    }
}

template <class T>
inline void row_squares(const T* x, size_t rows, size_t n, double by, const float* means, double* sums,
                        double* scratch) {
    for (size_t row = 0; row < rows; ++row, x += n) {
        const Entries<T> own{x, n, (rows - row) * n};
        const double mean = means[row];
        sums_of<1>(n, scratch, sums + row, [=](auto whole, size_t i, D* sum) {
            const D centred = own.at(whole, i) * by - mean;
            sum[0] = own.only(whole, centred * centred, i);
        });
    }
}

// Of each row of u and k entries of v: the sums of u u, u v and v v.
template <class T>
inline void row_moments(const float* u, const T* v, size_t rows, size_t n, size_t k, double* sums,
                        double* scratch) {
    for (size_t row = 0; row < rows; ++row, u += n, v += k, sums += 3) {
        const Entries<float> first{u, n, (rows - row) * n};
        const Entries<T> second{v, k, (rows - row) * k};
        sums_of<3>(n, scratch, sums, [=](auto whole, size_t i, D* sum) {
            const D x = first.at(whole, i);
            sum[0] = first.only(whole, x * x, i);
            if (i + DOUBLES <= k) {
                const D y = second.at(WHOLE, i);
                sum[1] = x * y, sum[2] = y * y;
            } else if (i < k) {
                const D y = second.at(PARTIAL, i);
                sum[1] = second.only(PARTIAL, x * y, i), sum[2] = second.only(PARTIAL, y * y, i);
            } else sum[1] = sum[2] = -D{};
        });
    }
}

// Whole vectors of a row to ``out``; the last one overlaps the one before, or has lanes that are not used. ``to`` may be
// where the row is.
template <class In, class To, class Out>
LATQ_INLINE void map_row(const In* x, size_t n, To* to, Out out) {
    if (n >= W) {
        const D low = load_doubles(x + n - W), high = load_doubles(x + n - DOUBLES);
        for (size_t i = 0; i + W <= n; i += W) out(to + i, load_doubles(x + i), load_doubles(x + i + DOUBLES));
        if (n % W) out(to + n - W, low, high);
        return;
    }
    In from[W]{};
    To part[W];
    for (size_t i = 0; i < n; ++i) from[i] = x[i];
    out(part, load_doubles(from), load_doubles(from + DOUBLES));
    for (size_t i = 0; i < n; ++i) to[i] = part[i];
}

template <class T>
inline void divided(const T* x, size_t rows, size_t n, double by, const float* means, const double* inverses,
                    float* out) {
    for (size_t row = 0; row < rows; ++row, x += n, out += n) {
        const double mean = means[row], inverse = inverses[row];
        map_row(x, n, out, [=](float* to, D low, D high) {
            store(to, floats((low * by - mean) * inverse, (high * by - mean) * inverse));
        });
    }
}

template <class To>
inline void restored(const float* x, size_t rows, size_t n, const double* scales, const double* means, double by,
                     To* out) {
    for (size_t row = 0; row < rows; ++row, x += n, out += n) {
        const double scale = scales[row], mean = means[row];
        map_row(x, n, out, [=](To* to, D low, D high) {
            store_rounded(to, (low * scale + mean) * by, (high * scale + mean) * by);
        });
    }
}

}  // namespace latq::LATQ_TARGET
