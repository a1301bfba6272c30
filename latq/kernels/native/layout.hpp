// Transposition of matrices of 1, 2, 4 and 8-byte entries: square tiles in registers, blocks of tiles by way of a buffer.
#pragma once

#include <utility>

#include "simd.hpp"

namespace latq::LATQ_TARGET {

// A vector of up to 16 entries, in lanes of 16 bytes.
template <class T>
struct Line {
    static constexpr size_t SIZE = 4 * W < 16 * sizeof(T) ? 4 * W : 16 * sizeof(T);
    static constexpr size_t LANES = SIZE / 16, PER_LANE = 16 / sizeof(T), N = LANES * PER_LANE;
    typedef T V __attribute__((vector_size(SIZE)));
};

// Entries of a and b by turns, from the lower or the upper half of every lane.
template <class T, bool UPPER, size_t... I>
LATQ_INLINE auto interleaved(typename Line<T>::V a, typename Line<T>::V b, std::index_sequence<I...>) {
    constexpr size_t K = Line<T>::PER_LANE;
    return __builtin_shufflevector(a, b, (I / K * K + I % K / 2 + UPPER * K / 2 + I % 2 * Line<T>::N)...);
}

// The even or the odd lanes of a, then those of b.
template <class T, bool ODD, size_t... I>
LATQ_INLINE auto every_other_lane(typename Line<T>::V a, typename Line<T>::V b, std::index_sequence<I...>) {
    constexpr size_t K = Line<T>::PER_LANE;
    return __builtin_shufflevector(a, b, ((2 * (I / K) + ODD) * K + I % K)...);
}

// N x N, in place. Interleaving row i with row i + half, log2(rows) times, transposes: so the entries of every lane; the
// lanes by the inverse of the same.
template <class T>
LATQ_INLINE void transpose_tile(typename Line<T>::V x[Line<T>::N]) {
    constexpr size_t K = Line<T>::PER_LANE, LANES = Line<T>::LANES, N = Line<T>::N;
    constexpr std::make_index_sequence<N> entries;
    typename Line<T>::V y[N];
    LATQ_UNROLL
    for (size_t round = 1; round < K; round *= 2) {
        LATQ_UNROLL
        for (size_t group = 0; group < N; group += K)
            LATQ_UNROLL
            for (size_t i = 0; i < K / 2; ++i) {
                y[group + 2 * i] = interleaved<T, false>(x[group + i], x[group + i + K / 2], entries);
                y[group + 2 * i + 1] = interleaved<T, true>(x[group + i], x[group + i + K / 2], entries);
            }
        LATQ_UNROLL
        for (size_t i = 0; i < N; ++i) x[i] = y[i];
    }
    LATQ_UNROLL
    for (size_t round = 1; round < LANES; round *= 2) {
        LATQ_UNROLL
        for (size_t j = 0; j < K; ++j)
            LATQ_UNROLL
            for (size_t i = 0; i < LANES / 2; ++i) {
                y[i * K + j] = every_other_lane<T, false>(x[2 * i * K + j], x[(2 * i + 1) * K + j], entries);
                y[(i + LANES / 2) * K + j] = every_other_lane<T, true>(x[2 * i * K + j], x[(2 * i + 1) * K + j], entries);
            }
        LATQ_UNROLL
        for (size_t i = 0; i < N; ++i) x[i] = y[i];
    }
}

// to[column][row] = from[row][column]; rows of either are so many entries apart. Blocks stay within few pages, and tiles
// begin at whole vectors of either matrix where these lie alike in all rows; those at the edges overlap others.
template <class T>
inline void transpose(const T* from, size_t from_stride, T* to, size_t to_stride, size_t rows, size_t columns) {
    using V = typename Line<T>::V;
    constexpr ptrdiff_t N = Line<T>::N, BLOCK = 64;
    const ptrdiff_t height = rows, width = columns;
    if (height < N || width < N) {
        for (size_t row = 0; row < rows; row += 16)
            for (size_t j = 0; j < columns; ++j)
                for (size_t i = row; i < row + 16 && i < rows; ++i) to[j * to_stride + i] = from[i * from_stride + j];
        return;
    }
    const auto beyond_vector = [](const T* p) { return (ptrdiff_t)((uintptr_t)p / sizeof(T) % N); };
    const auto within = [](ptrdiff_t i, ptrdiff_t last) { return i < 0 ? 0 : i < last ? i : last; };
    const auto block = [&](ptrdiff_t top, ptrdiff_t left) {
        for (ptrdiff_t i = top; i < top + BLOCK && i < height; i += N)
            for (ptrdiff_t j = left; j < left + BLOCK && j < width; j += N) {
                const ptrdiff_t r = within(i, height - N), c = within(j, width - N);
                V tile[N];
                LATQ_UNROLL
                for (ptrdiff_t k = 0; k < N; ++k) tile[k] = load<V>(from + (r + k) * from_stride + c);
                transpose_tile<T>(tile);
                LATQ_UNROLL
                for (ptrdiff_t k = 0; k < N; ++k) store(to + (c + k) * to_stride + r, tile[k]);
            }
    };
    const ptrdiff_t top = -beyond_vector(to), left = -beyond_vector(from);
    if (height > width)
        for (ptrdiff_t i = top; i < height; i += BLOCK)
            for (ptrdiff_t j = left; j < width; j += BLOCK) block(i, j);
    else
        for (ptrdiff_t j = left; j < width; j += BLOCK)
            for (ptrdiff_t i = top; i < height; i += BLOCK) block(i, j);
}

}  // namespace latq::LATQ_TARGET
