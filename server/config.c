/* SPDX-License-Identifier: Apache-2.0
 * Settings from defaults, then the file, then the command line; every one described once, in schema/config.def. */
#include "config.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <stddef.h>

enum { FILE_CAP = 1 << 20, TEXT_CAP = 1024 };

typedef struct setting {
    const char *name;
    size_t offset;
    bool text;
    int min, max;
    const char *dflt, *unit, *doc;
} setting;

static const setting settings[] = {
#define TEXT(name, dflt, doc)                {#name, offsetof(esp_config, name), true, 0, 0, dflt, "", doc},
#define INT(name, dflt, min, max, unit, doc) {#name, offsetof(esp_config, name), false, min, max, #dflt, unit, doc},
#include "config.def"
#undef TEXT
#undef INT
};
enum { N_SETTINGS = sizeof settings / sizeof *settings };

void esp_config_init(esp_config *config) {
    memset(config, 0, sizeof *config);
#define TEXT(name, dflt, doc)                snprintf(config->name, sizeof config->name, "%s", dflt);
#define INT(name, dflt, min, max, unit, doc) config->name = dflt;
#include "config.def"
#undef TEXT
#undef INT
}

/* `name` with dashes or underscores. */
static const setting *find(const char *name, size_t len) {
    for (size_t i = 0; i < N_SETTINGS; i++) {
        const char *known = settings[i].name;
        size_t k = 0;
        while (k < len && known[k] && (known[k] == name[k] || (known[k] == '_' && name[k] == '-'))) k++;
        if (k == len && !known[k]) return &settings[i];
    }
    return NULL;
}

static esp_code set(esp_config *config, const setting *s, const char *value, esp_error *reterr) {
    void *field = (char *)config + s->offset;
    if (s->text) {
        size_t len = strlen(value);
        if (len >= TEXT_CAP) return esp_fail_at(reterr, ESP_INVALID, s->name, "%s is longer than %d bytes", s->name, TEXT_CAP - 1);
        memcpy(field, value, len + 1);
        return ESP_OK;
    }
    char *end = NULL;
    errno = 0;
    long number = strtol(value, &end, 10);
    if (errno || end == value || *end) return esp_fail_at(reterr, ESP_INVALID, s->name, "%s must be a whole number, not '%.40s'", s->name, value);
    if (number < s->min || number > s->max)
        return esp_fail_at(reterr, ESP_INVALID, s->name, "%s must be between %d and %d, not %ld", s->name, s->min, s->max, number);
    *(int *)field = (int)number;
    return ESP_OK;
}

static char *trim(char *text) {
    while (*text == ' ' || *text == '\t') text++;
    size_t n = strlen(text);
    while (n && (text[n - 1] == ' ' || text[n - 1] == '\t' || text[n - 1] == '\r')) text[--n] = '\0';
    return text;
}

/* One line of a file: `name = value`, or nothing. */
static esp_code read_line(esp_config *config, char *line, esp_error *reterr) {
    char *text = trim(line);
    if (!*text || *text == '#') return ESP_OK;
    char *equals = strchr(text, '=');
    if (!equals) return esp_fail(reterr, ESP_INVALID, "expected 'name = value', not '%.40s'", text);
    *equals = '\0';
    const char *name = trim(text);
    const setting *s = find(name, strlen(name));
    if (!s) return esp_fail_at(reterr, ESP_INVALID, name, "there is no setting '%.40s'", name);
    return set(config, s, trim(equals + 1), reterr);
}

static esp_code read_file(esp_config *config, const char *path, esp_error *reterr) {
    esp_buf bytes = {0};
    esp_code code = esp_file_read(path, FILE_CAP, &bytes, reterr);
    if (code) return esp_error_wrap(reterr, code, "configuration file %.200s", path);
    esp_buf_put(&bytes, "\n", 1);
    char *text = bytes.failed ? NULL : bytes.data;
    int number = 0;
    for (size_t at = 0; text && !code && at < bytes.len; number++) {
        char *end = memchr(text + at, '\n', bytes.len - at);
        *end = '\0';
        code = read_line(config, text + at, reterr);
        at = (size_t)(end - text) + 1;
    }
    if (code) esp_error_wrap(reterr, code, "%.200s line %d", path, number);
    if (!text) code = esp_fail(reterr, ESP_NOMEM, "no memory for the configuration file");
    esp_buf_done(&bytes);
    return code;
}

