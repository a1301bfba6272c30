// Python module latq.kernels._core: checks sizes, releases the GIL, calls the kernels of the chosen instruction set.
// Arrays that a kernel fills are allocated by the caller, latq/kernels/compiled.py.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "kernels.hpp"
#include "memory.hpp"

namespace nb = nanobind;

// Sections are little-endian, and so is every machine that this is for.
static_assert(std::endian::native == std::endian::little);

namespace latq {
namespace baseline {
extern const Kernels kernels;
}
#if defined(LATQ_X86)
namespace avx2 {
extern const Kernels kernels;
}
namespace avx512 {
extern const Kernels kernels;
}
namespace avx512vnni {
extern const Products product_kernels;
}
#endif

namespace {

template <class T, size_t DIMS>
using Array = nb::ndarray<T, nb::ndim<DIMS>, nb::c_contig, nb::device::cpu>;

#if defined(LATQ_X86)
// avx512, but for products.
const Kernels* with_vnni() {
    static const Kernels kernels = [] {
        Kernels all = avx512::kernels;
        all.name = "avx512vnni", all.products = avx512vnni::product_kernels;
        return all;
    }();
    return &kernels;
}
#endif

// Those that this processor runs, best last.
std::vector<const Kernels*> available() {
    std::vector<const Kernels*> found{&baseline::kernels};
#if defined(LATQ_X86)
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2")) {
        found.push_back(&avx2::kernels);
        if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
            __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
            found.push_back(&avx512::kernels);
            if (__builtin_cpu_supports("avx512vnni")) found.push_back(with_vnni());
        }
    }
#endif
    return found;
}

const Kernels* active = available().back();

std::vector<std::string> names() {
    std::vector<std::string> found;
    for (const Kernels* kernels : available()) found.emplace_back(kernels->name);
    return found;
}

void use(const std::string& name) {
    for (const Kernels* kernels : available())
        if (name == kernels->name) {
            active = kernels;
            return;
        }
    throw std::invalid_argument("this processor or build has no instruction set " + name);
}

void require(bool held, const char* what) {
    if (!held) throw std::invalid_argument(what);
}

bool is_power_of_two(size_t n) { return n && !(n & (n - 1)); }

size_t window_of(size_t n) {
    size_t window = 1;
    while (2 * window <= n) window *= 2;
    return window;
}

void fwht(Array<float, 2> x) {
    require(is_power_of_two(x.shape(1)), "fwht: the length is not a power of two");
    nb::gil_scoped_release unlocked;
    active->fwht(x.data(), x.shape(0), x.shape(1));
}

template <auto KERNEL>
void turn(Array<const float, 2> x, Array<float, 2> y, Array<const uint8_t, 2> signs) {
    const size_t rows = x.shape(0), n = x.shape(1), window = window_of(n);
    require(n >= 1 && y.shape(0) == rows && y.shape(1) == n, "rotation: shapes differ");
    require(signs.shape(0) == (window == n ? 1u : 4u) && signs.shape(1) == (window + 7) / 8,
            "rotation: wrong number of signs");
    nb::gil_scoped_release unlocked;
    (active->*KERNEL)(x.data(), y.data(), rows, n, signs.data());
}

using Octets = Array<const uint8_t, 1>;

template <class T>
using Entries = nb::ndarray<const T, nb::shape<-1, 3, PLACES>, nb::c_contig, nb::device::cpu>;
using Ranges = nb::ndarray<const uint16_t, nb::shape<-1, 2, 3, PLACES>, nb::c_contig, nb::device::cpu>;

PointModel model_of(Octets slots, Array<const uint32_t, 2> of_values, Entries<uint32_t> infos, Entries<int32_t> costs,
                    Array<const int32_t, 1> first, Array<const int32_t, 1> shifts, Array<const int32_t, 1> origin,
                    Array<const int32_t, 1> windows, Ranges ranges) {
    const size_t tables = of_values.shape(0), classes = first.shape(0);
    // Three more bytes than there are slots: they are read four at a time.
    require(slots.shape(0) == (tables << 14) + 3 && of_values.shape(1) == 256, "model: wrong number of slots");
    for (const size_t given : {infos.shape(0), costs.shape(0), ranges.shape(0)})
        require(given == classes, "model: wrong tables");
    for (const size_t given : {shifts.shape(0), origin.shape(0), windows.shape(0)})
        require(given == classes, "model: wrong classes");
    for (size_t c = 0; c < classes; ++c) {
        const size_t last = (size_t)first(c) + (shifts(c) ? 0 : 6);
        require(shifts(c) >= 0 && shifts(c) <= 16 && first(c) >= 0 && last < tables, "model: a class has no tables");
        require(windows(c) == 32 || windows(c) == 64 || windows(c) == 128, "model: unknown window");
    }
    return {slots.data(),  of_values.data(), infos.data(),   costs.data(),  first.data(),
            shifts.data(), origin.data(),    windows.data(), ranges.data(), classes};
}

