// Transposition of matrices of 1, 2, 4 and 8-byte entries, in tiles that stay in the first cache.
#pragma once

#include "simd.hpp"

namespace latq::LATQ_TARGET {

// Rows of ``from`` are ``from_stride`` entries apart; to[column][row] = from[row][column].
template <class T>
inline void transposed(const T* from, size_t from_stride, T* to, size_t to_stride, size_t rows, size_t columns) {
    constexpr size_t TILE = 64 / sizeof(T);
    for (size_t c = 0; c < columns; c += TILE)
        for (size_t r = 0; r < rows; r += TILE) {
            const size_t height = rows - r < TILE ? rows - r : TILE, width = columns - c < TILE ? columns - c : TILE;
            T tile[TILE][TILE];
            for (size_t i = 0; i < height; ++i)
                std::memcpy(tile[i], from + (r + i) * from_stride + c, width * sizeof(T));
            for (size_t j = 0; j < width; ++j) {
                T* const line = to + (c + j) * to_stride + r;
                for (size_t i = 0; i < height; ++i) line[i] = tile[i][j];
            }
        }
}

}  // namespace latq::LATQ_TARGET
