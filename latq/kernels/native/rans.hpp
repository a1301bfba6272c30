// rANS coding of points (spec section 8.3): points.encode_points and points.decode_points without the packing of their
// inputs. Rows of 32 lanes go W lanes at a time; others, and the last ones of a stream, go lane by lane.
#pragma once

#include "kernels.hpp"
#include "points.hpp"
#include "simd.hpp"

namespace latq::LATQ_TARGET {

// Of the tables for points.
constexpr int PRECISION = 14;
constexpr uint32_t RANS_LOW = 1u << 16;
constexpr size_t MAX_LANES = 32;

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

template <int P>
LATQ_INLINE U decode_lanes(Reader& reader, size_t lane, U table, const uint8_t* slots, const uint32_t* infos) {
    const U x = load<U>(reader.states + lane), slot = x & ((1u << P) - 1);
    const U found = gather_bytes(slots, (table << P) + slot);
    const U info = gather(infos, (table << 8) + found);
    const U next = (info & 0xFFFFu) * (x >> P) + slot - (info >> 16);
    const I empty = (I)(next < RANS_LOW);
    const uint32_t mask = lanes_of(empty);
    const U filled = next << 16 | expand_words(reader.words, mask);
    reader.words += 2 * count_ones(mask);
    store(reader.states + lane, empty ? filled : next);
    return found;
}

// Escaped values in the order of the stream; as many as there are, then none.
struct Escapes {
    const uint8_t* at;  // int32 each, little-endian
    size_t given, taken;

