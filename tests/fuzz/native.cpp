// libFuzzer harness of the native decoders, with the checks that bind_*.cpp make before it calls them. See README.md.
//
// An input is a header (struct Header) and the bytes of the sections. Tables come from the file that LATQ_FUZZ_MODELS
// names, written by corpus.py: they are made by Python code, which checks what it makes them from.
#include "kernels.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

namespace latq {
#define LATQ_KERNELS_OF(target) \
    namespace target {          \
    extern const Kernels kernels; \
    }
LATQ_KERNELS_OF(baseline)
LATQ_KERNELS_OF(avx2)
LATQ_KERNELS_OF(avx512)
}  // namespace latq

using namespace latq;

namespace {

struct Header {
    uint8_t decoder, isa, model, lanes_log2;
    uint16_t count;    // of blocks or values
    uint16_t first;    // bytes of the first section
    uint16_t classes;  // seed of the classes of the blocks
    uint16_t h0, h1;   // parity checks of a trellis
    uint8_t width, unused;
};

template <class T>
struct Table : std::vector<T> {
    void read(FILE* file, size_t size) {
        this->resize(size);
        if (size && fread(this->data(), sizeof(T), size, file) != size) abort();
    }
};

struct Model {
    Table<uint8_t> slots;
    Table<uint32_t> of_values, infos;
    Table<int32_t> costs, first, shifts, origin, windows;
    Table<uint16_t> ranges;
    PointModel model;

    Model(FILE* file, size_t tables, size_t classes) {
        slots.read(file, (tables << 14) + 3);
        of_values.read(file, tables * 256);
        infos.read(file, classes * 3 * PLACES);
        costs.read(file, classes * 3 * PLACES);
        first.read(file, classes);
        shifts.read(file, classes);
        origin.read(file, classes);
        windows.read(file, classes);
        ranges.read(file, classes * 6 * PLACES);
        model = {slots.data(),  of_values.data(), infos.data(),   costs.data(),  first.data(),
                 shifts.data(), origin.data(),    windows.data(), ranges.data(), classes};
    }
};

std::vector<std::unique_ptr<Model>> models;

// A copy that ends where the section ends, so that a read beyond it is seen.
struct Section {
    std::unique_ptr<uint8_t[]> bytes;
    size_t size;

