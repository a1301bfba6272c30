// The scale and the codeword for every block of a nested-lattice code (latq/kernels/search.py). Blocks at one scale are
// worked on together, W at a time; those whose nearest point is no codeword wait in a queue for the search.
#pragma once

#include <algorithm>

#include "codebook.hpp"
#include "codewords.hpp"
#include "kernels.hpp"
#include "points.hpp"

namespace latq::LATQ_TARGET {

constexpr int ROUNDS = 8;
constexpr float PUSH = 1.0f / 8, USUAL = (float)(8 * 929.0 / 12960), DEPTH = 0.55f;
constexpr float HOPED = 0.3f, HOPED_DEPTH = 0.2f;

LATQ_INLINE F least_of(F a, F b) { return a < b ? a : b; }
LATQ_INLINE F most_of(F a, F b) { return a > b ? a : b; }

// search.gauge.
LATQ_INLINE F gauge(const F x[8]) {
    F a[8];
    for (int i = 0; i < 8; ++i) a[i] = magnitude(x[i]);
    F first = a[0], second{}, low = a[0];
    I odd = x[0] < 0.0f;
    for (int i = 1; i < 8; ++i) {
        second = most_of(second, least_of(first, a[i]));
        first = most_of(first, a[i]), low = least_of(low, a[i]);
        odd ^= (I)(x[i] < 0.0f);
    }
    const F half = (sum8(a) - (odd ? low + low : F{})) * 0.5f;
    return most_of(first + second, half);
}

// W blocks, of these numbers.
LATQ_INLINE void load_blocks_at(const float* x, const uint32_t* block, F v[8]) {
    float rows[8 * W];
    for (size_t i = 0; i < W; ++i) std::memcpy(rows + 8 * i, x + 8 * block[i], 8 * sizeof *rows);
    load_blocks(rows, v);
}

// search._shrunk, in place.
LATQ_INLINE void shrink(F y[8], int32_t q) {
    // The gauge is at most sqrt(2) times the norm.
    F squares[8];
    for (int i = 0; i < 8; ++i) squares[i] = y[i] * y[i];
    if (!lanes_of(~(I)(sum8(squares) < 1.99f * (float)q * (float)q))) [[likely]] return;
    const F size = gauge(y), limit = all<F>((float)(2 * q));
    const F by = least_of(all<F>(1.0f), limit / most_of(size, all<F>(1.0f)));
    for (int i = 0; i < 8; ++i) y[i] *= by;
}

LATQ_INLINE F distance(const F y[8], const I word[8]) {
    F squares[8];
    for (int i = 0; i < 8; ++i) {
        const F d = y[i] - floating(word[i]) * 0.5f;
        squares[i] = d * d;
    }
    return sum8(squares);
}

// What the decoder makes of the digits of points of the offset lattice, and whether it is another point. The decoder's
// own point has its last coordinate in [o, q + o), and differs by a half-integer point of q E8 where q fits an odd
// number of times between the two.
LATQ_INLINE I decoded(const I point[8], const NestedCode& code, I word[8]) {
    const int32_t q = code.q;
    const float inverse = 1.0f / (float)q;
    for (int i = 0; i < 8; ++i) word[i] = point[i];
    const I times = truncated((floating(point[7] - code.offset[7] + 64 * q) + 0.5f) * inverse);
    reduce(word, q, (times & 1) != 0);
    I other{};
    for (int i = 0; i < 8; ++i) other |= point[i] ^ word[i];
    return other != 0;
}

// Points of either coset of the offset lattice near a target, the nearer one first.
LATQ_INLINE void nearest_two(const F target[8], const NestedCode& code, I point[8], I other[8]) {
    F moved[8];
    for (int i = 0; i < 8; ++i) moved[i] = target[i] - (float)code.offset[i] * 0.5f;
    Cosets cosets(moved);
    const I first = cosets.balance <= 0.0f;
    for (int i = 0; i < 8; ++i) {
        const auto next = cosets.next(moved[i], i);
        const I whole = 2 * next.whole + code.offset[i], half = 2 * next.half + 1 + code.offset[i];
        point[i] = first ? whole : half;
        other[i] = first ? half : whole;
    }
}

// --- the search ---------------------------------------------------------------------------------------------------

constexpr float UNKNOWN = __builtin_inff();

// Blocks being searched, by their place in a slice: targets, and squared distances of the best codewords so far.
struct alignas(64) Queue {
    static constexpr size_t ROOM = 2048;
    float targets[8 * (ROOM + W)];
    uint32_t places[ROOM + W], scales[ROOM + W];
    float least[ROOM + W];
    Products products;
    size_t size = 0;

