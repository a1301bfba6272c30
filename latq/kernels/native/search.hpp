// The scale and the codeword for every block of a nested-lattice code (latq/kernels/search.py). W blocks are worked on
// together, each at a scale of its own; those whose nearest point is no codeword wait in a queue for the search.
#pragma once

#include "codebook.hpp"
#include "packing.hpp"
#include "kernels.hpp"
#include "nested.hpp"
#include "points.hpp"

namespace latq::LATQ_TARGET {

constexpr int ROUNDS = 8;
constexpr float PUSH = 1.0f / 8, USUAL = (float)(8 * 929.0 / 12960), DEPTH = 0.55f;
constexpr float HOPED = 0.4f, HOPED_DEPTH = 0.2f;

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
    const F by = smaller_of(all<F>(1.0f), limit / larger_of(size, all<F>(1.0f)));
    for (int i = 0; i < 8; ++i) y[i] *= by;
}

LATQ_INLINE F distance(const F y[8], const F word[8]) {
    F squares[8];
    for (int i = 0; i < 8; ++i) {
        const F d = y[i] - word[i];
        squares[i] = d * d;
    }
    return sum8(squares);
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
        F y[8], word[8];
        I doubled[8];
        int32_t rows[8 * W];
        const size_t n = load_queued(queue, at, x, blocks, code, y);
        nearest_words(y, *code.book, queue.products, rows);
        load_blocks(rows, doubled);
        for (int i = 0; i < 8; ++i) word[i] = floating(doubled[i]) * 0.5f;
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
        F point[8], other[8], word[8];
        nearest_two(target, code, point, other);
        decoded(point, code, word);
        const M missed = are_different(point, word), unknown = equal(load<F>(queue.least + at), all<F>(UNKNOWN));
        F least = load<F>(queue.least + at);
        const F near = distance(y, word), far = distance(y, other);
        const M take_word = both(less(near, least), either(without(all_lanes(), missed), unknown));
        least = select(take_word, near, least);
        const M take_other = without(both(missed, less(far, least)), beyond_codebook(other, code));
        least = select(take_other, far, least);
        const uint32_t valid = n < W ? (1u << n) - 1 : (uint32_t)((1ull << W) - 1);
        if (const uint32_t found = (lanes_of(take_word) | lanes_of(take_other)) & valid) {
            for (int i = 0; i < 8; ++i) other[i] = select(take_other, other[i], word[i]);
            better(found, queue.places + at, queue.scales + at, least, other);
        }
        uint32_t left = lanes_of(missed) & valid;
        if (!left || final) continue;
        F normal[8], products[8], squares[8];
        for (int i = 0; i < 8; ++i) {
            normal[i] = point[i] - word[i];
            products[i] = target[i] * normal[i], squares[i] = normal[i] * normal[i];
        }
        const F depth = sum8(products) * q / sum8(squares) - q * 0.5f;
        const F by = larger_of(depth, all<F>(PUSH)) / q;
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

// What each scale is charged, under every row.
struct Charges {
    float of[PRICES][MAX_SCALES]{};

    Charges(const float* charges, size_t count) {
        for (size_t p = 0; p < PRICES; ++p) std::memcpy(of[p], charges + p * count, count * sizeof *charges);
    }
};

struct alignas(64) Choice {
    Queue queue;
    float best[PRICES][SLICE + W];
    uint32_t index[PRICES][SLICE + W];
    uint32_t order[SLICE + W];
};
static_assert(sizeof(Choice) <= CHOICE_SIZE);

// Squared error of blocks of these sizes: ``inside``, in units of the step, if so deep within the codebook.
template <class T>
LATQ_INLINE F estimate(F size, T step, T inverse, int32_t q, float inside, float depth) {
    const F beyond = larger_of(size * inverse - ((float)q - depth), F{});
    return (beyond * beyond * 0.5f + inside) * (step * step);
}

// Offers scales to W blocks under every row of charges: the least cost wins, the first of equals.
LATQ_INLINE void offer(U scales, F errors, M allowed, const Charges& charges, F best[PRICES], U index[PRICES]) {
    for (size_t p = 0; p < PRICES; ++p) {
        const F cost = errors + of_scales(charges.of[p], scales);
        const M better = both(allowed, less(cost, best[p]));
        best[p] = select(better, cost, best[p]);
        index[p] = (U)select(better, (I)scales, (I)index[p]);
    }
}

// Into the queue what may win by an error no less than its bound.
LATQ_INLINE void push_wanted(size_t place, uint32_t valid, U scales, F bounds, const Charges& charges,
                             const F best[PRICES], Queue& queue) {
    uint32_t wanted = 0, own[W];
    for (size_t p = 0; p < PRICES; ++p)
        wanted |= lanes_of(less(bounds + of_scales(charges.of[p], scales), best[p]));
    store(own, scales);
    for (wanted &= valid; wanted; wanted &= wanted - 1) {
        const size_t i = (size_t)__builtin_ctz(wanted);
        queue.push((uint32_t)(place + i), own[i]);
    }
}

// The choice of n blocks from ``place`` on among nearest points that are codewords, each at the scales from that which
// holds it on; what else may win goes into the queue.
LATQ_INLINE void choose_nearest(const float* x, size_t place, size_t n, const NestedCode& code, const Charges& charges,
                                Choice& s) {
    F v[8], best[PRICES], bounds[MAX_SCALES];
    U index[PRICES], tried[MAX_SCALES];
    float some[8 * W];
    for (size_t p = 0; p < PRICES; ++p) best[p] = all<F>(UNKNOWN), index[p] = U{};
    if (n < W) load_some(x + 8 * place, n, some);
    load_blocks(n < W ? some : x + 8 * place, v);
    const F size = gauge(v);
    I holding{};
    for (size_t j = 0; j + 1 < code.count; ++j) holding -= (I)(size > code.steps[j] * (float)code.q);
    const I first = (I)of_scales((const float*)code.first, (U)holding);
    const I final = (I)of_scales((const float*)code.final, (U)holding);
    size_t count = 0;
    for (I j = holding; lanes_of(j <= final); j += 1, ++count) {
        const U scales = tried[count] = (U)(j <= final ? j : holding);
        const F inverse = of_scales(code.inverses, scales), step = of_scales(code.steps, scales);
        F y[8], target[8], point[8];
        for (int i = 0; i < 8; ++i) target[i] = y[i] = v[i] * inverse;
        shrink(target, code.q);
        nearest_point(target, code, point);
        const F errors = distance(y, point) * (step * step);
        // A point is within 1 of its block in the gauge.
        const bool certain = !lanes_of(size * inverse > (float)code.q - 1.01f);
        const M missed = certain ? without(all_lanes(), all_lanes()) : beyond_codebook(point, code);
        offer(scales, errors, without(all_lanes(), missed), charges, best, index);
        bounds[count] = select(missed, errors, all<F>(UNKNOWN));
    }
    for (size_t p = 0; p < PRICES; ++p) store(s.best[p] + place, best[p]), store(s.index[p] + place, index[p]);
    const uint32_t valid = (uint32_t)((1ull << n) - 1);
    // Where there are no more scales the first was done again.
    for (size_t k = 0; k < count; ++k) {
        const uint32_t again = k ? lanes_of((I)tried[k] == holding) : 0;
        push_wanted(place, valid & ~again, tried[k], bounds[k], charges, best, s.queue);
    }
    for (I j = holding - 1; const uint32_t below = lanes_of(j >= first) & valid; j -= 1) {
        const U scales = (U)(j >= first ? j : holding);
        const F step = of_scales(code.steps, scales), inverse = of_scales(code.inverses, scales);
        const F bound = estimate(size, step, inverse, code.q, HOPED, HOPED_DEPTH);
        push_wanted(place, below, scales, bound, charges, best, s.queue);
    }
}

inline void search_choices(const float* x, const NestedCode& code, const Charges& charges, Choice& s) {
    // Every codeword is offered as it is found: of one scale only the last, the nearest, can stay.
    search(s.queue, x, s.order, code,
           [&](uint32_t found, const uint32_t* places, const uint32_t* scales, F distances, const F*) {
               for (; found; found &= found - 1) {
                   const size_t i = (size_t)__builtin_ctz(found);
                   const uint32_t place = places[i], j = scales[i];
                   const float error = distances[i] * (code.steps[j] * code.steps[j]);
                   for (size_t p = 0; p < PRICES; ++p) {
                       const float cost = error + charges.of[p][j];
                       float& best = s.best[p][place];
                       uint32_t& index = s.index[p][place];
                       if (cost < best || (cost == best && j < index)) best = cost, index = j;
                   }
               }
           });
}

// search._choose where all codewords are compared.
inline void choose_of_all(const float* x, size_t blocks, const NestedCode& code, const Charges& charges, uint8_t* index,
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
                least = smaller_of(beyond(s, *code.book, c, code.steps[j]), least);
            offer(all<U>((uint32_t)j), energy + least, all_lanes(), charges, best, found);
        }
        for (size_t p = 0; p < PRICES; ++p) store_bytes(index + p * blocks + b, found[p], n);
    }
}

