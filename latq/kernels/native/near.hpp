// Coding of rows of 32 blocks of one class whose values are near 0, as nearly all are: tables are looked up in
// registers.
#pragma once

#include <algorithm>
#include <array>

#include "halves.hpp"
#include "kernels.hpp"
#include "points.hpp"
#include "rans.hpp"
#include "rows.hpp"
#include "simd.hpp"

namespace latq::LATQ_TARGET {

#if defined(LATQ_LOOKS_UP)

// Of 32 lanes, 0..15 are in the low halves of words of 32 bits, 16..31 in the high halves.
LATQ_INLINE H all_halves(int value) { return H{} + (uint16_t)value; }
LATQ_INLINE H pack(U low, U high) { return (H)(low | high << 16); }
LATQ_INLINE U low_of(H x) { return (U)x & 0xFFFFu; }
LATQ_INLINE U high_of(H x) { return (U)x >> 16; }

// table[index] of each lane, index < N.
template <int N>
LATQ_INLINE H look_up(const uint16_t* table, H index) {
    if constexpr (N == 64) {
        const __m512i first = _mm512_loadu_si512(table), second = _mm512_loadu_si512(table + 32);
        return (H)_mm512_permutex2var_epi16(first, (__m512i)index, second);
    } else {
        const __mmask32 second = _mm512_test_epi16_mask((__m512i)index, (__m512i)all_halves(N / 2));
        const H low = look_up<N / 2>(table, index), high = look_up<N / 2>(table + N / 2, index);
        return (H)_mm512_mask_blend_epi16(second, (__m512i)low, (__m512i)high);
    }
}

// Entries that part SIZE ascending ones from ``base`` on into equal parts.
template <int N, int SIZE, int PARTS>
struct Pivots {
    H at[PARTS - 1];

    LATQ_INLINE Pivots(const uint16_t* entries, H base) {
        for (int i = 1; i < PARTS; ++i) at[i - 1] = look_up<N>(entries, base + all_halves(i * (SIZE / PARTS)));
    }
};

// The last of SIZE ascending entries from ``base`` on that is at most ``slot``, or the first.
template <int N, int SIZE, int PARTS>
LATQ_INLINE H search(const uint16_t* entries, const Pivots<N, SIZE, PARTS>& pivots, H base, H slot) {
    constexpr int STEP = SIZE / PARTS;
    for (const H& pivot : pivots.at) {
        const __mmask32 beyond = _mm512_cmpge_epu16_mask((__m512i)slot, (__m512i)pivot);
        base = (H)_mm512_mask_add_epi16((__m512i)base, beyond, (__m512i)base, (__m512i)all_halves(STEP));
    }
    if constexpr (STEP == 1) return base;
    else return search(entries, Pivots<N, STEP, STEP == 2 ? 2 : 4>(entries, base), base, slot);
}

// A stream at the begin of a row.
struct NearLanes {
    U low, high;
    H coset, parity;
    const uint8_t* words;

    LATQ_INLINE explicit NearLanes(const Reader& reader)
        : low(load<U>(reader.states)), high(load<U>(reader.states + W)), coset{}, parity{}, words(reader.words) {}

    LATQ_INLINE void leave(Reader& reader) const {
        store(reader.states, low), store(reader.states + W, high);
        reader.words = words;
    }

