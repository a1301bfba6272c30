#!/usr/bin/env bash
# The harness of the native decoders with AddressSanitizer and UndefinedBehaviorSanitizer: build_native.sh [OUTPUT]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
kernels=$here/../../latq/kernels/native
output=${1:-native_fuzzer}
clang=${CXX:-clang++}
objects=$(mktemp -d)
trap 'rm -rf "$objects"' EXIT
flags="-std=c++20 -O2 -g1 -ffp-contract=off -fno-exceptions -fno-rtti -w -fsanitize=fuzzer-no-link,address,undefined
    -fno-sanitize-recover=undefined -I$kernels"
compile() { # NAME FLAGS...
    # shellcheck disable=SC2086
    $clang $flags -DLATQ_TARGET="$1" "${@:2}" -c "$kernels/kernels.cpp" -o "$objects/$1.o"
}
compile baseline
compile avx2 -mavx2 -mbmi2
compile avx512 -mavx2 -mbmi2 -mavx512f -mavx512bw -mavx512dq -mavx512vl -mprefer-vector-width=512
# shellcheck disable=SC2086
$clang $flags -fexceptions "$here/native.cpp" "$objects"/*.o -fsanitize=fuzzer,address,undefined -o "$output"
