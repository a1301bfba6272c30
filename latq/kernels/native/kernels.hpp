// What every instruction set provides. Sizes are checked by the caller (bind_*.cpp); nothing here allocates or throws.
#pragma once

#include <cstddef>
#include <cstdint>

namespace latq {

// Frequency tables of lattice points (latq/kernels/points.py, PointModel). Entry 0 of a table stands for the escape and
// for every value that the table does not have.
//
// To decode, a table has an entry for each coded value, + 128. To encode, a class has three, each for both cosets: of
// the first coordinate of a block, the next six, the last. A coordinate t is at place floor(t / 2) + 64, and 128 higher
// if it is odd (the parity of floor(t / 2) tells which table of the last coordinate is meant); one with a shift at its
// coded value + 128.
struct PointModel {
    const uint8_t* slots;        // (tables, 2^14): coded value + 128 of each slot, 0 for the escape
    const uint32_t* of_values;   // (tables, 256): frequency | start << 16
    const uint32_t* infos;       // (classes, 3, PLACES): frequency | start << 16
    const int32_t* costs;        // (classes, 3, PLACES): units of 2^-16 bit, all bits of the coordinate included
    const int32_t* first;        // (classes): first table of the class
    const int32_t* shifts;       // (classes)
    const int32_t* origin;       // (classes): cost of a block of zeros
    const int32_t* windows;      // (classes): 32, 64 or 128 entries about 0 that hold nearly all values of a coset
    // (classes, 2, 3, PLACES): starts, then frequencies, of the values in the window, ascending: of the first
    // coordinate; of the next six, for either parity in turn; of the last, for each residue modulo 4 in turn.
    const uint16_t* ranges;
    size_t classes;
};

// All codewords (latq/kernels/codebook.py); all starts have an end after the last.
struct Codebook {
    static constexpr size_t PARTS = 512, SETS = 64;  // at most so many pairs or halves, groups or shells
    const int32_t *pair_values, *left_pairs, *right_pairs, *members, *group_starts, *entries, *shell_starts;
    const float* norms;
    size_t pairs, lefts, rights, groups, shells;
};
// A nested-lattice code (latq/kernels/search.py, NestedCode) and the windows of its scales.
constexpr size_t MAX_SCALES = 16;
struct NestedCode {
    const Codebook* book;  // null unless all codewords are compared
    int32_t q;
    float q_inverse, halves[8];  // half the offset, -0 for 0: no difference of something and that is -0
    size_t count;
    int32_t scales[MAX_SCALES];
    float steps[MAX_SCALES], inverses[MAX_SCALES];
    int32_t first[MAX_SCALES], final[MAX_SCALES];
};

// Blocks of a slice of a search (search.SLICE), rows of charges that a choice of scales is made for at once, and scratch
// for one slice of it.
constexpr size_t SLICE = 1 << 13;
constexpr size_t PRICES = 2;
constexpr size_t CHOICE_SIZE = 64 * SLICE;
constexpr uint32_t PLACES = 256;
constexpr size_t MAX_LANES = 32;

// What became of a stream: it was damaged, or a number is beyond what it was to be decoded to.
enum class Found { SOUND, BEYOND, DAMAGED };

// A stream of start states and ``words`` words, what comes with it, and where its blocks go. Streams that are decoded at
// a time are as many.
struct PointStream {
    const uint8_t* stream;
    size_t words;
    const uint8_t* escapes;
    size_t escape_count;
    const uint8_t* low;
    size_t low_size;
    const int32_t* classes;
    size_t blocks, lanes;
    void* points;
    Found found;
};
constexpr size_t POINT_STREAMS = 2;

using DecodePoints = void(PointStream* streams, size_t count, const PointModel& model);

// Of paths.py: CAP, FAR, STRETCH; rows of a stretch with those that are looked ahead.
constexpr int PATH_CAP = 2047, PATH_FAR = 1 << 14;
constexpr size_t PATH_STRETCH = 768, PATH_ROWS = PATH_STRETCH + 64;
// The trellises that paths are sought in.
struct Trellis {
    uint32_t h0, h1;
};
constexpr Trellis TRELLISES[] = {{013, 04}, {045, 010}, {0515, 0362}};
constexpr size_t TRELLIS_COUNT = sizeof TRELLISES / sizeof *TRELLISES;
constexpr size_t path_blocks(size_t blocks, size_t lanes) { return (blocks + lanes - 1) / lanes; }
// Words of scratch for a choice of paths; of the last row, vectors are read.
constexpr size_t residues_size(size_t length) { return (length + 15) / 16 * MAX_LANES; }
constexpr size_t paths_size(size_t length, uint32_t h0) { return residues_size(length) + PATH_ROWS * (h0 + 1) + 16; }
// Words before a stream that may be written.
constexpr size_t WORDS_SLACK = 16;

template <class T>
using Transpose = void(const T* from, size_t from_stride, T* to, size_t to_stride, size_t rows, size_t columns);

template <class T>
struct Rows {
    T (*peak)(const T* x, size_t count);
    void (*sums)(const T* x, size_t rows, size_t n, double by, double* sums, double* scratch);
    void (*squares)(const T* x, size_t rows, size_t n, double by, const float* means, double* sums, double* scratch);
    void (*divided)(const T* x, size_t rows, size_t n, double by, const float* means, const double* inverses,
                    float* out);
};

constexpr size_t scratch_size(size_t n) { return n / 2 + 8; }

struct Float16 {
    uint16_t bits;
};
struct BFloat16 {
    uint16_t bits;
};

template <class T>
using Restored = void(const float* x, size_t rows, size_t n, const double* scales, const double* means, double by,
                      T* out);

template <class T>
using Moments = void(const float* u, const T* v, size_t rows, size_t n, size_t k, double* sums, double* scratch);

template <class Digit, class Out>
using Codewords = void(const Digit* digits, const uint8_t* index, const Out* scales, size_t blocks, int32_t q,
                       const int32_t* offset, Out* out);

template <class T>
using Narrowed = bool(const float* x, size_t rows, size_t n, T* out, double* squares);

// Rows of integers, ``stride`` apart, and the gain of each.
template <class T>
struct Factor {
    const T* x;
    size_t count, stride;
    const double* gains;