    int32_t next() {
        int32_t value = 0;
        if (taken < given) std::memcpy(&value, at + 4 * taken, 4);
        ++taken;
        return value;
    }
};

// Coordinates of up to 32 blocks, coded values to begin with.
struct Row {
    alignas(64) int32_t values[8][MAX_LANES];
    alignas(64) int32_t classes[MAX_LANES];
};

// One row of ``count`` blocks, lane by lane.
inline void decode_row(Reader& reader, Escapes& escapes, size_t count, const PointModel& model, Row& row) {
    int32_t first[MAX_LANES], coset[MAX_LANES] = {}, parity[MAX_LANES] = {};
    bool shifted[MAX_LANES];
    for (size_t lane = 0; lane < count; ++lane) {
        first[lane] = model.first[row.classes[lane]];
        shifted[lane] = model.shifts[row.classes[lane]] > 0;
    }
    for (int i = 0; i < 8; ++i)
        for (size_t lane = 0; lane < count; ++lane) {
            const int32_t further = i == 0 ? 0 : i < 7 ? 1 + coset[lane] : 3 + coset[lane] + 2 * parity[lane];
            const int32_t table = first[lane] + (shifted[lane] ? 0 : further);
            const uint32_t found = decode_lane<PRECISION>(reader, lane, (uint32_t)table, model.slots, model.infos);
            const int32_t value = found ? (int32_t)found - 128 : escapes.next();
            row.values[i][lane] = value;
            if (i == 0) coset[lane] = value & 1;
            parity[lane] ^= (value - coset[lane]) >> 1 & 1;
        }
}

// One row of 32 blocks; 32 words for each coordinate are there to be read.
inline void decode_full_row(Reader& reader, Escapes& escapes, const PointModel& model, Row& row) {
    constexpr size_t V = MAX_LANES / W;
    Selection of[V];
    I coset[V], parity[V];
    for (size_t v = 0; v < V; ++v) of[v] = select(row.classes + v * W, model), parity[v] = I{};
    for (int i = 0; i < 8; ++i) {
        uint32_t escaped = 0;
        for (size_t v = 0; v < V; ++v) {
            I table = i == 0 ? I{} : i < 7 ? 1 + coset[v] : 3 + coset[v] + 2 * parity[v];
            if (of[v].any_shifted) table = of[v].shifted ? I{} : table;
            const U found = decode_lanes<PRECISION>(reader, v * W, of[v].first + (U)table, model.slots, model.infos);
            const I value = (I)found - 128;
            escaped |= lanes_of((I)(found == 0u)) << v * W;
            store(row.values[i] + v * W, value);
            if (i == 0) coset[v] = value & 1;
            parity[v] ^= (value - coset[v]) >> 1 & 1;
        }
        if (escaped) [[unlikely]] {
            for (; escaped; escaped &= escaped - 1) row.values[i][__builtin_ctz(escaped)] = escapes.next();
            for (size_t v = 0; v < V; ++v) {
                parity[v] = I{};
                coset[v] = load<I>(row.values[0] + v * W) & 1;
                for (int j = 0; j <= i; ++j) parity[v] ^= (load<I>(row.values[j] + v * W) - coset[v]) >> 1 & 1;
            }
        }
    }
}

// High parts to doubled coordinates, with 8 numbers of ``shift`` bits at ``low``.
inline void join_low(Row& row, size_t lane, int shift, const uint8_t* low, size_t readable) {
    uint8_t octets[20] = {};
    std::memcpy(octets, low, readable < 20 ? readable : 20);
    uint32_t k[8];
    for (int i = 0; i < 8; ++i) {
        uint32_t bits;
        std::memcpy(&bits, octets + i * shift / 8, 4);
        k[i] = (uint32_t)row.values[i][lane] << shift | (bits >> (i * shift % 8) & ((1u << shift) - 1));
    }
    // The coset is in the place of the last coordinate's lowest bit, which follows from the others.
    const uint32_t coset = k[7] & 1;
    k[7] ^= coset;
    k[7] |= (k[0] ^ k[1] ^ k[2] ^ k[3] ^ k[4] ^ k[5] ^ k[6]) & 1;
    for (int i = 0; i < 8; ++i) row.values[i][lane] = (int32_t)(2 * k[i] + coset);
}

// The same for a full row, W lanes at a time; 20 bytes more than the row has low bits are readable.
LATQ_INLINE void join_low_row(Row& row, const PointModel& model, const uint32_t place[MAX_LANES], const uint8_t* low) {
    for (size_t lane = 0; lane < MAX_LANES; lane += W) {
        const Selection of = select(row.classes + lane, model);
        const U shift = (U)of.shift, mask = (1u << shift) - 1u, from = load<U>(place + lane);
        U k[8], others{};
        for (uint32_t i = 0; i < 8; ++i) {
            const U bits = gather_octets(low, from + (i * shift >> 3)) >> (i * shift & 7u);
            k[i] = load<U>(row.values[i] + lane) << shift | (bits & mask);
            if (i < 7) others ^= k[i];
        }
        const U coset = k[7] & 1u;
        k[7] = (k[7] ^ coset) | (others & 1u);
        for (int i = 0; i < 8; ++i)
            store(row.values[i] + lane, of.shifted ? (I)(2u * k[i] + coset) : load<I>(row.values[i] + lane));
    }
}

// Low bits of a row of blocks; returns where those of the next row begin.
inline const uint8_t* join_low_bits(Row& row, size_t count, const PointModel& model, const uint8_t* low,
                                    const uint8_t* end) {
    uint32_t place[MAX_LANES], size = 0;
    for (size_t lane = 0; lane < count; ++lane) place[lane] = size, size += (uint32_t)model.shifts[row.classes[lane]];
    if (count == MAX_LANES && (size_t)(end - low) >= size + 20) {
        join_low_row(row, model, place, low);
    } else {
        for (size_t lane = 0; lane < count; ++lane)
            if (const int shift = model.shifts[row.classes[lane]])
                join_low(row, lane, shift, low + place[lane], (size_t)(end - low) - place[lane]);
    }
    return low + size;
}

inline bool decode_points(const uint8_t* stream, size_t words, const uint8_t* escapes, size_t escape_count,
                          const uint8_t* low, size_t low_size, const int32_t* classes, size_t blocks, size_t lanes,
                          const PointModel& model, float* points) {
    Reader reader(stream, words, lanes);
    Escapes left{escapes, escape_count, 0};
    const uint8_t* low_end = low + low_size;
    Row row;
    for (size_t b = 0; b < blocks; b += lanes) {
        const size_t count = blocks - b < lanes ? blocks - b : lanes;
        std::memcpy(row.classes, classes + b, count * sizeof *classes);
        if (W >= 8 && count == MAX_LANES && reader.end - reader.words >= 16 * (ptrdiff_t)MAX_LANES)
            decode_full_row(reader, left, model, row);
        else decode_row(reader, left, count, model, row);
        if (reader.dry) return false;
        if (low_size) low = join_low_bits(row, count, model, low, low_end);
        size_t lane = 0;
        for (; lane + W <= count; lane += W) {
            F x[8];
            for (int i = 0; i < 8; ++i) x[i] = floating(load<I>(row.values[i] + lane));
            store_blocks(points + 8 * (b + lane), x);
        }
        for (; lane < count; ++lane)
            for (int i = 0; i < 8; ++i) points[8 * (b + lane) + i] = (float)row.values[i][lane];
    }
    return reader.sound(lanes) && left.taken == left.given;
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
                for (size_t i = 0; i < W; ++i) symbols[begin + lane + i] = (uint8_t)found[i];
            }
        } else {
            for (size_t lane = 0; lane < n; ++lane)
                symbols[begin + lane] = (uint8_t)decode_lane<P>(reader, lane, 0, slots, infos);
        }
        if (reader.dry) return false;
    }
    return reader.sound(lanes);
}

