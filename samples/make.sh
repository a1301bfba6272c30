#!/usr/bin/env bash
# Encode the samples and list the checksums of everything here.
set -euo pipefail
cd "$(dirname "$0")"
latq encode glove_2000x50.npy --axis 1 --bits 4 -o glove_2000x50.latq -f
latq encode air_temperature.h5 --bits 5 --coding fixed -o air_temperature.latq -f
latq encode minilm_layer0.safetensors --bits 4 -o minilm_layer0.latq -f
sha256sum -- *.npy *.h5 *.safetensors *.latq > SHA256SUMS