    // Entries from one row to the last.
    size_t after(size_t row) const { return (count - 1 - row) * stride; }

    // Up to ``most`` of them.
    Factor from(size_t first, size_t most) const {
        return {x + first * stride, count - first < most ? count - first : most, stride, gains + first};
    }
};

template <class T>
struct Target {
    T* at;
    size_t row_stride, column_stride;
};

// Rows that are laid out anew at a time: a block of one factor, a panel of the other.
constexpr size_t PRODUCTS_BLOCK = 256, MOST_OF_PANEL = 32;
constexpr size_t products_size(size_t n) { return (PRODUCTS_BLOCK + MOST_OF_PANEL) * ((n + 1) / 2) * sizeof(int32_t); }

// products.add_products to doubles and put_products to floats, of rows of n entries; ``scratch`` is products_size(n)
// bytes.
template <class T, class Out>
using Multiply = void(const Factor<T>& a, const Factor<T>& b, size_t n, const Target<Out>& out, void* scratch);

struct Products {
    Multiply<int8_t, double>* add8;
    Multiply<int16_t, double>* add16;
    Multiply<int8_t, float>* put8;
    Multiply<int16_t, float>* put16;
};

// matrices.subtract_product; strides are from row to row.
template <class T>
using SubtractProduct = void(T* c, size_t c_stride, const T* a, size_t a_stride, const T* b, size_t b_stride,
                             size_t rows, size_t columns, size_t depth);

// Blocks are 8 numbers in a row: (blocks, 8), the transpose of what the definitions take. ``classes`` has one entry for
// each block.
struct Kernels {
    const char* name;

