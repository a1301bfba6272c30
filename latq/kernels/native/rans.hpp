// Interleaved rANS (spec section 8.1): lanes of a stream, and streams of symbols by one table
// (reference.rans_encode_symbols). Rows of 32 lanes go W lanes at a time; others, and the last of a stream, lane by lane.
#pragma once

#include "kernels.hpp"
#include "simd.hpp"

namespace latq::LATQ_TARGET {

// Of the tables for points.
constexpr int PRECISION = 14;
constexpr uint32_t RANS_LOW = 1u << 16;

// A stream being read. ``words`` moves on; ``dry`` once a word was missing.
struct Reader {
    alignas(64) uint32_t states[MAX_LANES];
    const uint8_t* words;
    const uint8_t* end;
    bool dry = false;

    Reader(const uint8_t* stream, size_t count, size_t lanes) : words(stream + 4 * lanes), end(words + 2 * count) {
        std::memcpy(states, stream, 4 * lanes);
    }

    // All words used, every lane back in the state that the writer began with.
    bool sound(size_t lanes) const {
        for (size_t lane = 0; lane < lanes; ++lane)
            if (states[lane] != RANS_LOW) return false;
        return words == end && !dry;
    }
};

LATQ_INLINE uint32_t word_at(const uint8_t* at) {
    uint16_t word;
    std::memcpy(&word, at, 2);
    return word;
}

// Tables of precision P: the entry of each slot (tables, 2^P), frequency | start << 16 of each entry (tables, 256).
template <int P>
LATQ_INLINE uint32_t decode_lane(Reader& reader, size_t lane, uint32_t table, const uint8_t* slots,
                                 const uint32_t* infos) {
    const uint32_t x = reader.states[lane], slot = x & ((1u << P) - 1);
    const uint32_t found = slots[(table << P) + slot];
    const uint32_t info = infos[(table << 8) + found];
    uint32_t next = (info & 0xFFFFu) * (x >> P) + slot - (info >> 16);
    // Whether a word is due is a coin toss: no branch on it, except at the end of the stream.
    const uint32_t due = next < RANS_LOW;
    if (reader.words != reader.end) [[likely]] {
        const uint32_t filled = next << 16 | word_at(reader.words);
        next = due ? filled : next;
        reader.words += 2 * due;
    } else {
        reader.dry |= due;
    }
    reader.states[lane] = next;
    return found;
}

// States with a word more where one is due; W words must be readable.
LATQ_INLINE U refilled(const uint8_t*& words, U next) {
    const M empty = less(next, all<U>(RANS_LOW));
    const U filled = next << 16 | expand_words(words, lanes_of(empty));
    words += 2 * (size_t)count_ones(lanes_of(empty));
    return (U)select(empty, (I)filled, (I)next);
}

template <int P>
LATQ_INLINE U decode_lanes(Reader& reader, size_t lane, U table, const uint8_t* slots, const uint32_t* infos) {
    const U x = load<U>(reader.states + lane), slot = x & ((1u << P) - 1);
    const U found = gather_bytes(slots, (table << P) + slot);
    const U info = gather(infos, (table << 8) + found);
    store(reader.states + lane, refilled(reader.words, (info & 0xFFFFu) * (x >> P) + slot - (info >> 16)));
    return found;
}

// Symbols below 256 by one table of precision P; symbol i in lane i mod lanes.
template <int P>
inline bool decode_symbols(const uint8_t* stream, size_t words, size_t lanes, const uint8_t* slots,
                           const uint32_t* infos, uint8_t* symbols, size_t count) {
    Reader reader(stream, words, lanes);
    for (size_t begin = 0; begin < count; begin += lanes) {
        const size_t n = count - begin < lanes ? count - begin : lanes;
        if (W >= 8 && n == MAX_LANES && reader.end - reader.words >= 2 * (ptrdiff_t)MAX_LANES) {
            for (size_t lane = 0; lane < MAX_LANES; lane += W) {
                const U found = decode_lanes<P>(reader, lane, U{}, slots, infos);
                store_bytes(symbols + begin + lane, found, W);
            }
        } else {
            for (size_t lane = 0; lane < n; ++lane)
                symbols[begin + lane] = (uint8_t)decode_lane<P>(reader, lane, 0, slots, infos);
        }
        if (reader.dry) return false;
    }
    return reader.sound(lanes);
}

// A stream being written, from its end: W words before ``words`` are writable.
struct Writer {
    alignas(64) uint32_t states[MAX_LANES];
    uint16_t* words;