    Section(const uint8_t* from, size_t count) : bytes(new uint8_t[count]), size(count) {
        if (count) memcpy(bytes.get(), from, count);
    }
};

void decode_blocks(const Kernels& kernels, const Header& header, const Section& first, const Section& rest) {
    const size_t blocks = header.count % 4096 + 1, lanes = (size_t)1 << header.lanes_log2 % 6;
    if (lanes > 1 && lanes > blocks / lanes) return;
    const PointModel& model = models[header.model % models.size()]->model;
    std::vector<int32_t> classes(blocks);
    uint32_t seed = header.classes;
    for (int32_t& c : classes) c = (int32_t)((seed = seed * 1103515245 + 12345) >> 16) % (int32_t)model.classes;
    size_t low_size = 0;
    for (const int32_t c : classes) low_size += (size_t)model.shifts[c];
    if (rest.size < low_size || (rest.size - low_size) % 4 || first.size < 4 * lanes || (first.size - 4 * lanes) % 2) return;
    const size_t escapes = (rest.size - low_size) / 4, words = (first.size - 4 * lanes) / 2;
    struct alignas(64) Line {
        float values[16];
    };
    const uint8_t* const low = rest.bytes.get() + 4 * escapes;
    if (header.decoder % 5 == 0) {
        PointStream one{first.bytes.get(), words, rest.bytes.get(), escapes, low, low_size, classes.data(), blocks, lanes,
                        nullptr, Found::DAMAGED};
        for (const auto& [size, kernel] : {std::pair{sizeof(float), kernels.decode_points_float},
                                           {sizeof(int8_t), kernels.decode_points8},
                                           {sizeof(int16_t), kernels.decode_points16}}) {
            // The same stream more than once, each into memory of just its size.
            std::vector<std::vector<uint8_t>> points(POINT_STREAMS + 1, std::vector<uint8_t>(8 * blocks * size));
            std::vector<PointStream> streams(points.size(), one);
            for (size_t i = 0; i < points.size(); ++i) streams[i].points = points[i].data();
            kernel(streams.data(), streams.size(), model);
        }
    } else {
        std::vector<Line> lines(blocks / 2 + 1);
        float* const values = lines[0].values;
        const uint32_t most = 2 * 4096 - 1;
        kernels.decode_paths(first.bytes.get(), words, rest.bytes.get(), escapes, low, low_size, classes.data(), blocks,
                             lanes, model, header.h0 & most, header.h1 & most, values);
    }
}

// Frequencies of 16 bits each, made to sum to 2^precision, then the stream.
void decode_symbols(const Kernels& kernels, const Header& header, const Section& first, const Section& rest) {
    const size_t alphabet = header.width + 1, lanes = (size_t)1 << header.lanes_log2 % 6, precision = header.model % 2;
    const uint32_t total = precision ? 1 << 14 : 1 << 12;
    if (first.size < 2 * alphabet || alphabet > 256 || rest.size < 4 * lanes || rest.size % 2) return;
    std::vector<uint32_t> infos(256);
    std::vector<uint8_t> slots(total + 3);
    uint32_t start = 0;
    for (size_t i = 0; i < alphabet; ++i) {
        uint16_t given;
        memcpy(&given, first.bytes.get() + 2 * i, 2);
        const uint32_t frequency = i + 1 == alphabet ? total - start : std::min<uint32_t>(given, total - start);
        if (frequency >= total) return;  // reference.py decodes these without the kernel
        infos[i] = frequency | start << 16;
        std::fill_n(slots.begin() + start, frequency, (uint8_t)i);
        start += frequency;
    }
    std::vector<uint8_t> symbols(header.count);
    kernels.decode_symbols[precision](rest.bytes.get(), (rest.size - 4 * lanes) / 2, lanes, slots.data(), infos.data(),
                                      symbols.data(), symbols.size());
}

void unpack(const Kernels& kernels, const Header& header, const Section& first) {
    const size_t width = header.width % 32 + 1, count = header.count;
    if (first.size < (count * width + 7) / 8) return;
    if (width <= 8) kernels.unpack8(first.bytes.get(), first.size, (int)width, count, std::vector<uint8_t>(count).data());
    if (width <= 16) kernels.unpack16(first.bytes.get(), first.size, (int)width, count, std::vector<uint16_t>(count).data());
    kernels.unpack32(first.bytes.get(), first.size, (int)width, count, std::vector<uint32_t>(count).data());
}

void split(const Kernels& kernels, const Header& header, const Section& first) {
    constexpr size_t per_word[] = {5, 3, 11};
    const size_t which = header.width % 3, words = first.size / 4, count = std::min<size_t>(header.count, words * per_word[which]);
    std::vector<uint32_t> from(words);
    if (words) memcpy(from.data(), first.bytes.get(), 4 * words);
    std::vector<uint8_t> digits(count);
    kernels.split_digits[which](from.data(), count, digits.data());
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
    const char* const path = getenv("LATQ_FUZZ_MODELS");
    FILE* const file = fopen(path ? path : "models.bin", "rb");
    if (!file) {
        fputs("LATQ_FUZZ_MODELS must name the file that corpus.py writes\n", stderr);
        exit(1);
    }
    uint32_t sizes[2];
    while (fread(sizes, sizeof sizes, 1, file)) models.push_back(std::make_unique<Model>(file, sizes[0], sizes[1]));
    fclose(file);
    return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    Header header;
    if (size < sizeof header) return 0;
    memcpy(&header, data, sizeof header);
    data += sizeof header, size -= sizeof header;
    const size_t split_at = std::min<size_t>(header.first, size);
    const Section first(data, split_at), rest(data + split_at, size - split_at);
    static const Kernels* const sets[] = {&baseline::kernels, &avx2::kernels, &avx512::kernels};
    static const size_t known = __builtin_cpu_supports("avx512vl") ? 3 : __builtin_cpu_supports("avx2") ? 2 : 1;
    const Kernels& kernels = *sets[header.isa % known];
    switch (header.decoder % 5) {
        case 0:
        case 1: decode_blocks(kernels, header, first, rest); break;
        case 2: decode_symbols(kernels, header, first, rest); break;
        case 3: unpack(kernels, header, first); break;
        default: split(kernels, header, first);
    }
    return 0;
}
