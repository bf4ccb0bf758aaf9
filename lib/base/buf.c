/* SPDX-License-Identifier: Apache-2.0
 * Growable bytes and a bounded reader. Little-endian whatever the machine. */
#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void esp_buf_done(esp_buf *buf) {
    free(buf->data);
    *buf = (esp_buf){0};
}

void esp_buf_clear(esp_buf *buf) {
    buf->len = 0;
    buf->failed = false;
}

/* Room for `more` bytes and a NUL. */
static bool reserve(esp_buf *buf, size_t more) {
    if (buf->failed) return false;
    if (more < buf->cap - buf->len && buf->cap > buf->len) return true;
    if (more > SIZE_MAX / 2 - buf->len - 64) {
        buf->failed = true;
        return false;
    }
    size_t cap = buf->cap ? buf->cap * 2 : 256;
    if (cap < buf->len + more + 1) cap = buf->len + more + 1;
    char *data = realloc(buf->data, cap);
    if (!data) {
        buf->failed = true;
        return false;
    }
    buf->data = data;
    buf->cap = cap;
    return true;
}

void esp_buf_put(esp_buf *buf, const void *bytes, size_t len) {
    if (len == 0 || !reserve(buf, len)) return;
    memcpy(buf->data + buf->len, bytes, len);
    buf->len += len;
}

void esp_buf_puts(esp_buf *buf, const char *text) {
    esp_buf_put(buf, text, strlen(text));
}

void esp_buf_printf(esp_buf *buf, const char *format, ...) {
    va_list args;
    va_start(args, format);
    char small[256];
    int len = vsnprintf(small, sizeof small, format, args);
    va_end(args);
    if (len < 0) {
        buf->failed = true;
        return;
    }
    if ((size_t)len < sizeof small) {
        esp_buf_put(buf, small, (size_t)len);
        return;
    }
    if (!reserve(buf, (size_t)len)) return;
    va_start(args, format);
    (void)vsnprintf(buf->data + buf->len, (size_t)len + 1, format, args);
    va_end(args);
    buf->len += (size_t)len;
}

void esp_buf_put_u32(esp_buf *buf, uint32_t value) {
    unsigned char bytes[4];
    for (int i = 0; i < 4; i++) bytes[i] = (unsigned char)(value >> (8 * i));
    esp_buf_put(buf, bytes, sizeof bytes);
}

void esp_buf_put_u64(esp_buf *buf, uint64_t value) {
    unsigned char bytes[8];
    for (int i = 0; i < 8; i++) bytes[i] = (unsigned char)(value >> (8 * i));
    esp_buf_put(buf, bytes, sizeof bytes);
}

void esp_buf_put_doubles(esp_buf *buf, const double *values, size_t n) {
    for (size_t i = 0; i < n; i++) {
        uint64_t bits;
        memcpy(&bits, &values[i], sizeof bits);
        esp_buf_put_u64(buf, bits);
    }
}

const char *esp_buf_text(esp_buf *buf) {
    if (!reserve(buf, 0)) return "";
    buf->data[buf->len] = '\0';
    return buf->data;
}

char *esp_buf_take(esp_buf *buf, size_t *ret_len) {
    if (!reserve(buf, 0)) {
        esp_buf_done(buf);
        return NULL;
    }
    buf->data[buf->len] = '\0';
    char *data = buf->data;
    if (ret_len) *ret_len = buf->len;
    *buf = (esp_buf){0};
    return data;
}

const void *esp_cursor_bytes(esp_cursor *cursor, size_t n) {
    if (cursor->failed || n > cursor->len - cursor->pos) {
        cursor->failed = true;
        return NULL;
    }
    const void *at = cursor->data + cursor->pos;
    cursor->pos += n;
    return at;
}

static uint64_t little_endian(const unsigned char *bytes, int n) {
    uint64_t value = 0;
    for (int i = 0; i < n; i++) value |= (uint64_t)bytes[i] << (8 * i);
    return value;
}

uint32_t esp_cursor_u32(esp_cursor *cursor) {
    const unsigned char *bytes = esp_cursor_bytes(cursor, 4);
    return bytes ? (uint32_t)little_endian(bytes, 4) : 0;
}

uint64_t esp_cursor_u64(esp_cursor *cursor) {
    const unsigned char *bytes = esp_cursor_bytes(cursor, 8);
    return bytes ? little_endian(bytes, 8) : 0;
}

void esp_cursor_doubles(esp_cursor *cursor, double *values, size_t n) {
    for (size_t i = 0; i < n; i++) {
        uint64_t bits = esp_cursor_u64(cursor);
        memcpy(&values[i], &bits, sizeof bits);
    }
}
