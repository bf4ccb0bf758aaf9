/* SPDX-License-Identifier: Apache-2.0
 * The daemon is killed (SIGKILL) in the middle of writes and of an upload. Oracle: a ledger of what was acknowledged. After
 * the restart everything in it is there, whole; what was not acknowledged is there whole or not at all. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <dirent.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/rng.h"
#include "support/http.h"

static test_daemon d;
enum { WRITERS = 3, ROUNDS = 6, LEDGER = 4096 };

/* One acknowledged dataset. */
typedef struct entry {
    char id[64], sha256[ESP_HASH_HEX];
} entry;
static struct {
    pthread_mutex_t lock;
    size_t n;
    entry entries[LEDGER];
} ledger = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* A bare client: the daemon dies under it, which a test's HTTP client would call a failure. */
static int dial(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)d.port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0) return fd;
    if (fd >= 0) close(fd);
    return -1;
}

static bool upload(int fd, const char *name, const char *body, size_t len, char text[4096]) {
    char head[300];
    int n = snprintf(head, sizeof head,
                     "POST /v1/datasets?name=%s HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\nContent-Length: %zu\r\n\r\n", name, len);
    if (send(fd, head, (size_t)n, MSG_NOSIGNAL) != n || send(fd, body, len, MSG_NOSIGNAL) != (ssize_t)len) return false;
    size_t got = 0;
    while (got < 4095) {
        ssize_t r = recv(fd, text + got, 4095 - got, 0);
        if (r <= 0) return false;
        got += (size_t)r;
        text[got] = '\0';
        if (strstr(text, "\"created_at\"") && text[got - 1] == '}') return strncmp(text, "HTTP/1.1 201", 12) == 0;
    }
    return false;
}

static void acknowledge(const char *text, const char *body, size_t len) {
    const char *id = strstr(text, "\"id\":\"");
    pthread_mutex_lock(&ledger.lock);
    entry *e = &ledger.entries[ledger.n];
    if (ledger.n < LEDGER && sscanf(id + 6, "%60[^\"]", e->id) == 1) {
        esp_hash_bytes(body, len, e->sha256);
        ledger.n++;
    }
    pthread_mutex_unlock(&ledger.lock);
}

typedef struct writer {
    pthread_t thread;
    uint64_t seed;
} writer;

/* Uploads, different ones each, until the connection breaks. */
static void *writer_main(void *user) {
    writer *w = user;
    char name[32], body[512], text[4096];
    esp_rng rng;
    esp_rng_init(&rng, w->seed, 0);
    int fd = dial();
    for (int i = 0; fd >= 0; i++) {
        int len = 0;
        for (size_t k = 0; k < 1 + esp_rng_below(&rng, 5); k++) {
            len += snprintf(body + len, sizeof body - (size_t)len, "{\"y\":[[%d,%zu],[%d,1]],\"u\":[[1]]}\n", i, esp_rng_below(&rng, 1000000),
                            (int)w->seed);
        }
        snprintf(name, sizeof name, "kill%zu", esp_rng_below(&rng, 4));
        if (!upload(fd, name, body, (size_t)len, text)) break;
        acknowledge(text, body, (size_t)len);
    }
    if (fd >= 0) close(fd);
    return NULL;
}

static void check_ledger(void) {
    char path[200], hash[ESP_HASH_HEX];
    for (size_t i = 0; i < ledger.n; i++) {
        snprintf(path, sizeof path, "/v1/datasets/%s/data", ledger.entries[i].id);
        http_reply reply = http_get(&d, path);
        expect_status(reply, 200);
        esp_hash_bytes(reply.body, reply.len, hash);
        ck_assert_str_eq(hash, ledger.entries[i].sha256);
        http_done(&reply);
    }
}

/* Every row, acknowledged or not, has a whole blob, and versions have no gaps. */
static void check_rows(void) {
    char path[700] = "/v1/datasets?limit=1000&sort=id", hash[ESP_HASH_HEX];
    int newest[4] = {0};
    for (bool more = true; more;) {
        http_reply page = http_get(&d, path);
        expect_status(page, 200);
        for (size_t i = 0; i < reply_count(&page, "/items"); i++) {
            char at[64];
            int which = 0;
            snprintf(at, sizeof at, "/items/%zu/name", i);
            if (sscanf(reply_text(&page, at), "kill%d", &which) != 1) continue;
            snprintf(at, sizeof at, "/items/%zu/version", i);
            ck_assert_int_eq((int)reply_number(&page, at), ++newest[which]);
            snprintf(at, sizeof at, "/items/%zu/id", i);
            snprintf(path, sizeof path, "/v1/datasets/%s/data", reply_text(&page, at));
            http_reply data = http_get(&d, path);
            expect_status(data, 200);
            esp_hash_bytes(data.body, data.len, hash);
            snprintf(at, sizeof at, "/items/%zu/sha256", i);
            ck_assert_str_eq(hash, reply_text(&page, at));
            http_done(&data);
        }
        more = reply_has(&page, "/next");
        if (more) snprintf(path, sizeof path, "/v1/datasets?limit=1000&sort=id&cursor=%s", reply_text(&page, "/next"));
        http_done(&page);
    }
}

