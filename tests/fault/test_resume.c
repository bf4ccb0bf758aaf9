/* SPDX-License-Identifier: Apache-2.0
 * A training job whose worker is killed again and again, whose daemon is killed, drained and restarted, or whose checkpoint was
 * tampered with ends with the models of a job that was left alone, each registered once. Oracle: that job's hashes. */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/hash.h"
#include "support/rail.h"

enum { MODELS = 3, KILLS = 4, PIDS = 16 };
static test_daemon d;
static const char *const options[] = {"--checkpoint-ms", "10", "--job-backoff-ms", "20", NULL};

static void sleep_ms(long ms) {
    nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL);
}

static void submit(const char *name, char ret_id[64]) {
    char json[512];
    snprintf(
        json, sizeof json,
        "{\"kind\":\"train\",\"spec\":{\"dataset\":\"rail\",\"name\":\"%s\",\"model\":{\"type\":\"mlp\",\"hidden\":[24,24]},\"frame\":\"residual\","
        "\"batch\":32,\"epochs\":100,\"rung_epochs\":100,\"rollout\":3,\"input_noise\":0.01,\"ladder\":[20,6],\"seed\":3}}",
        name);
    rail_submit(&d, json, ret_id);
}

static void checkpoint_path(const char *id, char ret_path[200]) {
    snprintf(ret_path, 200, "%s/data/checkpoints/%s", d.dir, id);
}

static bool has_ended(const char *id) {
    char path[128];
    snprintf(path, sizeof path, "/v1/jobs/%s", id);
    http_reply reply = http_get(&d, path);
    const char *state = reply_text(&reply, "/state");
    bool over = strcmp(state, "queued") != 0 && strcmp(state, "running") != 0;
    http_done(&reply);
    return over;
}

/* Until the file has been written anew `times` times; false when the job ended first. */
static bool wait_kept(const char *id, int times) {
    char path[200];
    struct stat before = {0}, now;
    checkpoint_path(id, path);
    if (stat(path, &before) != 0) before.st_ino = 0;
    for (int turn = 0; turn < 20000 && times; turn++) {
        bool there = stat(path, &now) == 0;
        if (there && (now.st_ino != before.st_ino || now.st_mtim.tv_nsec != before.st_mtim.tv_nsec)) {
            before = now;
            times--;
        } else if (turn % 100 == 99 && has_ended(id)) {
            return false;
        }
        sleep_ms(2);
    }
    return times == 0;
}

static void read_hashes(const char *name, char ret[MODELS][ESP_HASH_HEX]) {
    char path[128], at[64];
    snprintf(path, sizeof path, "/v1/models?name=%s&sort=version", name);
    http_reply reply = http_get(&d, path);
    expect_status(reply, 200);
    ck_assert_uint_eq(reply_count(&reply, "/items"), MODELS);
    for (int i = 0; i < MODELS; i++) {
        snprintf(at, sizeof at, "/items/%d/version", i);
        ck_assert_int_eq((int)reply_number(&reply, at), i + 1);
        snprintf(at, sizeof at, "/items/%d/sha256", i);
        snprintf(ret[i], ESP_HASH_HEX, "%s", reply_text(&reply, at));
    }
    http_done(&reply);
}

static int count_text(const char *text, const char *what) {
    int n = 0;
    for (const char *at = strstr(text, what); at; at = strstr(at + 1, what)) n++;
    return n;
}

/* All of an ended job's events. */
static http_reply events_of(const char *id) {
    char path[128];
    snprintf(path, sizeof path, "/v1/jobs/%s/events", id);
    http_reply reply = http_get(&d, path);
    expect_status(reply, 200);
    return reply;
}

static int files_left(void) {
    char path[200];
    int n = 0;
    snprintf(path, sizeof path, "%s/data/checkpoints", d.dir);
    DIR *dir = opendir(path);
    ck_assert_ptr_nonnull(dir);
    for (struct dirent *e = readdir(dir); e; e = readdir(dir)) n += e->d_name[0] != '.';
    closedir(dir);
    return n;
}

static char alone[MODELS][ESP_HASH_HEX];

/* The row says so first, then the file goes. */
static void expect_none_left(void) {
    for (int turn = 0; turn < 200 && files_left(); turn++) sleep_ms(10);
    ck_assert_int_eq(files_left(), 0);
}

