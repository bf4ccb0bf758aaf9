/* SPDX-License-Identifier: Apache-2.0
 * The error value: a code from the catalogue and a sentence, owned by the caller.
 *
 * Every function that can fail returns an esp_code and takes an `esp_error *reterr` last. On success neither the
 * error nor, on failure, the results are touched. reterr may be NULL. No allocation, so it works when memory is out.
 * A mathematical answer (infeasible, not certified, time limit) is not an error: it is a status in the result. */
#ifndef ESP_BASE_ERROR_H
#define ESP_BASE_ERROR_H

typedef enum esp_code {
    ESP_OK = 0,
#define X(symbol, number, http, retryable, title) ESP_##symbol = -(number),
#include "errors.def"
#undef X
} esp_code;

typedef struct esp_error {
    esp_code code;
    int sys_errno; /* errno behind the failure, 0 when none */
    const char *where; /* function that failed, static storage */
    char pointer[128]; /* JSON Pointer ("/cost/stage/0/weight") or "line 17": what was wrong; "" when nothing in the input is */
    char message[320]; /* one sentence, no final full stop needed */
} esp_error;

#define ESP_MUST_CHECK __attribute__((warn_unused_result))

/* Fills the error and returns its code: `return esp_fail(reterr, ESP_INVALID, "...");` */
#define esp_fail(reterr, code, ...) esp_error_set((reterr), (code), __func__, "", __VA_ARGS__)
/* The same, naming the offending field or line. */
#define esp_fail_at(reterr, code, pointer, ...) esp_error_set((reterr), (code), __func__, (pointer), __VA_ARGS__)
/* The same for a failed system call; reads errno. */
#define esp_fail_errno(reterr, code, ...) esp_error_set_errno((reterr), (code), __func__, __VA_ARGS__)

esp_code esp_error_set(esp_error *reterr, esp_code code, const char *where, const char *pointer, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
esp_code esp_error_set_errno(esp_error *reterr, esp_code code, const char *where, const char *format, ...) __attribute__((format(printf, 4, 5)));

/* Puts context in front of the message ("load model: ...") and returns the code, unchanged. */
esp_code esp_error_wrap(esp_error *reterr, esp_code code, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* Puts `prefix` in front of the pointer ("/spec" + "/dataset"). */
void esp_error_prefix_pointer(esp_error *reterr, const char *prefix);

const char *esp_code_name(esp_code code); /* "NOT_FOUND"; "OK" for ESP_OK */
const char *esp_code_title(esp_code code); /* the catalogue's sentence */
int esp_code_http(esp_code code); /* 200 for ESP_OK */
int esp_code_retryable(esp_code code);
/* The code of a catalogue name, ESP_INTERNAL when unknown. */
esp_code esp_code_from_name(const char *name);

#endif
