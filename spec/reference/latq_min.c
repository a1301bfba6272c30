/* A small reader of latq files in C99, made from the specification alone; numbers are sections of it. Public domain
 * (CC0 1.0). Nothing but the C library is needed; chunks with coding zstd take -DLATQ_ZSTD and libzstd.
 *
 *     cc -std=c99 -O2 -ffp-contract=off -o latq_min latq_min.c -lm           [-DLATQ_ZSTD ... -lzstd]
 *     latq_min list FILE                 a line for every tensor: its type, its shape, its name
 *     latq_min decode FILE NAME > OUT    its entries in C order, little-endian
 *
 * Exit codes: those of section 11; 1 where reading, writing or memory fails, 2 for wrong arguments. With
 * -DLATQ_MIN_NO_MAIN the file can be included: latq_open, latq_decode and latq_close are the interface then.
 *
 * A file may be hostile: every size is compared with the file, the limits and the others before it is used, and every
 * error ends in fail(). Memory is taken from one list of blocks, so that all of it is given back from there. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef LATQ_ZSTD
#include <zstd.h>
#endif
#if FLT_EVAL_METHOD != 0
#error "section 1 asks for operations of the stated width"
#endif
#ifndef LATQ_MAX_DECODED
#define LATQ_MAX_DECODED ((uint64_t)1 << 32) /* bytes of one tensor: a limit of this reader's own */
#endif
#define MAX_NODES ((uint32_t)1 << 21) /* values in the metadata: likewise */

/* --- errors and memory ------------------------------------------------------------------------------------------- */

typedef enum { SOUND, FAILED, CORRUPT, TRUNCATED, UNSUPPORTED, LIMIT } latq_class;
static const char *const CLASS_NAMES[] = {"sound", "failed", "corrupt", "truncated", "unsupported", "limit"};
static const int EXIT_CODES[] = {0, 1, 3, 3, 4, 5};

typedef struct block {
    struct block *next;
} block;

typedef struct json json;
typedef struct codec codec;
typedef struct tensor tensor;

typedef struct {
    const uint8_t *data;
    uint64_t size, align;
    codec *codecs;
    tensor *tensors;
    uint32_t codec_count, tensor_count;
    const uint8_t *index; /* records of 40 bytes */
    uint32_t chunk_count;
    /* of the parser of the metadata */
    const char *text, *text_end;
    uint32_t nodes;
    /* where things stand */
    block *blocks;
    jmp_buf stop;
    latq_class class;
    uint64_t place; /* the structure that is being read: its offset */
    char message[120];
} latq;

static void fail(latq *f, latq_class class, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(f->message, sizeof f->message, format, arguments);
    va_end(arguments);
    f->class = class;
    longjmp(f->stop, 1);
}

static void need(latq *f, bool condition, const char *message) {
    if (!condition) fail(f, CORRUPT, "%s", message);
}

/* Zeroed memory that lives until release(). Callers have bounded count; size is that of a small type. */
static void *take(latq *f, uint64_t count, size_t size) {
    if (count > (SIZE_MAX - 64) / size) fail(f, FAILED, "out of memory");
    block *b = calloc(1, 16 + (size_t)count * size);
    if (b == NULL) fail(f, FAILED, "out of memory");
    b->next = f->blocks;
    f->blocks = b;
    return (char *)b + 16;
}

static void release(latq *f, block *until) {
    while (f->blocks != until) {
        block *b = f->blocks;
        f->blocks = b->next;
        free(b);
    }
}

/* --- 1 conventions ----------------------------------------------------------------------------------------------- */

