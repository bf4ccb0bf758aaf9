/* SPDX-License-Identifier: Apache-2.0
 * The planner against stock solvers, side by side: every engine on every instance, one after the other on one core.
 *
 *     bench_plan [--seconds S] [--sizes "15x3 15x5"] [--seeds N] [--engines "tree cbc ..."] [--python PATH] [--out DIR]
 *
 * One JSON line a run goes to DIR/results.jsonl as it ends, a table a size to DIR/table.md and to standard output. It
 * asserts nothing: it is no test. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/json.h"
#include "bench/engines.h"

#define MAX_SEEDS   64
#define MAX_ENGINES 16
#define MAX_SIZES   16

typedef struct options {
    double seconds;
    int seeds, n_sizes, n_engines;
    bench_size sizes[MAX_SIZES];
    const char *engines[MAX_ENGINES];
    const char *python, *out;
} options;

/* What the tables need of one run. */
typedef struct run {
    double to_gap, spent, gap[4], upper; /* gap after 0.1, 1, 10 s and at the end */
    bool missing, sound, proves;
} run;

static const double marks[3] = {0.1, 1, 10};

static int usage(const char *what) {
    fprintf(stderr, "bench_plan: %s\nusage: bench_plan [--seconds S] [--sizes LIST] [--seeds N] [--engines LIST] [--python PATH] [--out DIR]\n",
            what);
    return 2;
}

static bool take_sizes(options *o, char *list) {
    o->n_sizes = 0;
    for (char *word = strtok(list, " ,"); word; word = strtok(NULL, " ,"))
        if (o->n_sizes == MAX_SIZES || !bench_size_parse(word, &o->sizes[o->n_sizes++])) return false;
    return o->n_sizes > 0;
}

static bool take_engines(options *o, char *list) {
    o->n_engines = 0;
    for (char *word = strtok(list, " ,"); word; word = strtok(NULL, " ,")) {
        int k = 0;
        while (bench_engines[k] && strcmp(bench_engines[k], word) != 0) k++;
        if (!bench_engines[k] || o->n_engines == MAX_ENGINES) return false;
        o->engines[o->n_engines++] = bench_engines[k];
    }
    return o->n_engines > 0;
}

static bool take_option(options *o, const char *name, char *value) {
    if (strcmp(name, "--seconds") == 0) return (o->seconds = strtod(value, NULL)) > 0;
    if (strcmp(name, "--seeds") == 0) return (o->seeds = atoi(value)) > 0 && o->seeds <= MAX_SEEDS;
    if (strcmp(name, "--sizes") == 0) return take_sizes(o, value);
    if (strcmp(name, "--engines") == 0) return take_engines(o, value);
    if (strcmp(name, "--python") == 0) return (o->python = *value ? value : NULL) || !*value;
    if (strcmp(name, "--out") == 0) return *(o->out = value) != 0;
    return false;
}

static void write_line(FILE *out, const bench_instance *instance, const char *engine, double seconds, const bench_trace *trace) {
    esp_buf text = {0};
    esp_jsonw w = esp_jsonw_on(&text);
    esp_jsonw_object(&w, NULL);
    esp_jsonw_string(&w, "instance", instance->name);
    esp_jsonw_string(&w, "engine", engine);
    esp_jsonw_number(&w, "limit_s", seconds);
    esp_jsonw_string(&w, "status", trace->status);
    esp_jsonw_number(&w, "cpu_s", trace->seconds);
    esp_jsonw_number(&w, "to_gap_1_percent_s", bench_time_to(trace, 0.01));
    esp_jsonw_integer(&w, "nodes", trace->nodes);
    esp_jsonw_array(&w, "events"); /* seconds, upper, lower */
    for (int i = 0; i < trace->n; i++) {
        double event[3] = {trace->events[i].seconds, trace->events[i].upper, trace->events[i].lower};
        esp_jsonw_vector(&w, NULL, event, 3);
    }
    esp_jsonw_array_end(&w);
    esp_jsonw_object_end(&w);
    fprintf(out, "%s\n", esp_buf_text(&text));
    (void)fflush(out);
    esp_buf_done(&text);
}

