/* SPDX-License-Identifier: Apache-2.0
 * Kept pages of lists: the second answer is the first one's bytes until something is committed, and never after; forms, cursors
 * and conditions are told apart. */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/http.h"

static test_daemon d;

static void upload(int i) {
    char path[100], body[200];
    snprintf(path, sizeof path, "/v1/models?name=net-%d&kind=policy", i);
    snprintf(body, sizeof body, "{\"layers\":[{\"w\":[[%d,2]],\"b\":[0],\"activation\":\"relu\"}]}", i);
    http_reply reply = http_json(&d, "POST", path, body);
    expect_status(reply, 201);
    http_done(&reply);
}

static http_reply get(const char *path, const char *header) {
    const char *headers[] = {header, NULL};
    http_reply reply;
    http_send(&d, &(http_request){.method = "GET", .path = path, .headers = header ? headers : NULL}, &reply);
    return reply;
}

START_TEST(pages__are_as_fresh_as_the_last_acknowledged_write) {
    for (int i = 0; i < 30; i++) {
        char name[40];
        http_reply before = get("/v1/models?limit=1", NULL);
        upload(i);
        snprintf(name, sizeof name, "\"name\":\"net-%d\"", i);
        http_reply after = get("/v1/models?limit=1", NULL), again = get("/v1/models?limit=1", NULL);
        ck_assert_msg(strstr(after.body, name), "%s after %d: %s", name, i, after.body);
        ck_assert_str_ne(before.body, after.body);
        ck_assert_str_eq(after.body, again.body);
        http_done(&before);
        http_done(&after);
        http_done(&again);
    }
}
END_TEST

START_TEST(pages__differ_by_form_cursor_and_query) {
    char etag[100], condition[130], type[100], next[300], again[300];
    upload(1000);
    upload(1001);
    upload(1002);
    for (int i = 0; i < 2; i++) { /* fresh, then kept */
        http_reply json = get("/v1/models?limit=2", "Accept: application/json"), csv = get("/v1/models?limit=2", "Accept: text/csv");
        ck_assert_int_eq(json.body[0], '{');
        ck_assert_int_eq(strncmp(csv.body, "id,", 3), 0);
        ck_assert_int_eq(strncmp(http_header(&csv, "Content-Type", type, sizeof type), "text/csv", 8), 0);
        http_header(&csv, "X-Next-Cursor", i ? again : next, sizeof next);
        ck_assert_str_ne(next, "");
        http_header(&json, "ETag", etag, sizeof etag);
        http_done(&json);
        http_done(&csv);
    }
    ck_assert_str_eq(next, again);
    snprintf(condition, sizeof condition, "If-None-Match: %s", etag);
    http_reply reply = get("/v1/models?limit=2", condition);
    ck_assert_int_eq(reply.status, 304);
    http_header(&reply, "ETag", type, sizeof type);
    ck_assert_str_eq(type, etag);
    http_done(&reply);
    upload(1003);
    reply = get("/v1/models?limit=2", condition);
    expect_status(reply, 200);
    http_done(&reply);
    http_reply one = get("/v1/models?limit=2&sort=name", NULL), other = get("/v1/models?limit=2&sort=-name", NULL),
               all = get("/v1/bounds?limit=2", NULL);
    ck_assert_str_ne(one.body, other.body);
    ck_assert_str_ne(one.body, all.body);
    http_done(&one);
    http_done(&other);
    http_done(&all);
    for (int i = 0; i < 2; i++) { /* a refusal is not kept for a page */
        reply = get("/v1/models?limit=2&colour=1", NULL);
        expect_problem(&reply, 400, "INVALID", "?colour");
        http_done(&reply);
    }
}
END_TEST

START_TEST(pages__head_has_the_same_headers_and_no_body) {
    http_reply whole = get("/v1/models?limit=3", NULL), head;
    char a[100], b[100];
    for (int i = 0; i < 2; i++) {
        http_send(&d, &(http_request){.method = "HEAD", .path = "/v1/models?limit=3"}, &head);
        expect_status(head, 200);
        ck_assert_uint_eq(head.len, 0);
        ck_assert_str_eq(http_header(&head, "Content-Length", a, sizeof a), http_header(&whole, "Content-Length", b, sizeof b));
        http_done(&head);
    }
    http_done(&whole);
}
END_TEST

/* Many readers while a writer adds: whoever reads after an acknowledged write sees it. The readers are processes of their own:
 * the client of the tests has one user. */
enum { ADDED = 40, READERS = 4, MISSED = 3, WENT = 4 };

static int read_along(const atomic_int *written) {
    for (int last = 0; last < ADDED;) {
        int least = atomic_load(written);
        http_reply reply = http_get(&d, "/v1/models?name__glob=race-*&limit=100");
        int seen = (int)reply_count(&reply, "/items");
        http_done(&reply);
        if (seen < least) return MISSED;
        if (seen < last) return WENT;
        last = seen;
    }
    return 0;
}

START_TEST(pages__keep_up_under_load) {
    pid_t readers[READERS];
    atomic_int *written = mmap(NULL, sizeof *written, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(written, MAP_FAILED);
    for (int i = 0; i < READERS; i++) {
        readers[i] = fork();
        if (readers[i] == 0) _exit(read_along(written));
    }
    for (int i = 0; i < ADDED; i++) {
        char path[100], body[200];
        snprintf(path, sizeof path, "/v1/models?name=race-%d&kind=policy", i);
        snprintf(body, sizeof body, "{\"layers\":[{\"w\":[[%d,3]],\"b\":[0],\"activation\":\"relu\"}]}", i);
        http_reply reply = http_json(&d, "POST", path, body);
        expect_status(reply, 201);
        http_done(&reply);
        atomic_store(written, i + 1);
    }
    for (int i = 0; i < READERS; i++) {
        int status = 0;
        waitpid(readers[i], &status, 0);
        ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "a reader ended with %d (3: an acknowledged row was missing, 4: a row went)",
                      WEXITSTATUS(status));
    }
    munmap(written, sizeof *written);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("pages");
    TCase *tcase = tcase_create("pages");
    tcase_set_timeout(tcase, 30);
    tcase_add_test(tcase, pages__are_as_fresh_as_the_last_acknowledged_write);
    tcase_add_test(tcase, pages__differ_by_form_cursor_and_query);
    tcase_add_test(tcase, pages__head_has_the_same_headers_and_no_body);
    tcase_add_test(tcase, pages__keep_up_under_load);
    suite_add_tcase(suite, tcase);
    daemon_start(&d, NULL);
    return daemon_finish(&d, run_suite(suite));
}