/* It succeeded with the models of `alone`, each once, in the registry, the result and the events. */
static void expect_as_alone(const char *id) {
    char hashes[MODELS][ESP_HASH_HEX];
    http_reply job = rail_wait_end(&d, id, 60);
    ck_assert_msg(strcmp(reply_text(&job, "/state"), "succeeded") == 0, "%s", job.body);
    ck_assert_uint_eq(reply_count(&job, "/result/models"), MODELS);
    http_done(&job);
    read_hashes("hit", hashes);
    for (int i = 0; i < MODELS; i++) ck_assert_str_eq(hashes[i], alone[i]);
    http_reply events = events_of(id);
    ck_assert_int_eq(count_text(events.body, "event: model\n"), MODELS);
    http_done(&events);
    expect_none_left();
}

/* Once, before the tests fork. */
static void run_alone(void) {
    char id[64];
    daemon_start(&d, options);
    rail_upload_data(&d, "rail", 60);
    submit("alone", id);
    http_reply job = rail_wait_end(&d, id, 60);
    ck_assert_msg(strcmp(reply_text(&job, "/state"), "succeeded") == 0, "%s", job.body);
    http_done(&job);
    read_hashes("alone", alone);
    for (int i = 1; i < MODELS; i++) ck_assert_str_ne(alone[i - 1], alone[i]);
    expect_none_left();
    daemon_finish(&d, 0);
    d = (test_daemon){0};
}

static void begin(char ret_id[64]) {
    daemon_start(&d, options);
    rail_upload_data(&d, "rail", 60);
    submit("hit", ret_id);
}

static void kill_batch_worker(void) {
    pid_t pids[PIDS];
    int n = rail_workers(&d, RAIL_BATCH, pids, PIDS);
    for (int i = 0; i < n; i++) kill(pids[i], SIGKILL);
}

/* More often than job_crashes allows, but each time there is something new to go on from. */
START_TEST(training__goes_on_when_its_worker_is_killed) {
    char id[64];
    int kills = 0;
    begin(id);
    while (kills < KILLS && wait_kept(id, 2)) {
        kill_batch_worker();
        kills++;
    }
    ck_assert_int_eq(kills, KILLS);
    expect_as_alone(id);
    http_reply events = events_of(id);
    ck_assert_int_ge(count_text(events.body, "\"checkpoint\":\"resumed\""), KILLS - 1);
    ck_assert_int_eq(count_text(events.body, "\"checkpoint\":\"refused\""), 0);
    http_done(&events);
    ck_assert_int_eq(daemon_stop(&d), 0);
}
END_TEST

START_TEST(training__goes_on_when_its_daemon_is_killed_or_restarted) {
    char id[64];
    begin(id);
    for (int i = 0; i < KILLS; i++) {
        ck_assert(wait_kept(id, 2));
        if (i % 2)
            ck_assert_int_eq(daemon_stop(&d), 0);
        else
            daemon_kill(&d);
        daemon_start(&d, options);
    }
    expect_as_alone(id);
    http_reply events = events_of(id);
    ck_assert_int_ge(count_text(events.body, "\"checkpoint\":\"resumed\""), KILLS - 1);
    http_done(&events);
    ck_assert_int_eq(daemon_stop(&d), 0);
}
END_TEST

/* ---- tampering ---- */

static void cut(const char *path) {
    struct stat st;
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_int_eq(truncate(path, st.st_size / 2), 0);
}

static void empty(const char *path) {
    ck_assert_int_eq(truncate(path, 0), 0);
}

static void flip(const char *path) {
    char byte = 0;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(pread(fd, &byte, 1, 3000), 1);
    byte ^= 8;
    ck_assert_int_eq(pwrite(fd, &byte, 1, 3000), 1);
    close(fd);
}

static void not_a_file(const char *path) {
    ck_assert_int_eq(unlink(path), 0);
    ck_assert_int_eq(mkdir(path, 0700), 0);
}

static const struct {
    void (*do_it)(const char *path);
    const char *said;
} tamperings[] = {{cut, "cut short"}, {empty, "cut short"}, {flip, "hash is wrong"}, {not_a_file, "read"}};