inline void choose_scales(const float* x, size_t blocks, const NestedCode& code, const float* charge, uint8_t* index,
                          void* scratch) {
    const Charges charges(charge, code.count);
    if (code.book) return choose_of_all(x, blocks, code, charges, index, ((Queue*)scratch)->products);
    Choice& s = *(Choice*)scratch;
    s.queue.size = 0;
    for (uint32_t i = 0; i < SLICE; ++i) s.order[i] = i;
    for (size_t b = 0; b < blocks; b += SLICE) {
        const size_t n = blocks - b < SLICE ? blocks - b : SLICE;
        const float* own = x + 8 * b;
        for (size_t place = 0; place < n; place += W) {
            choose_nearest(own, place, n - place < W ? n - place : W, code, charges, s);
            if (s.queue.size + W * MAX_SCALES > Queue::ROOM) search_choices(own, code, charges, s);
        }
        search_choices(own, code, charges, s);
        for (size_t p = 0; p < PRICES; ++p)
            for (size_t i = 0; i < n; ++i) index[p * blocks + b + i] = (uint8_t)s.index[p][i];
    }
}

inline void guess_scales(const float* x, size_t blocks, const NestedCode& code, const float* charge, uint8_t* index) {
    const Charges charges(charge, code.count);
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
            offer(all<U>((uint32_t)j), estimate(size, code.steps[j], code.inverses[j], code.q, USUAL, DEPTH),
                  all_lanes(), charges, best, found);
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
            const F found = estimate(size, code.steps[j], code.inverses[j], code.q, USUAL, DEPTH);
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
    float words[8 * (Queue::ROOM + W)];
    uint32_t blocks[Queue::ROOM + W];
};
static_assert(sizeof(Words) <= CHOICE_SIZE);