    // The next coordinate of every lane by its table of N / SIZE ones; false if one is beyond these.
    template <int N, int SIZE, int PARTS>
    LATQ_INLINE bool decode(const uint16_t* starts, H group, const Pivots<N, SIZE, PARTS>& pivots, uint16_t* values) {
        const uint16_t* const frequencies = starts + 3 * PLACES;
        constexpr int GROUPS = N / SIZE;
        const H slot = pack(low & ((1u << PRECISION) - 1), high & ((1u << PRECISION) - 1));
        const H base = group * (uint16_t)SIZE;
        const H found = search(starts, pivots, base, slot);
        const H frequency = look_up<N>(frequencies, found), offset = slot - look_up<N>(starts, found);
        if (_mm512_cmpge_epu16_mask((__m512i)offset, (__m512i)frequency)) [[unlikely]] return false;
        low = refilled(words, low_of(frequency) * (low >> PRECISION) + low_of(offset));
        high = refilled(words, high_of(frequency) * (high >> PRECISION) + high_of(offset));
        const H value = (found - base - (uint16_t)(SIZE / 2)) * (uint16_t)GROUPS + group;
        if constexpr (GROUPS == 1) coset = value & (uint16_t)1;
        parity ^= (value - coset) >> 1;
        store(values, value);
        return true;
    }
};

// Decode the coordinates of a row of each of K streams up to the first that has a value beyond N entries, or an escape;
// ``done`` of each says how many. 32 words for each are there to be read. Streams take turns, because the coordinates of
// one wait for each other.
template <int N, bool SHIFTED, size_t K>
LATQ_INLINE void decode_near(Reader* const readers[K], const uint16_t* const ranges[K],
                             uint16_t (*const values[K])[MAX_LANES], int done[K]) {
    const auto of_each = [](auto&& make) __attribute__((always_inline)) {
        return [&]<size_t... k>(std::index_sequence<k...>) __attribute__((always_inline)) {
            return std::array{make(k)...};
        }(std::make_index_sequence<K>());
    };
    auto lanes = of_each([&](size_t k) { return NearLanes(*readers[k]); });
    for (size_t k = 0; k < K; ++k) done[k] = 0;
    const auto decode = [&](int i, size_t kind, const auto& groups, const auto& pivots) __attribute__((always_inline)) {
        LATQ_UNROLL
        for (size_t k = 0; k < K; ++k) {
            if (!lanes[k].decode(ranges[k] + kind * PLACES, groups[k], pivots[k], values[k][i])) [[unlikely]]
                return false;
            done[k] = i + 1;
        }
        return true;
    };
    const auto all = [&]() __attribute__((always_inline)) {
        const auto none = of_each([](size_t) { return H{}; });
        const auto first = of_each([&](size_t k) { return Pivots<N, N, 8>(ranges[k], H{}); });
        if (!decode(0, 0, none, first)) return;
        if constexpr (SHIFTED) {
            for (int i = 1; i < 8; ++i)
                if (!decode(i, 0, none, first)) return;
        } else {
            const auto cosets = of_each([&](size_t k) { return lanes[k].coset; });
            const auto next = of_each([&](size_t k) {
                return Pivots<N, N / 2, 8>(ranges[k] + PLACES, cosets[k] * (uint16_t)(N / 2));
            });
            for (int i = 1; i < 7; ++i)
                if (!decode(i, 1, cosets, next)) return;
            const auto residues = of_each([&](size_t k) {
                return cosets[k] + (lanes[k].parity & (uint16_t)1) * (uint16_t)2;
            });
            const auto last = of_each([&](size_t k) {
                return Pivots<N, N / 4, 4>(ranges[k] + 2 * PLACES, residues[k] * (uint16_t)(N / 4));
            });
            decode(7, 2, residues, last);
        }
    };
    all();
    for (size_t k = 0; k < K; ++k) lanes[k].leave(*readers[k]);
}

// Frequencies and starts, as in PointModel::infos, of the doubled coordinates of a full row, or of integers OF_PATHS;
// false where some are beyond N entries, or not in the tables.
template <int N, bool SHIFTED, bool OF_PATHS>
LATQ_INLINE bool infos_near(const I low[8], const I high[8], int shift, const uint16_t* ranges,
                            uint32_t infos[8][MAX_LANES]) {
    constexpr int HALF = SHIFTED ? N / 2 : N / 4;
    const H coset = pack((U)low[0] & 1u, (U)high[0] & 1u);
    U all_places{};
    __mmask32 unknown = 0;
    for (int i = 0; i < 8; ++i) {
        const U place_low = (U)((low[i] >> 1 >> shift) + HALF), place_high = (U)((high[i] >> 1 >> shift) + HALF);
        all_places |= place_low | place_high;
        H place = pack(place_low & 0xFFFFu, place_high);
        if constexpr (OF_PATHS && !SHIFTED) {
            place += pack((U)low[i] & 1u, (U)high[i] & 1u) * (uint16_t)(N / 2);
        } else if constexpr (!SHIFTED) {
            const H odd = place & (uint16_t)1;
            if (i == 0) place = place + place + coset;
            else if (i < 7) place += coset * (uint16_t)(N / 2);
            else place = (place >> 1) + (coset + odd + odd) * (uint16_t)(N / 4);
        }
        const uint16_t* const starts = ranges + (SHIFTED ? 0 : kind_of(OF_PATHS ? 1 : i));
        const H start = look_up<N>(starts, place), frequency = look_up<N>(starts + 3 * PLACES, place);
        unknown |= _mm512_testn_epi16_mask((__m512i)frequency, (__m512i)frequency);
        store(infos[i], low_of(frequency) | low_of(start) << 16);
        store(infos[i] + W, high_of(frequency) | ((U)start & 0xFFFF0000u));
    }
    return !(unknown | lanes_of((I)(all_places >= 2u * HALF)));
}

// The class of all blocks of a row, or -1.
LATQ_INLINE int32_t class_of(const int32_t classes[MAX_LANES], const PointModel& model) {
    if (model.classes == 1) return 0;
    const I first = all<I>(classes[0]);
    const I others = (load<I>(classes) ^ first) | (load<I>(classes + W) ^ first);
    return lanes_of(others != 0) ? -1 : classes[0];
}

// How the coordinates of a row are near: entries that are looked up, and whether values have low bits besides; none if
// blocks are of several classes, or values too far apart.
struct Nearness {
    int entries;
    bool shifted;
    const uint16_t* ranges;