// A stream being written: its words in reverse order, W more than ``words`` points to are writable.
struct Writer {
    alignas(64) uint32_t states[MAX_LANES];
    uint16_t* words;

    explicit Writer(uint16_t* first) : words(first) {
        for (uint32_t& state : states) state = RANS_LOW;
    }
};

// x < 2^20 f divided by f, by way of float32, which is off by one at most.
LATQ_INLINE U quotient_of(U x, U f) {
    const F estimate = __builtin_convertvector(x, F) / __builtin_convertvector(f, F);
    U q = (U)truncated(estimate);
    const U rest = x - q * f;
    q = (I)rest < 0 ? q - 1 : q;
    return (I)rest >= (I)f ? q + 1 : q;
}

template <int P>
LATQ_INLINE void encode_lane(Writer& writer, size_t lane, uint32_t info) {
    const uint32_t f = info & 0xFFFFu, start = info >> 16;
    uint32_t x = writer.states[lane];
    if (x >> (32 - P) >= f) {
        *writer.words++ = (uint16_t)x;
        x >>= 16;
    }
    writer.states[lane] = (x / f << P) + x % f + start;
}

template <int P>
LATQ_INLINE void encode_lanes(Writer& writer, size_t lane, U info) {
    const U f = info & 0xFFFFu, start = info >> 16;
    U x = load<U>(writer.states + lane);
    const I full = (I)((x >> (32 - P)) >= f);
    const uint32_t mask = lanes_of(full);
    compress_words(writer.words, x, mask);
    writer.words += count_ones(mask);
    x = full ? x >> 16 : x;
    const U q = quotient_of(x, f);
    store(writer.states + lane, (q << P) + (x - q * f) + start);
}

// Low bits of one block: 8 numbers of ``shift`` bits, the coset in the place of the last one's lowest bit. 16 bytes are
// written where there is room, else those that count.
LATQ_INLINE void split_low(const int32_t* point, int shift, uint8_t* low, size_t room) {
    const uint32_t mask = (1u << shift) - 1;
    uint64_t halves[2] = {};
    for (int i = 0; i < 8; ++i) {
        uint32_t k = (uint32_t)(point[i] >> 1) & mask;
        if (i == 7) k = (k & ~1u) | (uint32_t)(point[0] & 1);
        halves[i / 4] |= (uint64_t)k << (i % 4 * shift);
    }
    uint64_t out[2] = {halves[0], halves[1]};
    if (shift < 16) {
        out[0] |= halves[1] << (4 * shift);
        out[1] = halves[1] >> (64 - 4 * shift);
    }
    std::memcpy(low, out, room < 16 ? (size_t)shift : 16);
}

inline void reverse(uint16_t* words, size_t count) {
    for (size_t i = 0; i < count / 2; ++i) {
        const uint16_t other = words[count - 1 - i];
        words[count - 1 - i] = words[i], words[i] = other;
    }
}

// In four columns: a count that follows on itself would wait for it.
inline void count_symbols(const uint8_t* symbols, size_t count, int64_t* counts) {
    int64_t columns[4][256] = {};
    for (size_t i = 0; i < count; ++i) ++columns[i % 4][symbols[i]];
    for (size_t s = 0; s < 256; ++s) counts[s] += columns[0][s] + columns[1][s] + columns[2][s] + columns[3][s];
}

