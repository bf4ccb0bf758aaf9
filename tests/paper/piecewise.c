/* SPDX-License-Identifier: Apache-2.0
 * Piecewise-affine recovery, the sparse-dynamics paper's figures 2 and 8: 1,600 samples of a function with four linear pieces (pieces.h), a network
 * [96, 192, 192, 96] of 576 ReLUs, seven rounds down to 2, and beside it L1 channel pruning of the same network in the same rounds.
 *
 *     piecewise --out DIR [--functions saddle,valley] [--seeds 10] [--epochs N] [--attempts N]
 *
 * The last rounds depend on luck: four ReLUs fit the samples in many ways, and not from each of them do two go for nothing. So the tail of the
 * ladder, from 25 ReLUs on, is tried again with other masks while the root mean square error over the 1,600 samples is above half a percent
 * of their range, `attempts` times at most; the best is kept. Nothing but the samples enters that choice. How many attempts there were is a column.
 *
 * piecewise.csv: a row for each model; piecewise.svg: truth, dense network, ladder and channel pruning of the first seed. A measurement and
 * not a test: run it with OPENBLAS_NUM_THREADS=1. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "paper/pieces.h"
#include "paper/pieces_draw.h"
#include "robots/random.h"
#include "train/train.h"

enum { SAMPLES = 1600, ROUNDS = 7, TAIL = 3, ATTEMPTS_MAX = 100 };
static const int ladder[ROUNDS] = {200, 64, 25, 12, 6, 4, 2};
#define GOOD_ENOUGH 0.005 /* of the range */

typedef struct settings {
    const char *out, *functions;
    int seeds, epochs, attempts;
} settings;

static esp_error error;

static void must(esp_code code) {
    if (code == ESP_OK) return;
    fprintf(stderr, "piecewise: %s\n", error.message);
    exit(1);
}

/* y(1) = f(u) from y(0) = 0: the network sees u alone and gives all of y. */
static esp_frame frame(void) {
    static double a[1] = {0}, b[2] = {0, 0}, c[2] = {0, 0}, d[4] = {1, 0, 0, 1}, g[1] = {1};
    return (esp_frame){ESP_FRAME_LINEAR, a, b, c, d, g};
}

static esp_dataset *draw_samples(const esp_pieces *f, uint64_t seed) {
    esp_ingest *ingest = NULL;
    esp_dice dice;
    esp_dice_init(&dice, seed, 0);
    must(esp_ingest_create(ESP_DATA_NDJSON, true, &ingest, &error));
    for (int i = 0; i < SAMPLES; i++) {
        double x[2] = {esp_dice_range(&dice, -1, 1), esp_dice_range(&dice, -1, 1)};
        char line[160];
        int len = snprintf(line, sizeof line, "{\"y\":[[0],[%.9g]],\"u\":[[%.9g,%.9g]]}\n", esp_pieces_value(f, x, NULL, NULL), x[0], x[1]);
        must(esp_ingest_feed(ingest, line, (size_t)len, &error));
    }
    must(esp_ingest_finish(ingest, &error));
    esp_dataset *data = esp_ingest_take(ingest);
    esp_ingest_free(ingest);
    if (!data) must(esp_fail(&error, ESP_NOMEM, "no memory for %d samples", SAMPLES));
    return data;
}

/* The models of a run, dense first where it is of the run. */
typedef struct models {
    int n;
    esp_model *model[ROUNDS + 1];
} models;

static esp_code keep(void *user, const esp_train_model *trained, esp_error *reterr) {
    models *m = user;
    esp_buf bytes = {0};
    esp_code code = esp_model_encode(trained->model, &bytes, reterr);
    if (!code) code = esp_model_decode(bytes.data, bytes.len, &m->model[m->n], reterr);
    if (!code) m->n++;
    esp_buf_done(&bytes);
    return code;
}

static void drop(models *m) {
    for (int i = 0; i < m->n; i++) esp_model_free(m->model[i]);
    m->n = 0;
}

/* Rounds first .. last - 1 from a model, or from nothing the dense network and then them. */
static models train(const settings *s, const esp_dataset *data, uint64_t seed, esp_sparsify_method method, const esp_model *start, int first,
                    int last) {
    static const int hidden[] = {96, 192, 192, 96};
    models m = {0};
    esp_train_opts opts;
    const esp_train_hooks hooks = {.user = &m, .model = keep};
    esp_train_opts_init(&opts);
    opts.n_hidden = 4;
    memcpy(opts.hidden, hidden, sizeof hidden);
    opts.frame = frame();
    opts.f_in = 2;
    opts.f_out = 1;
    opts.epochs = opts.rung_epochs = s->epochs;
    opts.seed = seed;
    opts.method = method;
    opts.start = start;
    opts.n_rungs = last - first;
    memcpy(opts.ladder, ladder + first, (size_t)opts.n_rungs * sizeof *ladder);
    must(esp_train_run(data, &opts, &hooks, NULL, &error));
    return m;
}

/* Root mean square error over the samples, a share of their range. */
static double sample_error(const esp_model *model, const esp_dataset *data) {
    esp_program *program = NULL;
    double low = INFINITY, high = -INFINITY, squares = 0;
    must(esp_program_lower(model, &program, &error));
    double *work = calloc((size_t)program->n_r + 1, sizeof *work);
    if (!work) must(esp_fail(&error, ESP_NOMEM, "no memory for a program"));
    for (size_t i = 0; i < data->n_trajectories; i++) {
        size_t row = data->start[i];
        double x[3] = {data->y[row], data->u[2 * row], data->u[2 * row + 1]}, y, truth = data->y[row + 1];
        esp_program_forward(program, x, &y, NULL, NULL, work);
        squares += (y - truth) * (y - truth);
        low = fmin(low, truth);
        high = fmax(high, truth);
    }
    free(work);
    esp_program_free(program);
    return sqrt(squares / (double)data->n_trajectories) / (high - low);
}