    // reference.fwht of each row, in place; length is a power of two.
    void (*fwht)(float* x, size_t rows, size_t length);
    // reference.rotate and unrotate of each row of x into y. Signs are bits per stage, 1 for -1, each stage
    // in whole bytes.
    void (*rotate)(const float* x, float* y, size_t rows, size_t n, const uint8_t* signs);
    void (*unrotate)(const float* x, float* y, size_t rows, size_t n, const uint8_t* signs);

    // reference.nearest_point of x * inverse.
    void (*nearest_points)(const float* x, int32_t* points, size_t blocks, float inverse);
    // points.choose_points under a model; ``weights`` is scratch, 3 PLACES for each class. Returns the cost.
    int64_t (*choose_points)(const float* x, const int32_t* classes, size_t blocks, float inverse, float worth,
                             float shrink, const PointModel& model, int32_t* points, float* weights);
    // points.point_costs.
    void (*point_costs)(const int32_t* points, const int32_t* classes, size_t blocks, const PointModel& model,
                        int64_t* costs);
    // points.encode_points; see coding.hpp for the sizes of the outputs.
    void (*encode_points)(const int32_t* points, const int32_t* classes, size_t blocks, size_t lanes,
                          const PointModel& model, uint32_t* states, uint16_t* words, int32_t* escapes, uint8_t* low,
                          size_t low_size, size_t found[2]);
    // points.decode_points of several streams to floats, int8 and int16.
    DecodePoints* decode_points_float;
    DecodePoints* decode_points8;
    DecodePoints* decode_points16;

    // paths.choose_paths in TRELLISES[trellis]; ``inverse`` is 2 over the step, ``weights`` those of k and k + 1 in
    // the halves of entry k + 128 of a class, null without a model. ``scratch`` is paths_size words.
    int64_t (*choose_paths)(const float* x, const int32_t* classes, size_t blocks, size_t lanes, float inverse,
                            const int32_t* weights, const PointModel* model, size_t trellis, int32_t* values,
                            uint32_t* scratch);
    // paths.path_costs, encode_paths and decode_paths, as those of points.
    void (*path_costs)(const int32_t* values, const int32_t* classes, size_t blocks, const PointModel& model,
                       int64_t* costs);
    void (*encode_paths)(const int32_t* values, const int32_t* classes, size_t blocks, size_t lanes,
                         const PointModel& model, uint32_t* states, uint16_t* words, int32_t* escapes, uint8_t* low,
                         size_t low_size, size_t found[2]);
    bool (*decode_paths)(const uint8_t* stream, size_t words, const uint8_t* escapes, size_t escape_count,
                         const uint8_t* low, size_t low_size, const int32_t* classes, size_t blocks, size_t lanes,
                         const PointModel& model, uint32_t h0, uint32_t h1, float* values);

    // Streams of symbols below 256 by one table of precision 12 or 14 ([0] and [1]): slots (2^p + 3 bytes), infos (256).
    bool (*decode_symbols[2])(const uint8_t* stream, size_t words, size_t lanes, const uint8_t* slots,
                              const uint32_t* infos, uint8_t* symbols, size_t count);
    size_t (*encode_symbols[2])(const uint8_t* symbols, size_t count, size_t lanes, const uint32_t* infos,
                                uint32_t* states, uint16_t* words);

    // reference.pack_bits and unpack_bits of values of 1, 2 and 4 bytes.
    void (*unpack8)(const uint8_t* data, size_t size, int width, size_t count, uint8_t* values);
    void (*unpack16)(const uint8_t* data, size_t size, int width, size_t count, uint16_t* values);
    void (*unpack32)(const uint8_t* data, size_t size, int width, size_t count, uint32_t* values);
    void (*pack8)(const uint8_t* values, int width, size_t count, uint8_t* data);
    void (*pack16)(const uint16_t* values, int width, size_t count, uint8_t* data);
    void (*pack32)(const uint32_t* values, int width, size_t count, uint8_t* data);