void check_classes(const Array<const int32_t, 1>& classes, size_t blocks, const PointModel& model) {
    require(classes.shape(0) == blocks, "points: one class per block is needed");
    uint32_t largest = 0;
    for (size_t b = 0; b < blocks; ++b) largest = std::max(largest, (uint32_t)classes.data()[b]);
    require(largest < model.classes, "points: a class is out of range");
}

void nearest_points(Array<const float, 2> x, Array<int32_t, 2> points, float inverse) {
    const size_t blocks = x.shape(0);
    require(x.shape(1) == 8 && points.shape(0) == blocks && points.shape(1) == 8, "points: shapes differ");
    nb::gil_scoped_release unlocked;
    active->nearest_points(x.data(), points.data(), blocks, inverse);
}

// An array of so many bytes, not cleared.
nb::ndarray<nb::numpy, uint8_t, nb::ndim<1>> new_bytes(size_t size) {
    static Memory& memory = *new Memory;  // Arrays may outlive all that is destroyed at the end.
    const Memory::Piece piece = memory.take(size);
    if (!piece.at) throw std::bad_alloc();
    nb::capsule owner(new Memory::Piece(piece), [](void* held) noexcept {
        memory.give_back(*(Memory::Piece*)held);
        delete (Memory::Piece*)held;
    });
    return {piece.at, {size}, owner};
}

struct alignas(64) Line {
    char bytes[64];
};

std::unique_ptr<Line[]> scratch_of(size_t size) { return std::unique_ptr<Line[]>(new Line[size / sizeof(Line) + 1]); }

// Scratch of this thread.
void* scratch() {
    static thread_local const std::unique_ptr<Line[]> lines = scratch_of(CHOICE_SIZE);
    return lines.get();
}

int64_t choose_points(Array<const float, 2> x, Array<const int32_t, 1> classes, float inverse, float worth,
                      float shrink, const PointModel& model, Array<int32_t, 2> points) {
    const size_t blocks = x.shape(0);
    require(x.shape(1) == 8 && points.shape(0) == blocks && points.shape(1) == 8, "points: shapes differ");
    nb::gil_scoped_release unlocked;
    check_classes(classes, blocks, model);
    std::vector<float> weights(3 * PLACES * model.classes);
    return active->choose_points(x.data(), classes.data(), blocks, inverse, worth, shrink, model, points.data(),
                                 weights.data());
}

template <auto KERNEL>
void costs(Array<const int32_t, 2> points, Array<const int32_t, 1> classes, const PointModel& model,
           Array<int64_t, 1> costs) {
    const size_t blocks = points.shape(0);
    require(points.shape(1) == 8 && costs.shape(0) == blocks, "points: shapes differ");
    nb::gil_scoped_release unlocked;
    check_classes(classes, blocks, model);
    (active->*KERNEL)(points.data(), classes.data(), blocks, model, costs.data());
}

// So many lanes that every one has blocks, however they are dealt out.
bool lanes_are_sound(size_t lanes, size_t blocks) {
    return is_power_of_two(lanes) && lanes <= MAX_LANES && (lanes == 1 || lanes <= blocks / lanes);
}

// Their parity checks.
std::vector<std::pair<uint32_t, uint32_t>> trellises() {
    std::vector<std::pair<uint32_t, uint32_t>> found;
    for (const Trellis& trellis : TRELLISES) found.emplace_back(trellis.h0, trellis.h1);
    return found;
}

int64_t choose_paths(Array<const float, 2> x, Array<const int32_t, 1> classes, size_t lanes, float inverse,
                     std::optional<Array<const int32_t, 2>> weights, const PointModel* model, size_t trellis,
                     Array<int32_t, 2> values) {
    const size_t blocks = x.shape(0);
    require(x.shape(1) == 8 && values.shape(0) == blocks && values.shape(1) == 8, "paths: shapes differ");
    require(blocks > 0 && lanes_are_sound(lanes, blocks) && trellis < TRELLIS_COUNT, "paths: no lanes or no trellis");
    require(!weights == !model, "paths: weights belong to a model");
    require(!weights || (weights->shape(0) == model->classes && weights->shape(1) == PLACES), "paths: wrong weights");
    nb::gil_scoped_release unlocked;
    if (model) check_classes(classes, blocks, *model);
    const size_t words = paths_size(8 * path_blocks(blocks, lanes), TRELLISES[trellis].h0);
    return active->choose_paths(x.data(), classes.data(), blocks, lanes, inverse, weights ? weights->data() : nullptr,
                                model, trellis, values.data(), (uint32_t*)scratch_of(4 * words).get());
}

