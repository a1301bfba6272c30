// Compiled once per instruction set, into the namespace LATQ_TARGET.
#include "kernels.hpp"
#include "rotation.hpp"

#define LATQ_NAME_OF(target) #target
#define LATQ_NAME(target) LATQ_NAME_OF(target)

namespace latq::LATQ_TARGET {

extern const Kernels kernels;
const Kernels kernels = {
    .name = LATQ_NAME(LATQ_TARGET),
    .fwht = fwht,
    .rotate = rotate,
    .unrotate = unrotate,
};

}  // namespace latq::LATQ_TARGET