    // reference.split_digits and join_digits: radix 3, 5 and 7, so many digits in each word as the format has.
    void (*split_digits[3])(const uint32_t* words, size_t count, uint8_t* digits);
    void (*join_digits[3])(const uint8_t* digits, size_t count, uint32_t* words);
    // reference.unpack_digits to 1 and 2 bytes; false if a word is out of range.
    bool (*unpack_digits8)(const uint8_t* data, size_t size, int radix, int low_bits, size_t count, uint8_t* digits);
    bool (*unpack_digits16)(const uint8_t* data, size_t size, int radix, int low_bits, size_t count, uint16_t* digits);

    // reference.scaled_codewords of digits in 1 and 2 bytes, to floats and to int16; |offset| <= 4, q <= 4096, and
    // ``scales`` has MAX_SCALES entries.
    Codewords<uint8_t, float>* codewords8;
    Codewords<uint16_t, float>* codewords16;
    Codewords<uint8_t, int16_t>* short_codewords8;
    Codewords<uint16_t, int16_t>* short_codewords16;

    // search.estimated_errors, cheapest_scales (for one row of charges), guess_scales, choose_scales and quantize;
    // ``scratch`` is CHOICE_SIZE bytes, aligned to 64.
    void (*estimated_errors)(const float* x, size_t blocks, const NestedCode& code, float* errors);
    void (*cheapest_scales)(const float* errors, size_t scales, size_t blocks, const float* charges, uint8_t* index);
    void (*guess_scales)(const float* x, size_t blocks, const NestedCode& code, const float* charges, uint8_t* index);
    void (*choose_scales)(const float* x, size_t blocks, const NestedCode& code, const float* charges, uint8_t* index,
                          void* scratch);
    void (*quantize8)(const float* x, const uint8_t* index, size_t blocks, const NestedCode& code, uint8_t* digits,
                      float* integers, float* errors, void* scratch);
    void (*quantize16)(const float* x, const uint8_t* index, size_t blocks, const NestedCode& code, uint16_t* digits,
                       float* integers, float* errors, void* scratch);

    // reference.count_symbols, of symbols that are all below 256; adds to ``counts`` (256).
    void (*count_symbols)(const uint8_t* symbols, size_t count, int64_t* counts);

    // latq/kernels/vectors.py, for rows in float and in double; ``by`` is 2^-exponent or 2^exponent, ``scratch`` holds
    // scratch_size(n) numbers for each sum.
    Rows<float> rows32;
    Rows<double> rows64;
    Moments<float>* moments_float;
    Moments<int32_t>* moments_int;
    Restored<float>* restored32;
    Restored<double>* restored64;
    Restored<Float16>* restored_float16;
    Restored<BFloat16>* restored_bfloat16;
    void (*widen_float16)(const Float16* x, size_t count, float* out);
    void (*widen_bfloat16)(const BFloat16* x, size_t count, float* out);

    Narrowed<int8_t>* narrowed8;
    Narrowed<int16_t>* narrowed16;
    // products.squared_norms.
    void (*squared_norms8)(const int8_t* x, size_t rows, size_t n, double* squares);
    void (*squared_norms16)(const int16_t* x, size_t rows, size_t n, double* squares);
    // products.summed_energies.
    void (*summed_energies)(const uint8_t* index, size_t rows, size_t blocks, const int64_t* energies, double* sums);
    Products products;

    SubtractProduct<float>* subtract_product32;
    SubtractProduct<double>* subtract_product64;

    // to[column][row] = from[row][column]; strides in entries.
    Transpose<uint8_t>* transpose8;
    Transpose<uint16_t>* transpose16;
    Transpose<uint32_t>* transpose32;
    Transpose<uint64_t>* transpose64;
};

}  // namespace latq