size_t low_size_of(const Array<const int32_t, 1>& classes, const PointModel& model) {
    size_t size = 0;
    for (size_t b = 0; b < classes.shape(0); ++b) size += (size_t)model.shifts[classes.data()[b]];
    return size;
}

template <auto KERNEL>
std::pair<size_t, size_t> encode(Array<const int32_t, 2> points, Array<const int32_t, 1> classes, size_t lanes,
                                 const PointModel& model, Array<uint32_t, 1> states, Array<uint16_t, 1> words,
                                 Array<int32_t, 1> escapes, Array<uint8_t, 1> low) {
    const size_t blocks = points.shape(0);
    require(points.shape(1) == 8 && lanes_are_sound(lanes, blocks) && states.shape(0) == lanes, "points: shapes differ");
    require(words.shape(0) >= 8 * blocks + WORDS_SLACK && escapes.shape(0) == 8 * blocks, "points: too little room");
    nb::gil_scoped_release unlocked;
    check_classes(classes, blocks, model);
    require(low.shape(0) == low_size_of(classes, model), "points: too little room for low bits");
    size_t found[2];
    (active->*KERNEL)(points.data(), classes.data(), blocks, lanes, model, states.data(), words.data(), escapes.data(),
                      low.data(), low.shape(0), found);
    return {found[0], found[1]};
}

// ``last`` are the arguments of a kernel between the model and its output.
template <auto KERNEL, class... Last>
bool decode(Octets stream, Octets rest, Array<const int32_t, 1> classes, size_t lanes, const PointModel& model,
            Last... last, Array<float, 2> points) {
    const size_t blocks = classes.shape(0), size = stream.shape(0);
    require(points.shape(0) == blocks && points.shape(1) == 8 && lanes_are_sound(lanes, blocks), "points: shapes differ");
    nb::gil_scoped_release unlocked;
    check_classes(classes, blocks, model);
    const size_t low_size = low_size_of(classes, model);
    require(rest.shape(0) >= low_size && (rest.shape(0) - low_size) % 4 == 0, "points: wrong number of low bits");
    if (size < 4 * lanes || (size - 4 * lanes) % 2) return false;
    const size_t escapes = (rest.shape(0) - low_size) / 4;
    return (active->*KERNEL)(stream.data(), (size - 4 * lanes) / 2, rest.data(), escapes, rest.data() + 4 * escapes,
                             low_size, classes.data(), blocks, lanes, model, last..., points.data());
}

size_t precision_index(size_t precision) {
    require(precision == 12 || precision == 14, "rans: the precision is not 12 or 14");
    return precision == 14;
}

bool decode_symbols(Octets stream, size_t lanes, size_t precision, Octets slots, Array<const uint32_t, 1> infos,
                    Array<uint8_t, 1> symbols) {
    const size_t size = stream.shape(0), which = precision_index(precision);
    require(is_power_of_two(lanes) && lanes <= MAX_LANES && slots.shape(0) == ((size_t)1 << precision) + 3 && infos.shape(0) == 256,
            "rans: wrong tables");
    if (size < 4 * lanes || (size - 4 * lanes) % 2) return false;
    nb::gil_scoped_release unlocked;
    return active->decode_symbols[which](stream.data(), (size - 4 * lanes) / 2, lanes, slots.data(), infos.data(),
                                         symbols.data(), symbols.shape(0));
}

size_t encode_symbols(Octets symbols, size_t lanes, size_t precision, Array<const uint32_t, 1> infos,
                      Array<uint32_t, 1> states, Array<uint16_t, 1> words) {
    const size_t count = symbols.shape(0), which = precision_index(precision);
    require(is_power_of_two(lanes) && lanes <= MAX_LANES && states.shape(0) == lanes && infos.shape(0) == 256, "rans: wrong tables");
    require(words.shape(0) >= count + WORDS_SLACK, "rans: too little room");
    nb::gil_scoped_release unlocked;
    return active->encode_symbols[which](symbols.data(), count, lanes, infos.data(), states.data(), words.data());
}

void count_symbols(Octets symbols, Array<int64_t, 1> counts) {
    require(counts.shape(0) == 256, "symbols: room for 256 counts is needed");
    nb::gil_scoped_release unlocked;
    active->count_symbols(symbols.data(), symbols.shape(0), counts.data());
}

void check_bits(size_t size, size_t width, size_t count, size_t widest) {
    require(width >= 1 && width <= widest && count <= ((size_t)1 << 40), "bits: the width is out of range");
    require(size >= (count * width + 7) / 8, "bits: too few bytes");
}