    explicit Writer(uint16_t* end) : words(end) {
        for (uint32_t& state : states) state = RANS_LOW;
    }
};

// x / f for x < 2^20 f; inverse is 1 / f as float32, made smaller by the factor 1 - 2^-22. With that and three
// roundings the estimate is too small by between 1 and 7.1 times 2^-24 x / f, less than 1: the quotient is that or one
// more.
LATQ_INLINE U quotient_of(U x, U f, F inverse) {
    const U q = (U)truncated(__builtin_convertvector(x, F) * inverse);
    return q + (U)select(less(x - q * f, f), I{}, all<I>(1));
}

LATQ_INLINE F inverse_of(U f) { return (1.0f - 0x1p-22f) / floating((I)f); }

template <int P>
LATQ_INLINE void encode_lane(Writer& writer, size_t lane, uint32_t info) {
    const uint32_t f = info & 0xFFFFu, start = info >> 16;
    uint32_t x = writer.states[lane];
    if (x >> (32 - P) >= f) {
        *--writer.words = (uint16_t)x;
        x >>= 16;
    }
    writer.states[lane] = (x / f << P) + x % f + start;
}

// The states after W symbols of these frequencies and starts, by tables of precision P.
template <int P>
LATQ_INLINE U encoded(uint16_t*& words, U x, U f, U start) {
    const M roomy = less(x >> (32 - P), f);
    const uint32_t mask = ~lanes_of(roomy) & ((1u << W) - 1);
    compress_words(words, x, mask);
    words -= count_ones(mask);
    x = (U)select(roomy, (I)x, (I)(x >> 16));
    const U q = quotient_of(x, f, inverse_of(f));
    return (q << P) + (x - q * f) + start;
}

template <int P>
LATQ_INLINE void encode_lanes(Writer& writer, size_t lane, U info) {
    const U x = load<U>(writer.states + lane);
    store(writer.states + lane, encoded<P>(writer.words, x, info & 0xFFFFu, info >> 16));
}

// In four columns: a count that follows on itself would wait for it.
inline void count_symbols(const uint8_t* symbols, size_t count, int64_t* counts) {
    int64_t columns[4][256] = {};
    for (size_t i = 0; i < count; ++i) ++columns[i % 4][symbols[i]];
    for (size_t s = 0; s < 256; ++s) counts[s] += columns[0][s] + columns[1][s] + columns[2][s] + columns[3][s];
}

// Inverse of decode_symbols; ``words`` holds one per symbol and WORDS_SLACK, and is
// filled from the end. Returns how many it wrote.
template <int P>
inline size_t encode_symbols(const uint8_t* symbols, size_t count, size_t lanes, const uint32_t* infos,
                             uint32_t* states, uint16_t* words) {
    Writer writer(words + count + WORDS_SLACK);
    uint16_t* const end = writer.words;
    for (size_t row = (count + lanes - 1) / lanes; row-- > 0;) {
        const uint8_t* own = symbols + row * lanes;
        const size_t n = count - row * lanes < lanes ? count - row * lanes : lanes;
        if (W >= 8 && n == MAX_LANES) {
            for (size_t lane = MAX_LANES; lane > 0;) {
                lane -= W;
                encode_lanes<P>(writer, lane, gather(infos, load_numbers(own + lane, W)));
            }
        } else {
            for (size_t lane = n; lane-- > 0;) encode_lane<P>(writer, lane, infos[own[lane]]);
        }
    }
    std::memcpy(states, writer.states, 4 * lanes);
    return (size_t)(end - writer.words);
}

}  // namespace latq::LATQ_TARGET
