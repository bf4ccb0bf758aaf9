/* SPDX-License-Identifier: Apache-2.0
 * A run that is stopped anywhere and taken up again ends with the models of one that was left alone, to the bit; a checkpoint
 * that is not whole or not of this run is refused. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/rng.h"
#include "train/train.h"

enum { STEPS = 20, MODELS = 4, KEPT_MAX = 600, HEX = ESP_HASH_HEX - 1 };

static esp_dataset *rail(size_t n, uint64_t seed) {
    esp_dataset *data = calloc(1, sizeof *data);
    esp_rng rng;
    esp_rng_init(&rng, seed, 1);
    *data = (esp_dataset){.ny = 2, .nu = 1, .n_trajectories = n, .n_transitions = n * STEPS, .n_rows = n * (STEPS + 1)};
    data->start = malloc((n + 1) * sizeof *data->start);
    data->y = malloc(data->n_rows * 2 * sizeof *data->y);
    data->u = calloc(data->n_rows, sizeof *data->u);
    for (size_t i = 0; i <= n; i++) data->start[i] = (STEPS + 1) * i;
    for (size_t r = 0; r < data->n_rows; r++) {
        double *y = data->y + 2 * r;
        size_t t = r % (STEPS + 1);
        y[0] = t ? y[-2] + 0.1 * y[-1] : esp_rng_range(&rng, -1, 1);
        y[1] = t ? y[-1] + 0.1 * (data->u[r - 1] - fabs(y[-1])) : esp_rng_range(&rng, -1, 1);
        if (t < STEPS) data->u[r] = esp_rng_range(&rng, -1, 1);
    }
    return data;
}

static esp_train_opts ladder_opts(void) {
    esp_train_opts opts;
    esp_train_opts_init(&opts);
    opts.n_hidden = 2;
    opts.hidden[0] = 8;
    opts.hidden[1] = 6;
    opts.frame.kind = ESP_FRAME_RESIDUAL;
    opts.rollout = 2;
    opts.batch = 32;
    opts.epochs = 2;
    opts.rung_epochs = 5;
    opts.input_noise = 0.01;
    opts.weight_decay = 1e-4;
    opts.clip = 1;
    opts.n_rungs = 2;
    opts.ladder[0] = 6;
    opts.ladder[1] = 2;
    return opts;
}

/* What came of a run: models by their number, counted from the dense one. */
typedef struct result {
    char sha256[MODELS][ESP_HASH_HEX];
    double rmse[MODELS], rollout_rmse[MODELS];
    int first, n; /* models `first` .. n-1 were handed out */
    esp_buf notes; /* one byte a model */
    esp_buf kept[KEPT_MAX];
    int n_kept;
    bool keep_all;
    int looks, stop_after;
    double fraction; /* of what was gone on from; NaN: nothing was */
} result;

static void clear(result *r) {
    for (int i = 0; i < KEPT_MAX; i++) esp_buf_done(&r->kept[i]);
    esp_buf_done(&r->notes);
    *r = (result){.fraction = NAN};
}

static esp_code receive(void *user, const esp_train_model *trained, esp_error *reterr) {
    result *r = user;
    esp_buf bytes = {0};
    esp_code code = esp_model_encode(trained->model, &bytes, reterr);
    ck_assert_int_lt(r->n, MODELS);
    if (code == ESP_OK) esp_hash_bytes(bytes.data, bytes.len, r->sha256[r->n]);
    r->rmse[r->n] = trained->validation_rmse;
    r->rollout_rmse[r->n] = trained->rollout_rmse;
    r->n++;
    esp_buf_put(&r->notes, "m", 1);
    esp_buf_done(&bytes);
    return code;
}

static void take(void *user, const esp_buf *bytes, double fraction) {
    result *r = user;
    ck_assert(fraction >= 0 && fraction <= 1);
    int i = r->keep_all ? r->n_kept : 0;
    ck_assert_int_lt(i, KEPT_MAX);
    esp_buf_clear(&r->kept[i]);
    esp_buf_put(&r->kept[i], bytes->data, bytes->len);
    r->n_kept = i + 1;
}

