/* SPDX-License-Identifier: Apache-2.0
 * What came out, in words: tables for people, results.json for programs, and findings computed from the numbers (demo.h). */
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "robots/pushing/demo.h"
#include "robots/stats.h"
#include "robots/table.h"

#define PX            100.0
#define TIE           0.005 /* final errors within half a pixel are a tie */
#define SIGNIFICANT_P 0.05

const char *esp_push_method_name(const char *method) {
    if (strcmp(method, "mip") == 0) return "exact (mip)";
    return strcmp(method, "mppi") == 0 ? "MPPI" : strcmp(method, "cem") == 0 ? "CEM" : method;
}

static void print(const esp_table *table, FILE *out, bool markdown) {
    if (markdown)
        esp_table_markdown(table, out);
    else
        esp_table_print(table, out);
}

static void set_columns(esp_table *table, const char *const *heads) {
    esp_table_init(table);
    for (; *heads != NULL; heads++) esp_table_column(table, *heads + 1, **heads);
}

/* ---- tables ------------------------------------------------------------------------------------------------------ */

void esp_push_print_certificates(const esp_push_demo *demo, FILE *out, bool markdown) {
    static const char *const heads[] = {"lmodel",
                                        "rReLUs",
                                        "rRMSE",
                                        "rdifference to",
                                        "r<=",
                                        "rreached",
                                        "lmethod",
                                        "lstrength",
                                        "rs",
                                        "rlargest C_k over the box",
                                        "lclosed-form C_k per layer, median over states",
                                        NULL};
    esp_table table;
    set_columns(&table, heads);
    for (int i = 0; i < demo->n_models; i++) {
        const esp_push_model *m = &demo->model[i];
        int row = esp_table_row(&table);
        char c[ESP_TABLE_CELL] = "";
        for (int l = 0; l < m->n_layers; l++) snprintf(c + strlen(c), sizeof c - strlen(c), "%s%.3g", l > 0 ? ", " : "", m->c_median[l]);
        esp_table_set(&table, row, 0, "%s/%d", m->name, m->version);
        esp_table_set(&table, row, 1, "%d", m->relu);
        esp_table_set(&table, row, 2, "%.4f", m->rmse);
        if (m->parent >= 0) esp_table_set(&table, row, 3, "%d ReLUs", demo->model[m->parent].relu);
        if (!isnan(m->bound)) esp_table_set(&table, row, 4, "%.4f", m->bound);
        if (!isnan(m->bound_lower)) esp_table_set(&table, row, 5, "%.4f", m->bound_lower);
        esp_table_set(&table, row, 6, "%s", m->bound_method);
        esp_table_set(&table, row, 7, "%s", m->bound_strength);
        if (!isnan(m->bound)) esp_table_set(&table, row, 8, "%.1f", m->bound_s);
        if (!isnan(m->c_box)) esp_table_set(&table, row, 9, "%.3g", m->c_box);
        esp_table_set(&table, row, 10, "%s", c);
    }
    print(&table, out, markdown);
}

static double share(int part, int whole) {
    return whole > 0 ? 100.0 * part / whole : 0.0;
}

void esp_push_print_table(const esp_push_demo *demo, FILE *out, bool markdown) {
    static const char *const heads[] = {"lplanner", "rReLUs",      "rRMSE",      "rbound",   "rp50 ms", "rp99 ms",         "rlate", "roptimal",
                                        "rno plan", "rerror mean", "rmedian px", "rsuccess", "rcost",   "rmodel error px", NULL};
    esp_table table;
    set_columns(&table, heads);
    for (int i = 0; i < demo->n_runs; i++) {
        const esp_push_run *r = &demo->run[i];
        const esp_push_model *m = &demo->model[r->model];
        int row = esp_table_row(&table);
        esp_table_set(&table, row, 0, "%s", esp_push_method_name(r->method));
        esp_table_set(&table, row, 1, "%d", m->relu);
        esp_table_set(&table, row, 2, "%.4f", m->rmse);
        if (!isnan(m->bound)) esp_table_set(&table, row, 3, "%.3f", m->bound);
        esp_table_set(&table, row, 4, "%.0f", r->p50_ms);
        esp_table_set(&table, row, 5, "%.0f", r->p99_ms);
        esp_table_set(&table, row, 6, "%d/%d", r->late, r->calls);
        esp_table_set(&table, row, 7, "%.0f %%", share(r->optimal, r->calls));
        esp_table_set(&table, row, 8, "%d", r->fallback + r->failed);
        esp_table_set(&table, row, 9, "%.1f", PX * r->error_mean);
        esp_table_set(&table, row, 10, "%.1f", PX * r->error_quartile[1]);
        esp_table_set(&table, row, 11, "%.0f %%", 100.0 * r->success);
        esp_table_set(&table, row, 12, "%.2f", r->cost_mean);
        esp_table_set(&table, row, 13, "%.2f", PX * r->model_error);
    }
    print(&table, out, markdown);
}

