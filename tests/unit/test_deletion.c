/* SPDX-License-Identifier: Apache-2.0
 * Deleting models and datasets without a daemon: every kind of reference stands in the way by name, versions are not given
 * again; tags; totals of episodes against sums made here. */
#include <check.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "registry/query.h"

static char dir[64];
static esp_registry *registry;
static esp_error error;

static int remove_entry(const char *path, const struct stat *st, int kind, struct FTW *walk) {
    (void)st, (void)kind, (void)walk;
    return remove(path);
}

static void setup(void) {
    strcpy(dir, "/tmp/espalier-deletion-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    ck_assert_int_eq(esp_registry_open(dir, &registry, &error), ESP_OK);
}

static void teardown(void) {
    esp_registry_close(registry);
    nftw(dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

typedef struct step {
    esp_dataset_row dataset;
    esp_model_row model;
    esp_task_row task;
    esp_certificate_row certificate;
    esp_job_row job;
    esp_alias_row alias;
    esp_episode_row episode;
    const char *ref, *tag;
    esp_code (*run)(esp_db *db, struct step *s, esp_error *reterr);
} step;

static esp_code run(esp_db *db, void *user, esp_error *reterr) {
    step *s = user;
    return s->run(db, s, reterr);
}

static esp_code write_step(step *s, esp_code (*fn)(esp_db *db, step *s, esp_error *reterr)) {
    s->run = fn;
    return esp_registry_write(registry, run, s, &error);
}

static esp_code add_dataset(esp_db *db, step *s, esp_error *reterr) {
    return esp_dataset_insert(db, &s->dataset, reterr);
}
static esp_code add_model(esp_db *db, step *s, esp_error *reterr) {
    return esp_model_insert(db, &s->model, reterr);
}
static esp_code add_task(esp_db *db, step *s, esp_error *reterr) {
    return esp_task_insert(db, &s->task, reterr);
}
static esp_code add_certificate(esp_db *db, step *s, esp_error *reterr) {
    return esp_certificate_insert(db, &s->certificate, reterr);
}
static esp_code add_job(esp_db *db, step *s, esp_error *reterr) {
    return esp_job_insert(db, &s->job, reterr);
}
static esp_code end_job(esp_db *db, step *s, esp_error *reterr) {
    return esp_job_move(db, s->job.id, -1, ESP_JOB_CANCELLED, NULL, NULL, reterr);
}
static esp_code add_alias(esp_db *db, step *s, esp_error *reterr) {
    return esp_alias_set(db, &s->alias, -1, NULL, reterr);
}
static esp_code add_episode(esp_db *db, step *s, esp_error *reterr) {
    return esp_episode_insert(db, &s->episode, reterr);
}
static esp_code add_tag(esp_db *db, step *s, esp_error *reterr) {
    return esp_tag_set(db, s->model.id, s->tag, reterr);
}
static esp_code drop_tag(esp_db *db, step *s, esp_error *reterr) {
    return esp_tag_clear(db, s->model.id, s->tag, reterr);
}
static esp_code drop_model(esp_db *db, step *s, esp_error *reterr) {
    return esp_model_delete(db, s->ref, "tester", reterr);
}
static esp_code drop_dataset(esp_db *db, step *s, esp_error *reterr) {
    return esp_dataset_delete(db, s->ref, NULL, reterr);
}

#define MUST(call) ck_assert_msg((call) == ESP_OK, "%s", error.message)

static void make_dataset(step *s, const char *name, char digit) {
    s->dataset = (esp_dataset_row){.format = "csv", .trajectories = 1, .transitions = 2, .ny = 2, .nu = 1, .bytes = 9};
    strcpy(s->dataset.name, name);
    memset(s->dataset.sha256, digit, 64);
    MUST(write_step(s, add_dataset));
}

static void make_model(step *s, const char *name, char digit, const char *parent, const char *dataset) {
    s->model = (esp_model_row){.kind = "dynamics", .ny = 2, .nu = 1, .history = 1, .relu = 3, .parameters = 10, .nonzero = 5};
    strcpy(s->model.name, name);
    strcpy(s->model.parent, parent);
    strcpy(s->model.dataset, dataset);
    memset(s->model.sha256, digit, 64);
    MUST(write_step(s, add_model));
}

static int64_t number(const char *sql) {
    esp_db *db = NULL;
    int64_t n = -1;
    MUST(esp_registry_read_begin(registry, &db, &error));
    MUST(esp_db_int(db, &n, &error, sql, ""));
    esp_registry_read_end(registry, db);
    return n;
}

static void refused(step *s, const char *ref, bool of_model, const char *named) {
    s->ref = ref;
    esp_code code = write_step(s, of_model ? drop_model : drop_dataset);
    ck_assert_msg(code == ESP_CONFLICT && strstr(error.message, named), "%s: %s %s does not name %s", ref, esp_code_name(code), error.message, named);
}

START_TEST(deletion__of_a_dataset_waits_for_models_and_jobs) {
    step s = {0};
    make_dataset(&s, "rail", 'a');
    make_model(&s, "m", 'b', "", s.dataset.id);
    refused(&s, "rail/1", false, "model m/1");
    s.ref = "m/1";
    MUST(write_step(&s, drop_model));
    char spec[100];
    snprintf(spec, sizeof spec, "{\"dataset\":\"%s\"}", s.dataset.id);
    s.job = (esp_job_row){.kind = "train", .spec = spec};
    MUST(write_step(&s, add_job));
    refused(&s, "rail", false, s.job.id);
    MUST(write_step(&s, end_job));
    s.ref = "rail";
    MUST(write_step(&s, drop_dataset));
    ck_assert_int_eq(write_step(&s, drop_dataset), ESP_NOT_FOUND);
    ck_assert_int_eq(number("SELECT count(*) FROM tombstone"), 2);
    free(s.job.progress);
}
END_TEST

START_TEST(deletion__of_a_model_names_what_refers_to_it) {
    step s = {0};
    make_model(&s, "m", 'a', "", "");
    char dense[ESP_ID_MAX], other[ESP_ID_MAX];
    strcpy(dense, s.model.id);
    make_model(&s, "pruned", 'b', dense, "");
    strcpy(other, s.model.id);
    refused(&s, "m", true, "model pruned/1");
    s.ref = "pruned";
    MUST(write_step(&s, drop_model));
    make_model(&s, "other", 'c', "", "");
    strcpy(other, s.model.id);

    strcpy(s.alias.name, "m");
    strcpy(s.alias.alias, "best");
    s.alias.version = 1;
    MUST(write_step(&s, add_alias));
    refused(&s, dense, true, "alias m@best");

    s.certificate = (esp_certificate_row){.kind = "difference", .norm = "linf", .method = "crown", .strength = "proved", .status = "proved"};
    strcpy(s.certificate.model, other);
    strcpy(s.certificate.reference, dense);
    MUST(write_step(&s, add_certificate));
    refused(&s, "m/1", true, s.certificate.id);
    MUST(write_step(&s, add_certificate)); /* a second, about the other model: goes with it */

    s.task = (esp_task_row){.body = (char[]){"{}"}};
    strcpy(s.task.name, "stop");
    strcpy(s.task.model, dense);
    MUST(write_step(&s, add_task));
    refused(&s, "m@best", true, "task stop/1");

    strcpy(s.episode.model, other);
    strcpy(s.episode.task, s.task.id);
    strcpy(s.episode.robot, "arm");
    s.episode.steps = 3;
    MUST(write_step(&s, add_episode));
    refused(&s, other, true, "1 episodes of task");
    ck_assert_int_eq(number("SELECT count(*) FROM model"), 2);
    ck_assert_int_eq(number("SELECT count(*) FROM certificate"), 2);
}
END_TEST

START_TEST(deletion__takes_certificates_and_tags_along_and_keeps_the_version) {
    step s = {0};
    make_model(&s, "m", 'a', "", "");
    make_model(&s, "m", 'b', "", "");
    ck_assert_int_eq(s.model.version, 2);
    s.certificate = (esp_certificate_row){.kind = "range", .norm = "linf", .method = "crown", .strength = "proved", .status = "proved"};
    strcpy(s.certificate.model, s.model.id);
    MUST(write_step(&s, add_certificate));
    s.tag = "robot=arm-3";
    MUST(write_step(&s, add_tag));
    MUST(write_step(&s, add_tag));
    ck_assert_int_eq(number("SELECT count(*) FROM tag"), 1);
    s.ref = "m";
    MUST(write_step(&s, drop_model));
    ck_assert_int_eq(number("SELECT (SELECT count(*) FROM tag) + (SELECT count(*) FROM certificate)"), 0);
    make_model(&s, "m", 'b', "", ""); /* the same content again is a new version */
    ck_assert_int_eq(s.model.version, 3);
    s.tag = "gone";
    MUST(write_step(&s, drop_tag));
}
END_TEST

START_TEST(tags__are_labels) {
    static const char *const good[] = {"a", "robot=arm-3", "v1.2:x_y", "9"}, *const bad[] = {"", "-x", "a b", "a/b", "a%", "=x"};
    char longest[140];
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) ck_assert_msg(esp_tag_ok(good[i]), "%s", good[i]);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) ck_assert_msg(!esp_tag_ok(bad[i]), "%s", bad[i]);
    memset(longest, 'a', sizeof longest);
    longest[128] = '\0';
    ck_assert(esp_tag_ok(longest));
    longest[128] = 'a';
    longest[129] = '\0';
    ck_assert(!esp_tag_ok(longest));
}
END_TEST

START_TEST(episodes__add_up) {
    step s = {0};
    static const struct {
        double cost;
        int64_t steps;
        int success;
    } told[] = {{3.5, 10, 1}, {-1.25, 20, 0}, {8, 30, -1}, {0.25, 1, 1}};
    make_model(&s, "m", 'a', "", "");
    strcpy(s.task.name, "stop");
    strcpy(s.task.model, s.model.id);
    char body[] = "{}", metrics[] = "{\"a\":1}";
    s.task.body = body;
    MUST(write_step(&s, add_task));
    for (size_t i = 0; i < 4; i++) {
        s.episode = (esp_episode_row){.cost = told[i].cost, .steps = told[i].steps, .success = told[i].success, .metrics = i ? NULL : metrics};
        strcpy(s.episode.model, s.model.id);
        strcpy(s.episode.task, s.task.id);
        strcpy(s.episode.robot, "arm");
        MUST(write_step(&s, add_episode));
    }
    ck_assert_int_eq(number("SELECT count(*) FROM episode_total WHERE episodes = 4 AND judged = 3 AND successes = 2 AND steps = 61 AND cost = 10.5"
                            " AND cost_min = -1.25 AND cost_max = 8"),
                     1);
    s.episode.cost = 0.0 / (s.episode.success - 1);
    ck_assert_int_eq(write_step(&s, add_episode), ESP_NUMERIC);
    strcpy(s.episode.model, "mdl_nobody");
    s.episode.cost = 1;
    ck_assert_int_eq(write_step(&s, add_episode), ESP_CONFLICT);
    ck_assert_int_eq(number("SELECT count(*) FROM episode"), 4);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("deletion");
    TCase *tcase = tcase_create("registry");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, deletion__of_a_dataset_waits_for_models_and_jobs);
    tcase_add_test(tcase, deletion__of_a_model_names_what_refers_to_it);
    tcase_add_test(tcase, deletion__takes_certificates_and_tags_along_and_keeps_the_version);
    tcase_add_test(tcase, tags__are_labels);
    tcase_add_test(tcase, episodes__add_up);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