static esp_code resumed(void *user, const void *notes, size_t len, double fraction, esp_error *reterr) {
    result *r = user;
    (void)reterr;
    r->first = r->n = (int)len;
    r->fraction = fraction;
    esp_buf_clear(&r->notes);
    esp_buf_put(&r->notes, notes, len);
    return ESP_OK;
}

static bool look(void *user) {
    result *r = user;
    return r->stop_after && ++r->looks >= r->stop_after;
}

static esp_code run_from(const esp_dataset *data, const esp_train_opts *opts, const char *key, const esp_buf *from, int64_t every_ns, result *r,
                         esp_error *error) {
    const esp_train_hooks hooks = {.user = r, .model = receive};
    const esp_stop stop = {.deadline_ns = ESP_NEVER, .cancelled = look, .user = r};
    const esp_train_checkpoints checkpoints = {r, key, from ? from->data : NULL, from ? from->len : 0, every_ns, &r->notes, resumed, take};
    *error = (esp_error){0};
    return esp_train_resume(data, opts, &hooks, &checkpoints, &stop, error);
}

static void expect_run(const esp_dataset *data, const esp_train_opts *opts, const esp_buf *from, int64_t every_ns, result *r) {
    esp_error error;
    esp_code code = run_from(data, opts, "k", from, every_ns, r, &error);
    ck_assert_msg(code == ESP_OK, "%s: %s", esp_code_name(code), error.message);
}

static void expect_same_models(const result *a, const result *b) {
    ck_assert_int_eq(a->n, b->n);
    for (int i = b->first; i < b->n; i++) {
        ck_assert_str_eq(a->sha256[i], b->sha256[i]);
        ck_assert(a->rmse[i] == b->rmse[i] && a->rollout_rmse[i] == b->rollout_rmse[i]);
    }
}

/* With noise and masks, and a penalty that freezes; plain; soft masks; by a plateau with an early stop; for the planner; and rounded. */
static esp_train_opts variant(int i) {
    esp_train_opts opts = ladder_opts();
    if (i == 1) {
        opts.rollout = 1;
        opts.input_noise = opts.clip = 0;
    }
    if (i == 2) {
        opts.straight_through = false;
        opts.history = 2;
    }
    if (i == 3) { /* phases that are cut and that end before their time, each with its best weights */
        opts.epochs = opts.rung_epochs = 12;
        opts.batch = 64;
        opts.schedule = ESP_SCHEDULE_PLATEAU;
        opts.plateau_patience = 1;
        opts.plateau_threshold = 0.1;
        opts.early_stop = 2;
        opts.n_step_weights = 2;
        opts.step_weights[0] = 1;
        opts.step_weights[1] = 3;
    }
    if (i == 4) { /* rewritten between phases, and held while it is trained */
        opts.rollout = 1;
        opts.proof_weight = 1e-3;
    }
    if (i == 5) {
        opts.rung_epochs = 8;
        opts.rounding = 0.05;
    }
    return opts;
}

START_TEST(checkpoint__each_minibatch_can_be_gone_on_from) {
    esp_dataset *data = rail(16, 3);
    esp_train_opts opts = variant(_i);
    result alone = {0}, watched = {.keep_all = true, .fraction = NAN}, again = {.fraction = NAN};
    expect_run(data, &opts, NULL, ESP_NEVER / 2, &alone);
    ck_assert_int_eq(alone.n, 3);
    ck_assert_int_eq(alone.n_kept, 0);
    expect_run(data, &opts, NULL, 0, &watched);
    expect_same_models(&alone, &watched); /* looking at it changes nothing */
    ck_assert_int_gt(watched.n_kept, 60);
    double before = 0;
    for (int i = 0; i < watched.n_kept; i++) {
        expect_run(data, &opts, &watched.kept[i], ESP_NEVER / 2, &again);
        expect_same_models(&alone, &again);
        ck_assert(again.fraction >= before && again.fraction <= 1);
        before = again.fraction;
        clear(&again);
    }
    ck_assert_double_gt(before, 0.95);
    clear(&alone);
    clear(&watched);
    esp_dataset_free(data);
}
END_TEST

