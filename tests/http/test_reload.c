/* SPDX-License-Identifier: Apache-2.0
 * SIGHUP: limits are read again from the configuration file, what cannot change while running does not, and a bad file changes
 * nothing. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "support/http.h"

static test_daemon d;
static char config[80];

static void configure(const char *text) {
    FILE *file = fopen(config, "w");
    if (!file) exit(1);
    fputs(text, file);
    fclose(file);
}

/* Status of an upload of about 1.5 MiB, each time another one. */
static int upload(void) {
    static int n;
    enum { LINE = 1 << 16, LINES = 24 };
    char *body = malloc((size_t)LINE * LINES + 1), *at = body, path[60];
    for (int i = 0; i < LINES; i++) {
        char *line = at;
        at += sprintf(at, "{\"y\":[[%d]", n);
        while (at - line < LINE - 40) at += sprintf(at, ",[0.125]");
        long steps = 0;
        for (const char *p = line; (p = strstr(p, ",[0.125]")) && p < at; p += 8) steps++;
        at = line + sprintf(line, "{\"y\":[[%d]", n); /* again, now that the number of steps for half of it is known */
        for (long s = 0; s < steps / 2; s++) at += sprintf(at, ",[0.125]");
        at += sprintf(at, "],\"u\":[");
        for (long s = 0; s < steps / 2; s++) at += sprintf(at, "%s[0.5]", s ? "," : "");
        at += sprintf(at, "]}\n");
    }
    snprintf(path, sizeof path, "/v1/datasets?name=big-%d", n++);
    http_reply reply = http_post(&d, path, "application/x-ndjson", body, (size_t)(at - body));
    int status = reply.status;
    http_done(&reply);
    free(body);
    return status;
}

static void hup_until(int wanted) {
    int status = 0;
    ck_assert_int_eq(kill(d.pid, SIGHUP), 0);
    for (int i = 0; i < 50 && (status = upload()) != wanted; i++) usleep(50000);
    ck_assert_int_eq(status, wanted);
}

START_TEST(reload__takes_limits_from_the_file) {
    ck_assert_int_eq(upload(), 413);
    configure("dataset_mib = 8\nhttp_threads = 7\n");
    hup_until(201);
    configure("dataset_mib = lots\n");
    ck_assert_int_eq(kill(d.pid, SIGHUP), 0);
    usleep(300000);
    ck_assert_int_eq(upload(), 201); /* as before */
    http_reply reply = http_get(&d, "/readyz");
    expect_status(reply, 200);
    http_done(&reply);
    configure("dataset_mib = 1\n");
    hup_until(413);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("reload");
    TCase *tcase = tcase_create("reload");
    tcase_set_timeout(tcase, 30);
    tcase_add_test(tcase, reload__takes_limits_from_the_file);
    suite_add_tcase(suite, tcase);
    snprintf(config, sizeof config, "/tmp/espalier-reload-%d", (int)getpid());
    configure("dataset_mib = 1\n");
    const char *options[] = {"--config", config, NULL};
    daemon_start(&d, options);
    int status = daemon_finish(&d, run_suite(suite));
    unlink(config);
    return status;
}