template <class T, auto KERNEL>
void unpack_bits(Octets data, size_t width, Array<T, 1> values) {
    check_bits(data.shape(0), width, values.shape(0), 8 * sizeof(T));
    nb::gil_scoped_release unlocked;
    (active->*KERNEL)(data.data(), data.shape(0), (int)width, values.shape(0), values.data());
}

template <class T, auto KERNEL>
void pack_bits(Array<const T, 1> values, size_t width, Array<uint8_t, 1> data) {
    check_bits(data.shape(0), width, values.shape(0), 8 * sizeof(T));
    nb::gil_scoped_release unlocked;
    (active->*KERNEL)(values.data(), (int)width, values.shape(0), data.data());
}

// Which of the kernels for digits in a radix.
size_t radix_index(uint32_t radix, size_t per_word, size_t words, size_t count) {
    for (const auto& [which, known, size] : {std::tuple<size_t, uint32_t, size_t>{0, 3, 5}, {1, 5, 3}, {2, 7, 11}})
        if (radix == known && per_word == size) {
            require(words >= (count + size - 1) / size, "digits: too few words");
            return which;
        }
    throw std::invalid_argument("digits: unknown radix");
}

void split_digits(Array<const uint32_t, 1> words, uint32_t radix, size_t per_word, Array<uint8_t, 1> digits) {
    const size_t which = radix_index(radix, per_word, words.shape(0), digits.shape(0));
    nb::gil_scoped_release unlocked;
    active->split_digits[which](words.data(), digits.shape(0), digits.data());
}

void join_digits(Octets digits, uint32_t radix, size_t per_word, Array<uint32_t, 1> words) {
    const size_t which = radix_index(radix, per_word, words.shape(0), digits.shape(0));
    nb::gil_scoped_release unlocked;
    active->join_digits[which](digits.data(), digits.shape(0), words.data());
}

void check_index(const Octets& index, size_t blocks, size_t scales) {
    require(index.shape(0) == blocks, "scales: shapes differ");
    uint8_t largest = 0;
    for (size_t b = 0; b < blocks; ++b) largest = std::max(largest, index.data()[b]);
    require(largest < scales, "scales: a scale is out of range");
}

template <class T, auto KERNEL>
void codewords(Array<const T, 2> digits, Octets index, Array<const int32_t, 1> scales, int32_t q,
               Array<const int32_t, 1> offset, Array<float, 2> out) {
    const size_t blocks = digits.shape(0), count = scales.shape(0);
    require(digits.shape(1) == 8 && out.shape(0) == blocks && out.shape(1) == 8, "codewords: shapes differ");
    require(count >= 1 && count <= MAX_SCALES && offset.shape(0) == 8, "codewords: shapes differ");
    require(q >= 1 && q <= 4096, "codewords: q is out of range");
    for (size_t i = 0; i < 8; ++i) require(std::abs(offset(i)) <= q, "codewords: the offset is out of range");
    float table[MAX_SCALES] = {};
    std::copy_n(scales.data(), count, table);
    nb::gil_scoped_release unlocked;
    check_index(index, blocks, count);
    (active->*KERNEL)(digits.data(), index.data(), table, blocks, q, offset.data(), out.data());
}

// Whether numbers are below a limit.
void check_places(const Array<const int32_t, 1>& places, size_t limit) {
    for (size_t i = 0; i < places.shape(0); ++i) require((size_t)places(i) < limit, "codebook: a place is out of range");
}

// Whether numbers rise from 0 to an end.
void check_starts(const Array<const int32_t, 1>& starts, size_t end) {
    const size_t count = starts.shape(0);
    require(count >= 2 && count <= Codebook::SETS + 1 && starts(0) == 0 && (size_t)starts(count - 1) == end,
            "codebook: wrong sets");
    for (size_t i = 1; i < count; ++i) require(starts(i - 1) < starts(i), "codebook: an empty set");
}

using Places = Array<const int32_t, 1>;

// Rows one after the other: pairs of 3 numbers, halves and entries of 2.
Codebook codebook_of(Places pairs, Places lefts, Places rights, Places members, Places groups, Places entries,
                     Places shells, Array<const float, 1> norms) {
    const Codebook book{pairs.data(),  lefts.data(),        rights.data(),       members.data(),
                        groups.data(), entries.data(),      shells.data(),       norms.data(),
                        pairs.size() / 3, lefts.size() / 2, rights.size() / 2, groups.size() - 1, norms.size()};
    require(std::max({book.pairs, book.lefts, book.rights}) <= Codebook::PARTS, "codebook: too many parts");
    for (size_t i = 0; i < book.pairs; ++i) require((uint32_t)pairs(3 * i) < 7, "codebook: a place is out of range");
    check_places(lefts, book.pairs), check_places(rights, book.pairs), check_places(members, book.rights);
    check_starts(groups, members.size()), check_starts(shells, entries.size() / 2);
    require(shells.size() == book.shells + 1, "codebook: wrong number of norms");
    for (size_t i = 0; i < entries.size(); ++i)
        require((size_t)entries(i) < (i % 2 ? book.groups : book.lefts), "codebook: a place is out of range");
    return book;
}

