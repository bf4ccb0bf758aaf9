/* SPDX-License-Identifier: Apache-2.0
 * What one solve of a closed loop leaves behind for the next: measured, not assumed.
 *
 *     bench_session [--sizes "15x3 15x5"] [--episodes N] [--steps N] [--noise S] [--seconds S]
 *
 * Episodes of the pushing task, the first step carried out by the model, the box then moved by S in each direction, at random.
 * Every state is solved several times over, each time to 1 % or for so many seconds, and with 50, 100 and 200 ms:
 *
 *     scratch      nothing is known
 *     start        the last plan, shifted by a step, is offered first; the ways below have it too
 *     leaves N     the tree begins with the leaves of the last one instead of the root (leaves.h), N at most
 *     order        it begins with the root, and branches where the last tree did as long as that says something
 *     brief        as start, but descent from it, and from 64 other points; from 1024 up to ten times over, and CEM, only when those
 *                  found something better than the plan at hand: what the library does
 *
 * and the multipliers of the last tree's leaves, shifted, are put to the new leaves: what they prove without any LP.
 * The last tree is always that of `start` with all of its seconds, however short the time of the solve that uses it; the last plan of a
 * solve with a deadline is what that way found within it.
 *
 * Times, deadlines included, are CPU seconds: the library's clock is replaced in this binary (--wrap). The steps of a solve are
 * those of lib/plan/plan.c and mip.c, one after the other so that each can be timed; a line says so when they are no longer. */
#include "bench/session/leaves.h"

#include <stdio.h>
#include <time.h>

#include "base/rng.h"
#include "bench/instances.h"
#include "plan/gradient.h"
#include "plan/sample.h"

int64_t __wrap_esp_clock_now_ns(void);
int64_t __wrap_esp_clock_now_ns(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (int64_t)now.tv_sec * ESP_NS_PER_S + now.tv_nsec;
}

enum { SCRATCH, START, LEAVES_16, LEAVES_64, LEAVES_256, ORDER, BRIEF, WAYS };
enum { SAMPLING, CROWN, RELAX, TIGHTEN, TREE, PARTS };
enum { MOST_STATES = 512, MOST_RELUS = 64, BRIEF_STARTS = 64, DEADLINES = 3 };
static const char *const way_names[WAYS] = {"scratch", "start", "leaves 16", "leaves 64", "leaves 256", "order", "brief"};
static const char *const part_names[PARTS] = {"sampling", "CROWN", "LP, polish", "OBBT", "tree"};
static const int way_leaves[WAYS] = {0, 0, 16, 64, 256, 1, 0};
static const double deadlines[DEADLINES] = {0.05, 0.1, 0.2};

typedef struct options {
    const char *sizes;
    int episodes, steps;
    double noise, seconds;
} options;

typedef struct outcome {
    double seconds, upper, lower; /* at the end */
    double met; /* when the gap was 1 %, INFINITY: never */
    double nodes, part[PARTS];
} outcome;

typedef struct state {
    outcome to_gap[WAYS], within[DEADLINES][WAYS];
    double best; /* the least cost that any of them found */
    leaves_bounds root, leaves;
} state;

static void must(esp_code code, const esp_error *error) {
    if (code == ESP_OK) return;
    fprintf(stderr, "bench_session: %s %s\n", error->pointer, error->message);
    exit(1);
}

static double seconds_since(int64_t from) {
    return esp_clock_seconds_since(from);
}

/* ---- one solve --------------------------------------------------------------------------------------------------- */

typedef struct watch {
    int64_t began;
    double upper, lower, met;
    leaves_record *record; /* of the tree, or NULL */
    const leaves_record *order; /* to branch by, or NULL */
} watch;

static void note(watch *w) {
    if (isinf(w->met) && isfinite(w->upper) && w->upper - w->lower <= 0.01 * w->upper) w->met = seconds_since(w->began);
}

static void on_incumbent(void *user, const esp_plan *plan, int64_t nodes) {
    watch *w = user;
    (void)nodes;
    w->upper = plan->objective;
    note(w);
}