    Nearness(const int32_t classes[MAX_LANES], const PointModel& model) : entries(0), shifted(false), ranges(nullptr) {
        const int32_t of_class = class_of(classes, model);
        if (of_class < 0) return;
        ranges = model.ranges + 6 * PLACES * (size_t)of_class;
        const int window = model.windows[of_class];
        shifted = model.shifts[of_class] > 0;
        if (shifted) entries = window == 128 ? 128 : 64;
        else if (window < 128) entries = 2 * window;
    }

    bool operator==(const Nearness& other) const { return entries == other.entries && shifted == other.shifted; }
};

// Decode as many coordinates of a full row of each of K streams as have near values only, so that the first ones are
// known: ``done`` says how many. Where the streams differ in kind it is none.
template <size_t K>
inline void decode_near(Reader* const readers[K], const Nearness near[K], uint16_t (*const values[K])[MAX_LANES],
                        int done[K]) {
    const uint16_t* ranges[K];
    bool alike = near[0].entries > 0;
    for (size_t k = 0; k < K; ++k) ranges[k] = near[k].ranges, done[k] = 0, alike &= near[k] == near[0];
    if (!alike) return;
    const bool wide = near[0].entries == 128;
    if (near[0].shifted) {
        if (wide) decode_near<128, true, K>(readers, ranges, values, done);
        else decode_near<64, true, K>(readers, ranges, values, done);
    } else {
        if (wide) decode_near<128, false, K>(readers, ranges, values, done);
        else decode_near<64, false, K>(readers, ranges, values, done);
    }
}

// The place of every lane among the halves of its values.
constexpr size_t half_of(size_t lane) { return 2 * (lane % W) + lane / W; }

// infos_near for a row of 32 blocks with these classes; false where that cannot be said of all.
template <bool OF_PATHS = false>
inline bool infos_near(const int32_t* points, const int32_t* classes, const PointModel& model,
                       uint32_t infos[8][MAX_LANES]) {
    const int32_t of_class = class_of(classes, model);
    if (of_class < 0) return false;
    I low[8], high[8];
    load_blocks(points, low), load_blocks(points + 8 * W, high);
    const uint16_t* const ranges = model.ranges + 6 * PLACES * (size_t)of_class;
    const int window = model.windows[of_class], shift = model.shifts[of_class];
    if (shift)
        return window == 128 ? infos_near<128, true, OF_PATHS>(low, high, shift, ranges, infos)
                             : infos_near<64, true, OF_PATHS>(low, high, shift, ranges, infos);
    if (window == 32) return infos_near<64, false, OF_PATHS>(low, high, 0, ranges, infos);
    if (window == 64) return infos_near<128, false, OF_PATHS>(low, high, 0, ranges, infos);
    return infos_near<256, false, OF_PATHS>(low, high, 0, ranges, infos);
}

#else

// Where nothing is looked up in registers, nothing is near.
struct Nearness {
    Nearness(const int32_t*, const PointModel&) {}
};

template <size_t K>
inline void decode_near(Reader* const*, const Nearness*, uint16_t (*const*)[MAX_LANES], int done[K]) {
    std::fill_n(done, K, 0);
}

constexpr size_t half_of(size_t lane) { return lane; }

template <bool OF_PATHS = false>
inline bool infos_near(const int32_t*, const int32_t*, const PointModel&, uint32_t[8][MAX_LANES]) {
    return false;
}

#endif

// Near values of the first coordinates of a row as those of the others are.
inline void spread_near(Row& row, int count) {
    for (int i = 0; i < count; ++i) {
        const I both = load<I>(row.near[i]);
        store(row.values[i], both << 16 >> 16);
        store(row.values[i] + W, both >> 16);
    }
}

// The same of one stream, as values of the row.
inline int decode_near(Reader& reader, const PointModel& model, Row& row) {
    Reader* const readers[] = {&reader};
    uint16_t (*const values[])[MAX_LANES] = {row.near};
    const Nearness near[] = {{row.classes, model}};
    int done[1];
    decode_near<1>(readers, near, values, done);
    spread_near(row, done[0]);
    return done[0];
}

}  // namespace latq::LATQ_TARGET