    void push(uint32_t place, uint32_t scale) {
        places[size] = place, scales[size] = scale, least[size] = UNKNOWN;
        ++size;
    }
};

// The W blocks in the queue from ``at`` on, in steps; those beyond its end are the first one again. Returns their number.
LATQ_INLINE size_t load_queued(Queue& queue, size_t at, const float* x, const uint32_t* blocks, const NestedCode& code,
                               F y[8]) {
    const size_t n = queue.size - at < W ? queue.size - at : W;
    for (size_t i = n; i < W; ++i) queue.places[at + i] = queue.places[at], queue.scales[at + i] = queue.scales[at];
    uint32_t own[W];
    for (size_t i = 0; i < W; ++i) own[i] = blocks[queue.places[at + i]];
    const F inverse = (F)gather((const uint32_t*)code.inverses, load<U>(queue.scales + at));
    load_blocks_at(x, own, y);
    for (int i = 0; i < 8; ++i) y[i] *= inverse;
    return n;
}

// The nearest of all codewords for all that are queued.
template <class Better>
inline void compare_all(Queue& queue, const float* x, const uint32_t* blocks, const NestedCode& code, Better better) {
    for (size_t at = 0; at < queue.size; at += W) {
        F y[8];
        I word[8];
        int32_t rows[8 * W];
        const size_t n = load_queued(queue, at, x, blocks, code, y);
        nearest_words(y, *code.book, queue.products, rows);
        load_blocks(rows, word);
        better((uint32_t)((1ull << n) - 1), queue.places + at, queue.scales + at, distance(y, word), word);
    }
    queue.size = 0;
}

// One round for all that are queued, who stay as long as their points are no codewords. ``blocks`` tells the block of
// each place; ``better(place, scale, distance, word)`` takes every codeword that is the nearest so far.
template <class Better>
inline void search_round(Queue& queue, const float* x, const uint32_t* blocks, const NestedCode& code, bool initial,
                         bool final, Better better) {
    const float q = (float)code.q;
    size_t kept = 0;
    for (size_t at = 0; at < queue.size; at += W) {
        F y[8], target[8];
        const size_t n = load_queued(queue, at, x, blocks, code, y);
        if (initial) {
            for (int i = 0; i < 8; ++i) target[i] = y[i];
            shrink(target, code.q);
        } else {
            load_blocks(queue.targets + 8 * at, target);
        }
        I point[8], other[8], word[8], scratch[8];
        nearest_two(target, code, point, other);
        const I missed = decoded(point, code, word);
        F least = load<F>(queue.least + at);
        const F near = distance(y, word), far = distance(y, other);
        const I take_word = (~missed | (I)(least == UNKNOWN)) & (I)(near < least);
        least = take_word ? near : least;
        const I take_other = missed & ~decoded(other, code, scratch) & (I)(far < least);
        least = take_other ? far : least;
        const uint32_t valid = n < W ? (1u << n) - 1 : (uint32_t)((1ull << W) - 1);
        if (const uint32_t found = lanes_of(take_word | take_other) & valid) {
            for (int i = 0; i < 8; ++i) scratch[i] = take_other ? other[i] : word[i];
            better(found, queue.places + at, queue.scales + at, least, scratch);
        }
        uint32_t left = lanes_of(missed) & valid;
        if (!left || final) continue;
        F normal[8], products[8], squares[8];
        for (int i = 0; i < 8; ++i) {
            normal[i] = floating(point[i] - word[i]) * 0.5f;
            products[i] = target[i] * normal[i], squares[i] = normal[i] * normal[i];
        }
        const F depth = sum8(products) * q / sum8(squares) - q * 0.5f;
        const F by = most_of(depth, all<F>(PUSH)) / q;
        for (int i = 0; i < 8; ++i) target[i] = target[i] - normal[i] * by;
        float rows[8 * W], distances[W];
        store_blocks(rows, target);
        store(distances, least);
        for (; left; left &= left - 1, ++kept) {
            const size_t i = (size_t)__builtin_ctz(left);
            std::memcpy(queue.targets + 8 * kept, rows + 8 * i, 8 * sizeof *rows);
            queue.places[kept] = queue.places[at + i], queue.scales[kept] = queue.scales[at + i];
            queue.least[kept] = distances[i];
        }
    }
    queue.size = kept;
}

template <class Better>
inline void search(Queue& queue, const float* x, const uint32_t* blocks, const NestedCode& code, Better better) {
    if (code.book) return compare_all(queue, x, blocks, code, better);
    for (int round = 0; round < ROUNDS && queue.size; ++round)
        search_round(queue, x, blocks, code, round == 0, round == ROUNDS - 1, better);
    queue.size = 0;
}

// --- scales -------------------------------------------------------------------------------------------------------

struct alignas(64) Choice {
    Queue queue;
    float best[PRICES][SLICE + W];
    uint32_t index[PRICES][SLICE + W];
    uint32_t order[SLICE + W];
    uint8_t holding[SLICE + W];
};
static_assert(sizeof(Choice) <= CHOICE_SIZE);

inline void holding_scales(const float* x, size_t blocks, const NestedCode& code, uint8_t* holding) {
    for (size_t b = 0; b < blocks; b += W) {
        const size_t n = blocks - b < W ? blocks - b : W;
        float some[8 * W];
        F v[8];
        if (n < W) load_some(x + 8 * b, n, some);
        load_blocks(n < W ? some : x + 8 * b, v);
        const F size = gauge(v);
        I found{};
        for (size_t j = 0; j + 1 < code.count; ++j) found -= (I)(size > code.steps[j] * (float)code.q);
        for (size_t i = 0; i < n; ++i) holding[b + i] = (uint8_t)found[i];
    }
}

// Squared error at scale j of blocks of these sizes: ``inside``, in units of the step, if so deep within the codebook.
LATQ_INLINE F estimate(F size, const NestedCode& code, size_t j, float inside, float depth) {
    const F beyond = most_of(size * code.inverses[j] - ((float)code.q - depth), F{});
    return (beyond * beyond * 0.5f + inside) * (code.steps[j] * code.steps[j]);
}

// Places 0, 1, ... of a slice go to its blocks in the order of their holding scales; ``starts`` (count + 1) tells where
// those of each scale begin.
inline void sort_by_scale(const uint8_t* holding, size_t blocks, size_t scales, uint32_t* order, size_t* starts) {
    size_t next[MAX_SCALES] = {};
    for (size_t b = 0; b < blocks; ++b) ++next[holding[b]];
    starts[0] = 0;
    for (size_t j = 0; j < scales; ++j) starts[j + 1] = starts[j] + next[j], next[j] = starts[j];
    for (size_t b = 0; b < blocks; ++b) order[next[holding[b]]++] = (uint32_t)b;
}

// Offers a scale to W blocks under every row of charges: the least cost wins, the smallest scale of equals.
LATQ_INLINE void offer(uint32_t j, F errors, I allowed, const float* charges, const NestedCode& code, F best[PRICES],
                       U index[PRICES]) {
    for (size_t p = 0; p < PRICES; ++p) {
        const F cost = errors + charges[p * code.count + j];
        const I better = allowed & (I)(cost < best[p]);
        best[p] = better ? cost : best[p];
        index[p] = better ? all<U>(j) : index[p];
    }
}

// The W blocks at some places, all with one holding scale: their choice among nearest points that are codewords, and
// into the queue what else may win.
LATQ_INLINE void choose_nearest(const float* x, size_t place, uint32_t valid, size_t holding, const NestedCode& code,
                                const float* charges, Choice& s) {
    F v[8], best[PRICES], bounds[MAX_SCALES];
    U index[PRICES];
    for (size_t p = 0; p < PRICES; ++p) best[p] = all<F>(UNKNOWN), index[p] = U{};
    load_blocks_at(x, s.order + place, v);
    const F size = gauge(v);
    const size_t from = (size_t)code.first[holding], to = (size_t)code.final[holding];
    for (size_t j = from; j < holding; ++j) bounds[j - from] = estimate(size, code, j, HOPED, HOPED_DEPTH);
    for (size_t j = holding; j <= to; ++j) {
        F y[8], target[8];
        for (int i = 0; i < 8; ++i) target[i] = y[i] = v[i] * code.inverses[j];
        shrink(target, code.q);
        I point[8], other[8], word[8];
        nearest_two(target, code, point, other);
        const F errors = distance(y, point) * (code.steps[j] * code.steps[j]);
        // A point is within 1 of its block in the gauge.
        const bool certain = !lanes_of(size * code.inverses[j] > (float)code.q - 1.01f);
        const I missed = certain ? I{} : decoded(point, code, word);
        offer((uint32_t)j, errors, ~missed, charges, code, best, index);
        bounds[j - from] = missed ? errors : all<F>(UNKNOWN);
    }
    for (size_t p = 0; p < PRICES; ++p) store(s.best[p] + place, best[p]), store(s.index[p] + place, index[p]);
    for (size_t j = from; j <= to; ++j) {
        I wanted{};
        for (size_t p = 0; p < PRICES; ++p)
            wanted |= (I)(bounds[j - from] + charges[p * code.count + j] < best[p]);
        for (uint32_t left = lanes_of(wanted) & valid; left; left &= left - 1)
            s.queue.push((uint32_t)(place + (size_t)__builtin_ctz(left)), (uint32_t)j);
    }
}

inline void search_choices(const float* x, const NestedCode& code, const float* charges, Choice& s) {
    // Every codeword is offered as it is found: of one scale only the last, the nearest, can stay.
    search(s.queue, x, s.order, code,
           [&](uint32_t found, const uint32_t* places, const uint32_t* scales, F distances, const I*) {
               for (; found; found &= found - 1) {
                   const size_t i = (size_t)__builtin_ctz(found);
                   const uint32_t place = places[i], j = scales[i];
                   const float error = distances[i] * (code.steps[j] * code.steps[j]);
                   for (size_t p = 0; p < PRICES; ++p) {
                       const float cost = error + charges[p * code.count + j];
                       float& best = s.best[p][place];
                       uint32_t& index = s.index[p][place];
                       if (cost < best || (cost == best && j < index)) best = cost, index = j;
                   }
               }
           });
}

// search._choose where all codewords are compared.
inline void choose_of_all(const float* x, size_t blocks, const NestedCode& code, const float* charges, uint8_t* index,
                          Products& s) {
    for (size_t b = 0; b < blocks; b += W) {
        const size_t n = blocks - b < W ? blocks - b : W;
        float some[8 * W];
        F v[8], squares[8], best[PRICES];
        U found[PRICES];
        if (n < W) load_some(x + 8 * b, n, some);
        load_blocks(n < W ? some : x + 8 * b, v);
        find_products(v, *code.book, s);
        for (int i = 0; i < 8; ++i) squares[i] = v[i] * v[i];
        const F energy = sum8(squares);
        for (size_t p = 0; p < PRICES; ++p) best[p] = all<F>(UNKNOWN), found[p] = U{};
        for (size_t j = 0; j < code.count; ++j) {
            F least = beyond(s, *code.book, 0, code.steps[j]);
            for (size_t c = 1; c < code.book->shells; ++c)
                least = least_of(beyond(s, *code.book, c, code.steps[j]), least);
            offer((uint32_t)j, energy + least, ~I{}, charges, code, best, found);
        }
        for (size_t p = 0; p < PRICES; ++p) store_bytes(index + p * blocks + b, found[p], n);
    }
}

inline void choose_scales(const float* x, size_t blocks, const NestedCode& code, const float* charges, uint8_t* index,
                          void* scratch) {
    if (code.book) return choose_of_all(x, blocks, code, charges, index, ((Queue*)scratch)->products);
    Choice& s = *(Choice*)scratch;
    s.queue.size = 0;
    for (size_t b = 0; b < blocks; b += SLICE) {
        const size_t n = blocks - b < SLICE ? blocks - b : SLICE;
        const float* own = x + 8 * b;
        size_t starts[MAX_SCALES + 1];
        holding_scales(own, n, code, s.holding);
        sort_by_scale(s.holding, n, code.count, s.order, starts);
        size_t place = 0;
        // A group that is not full goes on into the next scale's places, which are then done again.
        for (size_t j = 0; j < code.count; ++j)
            for (place = starts[j]; place < starts[j + 1]; place += W) {
                const size_t some = starts[j + 1] - place < W ? starts[j + 1] - place : W;
                for (size_t i = n; i < place + W; ++i) s.order[i] = s.order[n - 1];
                choose_nearest(own, place, (uint32_t)((1ull << some) - 1), j, code, charges, s);
                if (s.queue.size + W * MAX_SCALES > Queue::ROOM) search_choices(own, code, charges, s);
            }
        search_choices(own, code, charges, s);
        for (size_t p = 0; p < PRICES; ++p)
            for (size_t i = 0; i < n; ++i) index[p * blocks + b + s.order[i]] = (uint8_t)s.index[p][i];
    }
}

inline void guess_scales(const float* x, size_t blocks, const NestedCode& code, const float* charges, uint8_t* index) {
    for (size_t b = 0; b < blocks; b += W) {
        const size_t n = blocks - b < W ? blocks - b : W;
        float some[8 * W];
        F v[8], best[PRICES];
        U found[PRICES];
        if (n < W) load_some(x + 8 * b, n, some);
        load_blocks(n < W ? some : x + 8 * b, v);
        const F size = gauge(v);
        for (size_t p = 0; p < PRICES; ++p) best[p] = all<F>(UNKNOWN), found[p] = U{};
        for (size_t j = 0; j < code.count; ++j)
            offer((uint32_t)j, estimate(size, code, j, USUAL, DEPTH), ~I{}, charges, code, best, found);
        for (size_t p = 0; p < PRICES; ++p) store_bytes(index + p * blocks + b, found[p], n);
    }
}

inline void estimated_errors(const float* x, size_t blocks, const NestedCode& code, float* errors) {
    for (size_t b = 0; b < blocks; b += W) {
        const size_t n = blocks - b < W ? blocks - b : W;
        float some[8 * W];
        F v[8];
        if (n < W) load_some(x + 8 * b, n, some);
        load_blocks(n < W ? some : x + 8 * b, v);
        const F size = gauge(v);
        for (size_t j = 0; j < code.count; ++j) {
            const F found = estimate(size, code, j, USUAL, DEPTH);
            std::memcpy(errors + j * blocks + b, &found, n * sizeof *errors);
        }
    }
}

inline void cheapest_scales(const float* errors, size_t scales, size_t blocks, const float* charges, uint8_t* index) {
    for (size_t b = 0; b < blocks; b += W) {
        const size_t n = blocks - b < W ? blocks - b : W;
        F best = all<F>(UNKNOWN);
        U found{};
        for (size_t j = 0; j < scales; ++j) {
            F cost{};
            std::memcpy(&cost, errors + j * blocks + b, n * sizeof *errors);
            cost += charges[j];
            const I better = cost < best;
            best = better ? cost : best;
            found = better ? all<U>((uint32_t)j) : found;
        }
        store_bytes(index + b, found, n);
    }
}

// --- codewords at given scales ------------------------------------------------------------------------------------

struct alignas(64) Words {
    Queue queue;
    int32_t words[8 * (SLICE + W)];
    uint32_t order[SLICE + W];
};
static_assert(sizeof(Words) <= CHOICE_SIZE);

// reference.to_digits of points |p| <= 4 q + 8.
LATQ_INLINE void to_digits(const I p[8], int32_t q, I c[8]) {
    c[7] = p[7];
    c[6] = (p[6] - p[7]) >> 1;
    for (int i = 5; i > 0; --i) c[i] = ((p[i] - p[7]) >> 1) + c[i + 1];
    c[0] = (((p[0] - p[7]) >> 1) + c[1]) >> 1;
    const float inverse = 1.0f / (float)q;
    for (int i = 0; i < 8; ++i) {
        const I moved = c[i] + 64 * q;
        c[i] = moved - truncated((floating(moved) + 0.5f) * inverse) * q;
    }
}

inline void finish_words(const int32_t* words, const uint8_t* index, size_t blocks, const NestedCode& code,
                         uint16_t* digits, float* integers) {
    for (size_t b = 0; b < blocks; b += W) {
        const size_t n = blocks - b < W ? blocks - b : W;
        I p[8], c[8];
        F v[8];
        load_blocks(words + 8 * b, p);
        const I scales = gather(code.scales, load_numbers(index + b, n));
        for (int i = 0; i < 8; ++i) v[i] = floating(p[i] * scales), p[i] -= code.offset[i];
        to_digits(p, code.q, c);
        float some[8 * W];
        int32_t wide[8 * W];
        store_blocks(n < W ? some : integers + 8 * b, v);
        if (n < W) std::memcpy(integers + 8 * b, some, 8 * n * sizeof *some);
        store_blocks(wide, c);
        if (n == W) for (size_t i = 0; i < 8 * W; ++i) digits[8 * b + i] = (uint16_t)wide[i];
        else for (size_t i = 0; i < 8 * n; ++i) digits[8 * b + i] = (uint16_t)wide[i];
    }
}

inline void quantize_slice(const float* x, const uint8_t* index, size_t blocks, const NestedCode& code,
                           uint16_t* digits, float* integers, float* errors, Words& s) {
    const auto keep = [&](uint32_t found, const uint32_t* places, const uint32_t* scales, F distances, const I* word) {
        int32_t rows[8 * W];
        store_blocks(rows, word);
        for (; found; found &= found - 1) {
            const size_t i = (size_t)__builtin_ctz(found);
            const float step = code.steps[scales[i]];
            std::memcpy(s.words + 8 * places[i], rows + 8 * i, 8 * sizeof *rows);
            errors[places[i]] = distances[i] * (step * step);
        }
    };
    for (size_t b = 0; b < blocks; b += W) {
        const size_t n = blocks - b < W ? blocks - b : W;
        float some[8 * W];
        const U own = load_numbers(index + b, n);
        if (n < W) load_some(x + 8 * b, n, some);
        F y[8], target[8];
        load_blocks(n < W ? some : x + 8 * b, y);
        const F inverse = (F)gather((const uint32_t*)code.inverses, own);
        const F step = (F)gather((const uint32_t*)code.steps, own);
        for (int i = 0; i < 8; ++i) target[i] = y[i] *= inverse;
        shrink(target, code.q);
        I point[8], other[8], word[8];
        nearest_two(target, code, point, other);
        uint32_t missed = lanes_of(decoded(point, code, word)) & (uint32_t)((1ull << n) - 1);
        store_blocks(s.words + 8 * b, point);
        float found[W];
        store(found, distance(y, point) * (step * step));
        std::memcpy(errors + b, found, n * sizeof *found);
        for (; missed; missed &= missed - 1) {
            const size_t place = b + (size_t)__builtin_ctz(missed);
            s.queue.push((uint32_t)place, index[place]);
        }
        if (s.queue.size + W > Queue::ROOM) search(s.queue, x, s.order, code, keep);
    }
    search(s.queue, x, s.order, code, keep);
    finish_words(s.words, index, blocks, code, digits, integers);
}

inline void quantize(const float* x, const uint8_t* index, size_t blocks, const NestedCode& code, uint16_t* digits,
                     float* integers, float* errors, void* scratch) {
    Words& s = *(Words*)scratch;
    s.queue.size = 0;
    for (uint32_t i = 0; i < SLICE; ++i) s.order[i] = i;
    for (size_t b = 0; b < blocks; b += SLICE) {
        const size_t n = blocks - b < SLICE ? blocks - b : SLICE;
        quantize_slice(x + 8 * b, index + b, n, code, digits + 8 * b, integers + 8 * b, errors + b, s);
    }
}

}  // namespace latq::LATQ_TARGET