NestedCode nested_code(int32_t q, Array<const int32_t, 1> offset, Array<const int32_t, 1> scales,
                       Array<const float, 1> steps, Array<const float, 1> inverses, std::vector<int32_t> first,
                       std::vector<int32_t> final, const Codebook* book) {
    const size_t count = scales.shape(0);
    require(q >= 2 && q <= 4096 && offset.shape(0) == 8, "code: q or the offset is out of range");
    require(count >= 1 && count <= MAX_SCALES && steps.shape(0) == count && inverses.shape(0) == count &&
                first.size() == count && final.size() == count,
            "code: wrong number of scales");
    NestedCode code{.book = book, .q = q, .q_inverse = 1.0f / (float)q, .count = count};
    for (size_t i = 0; i < 8; ++i) {
        require(std::abs(offset(i)) <= q, "code: the offset is out of range");
        code.halves[i] = offset(i) ? (float)offset(i) / 2 : -0.0f;
    }
    for (int32_t j = 0; j < (int32_t)count; ++j) {
        require(first[j] >= 0 && first[j] <= j && j <= final[j] && final[j] < (int32_t)count, "code: a wrong window");
        code.scales[j] = scales(j), code.steps[j] = steps(j), code.inverses[j] = inverses(j);
        code.first[j] = first[j], code.final[j] = final[j];
    }
    return code;
}

void check_choice(const Array<const float, 2>& x, const NestedCode& code, const Array<const float, 2>& charges,
                  const Array<uint8_t, 2>& index) {
    require(x.shape(1) == 8 && index.shape(0) == PRICES && index.shape(1) == x.shape(0), "scales: shapes differ");
    require(charges.shape(0) == PRICES && charges.shape(1) == code.count, "scales: wrong number of charges");
}

void estimated_errors(Array<const float, 2> x, const NestedCode& code, Array<float, 2> errors) {
    const size_t blocks = x.shape(0);
    require(x.shape(1) == 8 && errors.shape(0) == code.count && errors.shape(1) == blocks, "scales: shapes differ");
    nb::gil_scoped_release unlocked;
    active->estimated_errors(x.data(), blocks, code, errors.data());
}

void cheapest_scales(Array<const float, 2> errors, Array<const float, 2> charges, Array<uint8_t, 2> index) {
    const size_t scales = errors.shape(0), blocks = errors.shape(1);
    require(charges.shape(1) == scales && scales <= 256, "scales: wrong number of charges");
    require(index.shape(0) == charges.shape(0) && index.shape(1) == blocks, "scales: shapes differ");
    nb::gil_scoped_release unlocked;
    for (size_t row = 0; row < charges.shape(0); ++row)
        active->cheapest_scales(errors.data(), scales, blocks, charges.data() + row * scales,
                                index.data() + row * blocks);
}

void guess_scales(Array<const float, 2> x, const NestedCode& code, Array<const float, 2> charges,
                  Array<uint8_t, 2> index) {
    check_choice(x, code, charges, index);
    nb::gil_scoped_release unlocked;
    active->guess_scales(x.data(), x.shape(0), code, charges.data(), index.data());
}

void choose_scales(Array<const float, 2> x, const NestedCode& code, Array<const float, 2> charges,
                   Array<uint8_t, 2> index) {
    check_choice(x, code, charges, index);
    nb::gil_scoped_release unlocked;
    active->choose_scales(x.data(), x.shape(0), code, charges.data(), index.data(), scratch());
}

template <class T, auto KERNEL>
void quantize(Array<const float, 2> x, Octets index, const NestedCode& code, Array<T, 2> digits,
              Array<float, 2> integers, Array<float, 1> errors) {
    const size_t blocks = x.shape(0);
    require(x.shape(1) == 8 && errors.shape(0) == blocks, "quantize: shapes differ");
    require(digits.shape(0) == blocks && digits.shape(1) == 8, "quantize: shapes differ");
    require(integers.shape(0) == blocks && integers.shape(1) == 8, "quantize: shapes differ");
    nb::gil_scoped_release unlocked;
    check_index(index, blocks, code.count);
    (active->*KERNEL)(x.data(), index.data(), blocks, code, digits.data(), integers.data(), errors.data(), scratch());
}

