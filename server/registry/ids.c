/* SPDX-License-Identifier: Apache-2.0
 * Names, ids and refs.
 *
 * An id is "mdl_" and 22 base-32 digits: 10 of the wall clock in milliseconds, 12 (60 bits) random. Within one
 * millisecond, or when the clock steps back, the random part counts up instead, so ids of one process always rise. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "registry/query.h"

enum { TIME_DIGITS = 10, RANDOM_DIGITS = 12 };
static const char digits[] = "0123456789abcdefghjkmnpqrstvwxyz"; /* in ASCII order; no i, l, o, u */

/* "xyz_" and exactly an id's digits. */
static bool id_shaped(const char *text) {
    if (strlen(text) != 4 + TIME_DIGITS + RANDOM_DIGITS || text[3] != '_') return false;
    return strspn(text + 4, digits) == TIME_DIGITS + RANDOM_DIGITS;
}

static bool alnum(char c) {
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

bool esp_name_ok(const char *name) {
    size_t len = strlen(name);
    if (len == 0 || len > ESP_NAME_MAX || !alnum(name[0])) return false;
    for (size_t i = 1; i < len; i++) {
        if (!alnum(name[i]) && name[i] != '.' && name[i] != '_' && name[i] != '-') return false;
    }
    return !id_shaped(name); /* a ref must not mean two things */
}

static void put_digits(char *ret, uint64_t value, int n) {
    for (int i = n - 1; i >= 0; i--, value >>= 5) ret[i] = digits[value & 31];
}

void esp_id_make(const char *prefix, char ret_id[ESP_ID_MAX]) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static int64_t last_ms;
    static uint64_t low;
    int64_t now = esp_clock_wall_ms();
    pthread_mutex_lock(&lock);
    if (now > last_ms) {
        last_ms = now;
        uint64_t fresh = 0;
        if (getrandom(&fresh, sizeof fresh, 0) != sizeof fresh) fresh = low * 6364136223846793005u + (uint64_t)now;
        low = fresh >> 5; /* 59 bits: room to count up */
    } else {
        low++;
    }
    int64_t ms = last_ms;
    uint64_t value = low;
    pthread_mutex_unlock(&lock);
    size_t n = strlen(prefix);
    memcpy(ret_id, prefix, n);
    ret_id[n++] = '_';
    put_digits(ret_id + n, (uint64_t)ms, TIME_DIGITS);
    put_digits(ret_id + n + TIME_DIGITS, value, RANDOM_DIGITS);
    ret_id[n + TIME_DIGITS + RANDOM_DIGITS] = '\0';
}

static bool parse_version(const char *text, int64_t *ret) {
    int64_t value = 0;
    size_t len = strlen(text);
    if (len == 0 || len > 15 || text[0] == '0') return false;
    for (; *text; text++) {
        if (*text < '0' || *text > '9') return false;
        value = value * 10 + (*text - '0');
    }
    *ret = value;
    return true;
}

esp_code esp_ref_parse(const char *text, const char *prefix, esp_ref *ret_ref, esp_error *reterr) {
    esp_ref ref = {0};
    size_t name_len = strcspn(text, "/@");
    bool good = name_len <= ESP_NAME_MAX;
    if (good) memcpy(ref.name, text, name_len);
    const char *rest = text + name_len;
    if (good && *rest == '\0' && id_shaped(text)) {
        good = strncmp(text, prefix, 3) == 0;
        ref.kind = ESP_REF_ID;
    } else if (good && esp_name_ok(ref.name)) {
        ref.kind = *rest == '\0' ? ESP_REF_NEWEST : *rest == '/' ? ESP_REF_VERSION : ESP_REF_ALIAS;
        if (ref.kind == ESP_REF_VERSION) good = parse_version(rest + 1, &ref.version);
        if (ref.kind == ESP_REF_ALIAS && (good = esp_name_ok(rest + 1))) strcpy(ref.alias, rest + 1);
    } else {
        good = false;
    }
    if (!good) return esp_fail(reterr, ESP_INVALID, "'%.80s' is not a reference: an id (%s_...), name, name/version or name@alias", text, prefix);
    *ret_ref = ref;
    return ESP_OK;
}