static void on_bound(void *user, double bound) {
    watch *w = user;
    w->lower = bound;
    note(w);
}

static void look(void *user, esp_tree *t) {
    watch *w = user;
    if (w->record) leaves_note(w->record, t);
    if (w->order) leaves_direct(w->order, t);
}

static void no_wait(void *user, esp_tree *t) {
    (void)user;
    (void)t;
}

typedef struct solver {
    plan_case c;
    esp_program *step;
    esp_sampler *sampler;
} solver;

static void descend(const solver *s, esp_track *track, int starts, int repeats, double left) {
    esp_gradient_options descent = {
        .iterations = 200, .starts = starts, .repeats = repeats, .rate = 0.1, .seconds = 0.3 * left, .seed = track->problem->task->seed};
    esp_error error = {0};
    must(esp_gradient_run(s->sampler, track, &descent, &error), &error);
}

static void sample(const solver *s, esp_track *track, bool brief) {
    double left = esp_track_left(track), own = 0;
    esp_error error = {0};
    esp_sample_options cem = {
        .samples = 160, .iterations = 30, .starts = left < 1 ? 2 : 8, .patience = 6, .seconds = 0.1 * left, .seed = track->problem->task->seed};
    if (brief) {
        descend(s, track, 1, 1, left);
        own = track->best.objective;
        descend(s, track, BRIEF_STARTS, 1, left);
        if (track->best.objective >= own * (1 - 1e-3)) return;
    }
    descend(s, track, 1024, 10, left);
    must(esp_cem_run(s->sampler, track, &cem, &error), &error);
}

/* Zero is the middle of the box too. */
static void offer_starts(esp_track *track, const double *start) {
    double zero[2 * ESP_MAX_HORIZON] = {0};
    esp_track_bound(track, 0);
    if (start) (void)esp_track_offer(track, start, "start");
    (void)esp_track_offer(track, zero, "zero");
}

/* The time since the last call goes to a part. */
static void lap(outcome *o, int part, int64_t *from) {
    o->part[part] += seconds_since(*from);
    *from = esp_clock_now_ns();
}

static void prepare(esp_root *root, outcome *o, int64_t *from) {
    esp_track *track = root->track;
    esp_error error = {0};
    must(esp_root_relax(root, &error), &error);
    if (!esp_track_met(track) && track->found) must(esp_root_polish(root, track->best.inputs, 60, &error), &error);
    lap(o, RELAX, from);
    if (esp_track_met(track) || !track->found) return;
    must(esp_root_tighten(root, esp_root_cutoff(track), fmin(0.35 * esp_track_left(track), 30), &error), &error);
    lap(o, TIGHTEN, from);
    if (!root->nothing_below) must(esp_root_relax(root, &error), &error);
    lap(o, RELAX, from);
}

static void search(esp_root *root, const leaves_record *last, int way, watch *w) {
    esp_tree_options settings = ESP_TREE_OPTIONS_INIT;
    esp_error error = {0};
    bool exhausted;
    if (way_leaves[way] == 0) {
        must(esp_tree_search(root, &settings, &exhausted, &error), &error);
        return;
    }
    w->order = way == ORDER ? last : NULL;
    must(leaves_search(root, last, way_leaves[way], w->order, &settings, &error), &error);
}

/* Plans from y; the best plan's inputs and what the model makes of the first go to `ret_plan` and `ret_y`, the tree to
 * `ret_record`, when they are asked for. */