// Inverse of decode_symbols; ``words`` holds one per symbol and WORDS_SLACK. Returns how many it wrote.
template <int P>
inline size_t encode_symbols(const uint8_t* symbols, size_t count, size_t lanes, const uint32_t* infos,
                             uint32_t* states, uint16_t* words) {
    Writer writer(words);
    for (size_t row = (count + lanes - 1) / lanes; row-- > 0;) {
        const uint8_t* own = symbols + row * lanes;
        const size_t n = count - row * lanes < lanes ? count - row * lanes : lanes;
        if (W >= 8 && n == MAX_LANES) {
            for (size_t lane = MAX_LANES; lane > 0;) {
                lane -= W;
                U index;
                for (size_t i = 0; i < W; ++i) index[i] = own[lane + i];
                encode_lanes<P>(writer, lane, gather(infos, index));
            }
        } else {
            for (size_t lane = n; lane-- > 0;) encode_lane<P>(writer, lane, infos[own[lane]]);
        }
    }
    std::memcpy(states, writer.states, 4 * lanes);
    const size_t found = (size_t)(writer.words - words);
    reverse(words, found);
    return found;
}

// ``words`` and ``escapes`` hold 8 per block, and WORDS_SLACK more words; escapes fill theirs from the end. The numbers
// of words and escapes come back in ``found``, the start states in ``states``.
inline void encode_points(const int32_t* points, const int32_t* classes, size_t blocks, size_t lanes,
                          const PointModel& model, uint32_t* states, uint16_t* words, int32_t* escapes, uint8_t* low,
                          size_t low_size, size_t found[2]) {
    const uint8_t* const low_end = low + low_size;
    Writer writer(words);
    int32_t* const escapes_end = escapes + 8 * blocks;
    escapes = escapes_end;
    alignas(64) uint32_t infos[8][MAX_LANES];
    alignas(64) int32_t values[8][MAX_LANES];
    for (size_t row = (blocks + lanes - 1) / lanes; row-- > 0;) {
        const size_t b = row * lanes, count = blocks - b < lanes ? blocks - b : lanes;
        // Whole vectors of blocks, of which the last may be beyond the end: those come from a copy.
        for (size_t lane = 0; lane < count; lane += W) {
            const size_t n = count - lane < W ? count - lane : W;
            int32_t scratch[8 * W], own[W] = {};
            if (n < W) load_some(points + 8 * (b + lane), n, scratch);
            std::memcpy(own, classes + b + lane, n * sizeof *own);
            I p[8], v[8];
            U table[8];
            load_blocks(n < W ? scratch : points + 8 * (b + lane), p);
            tables_of(p, select(own, model), table, v);
            for (int i = 0; i < 8; ++i) {
                const U info = gather(model.infos, (table[i] << 8) + index_of(v[i]));
                store(infos[i] + lane, info), store(values[i] + lane, v[i]);
            }
        }
        for (int i = 8; i-- > 0;) {
            if (W >= 8 && count == MAX_LANES) {
                uint32_t escaped = 0;
                for (size_t lane = MAX_LANES; lane > 0;) {
                    lane -= W;
                    const U info = load<U>(infos[i] + lane);
                    encode_lanes<PRECISION>(writer, lane, info);
                    escaped |= lanes_of((I)(info >> 16 == 0u)) << lane;
                }
                for (; escaped; escaped &= ~(1u << (31 - __builtin_clz(escaped))))
                    *--escapes = values[i][31 - __builtin_clz(escaped)];
            } else {
                for (size_t lane = count; lane-- > 0;) {
                    encode_lane<PRECISION>(writer, lane, infos[i][lane]);
                    if (infos[i][lane] >> 16 == 0) *--escapes = values[i][lane];
                }
            }
        }
    }
    std::memcpy(states, writer.states, 4 * lanes);
    found[0] = (size_t)(writer.words - words), found[1] = (size_t)(escapes_end - escapes);
    reverse(words, found[0]);
    for (size_t b = 0; b < blocks; ++b)
        if (const int shift = model.shifts[classes[b]]) {
            split_low(points + 8 * b, shift, low, (size_t)(low_end - low));
            low += shift;
        }
}

}  // namespace latq::LATQ_TARGET
