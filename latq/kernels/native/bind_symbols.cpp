// Sections of symbols (rANS), bit strings and digits.
#include <tuple>

#include "binding.hpp"

namespace latq {
namespace {

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

template <class T, auto KERNEL>
bool unpack_digits(Octets data, int radix, int low_bits, Array<T, 1> digits) {
    require(radix == 1 || radix == 3 || radix == 5 || radix == 7, "digits: unknown radix");
    require(low_bits >= 0 && radix << low_bits <= 1 << (8 * sizeof(T)) && low_bits <= 12, "digits: q is out of range");
    const size_t count = digits.shape(0);
    const size_t per_word = radix == 3 ? 5 : radix == 5 ? 3 : 11, width = radix == 3 ? 8 : radix == 5 ? 7 : 31;
    const size_t high = radix == 1 ? 0 : ((count + per_word - 1) / per_word * width + 7) / 8;
    require(data.shape(0) >= (count * low_bits + 7) / 8 + high, "digits: too few bytes");
    nb::gil_scoped_release unlocked;
    return (active->*KERNEL)(data.data(), data.shape(0), radix, low_bits, count, digits.data());
}

}  // namespace

void bind_symbols(nb::module_& m) {
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
    add(m, "unpack_digits", &unpack_digits<uint8_t, &Kernels::unpack_digits8>);
    add(m, "unpack_digits", &unpack_digits<uint16_t, &Kernels::unpack_digits16>);
}

}  // namespace latq
