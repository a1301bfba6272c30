// Coding of rows of 32 blocks of one class whose values are near 0, as nearly all are: tables are looked up in
// registers.
#pragma once

#include "kernels.hpp"
#include "points.hpp"
#include "rans.hpp"
#include "rows.hpp"
#include "simd.hpp"

namespace latq::LATQ_TARGET {

#if defined(LATQ_LOOKS_UP)

// A number of 16 bits for each of 32 lanes: lanes 0..15 in the low halves of words of 32, 16..31 in the high halves.
typedef uint16_t H __attribute__((vector_size(64)));

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

// Decode the coordinates of a row up to the first that has a value beyond N entries, or an escape; returns how many.
// 32 words for each are there to be read.
template <int N, bool SHIFTED>
LATQ_INLINE int decode_near(Reader& reader, const uint16_t* ranges, Row& row) {
    U low = load<U>(reader.states), high = load<U>(reader.states + W);
    H coset{}, parity{};
    const uint8_t* words = reader.words;
    int done = 0;
    const auto decode_coordinate = [&]<int SIZE, int PARTS>(const uint16_t* starts, H group,
                                                            const Pivots<N, SIZE, PARTS>& pivots)
                                       __attribute__((always_inline)) {
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
        store(row.values[done] + 0, (I)((U)value << 16) >> 16);
        store(row.values[done] + W, (I)value >> 16);
        ++done;
        return true;
    };
    const Pivots<N, N, 8> first(ranges, H{});
    bool near = decode_coordinate(ranges, H{}, first);
    if constexpr (SHIFTED) {
        for (int i = 1; i < 8 && near; ++i) near = decode_coordinate(ranges, H{}, first);
    } else {
        const Pivots<N, N / 2, 8> next(ranges + PLACES, coset * (uint16_t)(N / 2));
        for (int i = 1; i < 7 && near; ++i) near = decode_coordinate(ranges + PLACES, coset, next);
        const H residue = coset + (parity & (uint16_t)1) * (uint16_t)2;
        const Pivots<N, N / 4, 4> last(ranges + 2 * PLACES, residue * (uint16_t)(N / 4));
        if (near) decode_coordinate(ranges + 2 * PLACES, residue, last);
    }
    store(reader.states, low), store(reader.states + W, high);
    reader.words = words;
    return done;
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

// Decode as many coordinates of a full row as have near values only, so that the first ones are known.
inline int decode_near(Reader& reader, const PointModel& model, Row& row) {
    const int32_t of_class = class_of(row.classes, model);
    if (of_class < 0) return 0;
    const uint16_t* const ranges = model.ranges + 6 * PLACES * (size_t)of_class;
    const int window = model.windows[of_class];
    if (model.shifts[of_class])
        return window == 128 ? decode_near<128, true>(reader, ranges, row) : decode_near<64, true>(reader, ranges, row);
    if (window == 32) return decode_near<64, false>(reader, ranges, row);
    if (window == 64) return decode_near<128, false>(reader, ranges, row);
    return 0;
}

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

inline int decode_near(Reader&, const PointModel&, Row&) { return 0; }
template <bool OF_PATHS = false>
inline bool infos_near(const int32_t*, const int32_t*, const PointModel&, uint32_t[8][MAX_LANES]) {
    return false;
}

#endif

}  // namespace latq::LATQ_TARGET