template <class T>
const Rows<T>& rows_of() {
    if constexpr (sizeof(T) == 4) return active->rows32;
    else return active->rows64;
}

template <class T>
double peak(Array<const T, 2> x) {
    nb::gil_scoped_release unlocked;
    return rows_of<T>().peak(x.data(), x.size());
}

template <class T>
void row_sums(Array<const T, 2> x, double by, Array<double, 1> sums) {
    require(x.shape(1) >= 1 && sums.shape(0) == x.shape(0), "rows: shapes differ");
    nb::gil_scoped_release unlocked;
    std::unique_ptr<double[]> scratch(new double[scratch_size(x.shape(1))]);
    rows_of<T>().sums(x.data(), x.shape(0), x.shape(1), by, sums.data(), scratch.get());
}

template <class T>
void row_squares(Array<const T, 2> x, double by, Array<const float, 1> means, Array<double, 1> sums) {
    const size_t rows = x.shape(0);
    require(x.shape(1) >= 1 && sums.shape(0) == rows && means.shape(0) == rows, "rows: shapes differ");
    nb::gil_scoped_release unlocked;
    std::unique_ptr<double[]> scratch(new double[scratch_size(x.shape(1))]);
    rows_of<T>().squares(x.data(), rows, x.shape(1), by, means.data(), sums.data(), scratch.get());
}

template <class T>
void divided(Array<const T, 2> x, double by, Array<const float, 1> means, Array<const double, 1> inverses,
             Array<float, 2> out) {
    const size_t rows = x.shape(0);
    require(means.shape(0) == rows && inverses.shape(0) == rows, "rows: shapes differ");
    require(out.shape(0) == rows && out.shape(1) == x.shape(1), "rows: shapes differ");
    nb::gil_scoped_release unlocked;
    rows_of<T>().divided(x.data(), rows, x.shape(1), by, means.data(), inverses.data(), out.data());
}

template <class T>
Moments<T>* moments_of() {
    if constexpr (std::is_same_v<T, float>) return active->moments_float;
    else return active->moments_int;
}

template <class T>
void row_moments(Array<const float, 2> u, Array<const T, 2> v, Array<double, 2> sums) {
    const size_t rows = u.shape(0), n = u.shape(1), k = v.shape(1);
    require(n >= k && k >= 1 && v.shape(0) == rows, "rows: shapes differ");
    require(sums.shape(0) == rows && sums.shape(1) == 3, "rows: shapes differ");
    nb::gil_scoped_release unlocked;
    std::unique_ptr<double[]> scratch(new double[3 * scratch_size(n)]);
    moments_of<T>()(u.data(), v.data(), rows, n, k, sums.data(), scratch.get());
}

// T is a float type, and Stored what an array of it is called: nanobind knows those of C++.
template <class T, class Stored, auto KERNEL>
void restored(Array<const float, 2> x, Array<const double, 1> scales, Array<const double, 1> means, double by,
              Array<Stored, 2> out) {
    const size_t rows = x.shape(0), n = x.shape(1);
    require(scales.shape(0) == rows && means.shape(0) == rows, "rows: shapes differ");
    require(out.shape(0) == rows && out.shape(1) == n, "rows: shapes differ");
    nb::gil_scoped_release unlocked;
    (active->*KERNEL)(x.data(), rows, n, scales.data(), means.data(), by, (T*)out.data());
}

template <class T, auto KERNEL>
void widen(Array<const uint16_t, 1> x, Array<float, 1> out) {
    require(out.shape(0) == x.shape(0), "rows: shapes differ");
    nb::gil_scoped_release unlocked;
    (active->*KERNEL)((const T*)x.data(), x.shape(0), out.data());
}

// Entries of a row must be neighbours; rows may be apart.
template <class T>
using Matrix = nb::ndarray<T, nb::ndim<2>, nb::device::cpu>;

// Whether the entries of a row are neighbours, and rows follow each other.
template <class T>
bool has_rows(const Matrix<T>& x) {
    return x.stride(1) == 1 && x.stride(0) >= (int64_t)x.shape(1);
}

template <class T, auto KERNEL>
void transpose(Matrix<const T> from, Matrix<T> to) {
    const size_t rows = from.shape(0), columns = from.shape(1);
    require(to.shape(0) == columns && to.shape(1) == rows, "transpose: shapes differ");
    require(has_rows(from) && has_rows(to), "transpose: entries of a row are not neighbours");
    nb::gil_scoped_release unlocked;
    (active->*KERNEL)(from.data(), (size_t)from.stride(0), to.data(), (size_t)to.stride(0), rows, columns);
}