static outcome solve(solver *s, const bench_instance *now, const double *start, const leaves_record *last, int way, double seconds, double *ret_plan,
                     double *ret_y, leaves_record *ret_record) {
    outcome o = {.met = INFINITY};
    watch w = {.upper = INFINITY, .lower = -INFINITY, .met = INFINITY, .record = ret_record};
    const esp_tree_hooks hook = {&w, look, no_wait};
    const esp_plan_hooks hooks = {&w, on_incumbent, on_bound, &hook};
    const esp_plan_request request = bench_request(now);
    esp_error error = {0};
    esp_problem *problem = NULL;
    esp_tightened tightened = {0};
    esp_track track = {0};
    esp_root *root = NULL;
    int64_t from = w.began = esp_clock_now_ns();
    esp_stop stop = {.deadline_ns = from + (int64_t)(seconds * 1e9)};
    must(esp_planner_problem(s->c.planner, s->c.task, &request, &problem, &error), &error);
    must(esp_track_init(problem, &hooks, &stop, &track, &error), &error);
    offer_starts(&track, start);
    must(esp_tighten(problem, true, &tightened, &error), &error);
    esp_track_bound(&track, esp_tighten_bound(problem, tightened.ranges));
    lap(&o, CROWN, &from);
    sample(s, &track, start && way == BRIEF);
    lap(&o, SAMPLING, &from);
    if (!esp_track_met(&track) && !esp_track_stop(&track)) {
        must(esp_root_create(&track, &tightened, &root, &error), &error);
        prepare(root, &o, &from);
        if (!esp_track_met(&track) && !root->nothing_below && !root->infeasible) search(root, last, way, &w);
        lap(&o, TREE, &from);
    }
    o.seconds = seconds_since(w.began);
    o.met = w.met;
    o.upper = w.upper;
    o.lower = track.lower_bound;
    o.nodes = (double)track.nodes;
    if (ret_plan) memcpy(ret_plan, track.best.inputs, (size_t)(problem->horizon * problem->nu) * sizeof *ret_plan);
    if (ret_y) memcpy(ret_y, track.best.predicted, (size_t)problem->ny * sizeof *ret_y);
    esp_root_free(root);
    esp_tightened_done(&tightened);
    esp_track_done(&track);
    esp_problem_free(problem);
    return o;
}

/* ---- one state --------------------------------------------------------------------------------------------------- */

typedef struct loop {
    const options *o;
    solver s;
    bench_instance now, before;
    double start[2 * ESP_MAX_HORIZON]; /* the last plan, shifted */
    double within[DEADLINES][WAYS][2 * ESP_MAX_HORIZON]; /* of each way the one that it found in that time, shifted */
    leaves_record last; /* the last tree, shifted */
    bool on[MOST_RELUS]; /* phases of the step that was carried out */
    esp_rng rng;
} loop;

static void make_problem(const solver *s, const bench_instance *instance, esp_problem **ret_problem, esp_tightened *ret_tightened) {
    const esp_plan_request request = bench_request(instance);
    esp_error error = {0};
    must(esp_planner_problem(s->c.planner, s->c.task, &request, ret_problem, &error), &error);
    must(esp_tighten(*ret_problem, true, ret_tightened, &error), &error);
}

static leaves_bounds bounds_of(const loop *l, int most) {
    esp_problem *before = NULL, *after = NULL;
    esp_tightened old = {0}, now = {0};
    leaves_bounds bounds;
    esp_error error = {0};
    make_problem(&l->s, &l->before, &before, &old);
    make_problem(&l->s, &l->now, &after, &now);
    must(leaves_measure(before, old.ranges, after, now.ranges, &l->last, l->on, most, &bounds, &error), &error);
    esp_tightened_done(&old);
    esp_tightened_done(&now);
    esp_problem_free(before);
    esp_problem_free(after);
    return bounds;
}

/* The solve above must be the library's. */
static void compare_with_library(loop *l, const outcome *ours) {
    const esp_plan_request request = bench_request(&l->now);
    esp_plan_result result;
    esp_error error = {0};
    esp_stop stop = {.deadline_ns = esp_clock_now_ns() + (int64_t)(l->o->seconds * 1e9)};
    must(esp_plan_run(l->s.c.planner, l->s.c.task, &request, NULL, &stop, &result, &error), &error);
    if (ours->seconds < l->o->seconds && (double)result.nodes != ours->nodes)
        printf("esp_plan_run takes %ld nodes, this %.0f: bench_session.c no longer does what it does\n", (long)result.nodes, ours->nodes);
    esp_plan_result_done(&result);
}

