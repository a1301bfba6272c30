/* Runs the reader of spec/reference over files, in one process, for test_c_reader.py.
 *
 *     check decode FILE...     class, place and every tensor of each file, for a program to read
 *     check prefixes FILE...   every proper prefix must be truncated, from 8 bytes on
 *     check flips FILE...      bits flipped under checksums made right again: whatever comes of it, no sanitizer minds
 *
 * Files lie in blocks of exactly their size, so that a sanitizer sees every byte read beyond them. */
#define LATQ_MIN_NO_MAIN
#include "../spec/reference/latq_min.c"

static uint8_t *copy_of(const uint8_t *data, uint64_t size) {
    uint8_t *copy = malloc(size ? size : 1);
    if (size) memcpy(copy, data, size);
    return copy;
}

/* Opens a file and decodes all of its tensors; with a stream, their bytes go there. */
static latq_class try_file(const uint8_t *data, uint64_t size, uint64_t *place, FILE *out) {
    latq f;
    latq_class class = latq_open(&f, data, size);
    for (uint32_t i = 0; class == SOUND && i < f.tensor_count; i++) {
        uint64_t bytes = latq_bytes(&f, i);
        if (bytes > 1 << 22) continue;
        uint8_t *decoded = malloc(bytes ? bytes : 1);
        class = latq_decode(&f, i, decoded);
        if (class == SOUND && out) {
            fprintf(out, "tensor %llu\n", (unsigned long long)bytes);
            fwrite(decoded, 1, bytes, out);
        }
        free(decoded);
    }
    *place = f.place;
    latq_close(&f);
    return class;
}

static int check_prefixes(const uint8_t *data, uint64_t size) {
    for (uint64_t length = 0; length < size; length++) {
        uint64_t place;
        uint8_t *prefix = copy_of(data, length);
        latq_class class = try_file(prefix, length, &place, NULL);
        free(prefix);
        if (class != (length < 8 ? CORRUPT : TRUNCATED)) return 1;
    }
    return 0;
}

static void put_crc(uint8_t *data, uint64_t from, uint64_t size, uint64_t at) {
    put_bytes(data + at, crc32c(data + from, size), 4);
}

/* Makes all checksums of a file right that is as sound as the one that ``f`` was opened from. */
static void seal(const latq *f, uint8_t *data, uint64_t text_at, uint64_t index_at, uint64_t footer) {
    for (uint32_t i = 0; i < f->chunk_count; i++) {
        uint64_t at = u64_at(f->index + RECORD * (size_t)i), len = u64_at(f->index + RECORD * (size_t)i + 8);
        put_crc(data, at + FRAME, len, at + 24);
        put_crc(data, at, 28, at + 28);
        memcpy(data + index_at + FRAME + RECORD * (size_t)i + 32, data + at + 24, 4);
    }
    uint64_t places[2] = {index_at, text_at}, lengths[2] = {u64_at(f->data + footer + 8), u64_at(f->data + footer + 24)};
    for (int i = 0; i < 2; i++) {
        put_crc(data, places[i] + FRAME, lengths[i], places[i] + 24);
        put_crc(data, places[i], 28, places[i] + 28);
        memcpy(data + footer + 32 + 4 * i, data + places[i] + 24, 4);
    }
    put_crc(data, 0, 60, 60);
    put_crc(data, footer, 116, footer + 116);
}

static void flip(const uint8_t *data, uint64_t size) {
    latq f;
    if (latq_open(&f, data, size) == SOUND) {
        uint64_t footer = size - FOOTER, index_at = u64_at(data + footer), text_at = u64_at(data + footer + 16), place;
        for (uint64_t i = 8; i < size; i++) {
            uint8_t *changed = copy_of(data, size);
            changed[i] ^= (uint8_t)(i % 3 ? 1u << i % 8 : 0xFFu);
            seal(&f, changed, text_at, index_at, footer);
            try_file(changed, size, &place, NULL);
            free(changed);
        }
    }
    latq_close(&f);
}

int main(int count, char **arguments) {
    for (int i = 2; i < count; i++) {
        FILE *file = fopen(arguments[i], "rb");
        uint8_t *room = malloc(1 << 20);
        uint64_t size = fread(room, 1, 1 << 20, file), place;
        uint8_t *data = copy_of(room, size);
        free(room);
        fclose(file);
        if (arguments[1][0] == 'd') {
            latq_class class = try_file(data, size, &place, stdout);
            printf("%s %llu\n", CLASS_NAMES[class], (unsigned long long)place);
        } else if (arguments[1][0] == 'f') {
            flip(data, size);
        } else if (check_prefixes(data, size)) {
            return fprintf(stderr, "a prefix of %s\n", arguments[i]), 1;
        }
        free(data);
    }
    return 0;
}