template <class T, auto KERNEL>
bool narrowed(Array<const float, 2> x, Array<T, 2> out, Array<double, 1> squares) {
    const size_t rows = x.shape(0), n = x.shape(1);
    require(out.shape(0) == rows && out.shape(1) == n && squares.shape(0) == rows, "narrowed: shapes differ");
    nb::gil_scoped_release unlocked;
    return (active->*KERNEL)(x.data(), rows, n, out.data(), squares.data());
}

using Gains = Array<const double, 1>;

template <class T, class Out, auto KERNEL>
void products(Matrix<const T> a, Matrix<const T> b, Gains gains_a, Gains gains_b, Matrix<Out> out) {
    const size_t rows = a.shape(0), columns = b.shape(0), n = a.shape(1);
    require(b.shape(1) == n && n >= 1 && n <= (size_t)1 << 23, "products: the lengths of rows differ or are too large");
    require(out.shape(0) == rows && out.shape(1) == columns, "products: shapes differ");
    require(gains_a.shape(0) == rows && gains_b.shape(0) == columns, "products: one gain per row is needed");
    require(has_rows(a) && has_rows(b) && has_rows(out), "products: entries of a row are not neighbours");
    nb::gil_scoped_release unlocked;
    (active->products.*KERNEL)({a.data(), rows, (size_t)a.stride(0), gains_a.data()},
                               {b.data(), columns, (size_t)b.stride(0), gains_b.data()}, n,
                               {out.data(), (size_t)out.stride(0), 1}, scratch_of(products_size(n)).get());
}

template <class T, auto KERNEL>
void subtract_product(Matrix<T> c, Matrix<const T> a, Matrix<const T> b) {
    const size_t rows = c.shape(0), columns = c.shape(1), depth = b.shape(0);
    require(a.shape(0) == rows && a.shape(1) == depth && b.shape(1) == columns, "matrices: shapes differ");
    require(has_rows(a) && has_rows(b) && has_rows(c), "matrices: entries of a row are not neighbours");
    nb::gil_scoped_release unlocked;
    (active->*KERNEL)(c.data(), c.stride(0), a.data(), a.stride(0), b.data(), b.stride(0), rows, columns, depth);
}

}  // namespace
}  // namespace latq

// A function whose arrays are taken as they are, never as converted copies.
template <size_t... I, class Function>
void add(nb::module_& m, const char* name, Function* function, std::index_sequence<I...>) {
    m.def(name, function, ((void)I, nb::arg().noconvert())...);
}

template <class Result, class... Arguments>
void add(nb::module_& m, const char* name, Result (*function)(Arguments...)) {
    add(m, name, function, std::index_sequence_for<Arguments...>{});
}