/* One step later, the last input twice. */
static void shift(const bench_instance *now, const double *plan, double *ret) {
    int hu = 2 * now->size.horizon;
    memcpy(ret, plan + 2, (size_t)(hu - 2) * sizeof *ret);
    memcpy(ret + hu - 2, plan + hu - 2, 2 * sizeof *ret);
}

static void measure(loop *l, state *ret) {
    const double seconds = l->o->seconds;
    *ret = (state){.best = INFINITY};
    for (int way = 0; way < WAYS; way++) {
        const double *start = way == SCRATCH ? NULL : l->start;
        if (way != START) ret->to_gap[way] = solve(&l->s, &l->now, start, &l->last, way, seconds, NULL, NULL, NULL);
        for (int d = 0; d < DEADLINES; d++) {
            double *own = l->within[d][way], plan[2 * ESP_MAX_HORIZON];
            ret->within[d][way] = solve(&l->s, &l->now, way == SCRATCH ? NULL : own, &l->last, way, deadlines[d], plan, NULL, NULL);
            shift(&l->now, plan, own);
        }
    }
    ret->root = bounds_of(l, 1);
    ret->leaves = bounds_of(l, 64);
}

/* Box and keypoints; the pusher stays. */
static void disturb(loop *l) {
    double by[2] = {l->o->noise * esp_rng_normal(&l->rng), l->o->noise * esp_rng_normal(&l->rng)};
    for (int i = 0; i < 16; i++) l->now.y[i] += by[i % 2];
}

/* Carries out the first step of a plan. */
static void advance(loop *l, const double *plan, const double *y, const leaves_record *branchings) {
    const esp_program *step = l->s.step;
    double x[18], next[16], pre[MOST_RELUS], r[MOST_RELUS];
    memcpy(x, l->now.y, sizeof l->now.y);
    memcpy(x + 16, plan, 2 * sizeof *x);
    esp_program_forward(step, x, next, pre, NULL, r);
    for (int j = 0; j < step->n_r; j++) l->on[j] = pre[j] > 0;
    shift(&l->now, plan, l->start);
    leaves_done(&l->last);
    l->last = leaves_shifted(branchings, l->on, step->n_r);
    l->before = l->now;
    memcpy(l->now.y, y, sizeof l->now.y);
    disturb(l);
}

/* A bound above a plan that another way found would be wrong. */
static void check_bounds(const state *s) {
    for (int way = 0; way < WAYS; way++)
        if (s->to_gap[way].lower > s->best * (1 + 1e-9)) exit((fprintf(stderr, "bench_session: %s proves too much\n", way_names[way]), 1));
}

static void put_line(const loop *l, int t, const state *s) {
    printf("%s step %d: cost %.4g, %d leaves of the last tree;", l->now.name, t, s->to_gap[START].upper, l->last.n ? l->last.items[0].size : 0);
    for (int way = 0; way < WAYS; way++) printf(" %s %.2f s %.0f;", way_names[way], s->to_gap[way].met, s->to_gap[way].nodes);
    printf(" root LP %.3f, by multipliers %.3f; leaves %.3f, %.3f\n", s->root.by_lps, s->root.by_multipliers, s->leaves.by_lps,
           s->leaves.by_multipliers);
    (void)fflush(stdout);
}

