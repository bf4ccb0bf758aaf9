/* SPDX-License-Identifier: Apache-2.0
 * How tight the certified difference of two networks is, and how fast it is had: networks that imitate a saturated
 * controller, and pruned ones, over boxes.
 *
 *     bench_certify [--seconds S] [--gap G] [--nets "2-16-16-1 ..."] [--seeds N] [--exact S]
 *
 * For each pair the true largest difference (the best of sampling and of every search's witness), and how many times that each
 * method's bound is; then the same with the perturbation scaled down. Asserts nothing: it is no test. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/rng.h"
#include "bench/certify/nets.h"
#include "certify/closed_form.h"
#include "certify/difference.h"
#include "certify/float_error.h"
#include "certify/twin.h"
#include "plan/exact.h"

typedef struct options {
    double seconds, gap, exact; /* exact: seconds against CBC, 0 for none */
    int seeds;
    const char *nets;
} options;

typedef struct row {
    double truth, norm, activation, interval, crown, twin, split, split_s, lower;
    long boxes;
    const char *status;
} row;

static double cpu(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* The stop of a search in CPU seconds, so that other work on the machine does not shorten it. That clock is slow to read. */
typedef struct budget {
    double end;
    unsigned calls;
    bool out;
} budget;

static bool out_of_time(void *user) {
    budget *b = user;
    if (!b->out && b->calls++ % 32 == 0) b->out = cpu() > b->end;
    return b->out;
}

static double two_norm(const double *y, const double *z, int n) {
    double sum = 0;
    for (int i = 0; i < n; i++) sum += (y[i] - z[i]) * (y[i] - z[i]);
    return sqrt(sum);
}

/* The largest difference by random points and coordinate search from the best of them: no code of the library but the
 * reference forward pass. */
static double true_difference(const bench_pair *p, const esp_box *box) {
    enum { POINTS = 100000, CLIMBS = 60 };
    int n = box->n, n_y = esp_net_outputs(p->f->net);
    double x[8], best_x[8], y[8], z[8], work[512], best = 0;
    esp_rng rng;
    esp_rng_init(&rng, 77, 3);
    for (int climb = 0; climb < CLIMBS; climb++) {
        double here = -1;
        for (int s = 0; s < POINTS / CLIMBS; s++) {
            for (int k = 0; k < n; k++) x[k] = esp_rng_range(&rng, box->lower[k], box->upper[k]);
            for (int k = 0; s % 4 == 0 && k < n; k++) x[k] = esp_rng_uniform(&rng) < 0.5 ? box->lower[k] : box->upper[k];
            esp_net_forward(p->f->net, x, y, work);
            esp_net_forward(p->g->net, x, z, work);
            double d = two_norm(y, z, n_y);
            if (d > here) here = d, memcpy(best_x, x, sizeof x);
        }
        for (double step = 0.2; step > 1e-7; step *= 0.7) {
            memcpy(x, best_x, sizeof x);
            for (int k = 0; k < n; k++) {
                double move = step * (box->upper[k] - box->lower[k]) * esp_rng_normal(&rng);
                x[k] = fmin(box->upper[k], fmax(box->lower[k], x[k] + move));
            }
            esp_net_forward(p->f->net, x, y, work);
            esp_net_forward(p->g->net, x, z, work);
            double d = two_norm(y, z, n_y);
            if (d > here) here = d, memcpy(best_x, x, sizeof x), step = fmin(0.2, step / 0.7 / 0.7);
        }
        best = fmax(best, here);
    }
    return best;
}

/* Norms alone, the form of several layers at once; with `activation` the box's activations by intervals. */
static double norm_product(const bench_pair *p, const esp_box *box, bool activation) {
    double bound = HUGE_VAL;
    if (bench_norm_bound(p, box, activation, &bound)) return NAN;
    return bound;
}

static int run(const bench_pair *p, const esp_box *box, const options *o, row *ret) {
    esp_error error = {0};
    esp_program *f = NULL, *g = NULL;
    esp_certified made = {0};
    esp_certify_opts opts = ESP_CERTIFY_OPTS_INIT;
    int *pairs = malloc((size_t)(esp_net_relus(p->f->net) + 1) * sizeof *pairs);
    opts.norm = ESP_NORM_2;
    opts.gap = o->gap;
    *ret = (row){.truth = true_difference(p, box), .norm = norm_product(p, box, false), .activation = norm_product(p, box, true)};
    esp_code code = pairs ? esp_program_lower(p->f, &f, &error) : ESP_NOMEM;
    if (!code) code = esp_program_lower(p->g, &g, &error);
    if (!code) {
        esp_twin_pairs(p->f->net, p->g->net, pairs);
        double start = cpu();
        budget end = {start + o->seconds, 0, false};
        esp_stop stop = {ESP_NEVER, out_of_time, &end};
        code = esp_certify_difference(f, g, pairs, box, &opts, &stop, &made, &error);
        ret->split_s = cpu() - start;
    }
    if (!code) {
        ret->interval = made.rows[0].value;
        ret->crown = made.rows[1].value;
        ret->twin = made.rows[2].value;
        ret->split = made.rows[3].value;
        ret->status = made.rows[3].status;
        ret->lower = made.rows[3].lower;
        ret->truth = fmax(ret->truth, ret->lower);
        ret->boxes = (long)made.boxes;
    } else {
        fprintf(stderr, "bench_certify: %s\n", error.message);
    }
    esp_certified_done(&made);
    esp_program_free(f);
    esp_program_free(g);
    free(pairs);
    return code;
}

static void print_head(const char *first) {
    printf("| %-34s | true     | norms  | activ. | interval | CROWN  | twin   | min    | split  | s     | boxes  |\n", first);
    printf("|:-----------------------------------|---------:|-------:|-------:|---------:|-------:|-------:|-------:|-------:|------:|-------:|\n");
}

static void print_row(const char *name, const row *r) {
    double t = r->truth;
    printf("| %-34s | %8.3g | %6.4g | %6.4g | %8.4g | %6.3f | %6.3f | %6.3f | %6.3f | %5.2f | %6ld |\n", name, t, r->norm / t, r->activation / t,
           r->interval / t, r->crown / t, r->twin / t, fmin(r->crown, r->twin) / t, r->split / t, r->split_s, r->boxes);
    fflush(stdout);
}

static const struct bench_case {
    const char *net, *how;
    double sparsity, half;
} cases[] = {{"2-16-16-1", "magnitude", 0.3, 0.3},    {"2-16-16-1", "random", 0.3, 1.0},       {"2-16-16-1", "magnitude", 0.7, 1.0},
             {"4-32-32-1", "magnitude", 0.3, 0.6},    {"4-32-32-1", "magnitude", 0.5, 1.0},    {"4-32-32-1", "random", 0.1, 0.6},
             {"2-32-32-32-1", "magnitude", 0.5, 0.3}, {"2-32-32-32-1", "magnitude", 0.5, 1.0}, {"6-32-32-2", "magnitude", 0.3, 0.3},
             {"6-32-32-2", "magnitude", 0.5, 0.6},    {"6-32-32-2", "random", 0.1, 0.3},       {"6-32-32-2", "magnitude", 0.3, 1.0}};

static int table(const options *o, double *ret_worst) {
    int code = 0;
    print_head("network, pruning, half-width");
    for (size_t i = 0; !code && i < sizeof cases / sizeof *cases; i++) {
        if (o->nets && !strstr(o->nets, cases[i].net)) continue;
        for (int seed = 1; !code && seed <= o->seeds; seed++) {
            bench_pair p = {0};
            char name[64];
            row r;
            code = bench_pair_make(cases[i].net, cases[i].how, cases[i].sparsity, 1, (uint64_t)seed, &p);
            esp_box box = bench_box(&p, cases[i].half);
            if (!code) code = run(&p, &box, o, &r);
            snprintf(name, sizeof name, "%s %.4s %.1f, %.1f, seed %d", cases[i].net, cases[i].how, cases[i].sparsity, cases[i].half, seed);
            if (!code) print_row(name, &r);
            if (!code) *ret_worst = fmax(*ret_worst, r.split / r.truth);
            bench_pair_done(&p);
        }
    }
    return code;
}

/* W + t D: every bound over the true difference, which is all but proportional to t. */
static int scaling(const options *o) {
    static const char *const nets[] = {"2-16-16-1", "4-32-32-1"};
    int code = 0;
    printf("\n");
    print_head("D scaled by t");
    for (int n = 0; !code && n < 2; n++) {
        if (o->nets && !strstr(o->nets, nets[n])) continue;
        for (double t = 1; !code && t > 1e-9; t *= t > 0.5 ? 0.1 : t > 0.05 ? 0.1 : 0.01) {
            bench_pair p = {0};
            char name[64];
            row r;
            code = bench_pair_make(nets[n], "magnitude", 0.5, t, 1, &p);
            esp_box box = bench_box(&p, 0.3);
            if (!code) code = run(&p, &box, o, &r);
            snprintf(name, sizeof name, "%s magn 0.5, 0.3, t = %g", nets[n], t);
            if (!code) print_row(name, &r);
            bench_pair_done(&p);
        }
    }
    return code;
}

/* Seconds of one closed-form query, the least of some rounds, for a policy of the shape. */
static int query_time(const char *shape) {
    enum { ROUNDS = 20, STATES = 2000 };
    esp_error error = {0};
    bench_pair p = {0};
    esp_closed_form *form = NULL;
    esp_candidate *candidate = NULL;
    double best = HUGE_VAL, best_pruned = HUGE_VAL, c[8], activation[8], x[8], bound, actual;
    int code = bench_pair_make(shape, "magnitude", 0.3, 1, 1, &p);
    if (!code) code = esp_closed_form_create(p.f, &form, &error);
    if (!code) code = esp_candidate_create(form, p.g, &candidate, &error);
    for (int round = 0; !code && round < ROUNDS; round++) {
        double start = cpu();
        for (int i = 0; i < STATES; i++) {
            for (int k = 0; k < p.f->ny; k++) x[k] = 0.001 * (i % (100 + k));
            esp_closed_form_at(form, x, c, activation);
        }
        best = fmin(best, (cpu() - start) / STATES);
        start = cpu();
        for (int i = 0; i < STATES / 4; i++) {
            for (int k = 0; k < p.f->ny; k++) x[k] = 0.001 * (i % (100 + k));
            esp_candidate_at(candidate, x, &bound, &actual);
        }
        best_pruned = fmin(best_pruned, 4 * (cpu() - start) / STATES);
    }
    if (!code) printf("\nclosed form of a %s policy: %.2f us a state, %.2f us with a pruned one\n", shape, 1e6 * best, 1e6 * best_pruned);
    esp_candidate_free(candidate);
    esp_closed_form_free(form);
    bench_pair_done(&p);
    return code;
}

/* The program in float as a C file has it: coefficients and inputs rounded, every row summed from left to right. */
static float float_row(const double *c, const float *v, int n, float s) {
    for (int j = 0; j < n; j++) {
        float product = (float)c[j] * v[j];
        s += product;
    }
    return s;
}

static void float_forward(const esp_program *p, const double *x, float *y, float *r) {
    float in[8];
    for (int j = 0; j < p->n_x; j++) in[j] = (float)x[j];
    for (int i = 0; i < p->n_r; i++) {
        float s = float_row(p->d + (size_t)i * (size_t)p->n_r, r, i, float_row(p->c + (size_t)i * (size_t)p->n_x, in, p->n_x, (float)p->d0[i]));
        r[i] = s < 0 ? 0 : s;
    }
    for (int k = 0; k < p->n_y; k++)
        y[k] = float_row(p->b + (size_t)k * (size_t)p->n_r, r, p->n_r, float_row(p->a + (size_t)k * (size_t)p->n_x, in, p->n_x, (float)p->c0[k]));
}

static double largest(const double *values, int n) {
    double most = 0;
    for (int k = 0; k < n; k++) most = fmax(most, values[k]);
    return most;
}

/* The largest |float - double| of some points. */
static double float_seen(const esp_program *p, const esp_box *box, int points) {
    float y[8], r[512];
    double x[8], exact[8], work[1024], most = 0;
    esp_rng rng;
    esp_rng_init(&rng, 5, 7);
    for (int n = 0; n < points; n++) {
        for (int k = 0; k < p->n_x; k++) x[k] = esp_rng_range(&rng, box->lower[k], box->upper[k]);
        esp_program_forward(p, x, exact, NULL, NULL, work);
        float_forward(p, x, y, r);
        for (int k = 0; k < p->n_y; k++) most = fmax(most, fabs((double)y[k] - exact[k]));
    }
    return most;
}

/* What is proved of a policy in float, over what is seen. */
static int float_error(const char *shape, double half) {
    enum { POINTS = 200000, PARTS = 256 };
    esp_error error = {0};
    bench_pair p = {0};
    esp_program *program = NULL;
    esp_ranges *ranges = NULL;
    double whole[8], parts[8], seconds = 0;
    int code = bench_pair_make(shape, "magnitude", 0.3, 1, 1, &p);
    const esp_box box = bench_box(&p, half);
    if (!code) code = esp_program_lower(p.f, &program, &error);
    if (!code) code = esp_ranges_create(program->n_r, program->n_y, &ranges, &error);
    if (!code) code = esp_bounds_crown(program, &box, NULL, ranges, &error);
    if (!code) code = esp_float_error_box(program, &box, ranges, whole, &error);
    if (!code) {
        double start = cpu();
        code = esp_float_error_split(program, &box, PARTS, parts, &error);
        seconds = cpu() - start;
    }
    if (!code) {
        double seen = float_seen(program, &box, POINTS);
        printf("%s in float over [-%g, %g]: off by %.3g in %d points; proved %.3g (%.0fx), in %d parts %.3g (%.0fx, %.2f s)\n", shape, half, half,
               seen, POINTS, largest(whole, program->n_y), largest(whole, program->n_y) / seen, PARTS, largest(parts, program->n_y),
               largest(parts, program->n_y) / seen, seconds);
    }
    esp_ranges_free(ranges);
    esp_program_free(program);
    bench_pair_done(&p);
    return code;
}

/* Halving inputs against CBC on phases, the max-norm, the same time for both. */
static int exact_row(const char *net, const char *how, double sparsity, double half, double seconds) {
    esp_error error = {0};
    bench_pair p = {0};
    esp_program *f = NULL, *g = NULL;
    esp_certified made = {0};
    esp_exact found = {0};
    esp_certify_opts opts = ESP_CERTIFY_OPTS_INIT;
    opts.gap = 0.01;
    int code = bench_pair_make(net, how, sparsity, 1, 1, &p);
    int *pairs = code ? NULL : malloc((size_t)(esp_net_relus(p.f->net) + 1) * sizeof *pairs);
    esp_box box = bench_box(&p, half);
    if (!code) code = pairs ? esp_program_lower(p.f, &f, &error) : ESP_NOMEM;
    if (!code) code = esp_program_lower(p.g, &g, &error);
    double start = cpu(), split_s = 0;
    if (!code) {
        (void)esp_twin_pairs(p.f->net, p.g->net, pairs);
        budget end = {start + seconds, 0, false};
        esp_stop stop = {ESP_NEVER, out_of_time, &end};
        code = esp_certify_difference(f, g, pairs, &box, &opts, &stop, &made, &error);
        split_s = cpu() - start;
    }
    if (!code) {
        start = cpu();
        const esp_stop stop = {esp_clock_now_ns() + (int64_t)(seconds * 1e9), NULL, NULL};
        code = esp_exact_run(f, g, pairs, &box, &opts, &stop, &found, &error);
    }
    if (!code) {
        double exact_s = cpu() - start, truth = fmax(found.lower, made.rows[3].lower);
        char name[80];
        snprintf(name, sizeof name, "%s %.4s %.1f, %.1f", net, how, sparsity, half);
        printf("| %-30s | %8.3g | %6.3f | %6.2f | %7ld | %6.3f | %6.2f | %8d | %6ld | %s%s |\n", name, truth, made.rows[3].value / truth, split_s,
               (long)made.boxes, found.value / truth, exact_s, found.binaries, (long)found.nodes, found.status,
               found.refused ? ", answers refused" : "");
        fflush(stdout);
    } else {
        fprintf(stderr, "bench_certify: %s\n", error.message);
    }
    esp_certified_done(&made);
    esp_exact_done(&found);
    esp_program_free(f);
    esp_program_free(g);
    free(pairs);
    bench_pair_done(&p);
    return code;
}

static int exact_table(const options *o) {
    static const struct bench_case rows[] = {{"2-16-16-1", "magnitude", 0.3, 0.3},    {"2-16-16-1", "magnitude", 0.7, 1.0},
                                             {"2-32-32-32-1", "magnitude", 0.5, 0.3}, {"4-32-32-1", "magnitude", 0.3, 0.6},
                                             {"6-32-32-2", "magnitude", 0.3, 0.3},    {"6-32-32-2", "magnitude", 0.3, 1.0},
                                             {"8-16-1", "magnitude", 0.3, 1.0},       {"8-16-16-1", "magnitude", 0.3, 0.3},
                                             {"8-16-16-1", "magnitude", 0.3, 1.0},    {"8-32-32-1", "magnitude", 0.3, 0.1}};
    int code = 0;
    printf("\n| max-norm; 1 %% gap, %g s            | true     | split  | s      | boxes   | exact  | s      | binaries | nodes  | |\n", o->exact);
    printf("|:-------------------------------|---------:|-------:|-------:|--------:|-------:|-------:|---------:|-------:|:--|\n");
    for (size_t i = 0; !code && i < sizeof rows / sizeof *rows; i++)
        if (!o->nets || strstr(o->nets, rows[i].net)) code = exact_row(rows[i].net, rows[i].how, rows[i].sparsity, rows[i].half, o->exact);
    return code;
}

static int usage(void) {
    fprintf(stderr, "usage: bench_certify [--seconds S] [--gap G] [--nets LIST] [--seeds N] [--exact S]\n");
    return 2;
}

int main(int argc, char **argv) {
    options o = {1, 0.02, 10, 1, NULL};
    for (int i = 1; i < argc; i += 2) {
        if (i + 1 == argc) return usage();
        if (strcmp(argv[i], "--seconds") == 0)
            o.seconds = atof(argv[i + 1]);
        else if (strcmp(argv[i], "--gap") == 0)
            o.gap = atof(argv[i + 1]);
        else if (strcmp(argv[i], "--seeds") == 0)
            o.seeds = atoi(argv[i + 1]);
        else if (strcmp(argv[i], "--exact") == 0)
            o.exact = atof(argv[i + 1]);
        else if (strcmp(argv[i], "--nets") == 0)
            o.nets = argv[i + 1];
        else
            return usage();
    }
    double worst = 0;
    if (table(&o, &worst)) return 1;
    printf("\nthe widest bound after %g s is %.3f times the true difference\n", o.seconds, worst);
    if (scaling(&o)) return 1;
    if (o.exact > 0 && exact_table(&o)) return 1;
    if (query_time("4-64-64-2")) return 1;
    return float_error("4-64-64-2", 1) || float_error("2-16-16-1", 1) || float_error("2-32-32-32-1", 1);
}