START_TEST(training__starts_over_when_its_checkpoint_was_tampered_with) {
    char id[64], path[200];
    begin(id);
    ck_assert(wait_kept(id, 2));
    daemon_kill(&d);
    checkpoint_path(id, path);
    tamperings[_i].do_it(path);
    daemon_start(&d, options);
    if (tamperings[_i].do_it == not_a_file) {
        /* it cannot be written over either, which is said once, and the job ends all the same */
        http_reply job = rail_wait_end(&d, id, 60);
        ck_assert_str_eq(reply_text(&job, "/state"), "succeeded");
        http_done(&job);
        rmdir(path);
    }
    expect_as_alone(id);
    http_reply events = events_of(id);
    ck_assert_int_eq(count_text(events.body, "\"checkpoint\":\"refused\""), 1);
    ck_assert_int_eq(count_text(events.body, "\"checkpoint\":\"resumed\""), 0);
    ck_assert_int_eq(count_text(events.body, "\"checkpoint\":\"failed\""), tamperings[_i].do_it == not_a_file);
    ck_assert_msg(strstr(events.body, tamperings[_i].said), "%s", events.body);
    http_done(&events);
    ck_assert_int_eq(daemon_stop(&d), 0);
}
END_TEST

/* Another job's, whole and with its own hash: of other options. */
START_TEST(training__starts_over_from_another_jobs_checkpoint) {
    char id[64], other[64], path[200], other_path[200], json[512];
    daemon_start(&d, options);
    rail_upload_data(&d, "rail", 60);
    snprintf(
        json, sizeof json,
        "{\"kind\":\"train\",\"spec\":{\"dataset\":\"rail\",\"name\":\"other\",\"model\":{\"type\":\"mlp\",\"hidden\":[24,24]},\"epochs\":5000}}");
    rail_submit(&d, json, other);
    ck_assert(wait_kept(other, 2));
    submit("hit", id); /* waits behind it */
    daemon_kill(&d);
    checkpoint_path(id, path);
    checkpoint_path(other, other_path);
    ck_assert_int_eq(rename(other_path, path), 0);
    daemon_start(&d, options);
    snprintf(path, sizeof path, "/v1/jobs/%s", other);
    http_reply reply = http_delete(&d, path);
    ck_assert_int_lt(reply.status, 300);
    http_done(&reply);
    expect_as_alone(id);
    http_reply events = events_of(id);
    ck_assert_int_eq(count_text(events.body, "\"checkpoint\":\"refused\""), 1);
    ck_assert_msg(strstr(events.body, "other options"), "%s", events.body);
    http_done(&events);
    ck_assert_int_eq(daemon_stop(&d), 0);
}
END_TEST

START_TEST(training__leaves_no_checkpoint_when_cancelled) {
    char id[64], queued[64], path[200];
    daemon_start(&d, options);
    rail_upload_data(&d, "rail", 60);
    rail_submit(&d, rail_long_job, id);
    ck_assert(wait_kept(id, 2));
    ck_assert_int_eq(daemon_stop(&d), 0); /* back to the queue, and kept */
    checkpoint_path(id, path);
    ck_assert_int_eq(access(path, F_OK), 0);
    daemon_start(&d, options);
    rail_submit(&d, rail_long_job, queued);
    const char *const ids[] = {queued, id};
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "/v1/jobs/%s", ids[i]);
        http_reply reply = http_delete(&d, path);
        ck_assert_int_lt(reply.status, 300);
        http_done(&reply);
        reply = rail_wait_end(&d, ids[i], 20);
        ck_assert_str_eq(reply_text(&reply, "/state"), "cancelled");
        http_done(&reply);
    }
    expect_none_left();
    ck_assert_int_eq(daemon_stop(&d), 0);
}
END_TEST

static void cleanup(void) {
    daemon_finish(&d, 0);
}

int main(void) {
    Suite *suite = suite_create("training");
    TCase *c = tcase_create("training");
    tcase_set_timeout(c, 240);
    tcase_add_unchecked_fixture(c, run_alone, NULL);
    tcase_add_checked_fixture(c, NULL, cleanup);
    tcase_add_test(c, training__goes_on_when_its_worker_is_killed);
    tcase_add_test(c, training__goes_on_when_its_daemon_is_killed_or_restarted);
    tcase_add_loop_test(c, training__starts_over_when_its_checkpoint_was_tampered_with, 0, sizeof tamperings / sizeof *tamperings);
    tcase_add_test(c, training__starts_over_from_another_jobs_checkpoint);
    tcase_add_test(c, training__leaves_no_checkpoint_when_cancelled);
    suite_add_tcase(suite, c);
    return run_suite(suite);
}
