/* SPDX-License-Identifier: Apache-2.0
 * Growable bytes, and a bounded reader over bytes; little-endian, for files, frames and text.
 *
 * An esp_buf is caller's storage: `esp_buf b = {0}; ... esp_buf_done(&b);`. Appending when memory is out sets `failed`
 * and drops the append, so a long series of appends is checked once at its end. */
#ifndef ESP_BASE_BUF_H
#define ESP_BASE_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

typedef struct esp_buf {
    char *data; /* not NUL-terminated; see esp_buf_text */
    size_t len, cap;
    bool failed;
} esp_buf;

void esp_buf_done(esp_buf *buf);
void esp_buf_clear(esp_buf *buf); /* keeps the memory */
void esp_buf_put(esp_buf *buf, const void *bytes, size_t len);
void esp_buf_puts(esp_buf *buf, const char *text);
void esp_buf_printf(esp_buf *buf, const char *format, ...) __attribute__((format(printf, 2, 3)));
void esp_buf_put_u32(esp_buf *buf, uint32_t value);
void esp_buf_put_u64(esp_buf *buf, uint64_t value);
void esp_buf_put_doubles(esp_buf *buf, const double *values, size_t n);
/* NUL-terminates in place and returns the text, "" when failed; valid until the next append. */
const char *esp_buf_text(esp_buf *buf);
/* Ownership moves: the malloc'ed bytes (NUL-terminated), NULL when failed; the buffer is empty after. */
char *esp_buf_take(esp_buf *buf, size_t *ret_len);

/* Reads from borrowed bytes; a read past the end sets `failed` and yields zeros. */
typedef struct esp_cursor {
    const unsigned char *data;
    size_t len, pos;
    bool failed;
} esp_cursor;

uint32_t esp_cursor_u32(esp_cursor *cursor);
uint64_t esp_cursor_u64(esp_cursor *cursor);
void esp_cursor_doubles(esp_cursor *cursor, double *values, size_t n);
/* Borrowed pointer to the next n bytes, NULL past the end. */
const void *esp_cursor_bytes(esp_cursor *cursor, size_t n);

/* Whole-file helpers. The write is atomic and durable: temporary name beside it, fsync, rename, fsync of the directory;
 * the file is its owner's alone. */
ESP_MUST_CHECK esp_code esp_file_read(const char *path, size_t max_len, esp_buf *ret_bytes, esp_error *reterr);
ESP_MUST_CHECK esp_code esp_file_write(const char *path, const void *bytes, size_t len, esp_error *reterr);

#endif
