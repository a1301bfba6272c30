// Fixed coding: bit strings, and digits in a radix (spec section 7).
#pragma once

#include <algorithm>
#include <utility>

#include "kernels.hpp"
#include "simd.hpp"

namespace latq::LATQ_TARGET {

// --- bit strings: values of ``width`` bits, the least significant first -----------------------------------------

LATQ_INLINE uint64_t octets_at(const uint8_t* data, size_t at) {
    uint64_t bits;
    std::memcpy(&bits, data + at, 8);
    return bits;
}

// Words of 64 bits have eight values of 8 bits or fewer each.
constexpr size_t OCTETS = W / 2, STEP = 8 * OCTETS;

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

    template <class V>
    LATQ_INLINE V together(V bytes) const {
        for (int step = 0; step < 3; ++step)
            bytes = (bytes & low[step]) | (bytes >> up[step] & low[step] << (width << step));
        return bytes;
    }

    template <class V>
    LATQ_INLINE V apart(V bits) const {
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
        for (; i + STEP <= count && end - data >= (ptrdiff_t)STEP; i += STEP, data += OCTETS * width) {
            uint64_t words[OCTETS];
            store(words, octet.together(load<L>(values + i)));
            for (size_t k = 0; k < OCTETS; ++k) std::memcpy(data + k * width, words + k, 8);
        }
    }
    for (held = 0; i < count; ++i) {
        held |= ((uint64_t)values[i] & mask) << bits;
        bits += width;
        if (bits >= 32) {
            std::memcpy(data, &held, 4);
            data += 4, bits -= 32, held >>= 32;
        }
    }
    for (; bits > 0; bits -= 8, held >>= 8) *data++ = (uint8_t)held;
}

template <class T>
inline void unpack_bits(const uint8_t* data, size_t size, int width, size_t count, T* values) {
    const uint32_t mask = (uint32_t)(((uint64_t)1 << width) - 1);
    size_t i = 0;
    if constexpr (sizeof(T) == 1) {
        const Octet octet(width);
        const uint8_t *at = data, *const end = data + size;
        for (; i + STEP <= count && end - at >= (ptrdiff_t)STEP; i += STEP, at += OCTETS * width) {
            uint64_t words[OCTETS];
            for (size_t k = 0; k < OCTETS; ++k) std::memcpy(words + k, at + k * width, 8);
            store(values + i, octet.apart(load<L>(words)));
        }
    } else if (width <= 25) {  // What 32-bit loads cover.
        constexpr size_t TOGETHER = W < 8 ? 8 : W;
        U shift[TOGETHER / W], offset[TOGETHER / W];
        for (size_t j = 0; j < TOGETHER; ++j) {
            offset[j / W][j % W] = (uint32_t)(j * width / 8);
            shift[j / W][j % W] = (uint32_t)(j * width % 8);
        }
        for (; i + TOGETHER <= count && i * width / 8 + TOGETHER * width / 8 + 4 <= size; i += TOGETHER)
            for (size_t v = 0; v < TOGETHER / W; ++v) {
                const U found = (gather_octets(data + i * width / 8, offset[v]) >> shift[v]) & mask;
                for (size_t j = 0; j < W; ++j) values[i + v * W + j] = (T)found[j];
            }
    }
    for (; i < count && i * width / 8 + 8 <= size; ++i)
        values[i] = (T)(octets_at(data, i * width / 8) >> (i * width % 8) & mask);
    uint8_t last[16] = {};
    const size_t begin = i * width / 8;
    if (i < count) std::memcpy(last, data + begin, size - begin);
    for (; i < count; ++i) values[i] = (T)(octets_at(last, i * width / 8 - begin) >> (i * width % 8) & mask);
}

// --- digits in a radix: words of some digits, the first least significant ---------------------------------------

// The last four digits of every number below RADIX^4.
template <uint32_t RADIX>
struct Quads {
    static constexpr uint32_t COUNT = RADIX * RADIX * RADIX * RADIX;
    uint8_t digits[COUNT][4];
    constexpr Quads() : digits{} {
        for (uint32_t word = 0; word < COUNT; ++word)
            for (uint32_t i = 0, rest = word; i < 4; ++i, rest /= RADIX) digits[word][i] = (uint8_t)(rest % RADIX);
    }
};
template <uint32_t RADIX>
inline constexpr Quads<RADIX> QUADS{};

template <uint32_t RADIX, size_t PER_WORD>
inline void split_digits(const uint32_t* words, size_t count, uint8_t* digits) {
    constexpr uint32_t COUNT = Quads<RADIX>::COUNT;
    size_t begin = 0;
    // Four at a time: what is too much of the last ones is overwritten.
    for (; begin + PER_WORD + 4 <= count; begin += PER_WORD) {
        uint32_t rest = *words++;
        for (size_t i = 0; i < PER_WORD; i += 4, rest /= COUNT)
            std::memcpy(digits + begin + i, QUADS<RADIX>.digits[rest % COUNT], 4);
    }
    for (; begin < count; begin += PER_WORD) {
        const size_t n = count - begin < PER_WORD ? count - begin : PER_WORD;
        uint32_t rest = *words++;
        for (size_t i = 0; i < n; ++i, rest /= RADIX) digits[begin + i] = (uint8_t)(rest % RADIX);
    }
}

