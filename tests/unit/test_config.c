/* SPDX-License-Identifier: Apache-2.0
 * config: defaults, file and command line in that order, and refusals that name the setting. */
#include <check.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config.h"

static char path[64];

static void write_file(const char *text) {
    FILE *file = fopen(path, "w");
    ck_assert_ptr_nonnull(file);
    fputs(text, file);
    fclose(file);
}

/* Up to seven options, ended by NULL; each a copy, as a command line's are. */
static esp_code parse(esp_config *config, esp_error *error, ...) {
    char storage[8][128] = {"espalierd"};
    char *argv[9] = {storage[0]};
    int argc = 1;
    va_list args;
    va_start(args, error);
    for (const char *option; (option = va_arg(args, const char *)); argc++) {
        snprintf(storage[argc], sizeof storage[argc], "%s", option);
        argv[argc] = storage[argc];
    }
    va_end(args);
    return esp_config_parse(config, argc, argv, error);
}
#define PARSE(...) parse(__VA_ARGS__, (const char *)NULL)

START_TEST(config_init__holds_the_defaults) {
    esp_config config;
    esp_config_init(&config);
    ck_assert_str_eq(config.listen, "127.0.0.1:8787");
    ck_assert_int_eq(config.workers, 2);
    ck_assert_int_eq(config.plan_deadline_max_ms, 600000);
}
END_TEST

START_TEST(config_parse__takes_both_spellings) {
    esp_config config;
    esp_config_init(&config);
    ck_assert_int_eq(PARSE(&config, NULL, "--workers", "3", "--plan-queue=7", "--reply_margin_ms=0", "--data", "/tmp/x y"), ESP_OK);
    ck_assert_int_eq(config.workers, 3);
    ck_assert_int_eq(config.plan_queue, 7);
    ck_assert_int_eq(config.reply_margin_ms, 0);
    ck_assert_str_eq(config.data, "/tmp/x y");
}
END_TEST

START_TEST(config_parse__puts_the_command_line_over_the_file) {
    esp_config config;
    esp_config_init(&config);
    write_file("# a comment\n\n workers = 5 \nplan_queue=9\r\ndata = /srv/espalier");
    ck_assert_int_eq(PARSE(&config, NULL, "--workers", "3", "--config", path), ESP_OK);
    ck_assert_int_eq(config.workers, 3);
    ck_assert_int_eq(config.plan_queue, 9);
    ck_assert_str_eq(config.data, "/srv/espalier");
}
END_TEST

static void expect_refused(esp_code code, const esp_error *error, const char *named) {
    ck_assert_int_eq(code, ESP_INVALID);
    ck_assert_msg(strstr(error->message, named), "'%s' does not name %s", error->message, named);
}

START_TEST(config_parse__names_the_option_it_refuses) {
    esp_config config;
    esp_error error = {0};
    esp_config_init(&config);
    expect_refused(PARSE(&config, &error, "--wrokers", "3"), &error, "--wrokers");
    expect_refused(PARSE(&config, &error, "--workers"), &error, "--workers");
    expect_refused(PARSE(&config, &error, "--workers", "many"), &error, "workers");
    expect_refused(PARSE(&config, &error, "--workers", "0"), &error, "between 1 and 256");
    expect_refused(PARSE(&config, &error, "--workers", "99999999999999999999"), &error, "workers");
    expect_refused(PARSE(&config, &error, "--workers", "3x"), &error, "workers");
    expect_refused(PARSE(&config, &error, "serve"), &error, "serve");
    ck_assert_int_eq(config.workers, 2); /* untouched by all of it */
}
END_TEST

START_TEST(config_parse__names_the_line_of_a_file) {
    esp_config config;
    esp_error error = {0};
    esp_config_init(&config);
    write_file("workers = 1\nworker_count = 3\n");
    expect_refused(PARSE(&config, &error, "--config", path), &error, "line 2");
    ck_assert_msg(strstr(error.message, "worker_count"), "%s", error.message);
    write_file("workers\n");
    expect_refused(PARSE(&config, &error, "--config", path), &error, "line 1");
    ck_assert_int_eq(PARSE(&config, &error, "--config", "/nowhere/at/all"), ESP_NOT_FOUND);
    ck_assert_int_eq(config.workers, 2);
}
END_TEST

/* The sample, with every setting uncommented, says the defaults and nothing else. */
START_TEST(config_sample__is_the_defaults) {
    esp_config config, defaults;
    esp_buf sample = {0}, text = {0};
    esp_config_sample(&sample);
    const char *line = esp_buf_text(&sample);
    for (; *line; line += strcspn(line, "\n") + 1) {
        bool setting = line[0] == '#' && line[1] >= 'a' && line[1] <= 'z';
        esp_buf_put(&text, line + setting, strcspn(line + setting, "\n") + 1);
    }
    write_file(esp_buf_text(&text));
    esp_config_init(&defaults);
    memset(&config, 0, sizeof config);
    ck_assert_int_eq(PARSE(&config, NULL, "--config", path), ESP_OK);
#define TEXT(name, dflt, doc)                ck_assert_str_eq(config.name, defaults.name);
#define INT(name, dflt, min, max, unit, doc) ck_assert_int_eq(config.name, defaults.name);
#include "config.def"
#undef TEXT
#undef INT
    esp_buf_done(&sample);
    esp_buf_done(&text);
}
END_TEST

START_TEST(config_help__names_every_setting) {
    esp_buf help = {0};
    esp_config_help(&help);
    char option[80];
#define TEXT(name, dflt, doc)                                                                                                                        \
    snprintf(option, sizeof option, "--" #name " ");                                                                                                 \
    for (char *c = option; *c; c++) *c = *c == '_' ? '-' : *c;                                                                                       \
    ck_assert_msg(strstr(esp_buf_text(&help), option), "%s", option);
#define INT(name, dflt, min, max, unit, doc) TEXT(name, dflt, doc)
#include "config.def"
#undef TEXT
#undef INT
    esp_buf_done(&help);
}
END_TEST

int main(void) {
    snprintf(path, sizeof path, "/tmp/espalier-config-%d", (int)getpid());
    Suite *suite = suite_create("config");
    TCase *tc = tcase_create("config");
    tcase_add_test(tc, config_init__holds_the_defaults);
    tcase_add_test(tc, config_parse__takes_both_spellings);
    tcase_add_test(tc, config_parse__puts_the_command_line_over_the_file);
    tcase_add_test(tc, config_parse__names_the_option_it_refuses);
    tcase_add_test(tc, config_parse__names_the_line_of_a_file);
    tcase_add_test(tc, config_sample__is_the_defaults);
    tcase_add_test(tc, config_help__names_every_setting);
    suite_add_tcase(suite, tc);
    int status = run_suite(suite);
    unlink(path);
    return status;
}
