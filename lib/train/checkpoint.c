/* SPDX-License-Identifier: Apache-2.0
 * Checkpoints: what of a trainer is kept, the file round it, and what is looked at before it is believed.
 *
 * One list of fields serves both ways, so what is written and what is read cannot differ. A new field of the trainer that
 * lives from one minibatch to the next belongs into it; tests/unit/test_checkpoint.c stops a run after each minibatch and
 * compares the models. */
#include "train/checkpoint.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"

#define MAGIC   "ESPT"
#define VERSION 3u

typedef struct field {
    void *at;
    size_t len;
} field;

enum { FIELDS_MAX = 24, HEX = ESP_HASH_HEX - 1 };

/* Figures of progress that are sums so far, and where the clock stood. */
typedef struct tally {
    double seconds, samples, loss_sum, validation_loss, validation_rmse, fraction;
    int64_t loss_count, epochs_done, adam_step, logit_step, n_undecided;
} tally;

/* All arrays and plain values of the state, in the order of the file. */
static size_t list_fields(esp_trainer *t, tally *sums, field *ret) {
    size_t params = t->n_params * sizeof(float), logits = ESP_CLASSES * t->n_neurons * sizeof(float);
    const field fields[] = {{sums, sizeof *sums},
                            {&t->place, sizeof t->place},
                            {&t->schedule, sizeof t->schedule},
                            {&t->shuffle_rng, sizeof t->shuffle_rng},
                            {&t->mask_rng, sizeof t->mask_rng},
                            {&t->noise_rng, sizeof t->noise_rng},
                            {t->starts, t->windows->n_starts * sizeof *t->starts},
                            {t->params, params},
                            {t->adam.m, params},
                            {t->adam.v, params},
                            {t->best, t->n_best * sizeof *t->best},
                            {t->ladder->state, t->n_neurons * sizeof *t->ladder->state},
                            {t->ladder->logits, logits},
                            {t->logit_adam.m, logits},
                            {t->logit_adam.v, logits}};
    _Static_assert(sizeof fields / sizeof *fields <= FIELDS_MAX, "room for the list");
    memcpy(ret, fields, sizeof fields);
    return sizeof fields / sizeof *fields;
}

static tally tally_of(const esp_trainer *t) {
    return (tally){.seconds = (double)(esp_clock_now_ns() - t->begin_ns) * 1e-9,
                   .samples = t->samples,
                   .loss_sum = t->loss_sum,
                   .validation_loss = t->progress.validation_loss,
                   .validation_rmse = t->progress.validation_rmse,
                   .fraction = t->progress.fraction,
                   .loss_count = t->loss_count,
                   .epochs_done = t->epochs_done,
                   .adam_step = t->adam.step,
                   .logit_step = t->logit_adam.step,
                   .n_undecided = (int64_t)t->ladder->n_undecided};
}

static void take_tally(esp_trainer *t, const tally *sums) {
    t->begin_ns = esp_clock_now_ns() - (int64_t)(sums->seconds * 1e9);
    t->samples = t->told_samples = sums->samples;
    t->loss_sum = sums->loss_sum;
    t->progress.validation_loss = sums->validation_loss;
    t->progress.validation_rmse = sums->validation_rmse;
    t->progress.fraction = sums->fraction;
    t->loss_count = (long)sums->loss_count;
    t->epochs_done = (int)sums->epochs_done;
    t->adam.step = (long)sums->adam_step;
    t->logit_adam.step = (long)sums->logit_step;
    t->ladder->n_undecided = (size_t)sums->n_undecided;
}

/* ---- identity ------------------------------------------------------------------------------------------------------- */

static void add_doubles(esp_hash *hash, const double *values, int rows, int cols) {
    esp_hash_add(hash, values, (size_t)rows * (size_t)cols * sizeof *values);
}

/* The options' JSON leaves the frame out. */
static void add_frame(esp_hash *hash, const esp_trainer *t) {
    const esp_frame *f = &t->opts->frame;
    const esp_windows *w = t->windows;
    int ny = w->ny, stack_y = w->history * ny, stack_u = w->history * t->dataset->nu;
    esp_hash_add(hash, &f->kind, sizeof f->kind);
    if (f->kind != ESP_FRAME_LINEAR) return;
    add_doubles(hash, f->a, ny, stack_y);
    add_doubles(hash, f->b, ny, stack_u);
    add_doubles(hash, f->c, w->n_in, stack_y);
    add_doubles(hash, f->d, w->n_in, stack_u);
    add_doubles(hash, f->g, ny, w->n_out);
}

static void add_net(esp_hash *hash, const esp_net *net) {
    for (int l = 0; l < net->n_layers; l++) {
        const esp_layer *layer = &net->layers[l];
        add_doubles(hash, layer->w, layer->n_out, layer->n_in);
        add_doubles(hash, layer->b, 1, layer->n_out);
        esp_hash_add(hash, layer->act, (size_t)layer->n_out);
    }
}

