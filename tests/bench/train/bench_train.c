/* SPDX-License-Identifier: Apache-2.0
 * This project's side of the training benchmark. Driven by train.py, which times PyTorch.
 *
 *     bench_train data FILE TRANSITIONS    writes the data: random pushes, keypoints relative to the pusher, NDJSON
 *     bench_train run FILE PREFIX 64-64    trains a network of these hidden layers on it
 *     bench_train threads FILE 64-64       samples a second by the clock of one job on one thread, on two, and of two jobs at once, in turns;
 *                                          no PyTorch
 *
 * `run` writes what it trains on to PREFIX.features, .targets, .starts, .validation and its first weights to PREFIX.params, in
 * plain float and 64-bit integers, and their sizes on one line of JSON. Then it answers lines on standard input, each with a line:
 *     rate dense|gumbel SECONDS     samples per second of CPU and of wall time, whole training steps as a job runs them
 *     learn EPOCHS RATE             afresh: JSON array of [CPU s, epochs, validation RMSE]
 *     parts                         JSON: microseconds of CPU a batch for each part, its GFLOP, and the peaks
 *     memory                        the largest resident size so far, KiB */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/linalg.h"
#include "robots/pushing/data.h"
#include "train/trainer.h"
#include "worker/helpers.h"

#define NY    8 /* keypoints relative to the pusher: the last of the world's outputs */
#define BATCH 256

static void must(esp_code code, const esp_error *error) {
    if (code == ESP_OK) return;
    fprintf(stderr, "bench_train: %s %s\n", error->pointer, error->message);
    exit(1);
}

static void need(bool ok, const char *what) {
    if (ok) return;
    fprintf(stderr, "bench_train: %s\n", what);
    exit(1);
}