/* Stopped at one of the first looks at the stop request, wherever that is: in a minibatch, in validation, while a model is measured. */
START_TEST(checkpoint__a_run_stopped_again_and_again_ends_the_same) {
    esp_dataset *data = rail(60, 5);
    esp_train_opts opts = ladder_opts();
    esp_error error;
    esp_buf from = {0};
    result alone = {0}, broken = {.stop_after = 2, .fraction = NAN};
    int stops = 0, seen = 0;
    char sha256[MODELS][ESP_HASH_HEX] = {{0}};
    opts.hidden[0] = opts.hidden[1] = 48;
    opts.rollout = 10;
    opts.batch = 300;
    opts.epochs = opts.rung_epochs = 60; /* long enough to be stopped often */
    opts.ladder[0] = 40;
    expect_run(data, &opts, NULL, ESP_NEVER / 2, &alone);
    while (run_from(data, &opts, "k", stops ? &from : NULL, ESP_NEVER / 2, &broken, &error) == ESP_CANCELLED) {
        ck_assert_int_eq(broken.n_kept, 1);
        esp_buf_clear(&from);
        esp_buf_put(&from, broken.kept[0].data, broken.kept[0].len);
        for (int i = broken.first; i < broken.n; i++) memcpy(sha256[i], broken.sha256[i], ESP_HASH_HEX);
        seen = broken.n;
        clear(&broken);
        ck_assert_int_lt(++stops, 500);
        broken.stop_after = 2 + stops / 4; /* the first is at once, and another each 20 ms; on a slow machine that is less than a minibatch */
    }
    ck_assert_msg(error.code == ESP_OK, "%s", error.message);
    for (int i = broken.first; i < broken.n; i++) memcpy(sha256[i], broken.sha256[i], ESP_HASH_HEX);
    ck_assert_int_eq(broken.n, alone.n);
    ck_assert_int_ge(broken.n, seen);
    ck_assert_int_gt(stops, 2);
    for (int i = 0; i < alone.n; i++) ck_assert_str_eq(alone.sha256[i], sha256[i]);
    esp_buf_done(&from);
    clear(&alone);
    clear(&broken);
    esp_dataset_free(data);
}
END_TEST

/* ---- refusals ---- */

/* One from the middle of a run. */
static esp_buf one_of(const esp_dataset *data, const esp_train_opts *opts) {
    result watched = {.keep_all = true, .fraction = NAN};
    esp_buf bytes = {0};
    expect_run(data, opts, NULL, 0, &watched);
    const esp_buf *middle = &watched.kept[watched.n_kept / 2];
    esp_buf_put(&bytes, middle->data, middle->len);
    clear(&watched);
    return bytes;
}

static void expect_refused(const esp_dataset *data, const esp_train_opts *opts, const char *key, const esp_buf *bytes, const char *why) {
    esp_error error;
    result r = {.fraction = NAN};
    ck_assert_int_eq(run_from(data, opts, key, bytes, 0, &r, &error), ESP_CORRUPT);
    ck_assert_msg(strstr(error.message, why), "%s", error.message);
    ck_assert(r.n == 0 && r.n_kept == 0 && isnan(r.fraction));
    clear(&r);
}

START_TEST(checkpoint__of_another_run_is_refused) {
    static const char other[] = "other data, other options or another build";
    esp_dataset *data = rail(16, 3), *second = rail(16, 4);
    esp_train_opts opts = ladder_opts();
    esp_buf bytes = one_of(data, &opts);
    expect_refused(second, &opts, "k", &bytes, other);
    expect_refused(data, &opts, "another build", &bytes, other);
    opts.seed++;
    expect_refused(data, &opts, "k", &bytes, other);
    opts = ladder_opts();
    opts.learning_rate = 0.02;
    expect_refused(data, &opts, "k", &bytes, other);
    opts = ladder_opts();
    opts.frame.kind = ESP_FRAME_NONE;
    expect_refused(data, &opts, "k", &bytes, other);
    bytes.data[4]++; /* the version, with a hash that is right */
    char hex[ESP_HASH_HEX];
    esp_hash_bytes(bytes.data, bytes.len - HEX, hex);
    memcpy(bytes.data + bytes.len - HEX, hex, HEX);
    opts = ladder_opts();
    expect_refused(data, &opts, "k", &bytes, "version");
    esp_buf_done(&bytes);
    esp_dataset_free(data);
    esp_dataset_free(second);
}
END_TEST