static uint32_t u16_at(const uint8_t *p) { return p[0] | (uint32_t)p[1] << 8; }
static uint32_t u32_at(const uint8_t *p) { return u16_at(p) | u16_at(p + 2) << 16; }
static uint64_t u64_at(const uint8_t *p) { return u32_at(p) | (uint64_t)u32_at(p + 4) << 32; }
static int32_t as_i32(uint32_t x) { return x < 0x80000000u ? (int32_t)x : (int32_t)(x - 0x80000000u) + INT32_MIN; }
static int64_t i64_min(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t i64_max(int64_t a, int64_t b) { return a > b ? a : b; }
static uint64_t divide_up(uint64_t a, uint64_t b) { return a / b + (a % b != 0); }

/* floor(a / b) for b > 0 */
static int64_t floor_div(int64_t a, int64_t b) { return a / b - (a % b < 0); }
static int64_t floor_mod(int64_t a, int64_t b) { return a - b * floor_div(a, b); }

static float float_of(uint32_t bits) {
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

static uint32_t bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return bits;
}

static double half_of(uint32_t bits) {
    uint32_t exponent = bits >> 10 & 31, fraction = bits & 1023;
    double x = exponent == 31  ? (fraction ? NAN : INFINITY)
               : exponent == 0 ? ldexp(fraction, -24)
                               : ldexp(fraction + 1024, (int)exponent - 25);
    return bits & 0x8000 ? -x : x;
}

/* Value i of a bit string of values of so many bits, at most 31. */
static uint32_t bits_at(const uint8_t *data, uint64_t i, unsigned width) {
    uint64_t from = i * width, value = 0;
    for (unsigned k = 0; k < width; k++) value |= (uint64_t)(data[(from + k) >> 3] >> ((from + k) & 7) & 1) << k;
    return (uint32_t)value;
}

static uint32_t crc32c(const uint8_t *data, uint64_t size) {
    static uint32_t table[256];
    if (table[1] == 0)
        for (uint32_t i = 0; i < 256; i++) {
            uint32_t c = i;
            for (int k = 0; k < 8; k++) c = c >> 1 ^ (c & 1 ? 0x82F63B78u : 0);
            table[i] = c;
        }
    uint32_t crc = 0xFFFFFFFFu;
    while (size--) crc = table[(crc ^ *data++) & 255] ^ crc >> 8;
    return ~crc;
}

static bool all_zero(const uint8_t *data, uint64_t size) {
    while (size--)
        if (*data++) return false;
    return true;
}

/* --- 2 container ------------------------------------------------------------------------------------------------- */

enum { PREAMBLE = 64, FRAME = 32, RECORD = 40, FOOTER = 128, CHUNK_FRAME = 1, INDEX_FRAME = 2, METADATA_FRAME = 3 };
static const uint8_t SIGNATURE[8] = {0x8B, 0x4C, 0x41, 0x54, 0x51, 0x0D, 0x0A, 0x1A};

/* Of a frame whose payload_len is below 2^63. */
static uint64_t span_of(const latq *f, uint64_t payload_len) {
    return divide_up(FRAME + payload_len, f->align) * f->align;
}

/* Version, features, alignment, reserved bytes, in preamble and footer; returns the alignment. */
static uint64_t check_version(latq *f, const uint8_t *words, unsigned reserved) {
    uint32_t major = u16_at(words);
    if (major != 1) fail(f, UNSUPPORTED, "format version %u", (unsigned)major);
    if (u64_at(words + 4)) fail(f, UNSUPPORTED, "a feature that this reader does not know");
    need(f, all_zero(words + 21, reserved), "reserved bytes are not zero");
    need(f, words[20] >= 6 && words[20] <= 16, "alignment out of range");
    return (uint64_t)1 << words[20];
}

/* The payload of a frame within the file that must be as what points to it says. */
static const uint8_t *open_frame(latq *f, uint64_t offset, const uint32_t fields[4], uint64_t len, uint32_t crc) {
    const uint8_t *h = f->data + offset;
    f->place = offset;
    need(f, crc32c(h, 28) == u32_at(h + 28), "frame header: checksum");
    need(f, memcmp(h, "LQFR", 4) == 0, "frame header: magic");
    bool same = u16_at(h + 4) == fields[0] && u16_at(h + 6) == fields[1] && u32_at(h + 8) == fields[2] &&
                u32_at(h + 12) == fields[3] && u64_at(h + 16) == len && u32_at(h + 24) == crc;
    need(f, same, "frame header: not what points to it says");
    need(f, crc32c(h + FRAME, len) == crc, "payload: checksum");
    need(f, all_zero(h + FRAME + len, span_of(f, len) - FRAME - len), "bytes behind a payload");
    return h + FRAME;
}

static void check_preamble(latq *f) {
    const uint8_t *p = f->data;
    need(f, f->size >= 8 && memcmp(p, SIGNATURE, 8) == 0, "not a latq file");
    if (f->size < PREAMBLE) fail(f, TRUNCATED, "the preamble is incomplete");
    need(f, crc32c(p, 60) == u32_at(p + 60), "preamble: checksum");
    f->align = check_version(f, p + 8, 31);
}

/* 2.3: order, lengths, tiling of the bytes up to the metadata frame. */
static void check_index(latq *f, uint64_t index_len, uint64_t metadata_at) {
    need(f, index_len % RECORD == 0, "index: length");
    f->chunk_count = (uint32_t)(index_len / RECORD);
    uint64_t position = divide_up(PREAMBLE, f->align) * f->align, last = 0;
    for (uint32_t i = 0; i < f->chunk_count; i++)
        need(f, u16_at(f->index + RECORD * (size_t)i + 30) == 0 && u32_at(f->index + RECORD * (size_t)i + 36) == 0,
             "index: reserved fields are not zero");
    for (uint32_t i = 0; i < f->chunk_count; i++) {
        const uint8_t *r = f->index + RECORD * (size_t)i;
        uint64_t key = (uint64_t)u32_at(r + 16) << 32 | u32_at(r + 20);
        need(f, i == 0 || key > last, "index: order of the chunks");
        last = key;
    }
    for (uint32_t i = 0; i < f->chunk_count; i++)
        if (u64_at(f->index + RECORD * (size_t)i + 8) > (uint64_t)1 << 30) fail(f, LIMIT, "index: payload too long");
    for (uint32_t i = 0; i < f->chunk_count; i++) { /* at most 2^24 spans below 2^31: no sum overflows */
        const uint8_t *r = f->index + RECORD * (size_t)i;
        need(f, u64_at(r) == position, "index: the chunks do not tile the file");
        position += span_of(f, u64_at(r + 8));
    }
    need(f, position == metadata_at, "index: the chunks do not end where the metadata begins");
}

static void parse_metadata(latq *f, const uint8_t *text, uint64_t len);
static void check_chunk_list(latq *f);

static void open_file(latq *f) {
    check_preamble(f);
    f->place = f->size < FOOTER ? 0 : f->size - FOOTER;
    const uint8_t *footer = f->data + f->place;
    bool closed = f->size >= FOOTER;
    for (int i = 0; closed && i < 8; i++) closed = footer[120 + i] == SIGNATURE[7 - i];
    if (!closed) fail(f, TRUNCATED, "the end of the file is missing");
    need(f, crc32c(footer, 116) == u32_at(footer + 116), "footer: checksum");
    check_version(f, footer + 48, 47);
    uint64_t index_at = u64_at(footer), index_len = u64_at(footer + 8), text_at = u64_at(footer + 16);
    uint64_t text_len = u64_at(footer + 24), file_len = u64_at(footer + 40);
    if (file_len > f->size) fail(f, TRUNCATED, "the file is shorter than it says");
    need(f, file_len == f->size, "the file is longer than it says");
    need(f, memcmp(footer + 48, f->data + 8, 21) == 0, "footer: not the words of the preamble");
    /* Every number is at most the size before it enters a sum. */
    uint64_t end = f->size - FOOTER;
    need(f, text_at <= end && text_len <= end && index_at <= end && index_len <= end, "footer: beyond the file");
    need(f, text_at + span_of(f, text_len) == index_at, "footer: span of the metadata");
    need(f, index_at + span_of(f, index_len) == end, "footer: span of the index");
    if (text_len > (uint64_t)1 << 24) fail(f, LIMIT, "metadata too long");
    if (index_len > RECORD * ((uint64_t)1 << 24)) fail(f, LIMIT, "too many chunks");
    static const uint32_t METADATA[4] = {METADATA_FRAME, 0, 0, 0}, INDEX[4] = {INDEX_FRAME, 0, 0, 0};
    const uint8_t *text = open_frame(f, text_at, METADATA, text_len, u32_at(footer + 36));
    f->index = open_frame(f, index_at, INDEX, index_len, u32_at(footer + 32));
    check_index(f, index_len, text_at);
    f->place = 0;
    need(f, all_zero(f->data + PREAMBLE, divide_up(PREAMBLE, f->align) * f->align - PREAMBLE),
         "bytes behind the preamble");
    f->place = text_at;
    parse_metadata(f, text, text_len);
    f->place = index_at;
    check_chunk_list(f);
}

/* --- 3.1 JSON ---------------------------------------------------------------------------------------------------- */

enum json_kind { JSON_NULL, JSON_BOOLEAN, JSON_INTEGER, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };
struct json {
    enum json_kind kind;
    uint32_t count;        /* bytes of a string, members of the others */
    const char *string;    /* decoded; may hold zeros */
    double number;         /* also of an integer; of a boolean 0 or 1 */
    int64_t integer;       /* of an integer within 64 bits */
    bool huge;             /* an integer beyond that */
    const json *first, *next, *key; /* members in their order; of an object each has a key */
};

static bool is_utf8(const uint8_t *p, uint64_t size) {
    for (uint64_t i = 0; i < size;) {
        uint32_t c = p[i], more = c < 0x80 ? 0 : c >= 0xC2 && c < 0xE0 ? 1 : c >= 0xE0 && c < 0xF0 ? 2 : 3;
        if (more == 3 && (c < 0xF0 || c > 0xF4)) return false;
        if (size - i <= more) return false;
        for (uint32_t k = 1; k <= more; k++)
            if ((p[i + k] & 0xC0) != 0x80) return false;
        uint32_t second = more ? p[i + 1] : 0x80;
        if ((c == 0xE0 && second < 0xA0) || (c == 0xED && second > 0x9F)) return false; /* overlong; surrogates */
        if ((c == 0xF0 && second < 0x90) || (c == 0xF4 && second > 0x8F)) return false; /* overlong; too large */
        i += more + 1;
    }
    return true;
}

static char peek(latq *f) { return f->text < f->text_end ? *f->text : 0; }

static void skip_space(latq *f) {
    while (peek(f) == ' ' || peek(f) == '\t' || peek(f) == '\n' || peek(f) == '\r') f->text++;
}

static void expect(latq *f, const char *word) {
    size_t length = strlen(word);
    need(f, (size_t)(f->text_end - f->text) >= length && memcmp(f->text, word, length) == 0, "metadata: JSON");
    f->text += length;
}

static json *new_node(latq *f, enum json_kind kind) {
    if (f->nodes++ == MAX_NODES) fail(f, LIMIT, "too many values in the metadata");
    json *node = take(f, 1, sizeof *node);
    node->kind = kind;
    return node;
}

static uint32_t hex4(latq *f) {
    uint32_t value = 0;
    for (int i = 0; i < 4; i++) {
        char c = peek(f);
        int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
        need(f, digit >= 0, "metadata: escape in a string");
        value = 16 * value + (uint32_t)digit;
        f->text++;
    }
    return value;
}

/* The bytes that an escape stands for, behind its backslash; at most 4, and no more than it has itself. */
static size_t unescape(latq *f, char *out) {
    static const char FROM[] = "\"\\/bfnrt", TO[] = "\"\\/\b\f\n\r\t";
    char c = peek(f);
    f->text++;
    if (c != 'u') {
        const char *at = c ? strchr(FROM, c) : NULL;
        need(f, at != NULL, "metadata: escape in a string");
        *out = TO[at - FROM];
        return 1;
    }
    uint32_t code = hex4(f);
    need(f, code < 0xDC00 || code > 0xDFFF, "metadata: unpaired surrogate");
    if (code >= 0xD800 && code <= 0xDBFF) {
        expect(f, "\\u");
        uint32_t low = hex4(f);
        need(f, low >= 0xDC00 && low <= 0xDFFF, "metadata: unpaired surrogate");
        code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
    }
    size_t length = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    static const uint8_t LEAD[] = {0, 0, 0xC0, 0xE0, 0xF0};
    for (size_t i = length; i-- > 1; code >>= 6) out[i] = (char)(0x80 | (code & 0x3F));
    out[0] = (char)(LEAD[length] | code);
    return length;
}

static json *parse_string(latq *f) {
    json *node = new_node(f, JSON_STRING);
    expect(f, "\"");
    const char *end = f->text;
    while (end < f->text_end && *end != '"') end += *end == '\\' && end + 1 < f->text_end ? 2 : 1;
    need(f, end < f->text_end, "metadata: JSON");
    char *out = take(f, (uint64_t)(end - f->text) + 1, 1);
    node->string = out;
    while (f->text < end) {
        need(f, (uint8_t)*f->text >= 32, "metadata: control character in a string");
        if (*f->text == '\\') {
            f->text++;
            out += unescape(f, out);
        } else {
            *out++ = *f->text++;
        }
    }
    node->count = (uint32_t)(out - node->string);
    expect(f, "\"");
    return node;
}

static void skip_digits(latq *f) {
    need(f, peek(f) >= '0' && peek(f) <= '9', "metadata: number");
    while (peek(f) >= '0' && peek(f) <= '9') f->text++;
}

static json *parse_number(latq *f) {
    json *node = new_node(f, JSON_INTEGER);
    const char *start = f->text;
    bool negative = peek(f) == '-';
    if (negative) f->text++;
    if (peek(f) == '0')
        f->text++;
    else
        skip_digits(f);
    for (const char *p = start + negative; p < f->text; p++) {
        node->huge = node->huge || node->integer > (INT64_MAX - 9) / 10 + (*p <= '7');
        if (!node->huge) node->integer = 10 * node->integer + (*p - '0');
    }
    if (negative) node->integer = -node->integer;
    if (peek(f) == '.') {
        node->kind = JSON_NUMBER;
        f->text++;
        skip_digits(f);
    }
    if (peek(f) == 'e' || peek(f) == 'E') {
        node->kind = JSON_NUMBER;
        f->text++;
        if (peek(f) == '+' || peek(f) == '-') f->text++;
        skip_digits(f);
    }
    node->number = strtod(start, NULL); /* the text ends with a zero, and the form has been checked */
    need(f, isfinite(node->number), "metadata: number too large");
    return node;
}

static int compare_strings(const void *a, const void *b) {
    const json *x = *(const json *const *)a, *y = *(const json *const *)b;
    int order = memcmp(x->string, y->string, x->count < y->count ? x->count : y->count);
    return order ? order : (x->count > y->count) - (x->count < y->count);
}

static void check_unique(latq *f, const json **strings, uint32_t count, const char *message) {
    if (count > 1) qsort(strings, count, sizeof *strings, compare_strings);
    for (uint32_t i = 1; i < count; i++) need(f, compare_strings(&strings[i - 1], &strings[i]) != 0, message);
}

static json *parse_value(latq *f, int depth);

/* Members up to the closing bracket. */
static json *parse_members(latq *f, enum json_kind kind, int depth) {
    json *node = new_node(f, kind);
    const char *close = kind == JSON_OBJECT ? "}" : "]";
    const json **link = &node->first;
    need(f, depth <= 8, "metadata: nested too deep");
    f->text++;
    skip_space(f);
    while (peek(f) != *close) {
        if (node->count++) {
            expect(f, ",");
            skip_space(f);
        }
        json *key = NULL;
        if (kind == JSON_OBJECT) {
            key = parse_string(f);
            skip_space(f);
            expect(f, ":");
        }
        json *member = parse_value(f, depth + 1);
        member->key = key;
        *link = member;
        link = &member->next;
        skip_space(f);
    }
    f->text++;
    if (kind == JSON_OBJECT) {
        const json **keys = take(f, node->count, sizeof *keys);
        uint32_t i = 0;
        for (const json *m = node->first; m; m = m->next) keys[i++] = m->key;
        check_unique(f, keys, node->count, "metadata: repeated key");
    }
    return node;
}

static json *parse_value(latq *f, int depth) {
    skip_space(f);
    switch (peek(f)) {
    case '{': return parse_members(f, JSON_OBJECT, depth);
    case '[': return parse_members(f, JSON_ARRAY, depth);
    case '"': return parse_string(f);
    case 't': expect(f, "true"); break;
    case 'f': expect(f, "false"); return new_node(f, JSON_BOOLEAN);
    case 'n': expect(f, "null"); return new_node(f, JSON_NULL);
    default: return parse_number(f);
    }
    json *node = new_node(f, JSON_BOOLEAN);
    node->number = 1;
    return node;
}

/* --- 3.2 to 3.8 metadata ----------------------------------------------------------------------------------------- */

enum { RAW = 1, E8 = 2, SCALAR = 3, TRELLIS = 4, STORED = 1, ZSTD = 2, FIXED = 3, ENTROPY = 4 };
enum { PER_VECTOR, PER_CLASS, PER_TENSOR };
enum { MAX_BLOCKS = 4096 }; /* of a vector */

typedef struct {
    const int32_t *at;
    int32_t count;
} integers;

struct codec {
    uint32_t id, coding;
    uint64_t chunk_entries;
    bool hadamard, centre, wide;
    uint64_t seed;
    uint32_t classes, group, chunk_vectors, kept;
    int alignment;
    int32_t q, low, odd, shift;
    integers scales, offset, weights, shifts, widths, levels, checks;
    integers multipliers, counts; /* steps; none: one step for all */
    uint32_t blocks, distinct;    /* blocks of a vector that have steps; different multipliers */
};

typedef struct {
    const char *name;
    uint32_t size;
    bool lossy;
} dtype;

static const dtype DTYPES[] = {
    {"float64", 8, true}, {"float32", 4, true}, {"float16", 2, true}, {"bfloat16", 2, true},
    {"float8_e4m3fn", 1, false}, {"float8_e5m2", 1, false}, {"bool", 1, false}, {"int8", 1, false},
    {"int16", 2, false}, {"int32", 4, false}, {"int64", 8, false}, {"uint8", 1, false}, {"uint16", 2, false},
    {"uint32", 4, false}, {"uint64", 8, false},
};
enum { FLOAT64, FLOAT32, FLOAT16, BFLOAT16, BOOL = 6, DTYPE_COUNT = 15 };

enum { ENERGIES = 6 };
static const char *const ENERGY_NAMES[ENERGIES] = {
    "energy", "mean_energy", "overlap", "error", "output_energy", "output_error"};

struct tensor {
    const json *name;
    const codec *codec;
    int dtype;
    int32_t same_as; /* -1: it has chunks of its own */
    double energies[ENERGIES], bits_lost;
    bool has_bits_lost;
    uint32_t dimensions, axis, first_chunk, chunk_count;
    uint64_t shape[32];
    uint64_t n, m, inner; /* as a matrix; product of the dimensions behind the axis */
};

static bool is_text(const json *s, const char *text) {
    return s && s->kind == JSON_STRING && s->count == strlen(text) && memcmp(s->string, text, s->count) == 0;
}

static const json *member(const json *object, const char *key) {
    for (const json *m = object->first; m; m = m->next)
        if (is_text(m->key, key)) return m;
    return NULL;
}

static const json *member_of(latq *f, const json *object, const char *key, enum json_kind kind) {
    const json *m = member(object, key);
    if (!m || m->kind != kind) fail(f, CORRUPT, "metadata: member %s", key);
    return m;
}

static int64_t integer_of(latq *f, const json *m, int64_t low, int64_t high) {
    need(f, m->kind == JSON_INTEGER && !m->huge && m->integer >= low && m->integer <= high, "metadata: an integer");
    return m->integer;
}

static int64_t integer_in(latq *f, const json *object, const char *key, int64_t low, int64_t high) {
    return integer_of(f, member_of(f, object, key, JSON_INTEGER), low, high);
}

/* An array of from..to integers. */
static integers integers_in(latq *f, const json *object, const char *key, int64_t low, int64_t high, uint32_t from,
                            uint32_t to) {
    const json *array = member_of(f, object, key, JSON_ARRAY);
    need(f, array->count >= from && array->count <= to, "metadata: length of an array");
    int32_t *out = take(f, array->count, sizeof *out), i = 0;
    for (const json *m = array->first; m; m = m->next) out[i++] = (int32_t)integer_of(f, m, low, high);
    return (integers){out, i};
}

/* Which of the words, which a zero pointer ends, a member is. */
static int word_in(latq *f, const json *object, const char *key, const char *const *words) {
    const json *m = member_of(f, object, key, JSON_STRING);
    for (int i = 0; words[i]; i++)
        if (is_text(m, words[i])) return i;
    fail(f, CORRUPT, "metadata: member %s", key);
    return 0;
}

static const struct {
    const char *codec, *coding;
    uint32_t id, coding_id;
} CODINGS[] = {
    {"raw", "stored", RAW, STORED}, {"raw", "zstd", RAW, ZSTD}, {"e8", "fixed", E8, FIXED},
    {"e8", "entropy", E8, ENTROPY}, {"scalar", "fixed", SCALAR, FIXED}, {"scalar", "entropy", SCALAR, ENTROPY},
    {"trellis", "entropy", TRELLIS, ENTROPY},
};
enum { CODING_COUNT = 7 };

/* 3.7, step 2 */
static void refuse_unknown(latq *f, const json *codecs) {
    for (const json *c = codecs->first; c; c = c->next) {
        const json *name = c->kind == JSON_OBJECT ? member(c, "codec") : NULL;
        const json *coding = c->kind == JSON_OBJECT ? member(c, "coding") : NULL;
        bool known = !name || name->kind != JSON_STRING;
        for (int i = 0; i < CODING_COUNT; i++)
            if (is_text(name, CODINGS[i].codec))
                known = known || !coding || coding->kind != JSON_STRING || is_text(coding, CODINGS[i].coding);
        if (!known) fail(f, UNSUPPORTED, "a codec that this reader does not know");
    }
}

/* 8.3: steps, as multipliers and how many blocks in a row have each. */
static void parse_steps(latq *f, const json *o, codec *c) {
    const json *array = member_of(f, o, "steps", JSON_ARRAY);
    need(f, array->count >= 1 && array->count <= MAX_BLOCKS, "metadata: length of steps");
    int32_t *multipliers = take(f, array->count, sizeof *multipliers), *counts = take(f, array->count, sizeof *counts);
    bool used[256] = {false};
    int32_t i = 0;
    for (const json *m = array->first; m; m = m->next, i++) {
        need(f, m->kind == JSON_ARRAY && m->count == 2, "metadata: a step is no pair");
        multipliers[i] = (int32_t)integer_of(f, m->first, 1, 255);
        counts[i] = (int32_t)integer_of(f, m->first->next, 1, MAX_BLOCKS);
        c->blocks += (uint32_t)counts[i]; /* at most 2^24 */
        c->distinct += !used[multipliers[i]];
        used[multipliers[i]] = true;
    }
    c->multipliers = (integers){multipliers, i};
    c->counts = (integers){counts, i};
}

/* 3.4: the members of a codec; every one that is looked up is there, so their number tells of unknown ones. */
static void parse_codec(latq *f, const json *o, codec *c) {
    static const char *const ROTATIONS[] = {"none", "hadamard", NULL}, *const SCALES[] = {"float16", "float32", NULL};
    static const char *const ALIGNMENTS[] = {"vector", "class", "tensor", NULL};
    const json *name = member_of(f, o, "codec", JSON_STRING), *coding = member_of(f, o, "coding", JSON_STRING);
    for (int i = 0; i < CODING_COUNT; i++)
        if (is_text(name, CODINGS[i].codec) && is_text(coding, CODINGS[i].coding)) {
            c->id = CODINGS[i].id;
            c->coding = CODINGS[i].coding_id;
        }
    if (c->id == RAW) {
        c->chunk_entries = (uint64_t)integer_in(f, o, "chunk_entries", 1, 1 << 26);
        need(f, o->count == 3, "metadata: members of a codec");
        return;
    }
    c->hadamard = word_in(f, o, "rotation", ROTATIONS) == 1;
    c->seed = (uint64_t)integer_in(f, o, "seed", 0, INT64_MAX);
    c->centre = member_of(f, o, "centre", JSON_BOOLEAN)->number != 0;
    c->wide = word_in(f, o, "scale", SCALES) == 1;
    c->classes = (uint32_t)integer_in(f, o, "classes", 0, 32);
    c->group = (uint32_t)integer_in(f, o, "group", 1, 1 << 15);
    c->chunk_vectors = (uint32_t)integer_in(f, o, "chunk_vectors", 1, 1 << 26);
    c->alignment = word_in(f, o, "alignment", ALIGNMENTS);
    c->kept = (uint32_t)integer_in(f, o, "kept", 1, 65536);
    uint32_t members = 11;
    if (c->id == SCALAR) {
        c->levels = integers_in(f, o, "levels", -(1 << 20), 1 << 20, 2, 4096);
        if (c->coding == ENTROPY) c->shift = (int32_t)integer_in(f, o, "shift", 0, 8);
        members += c->coding == ENTROPY ? 2 : 1;
    } else if (c->coding == FIXED) {
        c->q = (int32_t)integer_in(f, o, "q", 2, 4096);
        c->scales = integers_in(f, o, "scales", 1, 255, 1, 16);
        c->offset = integers_in(f, o, "offset", -4, 4, 8, 8);
        members += 3;
    } else {
        c->low = (int32_t)integer_in(f, o, "low", -255, -2);
        c->weights = integers_in(f, o, "weights", 0, 255, 5, 255);
        c->shifts = integers_in(f, o, "shifts", 0, 16, 1, 32);
        c->widths = integers_in(f, o, "widths", -128, 255, 1, 32);
        if (c->id == E8) c->odd = (int32_t)integer_in(f, o, "odd", -128, 127);
        if (c->id == TRELLIS) c->checks = integers_in(f, o, "checks", 2, 8191, 2, 2);
        members += 5;
        if (member(o, "steps")) {
            parse_steps(f, o, c);
            members++;
        }
    }
    need(f, o->count == members, "metadata: members of a codec");
}

static bool is_number(const json *m) { return m->kind == JSON_INTEGER || m->kind == JSON_NUMBER; }

/* Those that are there are counted. */
static void parse_energies(latq *f, const json *o, tensor *t, uint32_t *members) {
    for (int i = 0; i < ENERGIES; i++) {
        const json *m = member(o, ENERGY_NAMES[i]);
        if (!m) continue;
        need(f, is_number(m) && m->number >= 0, "metadata: an energy");
        t->energies[i] = m->number;
        ++*members;
    }
    const json *lost = member(o, "output_bits_lost");
    if (!lost) return;
    need(f, is_number(lost) || lost->kind == JSON_NULL, "metadata: output_bits_lost");
    t->has_bits_lost = is_number(lost);
    t->bits_lost = lost->number;
    ++*members;
}

/* 3.3, but for what step 4 of 3.7 checks; returns the position of its codec, 2^32 - 1 for those beyond. */
static uint32_t parse_tensor(latq *f, const json *o, tensor *t) {
    need(f, o->kind == JSON_OBJECT, "metadata: a tensor is no object");
    uint32_t members = 4;
    t->name = member_of(f, o, "name", JSON_STRING);
    const json *shape = member_of(f, o, "shape", JSON_ARRAY), *type = member_of(f, o, "dtype", JSON_STRING);
    need(f, shape->count <= 32, "metadata: too many dimensions");
    for (const json *m = shape->first; m; m = m->next)
        t->shape[t->dimensions++] = (uint64_t)integer_of(f, m, 0, (int64_t)1 << 48);
    for (t->dtype = 0; t->dtype < DTYPE_COUNT && !is_text(type, DTYPES[t->dtype].name);) t->dtype++;
    const json *number = member_of(f, o, "codec", JSON_INTEGER);
    need(f, number->huge ? number->number > 0 : number->integer >= 0, "metadata: codec of a tensor");
    if (member(o, "axis")) {
        t->axis = (uint32_t)integer_in(f, o, "axis", 0, 31);
        members++;
    }
    t->same_as = -1;
    if (member(o, "same_as")) {
        t->same_as = (int32_t)integer_in(f, o, "same_as", -1, 65535);
        members++;
    }
    parse_energies(f, o, t, &members);
    need(f, o->count == members, "metadata: members of a tensor");
    return number->huge || number->integer > UINT32_MAX - 1 ? UINT32_MAX : (uint32_t)number->integer;
}

/* 3.7, step 4 */
static void check_tensor(latq *f, tensor *t, uint32_t codec_number) {
    if (t->dtype == DTYPE_COUNT) fail(f, UNSUPPORTED, "an element type that this reader does not know");
    need(f, t->name->count >= 1 && t->name->count <= 1024, "length of a name");
    for (uint32_t i = 0; i < t->name->count; i++)
        need(f, (uint8_t)t->name->string[i] >= 32 && t->name->string[i] != 127, "control character in a name");
    uint64_t product = 1;
    for (uint32_t i = 0; i < t->dimensions; i++) {
        uint64_t d = t->shape[i] ? t->shape[i] : 1;
        need(f, d <= ((uint64_t)1 << 48) / product, "too many entries");
        product *= d;
    }
    need(f, codec_number < f->codec_count, "codec of a tensor");
    t->codec = &f->codecs[codec_number];
    need(f, t->axis < (t->dimensions ? t->dimensions : 1), "axis of a tensor");
    need(f, t->codec->id == RAW || DTYPES[t->dtype].lossy, "element type of a tensor with a lossy codec");
    t->n = t->m = t->inner = 1;
    for (uint32_t i = 0; i < t->dimensions; i++) {
        if (i == t->axis) t->n = t->shape[i];
        if (i != t->axis) t->m *= t->shape[i];
        if (i > t->axis) t->inner *= t->shape[i];
    }
}

/* The steps of its codec are those of the blocks of its vectors, in every group. */
static void check_steps(latq *f, const tensor *t) {
    const codec *c = t->codec;
    if (!c->blocks) return;
    uint64_t lengths[2] = {t->n < c->group ? t->n : c->group, t->n % c->group};
    for (int i = 0; i < 2; i++)
        need(f, lengths[i] == 0 || divide_up(lengths[i] * c->kept, 65536) == 8 * (uint64_t)c->blocks,
             "steps of other blocks than its vectors have");
}

/* Tensor i, which has chunks of its own or is the same as an earlier one that has. */
static void check_tie(latq *f, uint32_t i) {
    const tensor *t = &f->tensors[i];
    if (t->same_as < 0) return;
    need(f, (uint32_t)t->same_as < i, "a tensor that is the same as no earlier one");
    const tensor *o = &f->tensors[t->same_as];
    bool same = o->same_as < 0 && o->codec == t->codec && o->dtype == t->dtype && o->axis == t->axis &&
                o->dimensions == t->dimensions && memcmp(o->shape, t->shape, sizeof t->shape) == 0 &&
                o->has_bits_lost == t->has_bits_lost && o->bits_lost == t->bits_lost;
    for (int k = 0; k < ENERGIES; k++) same = same && o->energies[k] == t->energies[k];
    need(f, same, "a tensor that is not the same as the one it names");
}

static bool is_increasing(integers values) {
    for (int32_t i = 1; i < values.count; i++)
        if (values.at[i - 1] >= values.at[i]) return false;
    return true;
}

/* r of r * 2^t */
static int32_t odd_part(int32_t q) {
    while (q % 2 == 0) q /= 2;
    return q;
}

/* 3.7, step 5 */
static void check_codec(latq *f, const codec *c) {
    if (c->id == RAW) return;
    bool density = c->coding == ENTROPY && c->id != SCALAR;
    if (c->id == E8 && c->coding == FIXED) {
        need(f, odd_part(c->q) <= 7, "q");
        need(f, is_increasing(c->scales), "order of the scales");
    }
    if (c->id == SCALAR) {
        need(f, is_increasing(c->levels), "order of the levels");
        need(f, c->coding == ENTROPY || odd_part(c->levels.count) <= 7, "number of levels");
        need(f, c->coding == FIXED || divide_up((uint64_t)c->levels.count, 1u << c->shift) <= 255, "shift of levels");
    }
    need(f, c->alignment != (c->classes ? PER_VECTOR : PER_CLASS), "alignments and classes");
    if (density) {
        int32_t classes = (int32_t)((c->classes ? c->classes : 1) * (c->blocks ? c->distinct : 1));
        need(f, c->blocks <= MAX_BLOCKS, "steps of too many blocks");
        need(f, c->shifts.count == classes && c->widths.count == classes, "shifts or widths");
        need(f, c->low + c->weights.count - 1 >= 2, "place of the last weight");
    }
    if (c->id == TRELLIS) {
        int32_t h0 = c->checks.at[0], h1 = c->checks.at[1], top = 1;
        while (2 * top <= h0) top *= 2;
        need(f, h0 % 2 == 1 && h0 >= 5 && h1 % 2 == 0 && h1 < top, "checks");
    }
    need(f, (uint64_t)c->group * c->chunk_vectors <= 1 << 26, "size of the chunks");
}

static void parse_metadata(latq *f, const uint8_t *text, uint64_t len) {
    static const char *const KINDS[] = {"npy", "h5", "safetensors", NULL};
    need(f, is_utf8(text, len), "metadata: not UTF-8");
    char *copy = take(f, len + 1, 1); /* ends with a zero */
    memcpy(copy, text, len);
    f->text = copy;
    f->text_end = copy + len;
    const json *top = parse_value(f, 1);
    skip_space(f);
    need(f, f->text == f->text_end, "metadata: more than one value");
    need(f, top->kind == JSON_OBJECT, "metadata: no object");
    const json *codecs = member(top, "codecs");
    if (codecs && codecs->kind == JSON_ARRAY) refuse_unknown(f, codecs);
    word_in(f, top, "kind", KINDS);
    member_of(f, top, "extras", JSON_OBJECT);
    codecs = member_of(f, top, "codecs", JSON_ARRAY);
    const json *tensors = member_of(f, top, "tensors", JSON_ARRAY);
    need(f, top->count == 4, "metadata: unknown member");
    need(f, tensors->count <= 65536, "metadata: too many tensors");
    for (const json *o = codecs->first; o; o = o->next)
        need(f, o->kind == JSON_OBJECT, "metadata: a codec is no object");
    f->codec_count = codecs->count;
    f->codecs = take(f, f->codec_count, sizeof *f->codecs);
    f->tensor_count = tensors->count;
    f->tensors = take(f, f->tensor_count, sizeof *f->tensors);
    uint32_t *numbers = take(f, f->tensor_count, sizeof *numbers), i = 0;
    const json **names = take(f, f->tensor_count, sizeof *names);
    for (const json *o = codecs->first; o; o = o->next) parse_codec(f, o, &f->codecs[i++]);
    i = 0;
    for (const json *o = tensors->first; o; o = o->next, i++) numbers[i] = parse_tensor(f, o, &f->tensors[i]);
    for (i = 0; i < f->tensor_count; i++) {
        check_tensor(f, &f->tensors[i], numbers[i]);
        check_steps(f, &f->tensors[i]);
        check_tie(f, i);
    }
    for (i = 0; i < f->codec_count; i++) check_codec(f, &f->codecs[i]);
    for (i = 0; i < f->tensor_count; i++) names[i] = f->tensors[i].name;
    check_unique(f, names, f->tensor_count, "two tensors of one name");
}

/* Runs of vectors (of a raw tensor: of entries) that its chunks are cut into, and the length of all but the last. */
static uint64_t runs_of(const tensor *t, uint64_t *most) {
    *most = t->codec->id == RAW ? t->codec->chunk_entries : t->codec->chunk_vectors;
    return divide_up(t->codec->id == RAW ? t->n * t->m : t->m, *most);
}

/* 3.8 */
static void check_chunk_list(latq *f) {
    uint32_t next = 0;
    for (uint32_t i = 0; i < f->tensor_count; i++) {
        tensor *t = &f->tensors[i];
        if (t->same_as >= 0) {
            t->first_chunk = f->tensors[t->same_as].first_chunk;
            t->chunk_count = f->tensors[t->same_as].chunk_count;
            continue;
        }
        bool raw = t->codec->id == RAW;
        uint64_t most, runs = runs_of(t, &most), groups = raw ? 1 : divide_up(t->n, t->codec->group);
        uint64_t vectors = raw ? t->n * t->m : t->m;
        /* n, m and so runs and groups are at most 2^48: compare before multiplying */
        need(f, groups == 0 || runs <= (uint64_t)(f->chunk_count - next) / groups, "a chunk is missing");
        t->first_chunk = next;
        t->chunk_count = (uint32_t)(runs * groups);
        for (uint32_t c = 0; c < t->chunk_count; c++) {
            const uint8_t *r = f->index + RECORD * (size_t)(next + c);
            uint64_t count = vectors - c % runs * most;
            bool right = u32_at(r + 16) == i && u32_at(r + 20) == c && u32_at(r + 24) == (count < most ? count : most);
            need(f, right && u16_at(r + 28) == (t->codec->id | t->codec->coding << 8), "chunk list");
        }
        next += t->chunk_count;
    }
    need(f, next == f->chunk_count, "a chunk of no tensor");
}

/* --- 5 rotation -------------------------------------------------------------------------------------------------- */

static uint64_t mix(uint64_t z) {
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

static void undo_window(float *x, uint32_t size, uint64_t seed, uint64_t stage) {
    for (uint32_t h = 1; h < size; h *= 2)
        for (uint32_t i = 0; i < size; i++)
            if ((i & h) == 0) {
                float a = x[i], b = x[i + h];
                x[i] = a + b;
                x[i + h] = a - b;
            }
    float norm = 1.0f / sqrtf((float)size);
    uint64_t word = 0, base = mix(seed) + (stage << 32);
    for (uint32_t i = 0; i < size; i++) {
        if (i % 64 == 0) word = mix(base + (i / 64 + 1) * (uint64_t)0x9E3779B97F4A7C15u);
        x[i] = x[i] * norm * (word >> i % 64 & 1 ? -1.0f : 1.0f);
    }
}

static void unrotate(float *x, uint32_t length, uint64_t seed) {
    uint32_t size = 1, half = length / 2;
    while (2 * size <= length) size *= 2;
    if (size < length) {
        float *last = x + (length - size), k = float_of(0x3F3504F3);
        undo_window(last, size, seed, 3);
        undo_window(x, size, seed, 2);
        for (uint32_t i = 0; i < half; i++) {
            float a = x[i], b = x[length - half + i];
            x[i] = (a + b) * k;
            x[length - half + i] = (a - b) * k;
        }
        undo_window(last, size, seed, 1);
    }
    undo_window(x, size, seed, 0);
}

/* --- 7 digits ---------------------------------------------------------------------------------------------------- */

typedef struct {
    const uint8_t *low, *high;
    int32_t radix, per_word, width, low_bits;
} digits;

/* So many digits below q must fill the section; words of the high plane are checked. */
static digits open_digits(latq *f, const uint8_t *data, uint64_t size, uint64_t count, int32_t q) {
    digits d = {data, data, odd_part(q), 1, 0, 0};
    while (d.radix << d.low_bits < q) d.low_bits++;
    if (d.radix == 3) d.per_word = 5, d.width = 8;
    if (d.radix == 5) d.per_word = 3, d.width = 7;
    if (d.radix == 7) d.per_word = 11, d.width = 31;
    uint64_t low_size = divide_up(count * (uint64_t)d.low_bits, 8), words = divide_up(count, (uint64_t)d.per_word);
    need(f, size == low_size + divide_up(words * (uint64_t)d.width, 8), "length of the digits");
    d.high = data + low_size;
    uint32_t limit = 1;
    for (int i = 0; i < d.per_word; i++) limit *= (uint32_t)d.radix;
    for (uint64_t i = 0; i < words && d.width; i++)
        need(f, bits_at(d.high, i, (unsigned)d.width) < limit, "a word of the high plane is too large");
    return d;
}

static int32_t digit_at(const digits *d, uint64_t i) {
    int32_t low = (int32_t)bits_at(d->low, i, (unsigned)d->low_bits);
    if (d->radix == 1) return low;
    uint32_t word = bits_at(d->high, i / (uint64_t)d->per_word, (unsigned)d->width);
    for (uint64_t k = i % (uint64_t)d->per_word; k > 0; k--) word /= (uint32_t)d->radix;
    return low + ((int32_t)(word % (uint32_t)d->radix) << d->low_bits);
}

/* --- 8.1, 8.2 rANS ----------------------------------------------------------------------------------------------- */

typedef struct {
    int count, precision;
    int16_t values[256];  /* of 8.3: what the symbols mean; symbol 0 is the escape */
    uint16_t starts[257]; /* F_0, F_1, ..., 2^precision */
} table;

typedef struct {
    const uint8_t *at, *end;
    uint32_t lanes, states[32];
} stream;

static stream open_stream(latq *f, const uint8_t *data, uint64_t size, uint64_t symbols) {
    stream s = {data, data + size, 1, {0}};
    while (s.lanes < 32 && 2 * s.lanes <= symbols / 512) s.lanes *= 2;
    need(f, size >= 4 * s.lanes && size % 2 == 0, "length of a stream");
    for (uint32_t i = 0; i < s.lanes; i++, s.at += 4) s.states[i] = u32_at(s.at);
    return s;
}

static int next_symbol(latq *f, stream *s, uint32_t lane, const table *t) {
    uint32_t x = s->states[lane], slot = x & ((1u << t->precision) - 1);
    int low = 0, high = t->count; /* starts[low] <= slot < starts[high] */
    while (high - low > 1) {
        int middle = (low + high) / 2;
        if (t->starts[middle] <= slot)
            low = middle;
        else
            high = middle;
    }
    x = (uint32_t)(t->starts[low + 1] - t->starts[low]) * (x >> t->precision) + slot - t->starts[low];
    if (x < 65536) {
        need(f, s->at < s->end, "a stream is too short");
        x = x << 16 | u16_at(s->at);
        s->at += 2;
    }
    s->states[lane] = x;
    return low;
}

static void close_stream(latq *f, const stream *s) {
    need(f, s->at == s->end, "a stream has words left");
    for (uint32_t i = 0; i < s->lanes; i++) need(f, s->states[i] == 65536, "end state of a stream");
}

/* The table of frequencies that a section of symbols begins with, and the stream behind it. */
static stream open_symbols(latq *f, const uint8_t *data, uint64_t size, int kinds, int precision, uint64_t count,
                           table *t) {
    need(f, size >= 2 * (uint64_t)kinds, "a section is too short for its table");
    uint32_t sum = 0;
    t->count = kinds;
    t->precision = precision;
    for (int i = 0; i < kinds; i++) {
        t->starts[i] = (uint16_t)sum;
        sum += u16_at(data + 2 * i);
        need(f, sum <= 1u << precision, "sum of the frequencies");
    }
    need(f, sum == 1u << precision, "sum of the frequencies");
    t->starts[kinds] = (uint16_t)sum;
    return open_stream(f, data + 2 * kinds, size - 2 * (uint64_t)kinds, count);
}

/* --- 6, 8.2 e8, fixed -------------------------------------------------------------------------------------------- */

static void codeword(const int32_t c[8], int32_t q, const int32_t *offset, int32_t w[8]) {
    int32_t e[8], a[8], s[8], sum_r = 0, sum_2r_s = 0, sum_a = 0;
    int j = 0, k = 0;
    for (int i = 0; i < 8; i++) {
        int32_t p = (i == 0 ? 4 : i < 7 ? 2 : 0) * c[i] - (i < 6 ? 2 * c[i + 1] : 0) + c[7], z = p + offset[i];
        e[i] = (int32_t)floor_mod(z + q, 2 * q) - q;
        int32_t r = (z - e[i]) / (2 * q);
        a[i] = abs(e[i]);
        s[i] = e[i] < 0 ? -1 : 1;
        sum_r += r;
        sum_2r_s += 2 * r + s[i];
        sum_a += a[i];
        if (a[i] > a[j]) j = i;
        if (a[i] < a[k]) k = i;
    }
    bool odd = floor_mod(sum_r, 2) == 1, odd2 = floor_mod(sum_2r_s, 4) == 2;
    bool first = sum_a - 4 * q + (odd ? 2 * (q - a[j]) : 0) - (odd2 ? 2 * a[k] : 0) <= 0;
    for (int i = 0; i < 8; i++) w[i] = first ? e[i] : e[i] - q * s[i];
    if (first && odd) w[j] -= 2 * q * s[j];
    if (!first && odd2) w[k] += 2 * q * s[k];
}

typedef struct {
    const uint8_t *first, *second; /* code sections */
    uint64_t first_size, second_size;
    uint64_t count, kept, blocks;  /* coded coordinates, those of a vector, blocks of 8 */
    const uint8_t *classes;        /* of the vectors */
    const uint8_t *multipliers, *places; /* with steps, of the blocks of every vector; place: among the distinct ones */
    int32_t *integers;             /* 8 * blocks of them, to be filled */
} sections;

static void read_fixed(latq *f, const codec *c, const sections *s) {
    table t;
    stream index = open_symbols(f, s->first, s->first_size, c->scales.count, 12, s->blocks, &t);
    digits d = open_digits(f, s->second, s->second_size, 8 * s->blocks, c->q);
    for (uint64_t b = 0; b < s->blocks; b++) {
        int32_t c_i[8], *out = s->integers + 8 * b;
        int32_t scale = c->scales.at[next_symbol(f, &index, (uint32_t)(b % index.lanes), &t)];
        for (int i = 0; i < 8; i++) c_i[i] = digit_at(&d, 8 * b + (uint64_t)i);
        codeword(c_i, c->q, c->offset.at, out);
        for (int i = 0; i < 8; i++) out[i] *= scale;
    }
    close_stream(f, &index);
}

/* --- 8.3 density ------------------------------------------------------------------------------------------------- */

static uint64_t weight_of(int64_t y) {
    static const uint32_t T[16] = {
        2147483648u, 2056437387u, 1969251188u, 1885761398u, 1805811301u, 1729250827u, 1655936265u, 1585730000u,
        1518500250u, 1454120821u, 1392470869u, 1333434672u, 1276901417u, 1222764986u, 1170923762u, 1121280436u};
    return T[y % 16] >> y / 16;
}

/* Values of a class that are residue modulo modulus, their frequencies behind that of the escape. */
static void make_table(const codec *c, int class, int modulus, int residue, table *t) {
    static const int64_t STRETCH[8] = {65536, 71468, 77936, 84990, 92682, 101070, 110218, 120194};
    int64_t width = c->widths.at[class], octave = floor_div(width, 8), one = 65536, f = STRETCH[floor_mod(width, 8)];
    f = octave < 0 ? f >> -octave : f << octave;
    int64_t middle = c->shifts.at[class] ? f / 2 : 0, low = c->low, high = low + c->weights.count - 1;
    int64_t from = i64_max(-127, i64_min(-2, floor_div(one * low, f)));
    int64_t to = i64_min(127, i64_max(2, -floor_div(-one * high, f)));
    uint64_t weights[256], total = 0;
    int64_t frequencies[256], sum = 0;
    int count = 1;
    bool tilted = modulus == 1 && c->shifts.at[class] == 0;
    for (int64_t v = from; v <= to; v++) {
        if (floor_mod(v, modulus) != residue) continue;
        int64_t p = i64_min(i64_max(v * f + middle - one * low, 0), one * (high - low));
        int64_t i = i64_min(p / one, high - low - 1), r = p - one * i;
        int64_t d = (c->weights.at[i] * (one - r) + c->weights.at[i + 1] * r + one / 2) / one;
        if (tilted && floor_mod(v, 2)) d = i64_max(0, d + c->odd);
        weights[count] = weight_of(d);
        total += weights[count];
        t->values[count++] = (int16_t)v;
    }
    for (int i = 1; i < count; i++) {
        frequencies[i] = i64_max(1, (int64_t)((weights[i] * 16383 + total / 2) / total));
        sum += frequencies[i];
    }
    for (; sum != 16383; sum += sum < 16383 ? 1 : -1) {
        int top = 1;
        for (int i = 2; i < count; i++)
            if (frequencies[i] > frequencies[top]) top = i;
        frequencies[top] += sum < 16383 ? 1 : -1;
    }
    t->count = count;
    t->precision = 14;
    t->starts[0] = 0;
    t->starts[1] = 1;
    for (int i = 1; i < count; i++) t->starts[i + 1] = (uint16_t)(t->starts[i] + frequencies[i]);
}

/* Steps, written out for every block. */
static void open_steps(latq *f, const codec *c, sections *s) {
    uint8_t place_of[256] = {0}, place = 0, *multipliers = take(f, c->blocks, 1), *places = take(f, c->blocks, 1);
    for (int32_t i = 0; i < c->multipliers.count; i++) place_of[c->multipliers.at[i]] = 1;
    for (int m = 0; m < 256; m++)
        if (place_of[m]) place_of[m] = place++;
    uint32_t b = 0;
    for (int32_t i = 0; i < c->multipliers.count; i++)
        for (int32_t k = 0; k < c->counts.at[i]; k++, b++) {
            multipliers[b] = (uint8_t)c->multipliers.at[i];
            places[b] = place_of[multipliers[b]];
        }
    s->multipliers = multipliers;
    s->places = places;
}

/* The tables of one class: A, C_0, C_1, P_0..P_3; of a class with low bits only the first. */
enum { TABLE_A, TABLE_C, TABLE_P = 3, TABLES = 7 };

typedef struct {
    table *tables;           /* TABLES for every class that is in use */
    const uint8_t *classes;  /* of the blocks */
    const uint8_t *escapes, *escapes_end, *low;
} model;

static model open_model(latq *f, const codec *c, const sections *s) {
    uint8_t *classes = take(f, s->blocks, 1);
    bool used[32] = {false};
    uint64_t low_size = 0;
    for (uint64_t b = 0; b < s->blocks; b++) {
        uint64_t last = 8 * b + 7 < s->count ? 8 * b + 7 : s->count - 1;
        classes[b] = 31;
        for (uint64_t v = 8 * b / s->kept; v <= last / s->kept; v++)
            if (s->classes[v] < classes[b]) classes[b] = s->classes[v];
        if (c->blocks) classes[b] = (uint8_t)(classes[b] * c->distinct + s->places[b % c->blocks]);
        used[classes[b]] = true;
        low_size += (uint64_t)c->shifts.at[classes[b]];
    }
    need(f, s->second_size >= low_size && (s->second_size - low_size) % 4 == 0, "length of escapes and low bits");
    table *tables = take(f, TABLES * 32, sizeof *tables);
    for (int k = 0; k < 32; k++) {
        table *t = tables + TABLES * k;
        if (!used[k]) continue;
        make_table(c, k, 1, 0, t + TABLE_A);
        for (int r = 0; r < 2; r++) make_table(c, k, 2, r, t + TABLE_C + r);
        for (int r = 0; r < 4; r++) make_table(c, k, 4, r, t + TABLE_P + r);
    }
    const uint8_t *low = s->second + (s->second_size - low_size);
    return (model){tables, classes, s->second, low, low};
}

static int64_t next_value(latq *f, stream *s, uint32_t lane, const table *t, model *m) {
    int symbol = next_symbol(f, s, lane, t);
    if (symbol > 0) return t->values[symbol];
    need(f, m->escapes < m->escapes_end, "an escape is missing");
    m->escapes += 4;
    return as_i32(u32_at(m->escapes - 4));
}

static void read_points(latq *f, const codec *c, const sections *s) {
    model m = open_model(f, c, s);
    stream points = open_stream(f, s->first, s->first_size, 8 * s->blocks);
    for (uint64_t run = 0; run < s->blocks; run += points.lanes) {
        uint64_t end = run + points.lanes < s->blocks ? run + points.lanes : s->blocks;
        int64_t t[32][8];
        for (int i = 0; i < 8; i++)
            for (uint64_t b = run; b < end; b++) {
                int64_t *point = t[b - run];
                const table *chosen = m.tables + TABLES * m.classes[b];
                if (i > 0 && c->shifts.at[m.classes[b]] == 0) {
                    int64_t coset = floor_mod(point[0], 2), k = coset;
                    for (int n = 0; n < i; n++) k += 2 * floor_div(point[n] - coset, 2);
                    chosen += i < 7 ? TABLE_C + coset : TABLE_P + floor_mod(k, 4);
                }
                point[i] = next_value(f, &points, (uint32_t)(b - run), chosen, &m);
            }
        for (uint64_t b = run; b < end; b++) {
            int shift = c->shifts.at[m.classes[b]];
            int32_t *out = s->integers + 8 * b;
            int64_t *point = t[b - run], sum = 0;
            int64_t coset = shift ? bits_at(m.low, 7, (unsigned)shift) % 2 : 0;
            for (int i = 0; i < 8 && shift; i++) {
                int64_t k = point[i] * ((int64_t)1 << shift) + bits_at(m.low, (uint64_t)i, (unsigned)shift);
                if (i == 7) k += floor_mod(sum, 2) - coset;
                sum += k;
                point[i] = 2 * k + coset;
            }
            for (int i = 0; i < 8; i++) out[i] = as_i32((uint32_t)point[i]);
            m.low += shift;
        }
    }
    close_stream(f, &points);
    need(f, m.escapes == m.escapes_end, "escapes are left over");
}

/* --- 8.5 paths --------------------------------------------------------------------------------------------------- */

static void read_paths(latq *f, const codec *c, const sections *s) {
    model m = open_model(f, c, s);
    stream path = open_stream(f, s->first, s->first_size, 8 * s->blocks);
    uint64_t per_lane = divide_up(s->blocks, path.lanes);
    uint32_t states[32] = {0}, h0 = (uint32_t)c->checks.at[0], h1 = (uint32_t)c->checks.at[1];
    const uint8_t *low[32]; /* low bits of the block that each path is in */
    for (uint64_t b = 0; b < s->blocks; b++) {
        if (b % per_lane == 0) low[b / per_lane] = m.low;
        m.low += c->shifts.at[m.classes[b]];
    }
    for (uint64_t t = 0; t < 8 * per_lane; t++)
        for (uint32_t lane = 0; lane < path.lanes; lane++) {
            uint64_t at = 8 * per_lane * lane + t, b = at / 8;
            if (at >= 8 * s->blocks) break;
            unsigned shift = (unsigned)c->shifts.at[m.classes[b]];
            uint32_t parity = states[lane] & 1;
            const table *chosen = m.tables + TABLES * m.classes[b] + (shift ? TABLE_A : TABLE_C + parity);
            int64_t k = next_value(f, &path, lane, chosen, &m);
            if (shift) k = 2 * (k * ((int64_t)1 << shift) + bits_at(low[lane], at % 8, shift)) + parity;
            if (at % 8 == 7) low[lane] += shift;
            s->integers[at] = as_i32((uint32_t)k);
            uint32_t turn = (uint32_t)k >> 1 & 1;
            states[lane] = states[lane] >> 1 ^ parity * (h0 >> 1) ^ turn * (h1 >> 1);
        }
    close_stream(f, &path);
    need(f, m.escapes == m.escapes_end, "escapes are left over");
}

/* --- 8.4 levels -------------------------------------------------------------------------------------------------- */

static void read_levels(latq *f, const codec *c, const sections *s) {
    if (c->coding == FIXED) {
        need(f, s->first_size == 0, "a first code section");
        digits d = open_digits(f, s->second, s->second_size, s->count, c->levels.count);
        for (uint64_t i = 0; i < s->count; i++) s->integers[i] = c->levels.at[digit_at(&d, i)];
        return;
    }
    table t;
    int kinds = (int)divide_up((uint64_t)c->levels.count, 1u << c->shift);
    stream high = open_symbols(f, s->first, s->first_size, kinds, 14, s->count, &t);
    need(f, s->second_size == divide_up(s->count * (uint64_t)c->shift, 8), "length of the low bits");
    for (uint64_t i = 0; i < s->count; i++) {
        int32_t j = next_symbol(f, &high, (uint32_t)(i % high.lanes), &t) << c->shift;
        j += (int32_t)bits_at(s->second, i, (unsigned)c->shift);
        need(f, j < c->levels.count, "an index beyond the levels");
        s->integers[i] = c->levels.at[j];
    }
    close_stream(f, &high);
}

/* --- 4 chunks of vectors ----------------------------------------------------------------------------------------- */

/* Rounded to a float with so many bits of fraction and this bias, from an f32 within its range; ties to even. */
static uint32_t narrowed(float x, int fraction, int bias) {
    uint32_t bits = bits_of(x), sign = bits >> 31, exponent = bits >> 23 & 255, value = bits & 0x7FFFFF;
    int drop = 23 - fraction, shift = (int)exponent - 127 + bias; /* shift: the new exponent */
    if (exponent) value |= 0x800000;
    if (exponent == 0) shift = 1 - 127 + bias;
    if (shift < 1) {
        drop += 1 - shift;
        shift = 1;
    }
    if (drop > 24) drop = 25; /* less than half of the least: 0 */
    uint32_t rest = value & ((1u << drop) - 1), half = 1u << (drop - 1);
    value >>= drop;
    value += rest > half || (rest == half && value & 1);
    /* a value with the implicit bit carries it into the exponent */
    uint32_t result = value + ((uint32_t)(shift - 1) << fraction);
    return sign << 15 | result;
}

static void put_bytes(uint8_t *out, uint64_t bits, uint32_t size) {
    for (uint32_t i = 0; i < size; i++) out[i] = (uint8_t)(bits >> 8 * i);
}

static double limited(double x, double most) { return x < -most ? -most : x > most ? most : x; }

/* 4.3, step 4 */
static void put_entry(uint8_t *out, double y, int type) {
    uint64_t bits = 0;
    if (type == FLOAT64) {
        y = limited(y, DBL_MAX);
        memcpy(&bits, &y, 8);
        put_bytes(out, bits, 8);
        return;
    }
    float x = (float)limited(y, FLT_MAX);
    if (type == FLOAT32) put_bytes(out, bits_of(x), 4);
    if (type == FLOAT16) put_bytes(out, narrowed((float)limited(x, 65504), 10, 15), 2);
    if (type == BFLOAT16) put_bytes(out, narrowed((float)limited(x, float_of(0x7F7F0000)), 7, 127), 2);
}

typedef struct {
    const uint8_t *means, *scales;
    uint32_t scale_size;
    int exponent;
} side;

static double scale_at(const side *s, uint64_t i) {
    const uint8_t *p = s->scales + i * s->scale_size;
    return s->scale_size == 2 ? half_of(u16_at(p)) : float_of(u32_at(p));
}

/* 4.1: the layout; fills the integers of all blocks. */
static side open_payload(latq *f, const codec *c, const uint8_t *p, uint64_t size, uint64_t vectors, sections *s) {
    side found = {p + 12, p, c->wide ? 4 : 2, 0};
    uint64_t scales = c->classes ? c->classes : vectors, means_size = c->centre ? 4 * vectors : 0;
    uint64_t alignments = c->alignment == PER_TENSOR ? 0 : scales;
    uint64_t head = 12 + means_size + scales * found.scale_size + 2 * alignments;
    need(f, size >= head, "the payload is too short");
    found.exponent = (int)u16_at(p) - (int)(u16_at(p) & 0x8000) * 2;
    uint64_t class_len = u32_at(p + 4), first_len = u32_at(p + 8);
    need(f, abs(found.exponent) <= 1100 && u16_at(p + 2) == 0, "head of the payload");
    need(f, class_len + first_len <= size - head && (c->classes > 1 || class_len == 0), "sections of the payload");
    found.scales = found.means + means_size;
    for (uint64_t i = 0; i < means_size; i += 4) need(f, isfinite(float_of(u32_at(found.means + i))), "a mean");
    for (uint64_t i = 0; i < scales; i++)
        need(f, isfinite(scale_at(&found, i)) && scale_at(&found, i) >= 0, "a scale");
    const uint8_t *alignment = found.scales + scales * found.scale_size;
    for (uint64_t i = 0; i < alignments; i++) {
        double a = half_of(u16_at(alignment + 2 * i));
        need(f, a > -1 && a < 1, "an alignment");
    }
    uint8_t *classes = take(f, vectors, 1);
    if (c->classes > 1) {
        table t;
        stream named = open_symbols(f, p + head, class_len, (int)c->classes, 12, vectors, &t);
        for (uint64_t v = 0; v < vectors; v++)
            classes[v] = (uint8_t)next_symbol(f, &named, (uint32_t)(v % named.lanes), &t);
        close_stream(f, &named);
    }
    s->classes = classes;
    s->first = p + head + class_len;
    s->first_size = first_len;
    s->second = s->first + first_len;
    s->second_size = size - head - class_len - first_len;
    s->integers = take(f, 8 * s->blocks, sizeof *s->integers);
    open_steps(f, c, s);
    if (c->id == SCALAR)
        read_levels(f, c, s);
    else if (c->coding == FIXED)
        read_fixed(f, c, s);
    else if (c->id == E8)
        read_points(f, c, s);
    else
        read_paths(f, c, s);
    return found;
}

/* Vectors first_vector.. and entries first_entry.. of the tensor. */
static void decode_vectors(latq *f, const tensor *t, const uint8_t *p, uint64_t size, uint64_t first_vector,
                           uint64_t vectors, uint64_t first_entry, uint32_t length, uint8_t *out) {
    const codec *c = t->codec;
    sections s = {0};
    s.kept = divide_up((uint64_t)length * c->kept, 65536);
    s.count = vectors * s.kept;
    s.blocks = divide_up(s.count, 8);
    side sides = open_payload(f, c, p, size, vectors, &s);
    float *z = take(f, length, sizeof *z);
    uint32_t bytes = DTYPES[t->dtype].size;
    for (uint64_t v = 0; v < vectors; v++) {
        for (uint32_t k = 0; k < length; k++) z[k] = k < s.kept ? (float)s.integers[v * s.kept + k] : 0.0f;
        for (uint32_t k = 0; c->blocks && k < s.kept; k++) z[k] *= (float)s.multipliers[k / 8];
        if (c->hadamard) unrotate(z, length, c->seed);
        double scale = scale_at(&sides, c->classes ? s.classes[v] : v);
        double mean = c->centre ? float_of(u32_at(sides.means + 4 * v)) : 0.0;
        uint64_t j = first_vector + v, outer = j / t->inner, inner = j % t->inner;
        for (uint32_t k = 0; k < length; k++) {
            double y = scale * (double)z[k] + mean;
            uint64_t at = (outer * t->n + first_entry + k) * t->inner + inner;
            put_entry(out + at * bytes, ldexp(y, sides.exponent), t->dtype);
        }
    }
}

/* --- 9 raw chunks ------------------------------------------------------------------------------------------------ */

static void unzstd(latq *f, const uint8_t *p, uint64_t size, uint8_t *out, uint64_t expected) {
#ifdef LATQ_ZSTD
    /* the frame header of RFC 8878, 3.1.1.1 */
    static const unsigned DICTIONARY_SIZES[4] = {0, 1, 2, 4};
    need(f, size >= 6 && u32_at(p) == 0xFD2FB528u, "no zstd frame");
    unsigned flags = p[4], single = flags >> 5 & 1, dictionary = DICTIONARY_SIZES[flags & 3];
    unsigned content = flags >> 6 ? 1u << (flags >> 6) : single, at = 5;
    uint64_t window = 0, declared = 0;
    if (!single) window = ((uint64_t)1 << (10 + (p[5] >> 3))) / 8 * (8 + (p[5] & 7)), at = 6;
    need(f, content && size >= at + dictionary + content, "zstd: no content size");
    need(f, all_zero(p + at, dictionary), "zstd: a dictionary");
    for (unsigned i = 0; i < content; i++) declared |= (uint64_t)p[at + dictionary + i] << 8 * i;
    if (content == 2) declared += 256;
    need(f, declared == expected && (single ? declared : window) <= (uint64_t)1 << 23, "zstd: content size or window");
    need(f, ZSTD_findFrameCompressedSize(p, size) == size, "zstd: not one frame");
    need(f, ZSTD_decompress(out, expected, p, size) == expected, "zstd: damaged");
#else
    (void)p, (void)size, (void)out, (void)expected;
    fail(f, UNSUPPORTED, "this reader was built without zstd");
#endif
}

static void decode_raw(latq *f, const tensor *t, const uint8_t *p, uint64_t size, uint64_t entries, uint8_t *out) {
    uint64_t expected = entries * DTYPES[t->dtype].size;
    if (t->codec->coding == ZSTD) {
        unzstd(f, p, size, out, expected);
    } else {
        need(f, size == expected, "size of a raw chunk");
        memcpy(out, p, expected);
    }
    for (uint64_t i = 0; i < expected && t->dtype == BOOL; i++) need(f, out[i] <= 1, "a boolean");
}

/* --- the interface ----------------------------------------------------------------------------------------------- */

/* Opens a file of ``size`` bytes, which must stay where they are. The class of the error; latq_close in any case. */
static latq_class latq_open(latq *f, const uint8_t *data, uint64_t size) {
    memset(f, 0, sizeof *f);
    f->data = data;
    f->size = size;
    if (setjmp(f->stop) == 0) open_file(f);
    return f->class;
}

/* Bytes of a tensor: at most 2^48 entries of 8. */
static uint64_t latq_bytes(const latq *f, uint32_t number) {
    const tensor *t = &f->tensors[number];
    return t->n * t->m * DTYPES[t->dtype].size;
}

static void decode_chunks(latq *f, uint32_t number, uint8_t *out) {
    const tensor *t = &f->tensors[number];
    uint64_t most, runs = runs_of(t, &most);
    for (uint32_t c = 0; c < t->chunk_count; c++) {
        block *before = f->blocks;
        const uint8_t *r = f->index + RECORD * (size_t)(t->first_chunk + c);
        const uint32_t fields[4] = {CHUNK_FRAME, u16_at(r + 28), t->same_as < 0 ? number : (uint32_t)t->same_as, c};
        uint64_t size = u64_at(r + 8), start = c % runs * most;
        const uint8_t *payload = open_frame(f, u64_at(r), fields, size, u32_at(r + 32));
        if (t->codec->id == RAW) {
            decode_raw(f, t, payload, size, u32_at(r + 24), out + start * DTYPES[t->dtype].size);
        } else {
            uint64_t entry = c / runs * t->codec->group, rest = t->n - entry;
            uint32_t length = rest < t->codec->group ? (uint32_t)rest : t->codec->group;
            decode_vectors(f, t, payload, size, start, u32_at(r + 24), entry, length, out);
        }
        release(f, before);
    }
}

/* Decodes a tensor of an open file into latq_bytes() bytes. The class of the error; the file stays open. */
static latq_class latq_decode(latq *f, uint32_t number, uint8_t *out) {
    block *before = f->blocks;
    f->class = SOUND;
    if (setjmp(f->stop) == 0) decode_chunks(f, number, out);
    release(f, before);
    return f->class;
}

static void latq_close(latq *f) { release(f, NULL); }

/* --- the command ------------------------------------------------------------------------------------------------- */

#ifndef LATQ_MIN_NO_MAIN
static int report(const latq *f) {
    if (f->class == SOUND) return 0;
    fprintf(stderr, "latq_min: %s at byte %llu: %s\n", CLASS_NAMES[f->class], (unsigned long long)f->place, f->message);
    return EXIT_CODES[f->class];
}

static uint8_t *read_all(const char *path, uint64_t *size) {
    FILE *file = fopen(path, "rb");
    size_t room = 1 << 16, got = 0, more;
    uint8_t *data = file ? malloc(room) : NULL;
    while (data && (more = fread(data + got, 1, room - got, file)) > 0)
        if ((got += more) == room) {
            uint8_t *larger = room > SIZE_MAX / 2 ? NULL : realloc(data, room *= 2);
            if (!larger) free(data);
            data = larger;
        }
    if (file && ferror(file)) free(data), data = NULL;
    if (file) fclose(file);
    *size = got;
    return data;
}

/* Names are data: what may steer a terminal is escaped. */
static void print_name(const json *name) {
    for (uint32_t i = 0; i < name->count; i++) {
        uint8_t c = (uint8_t)name->string[i];
        printf(c >= 32 && c < 127 && c != '\\' ? "%c" : "\\x%02x", c);
    }
    putchar('\n');
}

static int list(const latq *f) {
    for (uint32_t i = 0; i < f->tensor_count; i++) {
        const tensor *t = &f->tensors[i];
        printf("%s\t[", DTYPES[t->dtype].name);
        for (uint32_t d = 0; d < t->dimensions; d++) printf("%s%llu", d ? "," : "", (unsigned long long)t->shape[d]);
        printf("]\t");
        print_name(t->name);
    }
    return fflush(stdout) ? 1 : 0;
}

static int decode(latq *f, const char *name) {
    uint32_t i = 0;
    while (i < f->tensor_count && !is_text(f->tensors[i].name, name)) i++;
    if (i == f->tensor_count) return fprintf(stderr, "latq_min: no tensor of this name\n"), 1;
    uint64_t size = latq_bytes(f, i);
    if (size > LATQ_MAX_DECODED) return fprintf(stderr, "latq_min: limit: %llu bytes\n", (unsigned long long)size), 5;
    uint8_t *out = malloc(size ? size : 1);
    int code = out ? (latq_decode(f, i, out), report(f)) : 1;
    if (code == 0 && (fwrite(out, 1, size, stdout) != size || fflush(stdout))) code = 1;
    free(out);
    return code;
}

int main(int count, char **arguments) {
    bool listing = count == 3 && strcmp(arguments[1], "list") == 0;
    if (!listing && !(count == 4 && strcmp(arguments[1], "decode") == 0))
        return fprintf(stderr, "usage: latq_min list FILE | latq_min decode FILE NAME > OUT\n"), 2;
    uint64_t size;
    uint8_t *data = read_all(arguments[2], &size);
    if (!data) return perror(arguments[2]), 1;
    latq f;
    latq_open(&f, data, size);
    int code = report(&f);
    if (code == 0) code = listing ? list(&f) : decode(&f, arguments[3]);
    latq_close(&f);
    free(data);
    return code;
}
#endif