/* What a run starts from; nothing when it trains a dense model. */
static void add_start(esp_hash *hash, const esp_trainer *t) {
    const esp_model *start = t->opts->start;
    if (!start) return;
    esp_hash_add(hash, &t->opts->method, sizeof t->opts->method);
    esp_hash_add(hash, &t->opts->distill_weight, sizeof t->opts->distill_weight);
    if (start->net) add_net(hash, start->net);
    for (int b = 0; start->graph && b < ESP_BLOCKS; b++) add_net(hash, start->graph->block[b]);
}

static esp_code identify(const esp_trainer *t, char ret_hex[ESP_HASH_HEX], esp_error *reterr) {
    const esp_windows *w = t->windows;
    const size_t sizes[] = {w->n_rows, w->n_train_rows, w->n_starts, t->n_params, t->n_neurons, (size_t)t->dataset->nu};
    const char *key = t->checkpoints->key ? t->checkpoints->key : "";
    esp_hash *hash = esp_hash_create();
    esp_buf opts = {0};
    esp_jsonw json = esp_jsonw_on(&opts);
    esp_train_opts_format(t->opts, &json);
    bool made = hash && !opts.failed;
    if (made) {
        esp_hash_add(hash, key, strlen(key) + 1);
        esp_hash_add(hash, opts.data, opts.len);
        esp_hash_add(hash, sizes, sizeof sizes);
        add_frame(hash, t);
        add_start(hash, t);
        add_doubles(hash, w->in_mean, 1, w->n_in);
        add_doubles(hash, w->in_scale, 1, w->n_in);
        add_doubles(hash, w->out_mean, 1, w->n_out);
        add_doubles(hash, w->out_scale, 1, w->n_out);
        add_doubles(hash, w->y_scale, 1, w->ny);
        esp_hash_finish(hash, ret_hex);
    }
    esp_buf_done(&opts);
    esp_hash_free(hash);
    return made ? ESP_OK : esp_fail(reterr, ESP_NOMEM, "identity of a checkpoint");
}

/* ---- writing -------------------------------------------------------------------------------------------------------- */

esp_code esp_checkpoint_encode(esp_trainer *t, esp_buf *ret_bytes, esp_error *reterr) {
    char hex[ESP_HASH_HEX];
    field fields[FIELDS_MAX] = {0};
    tally sums = tally_of(t);
    const esp_buf *notes = t->checkpoints->notes;
    size_t begin = ret_bytes->len, n_notes = notes ? notes->len : 0, len = 0;
    size_t n = list_fields(t, &sums, fields);
    for (size_t i = 0; i < n; i++) len += fields[i].len;
    esp_code code = identify(t, hex, reterr);
    if (code != ESP_OK) return code;
    esp_buf_put(ret_bytes, MAGIC, 4);
    esp_buf_put_u32(ret_bytes, VERSION);
    esp_buf_put(ret_bytes, hex, HEX);
    esp_buf_put_u64(ret_bytes, n_notes);
    if (n_notes) esp_buf_put(ret_bytes, notes->data, n_notes);
    ret_bytes->failed |= notes && notes->failed;
    esp_buf_put_u64(ret_bytes, len);
    for (size_t i = 0; i < n; i++)
        if (fields[i].len) esp_buf_put(ret_bytes, fields[i].at, fields[i].len);
    if (!ret_bytes->failed) esp_hash_bytes(ret_bytes->data + begin, ret_bytes->len - begin, hex);
    esp_buf_put(ret_bytes, hex, HEX);
    return ret_bytes->failed ? esp_fail(reterr, ESP_NOMEM, "a checkpoint of %zu bytes", len) : ESP_OK;
}

void esp_checkpoint_take(esp_trainer *t) {
    if (!t->checkpoints || !t->checkpoints->take) return;
    esp_buf_clear(&t->checkpoint);
    if (esp_checkpoint_encode(t, &t->checkpoint, NULL) == ESP_OK)
        t->checkpoints->take(t->checkpoints->user, &t->checkpoint, t->progress.fraction);
    else
        esp_buf_done(&t->checkpoint);
    t->kept_ns = esp_clock_now_ns();
}

void esp_checkpoint_if_due(esp_trainer *t) {
    if (t->checkpoints && esp_clock_now_ns() - t->kept_ns >= t->checkpoints->every_ns) esp_checkpoint_take(t);
}

/* ---- reading -------------------------------------------------------------------------------------------------------- */

/* Each window once: an order that is not one would read outside the data. */
static bool is_order(const esp_windows *w, const size_t *starts) {
    unsigned char *left = calloc(w->n_rows ? w->n_rows : 1, 1);
    bool good = left != NULL;
    for (size_t i = 0; good && i < w->n_starts; i++) left[w->starts[i]] = 1;
    for (size_t i = 0; good && i < w->n_starts; i++) {
        good = starts[i] < w->n_rows && left[starts[i]];
        if (good) left[starts[i]] = 0;
    }
    free(left);
    return good;
}

static bool are_finite(const float *values, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (!isfinite(values[i])) return false;
    return true;
}