START_TEST(checkpoint__cut_short_or_changed_is_refused) {
    esp_dataset *data = rail(16, 3);
    esp_train_opts opts = ladder_opts();
    esp_buf bytes = one_of(data, &opts);
    size_t len = bytes.len;
    for (size_t cut = 0; cut < len; cut += 1 + cut / 7) {
        bytes.len = cut;
        if (cut) expect_refused(data, &opts, "k", &bytes, "cut short");
    }
    bytes.len = len - 1;
    expect_refused(data, &opts, "k", &bytes, "cut short");
    bytes.len = len;
    for (size_t i = 0; i < len; i += 1 + i / 9) {
        bytes.data[i] ^= (char)(1 << i % 8);
        expect_refused(data, &opts, "k", &bytes, "cut short");
        bytes.data[i] ^= (char)(1 << i % 8);
    }
    esp_buf_done(&bytes);
    esp_dataset_free(data);
}
END_TEST

/* Bytes changed and the hash made to fit: whatever comes of it, it is an answer and not a crash. */
START_TEST(checkpoint__forged_does_not_crash) {
    const char *only = getenv("ESP_SEED");
    esp_dataset *data = rail(16, 3);
    esp_train_opts opts = ladder_opts();
    esp_buf bytes = one_of(data, &opts);
    int refused = 0;
    for (uint64_t seed = only ? strtoull(only, NULL, 10) : 0; seed < (only ? strtoull(only, NULL, 10) + 1 : 300); seed++) {
        esp_rng rng;
        esp_error error;
        char hex[ESP_HASH_HEX];
        result r = {.fraction = NAN};
        esp_buf forged = {0};
        esp_rng_init(&rng, seed, 9);
        esp_buf_put(&forged, bytes.data, bytes.len);
        /* behind the identity; half of them in the lengths, the sums and the place, where the damage would be */
        size_t begin = 8 + HEX, room = seed % 2 ? 200 : forged.len - HEX - begin;
        for (size_t k = 0; k < 1 + seed % 4; k++) forged.data[begin + esp_rng_below(&rng, room)] ^= (char)(1 + esp_rng_below(&rng, 255));
        esp_hash_bytes(forged.data, forged.len - HEX, hex);
        memcpy(forged.data + forged.len - HEX, hex, HEX);
        esp_code code = run_from(data, &opts, "k", &forged, ESP_NEVER / 2, &r, &error);
        ck_assert_msg(code == ESP_OK || code == ESP_CORRUPT || code == ESP_NUMERIC, "seed %llu: %s", (unsigned long long)seed, error.message);
        refused += code == ESP_CORRUPT;
        esp_buf_done(&forged);
        clear(&r);
    }
    if (!only) ck_assert_int_gt(refused, 100);
    esp_buf_done(&bytes);
    esp_dataset_free(data);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("checkpoint");
    TCase *c = tcase_create("checkpoint");
    tcase_set_timeout(c, 120);
    tcase_add_loop_test(c, checkpoint__each_minibatch_can_be_gone_on_from, 0, 6);
    tcase_add_test(c, checkpoint__a_run_stopped_again_and_again_ends_the_same);
    tcase_add_test(c, checkpoint__of_another_run_is_refused);
    tcase_add_test(c, checkpoint__cut_short_or_changed_is_refused);
    tcase_add_test(c, checkpoint__forged_does_not_crash);
    suite_add_tcase(suite, c);
    return run_suite(suite);
}
