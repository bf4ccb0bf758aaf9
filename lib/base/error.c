/* SPDX-License-Identifier: Apache-2.0
 * The error value. Holds no state of its own. */
#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void set(esp_error *reterr, esp_code code, const char *where, const char *pointer, int sys_errno, const char *format, va_list args) {
    if (!reterr) return;
    reterr->code = code;
    reterr->sys_errno = sys_errno;
    reterr->where = where;
    (void)snprintf(reterr->pointer, sizeof reterr->pointer, "%s", pointer);
    (void)vsnprintf(reterr->message, sizeof reterr->message, format, args);
}

esp_code esp_error_set(esp_error *reterr, esp_code code, const char *where, const char *pointer, const char *format, ...) {
    va_list args;
    va_start(args, format);
    set(reterr, code, where, pointer, 0, format, args);
    va_end(args);
    return code;
}

esp_code esp_error_set_errno(esp_error *reterr, esp_code code, const char *where, const char *format, ...) {
    int saved = errno;
    va_list args;
    va_start(args, format);
    set(reterr, code, where, "", saved, format, args);
    va_end(args);
    if (reterr) {
        size_t len = strlen(reterr->message);
        char text[96];
        const char *reason = strerror_r(saved, text, sizeof text);
        (void)snprintf(reterr->message + len, sizeof reterr->message - len, ": %s", reason);
    }
    return code;
}

esp_code esp_error_wrap(esp_error *reterr, esp_code code, const char *format, ...) {
    if (!reterr) return code;
    char context[160];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(context, sizeof context, format, args);
    va_end(args);
    char inner[sizeof reterr->message];
    memcpy(inner, reterr->message, sizeof inner);
    size_t room = sizeof reterr->message;
    int used = snprintf(reterr->message, room, "%s: ", context);
    if (used > 0 && (size_t)used < room) (void)snprintf(reterr->message + used, room - (size_t)used, "%.*s", (int)(room - (size_t)used - 1), inner);
    return code;
}

void esp_error_prefix_pointer(esp_error *reterr, const char *prefix) {
    if (!reterr) return;
    char inner[sizeof reterr->pointer];
    memcpy(inner, reterr->pointer, sizeof inner);
    size_t room = sizeof reterr->pointer, used = strnlen(prefix, room - 1);
    memcpy(reterr->pointer, prefix, used);
    (void)snprintf(reterr->pointer + used, room - used, "%.*s", (int)(room - used - 1), inner);
}

typedef struct catalogue_row {
    esp_code code;
    const char *name;
    int http;
    int retryable;
    const char *title;
} catalogue_row;

static const catalogue_row catalogue[] = {
    {ESP_OK, "OK", 200, 0, "Success"},
#define X(symbol, number, http, retryable, title) {ESP_##symbol, #symbol, http, retryable, title},
#include "errors.def"
#undef X
};
#define N_CATALOGUE (sizeof catalogue / sizeof catalogue[0])

static const catalogue_row *row_of(esp_code code) {
    for (size_t i = 0; i < N_CATALOGUE; i++)
        if (catalogue[i].code == code) return &catalogue[i];
    return row_of(ESP_INTERNAL);
}

const char *esp_code_name(esp_code code) {
    return row_of(code)->name;
}

const char *esp_code_title(esp_code code) {
    return row_of(code)->title;
}

int esp_code_http(esp_code code) {
    return row_of(code)->http;
}

int esp_code_retryable(esp_code code) {
    return row_of(code)->retryable;
}

esp_code esp_code_from_name(const char *name) {
    for (size_t i = 0; i < N_CATALOGUE; i++)
        if (strcmp(catalogue[i].name, name) == 0) return catalogue[i].code;
    return ESP_INTERNAL;
}