static bool are_masks(const esp_ladder *ladder) {
    size_t undecided = 0;
    for (size_t i = 0; i < ladder->n; i++) {
        uint8_t s = ladder->state[i];
        if (s != ESP_UNDECIDED && s != ESP_ACT_IDENTITY && s != ESP_ACT_ZERO) return false;
        undecided += s == ESP_UNDECIDED;
    }
    return undecided == ladder->n_undecided && are_finite(ladder->logits, ESP_CLASSES * ladder->n);
}

static bool is_place(const esp_trainer *t) {
    const esp_place *p = &t->place;
    int64_t batches = (int64_t)(t->windows->n_starts / (size_t)t->opts->batch), neurons = (int64_t)t->n_neurons, n_rungs = t->opts->n_rungs;
    bool inside = p->rung >= (t->opts->start ? 0 : -1) && p->rung <= n_rungs && p->epoch >= 0 && p->epoch <= t->total_epochs && p->batch >= 0 &&
                  p->batch <= batches;
    bool flags = (p->settling | p->begun | p->shuffled) >> 1 == 0;
    if (!inside || !flags || t->epochs_done < 0 || t->epochs_done > t->total_epochs || t->adam.step < 0 || t->logit_adam.step < 0) return false;
    if (p->rounding < 0 || p->rounding > ESP_ROUNDINGS || (p->rounding && !p->settling)) return false;
    if (p->rung < 0 || p->rung == n_rungs) return p->wave == 0 && p->settling == 0;
    return p->wave >= 0 && p->wave < t->rung_epochs && p->from > t->opts->ladder[p->rung] && p->from <= neurons;
}

/* The hash says that it is what was written; this, that what was written makes sense. */
static esp_code check(const esp_trainer *t, const tally *sums, esp_error *reterr) {
    bool sane =
        sums->seconds >= 0 && sums->seconds < 1e9 && sums->samples >= 0 && sums->loss_count >= 0 && sums->fraction >= 0 && sums->fraction <= 1;
    const esp_schedule *s = &t->schedule;
    bool finite = are_finite(t->params, t->n_params) && are_finite(t->adam.m, t->n_params) && are_finite(t->adam.v, t->n_params) &&
                  are_finite(t->best, t->n_best);
    sane &= s->best >= 0 && s->share >= 0 && s->share <= 1 && s->waited >= 0 && s->patience >= 0;
    if (!sane || !finite || !is_place(t) || !are_masks(t->ladder) || !is_order(t->windows, t->starts))
        return esp_fail(reterr, ESP_CORRUPT, "the checkpoint holds a state that no run can be in");
    return ESP_OK;
}

static esp_code check_file(const esp_trainer *t, const char *bytes, size_t len, esp_error *reterr) {
    char hex[ESP_HASH_HEX];
    if (len < 4 + 4 + 2 * HEX + 16 || memcmp(bytes, MAGIC, 4) != 0) return esp_fail(reterr, ESP_CORRUPT, "not a checkpoint, or one cut short");
    esp_hash_bytes(bytes, len - HEX, hex);
    if (memcmp(hex, bytes + len - HEX, HEX) != 0) return esp_fail(reterr, ESP_CORRUPT, "the checkpoint was cut short or changed: its hash is wrong");
    esp_cursor in = {.data = (const unsigned char *)bytes, .len = len, .pos = 4};
    uint32_t version = esp_cursor_u32(&in);
    if (version != VERSION) return esp_fail(reterr, ESP_CORRUPT, "the checkpoint is of version %u; this is %u", version, VERSION);
    esp_code code = identify(t, hex, reterr);
    if (code != ESP_OK) return code;
    if (memcmp(hex, bytes + 8, HEX) != 0)
        return esp_fail(reterr, ESP_CORRUPT, "the checkpoint is of other data, other options or another build of the program");
    return ESP_OK;
}

esp_code esp_checkpoint_restore(esp_trainer *t, const void *bytes, size_t len, const void **ret_notes, size_t *ret_notes_len, esp_error *reterr) {
    field fields[FIELDS_MAX] = {0};
    tally sums = {0};
    size_t n = list_fields(t, &sums, fields), state = 0;
    esp_code code = check_file(t, bytes, len, reterr);
    if (code != ESP_OK) return code;
    esp_cursor in = {.data = bytes, .len = len - HEX, .pos = 8 + HEX};
    uint64_t n_notes = esp_cursor_u64(&in);
    const void *notes = n_notes <= len ? esp_cursor_bytes(&in, (size_t)n_notes) : NULL;
    for (size_t i = 0; i < n; i++) state += fields[i].len;
    if (!notes || esp_cursor_u64(&in) != state || in.failed || in.len - in.pos != state)
        return esp_fail(reterr, ESP_CORRUPT, "the checkpoint's parts do not fit this run");
    for (size_t i = 0; i < n; i++)
        if (fields[i].len) memcpy(fields[i].at, esp_cursor_bytes(&in, fields[i].len), fields[i].len);
    take_tally(t, &sums);
    code = check(t, &sums, reterr);
    if (code != ESP_OK) return code;
    *ret_notes = notes;
    *ret_notes_len = (size_t)n_notes;
    return ESP_OK;
}
