// Fixed coding: bit strings, digits in a radix, and codewords (spec sections 6 and 7).
#pragma once

#include "simd.hpp"

namespace latq::LATQ_TARGET {

// --- bit strings: values of ``width`` bits, the least significant first -----------------------------------------

LATQ_INLINE uint64_t octets_at(const uint8_t* data, size_t size, size_t at) {
    uint64_t bits = 0;
    std::memcpy(&bits, data + at, size - at < 8 ? size - at : 8);
    return bits;
}

// Eight values of ``width`` bits between the bytes of a 64-bit word and its low end, by pairs, fours and eights.
struct Octet {
    uint64_t low[3];
    int up[3], width;

    explicit Octet(int width) : width(width) {
        for (int step = 0; step < 3; ++step) {
            const int apart = 8 << step, used = width << step;
            low[step] = 0, up[step] = apart - used;
            for (int i = 0; i < 64; i += 2 * apart) low[step] |= (((uint64_t)1 << used) - 1) << i;
        }
    }

    LATQ_INLINE uint64_t together(uint64_t bytes) const {
        for (int step = 0; step < 3; ++step)
            bytes = (bytes & low[step]) | (bytes >> up[step] & low[step] << (width << step));
        return bytes;
    }

    LATQ_INLINE uint64_t apart(uint64_t bits) const {
        for (int step = 2; step >= 0; --step)
            bits = (bits & low[step]) | (bits & low[step] << (width << step)) << up[step];
        return bits;
    }
};

template <class T>
inline void pack_bits(const T* values, int width, size_t count, uint8_t* data) {
    const uint64_t mask = ((uint64_t)1 << width) - 1;
    const uint8_t* const end = data + (count * width + 7) / 8;
    uint64_t held = 0;
    size_t i = 0;
    int bits = 0;
    // Eight values fill ``width`` bytes. What a store writes beyond them the next one overwrites.
    if constexpr (sizeof(T) == 1) {
        const Octet octet(width);
        for (; i + 8 <= count && end - data >= 8; i += 8, data += width) {
            std::memcpy(&held, values + i, 8);
            held = octet.together(held);
            std::memcpy(data, &held, 8);
        }
    }
    for (held = 0; i < count; ++i) {
        held |= ((uint64_t)values[i] & mask) << bits;
        for (bits += width; bits >= 8; bits -= 8, held >>= 8) *data++ = (uint8_t)held;
    }
    if (bits) *data = (uint8_t)held;
}

template <class T>
inline void unpack_bits(const uint8_t* data, size_t size, int width, size_t count, T* values) {
    const uint32_t mask = (uint32_t)(((uint64_t)1 << width) - 1);
    size_t i = 0;
    if constexpr (sizeof(T) == 1) {
        const Octet octet(width);
        for (const uint8_t* at = data; i + 8 <= count && data + size - at >= 8; i += 8, at += width) {
            uint64_t bits;
            std::memcpy(&bits, at, 8);
            bits = octet.apart(bits);
            std::memcpy(values + i, &bits, 8);
        }
    } else if (width <= 25) {  // What 32-bit loads cover.
        constexpr size_t STEP = W < 8 ? 8 : W;
        U shift[STEP / W], offset[STEP / W];
        for (size_t j = 0; j < STEP; ++j) {
            offset[j / W][j % W] = (uint32_t)(j * width / 8);
            shift[j / W][j % W] = (uint32_t)(j * width % 8);
        }
        for (; i + STEP <= count && i * width / 8 + STEP * width / 8 + 4 <= size; i += STEP)
            for (size_t v = 0; v < STEP / W; ++v) {
                const U found = (gather_octets(data + i * width / 8, offset[v]) >> shift[v]) & mask;
                for (size_t j = 0; j < W; ++j) values[i + v * W + j] = (T)found[j];
            }
    }
    for (; i < count; ++i)
        values[i] = (T)(octets_at(data, size, i * width / 8) >> (i * width % 8) & mask);
}

// --- digits in a radix: words of some digits, the first least significant ---------------------------------------

// The last four digits of every number below RADIX^4.
template <uint32_t RADIX>
struct Quads {
    static constexpr uint32_t COUNT = RADIX * RADIX * RADIX * RADIX;
    uint16_t digits[COUNT][4];
    constexpr Quads() : digits{} {
        for (uint32_t word = 0; word < COUNT; ++word)
            for (uint32_t i = 0, rest = word; i < 4; ++i, rest /= RADIX) digits[word][i] = (uint16_t)(rest % RADIX);
    }
};
template <uint32_t RADIX>
inline constexpr Quads<RADIX> QUADS{};

template <uint32_t RADIX>
inline void split_words(const uint32_t* words, size_t per_word, size_t count, uint16_t* digits) {
    constexpr uint32_t COUNT = Quads<RADIX>::COUNT;
    size_t begin = 0;
    // Four at a time: what is too much of the last ones is overwritten.
    for (; begin + per_word + 4 <= count; begin += per_word) {
        uint32_t rest = *words++;
        for (size_t i = 0; i < per_word; i += 4, rest /= COUNT)
            std::memcpy(digits + begin + i, QUADS<RADIX>.digits[rest % COUNT], 8);
    }
    for (; begin < count; begin += per_word) {
        const size_t n = count - begin < per_word ? count - begin : per_word;
        uint32_t rest = *words++;
        for (size_t i = 0; i < n; ++i, rest /= RADIX)
            digits[begin + i] = (uint16_t)(rest % RADIX);
    }
}

inline void split_digits(const uint32_t* words, uint32_t radix, size_t per_word, size_t count,
                         uint16_t* digits) {
    if (radix == 3) split_words<3>(words, per_word, count, digits);
    else if (radix == 5) split_words<5>(words, per_word, count, digits);
    else split_words<7>(words, per_word, count, digits);
}

inline void join_digits(const uint16_t* digits, uint32_t radix, size_t per_word, size_t count,
                        uint32_t* words) {
    for (size_t begin = 0; begin < count; begin += per_word) {
        uint32_t word = 0;
        for (size_t i = count - begin < per_word ? count - begin : per_word; i-- > 0;)
            word = word * radix + digits[begin + i];
        *words++ = word;
    }
}

// --- codewords ----------------------------------------------------------------------------------------------------

// Reduction of a point of the offset lattice modulo q E8 (reference.representative), in place; |p| < 16 q. Where
// ``swapped``, as that of a point that is off by q times a half-integer point: ties go to the other coset.
LATQ_INLINE void reduce(I p[8], int32_t q, I swapped = I{}) {
    const float inverse = 1.0f / (float)(2 * q);
    I a[8], side[8], half[8], whole_sum{}, half_sum{}, total{};
    for (int i = 0; i < 8; ++i) {
        // floor((p + q) / 2q): moved up to be positive, and by a half off the integers, where float32 is sure.
        const I moved = p[i] + q + 16 * 2 * q;
        const I r = truncated((floating(moved) + 0.5f) * inverse) - 16;
        p[i] -= r * (2 * q);
        side[i] = (p[i] < 0) | 1;
        a[i] = p[i] < 0 ? -p[i] : p[i];
        whole_sum += r, half_sum += r * 2 + side[i], total += a[i];
    }
    const I whole_odd = (whole_sum & 1) == 1, half_odd = (half_sum & 3) == 2;
    I high = a[0], low = a[0];
    for (int i = 1; i < 8; ++i) high = a[i] > high ? a[i] : high, low = a[i] < low ? a[i] : low;
    const I balance = total - 4 * q + ((2 * (q - high)) & whole_odd) - ((2 * low) & half_odd);
    I to_move = whole_odd, to_move_back = half_odd;
    const I first = balance - swapped <= 0;
    for (int i = 0; i < 8; ++i) {
        const I here = to_move & (I)(a[i] == high), there = to_move_back & (I)(a[i] == low);
        to_move &= ~here, to_move_back &= ~there;
        half[i] = p[i] - side[i] * q + ((side[i] * (2 * q)) & there);
        p[i] = p[i] - ((side[i] * (2 * q)) & here);
        p[i] = first ? p[i] : half[i];
    }
}

inline void codewords(const uint16_t* digits, const int32_t* scales_of_blocks, size_t blocks, int32_t q,
                      const int32_t* offset, float* out) {
    for (size_t b = 0; b < blocks; b += W) {
        const size_t n = blocks - b < W ? blocks - b : W;
        int32_t wide[8 * W] = {};
        if (n == W) for (size_t i = 0; i < 8 * W; ++i) wide[i] = digits[8 * b + i];
        else for (size_t i = 0; i < 8 * n; ++i) wide[i] = digits[8 * b + i];
        const I scales = (I)load_numbers(scales_of_blocks + b, n);
        I c[8], p[8];
        load_blocks(wide, c);
        p[0] = 4 * c[0] - 2 * c[1] + c[7];
        for (int i = 1; i < 6; ++i) p[i] = 2 * c[i] - 2 * c[i + 1] + c[7];
        p[6] = 2 * c[6] + c[7], p[7] = c[7];
        for (int i = 0; i < 8; ++i) p[i] += offset[i];
        reduce(p, q);
        F x[8];
        for (int i = 0; i < 8; ++i) x[i] = floating(p[i] * scales);
        float some[8 * W];
        store_blocks(n < W ? some : out + 8 * b, x);
        if (n < W) std::memcpy(out + 8 * b, some, 8 * n * sizeof *some);
    }
}

}  // namespace latq::LATQ_TARGET