static double seconds_of(clockid_t clock) {
    struct timespec now;
    (void)clock_gettime(clock, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static double cpu(void) {
    return seconds_of(CLOCK_PROCESS_CPUTIME_ID);
}

/* ---- data ------------------------------------------------------------------------------------------------------------ */

static void narrow(esp_dataset *data) {
    size_t wide = (size_t)data->ny;
    for (size_t r = 0; r < data->n_rows; r++) memmove(data->y + r * NY, data->y + r * wide + wide - NY, NY * sizeof *data->y);
    data->ny = NY;
}

static void write_data(const char *path, int transitions) {
    esp_push_data *made = calloc(1, sizeof *made);
    esp_dataset *data = NULL;
    esp_error error = {0};
    FILE *out = fopen(path, "w");
    need(made && out && esp_push_generate(out, transitions, 1, made) && fclose(out) == 0, "the data cannot be written");
    must(esp_dataset_load(path, ESP_DATA_NDJSON, &data, &error), &error);
    narrow(data);
    out = fopen(path, "w");
    need(out != NULL, "the data cannot be written");
    for (size_t i = 0; i < data->n_trajectories; i++) {
        esp_buf text = {0};
        esp_dataset_format(data, i, ESP_DATA_NDJSON, &text);
        need(fputs(esp_buf_text(&text), out) >= 0, "the data cannot be written");
        esp_buf_done(&text);
    }
    need(fclose(out) == 0, "the data cannot be written");
    esp_dataset_free(data);
    free(made);
}

/* ---- a run ----------------------------------------------------------------------------------------------------------- */

typedef struct bench {
    esp_dataset *data;
    esp_train_opts opts;
    esp_train_hooks hooks;
    esp_trainer *trainer;
    double begin, limit; /* CPU seconds */
    bool tell; /* print the curve */
    int told;
} bench;

static void tell(bench *b) {
    const esp_trainer *t = b->trainer;
    if (t->epochs_done == b->told) return;
    printf("%s[%.4f, %d, %.6g]", b->told ? ", " : "", cpu() - b->begin, t->epochs_done, t->progress.validation_rmse);
    b->told = t->epochs_done;
}

static bool over(void *user) {
    bench *b = user;
    if (b->tell) tell(b);
    return cpu() - b->begin > b->limit;
}

/* A trainer as a job has it before its first phase. */
static void start(bench *b, const esp_stop *stop) {
    esp_error error = {0};
    esp_trainer_free(b->trainer);
    b->trainer = NULL;
    must(esp_trainer_create(b->data, &b->opts, &b->hooks, stop, &b->trainer, &error), &error);
    b->trainer->total_epochs = 1000000;
    b->begin = cpu();
    b->told = 0;
}

typedef struct rates {
    double cpu, wall; /* samples a second */
} rates;

static rates rate(bench *b, bool gumbel, double seconds) {
    esp_stop stop = {.deadline_ns = ESP_NEVER, .cancelled = over, .user = b};
    esp_error error = {0};
    b->limit = seconds;
    b->tell = false;
    start(b, &stop);
    double wall = seconds_of(CLOCK_MONOTONIC);
    esp_phase phase = {.stage = "rate", .epochs = 1000000, .stage_epochs = 1000000, .search = gumbel, .rate = 0.001, .logit_rate = 0.03};
    need(esp_trainer_phase(b->trainer, &phase, &error) == ESP_CANCELLED, error.message);
    return (rates){b->trainer->samples / (cpu() - b->begin), b->trainer->samples / (seconds_of(CLOCK_MONOTONIC) - wall)};
}

#define TURNS 25

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void learn(bench *b, int epochs, double rate) {
    esp_stop stop = {.deadline_ns = ESP_NEVER, .cancelled = over, .user = b};
    esp_error error = {0};
    b->limit = INFINITY;
    b->tell = true;
    start(b, &stop);
    esp_phase phase = {.stage = "learn", .epochs = epochs, .stage_epochs = epochs, .rate = rate};
    printf("[");
    must(esp_trainer_phase(b->trainer, &phase, &error), &error);
    tell(b);
    printf("]\n");
}

/* ---- parts ----------------------------------------------------------------------------------------------------------- */

typedef struct parts {
    bench *b;
    float *packed, *memory, *d_out, *work;
    esp_tape tape;
    double *square[3];
} parts;

#define SIDE 1024 /* of the products that are taken for the machine's peak */

typedef void part(parts *p);

static void do_pack(parts *p) {
    esp_trainer *t = p->b->trainer;
    esp_mlp_pack(&t->mlp, t->params, t->ladder->pos, t->ladder->neg, p->packed);
}

static void do_forward(parts *p) {
    esp_mlp_forward(&p->b->trainer->mlp, p->packed, BATCH, false, &p->tape);
}

static void do_forward_kept(parts *p) {
    esp_mlp_forward(&p->b->trainer->mlp, p->packed, BATCH, true, &p->tape);
}

static void do_backward(parts *p) {
    esp_trainer *t = p->b->trainer;
    esp_mlp_backward(&t->mlp, p->packed, BATCH, &p->tape, p->d_out, t->grads, NULL, NULL, p->work);
}

static void do_backward_slopes(parts *p) {
    esp_trainer *t = p->b->trainer;
    esp_mlp_backward(&t->mlp, p->packed, BATCH, &p->tape, p->d_out, t->grads, &t->slopes, NULL, p->work);
}

static void do_adam(parts *p) {
    esp_trainer *t = p->b->trainer;
    esp_adam_step(&t->adam, 1e-4, 0, t->mlp.n_weights, t->grads, t->params);
}

static void do_masks(parts *p) {
    esp_trainer *t = p->b->trainer;
    esp_ladder_sample(t->ladder, &t->mask_rng);
    (void)esp_ladder_backward(t->ladder, t->slopes.positive, t->slopes.negative);
    esp_adam_step(&t->logit_adam, 0.03, 0, 0, t->ladder->grads, t->ladder->logits);
}

/* The whole of a batch's loss and gradient: gather, pack, forward, squares, backward. */
static void do_gradient(parts *p) {
    esp_trainer *t = p->b->trainer;
    esp_rollout_call call = {
        .params = t->params, .pos = t->ladder->pos, .neg = t->ladder->neg, .starts = t->starts, .n = BATCH, .steps = 1, .grads = t->grads};
    (void)esp_rollout_loss(t->rollout, &call, NULL);
}

static void do_shuffle(parts *p) {
    esp_trainer *t = p->b->trainer;
    esp_rng_shuffle(&t->shuffle_rng, t->starts, t->windows->n_starts);
}

static void do_sgemm(parts *p) {
    esp_sgemm(ESP_NO, ESP_NO, SIDE, SIDE, SIDE, 1, (float *)p->square[0], SIDE, (float *)p->square[1], SIDE, 0, (float *)p->square[2], SIDE);
}

static void do_dgemm(parts *p) {
    esp_dgemm(ESP_NO, ESP_NO, SIDE, SIDE, SIDE, 1, p->square[0], SIDE, p->square[1], SIDE, 0, p->square[2], SIDE);
}

/* Microseconds of CPU a call: the median of 9 slices of some 10 ms. */
static double time_of(parts *p, part *run) {
    double slices[9];
    int calls = 1;
    run(p);
    for (double begin = cpu(); cpu() - begin < 0.01; calls++) run(p);
    for (int i = 0; i < 9; i++) {
        double begin = cpu();
        for (int k = 0; k < calls; k++) run(p);
        slices[i] = 1e6 * (cpu() - begin) / calls;
    }
    qsort(slices, 9, sizeof *slices, by_value);
    return slices[4];
}

static float *floats(size_t n) {
    float *block = aligned_alloc(64, esp_padded(n + 1) * sizeof *block);
    need(block != NULL, "no memory");
    for (size_t i = 0; i < n; i++) block[i] = (float)((i * 7919 % 1009) / 1009.0 - 0.5);
    return block;
}

static void print_parts(bench *b) {
    static const struct {
        const char *name;
        part *run;
    } list[] = {{"pack", do_pack},
                {"forward", do_forward},
                {"backward", do_backward},
                {"forward, p kept", do_forward_kept},
                {"backward, with slopes", do_backward_slopes},
                {"loss and gradient", do_gradient},
                {"Adam", do_adam},
                {"masks, draw to update", do_masks}};
    start(b, NULL);
    const esp_mlp *mlp = &b->trainer->mlp;
    parts p = {.b = b,
               .packed = floats(mlp->n_packed),
               .memory = floats(esp_tape_floats(mlp, BATCH)),
               .d_out = floats(BATCH * esp_padded(NY)),
               .work = floats(esp_mlp_work(mlp, BATCH))};
    esp_tape_init(&p.tape, mlp, BATCH, p.memory);
    printf("{");
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) printf("\"%s\": %.2f, ", list[i].name, time_of(&p, list[i].run));
    printf("\"shuffle\": %.2f, ", time_of(&p, do_shuffle) * BATCH / (double)b->trainer->windows->n_starts);
    for (int i = 0; i < 3; i++) p.square[i] = (double *)(void *)floats(2 * SIDE * SIDE);
    double inner = 0, all = 2.0 * BATCH * (double)mlp->n_weights;
    inner = all - 2.0 * BATCH * mlp->width[0] * mlp->width[1];
    printf("\"forward GFLOP\": %.6f, \"backward GFLOP\": %.6f, ", all * 1e-9, (all + inner) * 1e-9);
    memset(p.square[0], 0, SIDE * SIDE * sizeof(double));
    memset(p.square[1], 0, SIDE * SIDE * sizeof(double));
    double flop = 2.0 * SIDE * SIDE * SIDE * 1e-9;
    printf("\"sgemm GFLOP/s\": %.1f, ", flop / (1e-6 * time_of(&p, do_sgemm)));
    printf("\"dgemm GFLOP/s\": %.1f}\n", flop / (1e-6 * time_of(&p, do_dgemm)));
    for (int i = 0; i < 3; i++) free(p.square[i]);
    free(p.packed);
    free(p.memory);
    free(p.d_out);
    free(p.work);
}

/* ---- threads --------------------------------------------------------------------------------------------------------- */

/* Of two jobs that share nothing but the machine, together: what its processors can give to two threads of this work. */
static double two_jobs(bench *b, bool gumbel, double seconds) {
    int ends[2], status = 0;
    double other = 0;
    need(pipe(ends) == 0, "no pipe");
    pid_t child = fork();
    need(child >= 0, "no second process");
    double own = rate(b, gumbel, seconds).wall;
    if (child == 0) _exit(write(ends[1], &own, sizeof own) != sizeof own);
    need(read(ends[0], &other, sizeof other) == sizeof other && waitpid(child, &status, 0) == child && status == 0, "the second job failed");
    (void)close(ends[0]);
    (void)close(ends[1]);
    return own + other;
}

/* Microseconds by the clock that one in ten minibatches takes at most, loss to update: those for which the processors were there. */
static double quick_minibatch(bench *b) {
    enum { CALLS = 4000 };
    static double us[CALLS];
    start(b, NULL);
    parts p = {.b = b};
    for (int i = 0; i < CALLS; i++) {
        double begin = seconds_of(CLOCK_MONOTONIC);
        do_gradient(&p);
        do_adam(&p);
        us[i] = 1e6 * (seconds_of(CLOCK_MONOTONIC) - begin);
    }
    qsort(us, CALLS, sizeof *us, by_value);
    return us[CALLS / 10];
}

enum { ONE, TWO, JOBS, SETTINGS };

static void set_threads(bench *b, int n, const helpers *two) {
    b->opts.threads = n;
    b->hooks.parallel = n > 1 ? helpers_parallel(two) : NULL;
}

/* Short turns, one after the other: on a machine with others the best of each says what it can do, the median what one gets. */
static void compare_threads(bench *b, const char *network) {
    double wall[SETTINGS][TURNS];
    helpers *two = NULL;
    esp_error error = {0};
    must(helpers_create(2, &two, &error), &error);
    for (int gumbel = 0; gumbel < 2; gumbel++) {
        for (int turn = 0; turn < TURNS; turn++)
            for (int k = 0; k < SETTINGS; k++) {
                set_threads(b, k == TWO ? 2 : 1, two);
                wall[k][turn] = k == JOBS ? two_jobs(b, gumbel, 0.05) : rate(b, gumbel, 0.05 * b->opts.threads).wall;
            }
        printf("| %s | %s |", network, gumbel ? "yes" : "no");
        for (int k = 0; k < SETTINGS; k++) qsort(wall[k], TURNS, sizeof(double), by_value);
        for (int at = TURNS - 1; at > 0; at -= TURNS / 2)
            printf(" %.0f | %.2f | %.2f |", wall[ONE][at], wall[TWO][at] / wall[ONE][at], wall[JOBS][at] / wall[ONE][at]);
        double quick[2] = {0};
        for (int k = 0; !gumbel && k < 2; k++) {
            set_threads(b, k + 1, two);
            quick[k] = quick_minibatch(b);
        }
        if (!gumbel) printf(" %.1f | %.2f |", quick[0], quick[0] / quick[1]);
        printf("%s\n", gumbel ? " | |" : "");
        (void)fflush(stdout);
    }
    helpers_free(two);
}

/* ---- the conversation ------------------------------------------------------------------------------------------------ */

static void dump(const char *prefix, const char *suffix, const void *from, size_t bytes) {
    char path[512];
    (void)snprintf(path, sizeof path, "%s.%s", prefix, suffix);
    FILE *out = fopen(path, "wb");
    need(out && fwrite(from, 1, bytes, out) == bytes && fclose(out) == 0, path);
}

static void introduce(const bench *b, const char *prefix) {
    const esp_trainer *t = b->trainer;
    const esp_windows *w = t->windows;
    dump(prefix, "features", w->features, w->n_rows * (size_t)w->n_in * sizeof(float));
    dump(prefix, "targets", w->targets, w->n_rows * (size_t)w->ny * sizeof(float));
    dump(prefix, "starts", w->starts, w->n_starts * sizeof *w->starts);
    dump(prefix, "validation", t->validation, t->n_validation * sizeof *t->validation);
    dump(prefix, "params", t->params, t->mlp.n_params * sizeof *t->params);
    printf("{\"blas\": \"%s\", \"rows\": %zu, \"widths\": [", esp_linalg_describe(), w->n_rows);
    for (int l = 0; l <= t->mlp.n_layers; l++) printf("%s%d", l ? ", " : "", t->mlp.width[l]);
    printf("], \"g\": [");
    for (int i = 0; i < w->ny * w->n_out; i++) printf("%s%.9g", i ? ", " : "", (double)w->g[i]);
    printf("], \"y_scale\": [");
    for (int i = 0; i < w->ny; i++) printf("%s%.17g", i ? ", " : "", w->y_scale[i]);
    printf("]}\n");
    (void)fflush(stdout);
}

/* Not getrusage, which begins with what the process was before it was this program. */
static long peak_memory(void) {
    char line[128];
    long kib = -1;
    FILE *status = fopen("/proc/self/status", "r");
    need(status != NULL, "no /proc");
    while (kib < 0 && fgets(line, sizeof line, status))
        if (sscanf(line, "VmHWM: %ld", &kib) != 1) kib = -1;
    (void)fclose(status);
    return kib;
}

static void answer(bench *b, const char *line) {
    char what[16];
    double seconds, learning_rate;
    int epochs;
    if (sscanf(line, "rate %15s %lf", what, &seconds) == 2) {
        rates r = rate(b, strcmp(what, "gumbel") == 0, seconds);
        printf("%.0f %.0f\n", r.cpu, r.wall);
    } else if (sscanf(line, "learn %d %lf", &epochs, &learning_rate) == 2) {
        learn(b, epochs, learning_rate);
    } else if (strcmp(line, "parts\n") == 0) {
        print_parts(b);
    } else {
        need(strcmp(line, "memory\n") == 0, line);
        printf("%ld\n", peak_memory());
    }
    (void)fflush(stdout);
}

int main(int argc, char **argv) {
    char line[128];
    if (argc == 4 && strcmp(argv[1], "data") == 0) {
        write_data(argv[2], atoi(argv[3]));
        return 0;
    }
    bool threads = argc == 4 && strcmp(argv[1], "threads") == 0;
    need(threads || (argc == 5 && strcmp(argv[1], "run") == 0), "what to do is told in bench_train.c");
    bench b = {0};
    esp_error error = {0};
    must(esp_dataset_load(argv[2], ESP_DATA_NDJSON, &b.data, &error), &error);
    esp_train_opts_init(&b.opts);
    b.opts.batch = BATCH;
    b.opts.frame.kind = ESP_FRAME_RESIDUAL;
    b.opts.n_hidden = 0;
    for (char *at = argv[argc - 1]; *at && b.opts.n_hidden < ESP_MAX_HIDDEN; at += *at == '-')
        b.opts.hidden[b.opts.n_hidden++] = (int)strtol(at, &at, 10);
    if (threads) {
        compare_threads(&b, argv[3]);
    } else {
        start(&b, NULL);
        introduce(&b, argv[3]);
        while (fgets(line, sizeof line, stdin)) answer(&b, line);
    }
    esp_trainer_free(b.trainer);
    esp_dataset_free(b.data);
    return 0;
}