/* The tail of the ladder again while the samples are not met; the models of the best go where the first one's were. */
static int retry(const settings *s, const esp_dataset *data, uint64_t seed, models *m) {
    double best = sample_error(m->model[ROUNDS], data);
    int attempt = 1;
    for (; best > GOOD_ENOUGH && attempt < s->attempts; attempt++) {
        models tail = train(s, data, seed + 1000 * (uint64_t)attempt, ESP_SPARSIFY_GUMBEL, m->model[TAIL], TAIL, ROUNDS);
        double now = sample_error(tail.model[tail.n - 1], data);
        for (int i = 0; now < best && i < tail.n; i++) {
            esp_model *other = m->model[TAIL + 1 + i];
            m->model[TAIL + 1 + i] = tail.model[i];
            tail.model[i] = other;
        }
        best = fmin(best, now);
        drop(&tail);
    }
    return attempt;
}

static void write_row(FILE *table, const esp_pieces *f, uint64_t seed, const char *method, const esp_model *model, int attempts) {
    esp_program *program = NULL;
    esp_pieces_distance d;
    must(esp_program_lower(model, &program, &error));
    must(esp_pieces_measure(f, program, &d, &error));
    int relu = esp_net_relus(model->net);
    fprintf(table, "%s,%llu,%s,%d,%.6g,%.6g,%.6g,%.6g,%d,%d\n", f->name, (unsigned long long)seed, method, relu, d.rmse, d.largest, d.regions,
            d.slopes, d.n_regions, attempts);
    if (relu <= 2)
        printf("%-7s seed %2llu %-7s %d ReLUs: RMSE %.3f %% of the range, wrong region %.2f %%, slopes %.2f %%, attempts %d\n", f->name,
               (unsigned long long)seed, method, relu, 100 * d.rmse, 100 * d.regions, 100 * d.slopes, attempts);
    fflush(stdout);
    esp_program_free(program);
}

static void run_seed(const settings *s, const esp_pieces *f, uint64_t seed, FILE *table, esp_pieces_picture *picture, int row) {
    esp_dataset *data = draw_samples(f, seed);
    models m = train(s, data, seed, ESP_SPARSIFY_GUMBEL, NULL, 0, ROUNDS);
    int attempts = retry(s, data, seed, &m);
    models channel = train(s, data, seed, ESP_SPARSIFY_CHANNEL, m.model[0], 0, ROUNDS);
    for (int i = 0; i <= ROUNDS; i++) write_row(table, f, seed, i ? "ladder" : "dense", m.model[i], attempts);
    for (int i = 0; i < ROUNDS; i++) write_row(table, f, seed, "channel", channel.model[i], 1);
    const esp_model *shown[] = {m.model[0], m.model[ROUNDS], channel.model[ROUNDS - 1]};
    if (seed == 1) must(esp_pieces_picture_row(picture, row, f, shown, &error));
    drop(&channel);
    drop(&m);
    esp_dataset_free(data);
}

static void run(const settings *s) {
    static const char *const titles[] = {"truth", "dense, 576 ReLUs", "ladder, 2 ReLUs", "channel pruning, 2 ReLUs"};
    char path[1024];
    esp_pieces_picture picture;
    snprintf(path, sizeof path, "%s/piecewise.csv", s->out);
    FILE *table = fopen(path, "w");
    snprintf(path, sizeof path, "%s/piecewise.svg", s->out);
    int rows = 0, row = 0;
    for (int k = 0; k < ESP_PIECES_FUNCTIONS; k++) rows += strstr(s->functions, esp_pieces_functions[k].name) != NULL;
    if (!table || !esp_pieces_picture_open(path, titles, rows, &picture)) must(esp_fail(&error, ESP_IO, "no file can be made in %s", s->out));
    fprintf(table, "function,seed,method,relu,rmse,largest,regions,slopes,n_regions,attempts\n");
    for (int k = 0; k < ESP_PIECES_FUNCTIONS; k++) {
        if (!strstr(s->functions, esp_pieces_functions[k].name)) continue;
        for (int seed = 1; seed <= s->seeds; seed++) run_seed(s, &esp_pieces_functions[k], (uint64_t)seed, table, &picture, row);
        row++;
    }
    bool good = fclose(table) == 0;
    if (!esp_pieces_picture_close(&picture) || !good) must(esp_fail(&error, ESP_IO, "%s cannot be written", path));
}

int main(int argc, char **argv) {
    settings s = {.functions = "saddle,valley", .seeds = 10, .epochs = 100, .attempts = 8};
    bool good = argc % 2 == 1;
    for (int i = 1; good && i + 1 < argc; i += 2) {
        int value = atoi(argv[i + 1]);
        if (strcmp(argv[i], "--out") == 0)
            s.out = argv[i + 1];
        else if (strcmp(argv[i], "--functions") == 0)
            s.functions = argv[i + 1];
        else if (strcmp(argv[i], "--seeds") == 0)
            s.seeds = value, good = value >= 1 && value < 1000;
        else if (strcmp(argv[i], "--epochs") == 0)
            s.epochs = value, good = value >= 2;
        else if (strcmp(argv[i], "--attempts") == 0)
            s.attempts = value, good = value >= 1 && value <= ATTEMPTS_MAX;
        else
            good = false;
    }
    if (!good || !s.out) {
        fprintf(stderr, "usage: piecewise --out DIR [--functions saddle,valley,bent] [--seeds N] [--epochs N] [--attempts N]\n");
        return 2;
    }
    run(&s);
    return 0;
}
