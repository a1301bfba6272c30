// What every instruction set provides. Sizes are checked by the caller (module.cpp); nothing here allocates or throws.
#pragma once

#include <cstddef>
#include <cstdint>

namespace latq {

// Frequency tables of lattice points (latq/kernels/points.py, PointModel), indexed by coded value + 128; entry 0 stands
// for the escape and for every value that the table does not have.
struct PointModel {
    const uint8_t* slots;      // (tables, 2^14): coded value + 128 of each slot, 0 for the escape
    const uint32_t* infos;     // (tables, 256): frequency | start << 16
    const int32_t* costs;      // (tables, 256): units of 2^-16 bit, the bits of escaped values included
    const int32_t* first;      // (classes): first table of the class
    const int32_t* shifts;     // (classes)
    size_t classes;
};

struct Kernels {
    const char* name;

    // reference.fwht of each row, in place; length is a power of two.
    void (*fwht)(float* x, size_t rows, size_t length);
    // reference.rotate and unrotate of each row of x into y. Signs are masks (0 or 2^31) per stage, (4, window).
    void (*rotate)(const float* x, float* y, size_t rows, size_t n, const uint32_t* signs);
    void (*unrotate)(const float* x, float* y, size_t rows, size_t n, const uint32_t* signs);
};

}  // namespace latq