template <uint32_t RADIX, size_t PER_WORD>
inline void join_digits(const uint8_t* digits, size_t count, uint32_t* words) {
    const auto join = [&](size_t n) {
        uint32_t word = 0;
        for (size_t i = n; i-- > 0;) word = word * RADIX + digits[i];
        return word;
    };
    for (; count >= PER_WORD; count -= PER_WORD, digits += PER_WORD) *words++ = join(PER_WORD);
    if (count) *words = join(count);
}

// --- digits of fixed coding: low bits in one plane, the higher parts as words in another ------------------------------

// As many digits as stay in the cache, in whole bytes of both planes whatever the radix.
constexpr size_t DIGITS_TOGETHER = 8 * 1320;

// Digits in a radix put above those of ``low``, of which three more than there are may be read.
template <uint32_t RADIX, size_t PER_WORD>
inline void split_above(const uint32_t* words, const uint8_t* low, int low_bits, size_t count, uint8_t* digits) {
    constexpr uint32_t COUNT = Quads<RADIX>::COUNT;
    size_t begin = 0;
    // As in split_digits; no digit reaches the byte of the next.
    for (; begin + PER_WORD + 4 <= count; begin += PER_WORD) {
        uint32_t rest = *words++;
        for (size_t i = 0; i < PER_WORD; i += 4, rest /= COUNT) {
            uint32_t high, four;
            std::memcpy(&high, QUADS<RADIX>.digits[rest % COUNT], 4), std::memcpy(&four, low + begin + i, 4);
            four |= high << low_bits;
            std::memcpy(digits + begin + i, &four, 4);
        }
    }
    uint8_t high[2 * PER_WORD + 4];
    split_digits<RADIX, PER_WORD>(words, count - begin, high);
    for (size_t i = begin; i < count; ++i) digits[i] = (uint8_t)(low[i] | high[i - begin] << low_bits);
}

template <uint32_t RADIX, size_t PER_WORD>
inline void split_above(const uint32_t* words, const uint16_t* low, int low_bits, size_t count, uint16_t* digits) {
    uint8_t high[DIGITS_TOGETHER];
    split_digits<RADIX, PER_WORD>(words, count, high);
    for (size_t i = 0; i < count; ++i) digits[i] = (uint16_t)(low[i] | high[i] << low_bits);
}

// Words of ``width`` bits each at ``data``, put above low bits. False if one is out of range.
template <uint32_t RADIX, size_t PER_WORD, class T>
inline bool add_words(const uint8_t* data, size_t size, int width, const T* low, int low_bits, size_t count, T* digits) {
    uint32_t words[DIGITS_TOGETHER / PER_WORD], largest = 0, limit = 1;
    for (size_t i = 0; i < PER_WORD; ++i) limit *= RADIX;
    const size_t some = (count + PER_WORD - 1) / PER_WORD;
    unpack_bits(data, size, width, some, words);
    for (size_t i = 0; i < some; ++i) largest = std::max(largest, words[i]);
    if (largest >= limit) return false;
    split_above<RADIX, PER_WORD>(words, low, low_bits, count, digits);
    return true;
}

// reference.unpack_digits.
template <class T>
inline bool unpack_digits(const uint8_t* data, size_t size, int radix, int low_bits, size_t count, T* digits) {
    const size_t words_at = (count * low_bits + 7) / 8;
    const size_t per_word = radix == 3 ? 5 : radix == 5 ? 3 : 11, width = radix == 3 ? 8 : radix == 5 ? 7 : 31;
    T low[DIGITS_TOGETHER + 3]{};
    for (size_t begin = 0; begin < count; begin += DIGITS_TOGETHER) {
        const size_t n = std::min(count - begin, DIGITS_TOGETHER), low_at = begin * low_bits / 8;
        if (low_bits) unpack_bits(data + low_at, size - low_at, low_bits, n, radix == 1 ? digits + begin : low);
        if (radix == 1) continue;
        const size_t at = words_at + begin / per_word * width / 8;
        const auto add = radix == 3 ? add_words<3, 5, T> : radix == 5 ? add_words<5, 3, T> : add_words<7, 11, T>;
        if (!add(data + at, size - at, (int)width, low, low_bits, n, digits + begin)) return false;
    }
    return true;
}

// --- digits of W blocks of 8, from one vector for each coordinate ---------------------------------------------------

// Entries of two vectors by turns.
template <size_t UPPER, size_t... K>
LATQ_INLINE U by_turns(U a, U b, std::index_sequence<K...>) {
    return __builtin_shufflevector(a, b, (K / 2 + UPPER * W / 2 + K % 2 * W)...);
}

template <class T>
LATQ_INLINE void store_digits(const F c[8], T* digits) {
    if constexpr (sizeof(T) == 1) {
        constexpr std::make_index_sequence<W> entries;
        U halves[2] = {};
        for (int i = 0; i < 8; ++i) halves[i / 4] |= (U)truncated(c[i]) << (8 * (i % 4));
        store(digits, by_turns<0>(halves[0], halves[1], entries));
        store(digits + 4 * W, by_turns<1>(halves[0], halves[1], entries));
    } else {
        int32_t wide[8 * W];
        I numbers[8];
        for (int i = 0; i < 8; ++i) numbers[i] = truncated(c[i]);
        store_blocks(wide, numbers);
        for (size_t i = 0; i < 8 * W; ++i) digits[i] = (T)wide[i];
    }
}

}  // namespace latq::LATQ_TARGET