static void run_episode(const options *o, const bench_size *size, int episode, state *states, int *n) {
    loop l = {.o = o, .now = bench_instance_of(size, 1 + episode % 2, episode)};
    esp_error error = {0};
    l.s.c = bench_case(&l.now, "{'method':'mip','engine':'tree','gap':0.01}");
    must(esp_program_lower(l.s.c.model, &l.s.step, &error), &error);
    must(esp_sampler_create(l.s.step, &l.s.sampler, &error), &error);
    esp_rng_init(&l.rng, (uint64_t)episode, 12);
    for (int t = 0; t <= o->steps && *n < MOST_STATES; t++) {
        double plan[2 * ESP_MAX_HORIZON], y[16];
        leaves_record branchings = {0};
        state *s = &states[*n];
        if (t > 0) measure(&l, s);
        outcome start = solve(&l.s, &l.now, t > 0 ? l.start : NULL, NULL, START, o->seconds, plan, y, &branchings);
        if (t == 0) compare_with_library(&l, &start);
        if (t > 0) {
            s->to_gap[START] = start;
            for (int way = 0; way < WAYS; way++) s->best = fmin(s->best, s->to_gap[way].upper);
            check_bounds(s);
            put_line(&l, t, s);
            (*n)++;
        }
        advance(&l, plan, y, &branchings);
        for (int way = 0; t == 0 && way < WAYS; way++)
            for (int d = 0; d < DEADLINES; d++) memcpy(l.within[d][way], l.start, sizeof l.start);
        leaves_done(&branchings);
    }
    leaves_done(&l.last);
    esp_sampler_free(l.s.sampler);
    esp_program_free(l.s.step);
    case_done(&l.s.c);
}

/* ---- tables ------------------------------------------------------------------------------------------------------ */

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double quantile(double *values, int n, double q) {
    if (n == 0) return NAN;
    qsort(values, (size_t)n, sizeof *values, ascending);
    return values[(int)(q * (n - 1) + 0.5)];
}

static double gap_of(const outcome *o) {
    return 100 * (o->upper - o->lower) / o->upper;
}

/* Ratios to `start`, over the states that it and the way proved. */
static void put_way(const state *states, int n, int way) {
    double end[MOST_STATES], met[MOST_STATES], ratio[MOST_STATES], nodes[MOST_STATES];
    int both = 0, proved = 0;
    for (int k = 0; k < n; k++) {
        const outcome *o = &states[k].to_gap[way], *base = &states[k].to_gap[START];
        met[k] = o->met;
        end[k] = gap_of(o);
        proved += isfinite(o->met);
        if (!isfinite(o->met) || !isfinite(base->met)) continue;
        ratio[both] = o->met / base->met;
        nodes[both++] = (o->nodes + 1) / (base->nodes + 1);
    }
    printf("| %s | %d/%d | %.3g | %.2f (%.2f to %.2f) | %.2f | %.1f %% |", way_names[way], proved, n, quantile(met, n, 0.5),
           quantile(ratio, both, 0.5), quantile(ratio, both, 0.25), quantile(ratio, both, 0.75), quantile(nodes, both, 0.5), quantile(end, n, 0.75));
    for (int d = 0; d < DEADLINES; d++) {
        double gap[MOST_STATES], lower[MOST_STATES], excess[MOST_STATES];
        for (int k = 0; k < n; k++) {
            const outcome *o = &states[k].within[d][way];
            gap[k] = gap_of(o);
            lower[k] = 100 * o->lower / states[k].best;
            excess[k] = 100 * (o->upper / states[k].best - 1);
        }
        printf(" %.1f %%, %.1f %%, %.2f %% |", quantile(gap, n, 0.5), quantile(lower, n, 0.5), quantile(excess, n, 0.9));
    }
    printf("\n");
}

static void put_parts(const state *states, int n) {
    printf("\nA solve of `start`, medians:");
    double share[MOST_STATES], seconds[MOST_STATES];
    for (int part = 0; part < PARTS; part++) {
        for (int k = 0; k < n; k++) {
            seconds[k] = 1e3 * states[k].to_gap[START].part[part];
            share[k] = 100 * states[k].to_gap[START].part[part] / states[k].to_gap[START].seconds;
        }
        printf(" %s %.1f ms (%.0f %%)%s", part_names[part], quantile(seconds, n, 0.5), quantile(share, n, 0.5), part + 1 < PARTS ? "," : ".\n");
    }
    for (int k = 0; k < n; k++) {
        const double *part = states[k].to_gap[START].part;
        share[k] = 100 * (part[CROWN] + part[TIGHTEN]) / states[k].to_gap[START].seconds;
        seconds[k] = 100 * states[k].to_gap[START].part[TIGHTEN] / states[k].to_gap[START].seconds;
    }
    printf("Ranges (CROWN, OBBT) take %.0f %% of a solve in the median, %.0f %% in the upper quarter.\n", quantile(share, n, 0.5),
           quantile(share, n, 0.75));
}

