/* SPDX-License-Identifier: Apache-2.0
 * The log of requests: whole lines from many threads, never more than two files of the size that was set, and the files of others
 * left alone. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "access_log.h"
#include "base/json.h"

enum { THREADS = 4, LINES = 2000, MIB = 1 << 20 };
static char dir[32];

static void start(const char *name) {
    static esp_config config;
    esp_error error = {0};
    esp_config_init(&config);
    snprintf(config.data, sizeof config.data, "%s", dir);
    snprintf(config.access_log, sizeof config.access_log, "%s", name);
    config.access_log_mib = 1;
    ck_assert_msg(esp_access_log_start(&config, &error) == ESP_OK, "%s", error.message);
}

static void say(int number) {
    char id[32], path[160];
    snprintf(id, sizeof id, "r%d", number);
    snprintf(path, sizeof path, "/\"%0120d\"\n\\", number);
    const esp_access access = {.request_id = id, .method = "GET", .path = path, .token = "", .address = "::1", .status = 200, .ms = 0.25};
    esp_access_log(&access);
}

static void *say_many(void *user) {
    for (int i = 0; i < LINES; i++) say(*(const int *)user * LINES + i);
    return NULL;
}

static const char *file(const char *name) {
    static char path[64];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

static long size(const char *name) {
    struct stat st;
    return stat(file(name), &st) == 0 ? (long)st.st_size : -1;
}

/* Marks the numbers of the file's lines, each of which is JSON. */
static int read_lines(const char *name, bool *seen) {
    char line[1000];
    int n = 0;
    FILE *f = fopen(file(name), "r");
    ck_assert_ptr_nonnull(f);
    for (; fgets(line, sizeof line, f); n++) {
        esp_json *json = NULL;
        const char *id = "";
        ck_assert_msg(esp_json_parse(line, strlen(line), &json, NULL) == ESP_OK, "%s", line);
        esp_reader root = esp_reader_root(json), member = esp_read_member(&root, "request_id");
        ck_assert_int_eq(esp_read_string(&member, 32, &id, NULL), ESP_OK);
        ck_assert(!seen[atoi(id + 1)]);
        seen[atoi(id + 1)] = true;
        esp_json_free(json);
    }
    fclose(f);
    return n;
}

START_TEST(access_log__keeps_every_line_and_its_size) {
    static bool seen[THREADS * LINES];
    pthread_t threads[THREADS];
    int numbers[THREADS];
    start("access.log");
    for (int i = 0; i < THREADS; i++) {
        numbers[i] = i;
        ck_assert_int_eq(pthread_create(&threads[i], NULL, say_many, &numbers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    esp_access_log_stop();
    ck_assert_int_gt(size("access.log"), 0);
    int n = read_lines("access.log", seen);
    if (size("access.log.1") > 0) n += read_lines("access.log.1", seen);
    ck_assert_int_gt(n, LINES);
    /* again and again: the two files stay within what was set, but for what is written at once */
    for (int turn = 0; turn < 3; turn++) {
        start("access.log");
        for (int i = 0; i < LINES; i++) say(i);
        esp_access_log_stop();
        ck_assert_int_le(size("access.log"), MIB);
    }
    ck_assert_int_gt(size("access.log.1"), 0);
}
END_TEST

START_TEST(access_log__is_opened_again_when_it_was_moved) {
    bool seen[10] = {false};
    start("access.log");
    say(1);
    for (int turn = 0; turn < 200 && size("access.log") <= 0; turn++) usleep(10000);
    char moved[64];
    snprintf(moved, sizeof moved, "%s", file("moved"));
    ck_assert_int_eq(rename(file("access.log"), moved), 0);
    esp_access_log_reopen();
    for (int turn = 0; turn < 200 && size("access.log") < 0; turn++) usleep(10000);
    say(2);
    esp_access_log_stop();
    ck_assert_int_eq(read_lines("moved", seen), 1);
    ck_assert_int_eq(read_lines("access.log", seen), 1);
    ck_assert(seen[1] && seen[2]);
}
END_TEST

START_TEST(access_log__of_no_name_is_none) {
    start("");
    say(1);
    esp_access_log_stop();
    ck_assert_int_eq(size("access.log"), -1);
}
END_TEST

START_TEST(access_log__that_cannot_be_opened_is_refused) {
    static esp_config config;
    esp_error error = {0};
    esp_config_init(&config);
    snprintf(config.access_log, sizeof config.access_log, "/nowhere/at/all");
    ck_assert_int_eq(esp_access_log_start(&config, &error), ESP_IO);
    ck_assert_ptr_nonnull(strstr(error.message, "/nowhere/at/all"));
}
END_TEST

static void setup(void) {
    strcpy(dir, "/tmp/espalier-test-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
}

static void teardown(void) {
    unlink(file("access.log"));
    unlink(file("access.log.1"));
    unlink(file("moved"));
    rmdir(dir);
}

int main(void) {
    Suite *suite = suite_create("access_log");
    TCase *c = tcase_create("access_log");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, access_log__keeps_every_line_and_its_size);
    tcase_add_test(c, access_log__is_opened_again_when_it_was_moved);
    tcase_add_test(c, access_log__of_no_name_is_none);
    tcase_add_test(c, access_log__that_cannot_be_opened_is_refused);
    suite_add_tcase(suite, c);
    return run_suite(suite);
}
