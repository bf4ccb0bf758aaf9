/* SPDX-License-Identifier: Apache-2.0
 * Settings: schema/config.def as a struct; from defaults, then the file, then the command line. */
#ifndef ESP_SERVER_CONFIG_H
#define ESP_SERVER_CONFIG_H

#include "base/buf.h"
#include "base/error.h"

typedef struct esp_config {
#define TEXT(name, dflt, doc)                char name[1024];
#define INT(name, dflt, min, max, unit, doc) int name;
#include "config.def"
#undef TEXT
#undef INT
} esp_config;

void esp_config_init(esp_config *config);
/* `--config FILE` is read first, wherever it stands. Errors name the setting. */
ESP_MUST_CHECK esp_code esp_config_parse(esp_config *config, int argc, char **argv, esp_error *reterr);
/* Takes over the settings that may change while the daemon runs (LIVE in config.def). Others read them meanwhile: through
 * esp_config_live. */
void esp_config_reload(esp_config *config, const esp_config *fresh);
#define esp_config_live(setting) __atomic_load_n(&(setting), __ATOMIC_RELAXED)
void esp_config_help(esp_buf *out); /* the options, for --help */
void esp_config_sample(esp_buf *out); /* a commented configuration file, for --sample-config */

#endif