/* ---- findings ---------------------------------------------------------------------------------------------------- */

typedef struct prose {
    char text[8192];
} prose;

static void say(prose *p, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void say(prose *p, const char *format, ...) {
    size_t len = strlen(p->text);
    va_list args;
    va_start(args, format);
    vsnprintf(p->text + len, sizeof p->text - len, format, args);
    va_end(args);
}

static void print_wrapped(const char *text, FILE *out, size_t width) {
    size_t column = 0;
    while (*text != '\0') {
        size_t word = strcspn(text, " \n");
        if (column > 0 && column + 1 + word > width) {
            fputc('\n', out);
            column = 0;
        }
        if (column > 0) column += (size_t)fprintf(out, " ");
        column += (size_t)fprintf(out, "%.*s", (int)word, text);
        text += word;
        text += strspn(text, " \n");
    }
    fputc('\n', out);
}

typedef double episode_figure(const esp_push_episode *episode);

static double final_error(const esp_push_episode *episode) {
    return episode->error;
}

static double cost_paid(const esp_push_episode *episode) {
    return episode->cost;
}

/* Episode by episode: 1 when a is lower beyond doubt, -1 when b is, 0 when neither. */
static int compare(const esp_push_run *a, const esp_push_run *b, episode_figure *figure, esp_paired *ret_paired) {
    double x[ESP_PUSH_MAX_EPISODES], y[ESP_PUSH_MAX_EPISODES];
    int n = a->n_episodes < b->n_episodes ? a->n_episodes : b->n_episodes;
    for (int e = 0; e < n; e++) {
        x[e] = figure(&a->episode[e]);
        y[e] = figure(&b->episode[e]);
    }
    *ret_paired = esp_stats_paired(x, y, (size_t)n, TIE);
    if (ret_paired->p_value >= SIGNIFICANT_P) return 0;
    return ret_paired->a_better > ret_paired->b_better ? 1 : -1;
}

/* Plans made from the same first observations on the same model: how the planners' objectives compare. */
static void say_open_loop(prose *p, const esp_push_run *exact, const esp_push_run *other) {
    int n = 0, better = 0, worse = 0;
    double change = 0.0;
    for (int e = 0; e < exact->n_episodes && e < other->n_episodes; e++) {
        double a = exact->episode[e].step[0].objective, b = other->episode[e].step[0].objective;
        if (isnan(a) || isnan(b) || b <= 0.0) continue;
        n++;
        better += a < b * (1 - 1e-3);
        worse += a > b * (1 + 1e-3);
        change += a / b - 1.0;
    }
    if (n > 0)
        say(p,
            "Open loop, on the same model and from the same first observation, its plan costs less in %d of %d episodes and more in %d (on average "
            "%+.2f %%). ",
            better, n, worse, 100.0 * change / n);
}

/* Where the box ends, and what the way there cost: the planners minimise the second. */
static void say_pair(prose *p, const esp_push_demo *demo, const esp_push_run *exact, const esp_push_run *other) {
    static const char *const verdicts[] = {"loses to", "shows no clear difference to", "beats"};
    esp_paired error, cost;
    int nearer = compare(exact, other, final_error, &error), cheaper = compare(exact, other, cost_paid, &cost);
    say(p, "Against %s on %s%d ReLUs: in final error it %s it (closer in %d of %d episodes, further in %d, mean %+.1f px, signed-rank p = %.2g); ",
        esp_push_method_name(other->method), other->model == exact->model ? "the same " : "", demo->model[other->model].relu, verdicts[nearer + 1],
        error.a_better, error.n, error.b_better, PX * error.mean_difference, error.p_value);
    say(p, "in the cost it paid it %s it (less in %d, more in %d, mean %+.2f, p = %.2g). ", verdicts[cheaper + 1], cost.a_better, cost.b_better,
        cost.mean_difference, cost.p_value);
}

static const esp_push_run *best_run(const esp_push_demo *demo, bool exact) {
    const esp_push_run *best = NULL;
    for (int i = 0; i < demo->n_runs; i++) {
        const esp_push_run *r = &demo->run[i];
        if ((strcmp(r->method, "mip") == 0) == exact && (best == NULL || r->error_mean < best->error_mean)) best = r;
    }
    return best;
}

/* Where the rest of the error comes from, as far as the numbers tell. */
static void say_reasons(prose *p, const esp_push_demo *demo, const esp_push_run *exact, const esp_push_run *other) {
    const esp_push_model *m = &demo->model[exact->model], *n = &demo->model[other->model];
    if (exact->optimal < exact->calls)
        say(p, "%.0f %% of its plans were proved optimal within the deadline; the others are the best found by then. ",
            share(exact->optimal, exact->calls));
    if (m != n)
        say(p,
            "What its model predicts one step ahead is off by %.2f px (root mean square over keypoint coordinates) along its own episodes, that of "
            "the %d-ReLU model by %.2f px along those of %s: %s. ",
            PX * exact->model_error, n->relu, PX * other->model_error, esp_push_method_name(other->method),
            exact->model_error > other->model_error ? "the better plan is made for a worse model"
                                                    : "the smaller model is no worse where it was used");
}

void esp_push_print_findings(const esp_push_demo *demo, FILE *out) {
    const esp_push_run *exact = best_run(demo, true), *rival = best_run(demo, false);
    prose p = {""};
    if (exact == NULL || rival == NULL) return;
    say(&p, "Exact planning does best on %d ReLUs (mean final error %.1f px). Compared on the same episodes: ", demo->model[exact->model].relu,
        PX * exact->error_mean);
    for (int i = 0; i < demo->n_runs; i++)
        if (strcmp(demo->run[i].method, "mip") != 0) say_pair(&p, demo, exact, &demo->run[i]);
    for (int i = 0; i < demo->n_runs; i++)
        if (strcmp(demo->run[i].method, "mip") != 0 && demo->run[i].model == exact->model) say_open_loop(&p, exact, &demo->run[i]);
    say_reasons(&p, demo, exact, rival);
    for (int i = 0; i < demo->n_runs; i++) {
        esp_paired paired;
        const esp_push_run *r = &demo->run[i];
        if (strcmp(r->method, "mip") == 0 && r != exact && compare(r, rival, final_error, &paired) < 0)
            say(&p, "On %d ReLUs exact planning loses to %s on %d ReLUs (closer in %d, further in %d). ", demo->model[r->model].relu,
                esp_push_method_name(rival->method), demo->model[rival->model].relu, paired.a_better, paired.b_better);
    }
    print_wrapped(p.text, out, 118);
}

/* ---- files ------------------------------------------------------------------------------------------------------- */

static json_t *real_or_null(double value) {
    return isfinite(value) ? json_real(value) : json_null();
}

static json_t *models_json(const esp_push_demo *demo) {
    json_t *models = json_array();
    for (int i = 0; i < demo->n_models; i++) {
        const esp_push_model *m = &demo->model[i];
        json_t *c = json_array(),
               *item = json_pack("{s:s,s:s,s:i,s:i,s:o,s:s,s:s}", "id", m->id, "name", m->name, "version", m->version, "relu", m->relu,
                                 "validation_rmse", real_or_null(m->rmse), "bound_method", m->bound_method, "bound_strength", m->bound_strength);
        for (int l = 0; l < m->n_layers; l++) json_array_append_new(c, real_or_null(m->c_median[l]));
        json_object_set_new(item, "parent", m->parent >= 0 ? json_string(demo->model[m->parent].id) : json_null());
        json_object_set_new(item, "difference_bound", real_or_null(m->bound));
        json_object_set_new(item, "difference_reached", real_or_null(m->bound_lower));
        json_object_set_new(item, "closed_form_median", c);
        json_object_set_new(item, "closed_form_box", real_or_null(m->c_box));
        json_array_append_new(models, item);
    }
    return models;
}

static json_t *episode_json(const esp_push_episode *episode) {
    json_t *latency = json_array(), *status = json_array(), *objective = json_array(), *gap = json_array();
    static const char *const names[] = {"optimal", "feasible", "fallback", "infeasible", "unknown", "no reply"};
    for (int t = 0; t < episode->n_steps; t++) {
        json_array_append_new(latency, json_real(episode->step[t].latency_ms));
        json_array_append_new(status, json_string(names[episode->step[t].status]));
        json_array_append_new(objective, real_or_null(episode->step[t].objective));
        json_array_append_new(gap, real_or_null(episode->step[t].gap));
    }
    return json_pack("{s:f,s:f,s:o,s:o,s:o,s:o}", "final_error", episode->error, "cost", episode->cost, "latency_ms", latency, "status", status,
                     "objective", objective, "gap", gap);
}

static json_t *runs_json(const esp_push_demo *demo) {
    json_t *runs = json_array();
    for (int i = 0; i < demo->n_runs; i++) {
        const esp_push_run *r = &demo->run[i];
        json_t *episodes = json_array();
        for (int e = 0; e < r->n_episodes; e++) json_array_append_new(episodes, episode_json(&r->episode[e]));
        json_t *item = json_pack("{s:s,s:s,s:s,s:i,s:i,s:i,s:i,s:i,s:i,s:i,s:o}", "method", r->method, "model", demo->model[r->model].id, "task",
                                 r->task, "relu", demo->model[r->model].relu, "calls", r->calls, "optimal", r->optimal, "feasible", r->feasible,
                                 "fallback", r->fallback, "failed", r->failed, "late", r->late, "episodes", episodes);
        json_object_set_new(
            item, "plan_ms",
            json_pack("{s:o,s:o,s:o}", "p50", real_or_null(r->p50_ms), "p99", real_or_null(r->p99_ms), "box", real_or_null(r->max_ms)));
        json_object_set_new(item, "final_error",
                            json_pack("{s:o,s:o,s:o,s:o}", "mean", real_or_null(r->error_mean), "q25", real_or_null(r->error_quartile[0]), "median",
                                      real_or_null(r->error_quartile[1]), "q75", real_or_null(r->error_quartile[2])));
        json_object_set_new(item, "cost_mean", real_or_null(r->cost_mean));
        json_object_set_new(item, "success", real_or_null(r->success));
        json_object_set_new(item, "model_error", real_or_null(r->model_error));
        json_array_append_new(runs, item);
    }
    return runs;
}

static bool write_json(const esp_push_demo *demo, const char *path) {
    const esp_push_opts *o = demo->opts;
    json_t *all =
        json_pack("{s:s,s:s,s:{s:i,s:i,s:i,s:i,s:i,s:i,s:I,s:b},s:o,s:o}", "unit", "100 px", "dataset", demo->dataset, "settings", "transitions",
                  o->transitions, "epochs", o->epochs, "episodes", o->episodes, "steps", o->steps, "horizon", o->horizon, "deadline_ms",
                  o->deadline_ms, "seed", (json_int_t)o->seed, "quick", o->quick, "models", models_json(demo), "runs", runs_json(demo));
    bool good = all != NULL && json_dump_file(all, path, JSON_INDENT(1) | JSON_REAL_PRECISION(9)) == 0;
    json_decref(all);
    return good;
}

bool esp_push_write_report(const esp_push_demo *demo) {
    const esp_push_opts *o = demo->opts;
    char path[1024];
    snprintf(path, sizeof path, "%s/results.json", o->out);
    bool good = write_json(demo, path);
    snprintf(path, sizeof path, "%s/table.md", o->out);
    FILE *out = fopen(path, "w");
    if (out == NULL) return false;
    fprintf(out, "# Object pushing\n\n%d transitions, %d episodes of %d steps per planner, horizon %d, a new plan every step within %d ms.\n\n",
            o->transitions, o->episodes, o->steps, o->horizon, o->deadline_ms);
    esp_push_print_table(demo, out, true);
    fprintf(out, "\nCertificates: the largest difference of any output to the parent model over the data box, and the closed-form constants.\n\n");
    esp_push_print_certificates(demo, out, true);
    fprintf(out, "\n");
    esp_push_print_findings(demo, out);
    return fclose(out) == 0 && good;
}