static run summary(const char *engine, const bench_trace *trace) {
    run r = {.to_gap = bench_time_to(trace, 0.01), .spent = trace->seconds, .upper = (double)INFINITY};
    for (int k = 0; k < 3; k++) r.gap[k] = bench_gap_at(trace, marks[k]);
    r.gap[3] = bench_gap_at(trace, (double)INFINITY);
    if (trace->n > 0) r.upper = trace->events[trace->n - 1].upper;
    r.missing = strcmp(trace->status, "missing") == 0;
    r.sound = strcmp(engine, "stock-cbc-sampled") != 0;
    r.proves = strcmp(engine, "mppi") != 0 && strcmp(engine, "cem") != 0;
    return r;
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Infinity counts as the largest; sorts the values. */
static double median(double *values, int n) {
    qsort(values, (size_t)n, sizeof *values, ascending);
    double lower = values[(n - 1) / 2], upper = values[n / 2];
    return isfinite(upper) ? 0.5 * (lower + upper) : upper;
}

static void put(esp_buf *out, const char *format, double value) {
    if (isfinite(value))
        esp_buf_printf(out, format, value);
    else
        esp_buf_puts(out, " - |");
}

/* Median over the instances of an engine's time to 1 % over the tree's. A proof that did not come makes a ratio a range:
 * at least the time spent over the tree's, at most the engine's over the time the tree spent, anything when both failed.
 * What is said is the range of the median. */
static void put_ratio(esp_buf *out, const run *tree, const run *other, int n) {
    double least[MAX_SEEDS], most[MAX_SEEDS];
    for (int i = 0; i < n; i++) {
        bool tree_proved = isfinite(tree[i].to_gap), proved = isfinite(other[i].to_gap);
        least[i] = tree_proved ? (proved ? other[i].to_gap : other[i].spent) / fmax(tree[i].to_gap, 1e-4) : 0;
        most[i] = proved ? other[i].to_gap / fmax(tree_proved ? tree[i].to_gap : tree[i].spent, 1e-4) : (double)INFINITY;
    }
    double lower = median(least, n), upper = median(most, n);
    if (isfinite(upper) && upper <= lower * (1 + 1e-9))
        esp_buf_printf(out, " %.3gx |", lower);
    else if (isfinite(upper))
        esp_buf_printf(out, " %.3g..%.3gx |", lower, upper);
    else
        esp_buf_printf(out, " > %.3gx |", lower);
}

static void put_row(esp_buf *out, const char *engine, const run *tree, const run *runs, const double *best, int n) {
    double values[MAX_SEEDS];
    int proved = 0;
    for (int i = 0; i < n; i++) proved += isfinite(runs[i].to_gap);
    esp_buf_printf(out, "| %s |", engine);
    if (runs[0].proves) {
        esp_buf_printf(out, " %d/%d |", proved, n);
        for (int i = 0; i < n; i++) values[i] = runs[i].to_gap;
        put(out, " %.3g |", median(values, n));
        if (tree && runs != tree)
            put_ratio(out, tree, runs, n);
        else
            esp_buf_puts(out, " - |");
    } else {
        esp_buf_puts(out, " | | |");
    }
    for (int k = 0; k < 4; k++) {
        for (int i = 0; i < n; i++) values[i] = 100 * runs[i].gap[k];
        put(out, " %.1f %% |", median(values, n));
    }
    for (int i = 0; i < n; i++) values[i] = 100 * (runs[i].upper / best[i] - 1);
    put(out, " %.2f %% |", median(values, n));
    esp_buf_puts(out, "\n");
}

/* runs: engine by engine, MAX_SEEDS apart. */
static void put_table(esp_buf *out, const options *o, const bench_size *size, int binaries, const run *runs) {
    double best[MAX_SEEDS];
    const run *tree = NULL;
    for (int i = 0; i < o->seeds; i++) {
        best[i] = (double)INFINITY;
        for (int e = 0; e < o->n_engines; e++)
            if (runs[e * MAX_SEEDS + i].sound) best[i] = fmin(best[i], runs[e * MAX_SEEDS + i].upper);
    }
    for (int e = 0; e < o->n_engines; e++)
        if (strcmp(o->engines[e], "tree") == 0) tree = runs + e * MAX_SEEDS;
    esp_buf_printf(out, "\n%s: %d instances (2 networks, alternating), median %d binaries, limit %g s\n\n", size->text, o->seeds, binaries,
                   o->seconds);
    esp_buf_puts(out, "| engine | proved 1 % | s to 1 % | against tree | gap 0.1 s | 1 s | 10 s | end | cost above best |\n");
    esp_buf_puts(out, "|:--|--:|--:|--:|--:|--:|--:|--:|--:|\n");
    for (int e = 0; e < o->n_engines; e++) {
        bool ran = false;
        for (int i = 0; i < o->seeds; i++) ran |= !runs[e * MAX_SEEDS + i].missing;
        if (ran) put_row(out, o->engines[e], tree, runs + e * MAX_SEEDS, best, o->seeds);
    }
}

static int binaries_of(const bench_instance *instance) {
    plan_case c = bench_case(instance, "{}");
    esp_encoding model = {0};
    bench_model(&c, instance, false, &model);
    int binaries = model.binaries;
    esp_encoding_done(&model);
    case_done(&c);
    return binaries;
}

static void run_size(const options *o, const bench_size *size, FILE *lines, esp_buf *tables) {
    static run runs[MAX_ENGINES * MAX_SEEDS];
    static bench_trace trace;
    double binaries[MAX_SEEDS];
    for (int i = 0; i < o->seeds; i++) {
        bench_instance instance = bench_instance_of(size, 1 + i % 2, i);
        binaries[i] = binaries_of(&instance);
        for (int e = 0; e < o->n_engines; e++) {
            bench_run(o->engines[e], &instance, o->seconds, o->python, o->out, &trace);
            write_line(lines, &instance, o->engines[e], o->seconds, &trace);
            runs[e * MAX_SEEDS + i] = summary(o->engines[e], &trace);
            bench_event last = trace.n > 0 ? trace.events[trace.n - 1] : (bench_event){0, (double)NAN, (double)NAN};
            fprintf(stderr, "%s %-17s %-10s %8.3f s  to 1 %% %8.3f s  upper %9.5f lower %9.5f nodes %ld\n", instance.name, o->engines[e],
                    trace.status, trace.seconds, bench_time_to(&trace, 0.01), last.upper, last.lower, trace.nodes);
        }
    }
    put_table(tables, o, size, (int)median(binaries, o->seeds), runs);
}

int main(int argc, char **argv) {
    options o = {.seconds = 20, .seeds = 6, .out = "build/bench"};
    char sizes[] = "15x3 15x5", engines[256] = "";
    for (int k = 0; bench_engines[k]; k++) {
        strcat(engines, bench_engines[k]);
        strcat(engines, " ");
    }
    if (!take_sizes(&o, sizes) || !take_engines(&o, engines)) return usage("its own defaults");
    for (int i = 1; i < argc; i += 2)
        if (i + 1 == argc || !take_option(&o, argv[i], argv[i + 1])) return usage(argv[i]);
    (void)mkdir(o.out, 0777);
    char path[512];
    (void)snprintf(path, sizeof path, "%s/results.jsonl", o.out);
    FILE *lines = fopen(path, "w");
    if (!lines) return usage(path);
    esp_buf tables = {0};
    for (int k = 0; k < o.n_sizes; k++) run_size(&o, &o.sizes[k], lines, &tables);
    (void)fclose(lines);
    esp_error error = {0};
    printf("%s", esp_buf_text(&tables));
    (void)snprintf(path, sizeof path, "%s/table.md", o.out);
    int failed = esp_file_write(path, tables.data, tables.len, &error) != ESP_OK;
    if (failed) fprintf(stderr, "bench_plan: %s\n", error.message);
    esp_buf_done(&tables);
    return failed;
}
