/* SPDX-License-Identifier: Apache-2.0
 * JSON out: text appended piece by piece, no tree. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"

/* 17 digits that no 15 can stand for: a decimal of 15 that reads back equal is within half an ulp, at most 11.1 units of the 17th
 * digit, and a multiple of 100 of them. */
static bool is_long(const char *digits) {
    int n = 0, tail = 0;
    for (const char *c = digits; *c && *c != 'e'; c++) {
        if (*c < '0' || *c > '9' || (*c == '0' && n == 0)) continue;
        tail = 10 * (tail % 10) + (*c - '0');
        n++;
    }
    return n == 17 && tail >= 12 && tail <= 88;
}

size_t esp_format_number(double value, char *ret) {
    if (!isfinite(value)) {
        memcpy(ret, "null", 5);
        return 4;
    }
    if (value == 0 && signbit(value)) { /* "-0" would be read back as the integer 0 */
        memcpy(ret, "-0.0", 5);
        return 4;
    }
    if (value == floor(value) && fabs(value) < 1e15) return (size_t)snprintf(ret, 32, "%.0f", value);
    char shorter[32];
    int len = snprintf(ret, 32, "%.17g", value);
    if (is_long(ret)) return (size_t)len;
    int n = snprintf(shorter, sizeof shorter, "%.15g", value);
    if (strtod(shorter, NULL) != value) return (size_t)len;
    memcpy(ret, shorter, (size_t)n + 1);
    return (size_t)n;
}

/* The length of the valid UTF-8 sequence at text[0..], 0 when it is not one (RFC 3629: no surrogates, no overlongs). */
static size_t utf8_length(const unsigned char *s) {
    if (s[0] < 0x80) return 1;
    if (s[0] >= 0xc2 && s[0] <= 0xdf) return (s[1] & 0xc0) == 0x80 ? 2 : 0;
    if (s[0] >= 0xe0 && s[0] <= 0xef) {
        unsigned low = s[0] == 0xe0 ? 0xa0 : 0x80, high = s[0] == 0xed ? 0x9f : 0xbf;
        return s[1] >= low && s[1] <= high && (s[2] & 0xc0) == 0x80 ? 3 : 0;
    }
    if (s[0] >= 0xf0 && s[0] <= 0xf4) {
        unsigned low = s[0] == 0xf0 ? 0x90 : 0x80, high = s[0] == 0xf4 ? 0x8f : 0xbf;
        return s[1] >= low && s[1] <= high && (s[2] & 0xc0) == 0x80 && (s[3] & 0xc0) == 0x80 ? 4 : 0;
    }
    return 0;
}

static void put_string(esp_buf *out, const char *text) {
    esp_buf_put(out, "\"", 1);
    const unsigned char *s = (const unsigned char *)text;
    while (*s) {
        size_t plain = 0; /* a run that needs no escape goes out at once */
        for (size_t step; s[plain] >= 0x20 && s[plain] != '"' && s[plain] != '\\' && (step = utf8_length(s + plain)) > 0;) plain += step;
        esp_buf_put(out, s, plain);
        s += plain;
        if (!*s) break;
        if (*s == '"' || *s == '\\')
            esp_buf_printf(out, "\\%c", *s);
        else if (*s < 0x20)
            esp_buf_printf(out, "\\u%04x", *s);
        else
            esp_buf_puts(out, "\\ufffd");
        s++;
    }
    esp_buf_put(out, "\"", 1);
}

static void before(esp_jsonw *w, const char *key) {
    if (w->comma) esp_buf_put(w->out, ",", 1);
    w->comma = true;
    if (!key) return;
    put_string(w->out, key);
    esp_buf_put(w->out, ":", 1);
}

static void open_with(esp_jsonw *w, const char *key, const char *bracket) {
    before(w, key);
    esp_buf_put(w->out, bracket, 1);
    w->comma = false;
}

static void close_with(esp_jsonw *w, const char *bracket) {
    esp_buf_put(w->out, bracket, 1);
    w->comma = true;
}

void esp_jsonw_object(esp_jsonw *w, const char *key) {
    open_with(w, key, "{");
}

void esp_jsonw_object_end(esp_jsonw *w) {
    close_with(w, "}");
}

void esp_jsonw_array(esp_jsonw *w, const char *key) {
    open_with(w, key, "[");
}

void esp_jsonw_array_end(esp_jsonw *w) {
    close_with(w, "]");
}

void esp_jsonw_number(esp_jsonw *w, const char *key, double value) {
    char text[32];
    before(w, key);
    esp_buf_put(w->out, text, esp_format_number(value, text));
}

void esp_jsonw_integer(esp_jsonw *w, const char *key, int64_t value) {
    before(w, key);
    esp_buf_printf(w->out, "%lld", (long long)value);
}

void esp_jsonw_bool(esp_jsonw *w, const char *key, bool value) {
    before(w, key);
    esp_buf_puts(w->out, value ? "true" : "false");
}

void esp_jsonw_null(esp_jsonw *w, const char *key) {
    before(w, key);
    esp_buf_puts(w->out, "null");
}

void esp_jsonw_string(esp_jsonw *w, const char *key, const char *text) {
    if (!text) {
        esp_jsonw_null(w, key);
        return;
    }
    before(w, key);
    put_string(w->out, text);
}

void esp_jsonw_vector(esp_jsonw *w, const char *key, const double *values, size_t n) {
    esp_jsonw_array(w, key);
    for (size_t i = 0; i < n; i++) esp_jsonw_number(w, NULL, values[i]);
    esp_jsonw_array_end(w);
}

void esp_jsonw_matrix(esp_jsonw *w, const char *key, const double *values, size_t rows, size_t cols) {
    esp_jsonw_array(w, key);
    for (size_t i = 0; i < rows; i++) esp_jsonw_vector(w, NULL, values + i * cols, cols);
    esp_jsonw_array_end(w);
}

void esp_jsonw_raw(esp_jsonw *w, const char *key, const char *json, size_t len) {
    before(w, key);
    esp_buf_put(w->out, json, len);
}

void esp_jsonw_value(esp_jsonw *w, const char *key, const esp_json *json) {
    before(w, key);
    esp_json_canonical(json, w->out);
}