NB_MODULE(_core, m) {
    using namespace latq;
    m.attr("WORDS_SLACK") = WORDS_SLACK;
    m.def("available", &names);
    m.def("use", &use);
    m.def("active", [] { return std::string(active->name); });
    add(m, "fwht", &fwht);
    add(m, "rotate", &turn<&Kernels::rotate>);
    add(m, "unrotate", &turn<&Kernels::unrotate>);

    // Keeps the arrays that it points into alive.
    nb::class_<PointModel>(m, "PointModel");
    m.def("point_model", &model_of, nb::arg().noconvert(), nb::arg().noconvert(), nb::arg().noconvert(),
          nb::arg().noconvert(), nb::arg().noconvert(), nb::arg().noconvert(), nb::arg().noconvert(),
          nb::arg().noconvert(), nb::arg().noconvert(), nb::keep_alive<0, 1>(), nb::keep_alive<0, 2>(),
          nb::keep_alive<0, 3>(), nb::keep_alive<0, 4>(), nb::keep_alive<0, 5>(), nb::keep_alive<0, 6>(),
          nb::keep_alive<0, 7>(), nb::keep_alive<0, 8>(), nb::keep_alive<0, 9>());
    add(m, "nearest_points", &nearest_points);
    m.def("new_bytes", &new_bytes);
    add(m, "choose_points", &choose_points);
    add(m, "point_costs", &costs<&Kernels::point_costs>);
    m.def("choose_paths", &choose_paths, nb::arg().noconvert(), nb::arg().noconvert(), nb::arg(), nb::arg(),
          nb::arg().none(), nb::arg().none(), nb::arg(), nb::arg().noconvert());
    m.attr("TRELLISES") = trellises();
    add(m, "encode_points", &encode<&Kernels::encode_points>);
    add(m, "decode_points", &decode<&Kernels::decode_points>);
    add(m, "path_costs", &costs<&Kernels::path_costs>);
    add(m, "encode_paths", &encode<&Kernels::encode_paths>);
    add(m, "decode_paths", &decode<&Kernels::decode_paths, uint32_t, uint32_t>);

    add(m, "decode_symbols", &decode_symbols);
    add(m, "encode_symbols", &encode_symbols);
    add(m, "count_symbols", &count_symbols);
    add(m, "unpack_bits", &unpack_bits<uint8_t, &Kernels::unpack8>);
    add(m, "unpack_bits", &unpack_bits<uint16_t, &Kernels::unpack16>);
    add(m, "unpack_bits", &unpack_bits<uint32_t, &Kernels::unpack32>);
    add(m, "pack_bits", &pack_bits<uint8_t, &Kernels::pack8>);
    add(m, "pack_bits", &pack_bits<uint16_t, &Kernels::pack16>);
    add(m, "pack_bits", &pack_bits<uint32_t, &Kernels::pack32>);
    add(m, "split_digits", &split_digits);
    add(m, "join_digits", &join_digits);
    add(m, "codewords", &codewords<uint8_t, &Kernels::codewords8>);
    add(m, "codewords", &codewords<uint16_t, &Kernels::codewords16>);

    m.attr("SLICE") = SLICE;
    m.attr("PRICES") = PRICES;
    m.attr("MAX_SCALES") = MAX_SCALES;
    nb::class_<Codebook>(m, "Codebook");
    m.def("codebook", &codebook_of, nb::arg().noconvert(), nb::arg().noconvert(), nb::arg().noconvert(),
          nb::arg().noconvert(), nb::arg().noconvert(), nb::arg().noconvert(), nb::arg().noconvert(),
          nb::arg().noconvert(), nb::keep_alive<0, 1>(), nb::keep_alive<0, 2>(), nb::keep_alive<0, 3>(),
          nb::keep_alive<0, 4>(), nb::keep_alive<0, 5>(), nb::keep_alive<0, 6>(), nb::keep_alive<0, 7>(),
          nb::keep_alive<0, 8>());
    nb::class_<NestedCode>(m, "NestedCode");
    m.def("nested_code", &nested_code, nb::arg(), nb::arg(), nb::arg(), nb::arg(), nb::arg(), nb::arg(), nb::arg(),
          nb::arg().none(), nb::keep_alive<0, 8>());
    add(m, "estimated_errors", &estimated_errors);
    add(m, "cheapest_scales", &cheapest_scales);
    add(m, "guess_scales", &guess_scales);
    add(m, "choose_scales", &choose_scales);
    add(m, "quantize", &quantize<uint8_t, &Kernels::quantize8>);
    add(m, "quantize", &quantize<uint16_t, &Kernels::quantize16>);

    add(m, "peak", &peak<float>);
    add(m, "peak", &peak<double>);
    add(m, "row_sums", &row_sums<float>);
    add(m, "row_sums", &row_sums<double>);
    add(m, "row_squares", &row_squares<float>);
    add(m, "row_squares", &row_squares<double>);
    add(m, "divided", &divided<float>);
    add(m, "divided", &divided<double>);
    add(m, "row_moments", &row_moments<float>);
    add(m, "row_moments", &row_moments<int32_t>);
    add(m, "restored", &restored<float, float, &Kernels::restored32>);
    add(m, "restored", &restored<double, double, &Kernels::restored64>);
    add(m, "restored_float16", &restored<Float16, uint16_t, &Kernels::restored_float16>);
    add(m, "restored_bfloat16", &restored<BFloat16, uint16_t, &Kernels::restored_bfloat16>);
    add(m, "widen_float16", &widen<Float16, &Kernels::widen_float16>);
    add(m, "widen_bfloat16", &widen<BFloat16, &Kernels::widen_bfloat16>);

    add(m, "narrowed", &narrowed<int8_t, &Kernels::narrowed8>);
    add(m, "narrowed", &narrowed<int16_t, &Kernels::narrowed16>);
    add(m, "add_products", &products<int8_t, double, &Products::add8>);
    add(m, "add_products", &products<int16_t, double, &Products::add16>);
    add(m, "put_products", &products<int8_t, float, &Products::put8>);
    add(m, "put_products", &products<int16_t, float, &Products::put16>);

    add(m, "subtract_product", &subtract_product<float, &Kernels::subtract_product32>);
    add(m, "subtract_product", &subtract_product<double, &Kernels::subtract_product64>);

    add(m, "transpose", &transpose<uint8_t, &Kernels::transpose8>);
    add(m, "transpose", &transpose<uint16_t, &Kernels::transpose16>);
    add(m, "transpose", &transpose<uint32_t, &Kernels::transpose32>);
    add(m, "transpose", &transpose<uint64_t, &Kernels::transpose64>);
}