static void put_multipliers(const state *states, int n) {
    double value[4][MOST_STATES], by_us = 0, lp_us = 0, leaves = 0;
    for (int k = 0; k < n; k++) {
        value[0][k] = 100 * states[k].root.by_multipliers / states[k].best;
        value[1][k] = 100 * states[k].root.by_lps / states[k].best;
        value[2][k] = 100 * states[k].leaves.by_multipliers / states[k].best;
        value[3][k] = 100 * states[k].leaves.by_lps / states[k].best;
        by_us += 1e6 * states[k].leaves.multipliers_seconds;
        lp_us += 1e6 * states[k].leaves.lp_seconds;
        leaves += states[k].leaves.leaves;
    }
    printf("Multipliers of the last problem, shifted, prove %.1f %% of the best cost at the root (its LP: %.1f %%) and %.1f %% over 64 leaves "
           "(their LPs: %.1f %%), in %.0f us a leaf (LP: %.0f us).\n",
           quantile(value[0], n, 0.5), quantile(value[1], n, 0.5), quantile(value[2], n, 0.5), quantile(value[3], n, 0.5), by_us / leaves,
           lp_us / leaves);
}

static void put_tables(const options *o, const bench_size *size, const state *states, int n) {
    printf("\n%s, %d states, %d episodes of %d steps, box moved by %g, %g s at most\n\n", size->text, n, o->episodes, o->steps, o->noise, o->seconds);
    printf("| way | proved 1 %% | s to 1 %% | time against start (quarters) | nodes | gap at the end p75 | 50 ms: gap, bound, excess p90 | 100 ms | "
           "200 ms |\n"
           "|:--|--:|--:|--:|--:|--:|--:|--:|--:|\n");
    for (int way = 0; way < WAYS; way++) put_way(states, n, way);
    put_parts(states, n);
    put_multipliers(states, n);
    printf("\n");
}

static bool take_option(options *o, const char *name, const char *value) {
    if (strcmp(name, "--sizes") == 0) return (o->sizes = value);
    if (strcmp(name, "--episodes") == 0) return (o->episodes = atoi(value)) > 0;
    if (strcmp(name, "--steps") == 0) return (o->steps = atoi(value)) > 0;
    if (strcmp(name, "--noise") == 0) return (o->noise = strtod(value, NULL)) >= 0;
    if (strcmp(name, "--seconds") == 0) return (o->seconds = strtod(value, NULL)) > 0;
    return false;
}

int main(int argc, char **argv) {
    static state states[MOST_STATES];
    options o = {.sizes = "15x3 15x5", .episodes = 2, .steps = 4, .noise = 0.01, .seconds = 5};
    for (int i = 1; i < argc; i += 2)
        if (i + 1 == argc || !take_option(&o, argv[i], argv[i + 1])) {
            fprintf(stderr, "bench_session: %s is not understood\n", argv[i]);
            return 2;
        }
    char sizes[256];
    (void)snprintf(sizes, sizeof sizes, "%s", o.sizes);
    for (char *word = strtok(sizes, " "); word; word = strtok(NULL, " ")) {
        bench_size size;
        int n = 0;
        if (!bench_size_parse(word, &size) || size.family != BENCH_PUSH) {
            fprintf(stderr, "bench_session: %s is not a size of the pushing task\n", word);
            return 2;
        }
        for (int episode = 0; episode < o.episodes; episode++) run_episode(&o, &size, episode, states, &n);
        put_tables(&o, &size, states, n);
    }
    return 0;
}
