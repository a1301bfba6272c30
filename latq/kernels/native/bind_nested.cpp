// Codewords of nested lattices and the search for them.
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cstdlib>
#include <vector>

#include "binding.hpp"

namespace latq {
namespace {

// Scratch of this thread.
void* scratch() {
    static thread_local const std::unique_ptr<Line[]> lines = scratch_of(CHOICE_SIZE);
    return lines.get();
}

void check_index(const Octets& index, size_t blocks, size_t scales) {
    require(index.shape(0) == blocks, "scales: shapes differ");
    uint8_t largest = 0;
    for (size_t b = 0; b < blocks; ++b) largest = std::max(largest, index.data()[b]);
    require(largest < scales, "scales: a scale is out of range");
}

template <class T, class Out, auto KERNEL>
void codewords(Array<const T, 2> digits, Octets index, Array<const int32_t, 1> scales, int32_t q,
               Array<const int32_t, 1> offset, Array<Out, 2> out) {
    const size_t blocks = digits.shape(0), count = scales.shape(0);
    require(digits.shape(1) == 8 && out.shape(0) == blocks && out.shape(1) == 8, "codewords: shapes differ");
    require(count >= 1 && count <= MAX_SCALES && offset.shape(0) == 8, "codewords: shapes differ");
    require(q >= 2 && q <= 4096, "codewords: q is out of range");
    for (size_t i = 0; i < 8; ++i) require(std::abs(offset(i)) <= 4, "codewords: the offset is out of range");
    Out table[MAX_SCALES] = {};
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

}  // namespace

void bind_nested(nb::module_& m) {
    add(m, "codewords", &codewords<uint8_t, float, &Kernels::codewords8>);
    add(m, "codewords", &codewords<uint16_t, float, &Kernels::codewords16>);
    add(m, "codewords", &codewords<uint8_t, int16_t, &Kernels::short_codewords8>);
    add(m, "codewords", &codewords<uint16_t, int16_t, &Kernels::short_codewords16>);

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
}

}  // namespace latq