/* Takes one option at argv[*i], `--name VALUE` or `--name=VALUE`; *ret_file is set instead when it is --config. */
static esp_code read_option(esp_config *config, int argc, char **argv, int *i, bool only_file, const char **ret_file, esp_error *reterr) {
    const char *option = argv[*i];
    if (strncmp(option, "--", 2) != 0) return esp_fail_at(reterr, ESP_INVALID, option, "'%.60s' is not an option", option);
    const char *equals = strchr(option, '=');
    size_t len = equals ? (size_t)(equals - option) - 2 : strlen(option) - 2;
    bool is_file = len == 6 && memcmp(option + 2, "config", 6) == 0;
    const setting *s = is_file ? NULL : find(option + 2, len);
    if (!s && !is_file) return esp_fail_at(reterr, ESP_INVALID, option, "there is no option '%.60s'; --help lists them", option);
    const char *value = equals ? equals + 1 : *i + 1 < argc ? argv[++*i] : NULL;
    if (!value) return esp_fail_at(reterr, ESP_INVALID, option, "the option %.60s needs a value", option);
    if (is_file) {
        *ret_file = value;
        return ESP_OK;
    }
    return only_file ? ESP_OK : set(config, s, value, reterr);
}

esp_code esp_config_parse(esp_config *config, int argc, char **argv, esp_error *reterr) {
    esp_config parsed = *config;
    const char *file = NULL;
    for (int i = 1; i < argc; i++) {
        esp_code code = read_option(&parsed, argc, argv, &i, true, &file, reterr);
        if (code) return code;
    }
    if (file) {
        esp_code code = read_file(&parsed, file, reterr);
        if (code) return code;
    }
    for (int i = 1; i < argc; i++) {
        esp_code code = read_option(&parsed, argc, argv, &i, false, &file, reterr);
        if (code) return code;
    }
    *config = parsed;
    return ESP_OK;
}

void esp_config_reload(esp_config *config, const esp_config *fresh) {
#define LIVE(name) __atomic_store_n(&config->name, fresh->name, __ATOMIC_RELAXED);
#include "config.def"
#undef LIVE
}

static void put_range(const setting *s, esp_buf *out) {
    if (s->text) {
        esp_buf_printf(out, "[%s]", *s->dflt ? s->dflt : "empty");
        return;
    }
    esp_buf_printf(out, "[%s%s%s, %d to %d]", s->dflt, *s->unit ? " " : "", s->unit, s->min, s->max);
}

void esp_config_help(esp_buf *out) {
    esp_buf_puts(out, "  --config FILE\n        settings from a file of `name = value` lines; the command line goes over it\n");
    for (size_t i = 0; i < N_SETTINGS; i++) {
        char option[64];
        snprintf(option, sizeof option, "%s", settings[i].name);
        for (char *c = option; *c; c++)
            if (*c == '_') *c = '-';
        esp_buf_printf(out, "  --%s %s\n        %s ", option, settings[i].text ? "TEXT" : "N", settings[i].doc);
        put_range(&settings[i], out);
        esp_buf_puts(out, "\n");
    }
}

void esp_config_sample(esp_buf *out) {
    esp_buf_puts(out, "# espalierd: every setting with its default. Uncomment what you change; --name VALUE goes over this file.\n");
    for (size_t i = 0; i < N_SETTINGS; i++) {
        esp_buf_printf(out, "\n# %s ", settings[i].doc);
        put_range(&settings[i], out);
        esp_buf_printf(out, "\n#%s = %s\n", settings[i].name, settings[i].dflt);
    }
}