// Digits, and words times the scales of their blocks.
template <class T>
LATQ_INLINE void finish_words(const F word[8], U index, const NestedCode& code, T* digits, float* integers) {
    F c[8], scaled[8];
    to_digits(word, code, c);
    store_digits(c, digits);
    const F scales = floating((I)of_scales((const float*)code.scales, index)) * 2.0f;
    for (int i = 0; i < 8; ++i) scaled[i] = word[i] * scales;
    store_blocks(integers, scaled);
}

// The blocks in the queue, whose places are in the order of ``s.blocks``.
template <class T>
inline void search_words(const float* x, const uint8_t* index, const NestedCode& code, T* digits, float* integers,
                         float* errors, Words& s) {
    const size_t count = s.queue.size;
    search(s.queue, x, s.blocks, code,
           [&](uint32_t found, const uint32_t* places, const uint32_t* scales, F distances, const F* word) {
               float rows[8 * W];
               store_blocks(rows, word);
               for (; found; found &= found - 1) {
                   const size_t i = (size_t)__builtin_ctz(found);
                   const float step = code.steps[scales[i]];
                   std::memcpy(s.words + 8 * places[i], rows + 8 * i, 8 * sizeof *rows);
                   errors[s.blocks[places[i]]] = distances[i] * (step * step);
               }
           });
    for (size_t at = 0; at < count; at += W) {
        const size_t n = count - at < W ? count - at : W;
        uint8_t own[W] = {};
        for (size_t i = 0; i < n; ++i) own[i] = index[s.blocks[at + i]];
        F word[8];
        load_blocks(s.words + 8 * at, word);
        T some_digits[8 * W];
        float some_integers[8 * W];
        finish_words(word, load_numbers(own, W), code, some_digits, some_integers);
        for (size_t i = 0; i < n; ++i) {
            std::memcpy(digits + 8 * s.blocks[at + i], some_digits + 8 * i, 8 * sizeof *digits);
            std::memcpy(integers + 8 * s.blocks[at + i], some_integers + 8 * i, 8 * sizeof *integers);
        }
    }
}

template <class T>
inline void quantize(const float* x, const uint8_t* index, size_t blocks, const NestedCode& code, T* digits,
                     float* integers, float* errors, void* scratch) {
    Words& s = *(Words*)scratch;
    s.queue.size = 0;
    for (size_t b = 0; b < blocks; b += W) {
        const size_t n = blocks - b < W ? blocks - b : W;
        const U own = load_numbers(index + b, n);
        float some[8 * W];
        if (n < W) load_some(x + 8 * b, n, some);
        F y[8], target[8], point[8];
        load_blocks(n < W ? some : x + 8 * b, y);
        const F inverse = of_scales(code.inverses, own), step = of_scales(code.steps, own);
        for (int i = 0; i < 8; ++i) target[i] = y[i] *= inverse;
        shrink(target, code.q);
        nearest_point(target, code, point);
        const F found = distance(y, point) * (step * step);
        std::memcpy(errors + b, &found, n * sizeof *errors);
        if (n == W) {
            finish_words(point, own, code, digits + 8 * b, integers + 8 * b);
        } else {
            T some_digits[8 * W];
            finish_words(point, own, code, some_digits, some);
            std::memcpy(digits + 8 * b, some_digits, 8 * n * sizeof *digits);
            std::memcpy(integers + 8 * b, some, 8 * n * sizeof *integers);
        }
        for (uint32_t missed = lanes_of(beyond_codebook(point, code)) & (uint32_t)((1ull << n) - 1); missed;
             missed &= missed - 1) {
            const size_t block = b + (size_t)__builtin_ctz(missed);
            s.blocks[s.queue.size] = (uint32_t)block;
            s.queue.push((uint32_t)s.queue.size, index[block]);
        }
        if (s.queue.size + W > Queue::ROOM) search_words(x, index, code, digits, integers, errors, s);
    }
    search_words(x, index, code, digits, integers, errors, s);
}

}  // namespace latq::LATQ_TARGET