static int files_in_tmp(void) {
    char path[128];
    int n = 0;
    snprintf(path, sizeof path, "%s/data/tmp", d.dir);
    DIR *dir = opendir(path);
    for (struct dirent *e = dir ? readdir(dir) : NULL; e; e = readdir(dir)) n += e->d_name[0] != '.';
    if (dir) closedir(dir);
    return n;
}

START_TEST(kill__acknowledged_writes_survive) {
    const char *only = getenv("ESP_SEED");
    esp_rng rng;
    esp_rng_init(&rng, only ? strtoull(only, NULL, 10) : 1, 1);
    for (int round = 0; round < ROUNDS; round++) {
        writer writers[WRITERS];
        daemon_start(&d, NULL);
        for (int i = 0; i < WRITERS; i++) {
            writers[i].seed = (uint64_t)(round * WRITERS + i);
            ck_assert_int_eq(pthread_create(&writers[i].thread, NULL, writer_main, &writers[i]), 0);
        }
        usleep(20000 + (useconds_t)esp_rng_below(&rng, 150000));
        daemon_kill(&d);
        for (int i = 0; i < WRITERS; i++) pthread_join(writers[i].thread, NULL);
    }
    ck_assert_uint_gt(ledger.n, 0);
    daemon_start(&d, NULL);
    ck_assert_int_eq(files_in_tmp(), 0);
    check_ledger();
    check_rows();
    ck_assert_int_eq(daemon_stop(&d), 0);
}
END_TEST

START_TEST(kill__half_an_upload_leaves_nothing) {
    static const char head[] =
        "POST /v1/datasets?name=half HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\nContent-Length: 100000000\r\n\r\n";
    static const char line[] = "{\"y\":[[0],[1]],\"u\":[[1]]}\n";
    daemon_start(&d, NULL);
    int fd = dial();
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(send(fd, head, sizeof head - 1, MSG_NOSIGNAL), sizeof head - 1);
    for (int i = 0; i < 50000; i++) ck_assert_int_eq(send(fd, line, sizeof line - 1, MSG_NOSIGNAL), sizeof line - 1);
    for (int tries = 0; files_in_tmp() == 0 && tries < 200; tries++) usleep(10000);
    ck_assert_int_eq(files_in_tmp(), 1);
    daemon_kill(&d);
    close(fd);
    daemon_start(&d, NULL);
    http_reply reply = http_get(&d, "/v1/datasets?name=half");
    ck_assert_uint_eq(reply_count(&reply, "/items"), 0);
    http_done(&reply);
    ck_assert_int_eq(files_in_tmp(), 0);
    ck_assert_int_eq(daemon_stop(&d), 0);
}
END_TEST

/* The client goes in the middle: the daemon forgets the upload without being restarted. */
START_TEST(kill__client_who_leaves_an_upload_leaves_nothing) {
    static const char head[] =
        "POST /v1/datasets?name=left HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\nContent-Length: 1000\r\n\r\n{\"y\":[[0],[1]],";
    daemon_start(&d, NULL);
    int fd = dial();
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(send(fd, head, sizeof head - 1, MSG_NOSIGNAL), sizeof head - 1);
    for (int tries = 0; files_in_tmp() == 0 && tries < 200; tries++) usleep(10000);
    ck_assert_int_eq(files_in_tmp(), 1);
    close(fd);
    for (int tries = 0; files_in_tmp() == 1 && tries < 300; tries++) usleep(10000);
    ck_assert_int_eq(files_in_tmp(), 0);
    ck_assert_int_eq(daemon_stop(&d), 0);
}
END_TEST

static void cleanup(void) {
    daemon_finish(&d, 0);
}

int main(void) {
    Suite *suite = suite_create("kill");
    TCase *c = tcase_create("kill");
    tcase_set_timeout(c, 120);
    tcase_add_checked_fixture(c, NULL, cleanup);
    tcase_add_test(c, kill__acknowledged_writes_survive);
    tcase_add_test(c, kill__half_an_upload_leaves_nothing);
    tcase_add_test(c, kill__client_who_leaves_an_upload_leaves_nothing);
    suite_add_tcase(suite, c);
    return run_suite(suite);
}
